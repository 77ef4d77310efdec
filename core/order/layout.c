/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where seeks cost seconds: ranges in the order of the medium, round and round, until a round was
 * not disturbed. Who has to wait for something elsewhere takes the round there, since the drive
 * goes there anyway, and what lies behind that costs no seek; what was left out comes at the end of
 * the round. So a background never calls the drive back from where somebody reads.
 */
#include "order/piece.h"

#include <errno.h>
#include <stdlib.h>

/* Handed out at a time, at least; and what is so near on the medium comes without a turn. */
#define PIECE_BYTES (UINT64_C(16) << 20)

struct laid {
	uint64_t offset, len;
	uint64_t at; /* bytes of the medium before it */
};

struct layout_order {
	struct hither_order base;
	size_t count, next;
	uint64_t in;          /* bytes of ranges[next] that were handed out */
	uint64_t left, total; /* bytes: of this round, of a whole one */
	uint32_t *by_offset;  /* [count] */
	struct laid ranges[]; /* in the order of the medium */
};

static bool layout_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct layout_order *l = (struct layout_order *)o;
	if (!l->left)
		return false;
	const struct laid *r = &l->ranges[l->next];
	struct hither_range rest = {r->offset + l->in, r->len - l->in};
	hither_order_cut(&rest, window_bytes > PIECE_BYTES ? window_bytes : PIECE_BYTES, out);
	l->in += out->len;
	l->left -= out->len < l->left ? out->len : l->left;
	if (!rest.len) {
		l->next = (l->next + 1) % l->count;
		l->in = 0;
	}
	return true;
}

/* The range that has it; NULL: a hole. */
static const struct laid *find(const struct layout_order *l, uint64_t offset)
{
	size_t low = 0, high = l->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (l->ranges[l->by_offset[middle]].offset <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	const struct laid *r = low ? &l->ranges[l->by_offset[low - 1]] : NULL;
	return r && offset - r->offset < r->len ? r : NULL;
}

/* What was handed out last may have been dropped for who waits. */
static void go_back(struct layout_order *l, uint64_t bytes)
{
	while (bytes) {
		if (!l->in && !l->next)
			break;
		if (!l->in)
			l->in = l->ranges[--l->next].len;
		uint64_t n = bytes < l->in ? bytes : l->in;
		l->in -= n;
		l->left += n;
		bytes -= n;
	}
	if (l->left > l->total)
		l->left = l->total;
}

static void layout_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct layout_order *l = (struct layout_order *)o;
	const struct laid *r = waited ? find(l, offset) : NULL;
	if (!r)
		return;
	uint64_t now = l->ranges[l->next].at + l->in, there = r->at + (offset - r->offset);
	if (l->left && (now > there ? now - there : there - now) <= PIECE_BYTES) {
		go_back(l, now > there ? PIECE_BYTES + (now - there) : PIECE_BYTES);
		return;
	}
	l->next = (size_t)(r - l->ranges);
	l->in = offset - r->offset;
	l->left = l->total;
}

static void layout_destroy(struct hither_order *o)
{
	free(((struct layout_order *)o)->by_offset);
	free(o);
}

static const struct hither_order_ops layout_ops = {
        .name = "layout",
        .next = layout_next,
        .saw = layout_saw,
        .destroy = layout_destroy,
};

static int by_offset(const void *a, const void *b, void *user)
{
	const struct laid *ranges = user;
	uint64_t x = ranges[*(const uint32_t *)a].offset, y = ranges[*(const uint32_t *)b].offset;
	return x < y ? -1 : x > y;
}

int hither_order_layout(const struct hither_order_view *view, const struct hither_range *ranges,
                        size_t count, struct hither_order **out, struct hither_error *err)
{
	struct layout_order *l = NULL;
	if (count < UINT32_MAX)
		l = malloc(sizeof *l + count * sizeof *l->ranges);
	uint32_t *sorted = l ? malloc((count + 1) * sizeof *sorted) : NULL;
	if (!sorted) {
		free(l);
		return hither_fail(err, -ENOMEM, "order layout: no memory for %zu ranges", count);
	}
	*l = (struct layout_order){.base.ops = &layout_ops, .by_offset = sorted};
	for (size_t i = 0; i < count; i++) {
		struct hither_range range = ranges[i];
		if (!hither_order_clip(&range, view->size_bytes))
			continue;
		l->ranges[l->count] = (struct laid){range.offset, range.len, l->total};
		sorted[l->count] = (uint32_t)l->count;
		l->total += range.len;
		l->count++;
	}
	qsort_r(sorted, l->count, sizeof *sorted, by_offset, l->ranges);
	l->left = l->total;
	*out = &l->base;
	return 0;
}
