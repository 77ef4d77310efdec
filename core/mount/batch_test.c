/* SPDX-License-Identifier: Apache-2.0 */
/* Several small guesses in one request, played by hand over a backend that notes what it is asked.
 */
#include "mount/played.h"

enum { BLOCKS = 1024, RANGES_MOST = 32 };

struct line {
	struct hither_backend base;
	uint32_t most;     /* ranges of a request */
	unsigned requests; /* so far */
	size_t ranges;     /* of the latest */
	uint64_t fail_at;  /* bytes of a request, after which it fails; 0: it does not */
};

/* In odd pieces, as networks have them. */
static int send_ranges(struct line *l, const struct hither_range *ranges, size_t count,
                       struct hither_sink *sink, struct hither_error *err)
{
	uint64_t sent = 0;
	l->requests++;
	l->ranges = count;
	for (size_t i = 0; i < count; i++) {
		for (uint64_t at = 0; at < ranges[i].len;) {
			char piece[1000];
			uint64_t n = ranges[i].len - at < sizeof piece ? ranges[i].len - at
			                                               : sizeof piece;
			if (l->fail_at && sent + n > l->fail_at)
				return hither_fail(err, -ECONNRESET, "line: as told");
			for (uint64_t k = 0; k < n; k++)
				piece[k] = content(ranges[i].offset + at + k);
			int r = sink->take(sink, piece, (size_t)n);
			if (r)
				return r;
			at += n;
			sent += n;
		}
	}
	return 0;
}

static int line_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	return send_ranges((struct line *)b, &(struct hither_range){offset, len}, 1, sink, err);
}

static int line_read_many(struct hither_backend *b, const struct hither_range *ranges, size_t count,
                          struct hither_sink *sink, struct hither_error *err)
{
	return send_ranges((struct line *)b, ranges, count, sink, err);
}

static uint32_t line_most(struct hither_backend *b)
{
	return ((struct line *)b)->most;
}

static void line_close(struct hither_backend *b)
{
	free(b);
}

static const struct hither_backend_ops line_ops = {.name = "line",
                                                   .read = line_read,
                                                   .read_many = line_read_many,
                                                   .most_ranges = line_most,
                                                   .close = line_close};

static struct managed *play_line(uint32_t most)
{
	const struct hither_mount_options o = {.pull_off = true, .order = "none"};
	struct line *l = calloc(1, sizeof *l);
	CHECK(l);
	*l = (struct line){.base = {.ops = &line_ops,
	                            .size_bytes = (uint64_t)BLOCKS * BLOCK,
	                            .align_bytes = 1,
	                            .parallel = 32},
	                   .most = most};
	return play_over(&l->base, &o);
}

static struct line *line_of(struct managed *m)
{
	return (struct line *)m->base.backend;
}

/* Every other block from the first on: `count` runs of `len` blocks. */
static void suggest(struct managed *m, uint64_t first, unsigned count, uint64_t len)
{
	struct hither_range ranges[BLOCKS / 2];
	struct hither_error err = {0};
	for (unsigned i = 0; i < count; i++)
		ranges[i] = (struct hither_range){(first + i * (len + 1)) * BLOCK, len * BLOCK};
	CHECK_OK(hither_mount_suggest(&m->base, ranges, count, &err));
}

static unsigned runs_of(const struct managed_job *job)
{
	unsigned count = 0;
	for (; job; job = job->more)
		count++;
	return count;
}

static bool is_here(struct managed *m, uint64_t block)
{
	char buf[BLOCK];
	if (hither_mount_peek(&m->base, buf, sizeof buf, block * BLOCK))
		return false;
	for (size_t i = 0; i < sizeof buf; i++)
		CHECK_EQ(buf[i], content(block * BLOCK + i));
	return true;
}

static void small_guesses_share_a_request(void)
{
	struct managed *m = play_line(RANGES_MOST);
	struct managed_job job;
	suggest(m, 1, 3, 1);
	CHECK(claim(m, &job));
	CHECK_EQ(runs_of(&job), 3);
	CHECK_EQ(m->job_count, 1);
	managed_run(m, &job);
	CHECK_EQ(line_of(m)->requests, 1);
	CHECK_EQ(line_of(m)->ranges, 3);
	for (uint64_t block = 0; block < 7; block++)
		CHECK_EQ(is_here(m, block), block % 2 && block < 6);
	CHECK_EQ(m->stats.pull_requests, 1);
	CHECK_EQ(m->job_count, 0);
	CHECK_EQ(m->outstanding_bytes, 0);
	CHECK(!claim(m, &job));
	end_over(m);
}

/* Each request brings what its connection sends in a round trip: a new one little. */
static void the_more_connections_have_brought_the_more_share_one(void)
{
	struct managed *m = play_line(RANGES_MOST);
	static struct managed_job jobs[32];
	unsigned count = 0, before = 0, most = 0;
	suggest(m, 0, 400, 1);
	while (claim(m, &jobs[count]))
		CHECK_EQ(runs_of(&jobs[count++]), 3);
	CHECK_EQ(count, 24); /* the rest is for demands */
	while (count > 0) {
		for (unsigned i = 0; i < count; i++)
			managed_run(m, &jobs[i]);
		for (count = 0; claim(m, &jobs[count]); count++) {
			unsigned runs = runs_of(&jobs[count]);
			CHECK(runs >= before && runs <= 16);
			most = runs > most ? runs : most;
		}
		before = count ? runs_of(&jobs[0]) : before;
	}
	CHECK(most > 4);
	CHECK_EQ(m->job_count, 0);
	end_over(m);
}

