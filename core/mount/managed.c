/* SPDX-License-Identifier: Apache-2.0 */
/* The managed mount's life, its lists, and what it tells of itself. */
#include "mount/managed.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>

uint64_t managed_bytes(const struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t from = first << HITHER_BLOCK_SHIFT, to = end << HITHER_BLOCK_SHIFT;
	return (to < m->base.size_bytes ? to : m->base.size_bytes) - from;
}

void managed_ios_init(struct managed_ios *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

void managed_ios_append(struct managed_ios *list, struct hither_io *io)
{
	io->next = NULL;
	*list->tail = io;
	list->tail = &io->next;
}

void managed_ios_remove(struct managed_ios *list, struct hither_io **at)
{
	struct hither_io *io = *at;
	*at = io->next;
	if (list->tail == &io->next)
		list->tail = at;
	io->next = NULL;
}

void managed_answer(struct hither_io *io, int result, const struct hither_error *err)
{
	struct hither_error plain = {.code = result};
	if (result && (!err || err->code != result)) {
		hither_fail(&plain, result, "%s", err ? err->message : strerror(-result));
		err = &plain;
	}
	io->done(io, result, result ? err : &plain);
}

void managed_answer_all(struct managed_ios *list, int result, const struct hither_error *err)
{
	while (list->head) {
		struct hither_io *io = list->head;
		managed_ios_remove(list, &list->head);
		managed_answer(io, result, err);
	}
}

struct managed_busy *managed_busy_find_locked(struct managed *m, uint64_t first, uint64_t end)
{
	for (struct managed_busy *b = m->busy; b; b = b->next)
		if (managed_overlap(b->first, b->end, first, end))
			return b;
	return NULL;
}

void managed_busy_add_locked(struct managed *m, struct managed_busy *b)
{
	b->next = m->busy;
	m->busy = b;
}

void managed_busy_remove_locked(struct managed *m, struct managed_busy *b)
{
	struct managed_busy **at = &m->busy;
	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
	pthread_cond_broadcast(&m->settled);
}

static void managed_submit(struct hither_mount *base, struct hither_io *io)
{
	struct managed *m = managed_of(base);
	io->submitted_ns = m->now();
	io->waited = false;
	switch (io->op) {
	case HITHER_IO_READ:
		managed_read(m, io);
		break;
	case HITHER_IO_WRITE:
		managed_write(m, io);
		break;
	case HITHER_IO_FLUSH:
		managed_flush(m, io, m->sync == HITHER_SYNC_REMOTE);
		break;
	case HITHER_IO_DISCARD:
		managed_discard(m, io);
		break;
	}
}

/* --- waiting for an io on the calling thread --- */

struct waited_io {
	struct hither_io io;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;
	int result;
	struct hither_error err;
};

static void waited_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct waited_io *w = (struct waited_io *)io;
	HITHER_LOCK_SCOPE(&w->lock);
	w->result = result;
	w->err = *err;
	w->over = true;
	pthread_cond_signal(&w->cond);
}

static int managed_push(struct hither_mount *base, struct hither_error *err)
{
	struct managed *m = managed_of(base);
	struct waited_io w = {.io = {.op = HITHER_IO_FLUSH, .done = waited_done},
	                      .lock = PTHREAD_MUTEX_INITIALIZER,
	                      .cond = PTHREAD_COND_INITIALIZER};
	w.io.submitted_ns = m->now();
	managed_flush(m, &w.io, true);
	pthread_mutex_lock(&w.lock);
	while (!w.over)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	if (w.result && err)
		*err = w.err;
	return w.result;
}

