/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the managed mount (docs/architecture.md), each by a test that fails when it is
 * broken, and the defects of the design it descends from. Most are played by hand: no threads, a
 * clock of our own, and the test is the network.
 */
#include "base/clock.h"
#include "check.h"
#include "mount/managed.h"

#include <errno.h>
#include <hither/layer.h>
#include <string.h>
#include <unistd.h>

#define BLOCK HITHER_BLOCK_BYTES

static uint64_t clock_ns;
static uint64_t test_now(void)
{
	return clock_ns;
}

struct access {
	struct hither_io io;
	bool over;
	int result;
	struct hither_error err;
	char buf[64 * BLOCK];
};

static void access_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct access *a = (struct access *)io;
	CHECK(!a->over);
	a->over = true;
	a->result = result;
	a->err = *err;
}

static char content(uint64_t offset)
{
	return (char)(offset * 31 + offset / BLOCK);
}

struct played {
	struct managed *m;
	struct hither_backend *memory;
};

static struct hither_backend *filled(uint64_t size)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	CHECK_OK(hither_backend_memory_create(size, &b, &err));
	char *bytes = malloc(size + 1);
	for (uint64_t i = 0; i < size; i++)
		bytes[i] = content(i);
	CHECK_OK(hither_backend_write_at(b, bytes, size, 0, &err));
	free(bytes);
	return b;
}

static struct managed *by_hand(struct managed *m)
{
	m->now = test_now;
	clock_ns = 1000 * HITHER_NS_PER_S;
	m->progress_ns = clock_ns;
	return m;
}

static struct played play(uint64_t size, uint64_t cap)
{
	struct hither_error err = {0};
	struct hither_mount_options o = {
	        .pull_off = true, .order = "none", .cache_cap_bytes = cap, .deadline_ms = 1000};
	struct hither_mount *mount;
	struct hither_backend *b = filled(size);
	managed_by_hand = true;
	CHECK_OK(hither_mount_backend(b, "played", &o, &mount, &err));
	managed_by_hand = false;
	return (struct played){.m = by_hand(managed_of(mount)), .memory = b};
}

static void end_play(struct played *p)
{
	struct hither_error err = {0};
	p->m->base.writable = false;
	CHECK_OK(hither_mount_close(&p->m->base, &err));
}

static struct access *submit(struct managed *m, enum hither_io_op op, uint64_t offset, size_t len,
                             int fill)
{
	struct access *a = calloc(1, sizeof *a);
	memset(a->buf, fill, sizeof a->buf);
	a->io = (struct hither_io){
	        .op = op, .offset = offset, .len = len, .buf = a->buf, .done = access_done};
	hither_mount_submit(&m->base, &a->io);
	return a;
}

static void expect_content(const struct access *a)
{
	CHECK(a->over);
	CHECK_EQ(a->result, 0);
	for (size_t i = 0; i < a->io.len; i++)
		CHECK_EQ(a->buf[i], content(a->io.offset + i));
}

static enum managed_job_kind claim(struct managed *m, struct managed_job *job)
{
	pthread_mutex_lock(&m->lock);
	bool got = managed_claim_locked(m, job);
	pthread_mutex_unlock(&m->lock);
	return got ? job->kind : MANAGED_JOB_NONE;
}

static void deliver(struct played *p, struct managed_job *job, uint64_t first, uint64_t count)
{
	struct hither_error err = {0};
	char buf[64 * BLOCK];
	uint64_t len = managed_bytes(p->m, first, first + count);
	CHECK_OK(hither_backend_read_at(p->memory, buf, len, first * BLOCK, &err));
	if (!job->first_byte_ns)
		job->first_byte_ns = clock_ns;
	CHECK_EQ(managed_commit(p->m, job, buf, len, first * BLOCK), 0);
}

static void settle(struct managed *m, struct managed_job *job, int result)
{
	struct hither_error err = {0};
	if (result)
		hither_fail(&err, result, "played failure");
	if (job->kind == MANAGED_JOB_PULL)
		managed_settle_pull(m, job, result, &err);
	else if (job->kind == MANAGED_JOB_PUSH)
		managed_settle_push(m, job, result, &err);
	else
		managed_settle_flush(m, job, result, &err);
}

