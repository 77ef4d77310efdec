/* SPDX-License-Identifier: Apache-2.0 */
#include "url.h"

#include "util.h"

#include <ctype.h>
#include <hither/url.h>
#include <stdio.h>
#include <string.h>

/* With its colon; 0: none, so it is a path. */
static size_t scheme_len(const char *url)
{
	size_t len = hither_url_scheme(url);
	return len ? len + 1 : 0;
}

static int hex(char c)
{
	return isdigit((unsigned char)c)    ? c - '0'
	       : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
	                                    : -1;
}

/* In place. What would be a slash or the end of the string becomes '_'. */
static void decode_name(char *name)
{
	char *to = name;
	for (const char *from = name; *from; from++) {
		char c = *from;
		if (c == '%' && hex(from[1]) >= 0 && hex(from[2]) >= 0) {
			c = (char)(hex(from[1]) * 16 + hex(from[2]));
			from += 2;
		}
		*to++ = c == '/' || !c ? '_' : c;
	}
	*to = 0;
}

char *url_file_name(const char *url)
{
	size_t scheme = scheme_len(url);
	const char *start = url + scheme;
	/* A plain path may hold '?' and '#' like any other character. */
	const char *end = start + (scheme ? strcspn(start, "?#") : strlen(start));
	const char *host = NULL;
	if (!strncmp(start, "//", 2) && scheme) {
		host = start + 2;
		start = host + strcspn(host, "/?#");
	}
	while (end > start && end[-1] == '/')
		end--;
	const char *last = end;
	while (last > start && last[-1] != '/')
		last--;
	if (last == end && host) {
		const char *at = memchr(host, '@', (size_t)(start - host));
		last = at ? at + 1 : host;
		bool v6 = *last == '['; /* RFC 3986, 3.2.2 */
		last += v6;
		end = last + strcspn(last, v6 ? "]/?#" : ":/?#");
	}
	if (last == end && scheme) {
		last = url;
		end = url + scheme - 1;
	}
	char *name = strndup(last, (size_t)(end - last));
	if (!name)
		return NULL;
	if (scheme)
		decode_name(name);
	if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) {
		free(name);
		return strdup("hither");
	}
	return name;
}

char *url_redact(const char *url)
{
	size_t size = strlen(url) * 3 + 8; /* a hidden value may be shorter than its stars */
	char *out = malloc(size);
	if (out)
		hither_url_redact(url, out, size);
	return out;
}

char *path_absolute(const char *path)
{
	AUTO_FREE char *here = NULL;
	char *out;
	if (*path == '/')
		return strdup(path);
	here = getcwd(NULL, 0);
	if (!here)
		return strdup(path);
	while (!strncmp(path, "./", 2))
		path += 2;
	return asprintf(&out, "%s/%s", here[1] ? here : "", path) < 0 ? NULL : out;
}

/* A path inside a URL, where these (such as '%', which begins an escape) mean something. */
static char *escape(const char *path, const char *which)
{
	char *out = malloc(strlen(path) * 3 + 1), *to = out;
	if (!out)
		return NULL;
	for (; *path; path++)
		if (strchr(which, *path))
			to += sprintf(to, "%%%02X", (unsigned char)*path);
		else
			*to++ = *path;
	*to = 0;
	return out;
}

/* HTTP://host is http://host (RFC 3986, 3.1). */
static char *lower_scheme(const char *url)
{
	char *out = strdup(url);
	for (char *p = out; p && isalnum((unsigned char)*p); p++)
		if (!strncmp(p + 1, "://", 3))
			for (char *q = out; q <= p; q++)
				*q = (char)tolower((unsigned char)*q);
	return out;
}

/* "nbd+unix:///NAME?socket=PATH": where its PATH begins, if that is relative. */
static size_t relative_socket(const char *url)
{
	static const char mark[] = "socket=";
	if (strncmp(url, "nbd+unix:", 9) && strncmp(url, "nbds+unix:", 10))
		return 0;
	for (const char *at = url; (at = strpbrk(at, "?&"));)
		if (!strncmp(++at, mark, sizeof mark - 1)) {
			at += sizeof mark - 1;
			return *at && *at != '/' && strncasecmp(at, "%2f", 3) ? (size_t)(at - url)
			                                                      : 0;
		}
	return 0;
}

char *url_absolute(const char *given)
{
	AUTO_FREE char *url = lower_scheme(given);
	size_t scheme = url ? scheme_len(url) : 0;
	char *out;
	if (!url)
		return NULL;
	if (!scheme)
		return path_absolute(url);
	size_t socket = relative_socket(url), rest = socket ? socket : scheme;
	bool local = socket || !strncmp(url, "file:", scheme) ||
	             !strncmp(url, "directory:", scheme) || !strncmp(url, "tape:", scheme);
	if (!local || url[rest] == '/')
		return strdup(url);
	AUTO_FREE char *here = path_absolute("");
	AUTO_FREE char *escaped = here ? escape(here, socket ? "%&;#+" : "%") : NULL;
	size_t dots = 0;
	while (socket && !strncmp(url + rest + dots, "./", 2))
		dots += 2;
	if (!escaped || asprintf(&out, "%.*s%s%s", (int)rest, url, escaped, url + rest + dots) < 0)
		return NULL;
	return out;
}

char *path_named(const char *path)
{
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		len--;
	AUTO_FREE char *plain = strndup(path, len);
	const char *slash = plain ? strrchr(plain, '/') : NULL, *last = slash ? slash + 1 : plain;
	if (!last || (strcmp(last, ".") && strcmp(last, "..")))
		return TAKE(plain, NULL);
	return realpath(plain, NULL);
}
