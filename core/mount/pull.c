/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes coming in. A pull streams: whatever has arrived is put into the store block by block and
 * wakes its readers, while the rest is still on its way (rule 2).
 */
#include "base/cleanup.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

/* --- claiming --- */

static const struct managed_job *pull_of_locked(const struct managed *m, uint64_t first,
                                                uint64_t end)
{
	for (const struct managed_job *j = m->jobs; j; j = j->next)
		if (j->kind == MANAGED_JOB_PULL && !j->hedged && !j->dropped &&
		    managed_overlap(j->first, j->end, first, end))
			return j;
	return NULL;
}

bool managed_jumped_locked(const struct managed *m, const struct hither_io *io)
{
	uint64_t first = managed_first(io), before = first ? first - 1 : 0;
	return hither_block_map_get(m->map, before) == HITHER_BLOCK_ABSENT &&
	       !pull_of_locked(m, before, first + 1);
}

bool managed_trim_locked(const struct managed *m, uint64_t *first, uint64_t *end)
{
	uint64_t at = *first;
	while (at < *end) {
		uint64_t run = hither_block_map_run(m->map, at, *end, *end - at,
		                                    HITHER_BLOCKS_ABSENT, &at);
		if (!run)
			return false;
		const struct managed_job *j = pull_of_locked(m, at, at + 1);
		if (j) {
			at = j->end;
			continue;
		}
		uint64_t stop = at + run;
		while ((j = pull_of_locked(m, at, stop)))
			stop = j->first;
		*first = at;
		*end = stop;
		return true;
	}
	return false;
}

static bool uses_backend(const struct managed_job *job)
{
	return !job->follower && job->kind != MANAGED_JOB_EVICT && job->kind != MANAGED_JOB_SYNC;
}

static bool is_early(const struct managed *m, const struct managed_job *job)
{
	uint64_t offset = job->first << HITHER_BLOCK_SHIFT;
	uint64_t end = offset + managed_bytes(m, job->first, job->end);
	for (int i = 0; m->base.backend && i < 2; i++) {
		const struct hither_range *r = &m->base.backend->early[i];
		if (offset >= r->offset && end <= r->offset + r->len)
			return true;
	}
	return false;
}

/* Of a read that may go over several connections. */
static uint32_t part_locked(const struct managed *m)
{
	uint32_t count = m->base.backend ? m->base.backend->spread : 0;
	return (uint32_t)hither_link_part(&m->link, count);
}

void managed_start_job_locked(struct managed *m, struct managed_job *job,
                              enum managed_job_kind kind)
{
	job->kind = kind;
	job->start_ns = m->now();
	job->last_ns = job->start_ns;
	job->early = kind == MANAGED_JOB_PULL && is_early(m, job);
	job->first_byte_ns = job->early ? job->start_ns : 0;
	job->arrived = job->held = 0;
	job->hedged = false;
	job->dropped = false;
	job->flight_bytes = kind == MANAGED_JOB_PULL ? part_locked(m) : 0;
	job->next = m->jobs;
	m->jobs = job;
	if (!uses_backend(job))
		return;
	if (!m->job_count++) {
		hither_link_busy(&m->link, job->start_ns);
		m->heard_ns = job->start_ns;
	}
	if (m->job_count == 1 && m->link.cold)
		m->cold_bytes = m->stats.pulled_bytes;
	managed_connected_locked(m, job);
}

void managed_end_job_locked(struct managed *m, struct managed_job *job)
{
	struct managed_job **at = &m->jobs;
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	m->evict_stuck = false;
	if (uses_backend(job) && !--m->job_count) {
		hither_link_idle(&m->link, m->now());
		m->order_holds = false; /* what it waits for does not come */
	}
	pthread_cond_broadcast(&m->settled);
}

