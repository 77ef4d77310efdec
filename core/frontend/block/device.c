/* SPDX-License-Identifier: Apache-2.0 */
/* What all kinds of block devices need. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "frontend/block/block_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

enum { NODE_WAIT_S = 10, NODE_LOOK_MS = 20 };

void block_device_path(char path[BLOCK_PATH_BYTES], const struct block_record *r)
{
	snprintf(path, BLOCK_PATH_BYTES, "%s%u", block_kind_of(r->kind)->device, r->number);
}

/*
 * udev, or devtmpfs, makes it; the watch is set before looking, so that nothing is missed. Where
 * there are no more watches (fs.inotify.max_user_instances) it is looked for now and then.
 */
int block_device_wait(const char *path, struct hither_error *err)
{
	char folder[BLOCK_PATH_BYTES];
	snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
	uint64_t end = hither_now_ns() + NODE_WAIT_S * HITHER_NS_PER_S;
	HITHER_CLOSE int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	bool told = watch >= 0 &&
	            inotify_add_watch(watch, folder, IN_CREATE | IN_ATTRIB | IN_MOVED_TO) >= 0;
	while (access(path, R_OK)) {
		char events[4096];
		uint64_t now = hither_now_ns();
		if (now >= end)
			return hither_fail(err, -ENOENT,
			                   "block: %s has not appeared in %d s: is udev running?",
			                   path, NODE_WAIT_S);
		int left = (int)((end - now) / HITHER_NS_PER_MS) + 1;
		poll(&(struct pollfd){.fd = watch, .events = POLLIN}, 1,
		     told ? left : NODE_LOOK_MS);
		while (told && read(watch, events, sizeof events) > 0)
			;
	}
	return 0;
}

int block_device_claim(const char *path)
{
	int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int block_device_sync(const char *path)
{
	HITHER_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 || fsync(fd) ? -errno : 0;
}

void block_sysfs(char *out, size_t size, const char *fmt, ...)
{
	char path[128];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(path, sizeof path, fmt, ap);
	va_end(ap);
	HITHER_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, out, size - 1);
	out[len > 0 ? len : 0] = 0;
	out[strcspn(out, "\n")] = 0;
}

int block_need_root(struct hither_error *err)
{
	return geteuid() ? hither_fail(err, -EPERM, "only root can make block devices") : 0;
}

int block_thread(unsigned long *thread, void *(*run)(void *), void *arg)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}
