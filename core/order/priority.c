/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks by falling priority. Kept as runs of neighbouring chunks that have the same one, 16 bytes
 * each, so that a mount of any size costs only what its priorities differ.
 */
#include "order/piece.h"

#include <errno.h>
#include <stdlib.h>

#define MOST_RUNS (1u << 20)
#define FIRST_BITS 40
#define COUNT_BITS 24

struct run {
	int64_t priority;
	uint64_t first : FIRST_BITS; /* chunk */
	uint64_t count : COUNT_BITS; /* chunks; longer runs are split */
};

struct priority_order {
	struct hither_order base;
	uint64_t size;
	uint32_t chunk_bytes;
	struct run *runs;         /* sorted */
	size_t count, at;         /* runs; the next one */
	struct hither_range rest; /* of the run before */
};

static bool priority_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct priority_order *p = (struct priority_order *)o;
	if (p->rest.len == 0 && p->at < p->count) {
		struct run run = p->runs[p->at++];
		p->rest.offset = (uint64_t)run.first * p->chunk_bytes;
		p->rest.len = (uint64_t)run.count * p->chunk_bytes;
		hither_order_clip(&p->rest, p->size); /* the last chunk may be short */
	}
	return hither_order_cut(&p->rest, window_bytes, out);
}

static void priority_destroy(struct hither_order *o)
{
	struct priority_order *p = (struct priority_order *)o;
	free(p->runs);
	free(p);
}

static const struct hither_order_ops priority_ops = {
        .name = "priority",
        .next = priority_next,
        .destroy = priority_destroy,
};

static int compare_runs(const void *a, const void *b)
{
	const struct run *x = a, *y = b;
	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

/* Room for one run more. */
static int grow(struct priority_order *p, size_t *room, struct hither_error *err)
{
	if (p->count < *room)
		return 0;
	if (p->count == MOST_RUNS)
		return hither_fail(
		        err, -E2BIG,
		        "order priority: more than %u runs of chunks of equal priority: give "
		        "neighbouring chunks the same, or use larger chunks than %u bytes",
		        MOST_RUNS, p->chunk_bytes);
	size_t more = *room ? *room * 2 : 64;
	struct run *runs = realloc(p->runs, more * sizeof *runs);
	if (!runs)
		return hither_fail(err, -ENOMEM, "order priority: no memory for %zu runs", more);
	p->runs = runs;
	*room = more;
	return 0;
}

static int collect_runs(struct priority_order *p, uint64_t chunk_count,
                        int64_t (*priority)(void *user, uint64_t chunk), void *user,
                        struct hither_error *err)
{
	size_t room = 0;
	for (uint64_t chunk = 0; chunk < chunk_count; chunk++) {
		int64_t value = priority(user, chunk);
		if (value < 0)
			continue;
		struct run *last = p->count ? &p->runs[p->count - 1] : NULL;
		if (last && last->priority == value && last->first + last->count == chunk &&
		    last->count < (1u << COUNT_BITS) - 1) {
			last->count++;
			continue;
		}
		int r = grow(p, &room, err);
		if (r)
			return r;
		p->runs[p->count++] = (struct run){value, chunk, 1};
	}
	return 0;
}

int hither_order_priority(const struct hither_order_view *view, uint32_t chunk_bytes,
                          int64_t (*priority)(void *user, uint64_t chunk), void *user,
                          struct hither_order **out, struct hither_error *err)
{
	if (chunk_bytes == 0 || (chunk_bytes & (chunk_bytes - 1)))
		return hither_fail(err, -EINVAL,
		                   "order priority: a chunk of %u bytes is no power of two",
		                   chunk_bytes);
	uint64_t chunk_count = view->size_bytes / chunk_bytes + !!(view->size_bytes % chunk_bytes);
	if (chunk_count >> FIRST_BITS)
		return hither_fail(
		        err, -E2BIG,
		        "order priority: more than 2^%d chunks: use larger ones than %u bytes",
		        FIRST_BITS, chunk_bytes);
	struct priority_order *p = calloc(1, sizeof *p);
	if (!p)
		return hither_fail(err, -ENOMEM, "order priority: no memory");
	p->base.ops = &priority_ops;
	p->size = view->size_bytes;
	p->chunk_bytes = chunk_bytes;
	int r = collect_runs(p, chunk_count, priority, user, err);
	if (r) {
		priority_destroy(&p->base);
		return r;
	}
	if (p->count)
		qsort(p->runs, p->count, sizeof *p->runs, compare_runs);
	*out = &p->base;
	return 0;
}
