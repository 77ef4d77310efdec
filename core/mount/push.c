/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty bytes going out, in rounds: a sweep pushes every dirty block once, then one backend flush
 * makes them clean. A flush (fsync) is answered when a round ends that swept the whole file after
 * it came; the background starts a round now and then. Rounds do not overlap, so that what a
 * backend flush covers is plain: all that is PUSHED when it starts.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "mount/managed.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * Somebody waits for a flush of no more than this: each write is durable by itself, and the flush
 * costs no round trip of its own. Of more, one flush for all is less work for the server.
 */
enum { THROUGH_BLOCKS = 16 };

/* A backend that refuses writes (a full server, say) is not asked again at once. */
#define PUSH_PAUSE_NS HITHER_NS_PER_S
#define GENTLE_LEAST (UINT64_C(64) << 10)

bool managed_dirty_locked(const struct managed *m)
{
	return hither_block_map_count(m->map, HITHER_BLOCK_DIRTY) > 0 ||
	       hither_block_map_count(m->map, HITHER_BLOCK_PUSHED) > 0;
}

uint64_t managed_push_due_locked(const struct managed *m)
{
	if (!m->base.writable || m->stale || m->round != ROUND_NONE || !managed_dirty_locked(m))
		return 0;
	/* With a limit on memory they go when room becomes scarce: before, most would be changed
	 * again. */
	bool many = hither_block_map_count(m->map, HITHER_BLOCK_DIRTY) >= m->push_dirty_blocks &&
	            (!m->resident_blocks || managed_filling_locked(m));
	/* Nothing clean is left to make room with. */
	bool needed = !managed_room_locked(m) &&
	              (m->evict_stuck || !hither_block_map_count(m->map, HITHER_BLOCK_LOCAL));
	if ((many || needed) && !m->trouble.code)
		return m->push_again_ns > m->now() ? m->push_again_ns : 1;
	/* 0: the first write since is still being stored. */
	uint64_t since = m->dirty_since_ns ? m->dirty_since_ns : m->now();
	uint64_t due = since + m->push_interval_ns;
	return due <= m->now() ? 1 : due;
}

/* --- flushes --- */

/* A flush joins the round that is sweeping, if there is one: the sweep starts over for it. */
static void join_round_locked(struct managed *m, struct hither_io *io)
{
	if (m->round != ROUND_SWEEP || m->round_failed) {
		managed_ios_append(&m->flush_ios, io);
		return;
	}
	managed_ios_append(&m->round_ios, io);
	m->round_cursor = 0;
	m->round_seq = m->write_seq;
}

void managed_flush(struct managed *m, struct hither_io *io, bool remote)
{
	struct hither_error err = {0};
	int r = 0;
	bool parked = false;
	managed_watchers(m, MANAGED_WATCH_COLLECT, 0, m->block_count);
	pthread_mutex_lock(&m->lock);
	if (m->cancelled)
		r = hither_fail(&err, -ECANCELED, "%s: cancelled", m->name);
	else if (!m->base.writable || (!managed_dirty_locked(m) && m->round == ROUND_NONE))
		r = 0; /* nothing was written that is not safe already */
	else if (!remote)
		managed_ios_append(&m->sync_ios, io), parked = true;
	else if (m->stale)
		r = hither_fail(&err, m->stale, "%s", m->trouble.message);
	else
		join_round_locked(m, io), parked = true;
	if (parked) {
		pthread_cond_signal(&m->timer);
		managed_wake_locked(m);
	}
	pthread_mutex_unlock(&m->lock);
	if (!parked)
		managed_answer(io, r, &err);
}

/* --- claiming --- */

/* A round that only makes room goes on where the last one was cut short. */
static uint64_t hand_locked(const struct managed *m)
{
	uint64_t at;
	return m->resident_blocks && hither_block_map_run(m->map, m->push_hand, m->block_count, 1,
	                                                  HITHER_BLOCKS_DIRTY, &at)
	               ? at
	               : 0;
}

static void begin_round_locked(struct managed *m)
{
	m->round = ROUND_SWEEP;
	m->round_cursor = m->flush_ios.head ? 0 : hand_locked(m);
	m->round_blocks = 0;
	m->round_seq = m->write_seq;
	m->round_failed = false;
	while (m->flush_ios.head) {
		struct hither_io *io = m->flush_ios.head;
		managed_ios_remove(&m->flush_ios, &m->flush_ios.head);
		managed_ios_append(&m->round_ios, io);
	}
}

static const struct managed_job *push_of_locked(const struct managed *m, uint64_t first,
                                                uint64_t end)
{
	for (const struct managed_job *j = m->jobs; j; j = j->next)
		if (j->kind == MANAGED_JOB_PUSH && managed_overlap(j->first, j->end, first, end))
			return j;
	return NULL;
}