/* Run whatever there is to do, honestly, until nothing is. */
static void run_all(struct managed *m)
{
	struct managed_job job;
	while (claim(m, &job) != MANAGED_JOB_NONE)
		managed_run(m, &job);
}

static enum hither_block_state state_of(struct managed *m, uint64_t block)
{
	return hither_block_map_get(m->map, block);
}

/* Rules 1 and 2 */
static void a_reader_waits_for_its_own_blocks_only(void)
{
	struct played p = play(8 * BLOCK, 0);
	struct managed_job job;
	struct access *all = submit(p.m, HITHER_IO_READ, 0, 8 * BLOCK, 1);
	struct access *second = submit(p.m, HITHER_IO_READ, BLOCK + 5, 7, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK_EQ(job.first, 0);
	CHECK_EQ(job.end, 8);
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_ABSENT);
	deliver(&p, &job, 0, 1);
	CHECK(!second->over);
	deliver(&p, &job, 1, 1);
	expect_content(second);
	CHECK(!all->over);
	CHECK_EQ(state_of(p.m, 1), HITHER_BLOCK_LOCAL);
	CHECK_EQ(state_of(p.m, 2), HITHER_BLOCK_ABSENT);
	deliver(&p, &job, 2, 6);
	settle(p.m, &job, 0);
	expect_content(all);
	free(all);
	free(second);
	end_play(&p);
}

/* Rule 4 */
static void a_pull_never_overwrites_what_was_written_meanwhile(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job job;
	struct access *r = submit(p.m, HITHER_IO_READ, 0, 4 * BLOCK, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	struct access *w = submit(p.m, HITHER_IO_WRITE, BLOCK, BLOCK, 'w');
	CHECK(w->over && !w->result); /* a whole block needs no pull */
	deliver(&p, &job, 0, 4);
	settle(p.m, &job, 0);
	CHECK(r->over && !r->result);
	CHECK_EQ(r->buf[BLOCK], 'w');
	CHECK_EQ(r->buf[2 * BLOCK - 1], 'w');
	CHECK_EQ(r->buf[2 * BLOCK], content(2 * BLOCK));
	CHECK_EQ(state_of(p.m, 1), HITHER_BLOCK_DIRTY);
	free(r);
	free(w);
	end_play(&p);
}

static void a_partial_write_pulls_its_block_first(void)
{
	struct played p = play(4 * BLOCK + 10, 0);
	struct managed_job job;
	struct access *w = submit(p.m, HITHER_IO_WRITE, 100, BLOCK + BLOCK, 'w');
	CHECK(!w->over);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK_EQ(job.first, 0);
	deliver(&p, &job, job.first, job.end - job.first);
	settle(p.m, &job, 0);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK_EQ(job.first, 2);
	CHECK_EQ(job.end, 3);
	CHECK_EQ(state_of(p.m, 1), HITHER_BLOCK_ABSENT); /* the middle one is not needed */
	deliver(&p, &job, 2, 1);
	settle(p.m, &job, 0);
	CHECK(w->over && !w->result);
	struct access *r = submit(p.m, HITHER_IO_READ, 0, 3 * BLOCK, 1);
	CHECK(r->over && !r->result);
	CHECK_EQ(r->buf[99], content(99));
	CHECK_EQ(r->buf[100], 'w');
	CHECK_EQ(r->buf[2 * BLOCK + 99], 'w');
	CHECK_EQ(r->buf[2 * BLOCK + 100], content(2 * BLOCK + 100));
	/* The last block of the resource is short: writing all of it covers it whole. */
	struct access *last = submit(p.m, HITHER_IO_WRITE, 4 * BLOCK, 10, 'l');
	CHECK(last->over && !last->result);
	free(last);
	free(r);
	free(w);
	end_play(&p);
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
	free(submit(p.m, HITHER_IO_WRITE, 0, BLOCK, 'a'));
	struct access *one = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	CHECK_EQ(claim(p.m, &push), MANAGED_JOB_PUSH); /* sends 'a' */
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

/* Rule 6 */
static void a_failed_push_is_told_and_tried_again(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job job;
	free(submit(p.m, HITHER_IO_WRITE, 0, BLOCK, 'a'));
	struct access *f = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PUSH);
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
	free(submit(p.m, HITHER_IO_WRITE, 0, BLOCK, 'a'));
	struct access *f = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PUSH);
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
	free(submit(p.m, HITHER_IO_WRITE, 0, BLOCK, 'a'));
	struct access *f = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PUSH);
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

