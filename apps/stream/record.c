/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include "units.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { STEP_BYTES = 1 << 20, LOOK_S = 1 };

struct recorder {
	struct hither_mount *mount;
	char *path, *part; /* part: its name while it is written, where it has to have one */
	bool all;          /* the rest is being fetched */
	void (*say)(void *user, const char *message);
	void *user;
	pthread_t thread;
	int result;
	pthread_mutex_t lock; /* guards stopped */
	pthread_cond_t wake;
	bool stopped;
};

static bool all_is_local(struct hither_mount *m)
{
	struct hither_mount_stats stats;
	hither_mount_stats(m, &stats);
	return stats.local_bytes == stats.size_bytes;
}

/* Mounts have no event for this; one look a second costs nothing. */
static bool wait_for_all(struct recorder *r)
{
	struct timespec until;
	pthread_mutex_lock(&r->lock);
	while (!r->stopped && !all_is_local(r->mount)) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += LOOK_S;
		pthread_cond_timedwait(&r->wake, &r->lock, &until);
	}
	pthread_mutex_unlock(&r->lock);
	return all_is_local(r->mount);
}

static int write_step(int fd, const char *bytes, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pwrite(fd, bytes, len, (off_t)offset);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
			offset += (uint64_t)n;
		}
	}
	return 0;
}

static int compare_step(int fd, const char *bytes, char *back, size_t len, uint64_t offset)
{
	size_t have = 0;
	while (have < len) {
		ssize_t n = pread(fd, back + have, len - have, (off_t)(offset + have));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		have += (size_t)n;
	}
	return memcmp(bytes, back, len) ? -EILSEQ : 0;
}

/* Write all of it (back NULL), or compare all of it. */
static int pass(const struct recorder *r, int fd, char *bytes, char *back, struct hither_error *err)
{
	uint64_t size = hither_mount_size(r->mount);
	int result = 0;
	for (uint64_t at = 0; !result && at < size; at += STEP_BYTES) {
		size_t len = size - at < STEP_BYTES ? (size_t)(size - at) : STEP_BYTES;
		result = hither_mount_read_at(r->mount, bytes, len, at, err);
		if (result)
			return result;
		result = back ? compare_step(fd, bytes, back, len, at)
		              : write_step(fd, bytes, len, at);
	}
	if (result == -EILSEQ)
		return hither_fail(err, -EIO, "%s does not read back as written: the disk fails",
		                   r->path);
	return result ? hither_fail(err, result, "%s %s: %s", back ? "read" : "write", r->path,
	                            strerror(-result))
	              : 0;
}

static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/'); /* it is absolute */
	return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static int flush_folder(const char *path)
{
	AUTO_FREE char *folder = folder_of(path);
	AUTO_CLOSE int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	return fd < 0 || fsync(fd) ? -errno : 0;
}

/*
 * Without a name until it is whole, so that nothing is left of what was cut short, and nobody
 * else's file is in the way; where the file system has no such files, with one that is new.
 */
static int open_part(const struct recorder *r, bool *named, struct hither_error *err)
{
	AUTO_FREE char *folder = folder_of(r->path);
	int fd = folder ? open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, 0644) : -1;
	*named = fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT);
	if (*named)
		fd = open(r->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return fd >= 0 ? fd
	               : hither_fail(err, -errno, "make %s: %s", *named ? r->part : r->path,
	                             strerror(errno));
}

/* Not over a file that has come meanwhile. */
static int give_name(const struct recorder *r, int fd, bool named)
{
	char self[40];
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	int failed = named ? renameat2(AT_FDCWD, r->part, AT_FDCWD, r->path, RENAME_NOREPLACE)
	                   : linkat(AT_FDCWD, self, AT_FDCWD, r->path, AT_SYMLINK_FOLLOW);
	return failed ? -errno : flush_folder(r->path);
}

static int copy(const struct recorder *r, struct hither_error *err)
{
	AUTO_FREE char *bytes = malloc(2 * (size_t)STEP_BYTES);
	bool named;
	AUTO_CLOSE int fd =
	        bytes ? open_part(r, &named, err) : hither_fail(err, -ENOMEM, "no memory");
	if (fd < 0)
		return fd;
	int result = pass(r, fd, bytes, NULL, err);
	if (!result && fsync(fd))
		result = hither_fail(err, -errno, "write %s: %s", r->path, strerror(errno));
	if (!result) {
		/* From the disk, not from what the kernel remembers. */
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		result = pass(r, fd, bytes, bytes + STEP_BYTES, err);
	}
	int name = result ? result : give_name(r, fd, named);
	if (!result && name)
		result = hither_fail(err, name, "name it %s: %s", r->path, strerror(-name));
	if (result && named)
		unlink(r->part);
	return result;
}

static void *run(void *arg)
{
	struct recorder *r = arg;
	struct hither_error err = {0};
	char text[512], bytes[UNITS_TEXT_BYTES];
	struct hither_mount_stats stats;
	if (wait_for_all(r)) {
		r->result = copy(r, &err);
		snprintf(text, sizeof text, r->result ? "--record: %s%s" : "%s: %s, verified",
		         r->result ? err.message : r->path,
		         r->result ? "" : units_format_size(bytes, hither_mount_size(r->mount)));
	} else {
		hither_mount_stats(r->mount, &stats);
		snprintf(text, sizeof text, "%s is not written: %.0f %% %s", r->path,
		         (double)stats.local_bytes * 100 / (double)stats.size_bytes,
		         r->all ? "had come when it ended" : "was seen; --all fetches the rest");
	}
	r->say(r->user, text);
	return NULL;
}

static void destroy(struct recorder *r)
{
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r->path);
	free(r->part);
	free(r);
}

static void init_lock(struct recorder *r)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&r->lock, NULL);
}

/* What would fail in an hour is better told now. */
static int check(const struct recorder *r, struct hither_error *err)
{
	struct stat st;
	if (!lstat(r->path, &st))
		return hither_fail(err, -EEXIST, "--record: %s exists already", r->path);
	bool named;
	struct hither_error why = {0};
	AUTO_CLOSE int fd = open_part(r, &named, &why);
	if (fd < 0)
		return hither_fail(err, fd, "--record: %s", why.message);
	if (named)
		unlink(r->part);
	return 0;
}

int recorder_start(struct hither_mount *mount, const char *path, bool all,
                   void (*say)(void *user, const char *message), void *user, struct recorder **out,
                   struct hither_error *err)
{
	struct recorder *r = calloc(1, sizeof *r);
	if (!r)
		return hither_fail(err, -ENOMEM, "no memory");
	r->mount = mount;
	r->all = all;
	r->say = say;
	r->user = user;
	r->path = strdup(path);
	if (asprintf(&r->part, "%s.part", path) < 0)
		r->part = NULL;
	init_lock(r);
	int result = r->path && r->part ? check(r, err) : hither_fail(err, -ENOMEM, "no memory");
	if (!result) {
		result = -pthread_create(&r->thread, NULL, run, r);
		if (result)
			hither_fail(err, result, "start a thread: %s", strerror(-result));
	}
	if (result) {
		destroy(r);
		return result;
	}
	*out = r;
	return 0;
}

int recorder_stop(struct recorder *r)
{
	if (!r)
		return 0;
	pthread_mutex_lock(&r->lock);
	r->stopped = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	int result = r->result;
	destroy(r);
	return result;
}
