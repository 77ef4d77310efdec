/* SPDX-License-Identifier: Apache-2.0 */
/* Writes: into the local store, dirty from then on. */
#include "base/cleanup.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

enum {
	ROOM_TRIES = 16,
	ROOM_PUSHES = 100, /* others may take what each of them gave */
};

/*
 * What is here already is dirty before its bytes change, so that running out of memory for the map
 * can be told while nothing has happened.
 */
int managed_dirty_present_locked(struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t run;
	for (uint64_t at = first; (run = hither_block_map_run(m->map, at, end, end - at,
	                                                      HITHER_BLOCKS_PRESENT, &at)) > 0;
	     at += run) {
		int r = hither_block_map_set(m->map, at, run, HITHER_BLOCK_DIRTY);
		if (r)
			return r;
		managed_note_rewrite_locked(m, at, at + run);
	}
	return 0;
}

/* Of a write's blocks, before it. */
enum hold { HOLDS_NONE, HOLDS_SOME, HOLDS_ALL };

static int store_once(struct managed *m, const struct hither_io *io, uint64_t first, uint64_t end,
                      enum hold hold)
{
	int r = hither_store_roomy(m->store) ? 0 : -ENOSPC;
	if (!r && hold != HOLDS_NONE)
		r = hither_store_intent(m->store, first, end - first);
	if (r)
		return r;
	return hold == HOLDS_ALL ? hither_store_overwrite(m->store, io->buf, io->len, io->offset)
	                         : hither_store_write(m->store, io->buf, io->len, io->offset);
}

/* On a full disk what is clean makes room, as often as it takes: others fill the same disk. */
static int store_bytes(struct managed *m, const struct hither_io *io, uint64_t first, uint64_t end,
                       enum hold hold)
{
	int r = store_once(m, io, first, end, hold);
	if (r == -ENOSPC) { /* the background must not take what is freed here */
		HITHER_LOCK_SCOPE(&m->lock);
		managed_store_full_locked(m);
	}
	for (int i = 0; r == -ENOSPC && i < ROOM_TRIES && managed_make_room(m, end - first); i++)
		r = store_once(m, io, first, end, hold);
	return r;
}

static void dirtied_locked(struct managed *m)
{
	m->write_seq++;
	if (!m->dirty_since_ns) {
		m->dirty_since_ns = m->now();
		pthread_cond_signal(&m->timer);
	}
	if (managed_push_due_locked(m) == 1)
		managed_wake_locked(m);
}

static int become_dirty_locked(struct managed *m, uint64_t first, uint64_t end)
{
	/* The log first: a block that a reader can see as written must survive SIGKILL. */
	int noted = hither_store_note(m->store, first, end - first, HITHER_BLOCK_DIRTY);
	int r = hither_block_map_set(m->map, first, end - first, HITHER_BLOCK_DIRTY);
	managed_note_rewrite_locked(m, first, end);
	m->stats.writes++;
	dirtied_locked(m);
	return r ? r : noted;
}

int managed_changed_in_place_locked(struct managed *m, uint64_t first, uint64_t end)
{
	int r = managed_dirty_present_locked(m, first, end);
	dirtied_locked(m);
	return r;
}

/*
 * What a failed write has put into blocks that stay absent is known to nobody and would take room
 * for ever. They are busy, so nobody fills them meanwhile.
 */
static void give_back(struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t run, at = first;
	pthread_mutex_lock(&m->lock);
	while ((run = hither_block_map_run(m->map, at, end, end - at, HITHER_BLOCKS_ABSENT, &at)) >
	       0) {
		pthread_mutex_unlock(&m->lock);
		hither_store_punch(m->store, at << HITHER_BLOCK_SHIFT,
		                   managed_bytes(m, at, at + run));
		at += run;
		pthread_mutex_lock(&m->lock);
	}
	pthread_mutex_unlock(&m->lock);
}

/* A change that failed may have changed some bytes: what was made dirty for it stays so. */
static void own_up_locked(struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t run;
	for (uint64_t at = first;
	     (run = hither_block_map_run(m->map, at, end, end - at, HITHER_BLOCKS_DIRTY, &at)) > 0;
	     at += run)
		hither_store_note(m->store, at, run, HITHER_BLOCK_DIRTY);
	if (!m->dirty_since_ns && managed_dirty_locked(m))
		m->dirty_since_ns = m->now();
}

