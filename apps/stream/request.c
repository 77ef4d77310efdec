/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Is this "NAME" or "NAME:PORT" a name that only this machine has for us? */
static bool is_us(const char *host, uint16_t port)
{
	static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
	char want[8];
	snprintf(want, sizeof want, ":%u", port);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t len = strlen(names[i]);
		if (strncasecmp(host, names[i], len))
			continue;
		return !strcmp(host + len, want) || (!host[len] && port == 80);
	}
	return false;
}

/* "http://us/path" is "/path" (RFC 9112, 3.2.2). NULL: it names another. */
static const char *path_of(const char *target, uint16_t port)
{
	char name[32];
	if (strncasecmp(target, "http://", 7))
		return target;
	target += 7;
	size_t len = strcspn(target, "/");
	if (len >= sizeof name)
		return NULL;
	memcpy(name, target, len);
	name[len] = 0;
	return !is_us(name, port) ? NULL : target[len] ? target + len : "/";
}

/* Browsers say which page a request is from; other programs say nothing. */
static bool is_foreign(const struct request *r, uint16_t port)
{
	if (r->origin && (strncmp(r->origin, "http://", 7) || !is_us(r->origin + 7, port)))
		return true;
	return r->site && strcmp(r->site, "same-origin") && strcmp(r->site, "none");
}

static enum request_what route(const char *path)
{
	if (!strcmp(path, "/"))
		return REQUEST_PAGE;
	if (!strcmp(path, "/status"))
		return REQUEST_STATUS;
	return !strcmp(path, "/media") || !strncmp(path, "/media/", 7) ? REQUEST_MEDIA
	                                                               : REQUEST_NOTHING;
}

/* A number, or UINT64_MAX where it is too large for one. False: there is none. */
static bool take_number(const char **at, uint64_t *out)
{
	const char *p = *at;
	*out = 0;
	for (; isdigit((unsigned char)*p); p++) {
		unsigned digit = (unsigned)(*p - '0');
		*out = *out > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *out * 10 + digit;
	}
	bool any = p != *at;
	*at = p;
	return any;
}

enum range { RANGE_IGNORED, RANGE_GOOD, RANGE_BAD };

/*
 * RFC 9110, 14.1.2 and 14.2: a header that is none is ignored. A list of ranges is refused: players
 * send none, and its answer (multipart) costs more than it serves.
 */
static enum range parse_range(const char *text, uint64_t size, uint64_t *first, uint64_t *len)
{
	uint64_t a, b = UINT64_MAX;
	if (strncasecmp(text, "bytes=", 6))
		return RANGE_IGNORED;
	text += 6;
	text += strspn(text, " \t");
	bool has_first = take_number(&text, &a);
	if (*text++ != '-')
		return RANGE_IGNORED;
	bool has_last = take_number(&text, &b);
	text += strspn(text, " \t");
	if (*text == ',' && (has_first || has_last))
		return RANGE_BAD;
	if (*text || (!has_first && !has_last) || (has_first && has_last && b < a))
		return RANGE_IGNORED;
	if (!has_first) { /* the last b bytes */
		*len = b < size ? b : size;
		*first = size - *len;
		return *len ? RANGE_GOOD : RANGE_BAD;
	}
	if (a >= size)
		return RANGE_BAD;
	*first = a;
	*len = !has_last || b >= size ? size - a : b - a + 1;
	return RANGE_GOOD;
}

static void judge_media(const struct request *r, uint64_t size, const char *etag,
                        struct answer *out)
{
	out->len = size;
	if (!r->range || (r->if_range && strcmp(r->if_range, etag)))
		return;
	switch (parse_range(r->range, size, &out->first, &out->len)) {
	case RANGE_GOOD:
		out->status = 206;
		break;
	case RANGE_BAD:
		*out = (struct answer){.status = 416};
		break;
	case RANGE_IGNORED:
		break;
	}
}

void request_judge(const struct request *r, uint16_t port, uint64_t size_bytes, const char *etag,
                   struct answer *out)
{
	const char *path = path_of(r->path, port);
	*out = (struct answer){0};
	if (r->host_count != 1 || !r->host)
		out->status = 400;
	else if (!path || !is_us(r->host, port) || is_foreign(r, port))
		out->status = 403;
	else if (strcmp(r->method, "GET") && strcmp(r->method, "HEAD"))
		out->status = 405;
	else if (route(path) == REQUEST_NOTHING)
		out->status = 404;
	if (out->status)
		return;
	*out = (struct answer){.status = 200, .what = route(path)};
	if (out->what == REQUEST_MEDIA)
		judge_media(r, size_bytes, etag, out);
}

bool request_seconds(const char *text, uint64_t *us)
{
	uint64_t whole, unit = 100000;
	if (!take_number(&text, &whole) || whole > 366 * 86400)
		return false;
	*us = whole * 1000000;
	if (*text == '.')
		for (text++; isdigit((unsigned char)*text); text++, unit /= 10)
			*us += (uint64_t)(*text - '0') * unit;
	return !*text;
}
