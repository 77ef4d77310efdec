/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes never change, but with its writeback cache the kernel does not know: a write past the end
 * makes the file longer in its eyes, and only when the pages are written back do we answer ENOSPC,
 * which the program sees from fsync() or close(). From then on the kernel would show the wrong size
 * for as long as it keeps the inode, whatever GETATTR says. Only truncation puts it right. So a
 * thread here truncates such a file to the size it has, through the mount point, as any program
 * could; the serving threads answer.
 */
#include "frontend/fuse/fuse_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct fuse_size_guard {
	struct hither_fuse *f;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under lock. */
	bool wake;
	bool stop;
	bool paused;
	bool working; /* has a descriptor of the mount, which makes it busy */
};

int fuse_file_open_path(const struct hither_fuse *f, const struct fuse_file *file)
{
	char path[PATH_MAX + NAME_MAX + 2];
	if (f->is_folder)
		snprintf(path, sizeof path, "%s/%s", f->at.path, file->name);
	else
		snprintf(path, sizeof path, "%s", f->at.path);
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd >= 0 && (fstat(fd, &st) || st.st_dev != f->at.device)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void put_right(const struct hither_fuse *f, struct fuse_file *file)
{
	if (!atomic_exchange(&file->overgrown, false))
		return;
	HITHER_CLOSE int fd = fuse_file_open_path(f, file);
	if (fd < 0)
		return;
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	/* A failure leaves a wrong size in a cache, no wrong byte anywhere; the next WRITE tries
	 * again. */
	if (truncate(link, (off_t)file->size))
		return;
}

static void *guard_main(void *arg)
{
	struct fuse_size_guard *g = arg;
	pthread_mutex_lock(&g->lock);
	while (!g->stop) {
		if (!g->wake || g->paused) {
			pthread_cond_wait(&g->changed, &g->lock);
			continue;
		}
		g->wake = false;
		g->working = true;
		pthread_mutex_unlock(&g->lock);
		for (size_t i = 0; i < g->f->file_count; i++)
			put_right(g->f, &g->f->files[i]);
		pthread_mutex_lock(&g->lock);
		g->working = false;
		pthread_cond_broadcast(&g->changed);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

struct fuse_size_guard *fuse_size_guard_start(struct hither_fuse *f)
{
	struct fuse_size_guard *g = calloc(1, sizeof *g);
	if (!g)
		return NULL;
	g->f = f;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	if (fuse_thread_start(&g->thread, guard_main, g) == 0)
		return g;
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g);
	return NULL;
}

void fuse_size_guard_wake(struct fuse_size_guard *g)
{
	HITHER_LOCK_SCOPE(&g->lock);
	g->wake = true;
	pthread_cond_broadcast(&g->changed);
}

void fuse_size_guard_pause(struct fuse_size_guard *g, bool pause)
{
	HITHER_LOCK_SCOPE(&g->lock);
	g->paused = pause;
	while (pause && g->working)
		pthread_cond_wait(&g->changed, &g->lock);
	pthread_cond_broadcast(&g->changed);
}

void fuse_size_guard_stop(struct fuse_size_guard *g)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->stop = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	pthread_join(g->thread, NULL);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g);
}