int managed_end_change_locked(struct managed *m, struct managed_busy *busy, int result,
                              struct managed_ios *ready)
{
	if (!result)
		result = become_dirty_locked(m, busy->first, busy->end);
	else
		own_up_locked(m, busy->first, busy->end);
	managed_busy_remove_locked(m, busy);
	managed_collect_ready_locked(m, busy->first, busy->end, ready);
	return result;
}

/* Wait until nobody changes these blocks, then have them. False: io was parked or refused. */
static bool take_blocks_locked(struct managed *m, struct hither_io *io, struct managed_busy *busy,
                               int *result, struct hither_error *err)
{
	uint64_t first, end;
	for (;;) {
		if (m->cancelled || m->stale) {
			*result = hither_fail(err, m->stale ? m->stale : -ECANCELED, "%s",
			                      m->stale ? m->trouble.message : "cancelled");
			return false;
		}
		if (managed_io_missing_locked(m, io, 0, &first, &end)) {
			managed_park_locked(m, io); /* rule 4: pull what is changed only in part */
			return false;
		}
		if (!managed_busy_find_locked(m, busy->first, busy->end))
			break;
		pthread_cond_wait(&m->settled, &m->lock);
	}
	*result = managed_dirty_present_locked(m, busy->first, busy->end);
	if (*result) {
		hither_fail(err, *result, "%s: no memory for the block map", m->name);
		return false;
	}
	managed_busy_add_locked(m, busy);
	return true;
}

/*
 * What is absent, and always was as far as this process knows, needs no intent. What was dropped
 * may still be LOCAL in what is durable of the log.
 */
static enum hold hold_locked(const struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t at;
	if (hither_block_map_all(m->map, first, end - first, HITHER_BLOCKS_PRESENT))
		return HOLDS_ALL;
	bool some = hither_block_map_run(m->map, first, end, 1, HITHER_BLOCKS_PRESENT, &at) > 0;
	return some || m->evictions ? HOLDS_SOME : HOLDS_NONE;
}

/* False: the disk is full, nothing was answered. *ready: whom the caller lets go on. */
static bool write_once(struct managed *m, struct hither_io *io, struct managed_ios *ready)
{
	struct hither_error err = {0};
	struct managed_busy busy = {.first = managed_first(io), .end = managed_end(io)};
	int r = 0;
	pthread_mutex_lock(&m->lock);
	bool ours = take_blocks_locked(m, io, &busy, &r, &err);
	/* What is there stays, as nobody but us may change them now. */
	enum hold hold = ours ? hold_locked(m, busy.first, busy.end) : HOLDS_NONE;
	pthread_mutex_unlock(&m->lock);
	if (!ours) {
		if (r)
			managed_answer(io, r, &err);
		return true;
	}
	r = store_bytes(m, io, busy.first, busy.end, hold);
	if (r)
		give_back(m, busy.first, busy.end);
	pthread_mutex_lock(&m->lock);
	r = managed_end_change_locked(m, &busy, r, ready);
	pthread_mutex_unlock(&m->lock);
	if (r && r != -ENOSPC)
		hither_fail(&err, r, "%s: writing to the local store %s: %s", m->name,
		            hither_store_path(m->store), strerror(-r));
	if (r != -ENOSPC)
		managed_answer(io, r, &err);
	return r != -ENOSPC;
}

/* --- when clean bytes make no room --- */

/* why: NULL, or why a push did not help. */
static void answer_full(struct managed *m, struct hither_io *io, const struct hither_error *why)
{
	struct hither_error err = {0};
	hither_fail(&err, -ENOSPC, "%s: the disk of the local store %s is full%s%s", m->name,
	            hither_store_path(m->store),
	            why ? ", and what would make room cannot be pushed: " : "",
	            why ? why->message : "");
	managed_answer(io, -ENOSPC, &err);
}

/* What is dirty can be dropped once it is pushed: a write waits for that, then goes on. */
struct room_wait {
	struct hither_io flush;
	struct managed *m;
	struct hither_io *write;
	unsigned pushes; /* that this write has waited for before */
};