/* How much of a demanded run one request takes. */
static uint64_t demand_blocks(const struct managed *m, const struct hither_io *io, uint64_t first,
                              uint64_t end)
{
	bool jumped = io->jumped && (first << HITHER_BLOCK_SHIFT) < io->offset + MANAGED_JUMP_BYTES;
	uint64_t extent = jumped ? managed_jump_extent_locked(m) : managed_quick_extent_locked(m);
	if (hither_link_is_narrow(&m->link) && extent > managed_flight_locked(m))
		extent = managed_flight_locked(m); /* the rest would come a round trip later */
	uint64_t most = extent >> HITHER_BLOCK_SHIFT;
	if (managed_overlap(first, end, m->split_first, m->split_end))
		most = (m->split_end - m->split_first) / 8;
	return most > m->unit_blocks ? most : m->unit_blocks;
}

void managed_whole(const struct managed *m, uint64_t *first, uint64_t *end)
{
	uint64_t offset = *first << HITHER_BLOCK_SHIFT;
	uint64_t stop = offset + managed_bytes(m, *first, *end);
	hither_backend_whole(m->base.backend, &offset, &stop);
	*first = offset >> HITHER_BLOCK_SHIFT;
	*end = (stop + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
}

static bool claim_direct_locked(struct managed *m, struct managed_job *job)
{
	struct hither_io *io = m->waiting.head;
	while (io && io->op != HITHER_IO_READ)
		io = io->next;
	if (!io)
		return false;
	struct hither_io **at = &m->waiting.head;
	while (*at != io)
		at = &(*at)->next;
	managed_ios_remove(&m->waiting, at);
	*job = (struct managed_job){0};
	managed_ios_init(&job->ios);
	managed_ios_append(&job->ios, io);
	job->first = managed_first(io);
	job->end = managed_end(io);
	managed_start_job_locked(m, job, MANAGED_JOB_DIRECT);
	return true;
}

/*
 * A connection that lost a packet may be silent for a second while the others are well: whoever
 * waits for its bytes shall not wait with it.
 */
static void hedge_stalled_locked(struct managed *m)
{
	if (!m->waiting.head || managed_silent_locked(m) || managed_quiet_locked(m))
		return;
	for (struct managed_job *j = m->jobs; j; j = j->next)
		if (managed_may_hedge_locked(m, j) && managed_stall_ns(m, j) <= m->now())
			j->hedged = true;
}

bool managed_claim_demand_locked(struct managed *m, struct managed_job *job)
{
	uint64_t room = managed_room_locked(m);
	/* Evictions and pushes make room; where they cannot, since others wait for what is here,
	 * the first in line may have more than its share, so that somebody goes on. */
	bool stuck = !room && managed_stuck_locked(m);
	if (!room && !stuck)
		return false;
	uint64_t usual = hither_link_window(&m->link), more = managed_jump_window_locked(m);
	hedge_stalled_locked(m);
	if (m->full_until_ns > m->now() && claim_direct_locked(m, job))
		return true;
	if (managed_claim_probe_locked(m, job))
		return true;
	for (const struct hither_io *io = m->waiting.head; io; io = io->next) {
		uint64_t first, end;
		bool begun = false; /* some of it is on its way */
		for (uint64_t from = 0; managed_io_missing_locked(m, io, from, &first, &end);) {
			uint64_t missing = first;
			from = end;
			if (!managed_trim_locked(m, &first, &end)) {
				begun = true;
				continue;
			}
			/* A long read does not put more on the line than it carries: what came of
			 * that is lost packets, and the read's first bytes behind its last. */
			if ((begun || first > missing) &&
			    managed_under_way_locked(m) >= (io->jumped ? more : usual))
				break;
			uint64_t most = demand_blocks(m, io, first, end);
			if (most > room && !stuck)
				most = room;
			if (end - first > most)
				end = first + most;
			managed_whole(m, &first, &end);
			*job = (struct managed_job){.first = first, .end = end, .demand = true};
			managed_start_job_locked(m, job, MANAGED_JOB_PULL);
			m->outstanding_bytes += managed_bytes(m, first, end);
			return true;
		}
		if (stuck)
			return false;
	}
	return false;
}

/* --- arriving --- */

/* The line has brought len bytes. True: some reads are dropped, of which the backend must be told
 * with no lock held. */
static bool count_line_locked(struct managed *m, struct managed_job *job, uint64_t len)
{
	bool full = m->outstanding_bytes * 4 >= hither_link_window(&m->link) * 3;
	job->last_ns = m->now();
	bool drop = managed_heard_locked(m);
	if (len && !job->early)
		hither_link_bytes(&m->link, job->last_ns, len, full);
	return drop;
}

/* True: the window was full, and is not any more. */
static bool count_arrival_locked(struct managed *m, struct managed_job *job, size_t len, bool *drop)
{
	bool shut = m->outstanding_bytes >= hither_link_window(&m->link);
	uint64_t held = job->held < len ? job->held : len;
	*drop = count_line_locked(m, job, len - held);
	job->held -= held;
	job->arrived += len;
	job->hedged = false;
	m->outstanding_bytes -= len;
	m->stats.pulled_bytes += len;
	if (job->demand)
		m->stats.demand_bytes += len;
	managed_success_locked(m);
	return shut && m->outstanding_bytes < hither_link_window(&m->link);
}

static int commit_run(struct managed *m, const char *buf, uint64_t base, uint64_t first,
                      uint64_t end, bool demand, struct managed_busy *busy)
{
	/* On a full disk the room that is made is for writes and for who waits. */
	bool may_evict = demand || m->full_until_ns <= m->now();
	*busy = (struct managed_busy){.first = first, .end = end};
	managed_busy_add_locked(m, busy);
	pthread_mutex_unlock(&m->lock);
	uint64_t offset = first << HITHER_BLOCK_SHIFT, len = managed_bytes(m, first, end);
	const char *bytes = buf + (offset - base);
	bool whole = len == (end - first) << HITHER_BLOCK_SHIFT;
	int r = whole && managed_fill(m, first, end, bytes) ? 0
	        : hither_store_roomy(m->store) ? hither_store_write(m->store, bytes, len, offset)
	                                       : -ENOSPC;
	if (r == -ENOSPC && may_evict && managed_make_room(m, end - first))
		r = hither_store_write(m->store, bytes, len, offset);
	if (r) /* a part may have been stored, which nobody knows of: it would take room for ever */
		hither_store_punch(m->store, offset, len);
	pthread_mutex_lock(&m->lock);
	if (!r) /* rule 1: local only now, with the bytes in place */
		r = hither_block_map_set(m->map, first, end - first, HITHER_BLOCK_LOCAL);
	if (!r)
		hither_store_note(m->store, first, end - first, HITHER_BLOCK_LOCAL);
	managed_busy_remove_locked(m, busy);
	return r;
}

/* Rule 4: only into blocks that are still absent, and that nobody is writing just now. Whoever
 * reads one that is just leaving the store would ask for it again and again until it has left. */
static int commit_absent_locked(struct managed *m, bool demand, const char *buf, uint64_t offset,
                                uint64_t end)
{
	uint64_t at = offset >> HITHER_BLOCK_SHIFT, run;
	int r = 0;
	while (!r && (run = hither_block_map_run(m->map, at, end, end - at, HITHER_BLOCKS_ABSENT,
	                                         &at)) > 0) {
		struct managed_busy here;
		const struct managed_busy *taken = managed_busy_find_locked(m, at, at + 1);
		if (taken && taken->leaves) {
			pthread_cond_wait(&m->settled, &m->lock);
			continue;
		}
		if (taken) {
			at = taken->end < end ? taken->end : end;
			continue;
		}
		uint64_t stop = at + run;
		while ((taken = managed_busy_find_locked(m, at, stop)))
			stop = taken->first;
		r = commit_run(m, buf, offset, at, stop, demand, &here);
		at = stop;
	}
	return r;
}

/* job: that brought them; NULL: none, they were there already. */
static int commit(struct managed *m, struct managed_job *job, const void *buf, size_t len,
                  uint64_t offset)
{
	struct managed_ios ready;
	managed_ios_init(&ready);
	uint64_t first = offset >> HITHER_BLOCK_SHIFT;
	uint64_t end = (offset + len + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
	bool opened = false, drop = false;
	pthread_mutex_lock(&m->lock);
	int r = commit_absent_locked(m, job && job->demand, buf, offset, end);
	if (!r && job) /* else these blocks are among those that the job has not brought */
		opened = count_arrival_locked(m, job, len, &drop);
	managed_used_locked(m, first, end);
	managed_collect_ready_locked(m, first, end, &ready);
	if (hither_block_map_count(m->map, HITHER_BLOCK_ABSENT) == 0)
		pthread_cond_broadcast(&m->settled);
	pthread_mutex_unlock(&m->lock);
	if (drop)
		hither_backend_drop(m->base.backend);
	if (!job || !job->quiet)
		managed_watchers(m, MANAGED_WATCH_ARRIVED, first, end);
	managed_resume(m, &ready);
	if (m->order_listens)
		managed_arrived(m, offset, len);
	if (opened) /* long before a long request ends */
		managed_room_opened(m);
	return r;
}

int managed_commit(struct managed *m, struct managed_job *job, const void *buf, size_t len,
                   uint64_t offset)
{
	return commit(m, job, buf, len, offset);
}

int managed_fill_known(struct hither_mount *base, const void *buf, size_t len, uint64_t offset,
                       struct hither_error *err)
{
	struct managed *m = managed_of(base);
	int r = commit(m, NULL, buf, len, offset);
	return r ? hither_fail(err, r, "%s: writing to the local store %s: %s", m->name,
	                       hither_store_path(m->store), strerror(-r))
	         : 0;
}

static void note_first_byte(struct managed *m, struct managed_job *job)
{
	bool hole; /* whose zeros came from nowhere: they would tell of a round trip of no time */
	hither_backend_extent(m->base.backend, job->first << HITHER_BLOCK_SHIFT, 1, &hole);
	HITHER_LOCK_SCOPE(&m->lock);
	job->first_byte_ns = m->now();
	if (!hole)
		hither_link_first_byte(&m->link, job->first_byte_ns,
		                       job->first_byte_ns - job->start_ns);
}

/*
 * In hashed pieces the bytes come long before the pieces do, and these come in bursts: by them the
 * line would seem late, far away and, for a round, faster than it is, and its queue overflow.
 */
static void pull_held(struct hither_sink *sink, size_t len)
{
	struct managed_sink *s = HITHER_CONTAINER(sink, struct managed_sink, sink);
	struct managed *m = s->m;
	pthread_mutex_lock(&m->lock);
	bool drop = count_line_locked(m, s->job, len);
	s->job->held += len;
	if (!s->job->first_byte_ns) {
		s->job->first_byte_ns = s->job->last_ns;
		hither_link_first_byte(&m->link, s->job->last_ns,
		                       s->job->last_ns - s->job->start_ns);
	}
	pthread_mutex_unlock(&m->lock);
	if (drop)
		hither_backend_drop(m->base.backend);
}

static bool pull_dropped(const struct hither_sink *sink)
{
	const struct managed_sink *s = HITHER_CONTAINER(sink, const struct managed_sink, sink);
	return s->job->dropped;
}

/* Commit the tail if it is a whole block, or the resource's last. */
static int take_tail(struct managed_sink *s)
{
	if (s->tail_len < HITHER_BLOCK_BYTES && s->offset + s->tail_len < s->m->base.size_bytes)
		return 0;
	size_t len = s->tail_len;
	s->tail_len = 0;
	s->offset += len;
	return managed_commit(s->m, s->job, s->tail, len, s->offset - len);
}

static int pull_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct managed_sink *s = (struct managed_sink *)sink;
	const char *p = buf;
	int r = 0;
	if (!s->job->first_byte_ns)
		note_first_byte(s->m, s->job);
	while (!r && len > 0) {
		size_t n = len & ~(size_t)(HITHER_BLOCK_BYTES - 1);
		if (s->tail_len > 0 || n == 0) {
			n = HITHER_BLOCK_BYTES - s->tail_len;
			if (n > len)
				n = len;
			memcpy(s->tail + s->tail_len, p, n);
			s->tail_len += n;
			r = take_tail(s);
		} else {
			s->offset += n;
			r = managed_commit(s->m, s->job, p, n, s->offset - n);
		}
		p += n;
		len -= n;
	}
	if (r)
		s->store_error = r;
	return s->m->cancelled ? -ECANCELED : r;
}

void managed_sink_init(struct managed_sink *s, struct managed *m, struct managed_job *job)
{
	s->sink = (struct hither_sink){.take = pull_take,
	                               .held = pull_held,
	                               .dropped = pull_dropped,
	                               .first_bytes = job->here ? HITHER_BLOCK_BYTES : 0,
	                               .flight_bytes = job->flight_bytes};
	s->m = m;
	s->job = job;
	s->offset = job->first << HITHER_BLOCK_SHIFT;
	s->tail_len = 0;
	s->store_error = 0;
	s->asked = NULL;
}

void managed_sink_settle(struct managed_sink *s, int r, struct hither_error *err)
{
	if (s->store_error)
		r = hither_fail(err, s->store_error, "%s: writing to the local store %s: %s",
		                s->m->name, hither_store_path(s->m->store),
		                strerror(-s->store_error));
	managed_settle_pull(s->m, s->job, r, err);
}

static void pull_asked(struct hither_sink *sink)
{
	struct managed_sink *s = (struct managed_sink *)sink;
	if (s->asked)
		s->asked(s->user);
	s->asked = NULL;
}

void managed_run_pull_asked(struct managed *m, struct managed_job *job, void (*asked)(void *user),
                            void *user)
{
	struct managed_sink s;
	struct hither_error err = {0};
	managed_sink_init(&s, m, job);
	s.sink.asked = pull_asked;
	s.asked = asked;
	s.user = user;
	if (!(m->base.backend->flags & HITHER_BACKEND_TELLS_ASKED))
		pull_asked(&s.sink);
	int r = hither_backend_read(m->base.backend, s.offset,
	                            managed_bytes(m, job->first, job->end), &s.sink, &err);
	pull_asked(&s.sink);
	managed_sink_settle(&s, r, &err);
	managed_look_at_connections(m);
}

void managed_run_pull(struct managed *m, struct managed_job *job)
{
	managed_run_pull_asked(m, job, NULL, NULL);
}

void managed_take_head(struct managed *m)
{
	uint64_t head = m->base.backend ? m->base.backend->head_bytes : 0;
	uint64_t end = head >= m->base.size_bytes ? m->block_count : head >> HITHER_BLOCK_SHIFT;
	if (!end || hither_block_map_all(m->map, 0, end, HITHER_BLOCKS_PRESENT))
		return;
	struct managed_job job = {.end = end};
	pthread_mutex_lock(&m->lock);
	managed_start_job_locked(m, &job, MANAGED_JOB_PULL);
	job.first_byte_ns = job.start_ns; /* says nothing about the link */
	m->outstanding_bytes += managed_bytes(m, 0, end);
	pthread_mutex_unlock(&m->lock);
	managed_run_pull(m, &job);
}

/* --- the end of a pull --- */

static void collect_touching_locked(struct managed *m, uint64_t first, uint64_t end,
                                    struct managed_ios *out)
{
	struct hither_io **at = &m->waiting.head;
	while (*at) {
		uint64_t f, e;
		if (managed_overlap(managed_first(*at), managed_end(*at), first, end) &&
		    managed_io_missing_locked(m, *at, first, &f, &e) && f < end) {
			struct hither_io *io = *at;
			managed_ios_remove(&m->waiting, at);
			managed_ios_append(out, io);
		} else {
			at = &(*at)->next;
		}
	}
}

/* Is the run [first, end) but the rest of one unit? Asking for a part of that would ask for all. */
static bool is_one_unit(const struct managed *m, uint64_t first, uint64_t end)
{
	uint64_t stop = first + 1;
	managed_whole(m, &first, &stop);
	return stop >= end;
}

/* A failure that will not go away: tell those who need these blocks, and nobody else. */
static void fail_pull_locked(struct managed *m, const struct managed_job *job, int result,
                             const struct hither_error *err, struct managed_ios *failed)
{
	uint64_t first = job->first + (job->arrived >> HITHER_BLOCK_SHIFT), end = job->end;
	m->trouble = *err;
	m->trouble.code = result;
	if (result == -ESTALE) {
		m->stale = result;
		collect_touching_locked(m, 0, m->block_count, failed);
	} else if (job->demand && !is_one_unit(m, first, end)) {
		/* One bad block shall not fail its neighbours' readers: ask again in smaller
		 * pieces. */
		m->split_first = first;
		m->split_end = end;
	} else if (job->demand) {
		m->split_end = m->split_first = 0;
		collect_touching_locked(m, first, end, failed);
	}
	/* A guess that failed is forgotten; who needs it will ask. */
}

/* Reads go past a full store; a write of a part of a block cannot. */
static void collect_writes_locked(struct managed *m, const struct managed_job *job,
                                  struct managed_ios *out)
{
	struct hither_io **at = &m->waiting.head;
	while (*at) {
		struct hither_io *io = *at;
		if (io->op == HITHER_IO_WRITE &&
		    managed_overlap(managed_first(io), managed_end(io), job->first, job->end)) {
			managed_ios_remove(&m->waiting, at);
			managed_ios_append(out, io);
		} else {
			at = &io->next;
		}
	}
}

void managed_settle_pull(struct managed *m, struct managed_job *job, int result,
                         const struct hither_error *err)
{
	struct managed_ios failed, full;
	managed_ios_init(&failed);
	managed_ios_init(&full);
	pthread_mutex_lock(&m->lock);
	m->outstanding_bytes -= managed_bytes(m, job->first, job->end) - job->arrived;
	m->stats.pull_requests += !job->follower;
	managed_end_job_locked(m, job);
	if (result == -ENOSPC || result == -EDQUOT || result == -EFBIG) {
		managed_store_full_locked(m);
		m->trouble = *err;
		collect_writes_locked(m, job, &full);
	} else if (result && hither_error_is_transient(result)) {
		managed_trouble_locked(m, result, err);
		managed_guess_again_locked(m, job);
	} else if (result && result != -ECANCELED) {
		fail_pull_locked(m, job, result, err, &failed);
	} else if (!result) {
		managed_success_locked(m);
	}
	if (!job->here || managed_work_locked(m)) /* waking a thread costs more than a short pull */
		managed_wake_locked(m);
	pthread_mutex_unlock(&m->lock);
	managed_answer_all(&failed, result, err);
	while (full.head) {
		struct hither_io *io = full.head;
		managed_ios_remove(&full, &full.head);
		managed_write_full(m, io);
	}
}

/* --- past the store --- */

/* Fill a parked read run by run, from the store where it is here, else from the backend. */
static int read_past_store(struct managed *m, struct hither_io *io, struct hither_error *err)
{
	uint64_t at = io->offset, end = io->offset + io->len;
	while (at < end) {
		uint64_t block = at >> HITHER_BLOCK_SHIFT, last = managed_end(io), first;
		pthread_mutex_lock(&m->lock);
		uint64_t run = hither_block_map_run(m->map, block, last, last - block,
		                                    HITHER_BLOCKS_ABSENT, &first);
		uint64_t stop = !run ? last : first > block ? first : first + run;
		bool here = !run || first > block;
		uint64_t evictions = m->evictions;
		pthread_mutex_unlock(&m->lock);
		uint64_t to = stop << HITHER_BLOCK_SHIFT;
		size_t len = (to < end ? to : end) - at;
		char *buf = (char *)io->buf + (at - io->offset);
		int r = here ? hither_store_read(m->store, buf, len, at)
		             : hither_backend_read_at(m->base.backend, buf, len, at, err);
		if (r)
			return here ? hither_fail(err, r, "%s: reading the local store: %s",
			                          m->name, strerror(-r))
			            : r;
		if (!here || m->evictions == evictions)
			at += len;
	}
	return 0;
}

void managed_run_direct(struct managed *m, struct managed_job *job)
{
	struct hither_error err = {0};
	struct hither_io *io = job->ios.head;
	int r = io->buf ? read_past_store(m, io, &err)
	                : hither_fail(&err, -ENOSPC, "%s: no room in the local store %s", m->name,
	                              hither_store_path(m->store));
	pthread_mutex_lock(&m->lock);
	managed_end_job_locked(m, job);
	if (r && hither_error_is_transient(r)) {
		managed_trouble_locked(m, r, &err);
		managed_park_locked(m, io);
		io = NULL;
	} else if (!r) {
		managed_success_locked(m);
	}
	managed_wake_locked(m);
	pthread_mutex_unlock(&m->lock);
	if (io)
		managed_answer(io, r, &err);
}
