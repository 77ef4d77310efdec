/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel has wrong about a file that is written, and keeps so whatever GETATTR says. A
 * thread here has it put right through the mount point (errand.c); the serving threads answer.
 *
 * Sizes never change, but with its writeback cache the kernel does not know: a write past the end
 * makes the file longer in its eyes, and only when the pages are written back do we answer ENOSPC,
 * which the program sees from fsync() or close(). Only truncation puts this right.
 *
 * Dates: with its writeback cache the kernel keeps them itself, but not of a file that is the
 * mount's root, which it knew before it knew of the cache (S_NOCMTIME). So such a file is touched
 * when it is written, a second after the last time at most, and when it has been closed. Nobody
 * waits for that: it takes the inode's lock, which may be held by who waits for the network.
 */
#include "frontend/fuse/fuse_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct fuse_guard {
	struct hither_fuse *f;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under lock. */
	bool wake;
	bool stop;
	bool paused;
	bool working; /* has a descriptor of the mount, which makes it busy */

	pid_t pid; /* of its latest errand; set by the kernel before that can ask for anything */
};

/* A failure leaves a wrong size or date in a cache, no wrong byte anywhere; the next WRITE tries
 * again. */
static void put_right(struct fuse_guard *g, struct fuse_file *file)
{
	const struct fuse_errand e = {.resize = atomic_exchange(&file->overgrown, false),
	                              .size = file->size,
	                              .touch = atomic_load(&file->undated)};
	if ((e.resize || e.touch) && !fuse_errand_start(g->f, file, &e, &g->pid))
		fuse_errand_wait(g->pid);
}

static void *guard_main(void *arg)
{
	struct fuse_guard *g = arg;
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
			put_right(g, &g->f->files[i]);
		pthread_mutex_lock(&g->lock);
		g->working = false;
		pthread_cond_broadcast(&g->changed);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

bool fuse_guard_asks(const struct fuse_guard *g, uint32_t pid)
{
	return g && (uint32_t)__atomic_load_n(&g->pid, __ATOMIC_RELAXED) == pid;
}

struct fuse_guard *fuse_guard_start(struct hither_fuse *f)
{
	struct fuse_guard *g = calloc(1, sizeof *g);
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

void fuse_guard_wake(struct fuse_guard *g)
{
	HITHER_LOCK_SCOPE(&g->lock);
	g->wake = true;
	pthread_cond_broadcast(&g->changed);
}

void fuse_guard_pause(struct fuse_guard *g, bool pause)
{
	HITHER_LOCK_SCOPE(&g->lock);
	g->paused = pause;
	while (pause && g->working)
		pthread_cond_wait(&g->changed, &g->lock);
	pthread_cond_broadcast(&g->changed);
}

void fuse_guard_stop(struct fuse_guard *g)
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
