/* SPDX-License-Identifier: Apache-2.0 */
/* The simple orders: front, ranges, and compositions of them. */
#include "check.h"

#include <errno.h>
#include <hither/order.h>
#include <stdint.h>

#define MIB (UINT64_C(1) << 20)

static struct hither_error err;

static struct hither_range take(struct hither_order *o, uint64_t window_bytes)
{
	struct hither_range r = {0};
	CHECK(o->ops->next(o, window_bytes, &r));
	return r;
}

static void check_take(struct hither_order *o, uint64_t window_bytes, uint64_t offset, uint64_t len)
{
	struct hither_range r = take(o, window_bytes);
	CHECK_EQ(r.offset, offset);
	CHECK_EQ(r.len, len);
}

static void check_dry(struct hither_order *o)
{
	struct hither_range r;
	CHECK(!o->ops->next(o, MIB, &r));
	CHECK(!o->ops->next(o, 0, &r));
}

static void front_covers_everything_once_in_pieces(void)
{
	struct hither_order_view view = {.size_bytes = 10 * MIB + 5};
	struct hither_order *o;
	CHECK_OK(hither_order_front(&view, &o, &err));
	check_take(o, 0, 0, MIB);
	check_take(o, 3 * MIB + 4097, MIB, 3 * MIB);
	check_take(o, 4096, 4 * MIB, MIB);
	check_take(o, UINT64_MAX, 5 * MIB, 5 * MIB + 5);
	check_dry(o);
	hither_order_destroy(o);
}

static void front_of_nothing_is_dry(void)
{
	struct hither_order_view view = {0};
	struct hither_order *o;
	CHECK_OK(hither_order_front(&view, &o, &err));
	check_dry(o);
	hither_order_destroy(o);
	hither_order_destroy(NULL);
}

static void ranges_keep_their_order_and_are_clipped(void)
{
	struct hither_order_view view = {.size_bytes = 8 * MIB};
	const struct hither_range ranges[] = {
	        {7 * MIB, 9 * MIB},              /* over the end */
	        {8 * MIB, 1},                    /* outside */
	        {UINT64_MAX, UINT64_MAX},        /* outside, and overflows */
	        {5, 0},                          /* empty */
	        {100, 50},                       /* as it is */
	        {MIB / 2, 2 * MIB},              /* in pieces */
	        {7 * MIB + 1, UINT64_MAX - MIB}, /* sum overflows */
	};
	struct hither_order *o;
	CHECK_OK(hither_order_ranges(&view, ranges, sizeof ranges / sizeof *ranges, &o, &err));
	check_take(o, MIB, 7 * MIB, MIB);
	check_take(o, MIB, 100, 50);
	check_take(o, MIB, MIB / 2, MIB / 2);
	check_take(o, MIB, MIB, MIB);
	check_take(o, MIB, 2 * MIB, MIB / 2);
	check_take(o, MIB, 7 * MIB + 1, MIB - 1);
	check_dry(o);
	hither_order_destroy(o);
}

static void no_ranges_are_dry_and_too_many_are_refused(void)
{
	struct hither_order_view view = {.size_bytes = MIB};
	struct hither_order *o = NULL;
	CHECK_OK(hither_order_ranges(&view, NULL, 0, &o, &err));
	check_dry(o);
	hither_order_destroy(o);
	struct hither_range one = {0, 1};
	CHECK_EQ(hither_order_ranges(&view, &one, SIZE_MAX / 8, &o, &err), -ENOMEM);
}

/* An order that counts what it is told, and has one range once it saw something. */
struct counting_order {
	struct hither_order base;
	int saw, arrived;
	bool ready;
	int *destroyed;
};

static bool counting_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct counting_order *c = (struct counting_order *)o;
	if (!c->ready)
		return false;
	c->ready = false;
	*out = (struct hither_range){42, 1};
	return true;
}
static void counting_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct counting_order *c = (struct counting_order *)o;
	CHECK(offset == 7 && len == 9 && waited);
	c->saw++;
	c->ready = true;
}
static void counting_arrived(struct hither_order *o, uint64_t offset, uint64_t len)
{
	struct counting_order *c = (struct counting_order *)o;
	CHECK(offset == 1 && len == 2);
	c->arrived++;
}
static void counting_destroy(struct hither_order *o)
{
	++*((struct counting_order *)o)->destroyed;
}
static const struct hither_order_ops counting_ops = {"counting", counting_next, counting_saw,
                                                     counting_arrived, counting_destroy};

static void a_composition_asks_in_turn_and_tells_all(void)
{
	struct hither_order_view view = {.size_bytes = 3 * MIB};
	int destroyed = 0;
	struct counting_order a = {.base.ops = &counting_ops, .destroyed = &destroyed}, b = a;
	struct hither_order *orders[3] = {&a.base, NULL, &b.base}, *o;
	CHECK_OK(hither_order_front(&view, &orders[1], &err));
	CHECK_OK(hither_order_compose(orders, 3, &o, &err));
	check_take(o, MIB, 0, MIB); /* a has nothing yet */
	o->ops->saw(o, 7, 9, true);
	o->ops->arrived(o, 1, 2);
	CHECK(a.saw == 1 && b.saw == 1 && a.arrived == 1 && b.arrived == 1);
	check_take(o, MIB, 42, 1); /* a first, though front has more */
	check_take(o, MIB, MIB, MIB);
	check_take(o, MIB, 2 * MIB, MIB);
	check_take(o, MIB, 42, 1); /* b, at last */
	check_dry(o);
	CHECK_EQ(destroyed, 0);
	hither_order_destroy(o);
	CHECK_EQ(destroyed, 2);
}

