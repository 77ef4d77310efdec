/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cap on the store, and room on a full disk: clean chunks are dropped, least recently used
 * first (a clock with one bit a chunk), by punching holes. Dirty ones never are.
 *
 * Memory that is mapped tells nobody when it is used again. There any chunk goes: what goes over
 * more memory than there is, again and again, finds a part of it so, where the oldest first would
 * leave it nothing; others find as much as by age. What a reader has left behind goes before
 * (left.c).
 *
 * A block leaves the map before its bytes go, and `evictions` changes in between: whoever read the
 * store without the lock sees that and looks again. Chunks being dropped are busy, so that nobody
 * fills them before the hole is made.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

#define STORE_FULL_NS UINT64_C(10000000000) /* after ENOSPC, pull past the store for so long */

enum {
	EVICT_BATCH = 64, /* runs dropped at a time */
	RESERVE_CHUNKS = 8,
	RANDOM_TRIES = 64,
	EVICT_RUN_BLOCKS = 4 << 20 >> HITHER_BLOCK_SHIFT, /* at most, in one go */
};

static uint64_t chunk_count(const struct managed *m)
{
	return (m->block_count + m->chunk_blocks - 1) / m->chunk_blocks;
}

int managed_evict_init(struct managed *m, struct hither_error *err)
{
	if (!m->cap_blocks && !m->resident_blocks)
		return 0;
	m->used = calloc(1, chunk_count(m) / 8 + 1);
	return m->used ? 0
	               : hither_fail(err, -ENOMEM, "%s: no memory for the cache's cap", m->name);
}

void managed_used_locked(struct managed *m, uint64_t first, uint64_t end)
{
	if (!m->used)
		return;
	for (uint64_t c = first / m->chunk_blocks; c * m->chunk_blocks < end; c++)
		m->used[c / 8] |= (uint8_t)(1u << c % 8);
}

bool managed_droppable_locked(struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t at;
	if (hither_block_map_run(m->map, first, end, 1, HITHER_BLOCKS_LOCAL, &at) == 0)
		return false;
	if (managed_busy_find_locked(m, first, end))
		return false;
	/* What is on its way may be older than what was pushed since: it must not find an empty
	 * place. */
	for (const struct managed_job *j = m->jobs; j; j = j->next)
		if (j->kind == MANAGED_JOB_PULL && managed_overlap(j->first, j->end, first, end))
			return false;
	for (const struct hither_io *io = m->waiting.head; io; io = io->next)
		if (managed_overlap(managed_first(io), managed_end(io), first, end))
			return false;
	return true;
}

static uint64_t random_locked(struct managed *m)
{
	uint64_t x = m->evict_random ? m->evict_random : 88172645463325252u;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return m->evict_random = x;
}

static void bounds_of(const struct managed *m, uint64_t chunk, uint64_t *first, uint64_t *end)
{
	*first = chunk * m->chunk_blocks;
	*end = *first + m->chunk_blocks < m->block_count ? *first + m->chunk_blocks
	                                                 : m->block_count;
}

/* May this chunk go now? One that was used since it was asked last may not, this once. */
static bool may_go_locked(struct managed *m, uint64_t chunk, uint64_t *first, uint64_t *end)
{
	bounds_of(m, chunk, first, end);
	if (m->used && (m->used[chunk / 8] >> chunk % 8 & 1)) {
		m->used[chunk / 8] &= (uint8_t) ~(1u << chunk % 8);
		return false;
	}
	return managed_droppable_locked(m, *first, *end);
}

/* Any that is here, each as likely: the next one behind any place would be the oldest of a run. */
static bool pick_any_locked(struct managed *m, uint64_t *first, uint64_t *end)
{
	uint64_t chunks = chunk_count(m), at;
	for (unsigned i = 0; i < RANDOM_TRIES; i++) {
		uint64_t chunk = random_locked(m) % chunks;
		bounds_of(m, chunk, first, end);
		if (hither_block_map_run(m->map, *first, *end, 1, HITHER_BLOCKS_LOCAL, &at) &&
		    may_go_locked(m, chunk, first, end))
			return true;
	}
	return false;
}

/* The next chunk that may go, by the clock; false: none after two turns of it. */
static bool pick_locked(struct managed *m, uint64_t *first, uint64_t *end)
{
	uint64_t chunks = chunk_count(m), c;
	if (m->resident_blocks && pick_any_locked(m, first, end))
		return true;
	for (uint64_t left = 2 * chunks; left > 0; left--) {
		uint64_t run = hither_block_map_run(m->map, m->evict_hand * m->chunk_blocks,
		                                    m->block_count, 1, HITHER_BLOCKS_LOCAL, &c);
		if (!run) {
			if (m->evict_hand == 0)
				return false;
			m->evict_hand = 0;
			continue;
		}
		c /= m->chunk_blocks;
		m->evict_hand = c + 1 < chunks ? c + 1 : 0;
		if (may_go_locked(m, c, first, end))
			return true;
	}
	return false;
}

/*
 * Where a run of chunks that may go ends, from the one that was picked: each go may have to wait
 * for the log to be durable, and costs the file system a transaction.
 */
static uint64_t run_end_locked(struct managed *m, uint64_t first, uint64_t end, uint64_t want)
{
	uint64_t most = want < EVICT_RUN_BLOCKS ? want : EVICT_RUN_BLOCKS;
	while (end < m->block_count && end - first + m->chunk_blocks <= most) {
		uint64_t c = end / m->chunk_blocks, next = end + m->chunk_blocks;
		if (next > m->block_count)
			next = m->block_count;
		if ((m->used && (m->used[c / 8] >> c % 8 & 1)) ||
		    !managed_droppable_locked(m, end, next))
			break;
		end = next;
	}
	m->evict_hand = end < m->block_count ? end / m->chunk_blocks : 0;
	return end;
}

