/* SPDX-License-Identifier: Apache-2.0 */
/* Space of one's own: what was never written reads as zeros, and costs no round trip. */
#include "base/cleanup.h"
#include "layer/layer.h"

#include <errno.h>
#include <hither/layer.h>
#include <stdatomic.h>

enum { BLOCK_BYTES = 4096, ZEROS_BYTES = 64 << 10 };

struct fresh_layer {
	struct hither_layer layer;  /* first: freed as one */
	_Atomic uint64_t written[]; /* bit per block: inner has it */
};

static struct fresh_layer *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct fresh_layer, layer.base);
}

static bool is_written(struct fresh_layer *f, uint64_t block)
{
	return atomic_load(&f->written[block / 64]) >> block % 64 & 1;
}

static uint64_t fresh_extent(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole)
{
	struct fresh_layer *f = self(b);
	uint64_t block = offset / BLOCK_BYTES, end = offset + max;
	*hole = !is_written(f, block);
	do
		block++;
	while (block * BLOCK_BYTES < end && is_written(f, block) != *hole);
	return (block * BLOCK_BYTES < end ? block * BLOCK_BYTES : end) - offset;
}

static int zeros(struct hither_sink *sink, uint64_t len)
{
	static const char nothing[ZEROS_BYTES];
	int r = 0;
	while (len > 0 && !r) {
		size_t n = len < ZEROS_BYTES ? (size_t)len : ZEROS_BYTES;
		r = sink->take(sink, nothing, n);
		len -= n;
	}
	return r;
}

static int fresh_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                      struct hither_sink *sink, struct hither_error *err)
{
	struct fresh_layer *f = self(b);
	int r = hither_layer_check(&f->layer, err);
	while (len > 0 && !r) {
		bool hole;
		uint64_t n = fresh_extent(b, offset, len, &hole);
		r = hole ? zeros(sink, n)
		         : hither_backend_read(f->layer.inner, offset, n, sink, err);
		offset += n;
		len -= n;
	}
	return r;
}

static int fresh_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                          struct hither_error *err)
{
	struct fresh_layer *f = self(b);
	int r = hither_layer_write_at(b, buf, len, offset, err);
	for (uint64_t at = offset / BLOCK_BYTES; !r && at * BLOCK_BYTES < offset + len; at++)
		atomic_fetch_or(&f->written[at / 64], UINT64_C(1) << at % 64);
	return r;
}

static void fresh_discard(struct hither_backend *b, uint64_t offset, uint64_t len)
{
	struct fresh_layer *f = self(b);
	for (uint64_t at = offset / BLOCK_BYTES; at * BLOCK_BYTES < offset + len; at++)
		atomic_fetch_and(&f->written[at / 64], ~(UINT64_C(1) << at % 64));
}

static const struct hither_backend_ops fresh_ops = {
        .name = "fresh",
        .read = fresh_read,
        .write_at = fresh_write_at,
        .flush = hither_layer_flush,
        .cancel = hither_layer_cancel,
        .extent = fresh_extent,
        .discard = fresh_discard,
        .close = hither_layer_close,
};

int hither_layer_fresh(struct hither_backend *inner, struct hither_backend **out,
                       struct hither_error *err)
{
	uint64_t words = inner->size_bytes / BLOCK_BYTES / 64 + 1;
	HITHER_FREE struct fresh_layer *f = calloc(1, sizeof *f + words * sizeof f->written[0]);
	if (!f)
		return hither_fail(err, -ENOMEM, "fresh: no memory");
	int r = hither_layer_init(&f->layer, &fresh_ops, inner, err);
	if (r)
		return r;
	hither_layer_changes(&f->layer);
	f->layer.base.flags |= inner->flags & HITHER_BACKEND_TELLS_ASKED;
	if (f->layer.base.align_bytes < BLOCK_BYTES)
		f->layer.base.align_bytes = BLOCK_BYTES;
	*out = &HITHER_TAKE(f, NULL)->layer.base;
	return 0;
}