static void write_patiently(struct managed *m, struct hither_io *io, unsigned pushes);

static void room_made(struct hither_io *flush, int result, const struct hither_error *err)
{
	struct room_wait w = *HITHER_CONTAINER(flush, struct room_wait, flush);
	free(HITHER_CONTAINER(flush, struct room_wait, flush));
	if (result)
		answer_full(w.m, w.write, err);
	else
		write_patiently(w.m, w.write, w.pushes + 1);
}

static void push_for_room(struct managed *m, struct hither_io *io, unsigned pushes)
{
	struct room_wait *w = malloc(sizeof *w);
	if (!w) {
		answer_full(m, io, NULL);
		return;
	}
	*w = (struct room_wait){
	        .flush = {.op = HITHER_IO_FLUSH, .done = room_made, .submitted_ns = m->now()},
	        .m = m,
	        .write = io,
	        .pushes = pushes,
	};
	managed_flush(m, &w->flush, true);
}

enum wait_for { WAIT_FOR_NOTHING, WAIT_FOR_OTHERS, WAIT_FOR_PUSH };

/* Is anything dirty but what this write itself has to change, which needs no room? */
static bool others_dirty_locked(const struct managed *m, const struct hither_io *io)
{
	uint64_t own = 0, run, at = managed_first(io), end = managed_end(io);
	while ((run = hither_block_map_run(m->map, at, end, end - at,
	                                   HITHER_BLOCKS_DIRTY | HITHER_BLOCKS_PUSHED, &at)) > 0) {
		own += run;
		at += run;
	}
	return hither_block_map_count(m->map, HITHER_BLOCK_DIRTY) +
	               hither_block_map_count(m->map, HITHER_BLOCK_PUSHED) >
	       own;
}

/*
 * What may make room? Waits for those who are changing blocks, which are as quick as the disk; a
 * pull may be in the way too, but only so often, as there may always be one. Who was in the way may
 * also have gone by now.
 */
static enum wait_for room_comes(struct managed *m, const struct hither_io *io, unsigned *patience)
{
	HITHER_LOCK_SCOPE(&m->lock);
	if (m->cancelled || m->stale)
		return WAIT_FOR_NOTHING;
	if (others_dirty_locked(m, io))
		return WAIT_FOR_PUSH;
	if (!m->busy && !(*patience)--)
		return WAIT_FOR_NOTHING;
	if (m->busy || m->jobs)
		pthread_cond_wait(&m->settled, &m->lock);
	return WAIT_FOR_OTHERS;
}

static void write_patiently(struct managed *m, struct hither_io *io, unsigned pushes)
{
	struct managed_ios ready;
	managed_ios_init(&ready);
	bool over = write_once(m, io, &ready);
	managed_resume(m, &ready);
	if (over)
		return;
	enum wait_for next = WAIT_FOR_OTHERS;
	unsigned patience = ROOM_TRIES;
	/* One at a time, or many would take what each one of them needs. */
	pthread_mutex_lock(&m->room_lock);
	while (!over && next == WAIT_FOR_OTHERS) {
		over = write_once(m, io, &ready);
		next = over ? WAIT_FOR_NOTHING : room_comes(m, io, &patience);
	}
	pthread_mutex_unlock(&m->room_lock);
	managed_resume(m, &ready); /* with no lock held: they may have to wait for room, too */
	if (next == WAIT_FOR_PUSH && pushes < ROOM_PUSHES)
		push_for_room(m, io, pushes);
	else if (!over)
		answer_full(m, io, NULL);
}

void managed_write(struct managed *m, struct hither_io *io)
{
	write_patiently(m, io, 0);
}

void managed_write_full(struct managed *m, struct hither_io *io)
{
	unsigned patience = 0;
	bool late = m->now() > io->submitted_ns + m->deadline_ns;
	switch (late ? WAIT_FOR_NOTHING : room_comes(m, io, &patience)) {
	case WAIT_FOR_PUSH:
		push_for_room(m, io, 0);
		break;
	case WAIT_FOR_OTHERS:
		managed_write(m, io);
		break;
	case WAIT_FOR_NOTHING:
		answer_full(m, io, NULL);
		break;
	}
}
