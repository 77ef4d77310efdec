/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that are opened before they are needed, played by hand. */
#include "mount/played.h"

enum { BLOCKS = 64, SIZE = BLOCKS * BLOCK };

/* Bytes of zeros, over connections that are counted. */
struct line {
	struct hither_backend base;
	unsigned opened, closed;
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

static uint32_t line_connections(struct hither_backend *b)
{
	const struct line *l = (const struct line *)b;
	return l->opened - l->closed;
}

static const struct hither_backend_ops counting_ops = {.name = "counting",
                                                       .read = line_read,
                                                       .warm = line_warm,
                                                       .connections = line_connections,
                                                       .close = line_close};
static const struct hither_backend_ops line_ops = {
        .name = "line", .read = line_read, .warm = line_warm, .close = line_close};
static const struct hither_backend_ops lineless_ops = {
        .name = "lineless", .read = line_read, .close = line_close};

static struct managed *play_line(const struct hither_backend_ops *ops)
{
	const struct hither_mount_options o = {.pull_off = true, .order = "none"};
	struct line *l = calloc(1, sizeof *l);
	CHECK(l);
	l->base = (struct hither_backend){
	        .ops = ops, .size_bytes = SIZE, .align_bytes = 1, .parallel = 32};
	return play_over(&l->base, &o);
}

static struct line *line_of(struct managed *m)
{
	return (struct line *)m->base.backend;
}

/* Run all there is to do at a time. How many jobs that were. */
static unsigned run_together(struct managed *m)
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
	struct managed *m = play_line(&line_ops);
	CHECK_EQ(run_together(m), 0);
	hither_mount_warm(&m->base, 5);
	CHECK_EQ(run_together(m), 5);
	CHECK_EQ(line_of(m)->opened, 5);
	hither_mount_warm(&m->base, 5);
	CHECK_EQ(run_together(m), 0);
	hither_mount_warm(&m->base, 7);
	CHECK_EQ(run_together(m), 2);
	/* For whoever jumps there is one for each request but one. */
	hither_mount_warm(&m->base, 1000);
	CHECK_EQ(run_together(m), 31 - 7);
	CHECK_EQ(line_of(m)->opened, 31);
	end_over(m);
}

static void who_waits_comes_first_and_its_connection_counts(void)
{
	struct managed *m = play_line(&line_ops);
	struct managed_job jobs[4];
	hither_mount_warm(&m->base, 3);
	struct access *a = submit(m, HITHER_IO_READ, 1 * BLOCK, BLOCK, 1);
	struct access *b = submit(m, HITHER_IO_READ, 5 * BLOCK, BLOCK, 1);
	CHECK(claim(m, &jobs[0]) && jobs[0].kind == MANAGED_JOB_PULL);
	CHECK(claim(m, &jobs[1]) && jobs[1].kind == MANAGED_JOB_PULL);
	CHECK(claim(m, &jobs[2]) && jobs[2].kind == MANAGED_JOB_WARM);
	CHECK(!claim(m, &jobs[3]));
	for (int i = 0; i < 3; i++)
		managed_run(m, &jobs[i]);
	CHECK(a->over && !a->result && b->over && !b->result);
	CHECK_EQ(line_of(m)->opened, 1);
	free(a);
	free(b);
	end_over(m);
}

static void a_failure_ends_it_until_it_is_asked_for_again(void)
{
	struct managed *m = play_line(&line_ops);
	struct managed_job job;
	line_of(m)->result = -ECONNREFUSED;
	hither_mount_warm(&m->base, 8);
	CHECK(claim(m, &job) && job.kind == MANAGED_JOB_WARM);
	managed_run(m, &job);
	CHECK(!claim(m, &job));
	CHECK(!m->trouble.code);
	line_of(m)->result = 0;
	hither_mount_warm(&m->base, 8);
	CHECK_EQ(run_together(m), 8);
	end_over(m);
}

static void after_a_long_rest_they_are_opened_anew(void)
{
	struct managed *m = play_line(&line_ops);
	hither_mount_warm(&m->base, 4);
	CHECK_EQ(run_together(m), 4);
	clock_ns += 10 * HITHER_NS_PER_S;
	hither_mount_warm(&m->base, 4);
	CHECK_EQ(run_together(m), 0);
	clock_ns += 300 * HITHER_NS_PER_S;
	hither_mount_warm(&m->base, 4);
	CHECK_EQ(run_together(m), 4);
	/* A read after a rest wants none but its own. */
	clock_ns += 300 * HITHER_NS_PER_S;
	struct access *a = submit(m, HITHER_IO_READ, BLOCK, BLOCK, 1);
	CHECK_EQ(run_together(m), 1);
	CHECK_EQ(m->connections, 1);
	CHECK(a->over && !a->result);
	free(a);
	end_over(m);
}

/* What the server has closed is not counted upon for long while there is something to do. */
static void what_the_server_has_closed_is_opened_anew(void)
{
	struct managed *m = play_line(&counting_ops);
	hither_mount_warm(&m->base, 20);
	CHECK_EQ(run_together(m), 20);
	line_of(m)->closed = 15;
	for (unsigned i = 0; i < 12; i++) {
		clock_ns += HITHER_NS_PER_S;
		struct access *a = submit(m, HITHER_IO_READ, i * BLOCK, BLOCK, 1);
		CHECK_EQ(run_together(m), i == 10 ? 1 + 15 : 1);
		CHECK(a->over && !a->result);
		free(a);
	}
	CHECK_EQ(line_of(m)->opened, 35);
	end_over(m);
}

static void a_backend_without_connections_is_left_alone(void)
{
	struct hither_error err = {0};
	struct managed *m = play_line(&lineless_ops);
	hither_mount_warm(&m->base, 8);
	CHECK_EQ(run_together(m), 0);
	CHECK_EQ(hither_backend_warm(m->base.backend, &err), -EOPNOTSUPP);
	end_over(m);
}

static void an_order_can_say_so(void)
{
	struct managed *m = play_line(&line_ops);
	m->view.warm(&m->view, 3);
	CHECK_EQ(run_together(m), 3);
	end_over(m);
}

int main(void)
{
	RUN(so_many_are_opened_and_no_more);
	RUN(who_waits_comes_first_and_its_connection_counts);
	RUN(a_failure_ends_it_until_it_is_asked_for_again);
	RUN(after_a_long_rest_they_are_opened_anew);
	RUN(what_the_server_has_closed_is_opened_anew);
	RUN(a_backend_without_connections_is_left_alone);
	RUN(an_order_can_say_so);
	return 0;
}
