/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <hither/order.h>
#include <stdint.h>
#include <string.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define PAGE (4 * KIB)
#define SIZE (512 * MIB)
#define WINDOW (4 * MIB)

static struct hither_error err;

/* A mount in which every guess arrives at once. */
struct model {
	struct hither_order_view view;
	struct hither_order *o;
	uint64_t guessed; /* bytes handed out, repeated ones included */
	uint64_t read, hit;
	uint8_t pages[SIZE / PAGE]; /* how often each was handed out */
};
static struct model m;

static void begin(void)
{
	memset(&m, 0, sizeof m);
	m.view.size_bytes = SIZE;
	CHECK_OK(hither_order_readahead(&m.view, &m.o, &err));
}

static void end(void)
{
	hither_order_destroy(m.o);
}

static bool guess_one(struct hither_range *g)
{
	if (!m.o->ops->next(m.o, WINDOW, g))
		return false;
	CHECK(g->len > 0 && g->offset < SIZE && g->len <= SIZE - g->offset);
	m.guessed += g->len;
	for (uint64_t p = g->offset / PAGE; p <= (g->offset + g->len - 1) / PAGE; p++)
		m.pages[p]++;
	return true;
}

static void drain(void)
{
	struct hither_range g;
	for (int i = 0; guess_one(&g); i++)
		CHECK(i < 10000);
}

/* A program reads; true: all of it had been guessed. */
static bool reads(uint64_t offset, uint64_t len)
{
	bool hit = true;
	for (uint64_t p = offset / PAGE; p <= (offset + len - 1) / PAGE; p++)
		hit = hit && m.pages[p];
	m.read += len;
	m.hit += hit ? len : 0;
	m.o->ops->saw(m.o, offset, len, !hit);
	return hit;
}

static unsigned most_often(void)
{
	unsigned most = 0;
	for (size_t i = 0; i < SIZE / PAGE; i++)
		most = m.pages[i] > most ? m.pages[i] : most;
	return most;
}

static uint64_t random_state = 88172645463325252;
static uint64_t random_below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

static void random_reads_give_no_guesses(void)
{
	begin();
	for (int i = 0; i < 10000; i++) {
		reads(random_below(SIZE / PAGE) * PAGE, PAGE);
		drain();
	}
	fprintf(stderr, "    guessed %llu of %llu bytes read at random\n",
	        (unsigned long long)m.guessed, (unsigned long long)m.read);
	CHECK(m.guessed < m.read / 100);
	end();
}

static void a_forward_reader_is_followed_to_the_end(void)
{
	begin();
	int missed = 0;
	for (uint64_t at = 0; at < SIZE; at += 128 * KIB) {
		missed += !reads(at, 128 * KIB);
		drain();
	}
	CHECK_EQ(missed, 3);
	CHECK_EQ(m.guessed, SIZE - 3 * 128 * KIB);
	CHECK_EQ(most_often(), 1);
	end();
}

static void a_backward_reader_is_followed_to_the_front(void)
{
	begin();
	int missed = 0;
	for (uint64_t at = SIZE; at > 0; at -= 64 * KIB) {
		missed += !reads(at - 64 * KIB, 64 * KIB);
		drain();
	}
	CHECK_EQ(missed, 3);
	CHECK_EQ(m.guessed, SIZE - 3 * 64 * KIB);
	CHECK_EQ(most_often(), 1);
	end();
}

static void a_window_starts_small_and_grows_to_the_links(void)
{
	begin();
	uint64_t at = 100 * MIB, ahead = 0;
	for (int i = 0; i < 3; i++, at += 16 * KIB) {
		drain();
		CHECK_EQ(m.guessed, 0);
		reads(at, 16 * KIB);
	}
	drain();
	CHECK_EQ(m.guessed, 64 * KIB);
	uint64_t first = at;
	for (; at < 120 * MIB; at += 16 * KIB) {
		CHECK(reads(at, 16 * KIB));
		drain();
		uint64_t now = first + m.guessed - (at + 16 * KIB);
		CHECK(now <= 2 * WINDOW);
		ahead = now > ahead ? now : ahead;
	}
	CHECK(ahead >= 3 * WINDOW / 2); /* a quarter is left until it is worth a request */
	end();
}

static void small_gaps_are_read_over(void)
{
	begin();
	int missed = 0;
	for (uint64_t at = MIB; at < 65 * MIB; at += 16 * KIB + (at / KIB % 3) * PAGE) {
		missed += !reads(at, 16 * KIB);
		drain();
	}
	CHECK_EQ(missed, 3);
	CHECK_EQ(most_often(), 1);
	end();
}

static void requests_that_overtake_each_other_are_one_stream(void)
{
	begin();
	int missed = 0;
	uint64_t piece = 128 * KIB;
	for (uint64_t at = 0; at < 256 * MIB; at += 8 * piece) {
		unsigned turn[8] = {0, 1, 2, 3, 4, 5, 6, 7};
		for (unsigned i = 7; i > 0; i--) {
			unsigned k = (unsigned)random_below(i + 1), t = turn[i];
			turn[i] = turn[k];
			turn[k] = t;
		}
		for (unsigned i = 0; i < 8; i++) {
			missed += !reads(at + turn[i] * piece, piece);
			drain();
		}
	}
	CHECK(missed <= 32); /* of 2048: until it is clear which way it goes */
	CHECK_EQ(most_often(), 1);
	CHECK(m.guessed <= 256 * MIB + 2 * WINDOW);
	end();
}

