/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that are opened before they are needed, played by hand. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

enum { BLOCKS = 64, SIZE = BLOCKS * HITHER_BLOCK_BYTES };

static uint64_t clock_ns;
static uint64_t test_now(void)
{
	return clock_ns;
}

/* Bytes of zeros, over connections that are counted. */
struct line {
	struct hither_backend base;
	unsigned opened;
	int result; /* of opening one */
};

static int line_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	static const char zeros[SIZE];
	return sink->take(sink, zeros, (size_t)len);
}

static int line_warm(struct hither_backend *b, struct hither_error *err)
{
	struct line *l = (struct line *)b;
	l->opened += !l->result;
	return l->result;
}

static void line_close(struct hither_backend *b)
{
	free(b);
}

static const struct hither_backend_ops line_ops = {
        .name = "line", .read = line_read, .warm = line_warm, .close = line_close};
static const struct hither_backend_ops lineless_ops = {
        .name = "lineless", .read = line_read, .close = line_close};

static struct managed *play(const struct hither_backend_ops *ops, uint32_t parallel)
{
	struct hither_error err = {0};
	struct hither_mount_options o = {.pull_off = true, .order = "none"};
	struct hither_mount *mount;
	struct line *l = calloc(1, sizeof *l);
	CHECK(l);
	l->base = (struct hither_backend){
	        .ops = ops, .size_bytes = SIZE, .align_bytes = 1, .parallel = parallel};
	managed_by_hand = true;
	CHECK_OK(hither_mount_backend(&l->base, "line", &o, &mount, &err));
	managed_by_hand = false;
	struct managed *m = managed_of(mount);
	m->now = test_now;
	m->progress_ns = clock_ns = 1000 * HITHER_NS_PER_S;
	return m;
}

static struct line *line_of(struct managed *m)
{
	return (struct line *)m->base.backend;
}

static void end_play(struct managed *m)
{
	struct hither_error err = {0};
	CHECK_OK(hither_mount_close(&m->base, &err));
}

static bool claim(struct managed *m, struct managed_job *job)
{
	HITHER_LOCK_SCOPE(&m->lock);
	return managed_claim_locked(m, job);
}

/* Run all there is to do at a time. How many jobs that were. */
static unsigned run_all(struct managed *m)
{
	static struct managed_job jobs[MANAGED_WORKERS_MAX];
	unsigned count = 0;
	while (count < MANAGED_WORKERS_MAX && claim(m, &jobs[count]))
		count++;
	for (unsigned i = 0; i < count; i++)
		managed_run(m, &jobs[i]);
	return count;
}

static void so_many_are_opened_and_no_more(void)
{
	struct managed *m = play(&line_ops, 32);
	CHECK_EQ(run_all(m), 0);
	hither_mount_warm(&m->base, 5);
	CHECK_EQ(run_all(m), 5);
	CHECK_EQ(line_of(m)->opened, 5);
	hither_mount_warm(&m->base, 5);
	CHECK_EQ(run_all(m), 0);
	hither_mount_warm(&m->base, 7);
	CHECK_EQ(run_all(m), 2);
	/* A quarter of the mount's requests stays free. */
	hither_mount_warm(&m->base, 1000);
	CHECK_EQ(run_all(m), 24 - 7);
	CHECK_EQ(line_of(m)->opened, 24);
	end_play(m);
}

struct access {
	struct hither_io io;
	char buf[HITHER_BLOCK_BYTES];
	bool over;
};

static void access_done(struct hither_io *io, int result, const struct hither_error *err)
{
	CHECK_EQ(result, 0);
	((struct access *)io)->over = true;
}

static void submit(struct managed *m, struct access *a, uint64_t block)
{
	*a = (struct access){.io = {.op = HITHER_IO_READ,
	                            .offset = block * HITHER_BLOCK_BYTES,
	                            .len = sizeof a->buf,
	                            .buf = a->buf,
	                            .done = access_done}};
	hither_mount_submit(&m->base, &a->io);
}

static void who_waits_comes_first_and_its_connection_counts(void)
{
	struct managed *m = play(&line_ops, 32);
	static struct access a, b;
	struct managed_job jobs[4];
	hither_mount_warm(&m->base, 3);
	submit(m, &a, 1);
	submit(m, &b, 5);
	CHECK(claim(m, &jobs[0]) && jobs[0].kind == MANAGED_JOB_PULL);
	CHECK(claim(m, &jobs[1]) && jobs[1].kind == MANAGED_JOB_PULL);
	CHECK(claim(m, &jobs[2]) && jobs[2].kind == MANAGED_JOB_WARM);
	CHECK(!claim(m, &jobs[3]));
	for (int i = 0; i < 3; i++)
		managed_run(m, &jobs[i]);
	CHECK(a.over && b.over);
	CHECK_EQ(line_of(m)->opened, 1);
	end_play(m);
}

static void a_failure_ends_it_until_it_is_asked_for_again(void)
{
	struct managed *m = play(&line_ops, 32);
	struct managed_job job;
	line_of(m)->result = -ECONNREFUSED;
	hither_mount_warm(&m->base, 8);
	CHECK(claim(m, &job) && job.kind == MANAGED_JOB_WARM);
	managed_run(m, &job);
	CHECK(!claim(m, &job));
	CHECK(!m->trouble.code);
	line_of(m)->result = 0;
	hither_mount_warm(&m->base, 8);
	CHECK_EQ(run_all(m), 8);
	end_play(m);
}

static void after_a_long_rest_they_are_opened_anew(void)
{
	struct managed *m = play(&line_ops, 32);
	hither_mount_warm(&m->base, 4);
	CHECK_EQ(run_all(m), 4);
	clock_ns += 10 * HITHER_NS_PER_S;
	hither_mount_warm(&m->base, 4);
	CHECK_EQ(run_all(m), 0);
	clock_ns += 300 * HITHER_NS_PER_S;
	hither_mount_warm(&m->base, 4);
	CHECK_EQ(run_all(m), 4);
	/* A read after a rest wants none but its own. */
	static struct access a;
	clock_ns += 300 * HITHER_NS_PER_S;
	submit(m, &a, 1);
	CHECK_EQ(run_all(m), 1);
	CHECK_EQ(m->connections, 1);
	end_play(m);
}

static void a_backend_without_connections_is_left_alone(void)
{
	struct hither_error err = {0};
	struct managed *m = play(&lineless_ops, 32);
	hither_mount_warm(&m->base, 8);
	CHECK_EQ(run_all(m), 0);
	CHECK_EQ(hither_backend_warm(m->base.backend, &err), -EOPNOTSUPP);
	end_play(m);
}

static void an_order_can_say_so(void)
{
	struct managed *m = play(&line_ops, 32);
	m->view.warm(&m->view, 3);
	CHECK_EQ(run_all(m), 3);
	end_play(m);
}

int main(void)
{
	RUN(so_many_are_opened_and_no_more);
	RUN(who_waits_comes_first_and_its_connection_counts);
	RUN(a_failure_ends_it_until_it_is_asked_for_again);
	RUN(after_a_long_rest_they_are_opened_anew);
	RUN(a_backend_without_connections_is_left_alone);
	RUN(an_order_can_say_so);
	return 0;
}