/* Over a backend that only takes aligned pieces two pushes must not share one. */
static uint64_t aligned_end(const struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t unit = m->unit_blocks;
	if (unit == 1 || unit > MANAGED_PUSH_BLOCKS)
		return end;
	uint64_t border = end - end % unit;
	return border > first ? border : end;
}

/*
 * Pushes that only make room for what somebody may touch next stand in front of his request on the
 * way out: while there is some room no more is under way than that way carries while one is
 * answered.
 */
static uint64_t push_window_locked(const struct managed *m)
{
	uint64_t window = hither_link_window(&m->up), rate = hither_link_rate(&m->up);
	if (!m->resident_blocks || m->round_ios.head || !rate || !managed_room_locked(m))
		return window;
	uint64_t product =
	        (rate >> 4) * (hither_link_rtt_ns(&m->link) >> 4) / (HITHER_NS_PER_S >> 8);
	uint64_t gentle = product > GENTLE_LEAST ? product : GENTLE_LEAST;
	return gentle < window ? gentle : window;
}

/* Blocks of one push. What is written in order goes in long records, whatever the way. */
static uint64_t push_blocks_locked(const struct managed *m)
{
	uint64_t extent = hither_link_extent(&m->up, m->pushes_max) >> HITHER_BLOCK_SHIFT,
	         half = push_window_locked(m) / 2 >> HITHER_BLOCK_SHIFT;
	if (extent > half)
		extent = half;
	if (m->pushes_max == 1 || extent > MANAGED_PUSH_BLOCKS)
		return MANAGED_PUSH_BLOCKS;
	return extent > m->unit_blocks ? extent : m->unit_blocks;
}

static bool claim_dirty_locked(struct managed *m, struct managed_job *job)
{
	uint64_t at = m->round_cursor, run, most = push_blocks_locked(m);
	while ((run = hither_block_map_run(m->map, at, m->block_count, most, HITHER_BLOCKS_DIRTY,
	                                   &at)) > 0) {
		uint64_t end = at + run, unit = m->unit_blocks;
		const struct managed_job *j = push_of_locked(m, at - at % unit, at + 1);
		if (j) { /* being pushed; if it was rewritten, settling brings the cursor back */
			uint64_t after = j->end > at ? j->end : at + 1;
			if (j->end <= at)
				return false; /* shares an aligned piece: when that one has ended */
			at = after;
			continue;
		}
		while ((j = push_of_locked(m, at, end)))
			end = j->first;
		end = aligned_end(m, at, end);
		*job = (struct managed_job){.first = at, .end = end, .start_seq = m->write_seq};
		job->through = m->round_ios.head &&
		               hither_block_map_count(m->map, HITHER_BLOCK_DIRTY) <= THROUGH_BLOCKS;
		m->round_cursor = end;
		m->round_blocks += end - at;
		m->push_hand = end;
		return true;
	}
	m->round_cursor = m->block_count;
	m->push_hand = 0;
	return false;
}

/*
 * Somebody waits for room, which there is once a round is over: under a limit on memory those that
 * nobody else waits for are short. But not so short that the way out is empty half of the time.
 */
static bool enough_locked(const struct managed *m)
{
	uint64_t most = m->resident_blocks / 2, least = m->resident_blocks / 16,
	         filled = 2 * hither_link_window(&m->up) >> HITHER_BLOCK_SHIFT;
	uint64_t enough = filled < least ? least : filled < most ? filled : most;
	return m->resident_blocks && !m->round_ios.head && m->round_blocks >= enough;
}

/*
 * More than the way out carries would only lie in its queues: eight pushes of 1 MiB over 50 ms and
 * 200 Mbit/s lost one packet in a hundred.
 */
static bool way_out_full_locked(const struct managed *m)
{
	return m->pushing >= m->pushes_max ||
	       (m->pushing > 0 && m->pushing_bytes >= push_window_locked(m));
}

static void start_push_locked(struct managed *m, struct managed_job *job)
{
	managed_start_job_locked(m, job, MANAGED_JOB_PUSH);
	if (!m->pushing++)
		hither_link_busy(&m->up, job->start_ns);
	m->pushing_bytes += managed_bytes(m, job->first, job->end);
}

static void end_push_locked(struct managed *m, struct managed_job *job, bool done)
{
	uint64_t len = managed_bytes(m, job->first, job->end), now = m->now();
	bool full = m->pushing == m->pushes_max ||
	            m->pushing_bytes * 4 >= hither_link_window(&m->up) * 3;
	managed_end_job_locked(m, job);
	m->stats.push_requests++;
	m->pushing_bytes -= len;
	if (done) {
		hither_link_first_byte(&m->up, now, now - job->start_ns);
		hither_link_bytes(&m->up, now, len, full);
	}
	if (!--m->pushing)
		hither_link_idle(&m->up, now);
}

