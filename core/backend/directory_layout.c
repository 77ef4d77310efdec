/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/directory_layout.h"

#include "base/cleanup.h"
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_CHUNK_BYTES = 64 << 10, MARKER_MAX_BYTES = 256 };

bool hither_directory_chunk_ok(uint64_t chunk_bytes)
{
	return chunk_bytes >= 512 && chunk_bytes <= 16 << 20 &&
	       (chunk_bytes & (chunk_bytes - 1)) == 0;
}

/* Exactly what create_marker() writes, or it is not ours. */
static bool parse_marker(const char *text, uint64_t *chunk, uint64_t *size)
{
	char again[MARKER_MAX_BYTES];
	if (sscanf(text, HITHER_DIRECTORY_MARKER " 1\nchunk %" SCNu64 "\nsize %" SCNu64 "\n", chunk,
	           size) != 2)
		return false;
	snprintf(again, sizeof again,
	         HITHER_DIRECTORY_MARKER " 1\nchunk %" PRIu64 "\nsize %" PRIu64 "\n", *chunk,
	         *size);
	return strcmp(text, again) == 0 && hither_directory_chunk_ok(*chunk) && *size <= INT64_MAX;
}

/* -ENOENT without a message: there is none. */
static int read_marker(int dir, const char *path, uint64_t *chunk, uint64_t *size,
                       struct hither_error *err)
{
	HITHER_CLOSE int fd = openat(dir, HITHER_DIRECTORY_MARKER, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	char text[MARKER_MAX_BYTES] = "";
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
	if (n < 0)
		return hither_fail(err, -errno,
		                   "directory: read %s/" HITHER_DIRECTORY_MARKER ": %s", path,
		                   strerror(errno));
	if (!parse_marker(text, chunk, size))
		return hither_fail(err, -EINVAL,
		                   "directory: %s/" HITHER_DIRECTORY_MARKER
		                   " is of no format that this version knows",
		                   path);
	return 0;
}

static int check_empty(int dir, const char *path, struct hither_error *err)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	if (!list) {
		int r = -errno;
		if (copy >= 0)
			close(copy);
		return hither_fail(err, r, "directory: list %s: %s", path, strerror(-r));
	}
	bool empty = true;
	for (const struct dirent *e; empty && (e = readdir(list));)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		        strncmp(e->d_name, HITHER_DIRECTORY_MARKER,
		                strlen(HITHER_DIRECTORY_MARKER)) == 0;
	closedir(list);
	if (empty)
		return 0;
	return hither_fail(err, -ENOTEMPTY,
	                   "directory: %s has other files in it and no " HITHER_DIRECTORY_MARKER
	                   "; name an empty or a new folder",
	                   path);
}

/* Whole or not at all, and never over one that somebody else has made meanwhile. */
static int create_marker(int dir, const char *path, uint64_t chunk, uint64_t size,
                         struct hither_error *err)
{
	char text[MARKER_MAX_BYTES];
	int len = snprintf(text, sizeof text,
	                   HITHER_DIRECTORY_MARKER " 1\nchunk %" PRIu64 "\nsize %" PRIu64 "\n",
	                   chunk, size);
	char temp[64];
	snprintf(temp, sizeof temp, HITHER_DIRECTORY_MARKER ".%x-%x", (unsigned)getpid(),
	         (unsigned)gettid());
	HITHER_CLOSE int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int r = fd < 0 ? -errno : hither_write_all(fd, text, (size_t)len);
	if (!r && fdatasync(fd))
		r = -errno;
	if (!r && linkat(dir, temp, dir, HITHER_DIRECTORY_MARKER, 0) && errno != EEXIST)
		r = -errno;
	if (fd >= 0)
		unlinkat(dir, temp, 0);
	if (!r && fsync(dir))
		r = -errno;
	if (r)
		return hither_fail(err, r, "directory: create %s/" HITHER_DIRECTORY_MARKER ": %s",
		                   path, strerror(-r));
	return 0;
}

static int create(int dir, const char *path, const struct hither_directory_layout *layout,
                  struct hither_error *err)
{
	if (!layout->create)
		return hither_fail(
		        err, -ENOENT,
		        "directory: %s is none of ours yet; give a size to make it, as in "
		        "directory:%s?size=1G",
		        path, path);
	if (layout->create_bytes > INT64_MAX)
		return hither_fail(err, -EFBIG, "directory: %s: the size is too large", path);
	int r = check_empty(dir, path, err);
	if (r)
		return r;
	uint64_t chunk = layout->chunk_bytes ? layout->chunk_bytes : DEFAULT_CHUNK_BYTES;
	return create_marker(dir, path, chunk, layout->create_bytes, err);
}

static int check_wanted(const char *path, const struct hither_directory_layout *wanted,
                        uint64_t chunk, uint64_t size, struct hither_error *err)
{
	if (wanted->chunk_bytes && wanted->chunk_bytes != chunk)
		return hither_fail(err, -EINVAL,
		                   "directory: %s has chunks of %" PRIu64 " bytes, not %" PRIu32
		                   "; leave chunk= out",
		                   path, chunk, wanted->chunk_bytes);
	if (wanted->sized && wanted->size_bytes != size)
		return hither_fail(err, -EINVAL,
		                   "directory: %s has %" PRIu64 " bytes, not %" PRIu64
		                   "; leave size= out",
		                   path, size, wanted->size_bytes);
	return 0;
}

int hither_directory_open(const char *path, struct hither_directory_layout *layout,
                          struct hither_error *err)
{
	int r = layout->create ? hither_mkdir_all(path) : 0;
	if (r)
		return hither_fail(err, r, "directory: create %s: %s", path, strerror(-r));
	HITHER_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return hither_fail(err, -errno, "directory: open %s: %s", path, strerror(errno));
	uint64_t chunk, size;
	r = read_marker(dir, path, &chunk, &size, err);
	if (r == -ENOENT) {
		r = create(dir, path, layout, err);
		if (!r)
			r = read_marker(dir, path, &chunk, &size, err);
	}
	if (!r)
		r = check_wanted(path, layout, chunk, size, err);
	if (r)
		return r;
	layout->chunk_bytes = (uint32_t)chunk;
	layout->size_bytes = size;
	return HITHER_TAKE(dir, -1);
}
