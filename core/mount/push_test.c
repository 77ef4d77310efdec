/* SPDX-License-Identifier: Apache-2.0 */
/* What is pushed, when, and what is said about it. */
#include "mount/played.h"

/* Write the first block and ask for a flush: its push is claimed. */
static struct access *write_and_flush(struct managed *m, struct managed_job *push)
{
	free(submit(m, HITHER_IO_WRITE, 0, BLOCK, 'a'));
	struct access *flush = submit(m, HITHER_IO_FLUSH, 0, 0, 0);
	CHECK_EQ(claim(m, push), MANAGED_JOB_PUSH);
	return flush;
}

/* Rule 5 */
static void a_block_written_while_it_is_pushed_stays_dirty(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job push, flush;
	free(submit(p.m, HITHER_IO_WRITE, 0, 2 * BLOCK, 'a'));
	struct access *f = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	CHECK_EQ(claim(p.m, &push), MANAGED_JOB_PUSH);
	free(submit(p.m, HITHER_IO_WRITE, BLOCK, BLOCK, 'b'));
	settle(p.m, &push, 0);
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_PUSHED);
	CHECK_EQ(state_of(p.m, 1), HITHER_BLOCK_DIRTY);
	CHECK_EQ(claim(p.m, &flush), MANAGED_JOB_FLUSH);
	CHECK(!f->over);
	settle(p.m, &flush, 0);
	CHECK(f->over && !f->result);
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_LOCAL);
	CHECK_EQ(state_of(p.m, 1), HITHER_BLOCK_DIRTY);
	free(f);
	end_play(&p);
}

static void a_flush_that_joins_a_round_waits_for_what_was_rewritten(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job push, again;
	struct hither_error err = {0};
	struct access *one = write_and_flush(p.m, &push); /* sends 'a' */
	free(submit(p.m, HITHER_IO_WRITE, 0, BLOCK, 'b'));
	struct access *two = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	settle(p.m, &push, 0);
	CHECK_EQ(claim(p.m, &again), MANAGED_JOB_PUSH); /* 'b' must go too before `two` ends */
	CHECK(!one->over && !two->over);
	managed_run(p.m, &again);
	run_all(p.m);
	CHECK(one->over && two->over && !two->result);
	char c;
	CHECK_OK(hither_backend_read_at(p.memory, &c, 1, 0, &err));
	CHECK_EQ(c, 'b');
	free(one);
	free(two);
	end_play(&p);
}

/* Of the little that somebody waits for each push is durable; of much one flush is quicker. */
static void what_is_waited_for_goes_through(void)
{
	struct played p = play(64 * BLOCK, 0);
	struct managed_job push;
	struct access *one = write_and_flush(p.m, &push);
	CHECK(push.through);
	managed_run(p.m, &push);
	run_all(p.m);
	CHECK(one->over && !one->result);
	free(submit(p.m, HITHER_IO_WRITE, 0, 40 * BLOCK, 'b'));
	struct access *two = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	CHECK_EQ(claim(p.m, &push), MANAGED_JOB_PUSH);
	CHECK(!push.through);
	managed_run(p.m, &push);
	run_all(p.m);
	CHECK(two->over && !two->result);
	free(submit(p.m, HITHER_IO_WRITE, 0, BLOCK, 'c'));
	clock_ns += 6 * HITHER_NS_PER_S; /* nobody waits */
	CHECK_EQ(claim(p.m, &push), MANAGED_JOB_PUSH);
	CHECK(!push.through);
	managed_run(p.m, &push);
	run_all(p.m);
	free(one);
	free(two);
	end_play(&p);
}

/* Rule 6 */
static void a_failed_push_is_told_and_tried_again(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job job;
	struct access *f = write_and_flush(p.m, &job);
	settle(p.m, &job, -EIO);
	CHECK(f->over);
	CHECK_EQ(f->result, -EIO);
	CHECK(strstr(f->err.message, "played failure"));
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_DIRTY);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_NONE);
	clock_ns += 6 * HITHER_NS_PER_S; /* by itself, after a while */
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PUSH);
	managed_run(p.m, &job);
	run_all(p.m);
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_LOCAL);
	free(f);
	end_play(&p);
}

static void a_failed_backend_flush_fails_ours(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job job;
	struct access *f = write_and_flush(p.m, &job);
	managed_run(p.m, &job);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_FLUSH);
	settle(p.m, &job, -EIO);
	CHECK(f->over);
	CHECK_EQ(f->result, -EIO);
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_DIRTY);
	free(f);
	end_play(&p);
}

static void a_server_that_forgot_gets_everything_again(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job job;
	struct access *f = write_and_flush(p.m, &job);
	managed_run(p.m, &job);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_FLUSH);
	settle(p.m, &job, -EREMOTEIO);
	CHECK(!f->over);
	clock_ns += HITHER_NS_PER_S;
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PUSH);
	managed_run(p.m, &job);
	run_all(p.m);
	CHECK(f->over && !f->result);
	free(f);
	end_play(&p);
}

static void dirty_blocks_are_pushed_by_default(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job job;
	free(submit(p.m, HITHER_IO_WRITE, 0, BLOCK, 'a'));
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_NONE); /* writes of one moment are merged */
	free(submit(p.m, HITHER_IO_WRITE, BLOCK, BLOCK, 'a'));
	clock_ns += 5 * HITHER_NS_PER_S;
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PUSH);
	CHECK_EQ(job.end - job.first, 2);
	managed_run(p.m, &job);
	run_all(p.m);
	CHECK(!managed_dirty_locked(p.m));
	end_play(&p);
}

