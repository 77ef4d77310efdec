/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file:///path, file:path or a bare path: a regular file or a block device. Reads go through a
 * buffer of the call's own, so that any number may run at a time.
 */
#include "backend/registry.h"
#include "backend/url.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

struct file_backend {
	struct hither_backend base;
	int fd;
	atomic_bool cancelled;
	atomic_bool cannot_tell; /* what is in the page cache: the file system has no RWF_NOWAIT */
	char path[];             /* for messages */
};

enum { PIECE_BYTES = 256 << 10 };

static struct file_backend *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct file_backend, base);
}

static int check_cancelled(struct file_backend *f, struct hither_error *err)
{
	if (!atomic_load(&f->cancelled))
		return 0;
	return hither_fail(err, -ECANCELED, "file: %s: cancelled", f->path);
}

/* One piece into buf, whole. */
static int read_piece(struct file_backend *f, void *buf, size_t len, uint64_t offset,
                      struct hither_error *err)
{
	size_t done = 0;
	while (done < len) {
		int r = check_cancelled(f, err);
		if (r)
			return r;
		ssize_t n = pread(f->fd, (char *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hither_fail(err, -errno, "file: read %s at %" PRIu64 ": %s", f->path,
			                   offset + done, strerror(errno));
		if (n == 0)
			return hither_fail(err, -ESTALE,
			                   "file: %s ends at %" PRIu64 " now, it had %" PRIu64
			                   " bytes when it was opened; open it again",
			                   f->path, offset + done, f->base.size_bytes);
		done += (size_t)n;
	}
	return 0;
}

static int file_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	struct file_backend *f = self(b);
	size_t room = len < PIECE_BYTES ? (size_t)len : PIECE_BYTES;
	HITHER_FREE char *buf = malloc(room ? room : 1);
	if (!buf)
		return hither_fail(err, -ENOMEM, "file: no memory to read %s", f->path);
	int r = 0;
	while (len > 0 && !r) {
		size_t n = len < room ? (size_t)len : room;
		r = read_piece(f, buf, n, offset, err);
		if (!r)
			r = sink->take(sink, buf, n);
		offset += n;
		len -= n;
	}
	return r;
}

static int file_read_now(struct hither_backend *b, void *buf, size_t len, uint64_t offset)
{
	struct file_backend *f = self(b);
	struct iovec part = {buf, len};
	if (atomic_load_explicit(&f->cannot_tell, memory_order_relaxed))
		return -EOPNOTSUPP;
	ssize_t n = preadv2(f->fd, &part, 1, (off_t)offset, RWF_NOWAIT);
	if (n >= 0 || errno != EOPNOTSUPP)
		return n == (ssize_t)len ? 0 : -EAGAIN; /* what is wrong a read tells */
	atomic_store(&f->cannot_tell, true);
	return -EOPNOTSUPP;
}

static int file_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                         struct hither_error *err)
{
	struct file_backend *f = self(b);
	int r = check_cancelled(f, err);
	if (r)
		return r;
	r = hither_pwrite_all(f->fd, buf, len, offset);
	if (r)
		hither_fail(err, r, "file: write %s, %zu bytes at %" PRIu64 ": %s", f->path, len,
		            offset, strerror(-r));
	return r;
}

/* Without a message where it cannot be: then zeros are written. */
static int file_zero(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_error *err)
{
	struct file_backend *f = self(b);
	int r = check_cancelled(f, err);
	if (r)
		return r;
	while (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
	                 (off_t)len)) {
		if (errno == EINTR)
			continue;
		/* EINVAL: not whole sectors of a device. */
		if (errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV || errno == EINVAL)
			return -EOPNOTSUPP;
		return hither_fail(err, -errno,
		                   "file: make a hole in %s, %" PRIu64 " bytes at %" PRIu64 ": %s",
		                   f->path, len, offset, strerror(errno));
	}
	return 0;
}

static int file_flush(struct hither_backend *b, struct hither_error *err)
{
	struct file_backend *f = self(b);
	int r = check_cancelled(f, err);
	if (r)
		return r;
	if (fdatasync(f->fd))
		return hither_fail(err, -errno, "file: flush %s: %s", f->path, strerror(errno));
	return 0;
}

static int file_version(struct hither_backend *b, char *version, size_t size,
                        struct hither_error *err)
{
	struct file_backend *f = self(b);
	int r = check_cancelled(f, err);
	if (r)
		return r;
	struct stat st;
	if (fstat(f->fd, &st))
		return hither_fail(err, -errno, "file: stat %s: %s", f->path, strerror(errno));
	/* A device's times say nothing of its bytes. */
	if (!S_ISREG(st.st_mode))
		return 0;
	snprintf(version, size, "%jx-%ju-%jd-%jd.%09ld", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino,
	         (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	return 0;
}

/* lseek moves a position that nobody uses; what it finds depends on its arguments only. */
static uint64_t file_extent(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole)
{
	struct file_backend *f = self(b);
	off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA);
	if (data < 0) {
		*hole = errno == ENXIO; /* no data from here to the end */
		return max;
	}
	*hole = (uint64_t)data > offset;
	off_t end = *hole ? data : lseek(f->fd, (off_t)offset, SEEK_HOLE);
	if (end <= (off_t)offset)
		return max; /* it changes under us: say nothing, that is, data */
	uint64_t run = (uint64_t)end - offset;
	return run < max ? run : max;
}

static int file_local_fd(struct hither_backend *b)
{
	struct stat st;
	int fd = self(b)->fd;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fd : -1;
}

static void file_cancel(struct hither_backend *b)
{
	atomic_store(&self(b)->cancelled, true);
}

static void file_close(struct hither_backend *b)
{
	struct file_backend *f = self(b);
	close(f->fd);
	free(f);
}

/* --- open --- */

/* The new name in its folder must outlive a crash as the bytes do. */
static int sync_parent(const char *path)
{
	char copy[PATH_MAX];
	snprintf(copy, sizeof copy, "%s", path);
	HITHER_CLOSE int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) ? -errno : 0;
}

