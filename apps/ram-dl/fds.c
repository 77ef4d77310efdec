/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors. Some programs close all that they have not opened themselves, or open a file at a
 * number of their choice: the pool's have high ones. The pool's are not theirs to close: without
 * the userfaultfd what is not here would be zeros, and what a server should get would go into the
 * program's next file. So the program is told that there is no such descriptor.
 */
#include "hook.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	KNOWN = 1 << 16, /* what has a higher number is not looked after */
	LOW = 100,       /* programs choose numbers below, by dup2() */
};

static _Atomic uint64_t ours[KNOWN / 64];
static int fillers[LOW], filler_count; /* guarded by who starts the pool */

static int lowest(void)
{
	long most = sysconf(_SC_OPEN_MAX);
	return most > 2 * LOW ? LOW : (int)(most / 2);
}

/* All that are free below are taken for a while. */
void hook_fds_raise(bool on)
{
	int low = lowest();
	if (!on)
		while (filler_count > 0)
			close(fillers[--filler_count]);
	int fd = on ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	while (fd >= 0 && fd < low && filler_count < LOW) {
		fillers[filler_count++] = fd;
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	}
	if (fd >= 0)
		close(fd);
}

/* As above, of one that came later. */
static int raise_one(int fd)
{
	int low = lowest(), up = -1;
	if (fd >= 0 && fd < low && hook_inner)
		up = fcntl(fd, F_DUPFD_CLOEXEC, low);
	if (up < 0)
		return fd;
	close(fd);
	return up;
}

static int note(int fd)
{
	if (fd >= 0 && fd < KNOWN && hook_inner)
		atomic_fetch_or(&ours[fd / 64], UINT64_C(1) << fd % 64);
	return fd;
}

static void forget(int fd)
{
	if (fd >= 0 && fd < KNOWN)
		atomic_fetch_and(&ours[fd / 64], ~(UINT64_C(1) << fd % 64));
}

static bool keep(int fd)
{
	return !hook_inner && fd >= 0 && fd < KNOWN && hook_pool() &&
	       atomic_load(&ours[fd / 64]) >> fd % 64 & 1;
}

/* Those that are made by calls that nobody sees. */
void hook_fds_find(void)
{
	static const char *const kinds[] = {"anon_inode:[userfaultfd]", "/dev/userfaultfd",
	                                    "/memfd:hither-", "/proc/"};
	const char *dir = getenv(RUN_DIR);
	char link[PATH_MAX];
	DIR *d = opendir("/proc/self/fd");
	hook_inner++;
	for (struct dirent *e; d && (e = readdir(d));) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof link - 1);
		link[n < 0 ? 0 : n] = 0;
		bool is = dir && !strncmp(link, dir, strlen(dir));
		for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
			is |= !strncmp(link, kinds[i], strlen(kinds[i])) &&
			      (kinds[i][1] != 'p' || strstr(link, "/pagemap"));
		if (is)
			note((int)strtol(e->d_name, NULL, 10));
	}
	if (d)
		closedir(d);
	hook_inner--;
}

HOOK int socket(int domain, int type, int protocol)
{
	REAL(socket, -1);
	return note(raise_one(real(domain, type, protocol)));
}

HOOK int eventfd(unsigned count, int flags)
{
	REAL(eventfd, -1);
	return note(raise_one(real(count, flags)));
}

HOOK int close(int fd)
{
	REAL(close, -1);
	if (keep(fd))
		return errno = EBADF, -1;
	if (hook_inner)
		forget(fd); /* first: its number may be the program's at once */
	return real(fd);
}

HOOK int dup2(int from, int to)
{
	REAL(dup2, -1);
	return keep(to) ? errno = EBUSY, -1 : real(from, to);
}

HOOK int dup3(int from, int to, int flags)
{
	REAL(dup3, -1);
	return keep(to) ? errno = EBUSY, -1 : real(from, to, flags);
}

/* Around those that stay. */
HOOK int close_range(unsigned first, unsigned last, int flags)
{
	int r = 0;
	if (first > last)
		return errno = EINVAL, -1;
	for (unsigned at = first; !r && at < KNOWN && at <= last; at++) {
		if (!keep((int)at))
			continue;
		if (at > first)
			r = (int)syscall(SYS_close_range, first, at - 1, flags);
		first = at + 1;
	}
	return r || first > last ? r : (int)syscall(SYS_close_range, first, last, flags);
}

HOOK void closefrom(int low)
{
	int saved = errno;
	close_range(low < 0 ? 0 : (unsigned)low, ~0u, 0);
	errno = saved;
}
