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
