/* SPDX-License-Identifier: Apache-2.0 */
#include "order/stream.h"

#include "order/piece.h"

#define MOST_REORDERED (UINT64_C(2) << 20) /* two requests of the largest size */
#define MOST_WINDOW (UINT64_C(32) << 20)
#define LEFT_LEAST (UINT64_C(1) << 20) /* of shorter runs nothing is left behind */
#define LEFT_GAP (UINT64_C(128) << 10) /* so far behind: a reader may look back a little */
#define RUN_TRUST 8 /* a run is guessed for at most so many times what was read of it */
#define STRIDE_TRUST                                                                               \
	4 /* and a stride for so many times the elements read, if its step is exact                \
	   */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t clamp_u64(uint64_t x, uint64_t least, uint64_t most)
{
	return x < least ? least : min_u64(x, most);
}

static uint64_t magnitude(int64_t x)
{
	return x < 0 ? -(uint64_t)x : (uint64_t)x;
}

uint64_t stream_gap(uint64_t len)
{
	return clamp_u64(len > UINT32_MAX ? len : 2 * len, UINT64_C(16) << 10, UINT64_C(256) << 10);
}

bool stream_follows(struct access a, struct access b)
{
	uint64_t a_end = a.offset + a.len, b_end = b.offset + b.len;
	return b.offset > a.offset && b_end > a_end && b.offset + STREAM_PAGE >= a_end &&
	       b.offset <= a_end + stream_gap(b.len);
}

/*
 * Accesses come in whole pages, so a step that is no multiple of a page alternates between two.
 * Only for wide steps, where a guess that is off by a page still hits the right chunk and no other
 * element.
 */
static uint64_t step_tolerance(int64_t step, uint64_t len)
{
	return magnitude(step) >= len + STREAM_LEAST_WINDOW ? 2 * STREAM_PAGE : 0;
}

bool stream_same_step(int64_t step, int64_t other, uint64_t len)
{
	return (step < 0) == (other < 0) && magnitude(step - other) <= step_tolerance(step, len);
}

void stream_start_run(struct stream *s, bool backward, uint64_t start, struct access x)
{
	*s = (struct stream){.kind = STREAM_RUN};
	s->window = clamp_u64(min_u64(x.len, MOST_WINDOW) * 2, STREAM_LEAST_WINDOW, MOST_WINDOW);
	s->run.backward = backward;
	s->run.start = s->run.left = start;
	s->run.head = s->run.emitted = x.offset + x.len;
}

/* What pulling one element costs: a chunk at least. */
static uint64_t element_cost(const struct stream *s)
{
	return max_u64(s->stride.elem_len, STREAM_LEAST_WINDOW);
}

void stream_start_stride(struct stream *s, uint64_t head, int64_t span, uint32_t steps, bool exact,
                         uint64_t elem_len)
{
	*s = (struct stream){.kind = STREAM_STRIDE};
	s->stride.exact = exact;
	s->stride.steps = steps;
	s->stride.span = span;
	s->stride.head = head;
	s->stride.elem_len = s->stride.run_len = min_u64(elem_len, magnitude(span / steps));
	s->window = min_u64(2 * element_cost(s), MOST_WINDOW);
}

/* How far in front of the reader the element `count` steps on begins. */
static __int128 steps_ahead(const struct stream *s, int64_t count)
{
	return (__int128)s->stride.span * count / s->stride.steps;
}

/* Which element after the last is at offset? 0: none of them. Up to two may have been left out. */
static int64_t which_element(const struct stream *s, uint64_t offset, uint64_t *off_by)
{
	int64_t step = s->stride.span / (int64_t)s->stride.steps;
	int64_t distance = (int64_t)(offset - s->stride.head);
	if ((distance < 0) != (step < 0))
		return 0;
	uint64_t count = (magnitude(distance) + magnitude(step) / 2) / magnitude(step);
	if (count == 0 || count > s->stride.ahead + 3)
		return 0;
	*off_by = magnitude((int64_t)(distance - steps_ahead(s, (int64_t)count)));
	return *off_by <= step_tolerance(step, s->stride.elem_len) ? (int64_t)count : 0;
}

/* How far the requests of one reader may overtake each other: sixteen of them. */
static uint64_t reach(uint64_t len)
{
	return clamp_u64(16 * min_u64(len, MOST_WINDOW), STREAM_LEAST_WINDOW, MOST_REORDERED);
}

static uint64_t run_distance(const struct stream *s, struct access x)
{
	uint64_t end = x.offset + x.len, head = s->run.head;
	uint64_t ahead = max_u64(stream_gap(x.len), min_u64(reach(x.len), s->run.emitted - head));
	if (x.offset > head + ahead || end + reach(x.len) < head || end < s->run.start)
		return UINT64_MAX;
	return x.offset > head ? x.offset - head : head - x.offset;
}

bool stream_covers(const struct stream *s, struct access x, uint64_t size)
{
	if (s->kind != STREAM_RUN)
		return false;
	if (s->run.backward)
		x = stream_mirror(x, size);
	return x.offset + reach(x.len) >= s->run.head && x.offset <= s->run.emitted;
}

static uint64_t stride_distance(const struct stream *s, struct access x)
{
	uint64_t off_by;
	if (which_element(s, x.offset, &off_by))
		return off_by;
	uint64_t inside = x.offset - s->stride.head;
	/* The rest of an element; what goes beyond one may be a run of its own. */
	return inside < s->stride.elem_len && x.len <= s->stride.elem_len - inside ? 0 : UINT64_MAX;
}

