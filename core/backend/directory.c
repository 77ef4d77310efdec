/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory:///path?chunk=65536&size=N, a folder with one file a chunk:
 *
 *   hither-directory          "hither-directory 1\nchunk 65536\nsize 1073741824\n"
 *   00000000/                 chunk >> 20
 *     00/                     chunk >> 12, its low byte
 *       0000000000000000      chunk, 64 KiB, or less where the resource ends; missing: zeros
 *       0000000000000001
 *
 * So no folder has more than 4096 files, and neighbours lie together. A chunk is written to a file
 * of another name, made durable and then renamed: what is under its name is always whole, old or
 * new, even after a power loss. flush() makes the names durable.
 *
 * Chunks are read and written whole (align_bytes); backend.c does the rest.
 */
#include "backend/directory_layout.h"
#include "backend/registry.h"
#include "backend/url.h"
#include "base/cleanup.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct directory_backend {
	struct hither_backend base;
	int fd; /* of the folder */
	atomic_bool cancelled;
	atomic_uint temp_count;     /* makes names of unfinished files unique */
	pthread_mutex_t flush_lock; /* held during a flush: the next one must not overtake it */
	pthread_mutex_t lock;       /* inside flush_lock; guards the rest */
	struct touched *touched;
	size_t touched_count;
	char path[]; /* for messages */
};

/* An inner folder that somebody is writing to, or whose names are not all durable. */
struct touched {
	uint64_t folder; /* chunk >> FOLDER_SHIFT */
	unsigned writers;
	bool dirty; /* a name was made since the last flush began */
};

enum {
	FOLDER_SHIFT = 12, /* chunks in an inner folder, log2 */
	OUTER_SHIFT = 20,  /* chunks in an outer folder, log2 */
	NAME_BYTES = 64,
};

static struct directory_backend *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct directory_backend, base);
}

static int check_cancelled(struct directory_backend *d, struct hither_error *err)
{
	if (!atomic_load(&d->cancelled))
		return 0;
	return hither_fail(err, -ECANCELED, "directory: %s: cancelled", d->path);
}

static void outer_name(char name[NAME_BYTES], uint64_t folder)
{
	snprintf(name, NAME_BYTES, "%08" PRIx64, folder >> (OUTER_SHIFT - FOLDER_SHIFT));
}

static void folder_name(char name[NAME_BYTES], uint64_t folder)
{
	snprintf(name, NAME_BYTES, "%08" PRIx64 "/%02x", folder >> (OUTER_SHIFT - FOLDER_SHIFT),
	         (unsigned)(folder & 0xff));
}

static void chunk_name(char name[NAME_BYTES], uint64_t chunk)
{
	folder_name(name, chunk >> FOLDER_SHIFT);
	size_t used = strlen(name);
	snprintf(name + used, NAME_BYTES - used, "/%016" PRIx64, chunk);
}

/* --- read --- */

static int fail_chunk(struct directory_backend *d, int code, const char *verb, const char *name,
                      struct hither_error *err)
{
	return hither_fail(err, code, "directory: %s %s/%s: %s", verb, d->path, name,
	                   strerror(-code));
}

/* A chunk that is missing is zeros; a folder that is missing is a loss. */
static int read_missing(struct directory_backend *d, void *buf, size_t len,
                        struct hither_error *err)
{
	if (faccessat(d->fd, HITHER_DIRECTORY_MARKER, F_OK, 0))
		return hither_fail(err, -ESTALE, "directory: %s is gone (its %s cannot be found)",
		                   d->path, HITHER_DIRECTORY_MARKER);
	memset(buf, 0, len);
	return 0;
}

static int read_chunk(struct directory_backend *d, uint64_t chunk, void *buf, size_t len,
                      struct hither_error *err)
{
	char name[NAME_BYTES];
	chunk_name(name, chunk);
	HITHER_CLOSE int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return read_missing(d, buf, len, err);
	if (fd < 0)
		return fail_chunk(d, -errno, "open", name, err);
	struct stat st;
	if (fstat(fd, &st))
		return fail_chunk(d, -errno, "stat", name, err);
	if ((uint64_t)st.st_size != len)
		return hither_fail(err, -EIO,
		                   "directory: %s/%s is damaged: it has %jd bytes, not %zu",
		                   d->path, name, (intmax_t)st.st_size, len);
	int r = hither_pread_all(fd, buf, len, 0);
	return r ? fail_chunk(d, r, "read", name, err) : 0;
}

static int directory_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                          struct hither_sink *sink, struct hither_error *err)
{
	struct directory_backend *d = self(b);
	HITHER_FREE char *buf = malloc(b->align_bytes);
	if (!buf)
		return hither_fail(err, -ENOMEM, "directory: no memory to read %s", d->path);
	int r = 0;
	while (len > 0 && !r) {
		size_t n = len < b->align_bytes ? (size_t)len : b->align_bytes;
		r = check_cancelled(d, err);
		if (!r)
			r = read_chunk(d, offset / b->align_bytes, buf, n, err);
		if (!r)
			r = sink->take(sink, buf, n);
		offset += n;
		len -= n;
	}
	return r;
}