/* Drop the clean blocks of a run of chunks. Lets go of the lock meanwhile. The number dropped. */
static uint64_t drop_locked(struct managed *m, uint64_t first, uint64_t end)
{
	struct managed_busy busy = {.first = first, .end = end, .leaves = true};
	managed_busy_add_locked(m, &busy);
	pthread_mutex_unlock(&m->lock);
	/* What somebody has changed in place is dirty after this, and stays. */
	managed_watchers(m, MANAGED_WATCH_LEAVING, first, end);
	/* An intent: after a crash of the machine these blocks count as absent, hole or not. */
	int r = hither_store_intent(m->store, first, end - first);
	pthread_mutex_lock(&m->lock);
	uint64_t dropped = 0, run;
	for (uint64_t at = first; !r && (run = hither_block_map_run(m->map, at, end, end - at,
	                                                            HITHER_BLOCKS_LOCAL, &at)) > 0;
	     at += run) {
		r = hither_block_map_set(m->map, at, run, HITHER_BLOCK_ABSENT);
		if (!r)
			r = hither_store_note(m->store, at, run, HITHER_BLOCK_ABSENT);
		if (r) {
			hither_block_map_set(m->map, at, run, HITHER_BLOCK_LOCAL);
			break;
		}
		m->evictions++;
		pthread_mutex_unlock(&m->lock);
		hither_store_punch(m->store, at << HITHER_BLOCK_SHIFT,
		                   managed_bytes(m, at, at + run));
		pthread_mutex_lock(&m->lock);
		dropped += run;
	}
	managed_busy_remove_locked(m, &busy);
	m->stats.evicted_bytes += dropped * HITHER_BLOCK_BYTES;
	return dropped;
}

static uint64_t drop_some_locked(struct managed *m, uint64_t want)
{
	uint64_t dropped = 0, first, end;
	for (unsigned i = 0; dropped < want && i < EVICT_BATCH && !m->closing; i++) {
		if (managed_take_left_locked(m, want - dropped, &first, &end))
			dropped += drop_locked(m, first, end);
		else if (pick_locked(m, &first, &end))
			dropped += drop_locked(m, first,
			                       run_end_locked(m, first, end, want - dropped));
		else
			break;
	}
	return dropped;
}

void managed_store_full_locked(struct managed *m)
{
	m->full_until_ns = m->now() + STORE_FULL_NS;
}

bool managed_make_room(struct managed *m, uint64_t blocks)
{
	HITHER_LOCK_SCOPE(&m->lock);
	return !m->lent && drop_some_locked(m, blocks) > 0;
}

/* What is asked for counts as present. */
static uint64_t resident_locked(const struct managed *m)
{
	return m->block_count - hither_block_map_count(m->map, HITHER_BLOCK_ABSENT) +
	       (m->outstanding_bytes >> HITHER_BLOCK_SHIFT);
}

uint64_t managed_room_locked(const struct managed *m)
{
	uint64_t taken = m->resident_blocks ? resident_locked(m) : 0;
	return !m->resident_blocks          ? UINT64_MAX
	       : taken < m->resident_blocks ? m->resident_blocks - taken
	                                    : 0;
}

bool managed_stuck_locked(const struct managed *m)
{
	return !m->evicting && m->round == ROUND_NONE &&
	       (m->evict_stuck || !hither_block_map_count(m->map, HITHER_BLOCK_LOCAL)) &&
	       managed_push_due_locked(m) != 1;
}

bool managed_filling_locked(const struct managed *m)
{
	return m->resident_blocks &&
	       resident_locked(m) >= m->resident_blocks - m->resident_blocks / 8;
}

/* Room that is kept under the resident limit, so that a demand rarely waits for it: as much again
 * as is under way. */
static uint64_t reserve_locked(const struct managed *m)
{
	uint64_t most = m->resident_blocks / 16, least = RESERVE_CHUNKS * (uint64_t)m->chunk_blocks,
	         wanted = m->outstanding_bytes >> HITHER_BLOCK_SHIFT;
	if (wanted < least)
		wanted = least;
	return wanted < most ? wanted : most;
}

static uint64_t excess_locked(const struct managed *m)
{
	uint64_t kept = hither_block_map_count(m->map, HITHER_BLOCK_LOCAL);
	uint64_t excess = m->cap_blocks && kept > m->cap_blocks ? kept - m->cap_blocks : 0;
	if (m->resident_blocks) {
		uint64_t keep = m->resident_blocks - reserve_locked(m);
		uint64_t present = resident_locked(m), over = present > keep ? present - keep : 0;
		if (over > kept)
			over = kept;
		if (over > excess)
			excess = over;
	}
	return excess;
}

bool managed_evict_wanted_locked(const struct managed *m)
{
	return !m->evicting && !m->evict_stuck && excess_locked(m) > 0;
}

bool managed_claim_evict_locked(struct managed *m, struct managed_job *job)
{
	if (!managed_evict_wanted_locked(m))
		return false;
	m->evicting = true;
	*job = (struct managed_job){0};
	managed_start_job_locked(m, job, MANAGED_JOB_EVICT);
	return true;
}

void managed_run_evict(struct managed *m, struct managed_job *job)
{
	HITHER_LOCK_SCOPE(&m->lock);
	uint64_t excess, dropped = 1;
	while (dropped && (excess = excess_locked(m)) > 0)
		dropped = drop_some_locked(m, excess);
	m->evicting = false;
	managed_end_job_locked(m, job);
	m->evict_stuck = !dropped;
}
