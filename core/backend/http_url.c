/* SPDX-License-Identifier: Apache-2.0 */
/* URLs and the secrets in them. */
#include "backend/http_private.h"
#include "backend/url.h"
#include "base/cleanup.h"

#include <errno.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static void cleanup_url(CURLU **u)
{
	curl_url_cleanup(*u);
}
static void cleanup_text(char **text)
{
	curl_free(*text);
}
#define HTTP_URL __attribute__((cleanup(cleanup_url)))
#define HTTP_TEXT __attribute__((cleanup(cleanup_text)))

void http_show_url(const char *url, char shown[HTTP_SHOWN_BYTES])
{
	hither_url_redact(url, shown, HTTP_SHOWN_BYTES);
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
	HTTP_TEXT char *x = NULL;
	HTTP_TEXT char *y = NULL;
	return !http_curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) &&
	       !http_curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) && strcasecmp(x, y) == 0;
}

bool http_same_origin(const char *a, const char *b)
{
	HTTP_URL CURLU *x = curl_url();
	HTTP_URL CURLU *y = curl_url();
	return x && y && !curl_url_set(x, CURLUPART_URL, a, 0) &&
	       !curl_url_set(y, CURLUPART_URL, b, 0) && same_part(x, y, CURLUPART_SCHEME) &&
	       same_part(x, y, CURLUPART_HOST) && same_part(x, y, CURLUPART_PORT);
}

static int no_memory(const struct http_backend *b, struct hither_error *err)
{
	return hither_fail(err, -ENOMEM, "http: no memory to open %s", b->shown);
}

/* Without a colon there is no password. 0 or -ENOMEM. */
static int split_user(struct http_backend *b, const char *user)
{
	const char *colon = strchrnul(user, ':');
	b->user = strndup(user, (size_t)(colon - user));
	b->password = strdup(*colon ? colon + 1 : "");
	return b->user && b->password ? 0 : -ENOMEM;
}

static int user_of_url(struct http_backend *b, CURLU *u)
{
	HTTP_TEXT char *user = NULL;
	HTTP_TEXT char *password = NULL;
	if (http_curl_url_get(u, CURLUPART_USER, &user, CURLU_URLDECODE))
		return 0;
	http_curl_url_get(u, CURLUPART_PASSWORD, &password, CURLU_URLDECODE);
	b->user = strdup(user);
	b->password = strdup(password ? password : "");
	return b->user && b->password ? 0 : -ENOMEM;
}

int http_url_split(struct http_backend *b, const char *url, const char *user,
                   struct hither_error *err)
{
	HTTP_URL CURLU *u = curl_url();
	HTTP_TEXT char *clean = NULL;
	if (!u)
		return no_memory(b, err);
	CURLUcode code = curl_url_set(u, CURLUPART_URL, url, CURLU_ALLOW_SPACE | CURLU_URLENCODE);
	if (code)
		return hither_fail(err, -EINVAL, "http: %s is not a URL: %s", b->shown,
		                   curl_url_strerror(code));
	if (user ? split_user(b, user) : user_of_url(b, u))
		return no_memory(b, err);
	curl_url_set(u, CURLUPART_USER, NULL, 0);
	curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	if (http_curl_url_get(u, CURLUPART_URL, &clean, CURLU_URLENCODE) ||
	    !(b->url = strdup(clean)))
		return no_memory(b, err);
	return 0;
}

/* --- ~/.netrc --- */

static pthread_once_t home_once = PTHREAD_ONCE_INIT;
static char *users_home; /* in the table of users; NULL: none, or no memory */

static void look_up_home(void)
{
	struct passwd entry, *found = NULL;
	char text[4096];
	if (!getpwuid_r(geteuid(), &entry, text, sizeof text, &found) && found)
		users_home = strdup(found->pw_dir);
}

int http_netrc_find(struct http_backend *b, struct hither_error *err)
{
	const char *home = getenv("HOME");
	if (!home) {
		pthread_once(&home_once, look_up_home);
		home = users_home;
	}
	char *path;
	if (!home)
		return 0;
	if (asprintf(&path, "%s/.netrc", home) < 0)
		return no_memory(b, err);
	if (access(path, R_OK) == 0)
		b->netrc = path;
	else
		free(path);
	return 0;
}