/* --- write --- */

static struct touched *find_touched_locked(struct directory_backend *d, uint64_t folder)
{
	for (size_t i = d->touched_count; i > 0; i--)
		if (d->touched[i - 1].folder == folder)
			return &d->touched[i - 1];
	return NULL;
}

/* Make the note that end_write() needs, while failing is still harmless. */
static int begin_write(struct directory_backend *d, uint64_t folder, struct hither_error *err)
{
	HITHER_LOCK_SCOPE(&d->lock);
	struct touched *t = find_touched_locked(d, folder);
	if (!t) {
		struct touched *more = reallocarray(d->touched, d->touched_count + 1, sizeof *more);
		if (!more)
			return hither_fail(err, -ENOMEM, "directory: no memory to write to %s",
			                   d->path);
		d->touched = more;
		t = &more[d->touched_count++];
		*t = (struct touched){.folder = folder};
	}
	t->writers++;
	return 0;
}

static void end_write(struct directory_backend *d, uint64_t folder, bool named)
{
	HITHER_LOCK_SCOPE(&d->lock);
	struct touched *t = find_touched_locked(d, folder);
	t->writers--;
	t->dirty |= named;
}

/* A new file's descriptor or -errno; makes its folders where they are missing. */
static int create_temp(struct directory_backend *d, uint64_t folder, const char *temp)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
	int fd = openat(d->fd, temp, flags, 0666);
	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? -errno : fd;
	char name[NAME_BYTES];
	outer_name(name, folder);
	if (mkdirat(d->fd, name, 0777) && errno != EEXIST)
		return -errno;
	folder_name(name, folder);
	if (mkdirat(d->fd, name, 0777) && errno != EEXIST)
		return -errno;
	fd = openat(d->fd, temp, flags, 0666);
	return fd < 0 ? -errno : fd;
}

static int fill_temp(struct directory_backend *d, uint64_t folder, const char *temp,
                     const void *buf, size_t len)
{
	HITHER_CLOSE int fd = create_temp(d, folder, temp);
	if (fd < 0)
		return fd;
	int r = hither_pwrite_all(fd, buf, len, 0);
	if (!r && fdatasync(fd))
		r = -errno;
	if (r)
		unlinkat(d->fd, temp, 0);
	return r;
}

static int write_chunk(struct directory_backend *d, uint64_t chunk, const void *buf, size_t len,
                       struct hither_error *err)
{
	char name[NAME_BYTES], temp[NAME_BYTES];
	uint64_t folder = chunk >> FOLDER_SHIFT;
	chunk_name(name, chunk);
	folder_name(temp, folder);
	size_t used = strlen(temp);
	snprintf(temp + used, sizeof temp - used, "/new-%x-%x", (unsigned)getpid(),
	         atomic_fetch_add(&d->temp_count, 1));
	int r = begin_write(d, folder, err);
	if (r)
		return r;
	r = fill_temp(d, folder, temp, buf, len);
	if (!r && renameat(d->fd, temp, d->fd, name)) {
		r = -errno;
		unlinkat(d->fd, temp, 0);
	}
	end_write(d, folder, !r);
	return r ? fail_chunk(d, r, "write", name, err) : 0;
}

static int directory_write_at(struct hither_backend *b, const void *buf, size_t len,
                              uint64_t offset, struct hither_error *err)
{
	struct directory_backend *d = self(b);
	const char *p = buf;
	int r = 0;
	while (len > 0 && !r) {
		size_t n = len < b->align_bytes ? len : b->align_bytes;
		r = check_cancelled(d, err);
		if (!r)
			r = write_chunk(d, offset / b->align_bytes, p, n, err);
		p += n;
		offset += n;
		len -= n;
	}
	return r;
}

/* --- flush --- */