/* Rule 8 */
static void versions_are_never_mixed(void)
{
	struct played p = play(8 * BLOCK, 0);
	struct managed_job job;
	struct access *a = submit(p.m, HITHER_IO_READ, 0, BLOCK, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	managed_run(p.m, &job);
	expect_content(a);
	struct access *b = submit(p.m, HITHER_IO_READ, 4 * BLOCK, BLOCK, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	settle(p.m, &job, -ESTALE);
	CHECK(b->over);
	CHECK_EQ(b->result, -ESTALE);
	struct access *c =
	        submit(p.m, HITHER_IO_READ, 0, BLOCK, 1); /* local, but of the old version */
	CHECK(c->over);
	CHECK_EQ(c->result, -ESTALE);
	CHECK(strstr(c->err.message, "played failure"));
	free(a);
	free(b);
	free(c);
	end_play(&p);
}

static void one_bad_block_does_not_fail_its_neighbours(void)
{
	struct played p = play(64 * BLOCK, 0);
	struct managed_job job;
	struct access *all = submit(p.m, HITHER_IO_READ, 0, 64 * BLOCK, 1);
	struct access *good = submit(p.m, HITHER_IO_READ, 3 * BLOCK, BLOCK, 1);
	struct access *bad = submit(p.m, HITHER_IO_READ, 40 * BLOCK, BLOCK, 1);
	for (unsigned jobs = 0; claim(p.m, &job) != MANAGED_JOB_NONE; jobs++) {
		CHECK(jobs < 200);
		if (job.first <= 40 && 40 < job.end)
			settle(p.m, &job, -EIO);
		else
			managed_run(p.m, &job);
	}
	expect_content(good);
	CHECK(bad->over && all->over);
	CHECK_EQ(bad->result, -EIO);
	CHECK_EQ(all->result, -EIO);
	CHECK_EQ(state_of(p.m, 39), HITHER_BLOCK_LOCAL);
	free(all);
	free(good);
	free(bad);
	end_play(&p);
}

static void an_outage_ends_at_the_deadline(void)
{
	struct played p = play(8 * BLOCK, 0);
	struct managed_job job;
	struct managed_ios expired;
	struct access *a = submit(p.m, HITHER_IO_READ, 0, BLOCK, 1);
	p.m->deadline_ns = 10 * HITHER_NS_PER_S;
	for (unsigned i = 0; i < 5; i++) {
		CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
		settle(p.m, &job, -ECONNRESET);
		CHECK(!a->over);
		CHECK_EQ(claim(p.m, &job), MANAGED_JOB_NONE); /* not at once again */
		CHECK(managed_next_event_locked(p.m) > clock_ns);
		clock_ns = p.m->retry_at_ns;
	}
	p.m->progress_ns = 0;
	managed_ios_init(&expired);
	clock_ns = a->io.submitted_ns + 9999 * HITHER_NS_PER_MS;
	managed_collect_expired_locked(p.m, &expired);
	CHECK(!expired.head);
	clock_ns += HITHER_NS_PER_MS;
	managed_collect_expired_locked(p.m, &expired);
	CHECK(expired.head == &a->io);
	free(a);
	end_play(&p);
}

static void what_is_on_its_way_is_not_evicted_under_it(void)
{
	struct played p = play(64 * BLOCK, 16 * BLOCK);
	struct managed_job old, job;
	p.m->guess = (struct hither_range){.offset = 0, .len = 16 * BLOCK};
	CHECK_EQ(claim(p.m, &old), MANAGED_JOB_PULL); /* asks for the first 16 blocks, slowly */
	struct access *w = submit(p.m, HITHER_IO_WRITE, 0, 16 * BLOCK, 'n');
	struct access *f = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PUSH);
	managed_run(p.m, &job);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_FLUSH);
	managed_run(p.m, &job);
	CHECK(f->over && !f->result);
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_LOCAL);
	p.m->cap_blocks = 1;
	for (int i = 0; i < 3; i++)
		managed_make_room(p.m, 64);
	char stale[16 * BLOCK];
	memset(stale, 'o', sizeof stale);
	CHECK_EQ(managed_commit(p.m, &old, stale, sizeof stale, 0), 0);
	struct access *r = submit(p.m, HITHER_IO_READ, 0, BLOCK, 1);
	CHECK(r->over);
	CHECK_EQ(r->buf[0], 'n');
	settle(p.m, &old, 0);
	CHECK(managed_make_room(p.m, 64)); /* now it may go */
	free(w);
	free(f);
	free(r);
	end_play(&p);
}

