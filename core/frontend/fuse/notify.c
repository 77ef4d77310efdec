/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel is told without having asked. */
#include "frontend/fuse/fuse_internal.h"

#include <errno.h>

int hither_fuse_store(struct hither_fuse *f, size_t file_index, const void *buf, size_t len,
                      uint64_t offset)
{
	const struct fuse_file *file = file_index < f->file_count ? &f->files[file_index] : NULL;
	if (!file || offset > file->size || len > file->size - offset || len > FUSE_SLOT_DATA)
		return -EINVAL;
	if (file->writable)
		return -EPERM;
	struct fuse_notify_store_out out = {
	        .nodeid = fuse_node_of(f, file_index), .offset = offset, .size = (uint32_t)len};
	return fuse_notify(f->channel, FUSE_NOTIFY_STORE, &out, sizeof out, buf, len);
}

/*
 * A stored byte makes a file longer. It goes to the last place, and is thrown away again with its
 * page; nobody can have seen it, as no open() returns before INIT has been answered.
 */
int fuse_tell_root_size(struct hither_fuse *f)
{
	const struct fuse_file *file = &f->files[0];
	if (file->size == 0)
		return 0;
	struct fuse_notify_store_out store = {
	        .nodeid = FUSE_ROOT_ID, .offset = file->size - 1, .size = 1};
	int r = fuse_notify(f->channel, FUSE_NOTIFY_STORE, &store, sizeof store, "", 1);
	if (r)
		return r;
	struct fuse_notify_inval_inode_out forget = {.ino = FUSE_ROOT_ID}; /* off 0, len 0: all */
	return fuse_notify(f->channel, FUSE_NOTIFY_INVAL_INODE, &forget, sizeof forget, NULL, 0);
}
