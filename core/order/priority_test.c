/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <hither/order.h>
#include <stdint.h>
#include <string.h>

#define CHUNK 65536u

static struct hither_error err;
static uint64_t asked;

static int64_t from_table(void *user, uint64_t chunk)
{
	CHECK_EQ(chunk, asked);
	asked++;
	return ((const int64_t *)user)[chunk];
}

static void chunks_come_by_priority_equal_ones_front_to_back(void)
{
	int64_t table[] = {1, 5, 5, -1, 5, 0, INT64_MAX, 1, INT64_MIN, 1};
	const struct hither_range want[] = {
	        {6 * CHUNK, CHUNK}, {1 * CHUNK, 2 * CHUNK}, {4 * CHUNK, CHUNK}, {0, CHUNK},
	        {7 * CHUNK, CHUNK}, {9 * CHUNK, 100},       {5 * CHUNK, CHUNK},
	};
	struct hither_order_view view = {.size_bytes = 9 * CHUNK + 100};
	struct hither_order *o;
	asked = 0;
	CHECK_OK(hither_order_priority(&view, CHUNK, from_table, table, &o, &err));
	CHECK_EQ(asked, 10);
	struct hither_range r;
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		CHECK(o->ops->next(o, 0, &r));
		CHECK_EQ(r.offset, want[i].offset);
		CHECK_EQ(r.len, want[i].len);
	}
	CHECK(!o->ops->next(o, 0, &r));
	hither_order_destroy(o);
}

static int64_t in_halves(void *user, uint64_t chunk)
{
	return chunk >= 8u << 20;
}

static void a_tebibyte_is_two_runs_in_pieces(void)
{
	struct hither_order_view view = {.size_bytes = UINT64_C(1) << 40};
	struct hither_order *o;
	CHECK_OK(hither_order_priority(&view, CHUNK, in_halves, NULL, &o, &err));
	uint64_t at = view.size_bytes / 2;
	struct hither_range r;
	for (uint64_t left = view.size_bytes; left > 0; left -= r.len) {
		CHECK(o->ops->next(o, UINT64_C(1) << 30, &r));
		CHECK_EQ(r.offset, at);
		CHECK(r.len <= UINT64_C(1) << 30);
		at = (at + r.len) % view.size_bytes;
	}
	CHECK(!o->ops->next(o, 0, &r));
	hither_order_destroy(o);
}

/* More chunks of one priority than a run can count. */
static int64_t all_the_same(void *user, uint64_t chunk)
{
	return 7;
}

static void long_runs_are_whole(void)
{
	struct hither_order_view view = {.size_bytes = (UINT64_C(1) << 25) * 4096 + 1};
	struct hither_order *o;
	CHECK_OK(hither_order_priority(&view, 4096, all_the_same, NULL, &o, &err));
	struct hither_range r;
	uint64_t at = 0;
	while (o->ops->next(o, UINT64_MAX, &r)) {
		CHECK_EQ(r.offset, at);
		at += r.len;
	}
	CHECK_EQ(at, view.size_bytes);
	hither_order_destroy(o);
}

static int64_t all_different(void *user, uint64_t chunk)
{
	++*(uint64_t *)user;
	return (int64_t)(chunk & 1);
}

static void too_many_runs_are_refused_with_the_limit(void)
{
	struct hither_order_view view = {.size_bytes = UINT64_C(1) << 40};
	struct hither_order *o;
	uint64_t calls = 0;
	CHECK_EQ(hither_order_priority(&view, CHUNK, all_different, &calls, &o, &err), -E2BIG);
	CHECK(strstr(err.message, "1048576 runs"));
	CHECK_EQ(calls, (1 << 20) + 1);
}

static void odd_sizes_are_refused(void)
{
	struct hither_order_view view = {.size_bytes = 1};
	struct hither_order *o;
	struct hither_range r;
	CHECK_EQ(hither_order_priority(&view, 0, all_the_same, NULL, &o, &err), -EINVAL);
	CHECK_EQ(hither_order_priority(&view, 3 * 4096, all_the_same, NULL, &o, &err), -EINVAL);
	CHECK(strstr(err.message, "12288"));
	view.size_bytes = UINT64_MAX;
	CHECK_EQ(hither_order_priority(&view, 4096, all_the_same, NULL, &o, &err), -E2BIG);
	view.size_bytes = 0;
	CHECK_OK(hither_order_priority(&view, 4096, all_the_same, NULL, &o, &err));
	CHECK(!o->ops->next(o, 0, &r));
	hither_order_destroy(o);
}

int main(void)
{
	RUN(chunks_come_by_priority_equal_ones_front_to_back);
	RUN(a_tebibyte_is_two_runs_in_pieces);
	RUN(long_runs_are_whole);
	RUN(too_many_runs_are_refused_with_the_limit);
	RUN(odd_sizes_are_refused);
	return 0;
}