static int managed_pull(struct hither_mount *base, struct hither_error *err)
{
	struct managed *m = managed_of(base);
	HITHER_LOCK_SCOPE(&m->lock);
	if ((m->cap_blocks && m->cap_blocks < m->block_count) ||
	    (m->resident_blocks && m->resident_blocks < m->block_count))
		return hither_fail(err, -ENOSPC, "%s: the cache's cap is smaller than the file",
		                   m->name);
	m->pull_waiters++;
	m->sweep_again_ns = 0;
	int r = 0;
	uint64_t began = m->now();
	while (!r && hither_block_map_count(m->map, HITHER_BLOCK_ABSENT) > 0) {
		managed_wake_locked(m);
		struct timespec until = hither_timespec(m->now() + HITHER_NS_PER_S);
		pthread_cond_timedwait(&m->settled, &m->lock, &until);
		uint64_t since = m->progress_ns > began ? m->progress_ns : began;
		if (m->cancelled)
			r = hither_fail(err, -ECANCELED, "%s: cancelled", m->name);
		else if (m->stale)
			r = hither_fail(err, m->stale, "%s", m->trouble.message);
		else if (m->full_until_ns > m->now())
			r = hither_fail(err, -ENOSPC, "%s: no space left for the cache in %s",
			                m->name, hither_store_path(m->store));
		else if (!m->base.backend)
			r = hither_fail(err, -ENODATA, "%s: offline, and not all is in the cache",
			                m->name);
		else if (m->trouble.code &&
		         m->sweep_again_ns > m->now()) /* a whole pass was in vain */
			r = hither_fail(err, m->trouble.code, "%s", m->trouble.message);
		else if (m->now() > since + m->deadline_ns)
			r = hither_fail(err, -ETIMEDOUT,
			                "%s: gave up after %llu s without progress: %s", m->name,
			                (unsigned long long)(m->deadline_ns / HITHER_NS_PER_S),
			                m->trouble.code ? m->trouble.message : "no answer");
	}
	m->pull_waiters--;
	return r;
}

static void managed_stats(struct hither_mount *base, struct hither_mount_stats *out)
{
	struct managed *m = managed_of(base);
	HITHER_LOCK_SCOPE(&m->lock);
	*out = m->stats;
	out->size_bytes = m->base.size_bytes;
	uint64_t absent = hither_block_map_count(m->map, HITHER_BLOCK_ABSENT);
	uint64_t dirty = hither_block_map_count(m->map, HITHER_BLOCK_DIRTY) +
	                 hither_block_map_count(m->map, HITHER_BLOCK_PUSHED);
	out->local_bytes =
	        absent ? (m->block_count - absent) * HITHER_BLOCK_BYTES : out->size_bytes;
	out->dirty_bytes = dirty * HITHER_BLOCK_BYTES;
	for (const struct hither_io *io = m->waiting.head; io; io = io->next)
		out->waiting++;
	out->in_flight = m->job_count;
	out->pushing = m->pushing;
	out->rtt_ns = hither_link_rtt_ns(&m->link);
	out->rate_bytes = hither_link_rate(&m->link);
	const struct hither_error *why = m->gave_up.code && !m->stale ? &m->gave_up : &m->trouble;
	out->error = m->stale ? m->stale : why->code;
	memcpy(out->message, why->message, sizeof out->message);
	if (!out->error)
		out->message[0] = 0;
}

static uint8_t share_of_part(struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t here = 0, run;
	for (uint64_t at = first; (run = hither_block_map_run(m->map, at, end, end - at,
	                                                      HITHER_BLOCKS_PRESENT, &at)) > 0;
	     at += run)
		here += run;
	return here == end - first ? 255 : (uint8_t)(here * 254 / (end - first));
}

static void managed_picture(struct hither_mount *base, uint8_t *parts, size_t count)
{
	struct managed *m = managed_of(base);
	HITHER_LOCK_SCOPE(&m->lock);
	for (size_t i = 0; i < count; i++) {
		/* In 128 bits: block counts reach 2^52. */
		uint64_t first = (uint64_t)((unsigned __int128)m->block_count * i / count);
		uint64_t end = (uint64_t)((unsigned __int128)m->block_count * (i + 1) / count);
		if (end == first && first < m->block_count)
			end = first + 1;
		parts[i] = end > first ? share_of_part(m, first, end) : 255;
	}
}

/*
 * A hole of the backend is one here as long as nothing was written over it. A write that comes
 * between the two looks is concurrent with this call.
 */