static int sync_folder(struct directory_backend *d, const char *name, struct hither_error *err)
{
	HITHER_CLOSE int fd = openat(d->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		return fail_chunk(d, -errno, "flush", name, err);
	return 0;
}

/* A folder's own name is in the one above, and that one's in the root. */
static int sync_folders(struct directory_backend *d, const uint64_t *folders, size_t count,
                        struct hither_error *err)
{
	int r = 0;
	for (size_t i = 0; i < count && !r; i++) {
		char name[NAME_BYTES];
		folder_name(name, folders[i]);
		r = sync_folder(d, name, err);
		outer_name(name, folders[i]);
		if (!r)
			r = sync_folder(d, name, err);
	}
	return r || count == 0 ? r : sync_folder(d, ".", err);
}

/* The dirty folders, which count as clean from here on: *out is the caller's. 0 or -ENOMEM. */
static int take_dirty(struct directory_backend *d, uint64_t **out, size_t *count)
{
	HITHER_LOCK_SCOPE(&d->lock);
	*count = 0;
	*out = calloc(d->touched_count + 1, sizeof **out);
	if (!*out)
		return -ENOMEM;
	for (size_t i = 0; i < d->touched_count; i++)
		if (d->touched[i].dirty) {
			(*out)[(*count)++] = d->touched[i].folder;
			d->touched[i].dirty = false;
		}
	return 0;
}

/* After a failure all that was taken is dirty again; else folders at rest are forgotten. */
static void settle(struct directory_backend *d, const uint64_t *folders, size_t count, bool failed)
{
	HITHER_LOCK_SCOPE(&d->lock);
	for (size_t i = 0; i < count && failed; i++)
		find_touched_locked(d, folders[i])->dirty = true;
	size_t kept = 0;
	for (size_t i = 0; i < d->touched_count; i++)
		if (d->touched[i].writers || d->touched[i].dirty)
			d->touched[kept++] = d->touched[i];
	d->touched_count = kept;
}

static int directory_flush(struct hither_backend *b, struct hither_error *err)
{
	struct directory_backend *d = self(b);
	int r = check_cancelled(d, err);
	if (r)
		return r;
	HITHER_LOCK_SCOPE(&d->flush_lock);
	HITHER_FREE uint64_t *folders = NULL;
	size_t count;
	if (take_dirty(d, &folders, &count))
		return hither_fail(err, -ENOMEM, "directory: no memory to flush %s", d->path);
	r = sync_folders(d, folders, count, err);
	settle(d, folders, count, r != 0);
	return r;
}

static void directory_cancel(struct hither_backend *b)
{
	atomic_store(&self(b)->cancelled, true);
}

static void directory_close(struct hither_backend *b)
{
	struct directory_backend *d = self(b);
	close(d->fd);
	pthread_mutex_destroy(&d->flush_lock);
	pthread_mutex_destroy(&d->lock);
	free(d->touched);
	free(d);
}

/* --- open --- */

static int parse_url(const char *url, const struct hither_backend_options *options,
                     struct hither_directory_layout *wanted, char *path, size_t path_size,
                     struct hither_error *err)
{
	char text[32];
	uint64_t chunk = 0, size = 0;
	int r = hither_url_path(url, true, path, path_size);
	if (r)
		return hither_fail(
		        err, r,
		        "directory: the URL has no usable path; write directory:///path: %s",
		        strerror(-r));
	r = hither_url_option(url, "chunk", text, sizeof text);
	if (!r)
		r = hither_parse_bytes(text, &chunk);
	if ((r && r != -ENOENT) || (!r && !hither_directory_chunk_ok(chunk)))
		return hither_fail(err, -EINVAL,
		                   "directory: chunk= must be a power of two from 512 to 16M");
	r = hither_url_option(url, "size", text, sizeof text);
	bool sized = !r;
	if (!r)
		r = hither_parse_bytes(text, &size);
	if (r && r != -ENOENT)
		return hither_fail(err, -EINVAL,
		                   "directory: size= must be a number of bytes, such as 1G");
	*wanted = (struct hither_directory_layout){
	        .chunk_bytes = (uint32_t)chunk,
	        .sized = sized,
	        .size_bytes = size,
	        .create = sized || options->create_bytes,
	        .create_bytes = sized ? size : options->create_bytes,
	};
	return 0;
}

static int make_backend(const char *path, int fd, const struct hither_directory_layout *layout,
                        struct directory_backend **out, struct hither_error *err)
{
	struct directory_backend *d = calloc(1, sizeof *d + strlen(path) + 1);
	if (!d)
		return hither_fail(err, -ENOMEM, "directory: no memory to open %s", path);
	memcpy(d->path, path, strlen(path) + 1);
	d->fd = fd;
	pthread_mutex_init(&d->flush_lock, NULL);
	pthread_mutex_init(&d->lock, NULL);
	d->base = (struct hither_backend){
	        .ops = &hither_backend_directory,
	        .size_bytes = layout->size_bytes,
	        .flags = HITHER_BACKEND_LOCAL,
	        .align_bytes = layout->chunk_bytes,
	        .parallel = 16,
	};
	*out = d;
	return 0;
}

static int directory_open(const char *url, const struct hither_backend_options *options,
                          struct hither_backend **out, struct hither_error *err)
{
	char path[PATH_MAX];
	struct hither_directory_layout layout;
	int r = parse_url(url, options, &layout, path, sizeof path, err);
	if (r)
		return r;
	HITHER_CLOSE int fd = hither_directory_open(path, &layout, err);
	if (fd < 0)
		return fd;
	if (options->writable && faccessat(fd, ".", W_OK, AT_EACCESS))
		return hither_fail(err, -EROFS,
		                   "directory: %s cannot be written (%s); open it read-only", path,
		                   strerror(errno));
	struct directory_backend *d = NULL;
	r = make_backend(path, fd, &layout, &d, err);
	if (r)
		return r;
	(void)HITHER_TAKE(fd, -1);
	if (options->writable)
		d->base.flags |= HITHER_BACKEND_WRITABLE;
	if (options->parallel)
		d->base.parallel = options->parallel;
	*out = &d->base;
	return 0;
}

static const char *const directory_schemes[] = {"directory", NULL};

const struct hither_backend_ops hither_backend_directory = {
        .name = "directory",
        .schemes = directory_schemes,
        .open = directory_open,
        .read = directory_read,
        .write_at = directory_write_at,
        .flush = directory_flush,
        .cancel = directory_cancel,
        .close = directory_close,
};
