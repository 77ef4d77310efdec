/* SPDX-License-Identifier: Apache-2.0 */
/* Fails on demand: the k-th read, half a write, a changed version. For tests. */
#include "base/cleanup.h"
#include "layer/layer.h"

#include <assert.h>
#include <errno.h>
#include <hither/layer.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct fault { /* what is armed for one kind of call */
	uint64_t calls;
	uint64_t skip;
	uint64_t count;
	int code;
	uint64_t partial_bytes;
};

struct fault_layer {
	struct hither_layer layer; /* first: freed as one */
	/* Guarded by layer.lock: */
	struct fault faults[HITHER_FAULT_OP_COUNT];
	bool has_version;
	char version[HITHER_VERSION_BYTES];
};

static struct fault_layer *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct fault_layer, layer.base);
}

/* Count a call of op. The code to fail with, 0: let it pass. */
static int strike(struct fault_layer *f, enum hither_fault_op op, uint64_t *partial_bytes)
{
	HITHER_LOCK_SCOPE(&f->layer.lock);
	struct fault *fault = &f->faults[op];
	fault->calls++;
	if (fault->count == 0)
		return 0;
	if (fault->skip > 0) {
		fault->skip--;
		return 0;
	}
	fault->count--;
	*partial_bytes = fault->partial_bytes;
	return fault->code;
}

static int fail(struct hither_error *err, int code, const char *op, uint64_t offset, uint64_t len)
{
	return hither_fail(err, code,
	                   "fault: %s of %" PRIu64 " bytes at %" PRIu64 " fails as armed: %s", op,
	                   len, offset, strerror(-code));
}

static int fault_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                      struct hither_sink *sink, struct hither_error *err)
{
	struct fault_layer *f = self(b);
	int r = hither_layer_check(&f->layer, err);
	if (r)
		return r;
	uint64_t good = 0;
	int code = strike(f, HITHER_FAULT_READ, &good);
	r = hither_layer_read(b, offset, code && good < len ? good : len, sink, err);
	return r || !code ? r : fail(err, code, "read", offset, len);
}

static int fault_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                          struct hither_error *err)
{
	struct fault_layer *f = self(b);
	int r = hither_layer_check(&f->layer, err);
	if (r)
		return r;
	uint64_t good = 0;
	int code = strike(f, HITHER_FAULT_WRITE, &good);
	r = hither_layer_write_at(b, buf, code && good < len ? (size_t)good : len, offset, err);
	return r || !code ? r : fail(err, code, "write", offset, len);
}

static int fault_flush(struct hither_backend *b, struct hither_error *err)
{
	struct fault_layer *f = self(b);
	int r = hither_layer_check(&f->layer, err);
	if (r)
		return r;
	uint64_t unused;
	int code = strike(f, HITHER_FAULT_FLUSH, &unused);
	return code ? fail(err, code, "flush", 0, 0) : hither_layer_flush(b, err);
}

static int fault_version(struct hither_backend *b, char *version, size_t size,
                         struct hither_error *err)
{
	struct fault_layer *f = self(b);
	int r = hither_layer_check(&f->layer, err);
	if (r)
		return r;
	uint64_t unused;
	int code = strike(f, HITHER_FAULT_VERSION, &unused);
	if (code)
		return fail(err, code, "version", 0, 0);
	pthread_mutex_lock(&f->layer.lock);
	bool forged = f->has_version;
	if (forged)
		snprintf(version, size, "%s", f->version);
	pthread_mutex_unlock(&f->layer.lock);
	return forged ? 0 : hither_layer_version(b, version, size, err);
}

static const struct hither_backend_ops fault_ops = {
        .name = "fault",
        .read = fault_read,
        .write_at = fault_write_at,
        .flush = fault_flush,
        .version = fault_version,
        .cancel = hither_layer_cancel,
        .close = hither_layer_close,
};

int hither_layer_fault(struct hither_backend *inner, struct hither_backend **out,
                       struct hither_error *err)
{
	HITHER_FREE struct fault_layer *f = calloc(1, sizeof *f);
	if (!f)
		return hither_fail(err, -ENOMEM, "fault: no memory");
	int r = hither_layer_init(&f->layer, &fault_ops, inner, err);
	if (r)
		return r;
	*out = &HITHER_TAKE(f, NULL)->layer.base;
	return 0;
}

void hither_layer_fault_arm(struct hither_backend *b, enum hither_fault_op op, uint64_t skip,
                            uint64_t count, int code, uint64_t partial_bytes)
{
	assert(b->ops == &fault_ops && op < HITHER_FAULT_OP_COUNT && (count == 0 || code < 0));
	struct fault_layer *f = self(b);
	HITHER_LOCK_SCOPE(&f->layer.lock);
	struct fault *fault = &f->faults[op];
	fault->skip = skip;
	fault->count = count;
	fault->code = code;
	fault->partial_bytes = partial_bytes;
}

uint64_t hither_layer_fault_calls(struct hither_backend *b, enum hither_fault_op op)
{
	assert(b->ops == &fault_ops && op < HITHER_FAULT_OP_COUNT);
	struct fault_layer *f = self(b);
	HITHER_LOCK_SCOPE(&f->layer.lock);
	return f->faults[op].calls;
}

void hither_layer_fault_version(struct hither_backend *b, const char *version)
{
	assert(b->ops == &fault_ops);
	struct fault_layer *f = self(b);
	HITHER_LOCK_SCOPE(&f->layer.lock);
	f->has_version = version != NULL;
	if (version)
		snprintf(f->version, sizeof f->version, "%s", version);
}