static uint64_t managed_extent(struct hither_mount *base, uint64_t offset, uint64_t max,
                               uint32_t *kind)
{
	struct managed *m = managed_of(base);
	uint64_t block = offset >> HITHER_BLOCK_SHIFT;
	uint64_t end = (offset + max + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
	pthread_mutex_lock(&m->lock);
	enum hither_block_state state = hither_block_map_get(m->map, block);
	bool dirty = state == HITHER_BLOCK_DIRTY || state == HITHER_BLOCK_PUSHED;
	unsigned same = dirty ? HITHER_BLOCKS_DIRTY | HITHER_BLOCKS_PUSHED : 1u << state;
	uint64_t blocks = hither_block_map_run(m->map, block, end, end - block, same, &block);
	pthread_mutex_unlock(&m->lock);
	uint64_t run = ((block + blocks) << HITHER_BLOCK_SHIFT) - offset;
	if (run > max)
		run = max;
	*kind = (state != HITHER_BLOCK_ABSENT ? HITHER_EXTENT_LOCAL : 0) |
	        (dirty ? HITHER_EXTENT_DIRTY : 0);
	bool hole = false;
	if (!dirty && base->backend)
		run = hither_backend_extent(base->backend, offset, run, &hole);
	*kind |= hole ? HITHER_EXTENT_HOLE : 0;
	return run;
}

static int managed_local_fd(struct hither_mount *base)
{
	struct managed *m = managed_of(base);
	HITHER_LOCK_SCOPE(&m->lock);
	if (m->base.writable || m->cap_blocks || m->resident_blocks || m->stale)
		return -1;
	if (hither_block_map_count(m->map, HITHER_BLOCK_ABSENT) > 0 || managed_dirty_locked(m))
		return -1;
	return hither_store_fd(m->store);
}

static void managed_cached_above(struct hither_mount *base)
{
	hither_store_uncached(managed_of(base)->store, true);
}

static void managed_cancel(struct hither_mount *base)
{
	struct managed *m = managed_of(base);
	pthread_mutex_lock(&m->lock);
	m->cancelled = true;
	pthread_cond_broadcast(&m->settled);
	pthread_mutex_unlock(&m->lock);
	if (m->base.backend)
		hither_backend_cancel(m->base.backend);
	struct hither_error err = {0};
	hither_fail(&err, -ECANCELED, "%s: cancelled", m->name);
	managed_fail_waiting(m, -ECANCELED, &err);
}

static void managed_free(struct managed *m)
{
	hither_order_destroy(m->order);
	hither_order_destroy(m->recorder);
	hither_block_map_destroy(m->map);
	hither_store_close(m->store);
	hither_backend_close(m->base.backend);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->order_lock);
	pthread_mutex_destroy(&m->recorder_lock);
	pthread_mutex_destroy(&m->room_lock);
	pthread_rwlock_destroy(&m->watch_lock);
	pthread_cond_destroy(&m->work);
	pthread_cond_destroy(&m->timer);
	pthread_cond_destroy(&m->settled);
	free(m->used);
	free(m->name);
	free(m);
}

static int managed_close(struct hither_mount *base, struct hither_error *err)
{
	struct managed *m = managed_of(base);
	int r = 0;
	if (m->base.writable && !m->cancelled)
		r = managed_push(base, err);
	managed_cancel(base);
	managed_threads_stop(m);
	struct hither_error last = {0};
	int synced = hither_store_sync(m->store, &last);
	if (synced && !r && m->base.writable) {
		r = synced;
		if (err)
			*err = last;
	}
	managed_free(m);
	return r;
}

const struct hither_mount_ops managed_ops = {
        .submit = managed_submit,
        .push = managed_push,
        .pull = managed_pull,
        .suggest = managed_suggest,
        .warm = managed_warm,
        .fill = managed_fill_known,
        .discards = true,
        .stats = managed_stats,
        .picture = managed_picture,
        .extent = managed_extent,
        .peek = managed_peek,
        .local_fd = managed_local_fd,
        .cached_above = managed_cached_above,
        .cancel = managed_cancel,
        .close = managed_close,
};

/* --- create --- */

static void init_locks(struct managed *m)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->order_lock, NULL);
	pthread_mutex_init(&m->recorder_lock, NULL);
	pthread_mutex_init(&m->room_lock, NULL);
	pthread_rwlock_init(&m->watch_lock, NULL);
	pthread_cond_init(&m->work, &attr);
	pthread_cond_init(&m->timer, &attr);
	pthread_cond_init(&m->settled, &attr);
	pthread_condattr_destroy(&attr);
}

