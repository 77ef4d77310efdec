/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stores on disk and in memory share: the bytes, a file descriptor each. What is remembered
 * about them is store_disk.c's; a store in memory remembers nothing.
 */
#include "chunk/store.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "chunk/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80 /* Linux 6.14 */
#endif

int hither_store_memory(uint64_t size_bytes, struct hither_store **out, struct hither_error *err)
{
	HITHER_FREE struct hither_store *s = calloc(1, sizeof *s);
	if (!s)
		return hither_fail(err, -ENOMEM, "memory store: no memory");
	HITHER_CLOSE int fd = memfd_create("hither-store", MFD_CLOEXEC);
	if (fd < 0)
		return hither_fail(err, -errno, "memory store: memfd_create: %s", strerror(errno));
	if (size_bytes > INT64_MAX || ftruncate(fd, (off_t)size_bytes) < 0)
		return hither_fail(err, -EFBIG, "memory store: %llu bytes are too many for a memfd",
		                   (unsigned long long)size_bytes);
	s->size_bytes = size_bytes;
	s->fd = HITHER_TAKE(fd, -1);
	*out = HITHER_TAKE(s, NULL);
	return 0;
}

void hither_store_close(struct hither_store *s)
{
	if (!s)
		return;
	if (s->disk)
		hither_store_disk_close(s);
	hither_store_unmap(s);
	close(s->fd);
	free(s);
}

static bool in_range(const struct hither_store *s, uint64_t offset, uint64_t len)
{
	return offset <= s->size_bytes && len <= s->size_bytes - offset;
}

void hither_store_uncached(struct hither_store *s, bool uncached)
{
	atomic_store_explicit(&s->uncached, uncached && s->disk, memory_order_relaxed);
}

/* Like hither_pread_all() with RWF_DONTCACHE; *done: how far it came. */
static int read_uncached(int fd, char *buf, size_t len, uint64_t offset, size_t *done)
{
	while (*done < len) {
		struct iovec part = {buf + *done, len - *done};
		ssize_t n = preadv2(fd, &part, 1, (off_t)(offset + *done), RWF_DONTCACHE);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
		*done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Neither the kernel nor the file system has to know RWF_DONTCACHE. */
static bool is_unsupported(int code)
{
	return code == -EOPNOTSUPP || code == -EINVAL || code == -ENOSYS;
}

int hither_store_read(struct hither_store *s, void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;
	if (!in_range(s, offset, len))
		return -EINVAL;
	if (atomic_load_explicit(&s->uncached, memory_order_relaxed)) {
		int r = read_uncached(s->fd, buf, len, offset, &done);
		if (!is_unsupported(r))
			return r;
		hither_store_uncached(s, false);
	}
	return hither_pread_all(s->fd, (char *)buf + done, len - done, offset + done);
}

int hither_store_write(struct hither_store *s, const void *buf, size_t len, uint64_t offset)
{
	if (!in_range(s, offset, len))
		return -EINVAL;
	int r = hither_pwrite_all(s->fd, buf, len, offset);
	/* Not before: a barrier that begins in between would take the mark, but not the bytes. */
	atomic_store(&s->wrote, true);
	return r;
}

int hither_store_zero(struct hither_store *s, uint64_t offset, uint64_t len)
{
	if (!in_range(s, offset, len))
		return -EINVAL;
	int r = fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
	                  (off_t)len) < 0
	                ? -errno
	                : 0;
	atomic_store(&s->wrote, true);
	return r;
}

int hither_store_punch(struct hither_store *s, uint64_t offset, uint64_t len)
{
	if (!in_range(s, offset, len))
		return -EINVAL;
	/* Whole blocks; the last one may be cut short by the end. */
	uint64_t first = (offset + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
	uint64_t end = offset + len == s->size_bytes
	                       ? (s->size_bytes + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT
	                       : (offset + len) >> HITHER_BLOCK_SHIFT;
	if (first >= end)
		return 0;
	int r = s->disk ? hither_store_disk_evict(s, first, end - first) : 0;
	if (!r && fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                    (off_t)(first << HITHER_BLOCK_SHIFT),
	                    (off_t)((end - first) << HITHER_BLOCK_SHIFT)) < 0)
		r = -errno;
	atomic_store(&s->wrote, true);
	return r;
}

static void trim_extent(struct hither_store *s, const struct hither_block_map *map, uint64_t first,
                        uint64_t end)
{
	uint64_t at = first, run;
	while ((run = hither_block_map_run(map, at, end, end - at, HITHER_BLOCKS_ABSENT, &at)) >
	       0) {
		uint64_t offset = at << HITHER_BLOCK_SHIFT, len = run << HITHER_BLOCK_SHIFT;
		if (len > s->size_bytes - offset)
			len = s->size_bytes - offset;
		if (hither_store_punch(s, offset, len))
			return;
		at += run;
	}
}

void hither_store_trim(struct hither_store *s, const struct hither_block_map *map)
{
	off_t at = 0, end;
	while ((at = lseek(s->fd, at, SEEK_DATA)) >= 0 &&
	       (end = lseek(s->fd, at, SEEK_HOLE)) > at) {
		uint64_t blocks = (s->size_bytes + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
		uint64_t last = ((uint64_t)end + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
		trim_extent(s, map, (uint64_t)at >> HITHER_BLOCK_SHIFT,
		            last < blocks ? last : blocks);
		at = end;
	}
}

int hither_store_reset(struct hither_store *s, const struct hither_store_identity *identity,
                       struct hither_error *err)
{
	if (s->disk)
		return hither_store_disk_reset(s, identity, err);
	hither_store_unmap(s);
	if (identity->size_bytes > INT64_MAX || ftruncate(s->fd, 0) < 0 ||
	    ftruncate(s->fd, (off_t)identity->size_bytes) < 0)
		return hither_fail(err, -EFBIG, "memory store: %llu bytes are too many for a memfd",
		                   (unsigned long long)identity->size_bytes);
	s->size_bytes = identity->size_bytes;
	return 0;
}

int hither_store_set_identity(struct hither_store *s, const struct hither_store_identity *identity,
                              struct hither_error *err)
{
	return s->disk ? hither_store_disk_set_identity(s, identity, err) : 0;
}

int hither_store_load(struct hither_store *s, struct hither_block_map *map,
                      struct hither_error *err)
{
	return s->disk ? hither_store_disk_load(s, map, err) : 0;
}

int hither_store_note(struct hither_store *s, uint64_t first, uint64_t count,
                      enum hither_block_state state)
{
	return s->disk && count ? hither_store_disk_note(s, first, count, state) : 0;
}

int hither_store_intent(struct hither_store *s, uint64_t first, uint64_t count)
{
	return s->disk && count ? hither_store_disk_intent(s, first, count) : 0;
}

int hither_store_sync(struct hither_store *s, struct hither_error *err)
{
	return s->disk ? hither_store_disk_sync(s, err) : 0;
}

int hither_store_compact(struct hither_store *s, const struct hither_block_map *map,
                         struct hither_error *err)
{
	return s->disk ? hither_store_disk_compact(s, map, err) : 0;
}

bool hither_store_roomy(struct hither_store *s)
{
	return !s->disk || hither_store_disk_roomy(s);
}

bool hither_store_log_long(struct hither_store *s)
{
	return s->disk && hither_store_disk_log_long(s);
}

bool hither_store_persistent(const struct hither_store *s)
{
	return s->disk != NULL;
}

int hither_store_fd(const struct hither_store *s)
{
	return s->fd;
}

const char *hither_store_path(const struct hither_store *s)
{
	return s->disk ? hither_store_disk_path(s) : "memory";
}
