/* SPDX-License-Identifier: Apache-2.0 */
/* A mount as a backend, for slices of mounts that do not keep their store in memory. */
#include "slice_internal.h"

#include "base/cleanup.h"
#include "mount/mount_internal.h"

#include <errno.h>

enum { PIECE_BYTES = 1 << 20 };

struct through {
	struct hither_backend base;
	struct hither_mount *m;
	bool straight; /* a direct mount over something near: nothing between it and us */
};

/* The mount has ridden through the outage as long as it may: once more would be twice as long. */
static int final(int r, struct hither_error *err)
{
	if (r && hither_error_is_transient(r)) {
		r = -EIO;
		if (err)
			err->code = r;
	}
	return r;
}

static int through_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                        struct hither_sink *sink, struct hither_error *err)
{
	struct through *t = (struct through *)b;
	if (t->straight)
		return final(hither_backend_read(t->m->backend, offset, len, sink, err), err);
	size_t piece = len < PIECE_BYTES ? len : PIECE_BYTES;
	HITHER_FREE char *buf = malloc(piece);
	if (!buf)
		return hither_fail(err, -ENOMEM, "no memory to read %zu bytes", piece);
	while (len > 0) {
		size_t n = len < piece ? len : piece;
		int r = hither_mount_read_at(t->m, buf, n, offset, err);
		if (!r)
			r = sink->take(sink, buf, n);
		if (r)
			return final(r, err);
		offset += n;
		len -= n;
	}
	return 0;
}

static int through_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                            struct hither_error *err)
{
	return final(hither_mount_write_at(((struct through *)b)->m, buf, len, offset, err), err);
}

static int through_flush(struct hither_backend *b, struct hither_error *err)
{
	return final(hither_mount_flush(((struct through *)b)->m, err), err);
}

static void through_close(struct hither_backend *b)
{
	free(b);
}

static const struct hither_backend_ops through_ops = {
        .name = "mount",
        .read = through_read,
        .write_at = through_write_at,
        .flush = through_flush,
        .close = through_close,
};

int slice_through(struct hither_mount *m, bool writable, struct hither_backend **out,
                  struct hither_error *err)
{
	struct through *t = calloc(1, sizeof *t);
	if (!t)
		return hither_fail(err, -ENOMEM, "no memory for a slice");
	const struct hither_backend *b = m->backend;
	t->m = m;
	t->base = (struct hither_backend){
	        .ops = &through_ops, .size_bytes = hither_mount_size(m), .align_bytes = 1};
	if (writable)
		t->base.flags |= HITHER_BACKEND_WRITABLE;
	if (m->direct && b->flags & HITHER_BACKEND_LOCAL) {
		t->straight = true;
		t->base.flags |= HITHER_BACKEND_LOCAL;
		t->base.parallel = b->parallel;
	}
	*out = &t->base;
	return 0;
}
