/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies with several ranges, in pieces of every size; no network. */
#include "backend/http_answer.h"
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct hither_range three[] = {{10, 5}, {100, 3}, {40, 1}};

struct got {
	char bytes[64];
	size_t len;
	int refuse; /* at the second byte */
};

static int take(void *user, const char *bytes, size_t len)
{
	struct got *g = user;
	CHECK(g->len + len <= sizeof g->bytes);
	memcpy(g->bytes + g->len, bytes, len);
	g->len += len;
	return g->len > 1 ? g->refuse : 0;
}

/* Fed `step` bytes at a time. */
static int feed(const char *body, size_t step, struct got *g)
{
	struct hither_http_question q = {
	        .url = "http://host/x", .ranges = three, .count = 3, .size_bytes = 5000};
	struct hither_http_parts p = {
	        .question = &q, .boundary = "frontier", .take = take, .user = g};
	struct hither_error err = {0};
	size_t len = strlen(body);
	int r = 0;
	g->len = 0;
	for (size_t at = 0; !r && at < len; at += step)
		r = hither_http_parts_feed(&p, body + at, len - at < step ? len - at : step, &err);
	if (r < 0 && r != g->refuse)
		CHECK(err.code == r && strstr(err.message, "http://host/x"));
	return r;
}

/* The same whatever the pieces. */
static int result(const char *body, struct got *g)
{
	int first = feed(body, strlen(body), g);
	struct got one = {.refuse = g->refuse};
	for (size_t step = 1; step < 40; step++) {
		CHECK_EQ(feed(body, step, &one), first);
		if (!first)
			CHECK(one.len == g->len && !memcmp(one.bytes, g->bytes, g->len));
	}
	return first;
}

#define PART(range, bytes) "--frontier\r\nContent-Range: bytes " range "\r\n\r\n" bytes "\r\n"
#define GOOD                                                                                       \
	PART("10-14/5000", "hello")                                                                \
	PART("100-102/*", "\r\n-") PART("40-40/5000", "!") "--frontier--\r\n"

static void parts_are_put_together(void)
{
	struct got g = {0};
	CHECK_EQ(result(GOOD, &g), 0);
	CHECK(g.len == 9 && !memcmp(g.bytes, "hello\r\n-!", 9));
	CHECK_EQ(result("preamble\r\n\r\n" GOOD "epilogue", &g), 0);
	CHECK_EQ(g.len, 9);
}

static void other_ranges_mean_that_one_is_to_be_asked_for_at_a_time(void)
{
	struct got g = {0};
	CHECK_EQ(result(PART("100-102/5000", "abc"), &g), -EOPNOTSUPP);
	CHECK_EQ(g.len, 0);
	CHECK_EQ(result(PART("10-14/5000", "hello") PART("40-102/5000", "abc"), &g), -EOPNOTSUPP);
	CHECK_EQ(g.len, 5); /* what was right is kept */
	CHECK_EQ(result(PART("10-14/5000", "hello") "--frontier--\r\n", &g), -EOPNOTSUPP);
}

static void nonsense_is_refused(void)
{
	struct got g = {0};
	char lines[2000] = "";
	CHECK_EQ(result("--frontier\r\n\r\nhello", &g), -EPROTO);
	CHECK_EQ(result(PART("14-10/5000", "hello"), &g), -EPROTO);
	CHECK_EQ(result(PART("10-14/5001", "hello"), &g), -ESTALE);
	memset(lines, 'x', 600);
	CHECK_EQ(result(lines, &g), -EPROTO); /* a line without end */
	memset(lines, '\n', 600);
	CHECK_EQ(result(lines, &g), -EPROTO);
}

static void a_taker_that_refuses_ends_it(void)
{
	struct got g = {.refuse = -ENOSPC};
	CHECK_EQ(result(GOOD, &g), -ENOSPC);
}

static void verdict(const char *type, int status, int expected)
{
	struct hither_http_question q = {.url = "http://host/x",
	                                 .offset = 10,
	                                 .len = 5,
	                                 .ranges = three,
	                                 .count = 3,
	                                 .size_bytes = 5000,
	                                 .version = {.etag = "\"v\""}};
	struct hither_http_answer a = {0};
	struct hither_error err = {0};
	char line[200];
	hither_http_answer_line(&a, line,
	                        (size_t)snprintf(line, sizeof line, "HTTP/1.1 %d x", status));
	hither_http_answer_line(&a, line,
	                        (size_t)snprintf(line, sizeof line, "Content-Type: %s", type));
	hither_http_answer_line(&a, "ETag: \"v\"", 9);
	hither_http_answer_line(&a, "", 0);
	CHECK_EQ(hither_http_judge(&a, &q, &err), expected);
	q.version.etag[1] = 'w';
	CHECK_EQ(hither_http_judge(&a, &q, &err), -ESTALE);
}

static void answers_are_judged(void)
{
	verdict("multipart/byteranges; boundary=frontier", 206, HITHER_HTTP_PARTS);
	verdict("Multipart/ByteRanges; charset=x; boundary=\"front ier\"; y=z", 206,
	        HITHER_HTTP_PARTS);
	verdict("multipart/byteranges", 206, -EOPNOTSUPP);
	verdict("multipart/byteranges; boundary=\"\"", 206, -EOPNOTSUPP);
	verdict("application/octet-stream", 206, -EOPNOTSUPP);
	verdict("application/octet-stream", 200, -EOPNOTSUPP);
}

int main(void)
{
	parts_are_put_together();
	other_ranges_mean_that_one_is_to_be_asked_for_at_a_time();
	nonsense_is_refused();
	a_taker_that_refuses_ends_it();
	answers_are_judged();
	return 0;
}