static void four_readers_among_noise_are_each_followed(void)
{
	begin();
	uint64_t at[4] = {0, 130 * MIB, 261 * MIB, 512 * MIB}; /* the last goes backward */
	int missed = 0, rounds = 900;
	for (int i = 0; i < rounds; i++) {
		for (int k = 0; k < 4; k++) {
			if (k == 3)
				at[k] -= 128 * KIB;
			missed += !reads(at[k], 128 * KIB);
			if (k < 3)
				at[k] += 128 * KIB;
			drain();
			m.o->ops->saw(m.o, random_below(SIZE / PAGE) * PAGE, PAGE, true);
			drain();
		}
	}
	CHECK(missed <= 16); /* three each, and a little for luck */
	uint64_t length = (uint64_t)rounds * 128 * KIB;
	CHECK(m.guessed <= 4 * (length + 2 * WINDOW) + 4 * MIB);
	end();
}

static void streams_take_turns_and_who_waited_comes_first(void)
{
	begin();
	struct hither_range g;
	const uint64_t base[3] = {0, 200 * MIB, 400 * MIB};
	for (uint64_t i = 0; i < 16; i++) {
		for (int k = 0; k < 3; k++)
			m.o->ops->saw(m.o, base[k] + i * MIB, MIB, false);
	}
	int served[3] = {0};
	for (int i = 0; i < 6; i++) {
		CHECK(guess_one(&g));
		served[g.offset / (200 * MIB)]++;
	}
	CHECK(served[0] == 2 && served[1] == 2 && served[2] == 2);
	m.o->ops->saw(m.o, base[2] + 16 * MIB, MIB, true);
	m.o->ops->saw(m.o, base[1] + 16 * MIB, MIB, true);
	CHECK(guess_one(&g) && g.offset / (200 * MIB) == 1);
	CHECK(guess_one(&g) && g.offset / (200 * MIB) == 2);
	end();
}

static void a_reader_that_stops_costs_one_window(void)
{
	begin();
	for (uint64_t i = 0; i < 64; i++) {
		reads(i * MIB, MIB);
		drain();
	}
	uint64_t before = m.guessed;
	for (uint64_t i = 0; i < 64; i++) {
		reads(256 * MIB + i * MIB, MIB);
		drain();
	}
	CHECK(m.guessed - before <= 64 * MIB + 2 * WINDOW);
	CHECK(before <= 64 * MIB + 2 * WINDOW);
	end();
}

static void a_jump_starts_over_with_a_small_window(void)
{
	begin();
	for (uint64_t i = 0; i < 256; i++) {
		reads(i * 64 * KIB, 64 * KIB);
		drain();
	}
	uint64_t before = m.guessed;
	reads(300 * MIB, 64 * KIB);
	reads(300 * MIB + 64 * KIB, 64 * KIB);
	drain();
	CHECK_EQ(m.guessed, before);
	reads(300 * MIB + 128 * KIB, 64 * KIB);
	drain();
	CHECK_EQ(m.guessed - before, 128 * KIB);
	end();
}

static void idle_streams_get_nothing(void)
{
	begin();
	for (uint64_t i = 0; i < 16; i++)
		m.o->ops->saw(m.o, i * MIB, MIB, true);
	for (uint64_t i = 0; i < 400; i++) /* another goes on; nobody asks for guesses meanwhile */
		m.o->ops->saw(m.o, 200 * MIB + i * 64 * KIB, 64 * KIB, true);
	struct hither_range g;
	while (guess_one(&g))
		CHECK(g.offset >= 200 * MIB);
	CHECK(m.guessed > 0);
	end();
}

/* Reads count elements of len at step, in pieces of at most piece; returns how many were no full
 * hit. */
static int stride(uint64_t from, int64_t step, uint64_t len, uint64_t piece, int count)
{
	int missed = 0;
	for (int i = 0; i < count; i++) {
		uint64_t at = from + (uint64_t)(step * i);
		uint64_t first = at / PAGE * PAGE, last = (at + len + PAGE - 1) / PAGE * PAGE;
		bool hit = true;
		for (uint64_t p = first; p < last; p += piece) {
			hit = reads(p, last - p < piece ? last - p : piece) && hit;
			drain();
		}
		missed += !hit;
	}
	return missed;
}

