/* SPDX-License-Identifier: Apache-2.0 */
/* Reading HTTP header lines into struct hither_http_answer. */
#include "backend/http_answer.h"

#include <string.h>
#include <strings.h>
#include <time.h>

struct text {
	const char *at;
	size_t len;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct text trimmed(struct text t)
{
	while (t.len && is_space(t.at[0]))
		t.at++, t.len--;
	while (t.len && is_space(t.at[t.len - 1]))
		t.len--;
	return t;
}

static bool equal(struct text t, const char *word)
{
	return t.len == strlen(word) && strncasecmp(t.at, word, t.len) == 0;
}

static bool skip(struct text *t, const char *word)
{
	size_t len = strlen(word);
	if (t->len < len || strncasecmp(t->at, word, len) != 0)
		return false;
	t->at += len;
	t->len -= len;
	return true;
}

/* At least one digit, no overflow. */
static bool number(struct text *t, uint64_t *out)
{
	uint64_t n = 0;
	size_t digits = 0;
	for (; t->len && *t->at >= '0' && *t->at <= '9'; t->at++, t->len--, digits++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*t->at - '0'), &n))
			return false;
	*out = n;
	return digits > 0;
}

/* Exactly `digits` digits, at most 9. */
static bool fixed_number(struct text *t, size_t digits, int *out)
{
	uint64_t n;
	struct text part = {t->at, digits};
	if (t->len < digits || !number(&part, &n) || part.len)
		return false;
	t->at += digits;
	t->len -= digits;
	*out = (int)n;
	return true;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", the one format that RFC 9110 lets servers send. 0: not that. */
static int64_t date(struct text t)
{
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	struct tm tm = {0};
	if (t.len != 29)
		return 0;
	t.at += 5;
	t.len -= 5;
	if (!fixed_number(&t, 2, &tm.tm_mday) || !skip(&t, " "))
		return 0;
	while (tm.tm_mon < 12 && !skip(&t, months[tm.tm_mon]))
		tm.tm_mon++;
	if (tm.tm_mon == 12 || !skip(&t, " ") || !fixed_number(&t, 4, &tm.tm_year) ||
	    !skip(&t, " ") || !fixed_number(&t, 2, &tm.tm_hour) || !skip(&t, ":") ||
	    !fixed_number(&t, 2, &tm.tm_min) || !skip(&t, ":") ||
	    !fixed_number(&t, 2, &tm.tm_sec) || !equal(t, " GMT"))
		return 0;
	tm.tm_year -= 1900;
	int64_t seconds = timegm(&tm);
	return seconds > 0 ? seconds : 0;
}

int64_t hither_http_date(const char *text)
{
	return date((struct text){text, strlen(text)});
}

/* Text that is kept to be compared, shown and sent back: no control characters, and not cut short.
 */
static void keep(char *out, size_t size, struct text t)
{
	out[0] = 0;
	if (t.len >= size)
		return;
	for (size_t i = 0; i < t.len; i++)
		if ((unsigned char)t.at[i] < ' ' || t.at[i] == 0x7f)
			return;
	memcpy(out, t.at, t.len);
	out[t.len] = 0;
}

static void content_length(struct hither_http_answer *a, struct text t)
{
	a->has_length = number(&t, &a->length) && !t.len;
}

/* "bytes first-last/total", total or "*"; "bytes *" "/total" with status 416. */
static bool content_range(struct hither_http_answer *a, struct text t)
{
	if (!skip(&t, "bytes") || !t.len || !is_space(*t.at))
		return false;
	t = trimmed(t);
	if (!skip(&t, "*")) {
		if (!number(&t, &a->first) || !skip(&t, "-") || !number(&t, &a->last))
			return false;
		a->has_range = true;
	}
	if (!skip(&t, "/"))
		return false;
	if (a->has_range && equal(t, "*"))
		return a->first <= a->last;
	a->has_total = number(&t, &a->total);
	return a->has_total && !t.len &&
	       (!a->has_range || (a->first <= a->last && a->last < a->total));
}

static void content_range_once(struct hither_http_answer *a, struct text t)
{
	struct hither_http_answer once = {0};
	bool good = content_range(&once, t);
	bool again = a->has_range || a->has_total || a->bad_range;
	if (!good ||
	    (again && (a->has_range != once.has_range || a->has_total != once.has_total ||
	               a->first != once.first || a->last != once.last || a->total != once.total)))
		a->bad_range = true;
	a->has_range = once.has_range;
	a->has_total = once.has_total;
	a->first = once.first;
	a->last = once.last;
	a->total = once.total;
}

static void content_encoding(struct hither_http_answer *a, struct text t)
{
	if (!t.len || equal(t, "identity"))
		return;
	keep(a->encoding, sizeof a->encoding, t);
	if (!a->encoding[0]) /* too long or unprintable, but an encoding all the same */
		keep(a->encoding, sizeof a->encoding, (struct text){"unknown", 7});
}

static void retry_after(struct hither_http_answer *a, struct text t)
{
	uint64_t seconds;
	a->retry_at = date(t);
	if (!a->retry_at && number(&t, &seconds) && !t.len)
		a->retry_s = seconds < 86400 ? (int64_t)seconds : 86400;
}

/* multipart/byteranges; boundary=TEXT, or "TEXT" */
static void content_type(struct hither_http_answer *a, struct text t)
{
	a->multipart = skip(&t, "multipart/byteranges");
	a->boundary[0] = 0;
	for (; a->multipart && t.len; t.at++, t.len--) {
		if (*t.at != ';')
			continue;
		struct text value = trimmed((struct text){t.at + 1, t.len - 1});
		if (!skip(&value, "boundary="))
			continue;
		const char *end = memchr(value.at, ';', value.len);
		if (value.len && *value.at == '"') {
			value.at++, value.len--;
			end = memchr(value.at, '"', value.len);
		}
		if (end)
			value.len = (size_t)(end - value.at);
		keep(a->boundary, sizeof a->boundary, trimmed(value));
		return;
	}
}

static void field(struct hither_http_answer *a, struct text name, struct text value)
{
	if (equal(name, "content-length"))
		content_length(a, value);
	else if (equal(name, "content-range"))
		content_range_once(a, value);
	else if (equal(name, "transfer-encoding"))
		a->chunked = equal(value, "chunked");
	else if (equal(name, "content-type"))
		content_type(a, value);
	else if (equal(name, "content-encoding"))
		content_encoding(a, value);
	else if (equal(name, "etag"))
		keep(a->version.etag, sizeof a->version.etag, value);
	else if (equal(name, "last-modified"))
		keep(a->version.modified, sizeof a->version.modified, value);
	else if (equal(name, "date"))
		a->date = date(value);
	else if (equal(name, "retry-after"))
		retry_after(a, value);
}

/* "HTTP/1.1 206 Partial Content"; HTTP/2 and 3 frame their bodies, so that a cut one shows. */
static bool status_line(struct hither_http_answer *a, struct text t)
{
	int status;
	if (!skip(&t, "HTTP/"))
		return false;
	bool framed = t.len && t.at[0] >= '2';
	while (t.len && !is_space(*t.at))
		t.at++, t.len--;
	t = trimmed(t);
	if (!fixed_number(&t, 3, &status))
		status = 0;
	*a = (struct hither_http_answer){.status = status, .chunked = framed};
	return true;
}

void hither_http_answer_line(struct hither_http_answer *a, const char *line, size_t len)
{
	struct text t = trimmed((struct text){line, len});
	if (status_line(a, t) || a->ended)
		return;
	const char *colon = t.len ? memchr(t.at, ':', t.len) : NULL;
	if (!t.len)
		a->ended = true;
	else if (colon)
		field(a, trimmed((struct text){t.at, (size_t)(colon - t.at)}),
		      trimmed((struct text){colon + 1, (size_t)(t.at + t.len - colon - 1)}));
}
