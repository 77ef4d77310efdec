/* SPDX-License-Identifier: Apache-2.0 */
/* A reader that jumps over a long way: what it waits for comes in one round trip. Played by hand.
 */
#include "mount/played.h"

enum { MIB_BLOCKS = 256, BLOCKS = 16 * MIB_BLOCKS, FLIGHT = 3 };

static struct managed_job jobs[MANAGED_WORKERS_MAX], others[MANAGED_WORKERS_MAX];

/* 50 ms away, 25 MB a second. */
static struct played play_far(void)
{
	struct played p = play(BLOCKS * (uint64_t)BLOCK, 0);
	p.m->link = (struct hither_link){
	        .rtt_min_ns = {50 * HITHER_NS_PER_MS}, .rates = {25000000}, .startup_flat = 3};
	return p;
}

static unsigned claim_all(struct managed *m, struct managed_job *list)
{
	unsigned count = 0;
	while (count < MANAGED_WORKERS_MAX && claim(m, &list[count]))
		count++;
	return count;
}

static void bring_all(struct played *p, struct managed_job *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		for (uint64_t at = list[i].first; at < list[i].end; at++)
			deliver(p, &list[i], at, 1);
		settle(p->m, &list[i], 0);
	}
}

static void what_a_jump_waits_for_comes_in_one_flight(void)
{
	struct played p = play_far();
	struct access *a = submit(p.m, HITHER_IO_READ, 100 * BLOCK, 32 * BLOCK, 1);
	unsigned count = claim_all(p.m, jobs);
	CHECK_EQ(count, 11);
	for (unsigned i = 0; i < count; i++)
		CHECK(jobs[i].demand && jobs[i].end - jobs[i].first <= FLIGHT);
	bring_all(&p, jobs, count);
	expect_content(a);
	free(a);
	/* Whoever goes on is served as ever. */
	a = submit(p.m, HITHER_IO_READ, 132 * BLOCK, 32 * BLOCK, 1);
	CHECK_EQ(count = claim_all(p.m, jobs), 4);
	bring_all(&p, jobs, count);
	expect_content(a);
	free(a);
	end_play(&p);
}

static void where_something_is_under_way_already_is_no_jump(void)
{
	struct played p = play_far();
	struct access *a = submit(p.m, HITHER_IO_READ, 100 * BLOCK, BLOCK, 1);
	CHECK_EQ(claim(p.m, &jobs[0]), MANAGED_JOB_PULL);
	struct access *b = submit(p.m, HITHER_IO_READ, 101 * BLOCK, 32 * BLOCK, 1);
	CHECK_EQ(claim(p.m, &jobs[1]), MANAGED_JOB_PULL);
	CHECK_EQ(jobs[1].end - jobs[1].first, 8);
	bring_all(&p, jobs, 2);
	unsigned count = claim_all(p.m, jobs);
	bring_all(&p, jobs, count);
	expect_content(a);
	expect_content(b);
	free(a);
	free(b);
	end_play(&p);
}

static void near_by_nothing_is_cut_short(void)
{
	struct played p = play(BLOCKS * (uint64_t)BLOCK, 0);
	struct access *a = submit(p.m, HITHER_IO_READ, 100 * BLOCK, 32 * BLOCK, 1);
	unsigned count = claim_all(p.m, jobs);
	CHECK_EQ(count, 1);
	bring_all(&p, jobs, count);
	expect_content(a);
	free(a);
	end_play(&p);
}

/* Very many who wait are served by longer requests, lest there be thousands. */
static void a_crowd_gets_longer_requests(void)
{
	struct played p = play_far();
	struct access *readers[40];
	for (unsigned i = 0; i < 40; i++)
		readers[i] = submit(p.m, HITHER_IO_READ, (uint64_t)i * 100 * BLOCK, 64 * BLOCK, 1);
	unsigned count = claim_all(p.m, jobs);
	CHECK_EQ(count, p.m->jobs_max);
	CHECK(jobs[count - 1].end - jobs[count - 1].first > FLIGHT);
	for (; count > 0; count = claim_all(p.m, jobs))
		for (unsigned i = 0; i < count; i++) /* one place at a time becomes free */
			bring_all(&p, &jobs[i], 1);
	for (unsigned i = 0; i < 40; i++) {
		expect_content(readers[i]);
		free(readers[i]);
	}
	end_play(&p);
}

static struct played *playing;
static struct hither_range said;
static uint64_t hurried;

static bool next_said(struct hither_order *order, uint64_t window_bytes, struct hither_range *out)
{
	*out = said;
	said.len = 0;
	return out->len > 0;
}

static void hurry(struct hither_order *order, uint64_t offset, uint64_t len, bool waited)
{
	if (hurried)
		playing->m->view.hurry(&playing->m->view, hurried);
}

static const struct hither_order_ops ops = {.name = "said", .next = next_said, .saw = hurry};

/* The line is in use by guesses of yesterday; what an order says of a jump takes the places that
 * are kept for those who wait, each run in a request of its own. */
