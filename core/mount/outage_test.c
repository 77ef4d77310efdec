/* SPDX-License-Identifier: Apache-2.0 */
/* A line that is silent for a while, and comes back. Played by hand. */
#include "base/cleanup.h"
#include "mount/played.h"

enum { BLOCKS = 256, SIZE = BLOCKS * BLOCK, READ = 48, FLIGHT = 3 };

#define MS HITHER_NS_PER_MS

static struct managed_job jobs[MANAGED_WORKERS_MAX];
static unsigned count;

/* Bytes of which the test says when they come. */
struct line {
	struct hither_backend base;
	unsigned drops;
};

static int line_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	return hither_fail(err, -EIO, "line: the test brings what comes");
}

static void line_drop(struct hither_backend *b)
{
	((struct line *)b)->drops++;
}

static void line_close(struct hither_backend *b)
{
	free(b);
}

static const struct hither_backend_ops line_ops = {
        .name = "line", .read = line_read, .drop = line_drop, .close = line_close};
static const struct hither_backend_ops dropless_ops = {
        .name = "dropless", .read = line_read, .close = line_close};

/* 150 ms away, 12 Mbit/s. */
static struct managed *play_moody(const struct hither_backend_ops *ops)
{
	const struct hither_mount_options o = {.pull_off = true, .order = "none", .workers = 48};
	struct line *l = calloc(1, sizeof *l);
	CHECK(l);
	l->base = (struct hither_backend){
	        .ops = ops, .size_bytes = SIZE, .align_bytes = 1, .parallel = 48};
	struct managed *m = play_over(&l->base, &o);
	m->link = (struct hither_link){.rtt_min_ns = {150 * MS, 150 * MS},
	                               .rtt_period_ns = clock_ns,
	                               .rates = {1448000},
	                               .startup_flat = 3};
	count = 0;
	return m;
}

static unsigned drops(const struct managed *m)
{
	return ((const struct line *)m->base.backend)->drops;
}

static unsigned claim_all(struct managed *m)
{
	unsigned before = count;
	while (count < MANAGED_WORKERS_MAX && claim(m, &jobs[count]))
		count++;
	return count - before;
}

/* So many blocks of what is left of a job. */
static void bring(struct managed *m, struct managed_job *job, uint64_t blocks)
{
	static const char zeros[64 * BLOCK];
	uint64_t at = job->first + job->arrived / BLOCK;
	if (!job->first_byte_ns)
		job->first_byte_ns = clock_ns;
	CHECK_EQ(managed_commit(m, job, zeros, blocks * BLOCK, at * BLOCK), 0);
	if (job->arrived == (job->end - job->first) * BLOCK)
		settle(m, job, 0);
}

static void bring_rest(struct managed *m, struct managed_job *job)
{
	if (job->arrived < (job->end - job->first) * BLOCK)
		bring(m, job, job->end - job->first - job->arrived / BLOCK);
}

/* A reader, of whose requests the first block comes; then nothing does. */
static struct access *begin(struct managed *m)
{
	struct access *a = submit(m, HITHER_IO_READ, 100 * BLOCK, READ * BLOCK, 1);
	CHECK_EQ(claim_all(m), READ / FLIGHT);
	clock_ns += 150 * MS;
	for (unsigned i = 0; i < count; i++)
		bring(m, &jobs[i], 1);
	CHECK_EQ(claim_all(m), 0);
	return a;
}

static uint64_t next_event(struct managed *m)
{
	HITHER_LOCK_SCOPE(&m->lock);
	return managed_next_event_locked(m);
}

static void end(struct managed *m, struct access *a)
{
	CHECK(a->over);
	CHECK_EQ(a->result, 0);
	free(a);
	end_over(m);
}

static void in_silence_the_first_hole_is_asked_for_again_and_again(void)
{
	struct managed *m = play_moody(&line_ops);
	struct access *a = begin(m);
	uint64_t silent = clock_ns;
	for (unsigned probes = 1; probes <= 4; probes++) {
		uint64_t at = silent + 150 * MS * (1 + probes);
		CHECK(probes == 1 ? next_event(m) <= at : next_event(m) == at);
		clock_ns = at - 1;
		CHECK_EQ(claim_all(m), 0);
		clock_ns = at;
		CHECK_EQ(claim_all(m), 1);
		CHECK_EQ(jobs[count - 1].first, 101);
		CHECK_EQ(jobs[count - 1].end, 102);
	}
	/* With more patience, and not for ever. */
	unsigned more = 0;
	for (; clock_ns < silent + 30 * HITHER_NS_PER_S; clock_ns += 10 * MS)
		more += claim_all(m);
	CHECK(more >= 6 && more <= 12);
	CHECK_EQ(drops(m), 0);
	for (unsigned i = 0; i < count; i++)
		bring_rest(m, &jobs[i]);
	end(m, a);
}