static bool knows_odd(struct hither_order *o, uint64_t offset, uint64_t len)
{
	return offset % 2;
}

static void what_one_knows_is_not_told_to_those_behind(void)
{
	struct hither_order_ops knowing_ops = counting_ops;
	knowing_ops.knows = knows_odd;
	int destroyed = 0;
	struct counting_order before = {.base.ops = &counting_ops, .destroyed = &destroyed},
	                      knowing = before, behind = before;
	knowing.base.ops = &knowing_ops;
	struct hither_order *orders[] = {&before.base, &knowing.base, &behind.base}, *o;
	CHECK_OK(hither_order_compose(orders, 3, &o, &err));
	o->ops->saw(o, 7, 9, true);
	CHECK(before.saw == 1 && knowing.saw == 1 && behind.saw == 0);
	CHECK(o->ops->knows(o, 7, 9) && !o->ops->knows(o, 8, 9));
	hither_order_destroy(o);
	CHECK_EQ(destroyed, 3);
}

static void a_composition_of_nothing_is_dry(void)
{
	struct hither_order *o;
	CHECK_OK(hither_order_compose(NULL, 0, &o, &err));
	check_dry(o);
	o->ops->saw(o, 0, 1, false);
	o->ops->arrived(o, 0, 1);
	hither_order_destroy(o);
}

static void what_lies_around_a_wait_comes_first(void)
{
	struct hither_order_view view = {.size_bytes = UINT64_C(100) << 20};
	struct hither_order *o;
	struct hither_range r;
	struct hither_error e = {0};
	const uint64_t mib = 1 << 20, window = 8 * mib;
	CHECK_OK(hither_order_near(&view, &o, &e));
	CHECK(!o->ops->next(o, window, &r));
	o->ops->saw(o, 50 * mib, mib, true);
	o->ops->saw(o, 20 * mib, mib, false); /* was here: no place of interest */
	o->ops->saw(o, mib / 2, mib, true);
	CHECK(o->ops->next(o, window, &r) && r.offset == 3 * mib / 2 && r.len == 2 * mib);
	CHECK(o->ops->next(o, window, &r) && r.offset == 0 && r.len == mib / 2);
	CHECK(o->ops->next(o, window, &r) && r.offset == 51 * mib && r.len == 2 * mib);
	o->ops->saw(o, 99 * mib, 4096 * mib, true); /* up to the end: nothing follows it */
	CHECK(o->ops->next(o, window, &r) && r.offset == 98 * mib && r.len == mib);
	CHECK(o->ops->next(o, window, &r) && r.offset == 49 * mib && r.len == mib);
	CHECK(!o->ops->next(o, window, &r));
	o->ops->saw(o, 0, 100 * mib, true);
	o->ops->saw(o, UINT64_MAX, UINT64_MAX, true);
	CHECK(!o->ops->next(o, window, &r));
	for (uint64_t i = 0; i < 20; i++) /* the newest eight */
		o->ops->saw(o, i * 4 * mib + mib, 4096, true);
	unsigned count = 0;
	while (o->ops->next(o, window, &r))
		count++;
	CHECK_EQ(count, 16);
	hither_order_destroy(o);
}

/* The medium has 50, 0, 100 MiB in this order; who waits takes the round to where he is. */
static void a_layout_goes_on_from_where_somebody_waits(void)
{
	struct hither_order_view view = {.size_bytes = 200 * MIB};
	const struct hither_range medium[] = {
	        {50 * MIB, 50 * MIB}, {0, 40 * MIB}, {100 * MIB, MIB}};
	struct hither_order *o;
	CHECK_OK(hither_order_layout(&view, medium, 3, &o, &err));
	check_take(o, MIB, 50 * MIB, 16 * MIB);
	o->ops->saw(o, 20 * MIB, MIB, false);
	check_take(o, MIB, 66 * MIB, 16 * MIB);
	o->ops->saw(o, 20 * MIB + 5, MIB, true);
	check_take(o, 20 * MIB, 20 * MIB + 5, 20 * MIB - 5);
	check_take(o, MIB, 100 * MIB, MIB);
	check_take(o, UINT64_MAX, 50 * MIB, 50 * MIB); /* once more, from its front */
	o->ops->saw(o, 45 * MIB, 4096, true);          /* a hole */
	check_take(o, 4 * MIB, 0, 16 * MIB);
	/* So near that it comes anyway: what may have been dropped for it is said again. */
	o->ops->saw(o, 18 * MIB, 4096, true);
	check_take(o, 16 * MIB, 0, 16 * MIB);
	check_take(o, 4 * MIB, 16 * MIB, 16 * MIB);
	check_dry(o);
	o->ops->saw(o, 100 * MIB, 4096, true);
	check_take(o, MIB, 100 * MIB, MIB);
	hither_order_destroy(o);
	CHECK_OK(hither_order_layout(&view, medium, 0, &o, &err));
	o->ops->saw(o, 0, 4096, true);
	check_dry(o);
	hither_order_destroy(o);
}

int main(void)
{
	RUN(front_covers_everything_once_in_pieces);
	RUN(front_of_nothing_is_dry);
	RUN(ranges_keep_their_order_and_are_clipped);
	RUN(no_ranges_are_dry_and_too_many_are_refused);
	RUN(a_composition_asks_in_turn_and_tells_all);
	RUN(what_one_knows_is_not_told_to_those_behind);
	RUN(a_composition_of_nothing_is_dry);
	RUN(what_lies_around_a_wait_comes_first);
	RUN(a_layout_goes_on_from_where_somebody_waits);
	return 0;
}
