/* SPDX-License-Identifier: Apache-2.0 */
/* Front to back, once: the last order of most compositions. */
#include "order/piece.h"

#include <errno.h>
#include <stdlib.h>

struct front_order {
	struct hither_order base;
	struct hither_range rest; /* not handed out yet */
};

static bool front_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct front_order *f = (struct front_order *)o;
	return hither_order_cut(&f->rest, window_bytes, out);
}

static void front_destroy(struct hither_order *o)
{
	free(o);
}

static const struct hither_order_ops front_ops = {
        .name = "front",
        .next = front_next,
        .destroy = front_destroy,
};

int hither_order_front(const struct hither_order_view *view, struct hither_order **out,
                       struct hither_error *err)
{
	struct front_order *f = calloc(1, sizeof *f);
	if (!f)
		return hither_fail(err, -ENOMEM, "order front: no memory");
	f->base.ops = &front_ops;
	f->rest.len = view->size_bytes;
	*out = &f->base;
	return 0;
}