bool managed_claim_push_locked(struct managed *m, struct managed_job *job)
{
	if (!m->base.writable || m->stale)
		return false;
	if (m->round == ROUND_NONE) {
		if (!m->flush_ios.head && managed_push_due_locked(m) != 1)
			return false;
		begin_round_locked(m);
	}
	if (m->round != ROUND_SWEEP || way_out_full_locked(m))
		return false;
	if (!m->round_failed && !enough_locked(m) && claim_dirty_locked(m, job)) {
		start_push_locked(m, job);
		return true;
	}
	if (m->pushing > 0)
		return false;
	if (m->round_failed) {
		m->round = ROUND_NONE;
		return m->flush_ios.head && managed_claim_push_locked(m, job);
	}
	m->round = ROUND_FLUSH;
	*job = (struct managed_job){0};
	managed_start_job_locked(m, job, MANAGED_JOB_FLUSH);
	return true;
}

/* --- pushing --- */

void managed_note_rewrite_locked(struct managed *m, uint64_t first, uint64_t end)
{
	if (m->pushing == 0)
		return;
	for (struct managed_job *j = m->jobs; j; j = j->next) {
		if (j->kind != MANAGED_JOB_PUSH || !managed_overlap(j->first, j->end, first, end))
			continue;
		uint64_t from = first > j->first ? first : j->first,
		         to = end < j->end ? end : j->end;
		j->rewritten = true;
		for (uint64_t b = from - j->first; b < to - j->first; b++)
			j->redirtied[b / 8] |= (uint8_t)(1u << b % 8);
	}
}

/* Before the first push after a clean state: a crash in between must know that we may have changed
 * it. */
static int mark_pushing(struct managed *m, struct hither_error *err)
{
	if (!m->versioned || m->push_marked || !hither_store_persistent(m->store))
		return 0;
	struct hither_store_identity id = {.size_bytes = m->base.size_bytes, .pushing = true};
	int r = hither_backend_version(m->base.backend, id.version, err);
	if (!r)
		r = hither_store_set_identity(m->store, &id, err);
	m->push_marked = !r;
	return r;
}

static int push_bytes(struct managed *m, const struct managed_job *job, struct hither_error *err)
{
	uint64_t offset = job->first << HITHER_BLOCK_SHIFT;
	size_t len = managed_bytes(m, job->first, job->end);
	HITHER_FREE void *buf = malloc(len);
	if (!buf)
		return hither_fail(err, -EAGAIN, "%s: no memory to push %zu bytes", m->name, len);
	managed_watchers(m, MANAGED_WATCH_PUSHING, job->first, job->end);
	int r = hither_store_read(m->store, buf, len, offset);
	if (r)
		return hither_fail(err, r, "%s: reading the local store %s: %s", m->name,
		                   hither_store_path(m->store), strerror(-r));
	const struct hither_push_watch *w = &m->push_watch;
	r = w->before ? w->before(w->user, m->base.backend, buf, len, offset, err) : 0;
	if (r)
		return r;
	r = job->through ? hither_backend_write_through(m->base.backend, buf, len, offset, err)
	                 : hither_backend_write_at(m->base.backend, buf, len, offset, err);
	if (w->before)
		w->after(w->user, offset, r);
	return r;
}

void managed_run_push(struct managed *m, struct managed_job *job)
{
	struct hither_error err = {0};
	int r = mark_pushing(m, &err);
	if (!r)
		r = push_bytes(m, job, &err);
	managed_settle_push(m, job, r, &err);
}

/* The round has failed for good: whoever waits is told; the background tries again later (rule 6).
 */
static void fail_round_locked(struct managed *m, int result, const struct hither_error *err,
                              struct managed_ios *failed)
{
	m->trouble = *err;
	m->trouble.code = result;
	m->round_failed = true;
	m->dirty_since_ns = m->now();
	m->push_again_ns = m->now() + PUSH_PAUSE_NS;
	if (result == -ESTALE)
		m->stale = result;
	*failed = m->round_ios;
	if (!failed->head)
		managed_ios_init(failed);
	managed_ios_init(&m->round_ios);
}

static void blocks_pushed_locked(struct managed *m, const struct managed_job *job)
{
	for (uint64_t b = job->first; b < job->end; b++) {
		uint64_t i = b - job->first;
		if (job->rewritten && (job->redirtied[i / 8] >> i % 8 & 1))
			continue; /* rule 5 */
		assert(hither_block_map_get(m->map, b) == HITHER_BLOCK_DIRTY);
		if (!job->rewritten) {
			hither_block_map_set(m->map, b, job->end - b, HITHER_BLOCK_PUSHED);
			return;
		}
		hither_block_map_set(m->map, b, 1, HITHER_BLOCK_PUSHED);
	}
}

