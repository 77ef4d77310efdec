/* SPDX-License-Identifier: Apache-2.0 */
/* What an order hears, and what becomes of what it says. */
#include "base/cleanup.h"
#include "mount/played.h"

#include <sched.h>
#include <stdatomic.h>

enum {
	RANGES = 100,
	RANGE_BLOCKS = 96, /* several requests */
	FAR = RANGES * RANGE_BLOCKS,
	READS = 3 * RANGES,
	ACCESSES = 50000,
	CLAIMERS = 4,
};

static unsigned said;

static bool next_range(struct hither_order *order, uint64_t window_bytes, struct hither_range *out)
{
	if (said == RANGES)
		return false;
	*out = (struct hither_range){(uint64_t)said++ * RANGE_BLOCKS * BLOCK, RANGE_BLOCKS * BLOCK};
	return true;
}

static void ignore(struct hither_order *order, uint64_t offset, uint64_t len, bool waited)
{
}

/* The network brings a job whole. */
static void bring(struct played *p, struct managed_job *job)
{
	for (uint64_t at = job->first; at < job->end; at++)
		deliver(p, job, at, 1);
	settle(p->m, job, 0);
}

/* Claim what is next; true: a guess, which must come after those before it. */
static bool next_guess(struct played *p, uint64_t *at)
{
	struct managed_job job;
	if (claim(p->m, &job) != MANAGED_JOB_PULL)
		return false;
	bool guess = !job.demand;
	if (guess) {
		CHECK_EQ(job.first, *at);
		*at = job.end;
	}
	bring(p, &job);
	return guess;
}

/*
 * Somebody waits again and again, and the order is asked each time, first of all; what it says goes
 * on where it was before. In old days the latest came first, and where there was no more room for
 * them some were lost, and never said again.
 */
static void guesses_that_go_on_keep_their_order_and_none_is_lost(void)
{
	static const struct hither_order_ops ops = {
	        .name = "along", .next = next_range, .saw = ignore};
	struct played p = play((FAR + 2 * READS) * BLOCK, 0);
	uint64_t at = 0;
	p.m->link = (struct hither_link){0}; /* far away, and new */
	said = 0;
	p.m->order = &(struct hither_order){&ops};
	for (uint64_t i = 0; i < READS; i++) {
		struct access *a = submit(p.m, HITHER_IO_READ, (FAR + 2 * i) * BLOCK, 10, 1);
		CHECK(!next_guess(&p, &at)); /* whoever waits comes first */
		expect_content(a);
		free(a);
		next_guess(&p, &at);
	}
	while (next_guess(&p, &at))
		;
	CHECK_EQ(at, FAR);
	p.m->order = NULL;
	end_play(&p);
}

static struct managed *thinks_for;

/* Nothing, and while it thinks it may yet say something. */
static bool next_nothing(struct hither_order *order, uint64_t window_bytes,
                         struct hither_range *out)
{
	struct managed_job job;
	CHECK_EQ(claim(thinks_for, &job), MANAGED_JOB_NONE); /* another thread's */
	said++;
	return false;
}

/* In old days any other thread swept meanwhile, and the line had what nobody will read soon. */
static void nobody_sweeps_while_the_order_thinks(void)
{
	static const struct hither_order_ops ops = {
	        .name = "thinks", .next = next_nothing, .saw = ignore};
	struct played p = play(FAR * BLOCK, 0);
	struct managed_job job;
	thinks_for = p.m;
	said = 0;
	p.m->pull_off = false;
	p.m->order = &(struct hither_order){&ops};
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK(said == 1 && p.m->order_idle);
	bring(&p, &job);
	p.m->order = NULL;
	end_play(&p);
}

static bool next_one_then_hold(struct hither_order *order, uint64_t window_bytes,
                               struct hither_range *out)
{
	*out = (struct hither_range){0, said++ ? 0 : BLOCK};
	return true;
}

static void what_an_order_holds_the_line_for_may_fail_to_come(void)
{
	static const struct hither_order_ops ops = {
	        .name = "holds", .next = next_one_then_hold, .saw = ignore};
	struct played p = play(FAR * BLOCK, 0);
	struct managed_job job, sweeps[2];
	said = 0;
	p.m->pull_off = false;
	p.m->order = &(struct hither_order){&ops};
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK_EQ(claim(p.m, &sweeps[0]), MANAGED_JOB_NONE);
	settle(p.m, &job, -EIO);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(claim(p.m, &sweeps[i]), MANAGED_JOB_PULL);
	for (int i = 0; i < 2; i++)
		bring(&p, &sweeps[i]);
	p.m->order = NULL;
	end_play(&p);
}

