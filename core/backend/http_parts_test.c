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
	size_t len, sure;
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

static void part_ended(void *user)
{
	struct got *g = user;
	CHECK(g->len > g->sure);
	g->sure = g->len;
}

/* Fed `step` bytes at a time. */
static int feed(const char *body, size_t step, struct got *g)
{
	struct hither_http_question q = {
	        .url = "http://host/x", .ranges = three, .count = 3, .size_bytes = 5000};
	struct hither_http_parts p = {.question = &q,
	                              .boundary = "frontier",
	                              .take = take,
	                              .part_ended = part_ended,
	                              .user = g};
	struct hither_error err = {0};
	size_t len = strlen(body);
	int r = 0;
	g->len = g->sure = 0;
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
		CHECK_EQ(one.sure, g->sure);
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
	CHECK_EQ(g.sure, 9);
	/* The last boundary's line may have no end. */
	CHECK_EQ(result(PART("10-14/5000", "hello") PART("100-102/*", "\r\n-")
	                        PART("40-40/5000", "!") "--frontier--",
	                &g),
	         0);
	CHECK_EQ(g.sure, 9);
}

/* Bytes of the boundary must not be taken for the part's last ones. */
static void parts_are_as_long_as_they_say(void)
{
	struct got g = {0};
	CHECK_EQ(result(PART("10-14/5000", "hell") PART("100-102/*", "abc"), &g), -EPROTO);
	CHECK_EQ(g.sure, 0);
	CHECK_EQ(result(PART("10-14/5000", "h") PART("100-102/*", "abc"), &g), -EPROTO);
	CHECK_EQ(g.sure, 0);
	CHECK_EQ(result(PART("10-14/5000", "hello!") PART("100-102/*", "abc"), &g), -EPROTO);
	CHECK_EQ(g.sure, 0);
	CHECK_EQ(result(PART("10-14/5000", "hello") PART("100-102/*", "ab"), &g), -EPROTO);
	CHECK_EQ(g.sure, 5);
	CHECK_EQ(result(PART("10-14/5000", "hello") PART("100-102/*", "abc")
	                        PART("40-40/5000", "") "--frontier--\r\n",
	                &g),
	         -EPROTO);
	CHECK_EQ(g.sure, 8);
	CHECK_EQ(result(PART("10-14/5000", "hello"), &g), 0); /* more may come */
	CHECK_EQ(g.sure, 0);
}

static void other_ranges_mean_that_one_is_to_be_asked_for_at_a_time(void)
{
	struct got g = {0};
	CHECK_EQ(result(PART("100-102/5000", "abc"), &g), -EOPNOTSUPP);
	CHECK_EQ(g.len, 0);
	CHECK_EQ(result(PART("10-14/5000", "hello") PART("40-102/5000", "abc"), &g), -EOPNOTSUPP);
	CHECK_EQ(g.sure, 5); /* what was right is kept */
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

static int refused(int status, const char *range)
{
	struct hither_http_question q = {.url = "http://host/x",
	                                 .offset = 10,
	                                 .len = 5,
	                                 .ranges = three,
	                                 .count = 3,
	                                 .size_bytes = 5000};
	struct hither_http_answer a = {0};
	struct hither_error err = {0};
	char line[200];
	hither_http_answer_line(&a, line,
	                        (size_t)snprintf(line, sizeof line, "HTTP/1.1 %d x", status));
	if (range)
		hither_http_answer_line(
		        &a, line, (size_t)snprintf(line, sizeof line, "Content-Range: %s", range));
	hither_http_answer_line(&a, "", 0);
	int r = hither_http_judge(&a, &q, &err);
	CHECK_EQ(err.code, r);
	return r;
}

static void refusals_are_of_the_number_of_ranges(void)
{
	CHECK_EQ(refused(416, "bytes */5000"), -EOPNOTSUPP);
	CHECK_EQ(refused(416, "bytes */*"), -EOPNOTSUPP);
	CHECK_EQ(refused(416, NULL), -EOPNOTSUPP);
	CHECK_EQ(refused(416, "bytes */5001"), -ESTALE);
	CHECK_EQ(refused(400, NULL), -EOPNOTSUPP);
	CHECK_EQ(refused(403, NULL), -EOPNOTSUPP);
	CHECK_EQ(refused(431, NULL), -EOPNOTSUPP);
	CHECK_EQ(refused(501, NULL), -EOPNOTSUPP);
	CHECK_EQ(refused(401, NULL), -EACCES);
	CHECK_EQ(refused(407, NULL), -EACCES);
	CHECK_EQ(refused(404, NULL), -ESTALE);
	CHECK_EQ(refused(410, NULL), -ESTALE);
	CHECK_EQ(refused(412, NULL), -ESTALE);
	CHECK_EQ(refused(408, NULL), -EAGAIN);
	CHECK_EQ(refused(425, NULL), -EAGAIN);
	CHECK_EQ(refused(429, NULL), -EAGAIN);
	CHECK_EQ(refused(503, NULL), -EAGAIN);
}

int main(void)
{
	refusals_are_of_the_number_of_ranges();
	parts_are_as_long_as_they_say();
	parts_are_put_together();
	other_ranges_mean_that_one_is_to_be_asked_for_at_a_time();
	nonsense_is_refused();
	a_taker_that_refuses_ends_it();
	answers_are_judged();
	return 0;
}
