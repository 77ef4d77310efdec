/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readahead by stream. Accesses that fit a known stream move it on; all others go to a short
 * history, in which three that follow each other make a new run, and four at equal steps a new
 * stride. Two tables, so that random reads between a stream's accesses cannot push the stream out.
 *
 * How rarely random reads look like a stream follows from the history's length: of 4 KiB reads all
 * over 512 MiB, one in 250 follows one of the last 64 by chance, one in 100,000 follows two.
 */
#include "order/piece.h"
#include "order/stream.h"

#include <errno.h>
#include <stdlib.h>

#define STREAMS 16
#define HISTORY 64
#define STRIDE_HISTORY 32 /* strides are sought among so many: that search is quadratic */
#define IDLE_ACCESSES                                                                              \
	256 /* a stream not heard of for so many accesses of others gets no guesses                \
	     */

struct readahead_order {
	struct hither_order base;
	uint64_t size;
	uint64_t clock;  /* accesses so far */
	uint64_t served; /* guesses so far */
	struct stream streams[STREAMS];
	unsigned history_count;
	struct access history[HISTORY]; /* newest first */
};

static void forget(struct readahead_order *r, unsigned i)
{
	r->history_count--;
	for (; i < r->history_count; i++)
		r->history[i] = r->history[i + 1];
}

static void remember(struct readahead_order *r, struct access x)
{
	if (r->history_count < HISTORY)
		r->history_count++;
	for (unsigned i = r->history_count - 1; i > 0; i--)
		r->history[i] = r->history[i - 1];
	r->history[0] = x;
}

/* What was read lately is read again: no sign of anything. */
static bool is_repeated(const struct readahead_order *r, struct access x)
{
	for (unsigned i = 0; i < r->history_count; i++) {
		struct access h = r->history[i];
		if (x.offset >= h.offset && x.offset + x.len <= h.offset + h.len)
			return true;
	}
	return false;
}

static struct stream *least_used(struct readahead_order *r)
{
	struct stream *least = &r->streams[0];
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &r->streams[i];
		if (s->kind == STREAM_FREE)
			return s;
		if (s->used < least->used)
			least = s;
	}
	return least;
}

/* The entry of the history that x follows; -1: none. */
static int predecessor(const struct readahead_order *r, struct access x, bool backward)
{
	for (unsigned i = 0; i < r->history_count; i++) {
		struct access h = r->history[i];
		if (stream_follows(backward ? stream_mirror(h, r->size) : h, x))
			return (int)i;
	}
	return -1;
}

/*
 * A reader may jump a little within what was already guessed for it, and its requests may overtake
 * each other so much that they look like a run the other way. Then the run there goes on, rather
 * than a new one beginning that guesses the same again.
 */
static struct stream *run_around(struct readahead_order *r, struct access x)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		if (stream_covers(&r->streams[i], x, r->size))
			return &r->streams[i];
	}
	return NULL;
}

/* x is mirrored if backward. */
static struct stream *find_run(struct readahead_order *r, struct access x, bool backward)
{
	int last = predecessor(r, x, backward);
	if (last < 0)
		return NULL;
	struct access before = r->history[last];
	if (backward)
		before = stream_mirror(before, r->size);
	int first = predecessor(r, before, backward);
	if (first < 0)
		return NULL;
	struct access start = r->history[first];
	if (backward)
		start = stream_mirror(start, r->size);
	forget(r, (unsigned)last); /* the first stays: runs may begin at a constant step */
	struct access seen = backward ? stream_mirror(x, r->size) : x;
	struct stream *s = run_around(r, seen);
	if (s) {
		stream_advance(s, seen, r->size);
		return s;
	}
	s = least_used(r);
	stream_start_run(s, backward, start.offset, x);
	return s;
}

static bool alike(struct access a, struct access b)
{
	return a.len > b.len ? a.len - b.len <= STREAM_PAGE : b.len - a.len <= STREAM_PAGE;
}

/* An entry older than i, of like length, one step before `at`; -1: none. */
static int older_step(const struct readahead_order *r, unsigned i, struct access at, int64_t step)
{
	for (unsigned k = i + 1; k < r->history_count && k < STRIDE_HISTORY; k++) {
		struct access h = r->history[k];
		if (alike(h, at) && stream_same_step(step, (int64_t)(at.offset - h.offset), at.len))
			return (int)k;
	}
	return -1;
}

/*
 * How far was read on from the element x? It may have come in several accesses, the later ones of
 * which are in the history, or have become a run: that one ends here, since the stride goes on from
 * now.
 */
static uint64_t element_length(struct readahead_order *r, struct access x)
{
	uint64_t end = x.offset + x.len;
	for (unsigned i = r->history_count; i-- > 0;) {
		struct access h = r->history[i];
		if (h.offset > x.offset && h.offset <= end && h.offset + h.len > end)
			end = h.offset + h.len;
	}
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &r->streams[i];
		if (s->kind != STREAM_RUN || s->run.backward || s->run.start != x.offset)
			continue;
		if (s->run.head > end)
			end = s->run.head;
		s->kind = STREAM_FREE;
	}
	return end - x.offset;
}

