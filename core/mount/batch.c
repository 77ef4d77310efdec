/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several small guesses in one request. A line of 50 ms takes hundreds of pages in a round trip,
 * and there are some tens of connections: an order that knows a hundred scattered pages would have
 * them in four or five round trips, one page a request, and has them in one or two so. Each run
 * stays a job of its own; only the first counts as a request.
 */
#include "base/tcp.h"
#include "mount/managed.h"

#include <stdlib.h>

enum {
	SMALL_BLOCKS = 16, /* a run that may share a request */
	MOST_RANGES = 32,
	BLOCK_SENT_BYTES = 4300, /* with its part's header */
};

/* Blocks of one request, such that they come in one round trip: one more would come a round trip
 * later than it does by another connection. */
static uint64_t blocks_of(const struct managed *m)
{
	uint64_t more = managed_brought_locked(m, m->job_count - 1) / BLOCK_SENT_BYTES;
	return HITHER_TCP_FIRST_BLOCKS + more < SMALL_BLOCKS ? HITHER_TCP_FIRST_BLOCKS + more
	                                                     : SMALL_BLOCKS;
}

void managed_batch_locked(struct managed *m, struct managed_job *job)
{
	uint32_t most = hither_backend_most_ranges(m->base.backend);
	uint64_t blocks = job->end - job->first, room = blocks_of(m);
	struct managed_job **end = &job->more;
	most = most < MOST_RANGES ? most : MOST_RANGES;
	if (job->kind != MANAGED_JOB_PULL || job->demand || job->early || job->alone)
		return;
	for (uint32_t i = 1; i < most && blocks < room && blocks <= SMALL_BLOCKS; i++) {
		struct managed_job *more = calloc(1, sizeof *more);
		if (!more)
			return;
		more->follower = true;
		if (!managed_claim_more_locked(m, SMALL_BLOCKS, job, more)) {
			free(more);
			return;
		}
		blocks += more->end - more->first;
		*end = more;
		end = &more->more;
	}
}

/* Bytes of all runs, one run after another. */
struct batch_sink {
	struct hither_sink sink;
	struct managed_sink runs[MOST_RANGES];
	size_t count, at;
	uint64_t left; /* of the run that is coming */
};

static uint64_t run_bytes(const struct managed_sink *run)
{
	return managed_bytes(run->m, run->job->first, run->job->end);
}

static int batch_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct batch_sink *b = (struct batch_sink *)sink;
	const char *p = buf;
	int r = 0;
	while (!r && len > 0) {
		struct managed_sink *run = &b->runs[b->at];
		size_t n = len < b->left ? len : (size_t)b->left;
		r = run->sink.take(&run->sink, p, n);
		p += n;
		len -= n;
		b->left -= n;
		if (!b->left && ++b->at < b->count)
			b->left = run_bytes(&b->runs[b->at]);
	}
	return r;
}

static void run_many(struct managed *m, struct batch_sink *b)
{
	struct hither_range ranges[MOST_RANGES];
	struct hither_error err = {0};
	for (size_t i = 0; i < b->count; i++)
		ranges[i] = (struct hither_range){b->runs[i].offset, run_bytes(&b->runs[i])};
	b->left = ranges[0].len;
	int r = hither_backend_read_many(m->base.backend, ranges, b->count, &b->sink, &err);
	/* What has come whole is well, whatever became of the rest, which has the last word. */
	for (size_t i = 0; i < b->count; i++) {
		struct managed_job *job = b->runs[i].job;
		bool whole = i < b->at;
		struct hither_error own = whole ? (struct hither_error){0} : err;
		managed_sink_settle(&b->runs[i], whole ? 0 : r, &own);
		if (i > 0)
			free(job);
	}
}

void managed_run_batch(struct managed *m, struct managed_job *job)
{
	struct batch_sink *b = malloc(sizeof *b);
	if (!b) { /* one after another */
		struct managed_job *more = job->more;
		managed_run_pull(m, job);
		for (struct managed_job *next; more; more = next) {
			next = more->more;
			managed_run_pull(m, more);
			free(more);
		}
		return;
	}
	b->sink = (struct hither_sink){.take = batch_take};
	b->count = b->at = 0;
	for (struct managed_job *j = job; j; j = j->more)
		managed_sink_init(&b->runs[b->count++], m, j);
	run_many(m, b);
	free(b);
}
