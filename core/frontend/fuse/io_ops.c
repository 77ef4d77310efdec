/* SPDX-License-Identifier: Apache-2.0 */
/*
 * READ, WRITE, FSYNC and FALLOCATE: these go to the mount and may be answered later. The size is
 * fixed: a read past the end is short, a write past the end is ENOSPC, as on a block device. Of a
 * write that crosses the end what is within is written, as the kernel may have put it together from
 * several, good ones among them; it is not answered as a short write, which the kernel takes for
 * EIO, or for success.
 */
#include "frontend/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

void fuse_submit_io(struct fuse_call *c, struct hither_mount *m, enum hither_io_op op, void *buf,
                    size_t len, uint64_t offset)
{
	struct fuse_slot *s = c->slot;
	s->channel = c->f->channel;
	s->mount = m;
	s->unique = c->in->unique;
	s->interruptible = op != HITHER_IO_WRITE; /* a write is done or not, never "perhaps" */
	s->io = (struct hither_io){.op = op, .offset = offset, .len = len, .buf = buf};
	c->slot_gone = !fuse_submit(s);
}

/* How much of [offset, offset + len) the file has. */
static size_t within(const struct fuse_file *file, uint64_t offset, size_t len)
{
	if (offset >= file->size)
		return 0;
	uint64_t left = file->size - offset;
	return left < len ? (size_t)left : len;
}

void fuse_op_read(struct fuse_call *c)
{
	const struct fuse_read_in *in = c->arg;
	if (c->f->tree) {
		fuse_tree_read(c);
		return;
	}
	const struct fuse_file *file = fuse_file_of(c->f, c->in->nodeid);
	if (!file || in->size > FUSE_SLOT_DATA) {
		fuse_answer(c, -EINVAL, NULL, 0);
		return;
	}
	size_t len = within(file, in->offset, in->size);
	if (len == 0)
		fuse_answer(c, 0, NULL, 0);
	else
		fuse_submit_io(c, file->mount, HITHER_IO_READ, fuse_slot_data(c->slot), len,
		               in->offset);
}

static void note_overgrown(struct hither_fuse *f, struct fuse_file *file)
{
	atomic_store(&file->overgrown, true);
	if (f->guard)
		fuse_guard_wake(f->guard);
}

/* A second is what dates are compared by; RELEASE sees to the rest. */
static void note_written(struct hither_fuse *f, struct fuse_file *file)
{
	int64_t now = fuse_now_ns(), before = atomic_load(&file->dated_ns);
	if (f->is_folder || !f->guard) {
		atomic_store(&file->mtime_ns, now);
		return;
	}
	atomic_store(&file->undated, true);
	if (now - before > (int64_t)HITHER_NS_PER_S &&
	    atomic_compare_exchange_strong(&file->dated_ns, &before, now))
		fuse_guard_wake(f->guard);
}

void fuse_op_write(struct fuse_call *c)
{
	const struct fuse_write_in *in = c->arg;
	struct fuse_file *file = fuse_file_of(c->f, c->in->nodeid);
	if (!file || in->size != c->arg_len - sizeof *in) {
		fuse_answer(c, -EINVAL, NULL, 0);
		return;
	}
	size_t len = within(file, in->offset, in->size);
	bool crosses = len < in->size;
	/* Written back late: the kernel has made the file longer in its own eyes. */
	if (crosses && (in->write_flags & FUSE_WRITE_CACHE))
		note_overgrown(c->f, file);
	if (!file->writable) {
		fuse_answer(c, -EROFS, NULL, 0);
	} else if (len == 0) {
		struct fuse_write_out out = {0};
		fuse_answer(c, in->size ? -ENOSPC : 0, &out, sizeof out);
	} else {
		c->slot->write_done = (uint32_t)len;
		c->slot->write_error = crosses ? -ENOSPC : 0;
		note_written(c->f, file);
		fuse_submit_io(c, file->mount, HITHER_IO_WRITE, (char *)c->arg + sizeof *in, len,
		               in->offset);
	}
}

void fuse_op_fsync(struct fuse_call *c)
{
	const struct fuse_file *file = fuse_file_of(c->f, c->in->nodeid);
	if (!file || !file->writable)
		fuse_answer(c, file ? 0 : -EINVAL, NULL, 0);
	else
		fuse_submit_io(c, file->mount, HITHER_IO_FLUSH, NULL, 0, 0);
}

/*
 * Holes can be punched, as a loop device does it for a discard, and zeros written; all else would
 * change what is allocated, which nobody here can. The kernel has written back, and drops, what it
 * holds of the range.
 */
void fuse_op_fallocate(struct fuse_call *c)
{
	const struct fuse_fallocate_in *in = c->arg;
	struct fuse_file *file = fuse_file_of(c->f, c->in->nodeid);
	bool zeros = in->mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) ||
	             in->mode == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
	if (c->f->tree || !file) {
		fuse_answer(c, -EOPNOTSUPP, NULL, 0);
		return;
	}
	size_t len = within(file, in->offset, in->length);
	uint64_t end = in->offset + len;
	bool whole = in->offset % FUSE_BLOCK_BYTES == 0 &&
	             (end % FUSE_BLOCK_BYTES == 0 || end == file->size);
	if (!zeros || !whole || !file->writable || !hither_mount_discards(file->mount)) {
		fuse_answer(c, -EOPNOTSUPP, NULL, 0);
	} else if (!len) {
		fuse_answer(c, 0, NULL, 0);
	} else {
		note_written(c->f, file);
		fuse_submit_io(c, file->mount, HITHER_IO_DISCARD, NULL, len, in->offset);
	}
}
