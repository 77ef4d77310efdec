/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/link.h"

#include "base/clock.h"
#include "check.h"

/* A line of `rate` bytes per second and `rtt`, fully used for `ns`, in pieces of one millisecond.
 */
static uint64_t use_line(struct hither_link *l, uint64_t now, uint64_t rate, uint64_t rtt,
                         uint64_t ns)
{
	uint64_t end = now + ns;
	for (; now < end; now += HITHER_NS_PER_MS) {
		hither_link_first_byte(l, now, rtt);
		hither_link_bytes(l, now, rate / 1000, true);
	}
	return now;
}

static uint64_t settled_window(uint64_t rate, uint64_t rtt)
{
	struct hither_link l = {0};
	use_line(&l, HITHER_NS_PER_S, rate, rtt, 5 * HITHER_NS_PER_S);
	CHECK(hither_link_rate(&l) >= rate * 9 / 10 && hither_link_rate(&l) <= rate * 11 / 10);
	CHECK_EQ(hither_link_rtt_ns(&l), rtt);
	return hither_link_window(&l);
}

static void the_window_follows_the_product(void)
{
	uint64_t product = 25000000 / 20; /* 200 Mbit/s x 50 ms */
	uint64_t window = settled_window(25000000, 50 * HITHER_NS_PER_MS);
	CHECK(window >= product * 3 / 2 && window <= product * 9 / 4);
	product = 6250000 * 3 / 20; /* 50 Mbit/s x 150 ms */
	window = settled_window(6250000, 150 * HITHER_NS_PER_MS);
	CHECK(window >= product * 3 / 2 && window <= product * 9 / 4);
	CHECK(settled_window(UINT64_C(2000000000), HITHER_NS_PER_MS / 5) >= 2 << 20);
}