/* A file of size zeros, all or nothing. -EEXIST: somebody was faster. */
static int create_file(const char *path, uint64_t size, struct hither_error *err)
{
	HITHER_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0 && errno == EEXIST)
		return 0;
	if (fd < 0)
		return hither_fail(err, -errno, "file: create %s: %s", path, strerror(errno));
	int r = 0;
	if (size > INT64_MAX)
		r = -EFBIG;
	else if (ftruncate(fd, (off_t)size) || fsync(fd))
		r = -errno;
	else
		r = sync_parent(path);
	if (!r)
		return 0;
	unlink(path);
	return hither_fail(err, r, "file: create %s with %" PRIu64 " bytes: %s", path, size,
	                   strerror(-r));
}

/* A descriptor or -errno. O_NONBLOCK: a FIFO must be refused, not waited for. */
static int open_path(const char *path, bool writable, struct hither_error *err)
{
	int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd = open(path, flags | (writable ? O_RDWR : O_RDONLY));
	if (fd >= 0)
		return fd;
	int r = -errno;
	if (writable && r != -ENOENT) {
		HITHER_CLOSE int readable = open(path, flags | O_RDONLY);
		struct stat st;
		if (readable >= 0 && !fstat(readable, &st) && !S_ISDIR(st.st_mode))
			return hither_fail(
			        err, -EROFS,
			        "file: %s can be read but not written (%s); open it read-only",
			        path, strerror(-r));
	}
	if (r == -EISDIR)
		return hither_fail(err, r, "file: %s is a folder; name a file, or use directory:%s",
		                   path, path);
	return hither_fail(err, r, "file: open %s: %s", path, strerror(-r));
}

static int measure(int fd, const char *path, struct hither_backend *out, struct hither_error *err)
{
	struct stat st;
	if (fstat(fd, &st))
		return hither_fail(err, -errno, "file: stat %s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return hither_fail(err, -EISDIR,
		                   "file: %s is a folder; name a file, or use directory:%s", path,
		                   path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return hither_fail(err, -EINVAL,
		                   "file: %s is neither a regular file nor a block device", path);
	off_t end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return hither_fail(err, -errno, "file: size of %s: %s", path, strerror(errno));
	out->size_bytes = (uint64_t)end;
	/* A device's times say nothing of its bytes. */
	if (S_ISREG(st.st_mode))
		out->modified_ns =
		        st.st_mtim.tv_sec * (int64_t)HITHER_NS_PER_S + st.st_mtim.tv_nsec;
	return 0;
}

static int file_open(const char *url, const struct hither_backend_options *options,
                     struct hither_backend **out, struct hither_error *err)
{
	char path[PATH_MAX];
	int r = hither_url_path(url, false, path, sizeof path);
	if (r)
		return hither_fail(
		        err, r,
		        "file: the URL has no usable path; write file:///path or a plain path: %s",
		        strerror(-r));
	if (options->create_bytes && access(path, F_OK) && errno == ENOENT)
		r = create_file(path, options->create_bytes, err);
	if (r)
		return r;
	HITHER_CLOSE int fd = open_path(path, options->writable, err);
	if (fd < 0)
		return fd;
	struct hither_backend found = {0};
	r = measure(fd, path, &found, err);
	if (r)
		return r;
	struct file_backend *f = calloc(1, sizeof *f + strlen(path) + 1);
	if (!f)
		return hither_fail(err, -ENOMEM, "file: no memory to open %s", path);
	memcpy(f->path, path, strlen(path) + 1);
	f->fd = HITHER_TAKE(fd, -1);
	f->base = (struct hither_backend){
	        .ops = &hither_backend_file,
	        .size_bytes = found.size_bytes,
	        .modified_ns = found.modified_ns,
	        .flags = HITHER_BACKEND_LOCAL | (options->writable ? HITHER_BACKEND_WRITABLE : 0),
	        .align_bytes = 1,
	        .parallel = options->parallel ? options->parallel : 64,
	};
	*out = &f->base;
	return 0;
}

static const char *const file_schemes[] = {"file", NULL};

const struct hither_backend_ops hither_backend_file = {
        .name = "file",
        .schemes = file_schemes,
        .open = file_open,
        .read = file_read,
        .read_now = file_read_now,
        .write_at = file_write_at,
        .zero = file_zero,
        .flush = file_flush,
        .version = file_version,
        .cancel = file_cancel,
        .extent = file_extent,
        .local_fd = file_local_fd,
        .close = file_close,
};