static void what_is_guessed_of_a_jump_is_as_quick(void)
{
	struct played p = play_far();
	struct hither_order order = {&ops};
	p.m->order = &order;
	p.m->stats.pulled_bytes = 100 << 20; /* all connections are warm */
	said = (struct hither_range){0, 8 * MIB_BLOCKS * BLOCK};
	unsigned before = claim_all(p.m, others);
	CHECK(before > 4 && before <= managed_guess_places(p.m));
	CHECK(p.m->outstanding_bytes >= hither_link_window(&p.m->link));
	for (unsigned i = 0; i < before; i++) /* half of it is here */
		for (uint64_t at = others[i].first; at < (others[i].first + others[i].end) / 2;
		     at++)
			deliver(&p, &others[i], at, 1);
	p.m->guess.len = 0;
	said = (struct hither_range){12 * MIB_BLOCKS * BLOCK, 128 * BLOCK};
	playing = &p;
	hurried = 120 * BLOCK;
	struct access *a = submit(p.m, HITHER_IO_READ, 12 * MIB_BLOCKS * BLOCK, BLOCK, 1);
	unsigned count = claim_all(p.m, jobs);
	CHECK_EQ(count, p.m->jobs_max - 1 - before);
	for (unsigned i = 0; i + 2 < count; i++)
		CHECK(!jobs[i].more && jobs[i].end - jobs[i].first <= FLIGHT);
	CHECK(p.m->hurry_bytes > 0 && p.m->hurry_bytes < 90 * BLOCK);
	bring_all(&p, jobs, count);
	expect_content(a);
	free(a);
	hurried = 0;
	while ((count = claim_all(p.m, jobs)) > 0)
		bring_all(&p, jobs, count);
	CHECK_EQ(p.m->hurry_bytes, 0);
	CHECK_EQ(state_of(p.m, 12 * MIB_BLOCKS + 127), HITHER_BLOCK_LOCAL);
	for (unsigned i = 0; i < before; i++) {
		for (uint64_t at = (others[i].first + others[i].end) / 2; at < others[i].end; at++)
			deliver(&p, &others[i], at, 1);
		settle(p.m, &others[i], 0);
	}
	p.m->order = NULL;
	end_play(&p);
}

/* No crumbs are left at the chunks' borders. */
static void no_crumbs_are_asked_for(void)
{
	struct played p = play_far();
	struct hither_order order = {&ops};
	p.m->order = &order;
	said = (struct hither_range){0, 4 * MIB_BLOCKS * BLOCK};
	for (int i = 0; i < 8; i++) {
		p.m->stats.pulled_bytes = 48
		                          << 10; /* over one connection: requests are of 60 KiB */
		CHECK_EQ(claim(p.m, &jobs[0]), MANAGED_JOB_PULL);
		CHECK_EQ(jobs[0].end - jobs[0].first, 15);
		bring_all(&p, jobs, 1);
	}
	p.m->order = NULL;
	end_play(&p);
}

/* What a backend is told that brings a read over several connections. */
static void parts_are_for_what_somebody_waits_for_or_soon_will(void)
{
	const struct hither_mount_options o = {.order = "none", .deadline_ms = 1000};
	struct hither_backend *b = filled(BLOCKS * (uint64_t)BLOCK);
	b->spread = 48;
	struct played p = {.m = play_over(b, &o), .memory = b};
	struct hither_order order = {&ops};
	p.m->order = &order;
	p.m->link = (struct hither_link){0};
	hurried = 0;
	said = (struct hither_range){0, 16 * BLOCK};
	struct access *a = submit(p.m, HITHER_IO_READ, 1000 * BLOCK, BLOCK, 1);
	unsigned count = claim_all(p.m, jobs);
	CHECK(count > 2 && jobs[0].demand && !jobs[1].demand && jobs[1].first == 0);
	CHECK_EQ(jobs[0].flight_bytes, 32 << 10);
	CHECK_EQ(jobs[1].flight_bytes, 32 << 10);
	CHECK(jobs[count - 1].first > jobs[1].end && !jobs[count - 1].flight_bytes);
	struct managed_sink s;
	managed_sink_init(&s, p.m, &jobs[0]);
	CHECK_EQ(s.sink.flight_bytes, 32 << 10);
	for (; count > 0; count = claim_all(p.m, jobs))
		bring_all(&p, jobs, count);
	expect_content(a);
	free(a);
	p.m->order = NULL;
	end_play(&p);
}

int main(void)
{
	RUN(what_a_jump_waits_for_comes_in_one_flight);
	RUN(where_something_is_under_way_already_is_no_jump);
	RUN(near_by_nothing_is_cut_short);
	RUN(a_crowd_gets_longer_requests);
	RUN(what_is_guessed_of_a_jump_is_as_quick);
	RUN(no_crumbs_are_asked_for);
	RUN(parts_are_for_what_somebody_waits_for_or_soon_will);
	return 0;
}