static void what_is_near_starts_with_long_requests(void)
{
	struct hither_link l = {0};
	hither_link_start_near(&l);
	CHECK(hither_link_extent(&l, 2) >= 1 << 20);
	CHECK(hither_link_window(&l) >= 2 * hither_link_extent(&l, 2));
	use_line(&l, HITHER_NS_PER_S, 50000000, HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	CHECK(hither_link_window(&l) <= 1 << 20); /* but it was a slow disk */
}

static void it_starts_wide_enough_to_learn(void)
{
	struct hither_link l = {0};
	CHECK(hither_link_window(&l) >= 512 << 10);
	CHECK_EQ(hither_link_rtt_ns(&l), 0);
	CHECK_EQ(hither_link_rate(&l), 0);
}

static void several_requests_share_the_window(void)
{
	struct hither_link l = {0};
	use_line(&l, HITHER_NS_PER_S, 25000000, 50 * HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	uint64_t window = hither_link_window(&l);
	for (uint32_t places = 2; places <= 48; places++) {
		uint64_t extent = hither_link_extent(&l, places);
		CHECK_EQ(extent % (32 << 10), 0);
		CHECK(extent * 2 <= window || places < 4);
		CHECK(extent * places * 3 / 4 >= window || places < 4); /* they fill it */
	}
	CHECK(hither_link_extent(&l, 24) * 12 <= window);
}

/* Who waits gets small pieces, but not so small that their places run out on a long fat line. */
static void quick_requests_leave_no_line_empty(void)
{
	struct hither_link wan = {0}, fat = {0};
	use_line(&wan, HITHER_NS_PER_S, 25000000, 50 * HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	CHECK_EQ(hither_link_quick_extent(&wan, 24), 32 << 10);
	use_line(&fat, HITHER_NS_PER_S, 1250000000, 25 * HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	uint64_t quick = hither_link_quick_extent(&fat, 48);
	CHECK_EQ(quick % (32 << 10), 0);
	CHECK(quick * 48 >= hither_link_window(&fat) * 2 / 5);
	CHECK(quick <= hither_link_extent(&fat, 48) / 2);
}

/* Where a reader has jumped to, connections that have rested bring as much in a round trip. */
static void a_jump_is_served_in_one_flight(void)
{
	struct hither_link far = {0}, near = {0};
	CHECK_EQ(hither_link_jump_extent(&far, 24), 12 << 10); /* not known yet: all are new */
	use_line(&far, HITHER_NS_PER_S, 25000000, 50 * HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	CHECK_EQ(hither_link_jump_extent(&far, 24), 12 << 10);
	CHECK_EQ(hither_link_flight(&far, 0), 12 << 10);
	CHECK_EQ(hither_link_flight(&far, 12 << 10), 24 << 10);
	CHECK_EQ(hither_link_flight(&far, (36 << 10) + 5), 48 << 10);
	CHECK_EQ(hither_link_flight(&far, UINT64_C(1) << 40), 2 << 20);
	use_line(&near, HITHER_NS_PER_S, 25000000, HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	CHECK_EQ(hither_link_jump_extent(&near, 24), hither_link_quick_extent(&near, 24));
}

/* All connections together fill the line. */
static void parts_are_as_long_as_they_have_to_be(void)
{
	struct hither_link l = {0};
	CHECK_EQ(hither_link_part(&l, 0), 0);
	CHECK_EQ(hither_link_part(&l, 48), 32 << 10);
	use_line(&l, HITHER_NS_PER_S, 25000000, 50 * HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	uint64_t part = hither_link_part(&l, 48), product = 25000000 / 20;
	CHECK(48 * part > product && 48 * part < product * 3 / 2);
	use_line(&l, 10 * HITHER_NS_PER_S, 250000000, 50 * HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	CHECK(hither_link_part(&l, 48) > 250 << 10);
	/* Near by it does not matter. */
	l = (struct hither_link){0};
	use_line(&l, HITHER_NS_PER_S, 60000000, 2 * HITHER_NS_PER_MS, HITHER_NS_PER_S);
	CHECK_EQ(hither_link_part(&l, 48), 0);
}

static void it_says_while_the_rate_is_being_found_out(void)
{
	struct hither_link l = {0};
	CHECK(hither_link_starts(&l));
	use_line(&l, HITHER_NS_PER_S, 25000000, 50 * HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	CHECK(!hither_link_starts(&l));
}

/* In half of the time four times as much comes: what is longer than the bursts tells the line's
 * rate. */
static void a_burst_is_not_the_rate(void)
{
	struct hither_link l = {0};
	uint64_t rate = 62500000, now = HITHER_NS_PER_S;
	hither_link_first_byte(&l, now, 10 * HITHER_NS_PER_MS);
	for (unsigned ms = 0; ms < 5000; ms++, now += HITHER_NS_PER_MS)
		hither_link_bytes(&l, now, rate / 1000 * (ms % 14 < 7 ? 8 : 2) / 5, true);
	CHECK(hither_link_rate(&l) >= rate * 9 / 10 && hither_link_rate(&l) <= rate * 23 / 20);
}

static void single_pages_do_not_end_the_start(void)
{
	struct hither_link l = {0};
	uint64_t now = HITHER_NS_PER_S;
	for (unsigned i = 0; i < 50; i++, now += 50 * HITHER_NS_PER_MS) {
		hither_link_first_byte(&l, now, 50 * HITHER_NS_PER_MS);
		hither_link_bytes(&l, now, 4096 + i % 7 * 100, false);
	}
	CHECK(hither_link_rate(&l) > 0);
	CHECK(hither_link_window(&l) >= 1 << 20); /* they say nothing about the line */
}

static void a_reader_that_asks_for_little_does_not_shrink_it(void)
{
	struct hither_link l = {0};
	uint64_t now =
	        use_line(&l, HITHER_NS_PER_S, 25000000, 50 * HITHER_NS_PER_MS, 3 * HITHER_NS_PER_S);
	uint64_t rate = hither_link_rate(&l);
	for (unsigned i = 0; i < 5000; i++, now += HITHER_NS_PER_MS)
		hither_link_bytes(&l, now, 10, false);
	CHECK_EQ(hither_link_rate(&l), rate);
}

static void a_line_that_got_slower_is_noticed(void)
{
	struct hither_link l = {0};
	uint64_t now =
	        use_line(&l, HITHER_NS_PER_S, 25000000, 50 * HITHER_NS_PER_MS, 3 * HITHER_NS_PER_S);
	use_line(&l, now, 2500000, 80 * HITHER_NS_PER_MS, 40 * HITHER_NS_PER_S);
	CHECK(hither_link_rate(&l) <= 2750000);
	CHECK_EQ(hither_link_rtt_ns(&l), 80 * HITHER_NS_PER_MS);
}

enum { FLYING = 4096, REQUEST = 32 << 10 };

/*
 * A line with a queue, and as much under way for so many seconds as the window says. The most that
 * has been under way in the last half of them.
 */
static uint64_t fill_line(uint64_t rate, uint64_t rtt, unsigned seconds)
{
	static uint64_t sent[FLYING], comes[FLYING];
	struct hither_link l = {0};
	uint64_t now = HITHER_NS_PER_S, free_at = 0, most = 0,
	         takes = REQUEST * HITHER_NS_PER_S / rate;
	uint64_t begin = now, end = now + seconds * HITHER_NS_PER_S;
	unsigned head = 0, tail = 0;
	while (now < end) {
		for (; (head - tail) * (uint64_t)REQUEST < hither_link_window(&l); head++) {
			CHECK(head - tail < FLYING);
			uint64_t from = now + rtt > free_at ? now + rtt : free_at;
			sent[head % FLYING] = now;
			comes[head % FLYING] = free_at = from + takes;
		}
		if (now - begin > seconds * HITHER_NS_PER_S / 2 &&
		    (head - tail) * (uint64_t)REQUEST > most)
			most = (head - tail) * (uint64_t)REQUEST;
		now = comes[tail % FLYING];
		hither_link_first_byte(&l, now - takes, now - takes - sent[tail % FLYING]);
		hither_link_bytes(&l, now, REQUEST, true);
		tail++;
	}
	CHECK(hither_link_rate(&l) >= rate * 9 / 10);
	return most;
}

/* The queue that the window makes is no part of the round trip. */
static void the_window_does_not_grow_with_its_own_queue(void)
{
	uint64_t product = 1448000 * 15 / 100; /* 150 ms */
	CHECK(fill_line(1448000, 150 * HITHER_NS_PER_MS, 300) <= product * 2);
	CHECK(fill_line(25000000, 50 * HITHER_NS_PER_MS, 300) <= 25000000 / 20 * 2);
	/* Nor where the least window is more than the line takes. */
	CHECK(fill_line(125000, 150 * HITHER_NS_PER_MS, 600) <= 512 << 10);
}

/* After an outage all that is asked for at once comes at once: no more than fits into a queue. */
static void after_an_outage_it_asks_for_once_the_product(void)
{
	struct hither_link l = {0};
	uint64_t product = 1448000 * 15 / 100;
	uint64_t now =
	        use_line(&l, HITHER_NS_PER_S, 1448000, 150 * HITHER_NS_PER_MS, 5 * HITHER_NS_PER_S);
	uint64_t window = hither_link_window(&l);
	CHECK(window >= product * 6 / 5);
	hither_link_back(&l, now);
	CHECK(hither_link_window(&l) <= product * 4 / 5);
	/* What was asked for before comes late; the first of what was asked for since ends it. */
	hither_link_first_byte(&l, now + 40 * HITHER_NS_PER_MS, 1040 * HITHER_NS_PER_MS);
	CHECK(hither_link_window(&l) < window);
	hither_link_first_byte(&l, now + 160 * HITHER_NS_PER_MS, 155 * HITHER_NS_PER_MS);
	CHECK_EQ(hither_link_window(&l), window);
}

/* A narrow line is known as one before its queue has lost much; a slow server is something else. */
static void a_queue_ends_the_start_of_a_narrow_line(void)
{
	for (int narrow = 0; narrow < 2; narrow++) {
		struct hither_link l = {0};
		uint64_t rate = narrow ? 1448000 : 6250000, rtt = 150 * HITHER_NS_PER_MS;
		uint64_t now =
		        use_line(&l, HITHER_NS_PER_S, rate, rtt, rtt + 10 * HITHER_NS_PER_MS);
		CHECK(hither_link_starts(&l));
		for (int i = 0; i < 8; i++)
			hither_link_first_byte(&l, now, rtt * (i == 4 ? 1 : 2));
		CHECK(hither_link_starts(&l));
		for (int i = 0; i < 8; i++)
			hither_link_first_byte(&l, now, rtt * 2);
		CHECK_EQ(hither_link_starts(&l), !narrow);
		CHECK_EQ(hither_link_is_narrow(&l), narrow);
	}
}

int main(void)
{
	RUN(the_window_follows_the_product);
	RUN(what_is_near_starts_with_long_requests);
	RUN(it_starts_wide_enough_to_learn);
	RUN(several_requests_share_the_window);
	RUN(quick_requests_leave_no_line_empty);
	RUN(a_jump_is_served_in_one_flight);
	RUN(parts_are_as_long_as_they_have_to_be);
	RUN(it_says_while_the_rate_is_being_found_out);
	RUN(a_burst_is_not_the_rate);
	RUN(single_pages_do_not_end_the_start);
	RUN(a_reader_that_asks_for_little_does_not_shrink_it);
	RUN(a_line_that_got_slower_is_noticed);
	RUN(after_an_outage_it_asks_for_once_the_product);
	RUN(a_queue_ends_the_start_of_a_narrow_line);
	RUN(the_window_does_not_grow_with_its_own_queue);
	return 0;
}
