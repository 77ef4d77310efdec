/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several orders as one: each is asked in turn, from the first, at every call, so that a guess of
 * an early order is taken as soon as it exists.
 */
#include <errno.h>
#include <hither/order.h>
#include <stdlib.h>
#include <string.h>

struct compose_order {
	struct hither_order base;
	size_t count;
	struct hither_order *orders[]; /* owned */
};

static bool compose_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct compose_order *c = (struct compose_order *)o;
	for (size_t i = 0; i < c->count; i++) {
		if (c->orders[i]->ops->next(c->orders[i], window_bytes, out))
			return true;
	}
	return false;
}

static void compose_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct compose_order *c = (struct compose_order *)o;
	bool known = false;
	for (size_t i = 0; i < c->count && !known; i++) {
		const struct hither_order_ops *ops = c->orders[i]->ops;
		known = ops->knows && ops->knows(c->orders[i], offset, len);
		if (ops->saw)
			ops->saw(c->orders[i], offset, len, waited);
	}
}

static bool compose_knows(struct hither_order *o, uint64_t offset, uint64_t len)
{
	struct compose_order *c = (struct compose_order *)o;
	bool known = false;
	for (size_t i = 0; i < c->count && !known; i++)
		known = c->orders[i]->ops->knows &&
		        c->orders[i]->ops->knows(c->orders[i], offset, len);
	return known;
}

static bool compose_left(struct hither_order *o, struct hither_range *out)
{
	struct compose_order *c = (struct compose_order *)o;
	for (size_t i = 0; i < c->count; i++) {
		if (c->orders[i]->ops->left && c->orders[i]->ops->left(c->orders[i], out))
			return true;
	}
	return false;
}

static void compose_arrived(struct hither_order *o, uint64_t offset, uint64_t len)
{
	struct compose_order *c = (struct compose_order *)o;
	for (size_t i = 0; i < c->count; i++) {
		if (c->orders[i]->ops->arrived)
			c->orders[i]->ops->arrived(c->orders[i], offset, len);
	}
}

static void compose_destroy(struct hither_order *o)
{
	struct compose_order *c = (struct compose_order *)o;
	for (size_t i = 0; i < c->count; i++)
		hither_order_destroy(c->orders[i]);
	free(c);
}

static const struct hither_order_ops compose_ops = {
        .name = "compose",
        .next = compose_next,
        .saw = compose_saw,
        .knows = compose_knows,
        .left = compose_left,
        .arrived = compose_arrived,
        .destroy = compose_destroy,
};

int hither_order_compose(struct hither_order *const *orders, size_t count,
                         struct hither_order **out, struct hither_error *err)
{
	struct compose_order *c = malloc(sizeof *c + count * sizeof(struct hither_order *));
	if (!c) {
		for (size_t i = 0; i < count; i++)
			hither_order_destroy(orders[i]);
		return hither_fail(err, -ENOMEM, "order compose: no memory for %zu orders", count);
	}
	c->base.ops = &compose_ops;
	c->count = count;
	if (count)
		memcpy(c->orders, orders, count * sizeof *orders);
	*out = &c->base;
	return 0;
}