/* What a hashed piece is made of comes before it does: that is when the line is measured. */
static void bytes_that_are_held_are_measured_as_they_come(void)
{
	struct played p = play(FAR * BLOCK, 0);
	struct managed_job job;
	struct managed_sink s;
	char block[BLOCK] = {0};
	p.m->link = (struct hither_link){0};
	p.m->pull_off = false;
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK(job.end - job.first >= 2);
	managed_sink_init(&s, p.m, &job);
	clock_ns += 50 * HITHER_NS_PER_MS;
	s.sink.held(&s.sink, 1000);
	CHECK_EQ(hither_link_rtt_ns(&p.m->link), 50 * HITHER_NS_PER_MS);
	clock_ns += 20 * HITHER_NS_PER_MS;
	s.sink.held(&s.sink, 2000);
	CHECK_EQ(p.m->link.round_bytes, 2000); /* those before open the round */
	CHECK_EQ(s.sink.take(&s.sink, block, sizeof block), 0);
	CHECK_EQ(p.m->link.round_bytes, 2000 + BLOCK - 3000);
	CHECK_EQ(s.sink.take(&s.sink, block, sizeof block), 0);
	CHECK_EQ(p.m->link.round_bytes, 2000 + 2 * BLOCK - 3000);
	CHECK_EQ(hither_link_rtt_ns(&p.m->link), 50 * HITHER_NS_PER_MS);
	settle(p.m, &job, 0);
	end_play(&p);
}

/* Under TSan, where claimers that spin take all of two processors, each costs a millisecond. */
#ifdef __SANITIZE_THREAD__
enum { TOLD = ACCESSES / 10 };
#else
enum { TOLD = ACCESSES };
#endif

static _Atomic uint64_t told;
static atomic_bool turned_back, over;

static void must_go_on(struct hither_order *order, uint64_t offset, uint64_t len, bool waited)
{
	if (offset < told)
		turned_back = true;
	told = offset;
	sched_yield();
}

static void *claims(void *arg)
{
	struct managed *m = arg;
	struct managed_job job;
	while (!over)
		CHECK_EQ(claim(m, &job), MANAGED_JOB_NONE);
	return NULL;
}

/* Several threads tell the order what was seen: a reader that goes on must not seem to go back. */
static void the_order_hears_of_accesses_in_their_order(void)
{
	static const struct hither_order_ops ops = {.name = "heard", .saw = must_go_on};
	struct played p = play(ACCESSES, 0);
	pthread_t threads[CLAIMERS];
	struct access *a = submit(p.m, HITHER_IO_READ, 0, ACCESSES, 1);
	told = 0;
	run_all(p.m);
	expect_content(a);
	free(a);
	p.m->order = &(struct hither_order){&ops};
	for (int i = 0; i < CLAIMERS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, claims, p.m), 0);
	for (size_t i = 0; i < TOLD; i++) {
		a = submit(p.m, HITHER_IO_READ, i, 1, 1); /* local: answered at once */
		CHECK(a->over);
		free(a);
	}
	over = true;
	for (int i = 0; i < CLAIMERS; i++)
		pthread_join(threads[i], NULL);
	CHECK(!turned_back);
	p.m->order = NULL;
	end_play(&p);
}

/* --- several threads ask --- */

enum { STEPS = 20000 };

static bool next_step(struct hither_order *order, uint64_t window_bytes, struct hither_range *out)
{
	if (said == STEPS)
		return false;
	*out = (struct hither_range){(uint64_t)said++ * BLOCK, BLOCK};
	return true;
}

static struct played *claimed;
static uint64_t latest;
static unsigned steps_claimed, backwards;

static void *claim_steps(void *arg)
{
	struct managed *m = claimed->m;
	for (bool more = true; more;) {
		struct managed_job job;
		pthread_mutex_lock(&m->lock);
		bool got = managed_claim_locked(m, &job);
		if (got) {
			backwards += steps_claimed++ && job.first < latest;
			latest = job.first;
		}
		more = got || m->order_thinking; /* then this one was turned away */
		pthread_mutex_unlock(&m->lock);
		if (!got) {
			sched_yield();
			continue;
		}
		managed_arrived(m, job.first * BLOCK, BLOCK); /* others may ask it, too */
		settle(m, &job, -ECANCELED);
	}
	return NULL;
}

/* What it says first is asked for first, though threads that asked it wait for the mount. */
static void what_is_said_first_is_guessed_first(void)
{
	static const struct hither_order_ops ops = {.name = "steps", .next = next_step};
	struct hither_order order = {&ops};
	struct played p = play(STEPS * (uint64_t)BLOCK, 0);
	pthread_t threads[CLAIMERS];
	p.m->order = &order;
	said = steps_claimed = backwards = 0;
	claimed = &p;
	for (int i = 0; i < CLAIMERS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, claim_steps, NULL), 0);
	for (int i = 0; i < CLAIMERS; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(steps_claimed, STEPS);
	CHECK_EQ(backwards, 0);
	p.m->order = NULL;
	end_play(&p);
}

int main(void)
{
	RUN(guesses_that_go_on_keep_their_order_and_none_is_lost);
	RUN(nobody_sweeps_while_the_order_thinks);
	for (int i = 0; i < 4; i++) /* two threads must meet */
		RUN(what_is_said_first_is_guessed_first);
	RUN(what_an_order_holds_the_line_for_may_fail_to_come);
	RUN(bytes_that_are_held_are_measured_as_they_come);
	RUN(the_order_hears_of_accesses_in_their_order);
	return 0;
}
