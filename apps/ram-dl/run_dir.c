/* SPDX-License-Identifier: Apache-2.0 */
#include "run_dir.h"

#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static const char *base(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	return run && *run == '/' && strlen(run) < PATH_MAX / 2 && !access(run, W_OK | X_OK)
	               ? run
	               : "/tmp";
}

static void name_start(char *out, size_t size)
{
	snprintf(out, size, "ram-dl-run-%u-", (unsigned)geteuid());
}

/* Only what we have made is in it. */
static void clear(const char *path)
{
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		if (*e->d_name != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(path);
}

static void read_notes(const char *path, void (*each)(void *, long, const struct note *),
                       void *user)
{
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		char *end;
		long pid = strtol(e->d_name, &end, 10);
		struct note note;
		if (pid <= 0 || *end || (kill((pid_t)pid, 0) && errno == ESRCH))
			continue;
		AUTO_CLOSE int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || read(fd, &note, sizeof note) != sizeof note ||
		    note.magic != NOTE_MAGIC)
			continue;
		note.command[sizeof note.command - 1] = note.message[sizeof note.message - 1] = 0;
		note.tracking[sizeof note.tracking - 1] = 0;
		each(user, pid, &note);
	}
	if (d)
		closedir(d);
}

/* Nobody else's folder in /tmp is looked into. */
static int open_ours(const char *path, const char *name)
{
	struct stat st;
	AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) || st.st_uid != geteuid() || st.st_mode & 077)
		return -1;
	return openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
}

void run_dir_each(void (*each)(void *user, long pid, const struct note *note), void *user)
{
	char start[64], path[PATH_MAX];
	name_start(start, sizeof start);
	DIR *d = opendir(base());
	for (struct dirent *e; d && (e = readdir(d));) {
		if (strncmp(e->d_name, start, strlen(start)) ||
		    snprintf(path, sizeof path, "%s/%s", base(), e->d_name) >= (int)sizeof path)
			continue;
		AUTO_CLOSE int lock = open_ours(path, "lock");
		if (lock < 0)
			continue;
		if (!flock(lock, LOCK_EX | LOCK_NB))
			clear(path);
		else if (each)
			read_notes(path, each, user);
	}
	if (d)
		closedir(d);
}

static int make_file(const struct run_dir *d, const char *name, struct hither_error *err)
{
	char path[PATH_MAX + 16];
	snprintf(path, sizeof path, "%s/%s", d->path, name);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? hither_fail(err, -errno, "make %s: %s", path, strerror(errno)) : fd;
}

int run_dir_make(struct run_dir *d, struct hither_error *err)
{
	char start[64];
	run_dir_each(NULL, NULL);
	name_start(start, sizeof start);
	snprintf(d->path, sizeof d->path, "%s/%sXXXXXX", base(), start);
	if (!mkdtemp(d->path))
		return hither_fail(err, -errno, "make a folder in %s: %s", base(), strerror(errno));
	d->lock_fd = make_file(d, "lock", err);
	if (d->lock_fd < 0 || flock(d->lock_fd, LOCK_EX))
		return d->lock_fd < 0 ? d->lock_fd : -errno;
	AUTO_CLOSE int leases = make_file(d, "leases", err);
	return leases < 0 ? leases : 0;
}

void run_dir_remove(struct run_dir *d)
{
	if (d->lock_fd < 0)
		return;
	clear(d->path);
	close(d->lock_fd);
}
