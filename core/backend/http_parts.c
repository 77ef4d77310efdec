/* SPDX-License-Identifier: Apache-2.0 */
/* Several ranges in one answer: lines between bodies whose lengths their Content-Range tells. */
#include "backend/http_answer.h"

#include <errno.h>
#include <string.h>

enum { MOST_LINES = 64 }; /* before a part, its own included */

static int no_parts(const struct hither_http_parts *p, int code, struct hither_error *err)
{
	return hither_fail(
	        err, code,
	        code == -EPROTO ? "http: %s: the server's answer with several ranges makes no sense"
	                        : "http: %s: the server sent other ranges than were asked for",
	        p->question->url);
}

/* A line that ends a part or begins one: "--BOUNDARY", "--BOUNDARY--". */
static bool is_boundary(const struct hither_http_parts *p, size_t len)
{
	size_t n = strlen(p->boundary);
	return len >= n + 2 && !memcmp(p->line, "--", 2) && !memcmp(p->line + 2, p->boundary, n);
}

static bool is_last(const struct hither_http_parts *p, size_t len)
{
	size_t n = strlen(p->boundary) + 2;
	return len >= n + 2 && !memcmp(p->line + n, "--", 2);
}

/* The part's headers are over: it must be the range that comes next. */
static int begin_body(struct hither_http_parts *p, struct hither_error *err)
{
	const struct hither_range *r = &p->question->ranges[p->at];
	const struct hither_http_answer *part = &p->part;
	if (!part->has_range || part->bad_range)
		return no_parts(p, -EPROTO, err);
	if (part->has_total && part->total != p->question->size_bytes)
		return hither_fail(
		        err, -ESTALE,
		        "http: %s has changed since it was opened: it has another size now; "
		        "open it again",
		        p->question->url);
	if (part->first != r->offset || part->last != r->offset + r->len - 1)
		return no_parts(p, -EOPNOTSUPP, err);
	p->headers = false;
	p->left = r->len;
	p->lines = 0;
	return 0;
}

/* p->line has len bytes, without its end. */
static int take_line(struct hither_http_parts *p, size_t len, struct hither_error *err)
{
	static const char begin[] = "HTTP/1.1 206 part";
	if (++p->lines > MOST_LINES)
		return no_parts(p, -EPROTO, err);
	if (p->headers) {
		if (len)
			hither_http_answer_line(&p->part, p->line, len);
		return len ? 0 : begin_body(p, err);
	}
	if (!is_boundary(p, len))
		return 0; /* what comes before the first part */
	if (is_last(p, len))
		return no_parts(p, -EOPNOTSUPP, err);
	hither_http_answer_line(&p->part, begin, sizeof begin - 1);
	p->headers = true;
	return 0;
}

/* A piece that may end a line; *used: bytes of it. */
static int feed_line(struct hither_http_parts *p, const char *data, size_t len, size_t *used,
                     struct hither_error *err)
{
	const char *end = memchr(data, '\n', len);
	size_t n = end ? (size_t)(end - data) : len;
	*used = end ? n + 1 : n;
	if (n > sizeof p->line - p->line_len)
		return no_parts(p, -EPROTO, err);
	memcpy(p->line + p->line_len, data, n);
	p->line_len += n;
	if (!end)
		return 0;
	len = p->line_len;
	p->line_len = 0;
	return take_line(p, len && p->line[len - 1] == '\r' ? len - 1 : len, err);
}

/*
 * Exactly "\r\n--BOUNDARY" follows a part. A part that is shorter than it says has eaten of that,
 * one that is longer goes on. The line is taken up by feed_line(); the last may have no end.
 */
static int feed_end(struct hither_http_parts *p, const char *data, size_t len, size_t *used,
                    struct hither_error *err)
{
	static const char begin[] = {'\r', '\n', '-', '-'};
	size_t n = strlen(p->boundary), all = sizeof begin + n;
	for (*used = 0; *used < len && p->ended < all; ++*used, ++p->ended)
		if (data[*used] != (p->ended < sizeof begin ? begin[p->ended]
		                                            : p->boundary[p->ended - sizeof begin]))
			return no_parts(p, -EPROTO, err);
	if (p->ended < all)
		return 0;
	memcpy(p->line, "--", 2);
	memcpy(p->line + 2, p->boundary, n);
	p->line_len = n + 2;
	p->ending = false;
	p->ended = 0;
	p->at++;
	p->part_ended(p->user);
	return 0;
}

int hither_http_parts_feed(struct hither_http_parts *p, const char *data, size_t len,
                           struct hither_error *err)
{
	int r = 0;
	while (!r && len > 0 && p->at < p->question->count) {
		size_t n;
		if (p->left) {
			n = len < p->left ? len : (size_t)p->left;
			p->left -= n;
			p->ending = !p->left;
			r = p->take(p->user, data, n);
		} else if (p->ending) {
			r = feed_end(p, data, len, &n, err);
		} else {
			r = feed_line(p, data, len, &n, err);
		}
		data += n;
		len -= n;
	}
	return r;
}