/* --- the way out --- */

/* Pushes under way on a line with a rate and a round trip; they leave one after another. */
struct line {
	struct managed_job job[MANAGED_PUSHES_MAX];
	uint64_t arrives_ns[MANAGED_PUSHES_MAX]; /* 0: free */
	uint64_t free_ns;                        /* when the line has sent what it was given */
	uint64_t bytes;
};

enum { RATE = 25000000 };
#define ROUND_TRIP (50 * HITHER_NS_PER_MS)

static void send_all(struct line *l, struct managed *m)
{
	for (unsigned i = 0; i < MANAGED_PUSHES_MAX; i++) {
		enum managed_job_kind kind =
		        l->arrives_ns[i] ? MANAGED_JOB_NONE : claim(m, &l->job[i]);
		if (kind == MANAGED_JOB_FLUSH)
			settle(m, &l->job[i], 0);
		if (kind != MANAGED_JOB_PUSH)
			continue;
		uint64_t len = managed_bytes(m, l->job[i].first, l->job[i].end);
		uint64_t start = l->free_ns > clock_ns ? l->free_ns : clock_ns;
		l->free_ns = start + len * HITHER_NS_PER_S / RATE;
		l->arrives_ns[i] = l->free_ns + ROUND_TRIP;
		l->bytes += len;
	}
}

static bool receive_one(struct line *l, struct managed *m)
{
	int next = -1;
	for (int i = 0; i < MANAGED_PUSHES_MAX; i++)
		if (l->arrives_ns[i] && (next < 0 || l->arrives_ns[i] < l->arrives_ns[next]))
			next = i;
	if (next < 0)
		return false;
	clock_ns = l->arrives_ns[next];
	l->arrives_ns[next] = 0;
	l->bytes -= managed_bytes(m, l->job[next].first, l->job[next].end);
	settle(m, &l->job[next], 0);
	return true;
}

static void the_way_out_is_filled_and_not_overfilled(void)
{
	enum { PIECE = 64 * BLOCK, SIZE = 48 << 20 };
	const uint64_t product = RATE / 20;
	struct played p = play(SIZE, 0);
	struct line l = {0};
	uint64_t most = 0;
	for (uint64_t at = 0; at < SIZE; at += PIECE)
		free(submit(p.m, HITHER_IO_WRITE, at, PIECE, 'w'));
	struct access *f = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	uint64_t begin = clock_ns;
	do {
		send_all(&l, p.m);
		most = l.bytes > most ? l.bytes : most;
	} while (receive_one(&l, p.m));
	uint64_t took = clock_ns - begin, ideal = (uint64_t)SIZE * HITHER_NS_PER_S / RATE;
	CHECK(most <= product * 5 / 2);
	CHECK(took <= ideal * 11 / 10 + 4 * ROUND_TRIP);
	CHECK(f->over && !f->result);
	CHECK(!managed_dirty_locked(p.m));
	free(f);
	end_play(&p);
}

/* Whoever waits for room under a limit on memory waits for the end of a round: it is short, and the
 * next one goes on where it was cut. One that a flush waits for sends everything. */
static void a_round_that_only_makes_room_is_short(void)
{
	enum { BLOCKS = 16384, LIMIT = 8192, DIRTY = 8000 };
	const struct hither_mount_options o = {.pull_off = true,
	                                       .order = "none",
	                                       .resident_bytes = (uint64_t)LIMIT * BLOCK,
	                                       .push_dirty_bytes = 64 * BLOCK,
	                                       .push_interval_ms = UINT32_MAX};
	struct managed *m = play_over(filled((uint64_t)BLOCKS * BLOCK), &o);
	struct managed_job job;
	uint64_t pushed = 0, last = 0;
	pthread_mutex_lock(&m->lock);
	CHECK_EQ(hither_block_map_set(m->map, 0, DIRTY, HITHER_BLOCK_DIRTY), 0);
	pthread_mutex_unlock(&m->lock);
	for (; claim(m, &job) == MANAGED_JOB_PUSH; pushed += job.end - job.first) {
		last = job.end;
		managed_run(m, &job);
	}
	CHECK_EQ(job.kind, MANAGED_JOB_FLUSH);
	CHECK(pushed >= LIMIT / 16 && pushed < LIMIT / 2);
	managed_run(m, &job);
	CHECK_EQ(hither_block_map_count(m->map, HITHER_BLOCK_LOCAL), pushed);
	while (claim(m, &job) == MANAGED_JOB_EVICT)
		managed_run(m, &job);
	CHECK_EQ(job.kind, MANAGED_JOB_PUSH);
	CHECK_EQ(job.first, last);
	managed_run(m, &job);
	struct access *flush = submit(m, HITHER_IO_FLUSH, 0, 0, 0);
	run_all(m);
	CHECK(flush->over && !flush->result);
	CHECK_EQ(hither_block_map_count(m->map, HITHER_BLOCK_DIRTY), 0);
	free(flush);
	m->base.writable = false;
	end_over(m);
}

int main(void)
{
	RUN(a_round_that_only_makes_room_is_short);
	RUN(a_block_written_while_it_is_pushed_stays_dirty);
	RUN(a_flush_that_joins_a_round_waits_for_what_was_rewritten);
	RUN(what_is_waited_for_goes_through);
	RUN(a_failed_push_is_told_and_tried_again);
	RUN(a_failed_backend_flush_fails_ours);
	RUN(a_server_that_forgot_gets_everything_again);
	RUN(dirty_blocks_are_pushed_by_default);
	RUN(the_way_out_is_filled_and_not_overfilled);
	return 0;
}