static void what_was_silent_is_dropped_and_asked_for_anew(void)
{
	struct managed *m = play_moody(&line_ops);
	struct access *a = begin(m);
	unsigned old = count;
	for (unsigned i = 0; i < 90; i++, clock_ns += 10 * MS)
		claim_all(m);
	unsigned probes = count - old;
	CHECK(probes >= 3);
	/* The last but one was asked after the end. */
	struct managed_job *answered = &jobs[count - 2];
	bring(m, answered, answered->end - answered->first);
	CHECK_EQ(drops(m), 1);
	CHECK(!jobs[count - 1].dropped); /* which may be on its way */
	unsigned dropped = 0;
	for (unsigned i = 0; i < count; i++)
		dropped += jobs[i].dropped;
	CHECK_EQ(dropped, count - 2);
	for (unsigned i = 0; i < count; i++)
		if (jobs[i].dropped)
			settle(m, &jobs[i], -ECANCELED);
	CHECK_EQ(m->outstanding_bytes, (jobs[count - 1].end - jobs[count - 1].first) * BLOCK);
	/* From the reader's next on, in order, in what comes in one round trip. */
	uint64_t next = 102; /* of each request one has come */
	unsigned from = count;
	CHECK(claim_all(m) > 0);
	for (unsigned i = from; i < count; i++) {
		CHECK_EQ(jobs[i].first, next);
		CHECK(jobs[i].end - jobs[i].first <= FLIGHT);
		next = jobs[i].end + 1;
	}
	CHECK_EQ(next, 100 + READ + 1);
	for (unsigned i = from - 1; i < count; i++)
		bring_rest(m, &jobs[i]);
	CHECK_EQ(m->outstanding_bytes, 0);
	end(m, a);
}

/* What the order has said once is asked for anew by the mount, and before what it says next. */
static void guesses_come_back_in_their_order(void)
{
	struct managed *m = play_moody(&line_ops);
	struct access *a = begin(m);
	for (unsigned i = 0; i < count; i++)
		jobs[i].demand = false; /* as if nobody had waited */
	clock_ns += 1000 * MS;
	bring(m, &jobs[0], 1);
	CHECK_EQ(drops(m), 1);
	for (unsigned i = 1; i < count; i++)
		settle(m, &jobs[i], -ECANCELED);
	CHECK_EQ(m->guess.offset, (jobs[1].first + 1) * BLOCK);
	for (unsigned i = 0; i < m->later_count; i++)
		CHECK_EQ(m->later[i].offset, (jobs[i + 2].first + 1) * BLOCK);
	CHECK_EQ(m->later_count, count - 2);
	unsigned from = count;
	claim_all(m);
	bring_rest(m, &jobs[0]);
	for (unsigned i = from; i < count; i++)
		bring_rest(m, &jobs[i]);
	end(m, a);
}

static void a_short_silence_drops_nothing(void)
{
	struct managed *m = play_moody(&line_ops);
	struct access *a = begin(m);
	clock_ns += 310 * MS;
	unsigned old = count;
	bring(m, &jobs[1], 1);
	CHECK_EQ(drops(m), 0);
	for (unsigned i = 0; i < old; i++)
		bring_rest(m, &jobs[i]);
	end(m, a);
}

static void where_nothing_can_be_dropped_it_is_not_tried_so_often(void)
{
	struct managed *m = play_moody(&dropless_ops);
	struct access *a = begin(m);
	unsigned old = count;
	for (unsigned i = 0; i < 300; i++, clock_ns += 10 * MS)
		claim_all(m);
	CHECK(count - old <= 2 * READ / FLIGHT);
	for (unsigned i = old; i < count; i++) /* three requests for each block at most */
		CHECK(jobs[i].end <= 100 + READ);
	for (unsigned i = 0; i < count; i++)
		bring_rest(m, &jobs[i]);
	end(m, a);
}

/* On a narrow line what a lost packet holds up leaves room for others. */
static void what_is_lost_is_not_under_way(void)
{
	struct managed *m = play_moody(&line_ops);
	struct access *a = begin(m);
	uint64_t all = m->outstanding_bytes;
	for (unsigned i = 0; i < 44; i++) { /* the last request's bytes come one by one */
		clock_ns += 10 * MS;
		if (i == 14 || i == 43)
			bring(m, &jobs[count - 1], 1);
	}
	pthread_mutex_lock(&m->lock);
	CHECK_EQ(managed_under_way_locked(m), 0);
	CHECK_EQ(m->outstanding_bytes, all - 2 * BLOCK);
	m->link.rates[0] = 25000000;
	CHECK_EQ(managed_under_way_locked(m), m->outstanding_bytes);
	pthread_mutex_unlock(&m->lock);
	for (unsigned i = 0; i < count; i++)
		bring_rest(m, &jobs[i]);
	end(m, a);
}

int main(void)
{
	RUN(in_silence_the_first_hole_is_asked_for_again_and_again);
	RUN(what_was_silent_is_dropped_and_asked_for_anew);
	RUN(guesses_come_back_in_their_order);
	RUN(a_short_silence_drops_nothing);
	RUN(where_nothing_can_be_dropped_it_is_not_tried_so_often);
	RUN(what_is_lost_is_not_under_way);
	return 0;
}
