/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/memory.h"

#include "base/cleanup.h"
#include "mount/managed.h"

#include <errno.h>

/* A pin is a busy range: evictions and writes keep away from both alike. */
_Static_assert(sizeof(struct mount_memory_pin) == sizeof(struct managed_busy), "one layout");
static struct managed_busy *busy_of(struct mount_memory_pin *pin)
{
	return (struct managed_busy *)pin;
}

int mount_memory_fd(struct hither_mount *base)
{
	if (base->ops != &managed_ops)
		return -1;
	struct hither_store *store = managed_of(base)->store;
	return hither_store_persistent(store) ? -1 : hither_store_fd(store);
}

const uint8_t *mount_memory_view(struct hither_mount *base)
{
	struct managed *m = managed_of(base);
	if (mount_memory_fd(base) < 0)
		return NULL;
	HITHER_LOCK_SCOPE(&m->lock);
	if (m->cap_blocks || m->resident_blocks)
		return NULL;
	const uint8_t *bytes = hither_store_bytes(m->store);
	m->lent = m->lent || bytes;
	return bytes;
}

uint32_t mount_memory_chunk_bytes(struct hither_mount *base)
{
	return managed_of(base)->chunk_blocks << HITHER_BLOCK_SHIFT;
}

uint32_t mount_memory_unit_blocks(struct hither_mount *base)
{
	return managed_of(base)->unit_blocks;
}

bool mount_memory_near(struct hither_mount *base, uint64_t first, uint64_t end)
{
	struct managed *m = managed_of(base);
	bool hole = false;
	if (!base->backend)
		return false;
	if (base->backend->flags & HITHER_BACKEND_LOCAL)
		return true;
	hither_backend_extent(base->backend, first << HITHER_BLOCK_SHIFT,
	                      managed_bytes(m, first, end), &hole);
	return hole;
}

bool mount_memory_roomy(struct hither_mount *base)
{
	struct managed *m = managed_of(base);
	HITHER_LOCK_SCOPE(&m->lock);
	return !m->full_until_ns && !managed_filling_locked(m);
}

void mount_memory_passed(struct hither_mount *base, uint64_t first, uint64_t end)
{
	struct managed *m = managed_of(base);
	struct hither_io io = {.offset = first << HITHER_BLOCK_SHIFT,
	                       .len = (size_t)managed_bytes(m, first, end)};
	HITHER_LOCK_SCOPE(&m->lock);
	managed_saw_locked(m, &io, false);
}

void mount_memory_saw(struct hither_mount *base, uint64_t first, uint64_t end)
{
	struct managed *m = managed_of(base);
	mount_memory_passed(base, first, end);
	managed_record(m, first << HITHER_BLOCK_SHIFT, managed_bytes(m, first, end), false);
}

void mount_memory_watch(struct hither_mount *base, struct mount_memory_watch *w)
{
	struct managed *m = managed_of(base);
	pthread_rwlock_wrlock(&m->watch_lock);
	w->next = m->watches;
	m->watches = w;
	pthread_rwlock_unlock(&m->watch_lock);
	m->watched = true;
}

void mount_memory_unwatch(struct hither_mount *base, struct mount_memory_watch *w)
{
	struct managed *m = managed_of(base);
	pthread_rwlock_wrlock(&m->watch_lock);
	struct mount_memory_watch **at = &m->watches;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	m->watched = m->watches != NULL;
	pthread_rwlock_unlock(&m->watch_lock);
}

bool managed_fill(struct managed *m, uint64_t first, uint64_t end, const void *bytes)
{
	bool done = false;
	if (!m->watched)
		return false;
	pthread_rwlock_rdlock(&m->watch_lock);
	for (struct mount_memory_watch *w = m->watches; w && !done; w = w->next)
		done = w->fill && w->fill(w, first, end, bytes);
	pthread_rwlock_unlock(&m->watch_lock);
	return done;
}

void managed_watchers(struct managed *m, enum managed_watch what, uint64_t first, uint64_t end)
{
	if (!m->watched)
		return;
	pthread_rwlock_rdlock(&m->watch_lock);
	for (struct mount_memory_watch *w = m->watches; w; w = w->next) {
		switch (what) {
		case MANAGED_WATCH_ARRIVED:
			w->arrived(w, first, end);
			break;
		case MANAGED_WATCH_PUSHING:
			w->pushing(w, first, end);
			break;
		case MANAGED_WATCH_LEAVING:
			w->leaving(w, first, end);
			break;
		case MANAGED_WATCH_COLLECT:
			w->collect(w);
			break;
		}
	}
	pthread_rwlock_unlock(&m->watch_lock);
}

bool mount_memory_pin(struct hither_mount *base, struct mount_memory_pin *pin, uint64_t first,
                      uint64_t end)
{
	struct managed *m = managed_of(base);
	HITHER_LOCK_SCOPE(&m->lock);
	for (;;) {
		uint64_t at;
		uint64_t run = hither_block_map_run(m->map, first, end, end - first,
		                                    HITHER_BLOCKS_PRESENT, &at);
		if (!run)
			return false;
		*pin = (struct mount_memory_pin){.first = at, .end = at + run};
		if (!managed_busy_find_locked(m, pin->first, pin->end))
			break;
		pthread_cond_wait(&m->settled, &m->lock);
	}
	managed_busy_add_locked(m, busy_of(pin));
	managed_used_locked(m, pin->first, pin->end);
	return true;
}