static void strides_are_followed(void)
{
	const struct {
		uint64_t from;
		int64_t step;
		uint64_t len;
		int most_missed;
	} cases[] = {
	        {0, 2 * MIB, PAGE, 4},
	        {MIB, 160 * KIB, 8 * KIB, 4},
	        {SIZE - MIB, -(int64_t)MIB, 16 * KIB, 4},
	        {4 * MIB, 2 * MIB, 128 * KIB, 4},
	        {5000, 1000003, 100, 20}, /* steps that are no whole pages */
	        {SIZE - 10 * KIB, -1234567, 4000, 20},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		begin();
		int missed = stride(cases[i].from, cases[i].step, cases[i].len, MIB, 200);
		fprintf(stderr, "    case %zu: missed %d of 200, guessed %.2f of what was read\n",
		        i, missed, (double)m.guessed / (double)m.read);
		CHECK(missed <= cases[i].most_missed);
		CHECK(m.guessed <= 10 * m.read); /* two pages more on either side if uneven */
		if (cases[i].step % (int64_t)PAGE == 0) {
			CHECK_EQ(most_often(), 1);
			CHECK(m.guessed <= 2 * m.read); /* up to 128 elements ahead */
		}
		end();
	}
}

static void long_elements_of_a_stride_come_in_pieces(void)
{
	begin();
	int missed = stride(MIB, 5 * (int64_t)MIB, MIB, 128 * KIB, 100);
	fprintf(stderr, "    missed %d of 100, guessed %.2f of what was read\n", missed,
	        (double)m.guessed / (double)m.read);
	CHECK(missed <= 6);
	CHECK(m.guessed <= 3 * m.read / 2);
	end();
	begin();
	missed = stride(SIZE - 2 * MIB, -5 * (int64_t)MIB, 256 * KIB, 128 * KIB, 100);
	CHECK(missed <= 6);
	CHECK(m.guessed <= 3 * m.read / 2);
	end();
}

static void readers_at_even_distances_are_no_stride(void)
{
	begin();
	int missed = 0;
	for (uint64_t i = 0; i < 400; i++) {
		for (uint64_t k = 0; k < 8; k++) {
			missed += !reads(k * 64 * MIB + i * 128 * KIB, 128 * KIB);
			drain();
		}
	}
	CHECK(missed <= 40); /* of 3200 */
	end();
}

/* Bytes that were left behind since the last call; they go on from *at. */
static uint64_t left(uint64_t *at, bool backward)
{
	struct hither_range r;
	uint64_t sum = 0;
	while (m.o->ops->left(m.o, &r)) {
		CHECK(r.len > 0 && r.offset < SIZE && r.len <= SIZE - r.offset);
		CHECK_EQ(backward ? r.offset + r.len : r.offset, *at);
		*at = backward ? r.offset : r.offset + r.len;
		sum += r.len;
	}
	return sum;
}

static void what_a_long_run_leaves_behind_is_told_once(void)
{
	for (int backward = 0; backward < 2; backward++) {
		const uint64_t start = 64 * MIB, piece = 64 * KIB, all = 8 * MIB;
		uint64_t sum = 0, at = backward ? start + piece : start;
		begin();
		for (uint64_t done = 0; done < all; done += piece) {
			reads(backward ? start - done : start + done, piece);
			drain();
			uint64_t now = left(&at, backward);
			CHECK(!now || done + piece >= MIB); /* a short run may be read again */
			sum += now;
			CHECK(sum <= done); /* not what it reads just now */
		}
		CHECK(sum > all - MIB);
		end();
	}
}

static void random_reads_leave_nothing_behind(void)
{
	uint64_t at = 0;
	begin();
	for (int i = 0; i < 10000; i++) {
		reads(random_below(SIZE / PAGE) * PAGE, PAGE);
		drain();
		CHECK_EQ(left(&at, false), 0);
	}
	end();
}

static void odd_accesses_do_no_harm(void)
{
	begin();
	const uint64_t odd[] = {0, 1, PAGE, SIZE - 1, SIZE, SIZE + 1, INT64_MAX, UINT64_MAX};
	for (int round = 0; round < 2000; round++) {
		uint64_t offset = odd[random_below(8)], len = odd[random_below(8)];
		m.o->ops->saw(m.o, offset, len, round & 1);
		drain();
	}
	end();
	struct hither_order_view nothing = {0};
	struct hither_order *o;
	struct hither_range g;
	CHECK_OK(hither_order_readahead(&nothing, &o, &err));
	o->ops->saw(o, 0, 1, true);
	CHECK(!o->ops->next(o, WINDOW, &g));
	hither_order_destroy(o);
}

int main(void)
{
	RUN(random_reads_give_no_guesses);
	RUN(a_forward_reader_is_followed_to_the_end);
	RUN(a_backward_reader_is_followed_to_the_front);
	RUN(a_window_starts_small_and_grows_to_the_links);
	RUN(small_gaps_are_read_over);
	RUN(requests_that_overtake_each_other_are_one_stream);
	RUN(four_readers_among_noise_are_each_followed);
	RUN(streams_take_turns_and_who_waited_comes_first);
	RUN(a_reader_that_stops_costs_one_window);
	RUN(a_jump_starts_over_with_a_small_window);
	RUN(idle_streams_get_nothing);
	RUN(strides_are_followed);
	RUN(long_elements_of_a_stride_come_in_pieces);
	RUN(readers_at_even_distances_are_no_stride);
	RUN(what_a_long_run_leaves_behind_is_told_once);
	RUN(random_reads_leave_nothing_behind);
	RUN(odd_accesses_do_no_harm);
	return 0;
}
