/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an HTTP server answers. Input: a line that says what was asked ("open", "last", "known" or
 * "range"), then the answer's lines as they come from the network; or "parts", and a body with
 * several ranges.
 */
#include "backend/http_answer.h"
#include "check.h"
#include "fuzz.h"

#include <string.h>

static struct hither_http_question question(const uint8_t *data, size_t size)
{
	struct hither_http_question q = {.url = "http://host/x",
	                                 .opening = true,
	                                 .len = HITHER_HTTP_FIRST_BYTES,
	                                 .now = 1000000000};
	char kind = size ? (char)data[0] : 0;
	q.last = kind == 'l';
	if (kind == 'o' || kind == 'l')
		return q;
	q.version = (struct hither_http_version){.etag = "\"v\"", .modified = "then"};
	q.conditional = kind == 'k';
	if (kind == 'k')
		return q;
	q.opening = false;
	q.offset = 1000;
	q.len = 100;
	q.size_bytes = 5000;
	return q;
}

static void read_lines(struct hither_http_answer *a, const char *text, size_t size)
{
	while (size && !a->ended) {
		const char *end = memchr(text, '\n', size);
		size_t len = end ? (size_t)(end - text) + 1 : size;
		hither_http_answer_line(a, text, len);
		text += len;
		size -= len;
	}
	hither_http_answer_line(a, "\r\n", 2);
}

/* May be a header's value. */
static void check_clean(const char *text, size_t size)
{
	CHECK(memchr(text, 0, size));
	for (; *text; text++)
		CHECK((unsigned char)*text >= ' ' && *text != 0x7f);
}

static void check_version(const struct hither_http_version *v)
{
	struct hither_http_version back;
	char text[256], again[256];
	check_clean(v->etag, sizeof v->etag);
	check_clean(v->modified, sizeof v->modified);
	hither_http_version_print(v, text, sizeof text);
	hither_http_version_parse(&back, text);
	hither_http_version_print(&back, again, sizeof again);
	CHECK(strcmp(text, again) == 0);
}

static void check_range(const struct hither_http_answer *a, const struct hither_http_question *q)
{
	CHECK_EQ(a->status, 206);
	CHECK(q->last ? a->last == a->total - 1 : a->first == q->offset);
	CHECK(a->last >= a->first && a->last - a->first < q->len);
	CHECK(!a->encoding[0] && !a->multipart);
	if (q->last)
		CHECK(a->has_total &&
		      a->last - a->first + 1 == (a->total < q->len ? a->total : q->len));
	else if (q->opening)
		CHECK(a->has_total && a->last == (a->total < q->len ? a->total : q->len) - 1);
	else
		CHECK_EQ(a->last, q->offset + q->len - 1);
	if (!q->opening && a->has_total)
		CHECK_EQ(a->total, q->size_bytes);
	if (!q->opening && a->version.etag[0])
		CHECK(strcmp(a->version.etag, q->version.etag) == 0);
}

static const struct hither_range parts[] = {{1000, 10}, {2000, 5}, {100, 40}};

struct taken {
	uint64_t bytes, sure;
};

static int take(void *user, const char *bytes, size_t len)
{
	struct taken *t = user;
	CHECK(bytes && len > 0);
	t->bytes += len;
	return 0;
}

static void part_ended(void *user)
{
	struct taken *t = user;
	CHECK(t->bytes > t->sure);
	t->sure = t->bytes;
}

/* A body with several ranges: whatever it is, no more is taken than was asked for, and in pieces it
 * means the same as in one. */
static void check_parts(const char *body, size_t size)
{
	struct hither_http_question q = {
	        .url = "http://host/x", .ranges = parts, .count = 3, .size_bytes = 5000};
	int first = 0;
	uint64_t first_bytes = 0, first_sure = 0;
	for (size_t step = 1; step < 200; step += 66) {
		struct taken t = {0};
		struct hither_error err = {0};
		struct hither_http_parts p = {.question = &q,
		                              .boundary = "B",
		                              .take = take,
		                              .part_ended = part_ended,
		                              .user = &t};
		int r = 0;
		for (size_t at = 0; !r && at < size; at += step)
			r = hither_http_parts_feed(&p, body + at,
			                           size - at < step ? size - at : step, &err);
		CHECK(t.bytes <= 55 && r <= 0 && err.code == r);
		CHECK(step == 1 || (r == first && t.bytes == first_bytes && t.sure == first_sure));
		first = r;
		first_bytes = t.bytes;
		first_sure = t.sure;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hither_error err = {0};
	struct hither_http_answer a = {0};
	struct hither_http_question q = question(data, size);
	if (size && data[0] == 'p') {
		const char *body = memchr(data, '\n', size);
		if (body)
			check_parts(body + 1, size - (size_t)(body + 1 - (const char *)data));
		return 0;
	}
	const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
	if (line)
		read_lines(&a, (const char *)line + 1, size - (size_t)(line + 1 - data));
	else
		read_lines(&a, "", 0);
	CHECK(a.ended);
	check_version(&a.version);
	check_clean(a.encoding, sizeof a.encoding);
	int r = hither_http_judge(&a, &q, &err);
	CHECK_EQ(err.code, r < 0 ? r : 0);
	CHECK(memchr(err.message, 0, sizeof err.message));
	CHECK(err.retry_after_ms >= 0 && err.retry_after_ms <= 86400000);
	if (r == HITHER_HTTP_RANGE)
		check_range(&a, &q);
	if (r == HITHER_HTTP_WHOLE && a.has_length)
		CHECK(a.status == 200 && a.length <= HITHER_HTTP_WHOLE_BYTES);
	if (r == HITHER_HTTP_UNCHANGED || r == HITHER_HTTP_RENEW)
		CHECK(q.conditional && a.status == 304);
	return 0;
}
