/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies around a read that waited: in a tree of many files, and in an archive of many, what is
 * read next is rarely at the front, and often beside what was read. The newest place comes first;
 * at most three eighths of the window a place, so that one that waits for every round trip still
 * leaves room.
 */
#include "order/piece.h"

#include <errno.h>
#include <stdlib.h>

enum { PLACES = 8, AHEAD_PART = 4, BACK_PART = 8 };

struct place {
	struct hither_range read; /* len 0: none */
	bool ahead;               /* what follows it was handed out; what comes before it not yet */
};

struct near_order {
	struct hither_order base;
	uint64_t size;
	struct place places[PLACES]; /* newest first */
};

static void forget(struct near_order *n, unsigned i)
{
	for (; i + 1 < PLACES; i++)
		n->places[i] = n->places[i + 1];
	n->places[PLACES - 1] = (struct place){0};
}

/* The next of p's two sides that has something; p is done once its read.len is 0. */
static bool around(struct near_order *n, struct place *p, uint64_t window_bytes,
                   struct hither_range *out)
{
	uint64_t end = p->read.offset + p->read.len, back = window_bytes / BACK_PART;
	if (!p->ahead) {
		p->ahead = true;
		*out = (struct hither_range){end, window_bytes / AHEAD_PART};
		if (hither_order_clip(out, n->size))
			return true;
	}
	uint64_t from = p->read.offset > back ? p->read.offset - back : 0;
	*out = (struct hither_range){from, p->read.offset - from};
	p->read.len = 0;
	return out->len > 0;
}

static bool near_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct near_order *n = (struct near_order *)o;
	while (n->places[0].read.len) {
		bool found = around(n, &n->places[0], window_bytes, out);
		if (!n->places[0].read.len)
			forget(n, 0);
		if (found)
			return true;
	}
	return false;
}

static void near_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct near_order *n = (struct near_order *)o;
	struct hither_range read = {offset, len};
	if (!waited || !hither_order_clip(&read, n->size))
		return;
	for (unsigned i = PLACES - 1; i > 0; i--)
		n->places[i] = n->places[i - 1];
	n->places[0] = (struct place){.read = read};
}

static void near_destroy(struct hither_order *o)
{
	free(o);
}

static const struct hither_order_ops near_ops = {
        .name = "near",
        .next = near_next,
        .saw = near_saw,
        .destroy = near_destroy,
};

int hither_order_near(const struct hither_order_view *view, struct hither_order **out,
                      struct hither_error *err)
{
	struct near_order *n = calloc(1, sizeof *n);
	if (!n)
		return hither_fail(err, -ENOMEM, "order near: no memory");
	n->base.ops = &near_ops;
	n->size = view->size_bytes;
	*out = &n->base;
	return 0;
}
