/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges that somebody named, in the order named, once. */
#include "order/piece.h"

#include <errno.h>
#include <stdlib.h>

struct ranges_order {
	struct hither_order base;
	size_t at; /* the first range that has something left */
	size_t count;
	struct hither_range
	        ranges[]; /* inside the mount, not empty; what is handed out is cut off */
};

static bool ranges_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct ranges_order *r = (struct ranges_order *)o;
	if (r->at == r->count)
		return false;
	hither_order_cut(&r->ranges[r->at], window_bytes, out);
	if (r->ranges[r->at].len == 0)
		r->at++;
	return true;
}

static void ranges_destroy(struct hither_order *o)
{
	free(o);
}

static const struct hither_order_ops ranges_ops = {
        .name = "ranges",
        .next = ranges_next,
        .destroy = ranges_destroy,
};

int hither_order_ranges(const struct hither_order_view *view, const struct hither_range *ranges,
                        size_t count, struct hither_order **out, struct hither_error *err)
{
	struct ranges_order *r = NULL;
	if (count <= (SIZE_MAX - sizeof *r) / sizeof *ranges)
		r = malloc(sizeof *r + count * sizeof *ranges);
	if (!r)
		return hither_fail(err, -ENOMEM, "order ranges: no memory for %zu ranges", count);
	*r = (struct ranges_order){.base.ops = &ranges_ops};
	for (size_t i = 0; i < count; i++) {
		struct hither_range range = ranges[i];
		if (hither_order_clip(&range, view->size_bytes))
			r->ranges[r->count++] = range;
	}
	*out = &r->base;
	return 0;
}