static void a_long_guess_goes_by_itself(void)
{
	struct managed *m = play_line(RANGES_MOST);
	struct managed_job job;
	struct hither_error err = {0};
	const struct hither_range ranges[] = {
	        {0, BLOCK}, {10 * BLOCK, 17 * BLOCK}, {40 * BLOCK, BLOCK}};
	CHECK_OK(hither_mount_suggest(&m->base, ranges, 3, &err));
	CHECK(claim(m, &job));
	CHECK_EQ(runs_of(&job), 1);
	managed_run(m, &job);
	CHECK(is_here(m, 0) && !is_here(m, 10));
	while (claim(m, &job))
		managed_run(m, &job);
	CHECK(is_here(m, 10) && is_here(m, 26) && is_here(m, 40) && !is_here(m, 27));
	end_over(m);
}

/* They are one range: a server may send it as one. */
static void guesses_that_touch_do_not_share_one(void)
{
	struct managed *m = play_line(RANGES_MOST);
	struct managed_job job;
	struct hither_error err = {0};
	const struct hither_range ranges[] = {
	        {10 * BLOCK, BLOCK}, {20 * BLOCK, BLOCK}, {9 * BLOCK, BLOCK}, {30 * BLOCK, BLOCK}};
	CHECK_OK(hither_mount_suggest(&m->base, ranges, 4, &err));
	CHECK(claim(m, &job));
	CHECK_EQ(runs_of(&job), 2);
	managed_run(m, &job);
	CHECK(is_here(m, 10) && is_here(m, 20));
	CHECK(claim(m, &job));
	CHECK_EQ(runs_of(&job), 2);
	managed_run(m, &job);
	CHECK(is_here(m, 9) && is_here(m, 30));
	end_over(m);
}

/* 50 ms away one connection has brought 36 KiB, the others are new: requests are as long. */
static uint64_t brought_by_one(struct hither_backend *b, uint32_t begun)
{
	return begun ? 0 : 36 << 10;
}

static void requests_are_as_long_as_their_connections_bring_at_once(void)
{
	static struct hither_backend_ops ops;
	struct managed *m = play_line(RANGES_MOST);
	struct managed_job jobs[3];
	struct hither_error err = {0};
	const struct hither_range all = {0, (uint64_t)BLOCKS * BLOCK};
	ops = line_ops;
	ops.brought = brought_by_one;
	m->base.backend->ops = &ops;
	m->link = (struct hither_link){
	        .rtt_min_ns = {50 * HITHER_NS_PER_MS}, .rates = {25000000}, .startup_flat = 3};
	CHECK_OK(hither_mount_suggest(&m->base, &all, 1, &err));
	for (unsigned i = 0; i < 3; i++) {
		CHECK(claim(m, &jobs[i]));
		CHECK_EQ(runs_of(&jobs[i]), 1);
		CHECK_EQ(jobs[i].end - jobs[i].first, i ? 3 : 12);
	}
	for (unsigned i = 0; i < 3; i++)
		managed_run(m, &jobs[i]);
	m->base.backend->ops = &line_ops;
	end_over(m);
}

static void what_came_whole_of_a_broken_request_is_good(void)
{
	struct managed *m = play_line(RANGES_MOST);
	struct managed_job job;
	suggest(m, 1, 3, 1);
	line_of(m)->fail_at = BLOCK + 2000;
	CHECK(claim(m, &job));
	managed_run(m, &job);
	CHECK(is_here(m, 1) && !is_here(m, 3) && !is_here(m, 5));
	CHECK_EQ(m->outstanding_bytes, 0);
	CHECK(m->stats.retries > 0);
	CHECK(!claim(m, &job)); /* not at once again */
	/* What is missing is guessed again. */
	line_of(m)->fail_at = 0;
	clock_ns = m->retry_at_ns;
	while (claim(m, &job))
		managed_run(m, &job);
	CHECK(is_here(m, 3) && is_here(m, 5));
	end_over(m);
}

static void who_waits_shares_with_nobody(void)
{
	struct managed *m = play_line(RANGES_MOST);
	struct managed_job job;
	suggest(m, 1, 3, 1);
	struct access *a = submit(m, HITHER_IO_READ, 100 * BLOCK, BLOCK, 0);
	CHECK(claim(m, &job));
	CHECK(job.demand && job.first == 100);
	CHECK_EQ(runs_of(&job), 1);
	managed_run(m, &job);
	expect_content(a);
	CHECK(is_here(m, 100));
	free(a);
	end_over(m);
}

static void a_server_of_single_ranges_gets_single_ones(void)
{
	struct managed *m = play_line(1);
	struct managed_job job;
	unsigned count = 0;
	suggest(m, 1, 5, 1);
	for (; claim(m, &job); count++) {
		CHECK_EQ(runs_of(&job), 1);
		managed_run(m, &job);
		CHECK_EQ(line_of(m)->ranges, 1);
	}
	CHECK_EQ(count, 5);
	end_over(m);
}

int main(void)
{
	RUN(small_guesses_share_a_request);
	RUN(the_more_connections_have_brought_the_more_share_one);
	RUN(a_long_guess_goes_by_itself);
	RUN(guesses_that_touch_do_not_share_one);
	RUN(requests_are_as_long_as_their_connections_bring_at_once);
	RUN(what_came_whole_of_a_broken_request_is_good);
	RUN(who_waits_shares_with_nobody);
	RUN(a_server_of_single_ranges_gets_single_ones);
	return 0;
}