/* --- with threads --- */

static struct hither_mount *threaded(struct hither_backend *b, struct hither_mount_options o)
{
	struct hither_error err = {0};
	struct hither_mount *m;
	CHECK_OK(hither_mount_backend(b, "threaded", &o, &m, &err));
	return m;
}

static void several_workers_survive_network_errors(void)
{
	struct hither_error err = {0};
	struct hither_backend *faulty;
	CHECK_OK(hither_layer_fault(filled(3000000), &faulty, &err));
	hither_layer_fault_arm(faulty, HITHER_FAULT_READ, 0, 20, -ECONNRESET, 5000);
	struct hither_mount *m = threaded(faulty, (struct hither_mount_options){.workers = 16});
	CHECK_OK(hither_mount_pull(m, &err));
	struct hither_mount_stats s;
	hither_mount_stats(m, &s);
	CHECK_EQ(s.local_bytes, 3000000);
	CHECK(s.retries > 0);
	CHECK_OK(hither_mount_close(m, &err));
}

static void everything_is_pulled_to_the_last_byte(void)
{
	struct hither_error err = {0};
	uint64_t size = 5 * 65536 + 777;
	struct hither_mount *m = threaded(filled(size), (struct hither_mount_options){0});
	CHECK_OK(hither_mount_pull(m, &err));
	uint8_t picture[7];
	hither_mount_picture(m, picture, sizeof picture);
	for (size_t i = 0; i < sizeof picture; i++)
		CHECK_EQ(picture[i], 255);
	char c;
	CHECK_OK(hither_mount_read_at(m, &c, 1, size - 1, &err));
	CHECK_EQ(c, content(size - 1));
	CHECK_EQ(hither_mount_read_at(m, &c, 1, size, &err), -EINVAL);
	CHECK_OK(hither_mount_close(m, &err));
}

