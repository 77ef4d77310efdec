/* SPDX-License-Identifier: Apache-2.0 */
/* What is served: the mounted file, or an MP4 of it with the index in front (virtual faststart). */
#ifndef HITHER_STREAM_BODY_H
#define HITHER_STREAM_BODY_H

#include <hither/media.h>
#include <hither/mount.h>
#include <sys/types.h>

struct body {
	struct hither_mount *mount;
	uint64_t size_bytes;
	struct hither_media_layout layout; /* count 0: the file as it is */
	struct hither_error
	        damage; /* code: why its index could not be read; 0: it could, or there is none */
};

/*
 * Read what of the index is needed. Blocks for it, a few round trips. A file that is damaged or no
 * media is served as it is; fails only where the mount does.
 */
int body_open(struct body *b, struct hither_mount *mount, struct hither_error *err);
void body_close(struct body *b);

/*
 * Up to max bytes from offset on, at least 1: what is local, else as soon as the first of them are
 * here. Their number, or -errno. Any thread.
 */
ssize_t body_read(const struct body *b, void *buf, size_t max, uint64_t offset,
                  struct hither_error *err);

/* Where in the file the byte at offset of the body is. False: it is in the new index. */
bool body_place(const struct body *b, uint64_t offset, uint64_t *out);

#endif
