/* SPDX-License-Identifier: Apache-2.0 */
/* The media order: over a WAV file, whose bytes go evenly: 1000 bytes are a second. */
#include "check.h"
#include "order/format.h"

#include <errno.h>
#include <string.h>

enum { HEAD = 44, SECONDS = 4000, RATE = 1000 };

static struct hither_error err;
static bool here;                /* the head is local */
static struct hither_range came; /* and this */

static int peek(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset)
{
	static const uint8_t head[] = "RIFF\xff\xff\xff\xff"
	                              "WAVEfmt \x10\0\0\0\1\0\1\0\xe8\x03\0\0\xe8\x03\0\0\1\0\x8\0"
	                              "data\0\x09\x3d\0";
	if (!here || (offset + len > HEAD + 64 &&
	              (offset < came.offset || offset + len > came.offset + came.len)))
		return -EAGAIN;
	memset(buf, 0, len);
	if (offset < HEAD)
		memcpy(buf, head + offset, len < HEAD - offset ? len : HEAD - offset);
	return 0;
}

static struct hither_order_view view = {.size_bytes = HEAD + SECONDS * RATE, .peek = peek};

static struct hither_order *make(void)
{
	struct hither_order *o;
	CHECK_OK(hither_order_media.create(&view, &o, &err));
	return o;
}

static uint64_t hurried;

static void count_hurry(const struct hither_order_view *v, uint64_t bytes)
{
	hurried = bytes;
}

static uint32_t warmed;

static void count_warm(const struct hither_order_view *v, uint32_t connections)
{
	warmed = connections;
}

/* Once it is known where everything is somebody may go there. */
static void connections_for_a_seek_are_opened(void)
{
	struct hither_range r;
	here = false;
	view.warm = count_warm;
	struct hither_order *o = make();
	CHECK(o->ops->next(o, 1 << 20, &r));
	CHECK_EQ(warmed, 0);
	here = true;
	CHECK(o->ops->next(o, 1 << 20, &r));
	CHECK(warmed >= 32);
	hither_order_destroy(o);
	view.warm = NULL;
}

/* Seconds that the order's next guess begins at. */
static uint64_t next_s(struct hither_order *o)
{
	struct hither_range r;
	CHECK(o->ops->next(o, 4096, &r));
	CHECK(r.len > 0 && r.offset + r.len <= view.size_bytes);
	o->ops->arrived(o, r.offset, r.len);
	return (r.offset - HEAD) / RATE;
}

static uint64_t at(uint64_t s)
{
	return HEAD + s * RATE + 1;
}

/* The order's next guess has the byte at offset in it; pieces begin where they like. */
static void next_has(struct hither_order *o, uint64_t offset)
{
	struct hither_range r;
	CHECK(o->ops->next(o, 4096, &r));
	CHECK(r.offset <= offset && offset - r.offset < r.len);
}

static void the_ends_come_first(void)
{
	struct hither_range r;
	here = false;
	struct hither_order *o = make();
	CHECK(o->ops->next(o, 1 << 20, &r));
	CHECK_EQ(r.offset, 0);
	CHECK(o->ops->next(o, 1 << 20, &r));
	CHECK_EQ(r.offset + r.len, view.size_bytes);
	hither_order_destroy(o);
}

static void what_is_played_next_comes_next(void)
{
	here = true;
	struct hither_order *o = make();
	uint64_t last = 0;
	CHECK_EQ(next_s(o), 0);
	for (int i = 0; i < 20; i++) {
		uint64_t s = next_s(o);
		CHECK(s >= last && s <= last + 2);
		last = s;
	}
	hither_order_destroy(o);
}

static void a_seek_is_served_at_once(void)
{
	here = true;
	struct hither_order *o = make();
	next_s(o);
	next_s(o);
	struct hither_range r;
	view.hurry = count_hurry;
	o->ops->saw(o, at(3000), 10, true);
	CHECK(o->ops->next(o, 4096, &r) && r.offset == at(3000));
	CHECK_EQ(hurried, r.len); /* and it says what is waited for */
	view.hurry = NULL;
	came = r;
	CHECK(r.len > 0 && o->ops->next(o, 4096, &r));
	CHECK(r.len > 0 && next_s(o) <= 3002);
	o->ops->saw(o, at(1500), 10, true); /* and another */
	next_has(o, at(1500));
	/* It has the line for itself, but not for ever. */
	int calls = 0;
	while (o->ops->next(o, 4096, &r) && r.len == 0)
		calls++;
	CHECK(calls > 10 && calls < 1000);
	CHECK(r.offset <= at(1500) && at(1500) < r.offset + r.len);
	hither_order_destroy(o);
}

static void ahead_is_bounded_then_come_places_to_seek_to(void)
{
	here = true;
	view.ahead_ms = 10000;
	struct hither_order *o = make();
	struct hither_range r;
	o->ops->saw(o, at(0), 10, false);
	uint64_t s = 0, most = 0;
	int targets = 0;
	while (o->ops->next(o, 1000, &r)) {
		if (r.len == 0) /* one place after another: none of them comes here */
			continue;
		s = (r.offset - HEAD) / RATE;
		if (s <= 11)
			most = s > most ? s : most;
		else
			targets++;
	}
	CHECK(most >= 9 && most <= 11);
	CHECK(targets >= 8 && targets <= 16);
	o->ops->saw(o, at(5), 10, false); /* it plays: five seconds more */
	CHECK(o->ops->next(o, 1000, &r));
	CHECK((r.offset - HEAD) / RATE >= 9);
	hither_order_destroy(o);
	view.ahead_ms = 0;
}

