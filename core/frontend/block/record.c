/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records: /run/hither/block/KIND-NUMBER, one line "PID RECOVER NAME". The maker holds a lock
 * (flock) on it: one that can be had means that the maker is dead, whatever its pid is used for by
 * now.
 */
#include "base/cleanup.h"
#include "base/io.h"
#include "frontend/block/block_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static void record_path(char path[64], const struct block_record *r)
{
	snprintf(path, 64, BLOCK_FOLDER "/%s-%u", hither_block_kind_name(r->kind), r->number);
}

/* Is fd still what is at path? A dead record may have been removed while we waited for its lock. */
static bool is_current(int fd, const char *path)
{
	struct stat own, there;
	return !fstat(fd, &own) && !stat(path, &there) && own.st_dev == there.st_dev &&
	       own.st_ino == there.st_ino;
}

/* A locked descriptor, or -EBUSY. */
static int lock_record(const char *path, int flags)
{
	for (;;) {
		HITHER_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB))
			return errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (is_current(fd, path))
			return HITHER_TAKE(fd, -1);
	}
}

static int write_record(struct block_record *r)
{
	char line[BLOCK_NAME_BYTES + 32];
	r->name[strcspn(r->name, "\n")] = 0;
	int len = snprintf(line, sizeof line, "%d %d %s\n", r->pid, r->recover, r->name);
	return ftruncate(r->fd, 0) ? -errno : hither_pwrite_all(r->fd, line, (size_t)len, 0);
}

int block_record_take(struct block_record *r, struct hither_error *err)
{
	char path[64];
	record_path(path, r);
	int made = hither_mkdir_all(BLOCK_FOLDER);
	if (made)
		return hither_fail(err, made, "block: make %s: %s", BLOCK_FOLDER, strerror(-made));
	if (r->fd < 0) {
		int fd = lock_record(path, O_CREAT);
		if (fd < 0)
			return hither_fail(err, fd, "block: lock %s: %s", path, strerror(-fd));
		r->fd = fd;
	}
	r->pid = (int)getpid();
	int code = write_record(r);
	if (!code)
		return 0;
	block_record_drop(r);
	return hither_fail(err, code, "block: write %s: %s", path, strerror(-code));
}

void block_record_drop(struct block_record *r)
{
	char path[64];
	if (r->fd < 0)
		return;
	record_path(path, r);
	unlink(path);
	close(r->fd);
	r->fd = -1;
}

static bool parse_name(const char *file, struct block_record *r)
{
	for (int kind = HITHER_BLOCK_AUTO + 1; kind < HITHER_BLOCK_KINDS; kind++) {
		const char *name = hither_block_kind_name((enum hither_block_kind)kind);
		size_t len = strlen(name);
		char *end;
		if (strncmp(file, name, len) || file[len] != '-' || !file[len + 1])
			continue;
		r->kind = (enum hither_block_kind)kind;
		r->number = (unsigned)strtoul(file + len + 1, &end, 10);
		return !*end && block_kind_of(r->kind);
	}
	return false;
}

static void read_record(int fd, struct block_record *r)
{
	char line[BLOCK_NAME_BYTES + 32];
	int at = 0, recover = 0;
	ssize_t len = pread(fd, line, sizeof line - 1, 0);
	line[len > 0 ? len : 0] = 0;
	line[strcspn(line, "\n")] = 0;
	r->name[0] = 0;
	if (sscanf(line, "%d %d %n", &r->pid, &recover, &at) == 2)
		snprintf(r->name, sizeof r->name, "%s", line + at);
	r->recover = recover;
}

static int visit(const char *file, int (*each)(void *, struct block_record *, bool, bool *),
                 void *user)
{
	struct block_record r = {.fd = -1};
	char path[64];
	bool drop = false;
	if (!parse_name(file, &r))
		return 0;
	record_path(path, &r);
	int fd = lock_record(path, 0);
	bool alive = fd == -EBUSY;
	if (fd < 0 && !alive)
		return 0; /* it has just gone */
	HITHER_CLOSE int readable = alive ? open(path, O_RDONLY | O_CLOEXEC) : dup(fd);
	if (readable >= 0)
		read_record(readable, &r);
	r.fd = alive ? -1 : fd;
	int code = each(user, &r, alive, &drop);
	if (drop)
		block_record_drop(&r);
	else if (r.fd >= 0)
		close(r.fd);
	return code;
}

int block_record_each(int (*each)(void *user, struct block_record *r, bool alive, bool *drop),
                      void *user)
{
	struct dirent **names;
	int r = 0, count = scandir(BLOCK_FOLDER, &names, NULL, alphasort);
	for (int i = 0; i < count; i++) {
		if (!r)
			r = visit(names[i]->d_name, each, user);
		free(names[i]);
	}
	if (count >= 0)
		free(names);
	return r;
}
