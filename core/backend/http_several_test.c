/* SPDX-License-Identifier: Apache-2.0 */
/* Several ranges in one request, of servers that know them, and of those that only seem to. */
#include "backend/http_test_server.h"
#include "check.h"

#include <errno.h>
#include <hither/backend.h>
#include <hither/error.h>
#include <stdio.h>

static struct http_server server;

struct several_sink {
	struct hither_sink sink;
	const struct hither_range *ranges;
	size_t count, got;
	uint64_t at; /* in the first of the ranges */
};

static int take_several(struct hither_sink *sink, const void *buf, size_t len)
{
	struct several_sink *c = (struct several_sink *)sink;
	const unsigned char *bytes = buf;
	for (size_t i = 0; i < len; i++) {
		CHECK(c->count > 0);
		CHECK_EQ(bytes[i], served_byte(c->ranges->offset + c->at++));
		if (c->at == c->ranges->len)
			c->ranges++, c->count--, c->at = 0;
	}
	c->got += len;
	return 0;
}

static struct hither_backend *open_path(const char *path)
{
	struct hither_backend *b;
	struct hither_error err = {0};
	struct hither_backend_options options = {.idle_timeout_ms = 300};
	char url[100];
	snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path);
	atomic_store(&server.phase, 0);
	CHECK_OK(hither_backend_open(url, &options, &b, &err));
	CHECK(hither_backend_most_ranges(b) > 1);
	return b;
}

/* Ranges, their bytes one after another: all of them, in so many requests (0: not counted); or how
 * it failed. */
static int read_in(int requests, struct hither_backend *b, const struct hither_range *ranges,
                   size_t count)
{
	struct several_sink c = {{take_several}, ranges, count, 0, 0};
	struct hither_error err = {0};
	int before = atomic_load(&server.requests), r;
	r = hither_backend_read_many(b, ranges, count, &c.sink, &err);
	CHECK_EQ(err.code, r);
	CHECK(r || c.count == 0);
	if (requests)
		CHECK_EQ(atomic_load(&server.requests) - before, requests);
	return r;
}

static int read_three_in(int requests, struct hither_backend *b)
{
	static const struct hither_range three[] = {{20000, 5000}, {100000, 1}, {50000, 70}};
	return read_in(requests, b, three, 3);
}

static bool is_single(struct hither_backend *b)
{
	return hither_backend_most_ranges(b) == 1;
}

static void several_ranges_are_one_request(void)
{
	struct hither_backend *b = open_path("/several");
	CHECK_EQ(read_three_in(1, b), 0);
	CHECK(http_server_saw(&server, "Range: bytes=20000-24999,100000-100000,50000-50069\r\n"));
	CHECK(!is_single(b));
	hither_backend_close(b);
}

/* Larger than what is gathered of it at a time. */
static void large_parts_are_well_too(void)
{
	static const struct hither_range large[] = {{10000, 280000}, {295000, 5000}};
	struct hither_backend *b = open_path("/several");
	CHECK_EQ(read_in(1, b, large, 2), 0);
	hither_backend_close(b);
}

/* One that answers with the first range only, with others than those asked for, or with parts that
 * are not as long as they say. */
static void a_server_without_several_ranges_is_asked_for_one_at_a_time(void)
{
	static const struct {
		const char *path;
		int phase, requests; /* 0: by what came before the bad part */
	} ways[] = {{"/bare", 0, 4}, {"/several", 2, 4}, {"/several", 3, 4}, {"/several", 5, 0}};
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		struct hither_backend *b = open_path(ways[i].path);
		atomic_store(&server.phase, ways[i].phase);
		CHECK_EQ(read_three_in(ways[i].requests, b), 0);
		CHECK(is_single(b));
		CHECK_EQ(read_three_in(3, b), 0);
		hither_backend_close(b);
	}
}

/* The number of ranges is refused, not the resource. */
static void refusals_are_remembered(void)
{
	static const char *const paths[] = {"/refuses/416", "/refuses/400", "/refuses/403",
	                                    "/refuses/501"};
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		struct hither_backend *b = open_path(paths[i]);
		CHECK_EQ(read_three_in(4, b), 0);
		CHECK(is_single(b));
		CHECK_EQ(read_three_in(3, b), 0);
		hither_backend_close(b);
	}
}

static void other_refusals_are_not(void)
{
	struct hither_backend *b = open_path("/refuses/503");
	CHECK_EQ(read_three_in(1, b), -EAGAIN);
	CHECK(!is_single(b));
	hither_backend_close(b);
	b = open_path("/refuses/404");
	CHECK_EQ(read_three_in(1, b), -ESTALE);
	CHECK(!is_single(b));
	hither_backend_close(b);
}

/* The bytes are had nevertheless, so nobody else has to pause. */
static void answers_that_break_off_twice_in_a_row_are_the_last(void)
{
	for (int phase = 1; phase <= 4; phase += 3) {
		struct hither_backend *b = open_path("/several");
		for (int good = 0; good < 2; good++) {
			atomic_store(&server.phase, phase);
			CHECK_EQ(read_three_in(4, b), 0);
			CHECK(!is_single(b));
			atomic_store(&server.phase, 0);
			CHECK_EQ(read_three_in(1, b), 0);
		}
		atomic_store(&server.phase, phase);
		CHECK_EQ(read_three_in(4, b), 0);
		CHECK_EQ(read_three_in(4, b), 0);
		CHECK(is_single(b));
		CHECK_EQ(read_three_in(3, b), 0);
		hither_backend_close(b);
	}
}

/* Where one range breaks off, too, it is the line, and says nothing of several. */
static void an_outage_says_nothing_of_several_ranges(void)
{
	struct hither_backend *b = open_path("/hangs-up");
	atomic_store(&server.phase, 1);
	for (int i = 0; i < 3; i++) {
		struct several_sink c = {{take_several}};
		static const struct hither_range two[] = {{20000, 10}, {40000, 10}};
		struct hither_error err = {0};
		c.ranges = two, c.count = 2;
		CHECK(hither_error_is_transient(
		        hither_backend_read_many(b, two, 2, &c.sink, &err)));
		CHECK(!is_single(b));
	}
	hither_backend_close(b);
}

int main(void)
{
	http_server_start(&server);
	RUN(several_ranges_are_one_request);
	RUN(large_parts_are_well_too);
	RUN(a_server_without_several_ranges_is_asked_for_one_at_a_time);
	RUN(refusals_are_remembered);
	RUN(other_refusals_are_not);
	RUN(answers_that_break_off_twice_in_a_row_are_the_last);
	RUN(an_outage_says_nothing_of_several_ranges);
	http_server_stop(&server);
	return 0;
}
