/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a stream of every call: "read offset=0 len=4096 us=412 result=0". */
#include "base/cleanup.h"
#include "base/clock.h"
#include "layer/layer.h"

#include <errno.h>
#include <hither/layer.h>
#include <inttypes.h>
#include <stdio.h>

struct log_layer {
	struct hither_layer layer; /* first: freed as one */
	FILE *stream;              /* its own lock keeps lines whole */
};

static struct log_layer *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct log_layer, layer.base);
}

/* One printf, so one line, however many threads there are. */
static int tell(struct hither_backend *b, const char *op, uint64_t offset, uint64_t len,
                uint64_t start_ns, int result, const struct hither_error *err)
{
	uint64_t us = (hither_now_ns() - start_ns) / 1000;
	const char *message = result && err ? err->message : "";
	fprintf(self(b)->stream,
	        "%s offset=%" PRIu64 " len=%" PRIu64 " us=%" PRIu64 " result=%d%s%s\n", op, offset,
	        len, us, result, *message ? " " : "", message);
	return result;
}

static int log_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                    struct hither_sink *sink, struct hither_error *err)
{
	uint64_t start = hither_now_ns();
	int r = hither_layer_read(b, offset, len, sink, err);
	return tell(b, "read", offset, len, start, r, err);
}

static int log_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                        struct hither_error *err)
{
	uint64_t start = hither_now_ns();
	int r = hither_layer_write_at(b, buf, len, offset, err);
	return tell(b, "write", offset, len, start, r, err);
}

static int log_flush(struct hither_backend *b, struct hither_error *err)
{
	uint64_t start = hither_now_ns();
	int r = hither_layer_flush(b, err);
	return tell(b, "flush", 0, 0, start, r, err);
}

static int log_version(struct hither_backend *b, char *version, size_t size,
                       struct hither_error *err)
{
	uint64_t start = hither_now_ns();
	int r = hither_layer_version(b, version, size, err);
	return tell(b, "version", 0, 0, start, r, err);
}

static const struct hither_backend_ops log_ops = {
        .name = "log",
        .read = log_read,
        .write_at = log_write_at,
        .flush = log_flush,
        .version = log_version,
        .cancel = hither_layer_cancel, /* not told of: the stream could block it */
        .close = hither_layer_close,
};

int hither_layer_log(struct hither_backend *inner, void *stream, struct hither_backend **out,
                     struct hither_error *err)
{
	HITHER_FREE struct log_layer *l = calloc(1, sizeof *l);
	if (!l)
		return hither_fail(err, -ENOMEM, "log: no memory");
	int r = hither_layer_init(&l->layer, &log_ops, inner, err);
	if (r)
		return r;
	l->stream = stream;
	*out = &HITHER_TAKE(l, NULL)->layer.base;
	return 0;
}
