/* SPDX-License-Identifier: Apache-2.0 */
/* A round trip that can be chosen: each read, write and flush waits before it goes on. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "layer/layer.h"

#include <errno.h>
#include <hither/layer.h>

struct delay_layer {
	struct hither_layer layer; /* first: freed as one */
	uint64_t delay_ns;
};

static int wait(struct hither_backend *b, struct hither_error *err)
{
	struct delay_layer *d = HITHER_CONTAINER(b, struct delay_layer, layer.base);
	return hither_layer_wait_until(&d->layer, hither_now_ns() + d->delay_ns, err);
}

static int delay_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                      struct hither_sink *sink, struct hither_error *err)
{
	int r = wait(b, err);
	return r ? r : hither_layer_read(b, offset, len, sink, err);
}

static int delay_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                          struct hither_error *err)
{
	int r = wait(b, err);
	return r ? r : hither_layer_write_at(b, buf, len, offset, err);
}

static int delay_flush(struct hither_backend *b, struct hither_error *err)
{
	int r = wait(b, err);
	return r ? r : hither_layer_flush(b, err);
}

static const struct hither_backend_ops delay_ops = {
        .name = "delay",
        .read = delay_read,
        .write_at = delay_write_at,
        .flush = delay_flush,
        .version = hither_layer_version,
        .cancel = hither_layer_cancel,
        .close = hither_layer_close,
};

int hither_layer_delay(struct hither_backend *inner, uint64_t delay_us, struct hither_backend **out,
                       struct hither_error *err)
{
	/* A day is longer than any wait that is meant; more could run over the clock's range. */
	if (delay_us > UINT64_C(86400) * 1000000)
		return hither_fail(err, -EINVAL, "delay: more than a day");
	HITHER_FREE struct delay_layer *d = calloc(1, sizeof *d);
	if (!d)
		return hither_fail(err, -ENOMEM, "delay: no memory");
	int r = hither_layer_init(&d->layer, &delay_ops, inner, err);
	if (r)
		return r;
	d->delay_ns = delay_us * 1000;
	/* It stands in for a network, and who wraps it shall treat it as one. */
	if (delay_us)
		d->layer.base.flags &= ~(uint32_t)HITHER_BACKEND_LOCAL;
	*out = &HITHER_TAKE(d, NULL)->layer.base;
	return 0;
}