static struct stream *find_stride(struct readahead_order *r, struct access x)
{
	for (unsigned i = 0; i < r->history_count && i < STRIDE_HISTORY; i++) {
		struct access b = r->history[i];
		int64_t step = (int64_t)(x.offset - b.offset);
		uint64_t distance = step < 0 ? -(uint64_t)step : (uint64_t)step;
		if (!alike(x, b) || distance <= x.len + stream_gap(x.len))
			continue;
		int second = older_step(r, i, b, step);
		if (second < 0)
			continue;
		struct access a = r->history[second];
		int third = older_step(r, (unsigned)second, a, step);
		if (third < 0)
			continue;
		struct access z = r->history[third];
		bool exact = (int64_t)(b.offset - a.offset) == step &&
		             (int64_t)(a.offset - z.offset) == step;
		uint64_t len = element_length(r, b);
		element_length(r, a);
		element_length(r, z);
		struct stream *s = least_used(r);
		stream_start_stride(s, x.offset, (int64_t)(x.offset - z.offset), 3, exact,
		                    len > x.len ? len : x.len);
		s->stride.run_len = x.len;
		forget(r, (unsigned)third);
		forget(r, (unsigned)second);
		forget(r, i);
		return s;
	}
	return NULL;
}

/* The stream that x belongs to; NULL: none. */
static struct stream *known_stream(struct readahead_order *r, struct access x)
{
	struct stream *nearest = NULL;
	uint64_t least = UINT64_MAX;
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &r->streams[i];
		uint64_t distance = stream_distance(s, x, r->size);
		/* At equal distances a run wins: readers of runs may march in step, which is a
		 * stride too. */
		if (distance < least ||
		    (distance == least && nearest && nearest->kind == STREAM_STRIDE)) {
			least = distance;
			nearest = s;
		}
		stream_note(s, x);
	}
	return nearest;
}

/*
 * Look for a pattern that x completes, if no stream knows x or if `known` does as the beginning of
 * an element: runs that march in step look like one stride after another, and must still be found
 * out.
 */
static struct stream *consider(struct readahead_order *r, struct access x, struct stream *known)
{
	if (is_repeated(r, x))
		return known;
	struct stream *s = find_run(r, x, false);
	if (!s)
		s = find_run(r, stream_mirror(x, r->size), true);
	if (s)
		return s;
	s = known ? known : find_stride(r, x);
	remember(r, x);
	return s;
}

static void readahead_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct readahead_order *r = (struct readahead_order *)o;
	struct hither_range range = {offset, len};
	if (!hither_order_clip(&range, r->size))
		return;
	struct access x = {range.offset, range.len};
	r->clock++;
	struct stream *s = known_stream(r, x);
	if (s)
		stream_advance(s, x, r->size);
	if (!s || (s->kind == STREAM_STRIDE && s->stride.head == x.offset))
		s = consider(r, x, s);
	if (!s)
		return;
	s->used = r->clock;
	if (waited)
		s->waited = r->clock;
}

/* Who waited last comes first, once; then who has not been served for longest. */
static bool is_before(const struct stream *a, const struct stream *b)
{
	return a->waited != b->waited ? a->waited > b->waited : a->served < b->served;
}

static bool readahead_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct readahead_order *r = (struct readahead_order *)o;
	struct stream *best = NULL;
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &r->streams[i];
		if (s->kind != STREAM_FREE && r->clock - s->used <= IDLE_ACCESSES &&
		    stream_guess(s, window_bytes, r->size, false, out) &&
		    (!best || is_before(s, best)))
			best = s;
	}
	if (!best)
		return false;
	stream_guess(best, window_bytes, r->size, true, out);
	best->waited = 0;
	best->served = ++r->served;
	return true;
}

static bool readahead_left(struct hither_order *o, struct hither_range *out)
{
	struct readahead_order *r = (struct readahead_order *)o;
	for (unsigned i = 0; i < STREAMS; i++)
		if (stream_left(&r->streams[i], r->size, out))
			return true;
	return false;
}

static void readahead_destroy(struct hither_order *o)
{
	free(o);
}

static const struct hither_order_ops readahead_ops = {
        .name = "readahead",
        .next = readahead_next,
        .saw = readahead_saw,
        .left = readahead_left,
        .destroy = readahead_destroy,
};

int hither_order_readahead(const struct hither_order_view *view, struct hither_order **out,
                           struct hither_error *err)
{
	struct readahead_order *r = calloc(1, sizeof *r);
	if (!r)
		return hither_fail(err, -ENOMEM, "order readahead: no memory");
	r->base.ops = &readahead_ops;
	r->size = view->size_bytes;
	*out = &r->base;
	return 0;
}