void mount_memory_unpin(struct hither_mount *base, struct mount_memory_pin *pin)
{
	struct managed *m = managed_of(base);
	HITHER_LOCK_SCOPE(&m->lock);
	managed_busy_remove_locked(m, busy_of(pin));
}

int mount_memory_touched(struct hither_mount *base, uint64_t first, uint64_t end)
{
	struct managed *m = managed_of(base);
	HITHER_LOCK_SCOPE(&m->lock);
	return managed_changed_in_place_locked(m, first, end);
}

/* Is something on its way to or from these? */
static bool under_way_locked(const struct managed *m, uint64_t first, uint64_t end)
{
	for (const struct managed_job *j = m->jobs; j; j = j->next)
		if ((j->kind == MANAGED_JOB_PULL || j->kind == MANAGED_JOB_PUSH) &&
		    managed_overlap(j->first, j->end, first, end))
			return true;
	return false;
}

int mount_memory_discard(struct hither_mount *base, uint64_t first, uint64_t end,
                         struct hither_error *err)
{
	struct managed *m = managed_of(base);
	struct managed_busy busy = {.first = first, .end = end};
	if (!base->backend || !base->backend->ops->discard)
		return hither_fail(err, -EOPNOTSUPP, "%s: cannot discard", m->name);
	pthread_mutex_lock(&m->lock);
	/* What is on its way could bring back what is discarded; and whoever brings it may want to
	 * pin it first, so that it must be waited for with nothing held. */
	for (;;) {
		while (managed_busy_find_locked(m, first, end) || under_way_locked(m, first, end))
			pthread_cond_wait(&m->settled, &m->lock);
		managed_busy_add_locked(m, &busy);
		pthread_mutex_unlock(&m->lock);
		/* Nobody has them mapped from here on, nor can. */
		managed_watchers(m, MANAGED_WATCH_LEAVING, first, end);
		pthread_mutex_lock(&m->lock);
		if (!under_way_locked(m, first, end))
			break;
		managed_busy_remove_locked(m, &busy);
	}
	int r = hither_block_map_set(m->map, first, end - first, HITHER_BLOCK_ABSENT);
	if (!r)
		r = hither_backend_discard(base->backend, first << HITHER_BLOCK_SHIFT,
		                           managed_bytes(m, first, end), err);
	else
		hither_fail(err, r, "%s: no memory for the block map", m->name);
	m->evictions++;
	pthread_mutex_unlock(&m->lock);
	if (!r)
		hither_store_punch(m->store, first << HITHER_BLOCK_SHIFT,
		                   (end - first) << HITHER_BLOCK_SHIFT);
	HITHER_LOCK_SCOPE(&m->lock);
	managed_busy_remove_locked(m, &busy);
	m->evict_stuck = false;
	managed_wake_locked(m);
	return r;
}

/* The first absent part of [first, end), if this thread may pull it now. */
static bool claim_here_locked(struct managed *m, struct managed_job *job, uint64_t first,
                              uint64_t end)
{
	uint64_t room = managed_room_locked(m);
	if (m->cancelled || m->stale || !m->base.backend || m->job_count >= m->jobs_max ||
	    m->retry_at_ns || m->full_until_ns || !room || !managed_trim_locked(m, &first, &end))
		return false;
	if (end - first > room)
		end = first + room;
	first -= first % m->unit_blocks;
	end += m->unit_blocks - 1;
	end -= end % m->unit_blocks;
	if (end > m->block_count)
		end = m->block_count;
	*job = (struct managed_job){.first = first, .end = end, .demand = true, .here = true};
	managed_start_job_locked(m, job, MANAGED_JOB_PULL);
	m->outstanding_bytes += managed_bytes(m, first, end);
	return true;
}

bool mount_memory_pull_here(struct hither_mount *base, uint64_t first, uint64_t end)
{
	struct managed *m = managed_of(base);
	struct managed_job job;
	for (;;) {
		pthread_mutex_lock(&m->lock);
		bool here = hither_block_map_all(m->map, first, end - first, HITHER_BLOCKS_PRESENT);
		bool ours = !here && claim_here_locked(m, &job, first, end);
		pthread_mutex_unlock(&m->lock);
		if (!ours)
			return here;
		managed_run_pull(m, &job);
		if (job.arrived < managed_bytes(m, job.first, job.end))
			return false; /* it has failed: a read that waits knows how to go on */
	}
}

/* Now it waits as any other does: with a deadline, and for another connection if this one stalls.
 */
struct waits_here {
	struct managed *m;
	struct hither_io *io;
	void (*asked)(void *user);
	void *user;
};

static void waits_here(void *user)
{
	struct waits_here *w = user;
	w->asked(w->user);
	managed_read(w->m, w->io);
}

void mount_memory_read_here(struct hither_mount *base, struct hither_io *io, uint64_t bring,
                            void (*asked)(void *user), void *user)
{
	struct managed *m = managed_of(base);
	struct managed_job job = {0};
	uint64_t first = managed_first(io), end = managed_end(io), at = first, stop;
	io->submitted_ns = m->now();
	io->waited = false;
	bring = stop = bring > end ? bring : end;
	pthread_mutex_lock(&m->lock);
	bool ours = managed_trim_locked(m, &at, &stop) && at == first &&
	            claim_here_locked(m, &job, first, stop);
	job.quiet = ours && bring > end; /* else watchers pass on what arrives, block by block */
	pthread_mutex_unlock(&m->lock);
	struct waits_here waits = {m, io, asked, user};
	if (ours)
		managed_run_pull_asked(m, &job, waits_here, &waits);
	else
		waits_here(&waits);
}