static void nothing_is_a_resource_too(void)
{
	struct hither_error err = {0};
	struct hither_mount *m = threaded(filled(0), (struct hither_mount_options){0});
	CHECK_EQ(hither_mount_size(m), 0);
	CHECK_OK(hither_mount_read_at(m, NULL, 0, 0, &err));
	CHECK_OK(hither_mount_pull(m, &err));
	CHECK_OK(hither_mount_flush(m, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

static void holes_are_zeros(void)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	CHECK_OK(hither_backend_memory_create(1 << 20, &b, &err));
	struct hither_mount *m = threaded(b, (struct hither_mount_options){0});
	char buf[10000];
	memset(buf, 'x', sizeof buf);
	CHECK_OK(hither_mount_read_at(m, buf, sizeof buf, 12345, &err));
	for (size_t i = 0; i < sizeof buf; i++)
		CHECK_EQ(buf[i], 0);
	CHECK_OK(hither_mount_close(m, &err));
}

struct stepper {
	struct hither_mount *m;
	unsigned number;
};

static void *steps_backwards(void *arg)
{
	struct stepper *s = arg;
	struct hither_error err = {0};
	for (uint64_t i = 0; i < 300; i++) {
		uint64_t at = hither_mount_size(s->m) - 1 - i - s->number * 911;
		char c;
		CHECK_OK(hither_mount_read_at(s->m, &c, 1, at, &err));
		CHECK_EQ(c, content(at));
	}
	return NULL;
}

static void sixty_four_threads_read_backwards_byte_by_byte(void)
{
	struct hither_error err = {0};
	struct hither_backend *slow;
	CHECK_OK(hither_layer_delay(filled(200000), 300, &slow, &err));
	struct hither_mount *m = threaded(slow, (struct hither_mount_options){.pull_off = true});
	pthread_t threads[64];
	struct stepper steppers[64];
	for (unsigned i = 0; i < 64; i++) {
		steppers[i] = (struct stepper){.m = m, .number = i};
		CHECK_EQ(pthread_create(&threads[i], NULL, steps_backwards, &steppers[i]), 0);
	}
	for (unsigned i = 0; i < 64; i++)
		pthread_join(threads[i], NULL);
	CHECK_OK(hither_mount_close(m, &err));
}

static struct managed *late; /* NULL: was asked */

/* While it thinks, another thread gets its guess first. */
static bool late_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	if (!late)
		return false;
	late->guess = (struct hither_range){2 * BLOCK, BLOCK};
	late = NULL;
	*out = (struct hither_range){5 * BLOCK, BLOCK};
	return true;
}

static void no_guess_is_lost_between_threads(void)
{
	static const struct hither_order_ops ops = {.name = "late", .next = late_next};
	struct played p = play(64 * BLOCK, 0);
	struct managed_job first, second;
	late = p.m;
	p.m->order = &(struct hither_order){&ops};
	CHECK(claim(p.m, &first) == MANAGED_JOB_PULL && first.first == 2);
	CHECK(claim(p.m, &second) == MANAGED_JOB_PULL && second.first == 5);
	managed_run(p.m, &first);
	managed_run(p.m, &second), p.m->order = NULL;
	end_play(&p);
}

static void the_local_file_is_given_out_only_when_whole(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = filled(300000);
	b->flags &= ~(uint32_t)HITHER_BACKEND_WRITABLE;
	struct hither_mount *m = threaded(b, (struct hither_mount_options){.pull_off = true});
	CHECK_EQ(hither_mount_local_fd(m), -1);
	CHECK_OK(hither_mount_pull(m, &err));
	int fd = hither_mount_local_fd(m);
	CHECK(fd >= 0);
	char c;
	CHECK_EQ(pread(fd, &c, 1, 299999), 1);
	CHECK_EQ(c, content(299999));
	CHECK_OK(hither_mount_close(m, &err));
}

static void extents_tell_what_is_local_and_dirty(void)
{
	struct hither_error err = {0};
	struct hither_mount_options o = {.pull_off = true, .push_interval_ms = 1000000};
	struct hither_mount *m;
	uint32_t kind;
	char block[2 * BLOCK] = "new";
	CHECK_OK(hither_mount_backend(filled(8 * BLOCK - 1), "extents", &o, &m, &err));
	CHECK_OK(hither_mount_write_at(m, block, BLOCK, 2 * BLOCK, &err));
	CHECK_EQ(hither_mount_extent(m, 2 * BLOCK + 1, 3 * BLOCK, &kind), BLOCK - 1);
	CHECK_EQ(kind, HITHER_EXTENT_LOCAL | HITHER_EXTENT_DIRTY);
	CHECK_OK(hither_mount_flush(m, &err));
	hither_mount_extent(m, 2 * BLOCK, 1, &kind);
	CHECK_EQ(kind, HITHER_EXTENT_LOCAL);
	CHECK_OK(hither_mount_pull(m, &err));
	CHECK_EQ(hither_mount_extent(m, BLOCK, 7 * BLOCK - 1, &kind), 7 * BLOCK - 1);
	CHECK_EQ(kind, HITHER_EXTENT_LOCAL);
	CHECK_OK(hither_mount_close(m, &err));
}

/* Each is a guess that says nothing of what nobody suggested. */
static void what_is_suggested_is_guessed_first(void)
{
	struct hither_error err = {0};
	struct played p = play(64 * BLOCK, 0);
	const struct hither_range wanted[] = {{40 * BLOCK, 2 * BLOCK}, {3 * BLOCK + 7, 1}};
	struct managed_job first, second, third;
	CHECK_EQ(claim(p.m, &first), MANAGED_JOB_NONE);
	CHECK_OK(hither_mount_suggest(&p.m->base, wanted, 2, &err));
	CHECK_EQ(claim(p.m, &first), MANAGED_JOB_PULL);
	CHECK_EQ(first.first, 40);
	CHECK_EQ(first.end, 42);
	CHECK(!first.demand);
	CHECK_OK(hither_mount_suggest(&p.m->base, &(struct hither_range){9 * BLOCK, BLOCK}, 1,
	                              &err));
	CHECK_EQ(claim(p.m, &second), MANAGED_JOB_PULL);
	CHECK_EQ(second.first, 9);
	CHECK_EQ(claim(p.m, &third), MANAGED_JOB_PULL);
	CHECK_EQ(third.first, 3);
	CHECK_EQ(third.end, 4);
	managed_run(p.m, &first);
	managed_run(p.m, &second);
	managed_run(p.m, &third);
	CHECK_EQ(claim(p.m, &first), MANAGED_JOB_NONE);
	CHECK_EQ(state_of(p.m, 41), HITHER_BLOCK_LOCAL);
	CHECK_EQ(state_of(p.m, 42), HITHER_BLOCK_ABSENT);
	end_play(&p);
}

static void cancelling_frees_whoever_waits(void)
{
	struct hither_error err = {0};
	struct hither_backend *never;
	CHECK_OK(hither_layer_delay(filled(300000), 1000000000, &never, &err));
	struct hither_mount *m = threaded(never, (struct hither_mount_options){0});
	struct access *a = submit(managed_of(m), HITHER_IO_READ, 0, 10, 0);
	CHECK(!a->over);
	hither_mount_cancel(m);
	CHECK(a->over);
	CHECK_EQ(a->result, -ECANCELED);
	CHECK_OK(hither_mount_close(m, &err));
	free(a);
}

int main(void)
{
	RUN(a_reader_waits_for_its_own_blocks_only);
	RUN(a_pull_never_overwrites_what_was_written_meanwhile);
	RUN(a_partial_write_pulls_its_block_first);
	RUN(a_block_written_while_it_is_pushed_stays_dirty);
	RUN(a_flush_that_joins_a_round_waits_for_what_was_rewritten);
	RUN(a_failed_push_is_told_and_tried_again);
	RUN(a_failed_backend_flush_fails_ours);
	RUN(a_server_that_forgot_gets_everything_again);
	RUN(dirty_blocks_are_pushed_by_default);
	RUN(versions_are_never_mixed);
	RUN(one_bad_block_does_not_fail_its_neighbours);
	RUN(an_outage_ends_at_the_deadline);
	RUN(what_is_on_its_way_is_not_evicted_under_it);
	RUN(several_workers_survive_network_errors);
	RUN(everything_is_pulled_to_the_last_byte);
	RUN(nothing_is_a_resource_too);
	RUN(holes_are_zeros);
	RUN(sixty_four_threads_read_backwards_byte_by_byte);
	RUN(no_guess_is_lost_between_threads);
	RUN(the_local_file_is_given_out_only_when_whole);
	RUN(extents_tell_what_is_local_and_dirty);
	RUN(what_is_suggested_is_guessed_first);
	RUN(cancelling_frees_whoever_waits);
	return 0;
}
