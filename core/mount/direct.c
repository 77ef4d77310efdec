/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The direct mount: every access goes to the backend. Threads take accesses in the order they came,
 * so that frontends never wait; as many at a time as the backend takes.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "mount/mount_internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { DIRECT_WORKERS_MAX = 64, DIRECT_WORKERS_DEFAULT = 16, HERE_BYTES = 256 << 10 };

struct direct {
	struct hither_mount base;
	uint32_t workers; /* most threads */
	uint64_t deadline_ns;
	pthread_mutex_t lock; /* guards everything below */
	pthread_cond_t work;
	pthread_cond_t over; /* cancelled; its own, or who pauses would take the call for work */
	struct hither_io *head, **tail;
	pthread_t threads[DIRECT_WORKERS_MAX];
	uint32_t thread_count, idle_count;
	bool closing, cancelled;
	struct hither_mount_stats stats;
};

static int run_once(struct direct *d, struct hither_io *io, struct hither_error *err)
{
	struct hither_backend *b = d->base.backend;
	switch (io->op) {
	case HITHER_IO_READ:
		return hither_backend_read_at(b, io->buf, io->len, io->offset, err);
	case HITHER_IO_WRITE:
		return hither_backend_write_at(b, io->buf, io->len, io->offset, err);
	case HITHER_IO_DISCARD:
		return hither_backend_zero(b, io->offset, io->len, err);
	default:
		return hither_backend_flush(b, err);
	}
}

/* Wait before another try; true: cancelled. */
static bool pause_or_cancel(struct direct *d, uint64_t ns)
{
	struct timespec until = hither_timespec(hither_now_ns() + ns);
	HITHER_LOCK_SCOPE(&d->lock);
	while (!d->cancelled && !pthread_cond_timedwait(&d->over, &d->lock, &until))
		;
	return d->cancelled;
}

/* Transient failures are tried again until the deadline, as a managed mount does. */
static int run(struct direct *d, struct hither_io *io, struct hither_error *err)
{
	uint64_t pause = 100 * HITHER_NS_PER_MS;
	for (;;) {
		int r = run_once(d, io, err);
		if (!r || !hither_error_is_transient(r) ||
		    hither_now_ns() + pause > io->submitted_ns + d->deadline_ns)
			return r;
		if (pause_or_cancel(d, pause))
			return hither_fail(err, -ECANCELED, "cancelled");
		if (pause < 3 * HITHER_NS_PER_S)
			pause *= 2;
	}
}

static void count_locked(struct direct *d, const struct hither_io *io, int result,
                         const struct hither_error *err)
{
	struct hither_mount_stats *s = &d->stats;
	s->in_flight--;
	if (io->op == HITHER_IO_READ) {
		s->pull_requests++;
		s->pulled_bytes += result ? 0 : io->len;
		s->demand_bytes += result ? 0 : io->len;
		uint64_t waited_ns = hither_now_ns() - io->submitted_ns;
		s->wait_ns += waited_ns;
		s->reads_stalled += waited_ns > MOUNT_STALLED_NS;
	} else if (io->op == HITHER_IO_WRITE) {
		s->push_requests++;
		s->pushed_bytes += result ? 0 : io->len;
	}
	s->error = result;
	memcpy(s->message, result ? err->message : "", result ? sizeof s->message : 1);
}

