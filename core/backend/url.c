/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/url.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

size_t hither_url_scheme(const char *url)
{
	size_t n = 0;
	for (; url[n] && url[n] != ':'; n++) {
		char c = url[n];
		bool letter = c >= 'a' && c <= 'z';
		bool later = (c >= '0' && c <= '9') || c == '+' || c == '.' || c == '-';
		if (!letter && !(n > 0 && later))
			return 0;
	}
	return url[n] == ':' ? n : 0;
}

/* --- redaction --- */

struct text { /* a string being built, cut where it does not fit */
	char *out;
	size_t size;
	size_t used;
};

static void append(struct text *t, const char *s, size_t len)
{
	if (t->size == 0)
		return;
	size_t room = t->size - 1 - t->used;
	if (len > room)
		len = room;
	memcpy(t->out + t->used, s, len);
	t->used += len;
	t->out[t->used] = 0;
}

static bool contains(const char *name, size_t len, const char *word)
{
	size_t n = strlen(word);
	for (size_t i = 0; i + n <= len; i++)
		if (strncasecmp(name + i, word, n) == 0)
			return true;
	return false;
}

static bool is_secret(const char *name, size_t len)
{
	/* Anywhere in the name, so that X-Amz-Signature, X-Amz-Security-Token and access_token
	 * count. */
	static const char *const words[] = {"token",   "signature", "password",
	                                    "passwd",  "secret",    "apikey",
	                                    "api_key", "api-key",   "credential"};
	static const char *const whole[] = {"sig", "key", "auth", "pass", "pwd", "authorization"};
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (contains(name, len, words[i]))
			return true;
	for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
		if (strlen(whole[i]) == len && strncasecmp(name, whole[i], len) == 0)
			return true;
	return false;
}

/* "?a=b&sig=c": name by name. A fragment may carry tokens in the same form. */
static void append_query(struct text *t, const char *query)
{
	while (*query) {
		append(t, query, 1); /* ? & ; or # */
		query++;
		size_t len = strcspn(query, "&;#");
		const char *equals = memchr(query, '=', len);
		if (equals && is_secret(query, (size_t)(equals - query))) {
			append(t, query, (size_t)(equals + 1 - query));
			append(t, "***", 3);
		} else {
			append(t, query, len);
		}
		query += len;
	}
}

/* The '@' that ends "user:password", NULL if there is none. A host may have '@' nowhere, so the
 * last counts. */
static const char *find_at(const char *authority)
{
	size_t len = strcspn(authority, "/?#");
	const char *at = memrchr(authority, '@', len);
	if (at)
		return at;
	/* A password with an unescaped '/' or '?' reaches beyond. Better to hide too much than a
	 * part too little. */
	size_t bracket = *authority == '[' ? strcspn(authority, "]/?#") : 0;
	const char *colon = memchr(authority + bracket, ':', len - bracket);
	if (!colon || colon + 1 + strspn(colon + 1, "0123456789") == authority + len)
		return NULL; /* just a host, or one with a port */
	return strchr(authority + len, '@');
}

void hither_url_redact(const char *url, char *out, size_t size)
{
	struct text t = {out, size, 0};
	append(&t, "", 0);
	/* A scheme in capitals is none of ours, but what follows it may be a password all the same.
	 */
	size_t scheme = strcspn(url, ":/");
	bool has_authority = scheme > 0 && strncmp(url + scheme, "://", 3) == 0;
	if (!has_authority && !hither_url_scheme(url)) {
		append(&t, url, strlen(url)); /* a bare path */
		return;
	}
	const char *rest = url + scheme + (has_authority ? 3 : 1);
	append(&t, url, (size_t)(rest - url));
	const char *at = has_authority ? find_at(rest) : NULL;
	const char *colon = at ? memchr(rest, ':', (size_t)(at - rest)) : NULL;
	if (colon) {
		append(&t, rest, (size_t)(colon + 1 - rest));
		append(&t, "***", 3);
		rest = at;
	}
	size_t path = strcspn(rest, "?#");
	append(&t, rest, path);
	append_query(&t, rest + path);
}

/* --- parts --- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A decoded 0 would end the string early, and so name something else. */
static int decode(const char *s, size_t len, char *out, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];
		if (c == '%') {
			int high = i + 2 < len ? hex(s[i + 1]) : -1;
			int low = i + 2 < len ? hex(s[i + 2]) : -1;
			if (high < 0 || low < 0 || (high == 0 && low == 0))
				return -EINVAL;
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (n + 1 >= size)
			return -ENAMETOOLONG;
		out[n++] = c;
	}
	out[n] = 0;
	return 0;
}

int hither_url_path(const char *url, bool query, char *out, size_t size)
{
	size_t scheme = hither_url_scheme(url);
	if (!scheme) {
		size_t len = strlen(url);
		if (len == 0)
			return -EINVAL;
		if (len >= size)
			return -ENAMETOOLONG;
		memcpy(out, url, len + 1);
		return 0;
	}
	const char *path = url + scheme + 1;
	if (strncmp(path, "//", 2) == 0) {
		path += 2;
		if (strncmp(path, "localhost/", 10) == 0)
			path += 9;
		if (*path != '/')
			return -EINVAL;
	}
	size_t len = query ? strcspn(path, "?") : strlen(path);
	return len ? decode(path, len, out, size) : -EINVAL;
}

int hither_url_option(const char *url, const char *name, char *out, size_t size)
{
	size_t name_len = strlen(name);
	const char *p = strchr(url, '?');
	while (p) {
		p++;
		size_t len = strcspn(p, "&");
		if (len > name_len && p[name_len] == '=' && strncmp(p, name, name_len) == 0)
			return decode(p + name_len + 1, len - name_len - 1, out, size);
		p = p[len] ? p + len : NULL;
	}
	return -ENOENT;
}

int hither_parse_bytes(const char *text, uint64_t *out)
{
	uint64_t value = 0;
	const char *p = text;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (value > (UINT64_MAX - 9) / 10)
			return -ERANGE;
		value = value * 10 + (uint64_t)(*p - '0');
	}
	if (p == text)
		return -EINVAL;
	static const char suffixes[] = "kmgt";
	const char *suffix = *p ? strchr(suffixes, *p | 0x20) : NULL;
	if (*p && (!suffix || !*suffix || p[1]))
		return -EINVAL;
	unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;
	if (value > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	*out = value << shift;
	return 0;
}