static void a_mount_that_wants_all_gets_all_from_the_playhead_on(void)
{
	here = true;
	view.background = true;
	struct hither_order *o = make();
	struct hither_range r;
	uint64_t furthest = 0;
	o->ops->saw(o, at(2000), 10, false);
	while (o->ops->next(o, 1 << 20, &r))
		if (r.offset + r.len > furthest)
			furthest = r.offset + r.len;
	CHECK_EQ(furthest, view.size_bytes);
	hither_order_destroy(o);
	view.background = false;
}

static void several_viewers_are_all_served(void)
{
	here = true;
	struct hither_order *o = make();
	next_s(o); /* the index is known from here on */
	for (int again = 0; again < 4; again++)
		for (uint64_t viewer = 0; viewer < 10; viewer++)
			o->ops->saw(o, at(viewer * 400), 10, false);
	bool served[10] = {false};
	for (int i = 0; i < 40; i++) {
		uint64_t s = next_s(o) + 1; /* a piece may begin a little before its viewer */
		CHECK(s % 400 < 31);
		served[s / 400] = true;
	}
	for (int i = 0; i < 10; i++)
		CHECK(served[i]);
	hither_order_destroy(o);
}

static void the_first_samples_come_beside_the_index(void)
{
	struct hither_range r;
	here = false;
	struct hither_order *o = make();
	for (int i = 0; i < 2; i++) /* both ends */
		CHECK(o->ops->next(o, 1 << 20, &r) && r.len > 0);
	uint64_t end = 0;
	while (o->ops->next(o, 1 << 20, &r)) {
		CHECK_EQ(r.offset, end);
		CHECK(r.len <= 64 << 10);
		end += r.len;
	}
	CHECK(end >= 1 << 20 && end <= 4 << 20);
	hither_order_destroy(o);
}

/* Bytes that the order wants on their way while not one of them comes. */
static uint64_t wants_under_way(uint64_t rate)
{
	struct hither_range r;
	here = true;
	view.rate_bytes = rate;
	struct hither_order *o = make();
	uint64_t sum = 0;
	while (o->ops->next(o, 14000, &r) && r.len > 0)
		sum += r.len;
	hither_order_destroy(o);
	view.rate_bytes = 0;
	return sum;
}

static void who_has_enough_leaves_room_on_the_line(void)
{
	uint64_t eased = wants_under_way(100 * RATE);
	CHECK(eased >= 4000 && eased <= 12000);
	/* A line that is hardly faster than what is played is needed all the time. */
	CHECK(wants_under_way(RATE * 5 / 4) >= 24 * RATE);
}

/* Of what is said at once, the end may come before what another wants first. */
static void a_narrow_line_is_told_little_at_a_time(void)
{
	struct hither_range r;
	uint64_t end = 0;
	here = true;
	for (int narrow = 0; narrow < 2; narrow++) {
		view.rate_bytes = narrow ? RATE * 5 / 4 : 100 * RATE;
		view.ahead_ms = 600000;
		struct hither_order *o = make();
		CHECK(o->ops->next(o, 1 << 20, &r));
		end = r.offset + r.len;
		if (narrow)
			CHECK(r.len <= (33 << 10));
		else
			CHECK(r.len >= (64 << 10));
		CHECK(o->ops->next(o, 1 << 20, &r) && r.offset == end);
		hither_order_destroy(o);
	}
	view.rate_bytes = view.ahead_ms = 0;
}

static void the_place_that_was_left_gets_nothing_more(void)
{
	struct hither_range r;
	here = true;
	view.rate_bytes = RATE * 5 / 4;
	struct hither_order *o = make();
	next_s(o);
	o->ops->saw(o, at(1000), 10, false);
	next_s(o);
	o->ops->saw(o, at(2000), 10, true);
	for (int i = 0; i < 10; i++)
		CHECK(next_s(o) >= 1999);
	o->ops->saw(o, at(1001), 10,
	            false); /* what was still to come from a reader that has left */
	for (int i = 0; i < 10; i++)
		CHECK(next_s(o) >= 1999);
	for (int i = 0; i < 3; i++)
		o->ops->saw(o, at(1001), 10, false); /* it was somebody else */
	bool served = false;
	for (int i = 0; i < 40; i++) {
		CHECK(o->ops->next(o, 4096, &r));
		served = served || (r.offset < at(1100) && r.offset > at(900));
	}
	CHECK(served);
	hither_order_destroy(o);
	view.rate_bytes = 0;
}

static void what_is_no_media_suggests_nothing(void)
{
	here = true;
	struct hither_order_view small = {.size_bytes = 20, .peek = peek};
	struct hither_order *o;
	struct hither_range r;
	CHECK_OK(hither_order_media.create(&small, &o, &err));
	CHECK(!o->ops->next(o, 1 << 20, &r));
	o->ops->saw(o, 3, 4, true);
	CHECK(!o->ops->next(o, 1 << 20, &r));
	hither_order_destroy(o);
}

int main(void)
{
	RUN(the_ends_come_first);
	RUN(connections_for_a_seek_are_opened);
	RUN(what_is_played_next_comes_next);
	RUN(a_seek_is_served_at_once);
	RUN(ahead_is_bounded_then_come_places_to_seek_to);
	RUN(a_mount_that_wants_all_gets_all_from_the_playhead_on);
	RUN(several_viewers_are_all_served);
	RUN(the_first_samples_come_beside_the_index);
	RUN(who_has_enough_leaves_room_on_the_line);
	RUN(a_narrow_line_is_told_little_at_a_time);
	RUN(the_place_that_was_left_gets_nothing_more);
	RUN(what_is_no_media_suggests_nothing);
	return 0;
}