uint64_t stream_distance(const struct stream *s, struct access x, uint64_t size)
{
	if (s->kind == STREAM_RUN)
		return run_distance(s, s->run.backward ? stream_mirror(x, size) : x);
	return s->kind == STREAM_STRIDE ? stride_distance(s, x) : UINT64_MAX;
}

static void advance_run(struct stream *s, struct access x)
{
	uint64_t end = x.offset + x.len;
	if (end <= s->run.head)
		return; /* overtaken, or read again */
	s->run.head = end;
	s->run.emitted = max_u64(s->run.emitted, end);
	uint64_t trust = max_u64(RUN_TRUST * min_u64(end - s->run.start, MOST_WINDOW), s->window);
	s->window = min_u64(min_u64(2 * s->window, trust), MOST_WINDOW);
}

static void advance_stride(struct stream *s, struct access x)
{
	uint64_t off_by, inside = x.offset - s->stride.head;
	int64_t count = which_element(s, x.offset, &off_by);
	if (count == 0) {
		s->stride.run_len = max_u64(s->stride.run_len, inside + x.len);
		return;
	}
	s->stride.exact = s->stride.exact && off_by == 0;
	s->stride.span += (int64_t)inside;
	s->stride.steps += (uint32_t)count;
	s->stride.ahead -= min_u64(s->stride.ahead, (uint64_t)count);
	s->stride.head = x.offset;
	uint64_t step = magnitude(s->stride.span / (int64_t)s->stride.steps);
	s->stride.elem_len = min_u64(max_u64(s->stride.run_len, x.len), step);
	s->stride.run_len = x.len;
	s->window = min_u64(2 * s->window, MOST_WINDOW);
}

void stream_advance(struct stream *s, struct access x, uint64_t size)
{
	if (s->kind == STREAM_RUN)
		advance_run(s, s->run.backward ? stream_mirror(x, size) : x);
	else
		advance_stride(s, x);
}

void stream_note(struct stream *s, struct access x)
{
	if (s->kind != STREAM_STRIDE || x.offset < s->stride.head)
		return;
	uint64_t inside = x.offset - s->stride.head;
	if (inside > s->stride.run_len || inside + x.len <= s->stride.run_len)
		return;
	s->stride.run_len = inside + x.len;
}

static bool run_guess(struct stream *s, uint64_t limit, uint64_t size, bool hand_out,
                      struct hither_range *out)
{
	uint64_t window = min_u64(s->window, limit), from = s->run.emitted;
	uint64_t end = min_u64(s->run.head + window, size);
	/* Wait for a quarter of the window to become free: fewer, larger requests. */
	if (from >= end || (end < size && end - from < window / 4))
		return false;
	if (!hand_out)
		return true;
	end = min_u64(end, from + HITHER_ORDER_PIECE_BYTES);
	s->run.emitted = end;
	struct access x = {from, end - from};
	if (s->run.backward)
		x = stream_mirror(x, size);
	*out = (struct hither_range){x.offset, x.len};
	return true;
}

static bool stride_guess(struct stream *s, uint64_t limit, uint64_t size, bool hand_out,
                         struct hither_range *out)
{
	uint64_t window = min_u64(s->window, limit);
	/*
	 * Where page rounding hides the step, the mean of n is off by up to 1/n page. So n elements
	 * ahead are off by one, and the last one read by another.
	 */
	uint64_t most = s->stride.steps * (s->stride.exact ? (uint64_t)STRIDE_TRUST : 1);
	/* One element ahead is always allowed, however long. */
	if (s->stride.ahead >= most ||
	    (s->stride.ahead && (s->stride.ahead + 1) * element_cost(s) > window))
		return false;
	__int128 from = s->stride.head + steps_ahead(s, (int64_t)s->stride.ahead + 1);
	__int128 end = from + s->stride.elem_len;
	if (!s->stride.exact) {
		from -= 2 * STREAM_PAGE;
		end += 2 * STREAM_PAGE;
	}
	from = from < 0 ? 0 : from;
	end = end > size ? size : end;
	if (from >= end)
		return false; /* past either end of the mount */
	if (hand_out) {
		s->stride.ahead++;
		*out = (struct hither_range){(uint64_t)from, (uint64_t)(end - from)};
	}
	return true;
}

bool stream_guess(struct stream *s, uint64_t limit, uint64_t size, bool hand_out,
                  struct hither_range *out)
{
	limit = clamp_u64(min_u64(limit, MOST_WINDOW) * 2, UINT64_C(1) << 20, MOST_WINDOW);
	if (s->kind == STREAM_RUN)
		return run_guess(s, limit, size, hand_out, out);
	return s->kind == STREAM_STRIDE && stride_guess(s, limit, size, hand_out, out);
}

bool stream_left(struct stream *s, uint64_t size, struct hither_range *out)
{
	if (s->kind != STREAM_RUN || s->run.head - s->run.start < LEFT_LEAST ||
	    s->run.head - s->run.left <= LEFT_GAP)
		return false;
	struct access x = {s->run.left, s->run.head - LEFT_GAP - s->run.left};
	s->run.left += x.len;
	if (s->run.backward)
		x = stream_mirror(x, size);
	*out = (struct hither_range){x.offset, x.len};
	return true;
}
