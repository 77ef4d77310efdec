/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discards: blocks that are zeros from now on. They are written like others, but that the store has
 * a hole there, and so does the backend after the push; where the backend has one already, nothing
 * is to be done. So mkfs, which discards a whole device, costs nothing on an empty one.
 */
#include "base/cleanup.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

/* What is taken at a time, so that nobody waits long for blocks of it. */
enum { PIECE_BLOCKS = 1 << 18 };

/*
 * The first blocks of [*first, end) that are not zeros in the backend and here alike, up to *last.
 * What is dirty may be anything.
 */
static bool find_some_locked(struct managed *m, uint64_t *first, uint64_t end, uint64_t *last)
{
	while (*first < end) {
		bool hole = false;
		enum hither_block_state state = hither_block_map_get(m->map, *first);
		uint64_t at, most = end - *first < PIECE_BLOCKS ? end - *first : PIECE_BLOCKS;
		uint64_t run = hither_block_map_run(m->map, *first, end, most, 1u << state, &at);
		if (state == HITHER_BLOCK_ABSENT || state == HITHER_BLOCK_LOCAL) {
			uint64_t bytes = hither_backend_extent(
			        m->base.backend, *first << HITHER_BLOCK_SHIFT,
			        managed_bytes(m, *first, *first + run), &hole);
			run = (bytes + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
		}
		*last = *first + run;
		if (!hole)
			return true;
		*first = *last;
	}
	return false;
}

/* Into what is mapped: a hole would take pages away under who has them (mount/memory.h). */
static int write_zeros(struct managed *m, uint64_t first, uint64_t end)
{
	static const char zeros[256 << 10];
	uint64_t offset = first << HITHER_BLOCK_SHIFT, len = managed_bytes(m, first, end);
	int r = 0;
	while (len > 0 && !r) {
		size_t n = len < sizeof zeros ? (size_t)len : sizeof zeros;
		r = hither_store_write(m->store, zeros, n, offset);
		offset += n;
		len -= n;
	}
	return r;
}

static int make_zeros(struct managed *m, uint64_t first, uint64_t end)
{
	int r = hither_store_intent(m->store, first, end - first);
	if (r)
		return r;
	return m->watched ? write_zeros(m, first, end)
	                  : hither_store_zero(m->store, first << HITHER_BLOCK_SHIFT,
	                                      managed_bytes(m, first, end));
}

static int refuse_locked(struct managed *m, struct hither_error *err)
{
	if (m->cancelled || m->stale)
		return hither_fail(err, m->stale ? m->stale : -ECANCELED, "%s",
		                   m->stale ? m->trouble.message : "cancelled");
	return 0;
}

/* One piece, as a write does it; *at moves behind it. */
static int discard_some(struct managed *m, uint64_t *at, uint64_t end, struct managed_ios *ready,
                        struct hither_error *err)
{
	uint64_t last;
	HITHER_LOCK_SCOPE(&m->lock);
	int r = refuse_locked(m, err);
	bool found = !r && find_some_locked(m, at, end, &last);
	while (found && managed_busy_find_locked(m, *at, last)) {
		pthread_cond_wait(&m->settled, &m->lock);
		r = refuse_locked(m, err);
		found = !r && find_some_locked(m, at, end, &last);
	}
	if (r || !found) {
		*at = end;
		return r;
	}
	struct managed_busy busy = {.first = *at, .end = last};
	r = managed_dirty_present_locked(m, *at, last);
	managed_busy_add_locked(m, &busy);
	pthread_mutex_unlock(&m->lock);
	if (!r)
		r = make_zeros(m, busy.first, busy.end);
	pthread_mutex_lock(&m->lock);
	r = managed_end_change_locked(m, &busy, r, ready);
	*at = busy.end;
	return r ? hither_fail(err, r, "%s: discarding in the local store %s: %s", m->name,
	                       hither_store_path(m->store), strerror(-r))
	         : 0;
}

void managed_discard(struct managed *m, struct hither_io *io)
{
	struct hither_error err = {0};
	uint64_t at = managed_first(io), end = managed_end(io);
	int r = 0;
	while (!r && at < end) {
		struct managed_ios ready;
		managed_ios_init(&ready);
		r = discard_some(m, &at, end, &ready, &err);
		managed_resume(m, &ready);
	}
	managed_answer(io, r, &err);
}
