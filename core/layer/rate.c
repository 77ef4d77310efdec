/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link of chosen bandwidth. A bucket is kept as the time at which all bytes promised so far have
 * gone through: whoever wants to send moves it on by what his bytes take, then waits for it. An
 * idle bucket lags behind the clock by at most the burst. So all callers together keep the rate,
 * first come first served, with one number and no thread.
 *
 *          now - burst        now
 *   ------------|--------------|---------> time
 *    an idle bucket: one burst     free_ns: a busy one, the next byte goes then
 *    may go at once
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "layer/layer.h"

#include <errno.h>
#include <hither/layer.h>

enum {
	BURST_NS = 10 * 1000 * 1000, /* also the longest piece, in time: readers see bytes flow */
	PIECE_MAX_BYTES = 1 << 20,   /* times 1e9 still fits 64 bits */
};

struct bucket {
	uint64_t free_ns;
};

struct rate_layer {
	struct hither_layer layer; /* first: freed as one */
	uint64_t bytes_per_second;
	size_t piece_bytes;
	struct bucket read, write; /* guarded by layer.lock */
};

static struct rate_layer *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct rate_layer, layer.base);
}

/* Wait until len bytes, at most piece_bytes, may pass. */
static int pass(struct rate_layer *rl, struct bucket *bucket, size_t len, struct hither_error *err)
{
	uint64_t rate = rl->bytes_per_second;
	uint64_t cost = ((uint64_t)len * HITHER_NS_PER_S + rate - 1) / rate;
	uint64_t now = hither_now_ns();
	uint64_t idle = now > BURST_NS ? now - BURST_NS : 0;
	pthread_mutex_lock(&rl->layer.lock);
	if (bucket->free_ns < idle)
		bucket->free_ns = idle;
	bucket->free_ns += cost;
	uint64_t until = bucket->free_ns;
	pthread_mutex_unlock(&rl->layer.lock);
	return hither_layer_wait_until(&rl->layer, until, err);
}

struct rate_sink {
	struct hither_sink base;
	struct hither_sink *to;
	struct rate_layer *layer;
	struct hither_error *err;
};

static int rate_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct rate_sink *s = HITHER_CONTAINER(sink, struct rate_sink, base);
	const char *p = buf;
	int r = 0;
	while (len > 0 && !r) {
		size_t n = len < s->layer->piece_bytes ? len : s->layer->piece_bytes;
		r = pass(s->layer, &s->layer->read, n, s->err);
		if (!r)
			r = s->to->take(s->to, p, n);
		p += n;
		len -= n;
	}
	return r;
}

static int rate_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	struct rate_sink s = {{rate_take}, sink, self(b), err};
	return hither_layer_read(b, offset, len, &s.base, err);
}

static int rate_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                         struct hither_error *err)
{
	struct rate_layer *rl = self(b);
	int r = hither_layer_check(&rl->layer, err);
	for (size_t done = 0; done < len && !r;) {
		size_t n = len - done < rl->piece_bytes ? len - done : rl->piece_bytes;
		r = pass(rl, &rl->write, n, err);
		done += n;
	}
	return r ? r : hither_layer_write_at(b, buf, len, offset, err);
}

static const struct hither_backend_ops rate_ops = {
        .name = "rate",
        .read = rate_read,
        .write_at = rate_write_at,
        .flush = hither_layer_flush,
        .version = hither_layer_version,
        .cancel = hither_layer_cancel,
        .close = hither_layer_close,
};

int hither_layer_rate(struct hither_backend *inner, uint64_t bytes_per_second,
                      struct hither_backend **out, struct hither_error *err)
{
	if (bytes_per_second == 0)
		return hither_fail(err, -EINVAL, "rate: 0 bytes per second would never end");
	HITHER_FREE struct rate_layer *rl = calloc(1, sizeof *rl);
	if (!rl)
		return hither_fail(err, -ENOMEM, "rate: no memory");
	int r = hither_layer_init(&rl->layer, &rate_ops, inner, err);
	if (r)
		return r;
	uint64_t piece = bytes_per_second / (HITHER_NS_PER_S / BURST_NS);
	piece = piece < 1 ? 1 : piece;
	rl->piece_bytes = piece < PIECE_MAX_BYTES ? (size_t)piece : PIECE_MAX_BYTES;
	rl->bytes_per_second = bytes_per_second;
	/* It stands in for a network, and who wraps it shall treat it as one. */
	rl->layer.base.flags &= ~(uint32_t)HITHER_BACKEND_LOCAL;
	*out = &HITHER_TAKE(rl, NULL)->layer.base;
	return 0;
}