static void *direct_main(void *arg)
{
	struct direct *d = arg;
	pthread_mutex_lock(&d->lock);
	for (;;) {
		while (!d->head && !d->closing) {
			d->idle_count++;
			pthread_cond_wait(&d->work, &d->lock);
			d->idle_count--;
		}
		struct hither_io *io = d->head;
		if (!io)
			break;
		d->head = io->next;
		if (!d->head)
			d->tail = &d->head;
		d->stats.in_flight++;
		bool cancelled = d->cancelled;
		pthread_mutex_unlock(&d->lock);
		struct hither_error err = {0};
		int r = cancelled ? hither_fail(&err, -ECANCELED, "cancelled") : run(d, io, &err);
		pthread_mutex_lock(&d->lock);
		count_locked(d, io, r, &err);
		pthread_mutex_unlock(&d->lock);
		io->done(io, r, &err);
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* -EAGAIN: others shall wait for a disk, not this thread, which has more to begin. */
static int run_now(struct direct *d, struct hither_io *io, struct hither_error *err)
{
	struct hither_backend *b = d->base.backend;
	int r = io->op == HITHER_IO_READ && b->ops->read_now
	                ? b->ops->read_now(b, io->buf, io->len, io->offset)
	                : -EOPNOTSUPP;
	return r == -EOPNOTSUPP ? run_once(d, io, err) : r;
}

/*
 * Bytes at memory speed are not worth another thread, whose waking takes longer. True: io is over.
 * What failed for a while only waits with the others.
 */
static bool run_here(struct direct *d, struct hither_io *io)
{
	struct hither_error err = {0};
	if (!(d->base.backend->flags & HITHER_BACKEND_LOCAL) || io->op == HITHER_IO_FLUSH ||
	    io->len > HERE_BYTES)
		return false;
	pthread_mutex_lock(&d->lock);
	bool take = !d->cancelled && d->stats.in_flight + d->workers < d->base.backend->parallel;
	d->stats.in_flight += take;
	pthread_mutex_unlock(&d->lock);
	if (!take)
		return false;
	int r = run_now(d, io, &err);
	pthread_mutex_lock(&d->lock);
	if (hither_error_is_transient(r)) {
		d->stats.in_flight--;
		pthread_mutex_unlock(&d->lock);
		return false;
	}
	d->stats.reads += io->op == HITHER_IO_READ;
	d->stats.writes += io->op == HITHER_IO_WRITE;
	count_locked(d, io, r, &err);
	pthread_mutex_unlock(&d->lock);
	io->done(io, r, &err);
	return true;
}

static void direct_submit(struct hither_mount *base, struct hither_io *io)
{
	struct direct *d = (struct direct *)base;
	io->submitted_ns = hither_now_ns();
	io->waited = true;
	io->next = NULL;
	if (run_here(d, io))
		return;
	HITHER_LOCK_SCOPE(&d->lock);
	if (io->op == HITHER_IO_READ) {
		d->stats.reads++;
		d->stats.reads_waited++;
	} else if (io->op == HITHER_IO_WRITE) {
		d->stats.writes++;
	}
	*d->tail = io;
	d->tail = &io->next;
	/* The first thread is there since the start, so somebody comes even if no more can be had.
	 */
	if (d->idle_count == 0 && d->thread_count < d->workers &&
	    !pthread_create(&d->threads[d->thread_count], NULL, direct_main, d))
		d->thread_count++;
	pthread_cond_signal(&d->work);
}

static int direct_push(struct hither_mount *base, struct hither_error *err)
{
	return base->writable ? hither_backend_flush(base->backend, err) : 0;
}

static int direct_pull(struct hither_mount *base, struct hither_error *err)
{
	return hither_fail(err, -EOPNOTSUPP, "a direct mount keeps nothing to pull into");
}

static void direct_stats(struct hither_mount *base, struct hither_mount_stats *out)
{
	struct direct *d = (struct direct *)base;
	HITHER_LOCK_SCOPE(&d->lock);
	*out = d->stats;
	out->size_bytes = base->size_bytes;
	for (const struct hither_io *io = d->head; io; io = io->next)
		out->waiting++;
}

static void direct_picture(struct hither_mount *base, uint8_t *parts, size_t count)
{
	memset(parts, base->size_bytes ? 0 : 255, count);
}

static uint64_t direct_extent(struct hither_mount *base, uint64_t offset, uint64_t max,
                              uint32_t *kind)
{
	bool hole;
	uint64_t run = hither_backend_extent(base->backend, offset, max, &hole);
	*kind = hole ? HITHER_EXTENT_HOLE : 0;
	return run;
}

static int direct_local_fd(struct hither_mount *base)
{
	struct hither_backend *b = base->backend;
	return base->writable || !b->ops->local_fd ? -1 : b->ops->local_fd(b);
}

static void direct_cancel(struct hither_mount *base)
{
	struct direct *d = (struct direct *)base;
	hither_backend_cancel(base->backend);
	HITHER_LOCK_SCOPE(&d->lock);
	d->cancelled = true;
	pthread_cond_broadcast(&d->over);
}

static void free_direct(struct direct *d)
{
	pthread_mutex_destroy(&d->lock);
	pthread_cond_destroy(&d->work);
	pthread_cond_destroy(&d->over);
	free(d);
}

static int direct_close(struct hither_mount *base, struct hither_error *err)
{
	struct direct *d = (struct direct *)base;
	pthread_mutex_lock(&d->lock);
	d->closing = true;
	pthread_cond_broadcast(&d->work);
	pthread_mutex_unlock(&d->lock);
	for (uint32_t i = 0; i < d->thread_count; i++)
		pthread_join(d->threads[i], NULL);
	int r = base->writable && !d->cancelled ? hither_backend_flush(base->backend, err) : 0;
	hither_backend_close(base->backend);
	free_direct(d);
	return r;
}

static const struct hither_mount_ops direct_ops = {
        .discards = true,
        .submit = direct_submit,
        .push = direct_push,
        .pull = direct_pull,
        .stats = direct_stats,
        .picture = direct_picture,
        .extent = direct_extent,
        .local_fd = direct_local_fd,
        .cancel = direct_cancel,
        .close = direct_close,
};

int hither_direct_create(struct hither_backend *backend, const struct hither_mount_options *options,
                         struct hither_mount **out, struct hither_error *err)
{
	struct direct *d = calloc(1, sizeof *d);
	if (!d)
		return hither_fail(err, -ENOMEM, "no memory for a mount");
	d->base = (struct hither_mount){.ops = &direct_ops,
	                                .backend = backend,
	                                .direct = true,
	                                .size_bytes = backend->size_bytes,
	                                .writable = backend->flags & HITHER_BACKEND_WRITABLE};
	d->workers = options->workers ? options->workers : DIRECT_WORKERS_DEFAULT;
	if (d->workers > DIRECT_WORKERS_MAX)
		d->workers = DIRECT_WORKERS_MAX;
	if (backend->parallel && backend->parallel < d->workers)
		d->workers = backend->parallel;
	d->deadline_ns = (options->deadline_ms ? options->deadline_ms : 300000) * HITHER_NS_PER_MS;
	d->tail = &d->head;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->work, &attr);
	pthread_cond_init(&d->over, &attr);
	pthread_condattr_destroy(&attr);
	int r = pthread_create(&d->threads[0], NULL, direct_main, d);
	if (r) {
		free_direct(d);
		return hither_fail(err, -r, "cannot start a thread: %s", strerror(r));
	}
	d->thread_count = 1;
	*out = &d->base;
	return 0;
}