void managed_settle_push(struct managed *m, struct managed_job *job, int result,
                         const struct hither_error *err)
{
	struct managed_ios failed;
	managed_ios_init(&failed);
	pthread_mutex_lock(&m->lock);
	end_push_locked(m, job, !result);
	if (!result) {
		m->stats.pushed_bytes += managed_bytes(m, job->first, job->end);
		m->push_again_ns = 0;
		blocks_pushed_locked(m, job);
		managed_success_locked(m);
		/* Written before the round's flush was asked for, and not what we sent: again. */
		if (job->rewritten && job->start_seq < m->round_seq && m->round_cursor > job->first)
			m->round_cursor = job->first;
	} else if (hither_error_is_transient(result)) {
		managed_trouble_locked(m, result, err);
		if (m->round_cursor > job->first)
			m->round_cursor = job->first;
	} else if (result != -ECANCELED) {
		fail_round_locked(m, result, err, &failed);
	}
	managed_wake_locked(m);
	pthread_mutex_unlock(&m->lock);
	managed_answer_all(&failed, result, err);
}

/* --- the backend flush --- */

static void pushed_become_locked(struct managed *m, enum hither_block_state state)
{
	uint64_t at = 0, run;
	while ((run = hither_block_map_run(m->map, at, m->block_count, m->block_count,
	                                   HITHER_BLOCKS_PUSHED, &at)) > 0) {
		hither_block_map_set(m->map, at, run, state);
		if (state == HITHER_BLOCK_LOCAL)
			hither_store_note(m->store, at, run, state);
		at += run;
	}
}

/* What the backend calls the version that we have just made. */
static void note_version(struct managed *m, bool clean)
{
	if (!m->versioned || !hither_store_persistent(m->store))
		return;
	struct hither_store_identity id = {.size_bytes = m->base.size_bytes, .pushing = !clean};
	struct hither_error err = {0};
	if (!hither_backend_version(m->base.backend, id.version, &err) &&
	    !hither_store_set_identity(m->store, &id, &err))
		m->push_marked = !clean;
	/* On failure the store still says "pushing", which accepts any version that we may have
	 * made. */
}

void managed_settle_flush(struct managed *m, struct managed_job *job, int result,
                          const struct hither_error *err)
{
	struct managed_ios over;
	managed_ios_init(&over);
	pthread_mutex_lock(&m->lock);
	managed_end_job_locked(m, job);
	if (!result) {
		pushed_become_locked(m, HITHER_BLOCK_LOCAL);
		managed_success_locked(m);
		m->dirty_since_ns = managed_dirty_locked(m) ? m->now() : 0;
		m->round = ROUND_NONE;
		over = m->round_ios;
		if (!over.head)
			managed_ios_init(&over);
		managed_ios_init(&m->round_ios);
		if (hither_store_log_long(m->store))
			hither_store_compact(m->store, m->map, NULL);
	} else {
		m->round = ROUND_SWEEP;
		if (result == -EREMOTEIO) { /* it has forgotten what it took: all of it again */
			pushed_become_locked(m, HITHER_BLOCK_DIRTY);
			m->round_cursor = 0;
			managed_trouble_locked(m, result, err);
		} else if (hither_error_is_transient(result)) {
			managed_trouble_locked(m, result, err);
		} else if (result != -ECANCELED) {
			pushed_become_locked(m, HITHER_BLOCK_DIRTY);
			fail_round_locked(m, result, err, &over);
		}
	}
	managed_wake_locked(m);
	pthread_mutex_unlock(&m->lock);
	managed_answer_all(&over, result, err);
}

void managed_run_flush(struct managed *m, struct managed_job *job)
{
	struct hither_error err = {0};
	int r = hither_backend_flush(m->base.backend, &err);
	if (!r) {
		pthread_mutex_lock(&m->lock);
		bool clean = hither_block_map_count(m->map, HITHER_BLOCK_DIRTY) == 0;
		pthread_mutex_unlock(&m->lock);
		if (m->push_watch.before)
			m->push_watch.flushed(m->push_watch.user);
		note_version(m, clean);
	}
	managed_settle_flush(m, job, r, &err);
}

void managed_run_sync(struct managed *m, struct managed_job *job)
{
	struct hither_error err = {0};
	struct managed_ios ios = job->ios;
	int r = hither_store_sync(m->store, &err);
	pthread_mutex_lock(&m->lock);
	managed_end_job_locked(m, job);
	if (!r && hither_store_log_long(m->store))
		hither_store_compact(m->store, m->map, NULL);
	managed_wake_locked(m);
	pthread_mutex_unlock(&m->lock);
	managed_answer_all(&ios, r, &err);
}