/* Below some chunks nothing moves; and what is dirty must go early enough to make room. */
static void take_resident_limit(struct managed *m, uint64_t bytes)
{
	uint64_t blocks = bytes >> HITHER_BLOCK_SHIFT, least = 64 * (uint64_t)m->chunk_blocks;
	if (!bytes || hither_store_persistent(m->store))
		return;
	m->resident_blocks = blocks > least ? blocks : least;
	if (m->push_dirty_blocks > m->resident_blocks / 4)
		m->push_dirty_blocks = m->resident_blocks / 4;
}

static void take_options(struct managed *m, const struct hither_mount_options *o)
{
	const struct hither_backend *b = m->base.backend;
	uint32_t workers = o->workers ? o->workers : MANAGED_WORKERS_DEFAULT;
	if (workers > MANAGED_WORKERS_MAX)
		workers = MANAGED_WORKERS_MAX;
	if (b && b->parallel && b->parallel < workers)
		workers = b->parallel;
	m->jobs_max = workers;
	m->pushes_max = b && b->flags & HITHER_BACKEND_ORDERED ? 1 : MANAGED_PUSHES_MAX;
	m->sync = o->sync;
	m->changed = o->changed;
	m->pull_off = o->pull_off;
	uint32_t unit =
	        b && b->align_bytes > HITHER_BLOCK_BYTES ? b->align_bytes : HITHER_BLOCK_BYTES;
	m->unit_blocks = unit >> HITHER_BLOCK_SHIFT;
	uint32_t chunk = o->chunk_bytes ? o->chunk_bytes : 64 << 10;
	m->chunk_blocks = (chunk > unit ? chunk : unit) >> HITHER_BLOCK_SHIFT;
	m->cap_blocks = (o->cache_cap_bytes + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
	m->deadline_ns = (o->deadline_ms ? o->deadline_ms : 300000) * HITHER_NS_PER_MS;
	if (o->push_watch)
		m->push_watch = *o->push_watch;
	m->push_interval_ns = (o->push_interval_ms ? o->push_interval_ms : 5000) * HITHER_NS_PER_MS;
	uint64_t dirty = o->push_dirty_bytes ? o->push_dirty_bytes : 64 << 20;
	m->push_dirty_blocks = dirty >> HITHER_BLOCK_SHIFT;
	take_resident_limit(m, o->resident_bytes);
}

int hither_managed_create(struct hither_backend *backend, struct hither_store *store,
                          struct hither_block_map *map, uint64_t size_bytes, const char *name,
                          const struct hither_mount_options *options, struct hither_mount **out,
                          struct hither_error *err)
{
	struct managed *m = calloc(1, sizeof *m);
	if (!m || !(m->name = strdup(name))) {
		free(m);
		return hither_fail(err, -ENOMEM, "%s: no memory for a mount", name);
	}
	init_locks(m);
	m->base = (struct hither_mount){.ops = &managed_ops};
	m->base.size_bytes = size_bytes;
	m->block_count = (size_bytes + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
	m->base.writable = backend && (backend->flags & HITHER_BACKEND_WRITABLE);
	m->base.backend = backend;
	m->now = hither_now_ns;
	m->map = map;
	m->store = store;
	managed_ios_init(&m->waiting);
	managed_ios_init(&m->round_ios);
	managed_ios_init(&m->flush_ios);
	managed_ios_init(&m->sync_ios);
	take_options(m, options);
	m->manual = managed_by_hand;
	if (backend && backend->flags & HITHER_BACKEND_LOCAL)
		hither_link_start_near(&m->link);
	char version[HITHER_VERSION_BYTES];
	m->versioned =
	        m->base.writable && !hither_backend_version(backend, version, NULL) && *version;
	m->progress_ns = m->now();
	if (hither_block_map_count(map, HITHER_BLOCK_DIRTY) > 0)
		m->dirty_since_ns = m->now();
	int r = managed_evict_init(m, err);
	if (!r)
		r = managed_make_order(m, options, err);
	if (!r)
		managed_take_early(m), managed_take_head(m);
	if (!r)
		r = managed_threads_start(m, err);
	if (r) {
		/* What was handed in stays the caller's. */
		m->base.backend = NULL;
		m->map = NULL;
		m->store = NULL;
		managed_free(m);
		return r;
	}
	*out = &m->base;
	return 0;
}
