/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to pull when nobody waits: the order's guesses first, then whatever is absent, front to
 * back. The front-to-back sweep is the mount's own, so that nothing an order forgets stays away for
 * ever.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "mount/managed.h"
#include "order/format.h"
#include "order/record.h"

#include <errno.h>
#include <string.h>

#define SWEEP_PAUSE_NS (30 * HITHER_NS_PER_S)
#define FIRST_PIECE_MOST (UINT64_C(64) << 10)
#define CROWD 12 /* readers that wait */

int managed_peek(struct hither_mount *base, void *buf, size_t len, uint64_t offset)
{
	struct managed *m = managed_of(base);
	uint64_t first = offset >> HITHER_BLOCK_SHIFT;
	uint64_t end = ((offset + len - 1) >> HITHER_BLOCK_SHIFT) + 1;
	pthread_mutex_lock(&m->lock);
	bool here = hither_block_map_all(m->map, first, end - first, HITHER_BLOCKS_PRESENT);
	uint64_t evictions = m->evictions;
	pthread_mutex_unlock(&m->lock);
	if (!here)
		return -EAGAIN;
	int r = hither_store_read(m->store, buf, len, offset);
	return r ? r : m->evictions == evictions ? 0 : -EAGAIN;
}

static int view_peek(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset)
{
	struct managed *m = HITHER_CONTAINER(view, struct managed, view);
	return hither_mount_peek(&m->base, buf, len, offset);
}

static void view_whole(const struct hither_order_view *view, uint64_t *offset, uint64_t *end)
{
	struct managed *m = HITHER_CONTAINER(view, struct managed, view);
	if (m->base.backend)
		hither_backend_whole(m->base.backend, offset, end);
}

static void view_warm(const struct hither_order_view *view, uint32_t connections)
{
	struct managed *m = HITHER_CONTAINER(view, struct managed, view);
	managed_warm(&m->base, connections);
}

static void view_hurry(const struct hither_order_view *view, uint64_t bytes)
{
	struct managed *m = HITHER_CONTAINER(view, struct managed, view);
	HITHER_LOCK_SCOPE(&m->lock);
	m->hurry_bytes = bytes;
}

enum { ORDERS_MAX = 8 };

static bool named(const struct hither_mount_options *o, const char *name)
{
	return o->order && !strcmp(o->order, name);
}

static int add_orders(struct managed *m, const struct hither_mount_options *o,
                      struct hither_order **list, size_t *n, struct hither_error *err)
{
	int r = 0;
	if (o->record)
		r = hither_order_record(&m->view, o->record, &m->recorder, err);
	if (!r && o->range_count)
		r = hither_order_ranges(&m->view, o->ranges, o->range_count, &list[*n], err),
		*n += !r;
	if (!r && o->profile)
		r = hither_order_replay(&m->view, o->profile, &list[*n], err), *n += !r;
	if (!r && !named(o, "none") && !named(o, "readahead"))
		r = hither_order_format(&m->view, o->order, &list[*n], err), *n += !r;
	if (!r && !named(o, "none"))
		r = hither_order_readahead(&m->view, &list[*n], err), *n += !r;
	if (!r && o->scattered && !o->pull_off && !named(o, "none"))
		r = hither_order_near(&m->view, &list[*n], err), *n += !r;
	if (!r && o->priority)
		r = hither_order_priority(&m->view, m->chunk_blocks << HITHER_BLOCK_SHIFT,
		                          o->priority, o->priority_user, &list[*n], err),
		*n += !r;
	return r;
}

/* After all guesses, instead of the sweep: what the backend has, in the order that suits it. */
static int add_layout(struct managed *m, struct hither_order **list, size_t *n,
                      struct hither_error *err)
{
	struct hither_backend *b = m->base.backend;
	HITHER_FREE struct hither_range *ranges = NULL;
	size_t count = 0;
	if (m->pull_off || !b || !b->ops->layout || b->ops->layout(b, &ranges, &count))
		return 0;
	/* The cap is for what is used: what would only push out what came before does not come. */
	uint64_t room = m->cap_blocks << HITHER_BLOCK_SHIFT;
	for (size_t i = 0; m->cap_blocks && i < count; room -= ranges[i++].len)
		if (ranges[i].len > room)
			count = i;
	int r = hither_order_layout(&m->view, ranges, count, &list[*n], err);
	*n += !r;
	m->laid_out = !r;
	return r;
}

int managed_make_order(struct managed *m, const struct hither_mount_options *options,
                       struct hither_error *err)
{
	struct hither_order *list[ORDERS_MAX] = {0};
	size_t n = 0;
	m->view = (struct hither_order_view){.size_bytes = m->base.size_bytes,
	                                     .background = !options->pull_off,
	                                     .ahead_ms = options->ahead_ms,
	                                     .peek = view_peek,
	                                     .whole = view_whole,
	                                     .warm = view_warm,
	                                     .hurry = view_hurry};
	int r = add_orders(m, options, list, &n, err);
	if (!r)
		r = add_layout(m, list, &n, err);
	if (r) {
		while (n > 0)
			hither_order_destroy(list[--n]);
		return r;
	}
	if (n == 0)
		return 0;
	r = hither_order_compose(list, n, &m->order, err);
	for (size_t i = 0; !r && i < n; i++)
		m->order_listens = m->order_listens || list[i]->ops->arrived;
	return r;
}

void managed_take_early(struct managed *m)
{
	for (int i = 0; m->base.backend && i < 2; i++) {
		struct hither_range r = m->base.backend->early[i];
		uint64_t skip = -r.offset & (HITHER_BLOCK_BYTES - 1), end = r.offset + r.len;
		end -= end < m->base.size_bytes ? end & (HITHER_BLOCK_BYTES - 1) : 0;
		if (r.offset + skip < end)
			m->later[m->later_count++] =
			        (struct hither_range){r.offset + skip, end - r.offset - skip};
	}
}

/* A composition that cannot be made takes the old order with it: guesses are lost, nothing else. */
int managed_suggest(struct hither_mount *base, const struct hither_range *ranges, size_t count,
                    struct hither_error *err)
{
	struct managed *m = managed_of(base);
	struct hither_order *list[2] = {0}, *both = NULL;
	int r = hither_order_ranges(&m->view, ranges, count, &list[0], err);
	if (r)
		return r;
	HITHER_LOCK_SCOPE(&m->order_lock);
	list[1] = m->order;
	r = hither_order_compose(list, list[1] ? 2 : 1, &both, err);
	HITHER_LOCK_SCOPE(&m->lock);
	m->order = both;
	m->order_idle = false;
	managed_wake_locked(m);
	return r;
}

/*
 * What nobody waits for may be on its way in so many bytes. Before anything is known of the line it
 * is the connections that count, which are new and bring little each at first: pieces that come as
 * a whole must not make them fewer.
 */
static uint64_t window_locked(const struct managed *m)
{
	uint64_t window = hither_link_window(&m->link), piece = m->base.backend->piece_bytes;
	if (hither_link_rate(&m->link) || piece > FIRST_PIECE_MOST)
		return window;
	uint64_t first = managed_guess_places(m) * piece;
	return first > window ? first : window;
}

/* A drive that seeks does what somebody waits for, and nothing else before. */
static bool kept_for_demands_locked(const struct managed *m)
{
	return m->waiting.head && m->base.backend->flags & HITHER_BACKEND_ORDERED;
}

/* Whoever has jumped will soon wait for what is guessed now; an order is asked for it at once. */
static bool is_jump_locked(const struct managed *m)
{
	return m->order_late || (m->guess.len && m->hurry_bytes);
}

static uint32_t places_locked(const struct managed *m)
{
	return is_jump_locked(m) ? managed_jump_places(m) : managed_guess_places(m);
}

/* Room on the line for one more request that nobody waits for? */
static bool room_locked(const struct managed *m)
{
	return m->base.backend && m->job_count < places_locked(m) && managed_room_locked(m) &&
	       managed_under_way_locked(m) <
	               (is_jump_locked(m) ? managed_jump_window_locked(m) : window_locked(m)) &&
	       m->full_until_ns <= m->now() && !m->stale && !kept_for_demands_locked(m);
}

void managed_record(struct managed *m, uint64_t offset, uint64_t len, bool waited)
{
	if (!m->recorder)
		return;
	HITHER_LOCK_SCOPE(&m->recorder_lock);
	m->recorder->ops->saw(m->recorder, offset, len, waited);
}

void managed_record_stall(struct managed *m, const struct hither_io *io)
{
	uint64_t now = m->now();
	if (!m->recorder || !io->waited || now - io->submitted_ns <= MOUNT_STALLED_NS)
		return;
	HITHER_LOCK_SCOPE(&m->recorder_lock);
	hither_order_record_stall(m->recorder, io->offset, io->len, io->submitted_ns, now);
}

void managed_saw_locked(struct managed *m, const struct hither_io *io, bool waited)
{
	if (!m->order)
		return;
	if (m->seen_head - m->seen_tail == MANAGED_SEEN)
		m->seen_tail++; /* the oldest is forgotten: an order guesses anyway */
	m->seen[m->seen_head++ % MANAGED_SEEN] =
	        (struct managed_seen){.offset = io->offset, .len = io->len, .waited = waited};
	m->order_idle = false;
	m->order_late = m->order_late || waited;
	/* Where the line is full the order is asked again when something has come. Where nothing is
	 * absent there is nothing to ask for, and the latest accesses wait for when there is. */
	if (waited || (hither_block_map_count(m->map, HITHER_BLOCK_ABSENT) > 0 &&
	               (m->seen_head - m->seen_tail > MANAGED_SEEN / 4 || room_locked(m))))
		managed_wake_locked(m);
}

void managed_arrived(struct managed *m, uint64_t offset, uint64_t len)
{
	pthread_mutex_lock(&m->order_lock);
	if (m->order && m->order->ops->arrived)
		m->order->ops->arrived(m->order, offset, len);
	pthread_mutex_unlock(&m->order_lock);
	HITHER_LOCK_SCOPE(&m->lock);
	m->order_idle = false;
}

void managed_guess_again_locked(struct managed *m, const struct managed_job *job)
{
	uint64_t first = job->first + (job->arrived >> HITHER_BLOCK_SHIFT);
	if (!job->demand && first < job->end && m->later_count < MANAGED_LATER)
		m->later[m->later_count++] = (struct hither_range){
		        first << HITHER_BLOCK_SHIFT, (job->end - first) << HITHER_BLOCK_SHIFT};
}

void managed_guess_first_locked(struct managed *m, const struct managed_job *job)
{
	uint64_t first = job->first + (job->arrived >> HITHER_BLOCK_SHIFT);
	uint64_t offset = first << HITHER_BLOCK_SHIFT;
	if (first >= job->end || m->later_count == MANAGED_LATER)
		return; /* somebody may ask for it */
	if (m->guess.len) {
		memmove(m->later + 1, m->later, m->later_count++ * sizeof *m->later);
		m->later[0] = m->guess;
	}
	m->guess = (struct hither_range){offset, managed_bytes(m, first, job->end)};
	m->guess_quick = 0;
}

/*
 * A little further on than something that is guessed already: whoever goes along there comes by
 * that first, though it was thought of before somebody had to wait.
 */
static bool continues_locked(const struct managed *m, struct hither_range range)
{
	uint64_t window = hither_link_window(&m->link);
	for (unsigned i = 0; i <= m->later_count; i++) {
		const struct hither_range *r = i ? &m->later[i - 1] : &m->guess;
		uint64_t end = r->offset + r->len;
		if (r->len > 0 && range.offset >= end && range.offset - end < window)
			return true;
	}
	return false;
}

static bool has_guess_locked(struct managed *m)
{
	if (m->guess.len == 0 && m->later_count > 0) {
		m->guess = m->later[0];
		m->guess_quick = 0;
		m->later_count--;
		memmove(m->later, m->later + 1, m->later_count * sizeof *m->later);
	}
	return m->guess.len > 0;
}

/* first: it was said by an order that has just heard of somebody who waits. */
static void add_guess_locked(struct managed *m, struct hither_range range, bool first)
{
	first = first && !continues_locked(m, range);
	if (first ? m->guess.len == 0 : !has_guess_locked(m)) {
		m->guess = range;
	} else if (m->later_count == MANAGED_LATER) {
		if (first)
			m->guess = range;
	} else if (first) {
		memmove(m->later + 1, m->later, m->later_count++ * sizeof *m->later);
		m->later[0] = m->guess;
		m->guess = range;
	} else { /* another thread was quicker */
		m->later[m->later_count++] = range;
	}
	if (m->guess.offset == range.offset && m->guess.len == range.len)
		m->guess_quick = !first                            ? 0
		                 : range.len < MANAGED_QUICK_BYTES ? range.len
		                                                   : MANAGED_QUICK_BYTES;
}

/*
 * Tell the order what was seen, and ask it. Lets go of the lock meanwhile. Its own is taken first:
 * of two threads the one that took what was seen earlier must tell it earlier, or the order would
 * see a reader go back.
 */
static void consult_order_locked(struct managed *m)
{
	struct managed_seen news[MANAGED_SEEN];
	unsigned count = 0;
	bool waited = false;
	pthread_mutex_unlock(&m->lock);
	pthread_mutex_lock(&m->order_lock);
	pthread_mutex_lock(&m->lock);
	if (m->later_count == MANAGED_LATER) { /* what it said would be lost, and not said again */
		pthread_mutex_unlock(&m->order_lock);
		return;
	}
	while (m->seen_tail != m->seen_head) {
		news[count] = m->seen[m->seen_tail++ % MANAGED_SEEN];
		waited = waited || news[count].waited;
		count++;
	}
	uint64_t window = hither_link_window(&m->link);
	uint64_t rate = hither_link_starts(&m->link) ? 0 : hither_link_rate(&m->link);
	m->order_late = false;
	m->order_idle = true; /* unless something happens while it thinks */
	m->order_thinking++;
	pthread_mutex_unlock(&m->lock);
	struct hither_range range = {0};
	m->view.rate_bytes = rate;
	for (unsigned i = 0; m->order && m->order->ops->saw && i < count; i++)
		m->order->ops->saw(m->order, news[i].offset, news[i].len, news[i].waited);
	bool got = m->order && m->order->ops->next && m->order->ops->next(m->order, window, &range);
	struct hither_range left[MANAGED_LEFT];
	unsigned left_count = 0;
	while (m->order && m->order->ops->left && left_count < MANAGED_LEFT &&
	       m->order->ops->left(m->order, &left[left_count]))
		left_count++;
	/* In this order: what it says first is guessed first. */
	pthread_mutex_lock(&m->lock);
	pthread_mutex_unlock(&m->order_lock);
	for (unsigned i = 0; i < left_count; i++)
		managed_left_locked(m, left[i]);
	m->order_holds = got && range.len == 0;
	if (!--m->order_thinking && m->order_turned_away) {
		m->order_turned_away = false;
		managed_wake_locked(m);
	}
	if (!got || m->order_holds) {
		m->hurry_bytes = 0; /* all that was waited for is said */
		return;
	}
	m->order_idle = false;
	add_guess_locked(m, range, waited);
}

static void start_guess_locked(struct managed *m, struct managed_job *job, uint64_t first,
                               uint64_t end)
{
	*job = (struct managed_job){.first = first, .end = end, .follower = job->follower};
	managed_start_job_locked(m, job, MANAGED_JOB_PULL);
	m->outstanding_bytes += managed_bytes(m, first, end);
}

uint32_t managed_guess_places(const struct managed *m)
{
	return m->jobs_max > 4 ? m->jobs_max * 3 / 4 : m->jobs_max > 1 ? m->jobs_max - 1 : 1;
}

uint32_t managed_jump_places(const struct managed *m)
{
	uint32_t places = managed_guess_places(m);
	return places + 1 < m->jobs_max ? m->jobs_max - 1 : places;
}

/* What was wanted before fills the window; queues take a little more. */
uint64_t managed_jump_window_locked(const struct managed *m)
{
	uint64_t window = hither_link_window(&m->link);
	return m->link.drain_ns ? window : window + window / 8;
}

/* Whole crowds jump about, and short requests would be thousands. */
static bool is_crowded_locked(const struct managed *m)
{
	unsigned count = 0;
	for (const struct hither_io *io = m->waiting.head; io && count < CROWD; io = io->next)
		count++;
	return count == CROWD;
}

uint64_t managed_jump_extent_locked(const struct managed *m)
{
	return is_crowded_locked(m) ? managed_quick_extent_locked(m)
	                            : hither_link_jump_extent(&m->link, managed_guess_places(m));
}

uint64_t managed_quick_extent_locked(const struct managed *m)
{
	bool idle = m->outstanding_bytes < hither_link_window(&m->link) / 2;
	uint32_t places = managed_guess_places(m);
	return idle ? hither_link_quick_extent(&m->link, places)
	            : hither_link_extent(&m->link, places);
}

uint64_t managed_flight_locked(const struct managed *m)
{
	return hither_link_flight(&m->link, managed_brought_locked(m, m->job_count));
}

/*
 * Bytes of a request that nobody waits for. Longer than what comes in a round trip it would hold up
 * those behind it: what comes first is needed first.
 */
static uint64_t extent_locked(const struct managed *m)
{
	uint64_t flight = managed_flight_locked(m);
	uint64_t extent = hither_link_extent(&m->link, managed_guess_places(m));
	return extent < flight ? extent : flight;
}

/* Bytes of one request for the guess. */
static uint64_t guess_extent_locked(const struct managed *m)
{
	if (m->hurry_bytes)
		return managed_jump_extent_locked(m);
	return m->guess_quick ? managed_quick_extent_locked(m) : extent_locked(m);
}

/* Cut a run to one request, ending on a chunk's border where it can. */
static uint64_t cut(const struct managed *m, uint64_t first, uint64_t end, uint64_t bytes)
{
	uint64_t extent = bytes >> HITHER_BLOCK_SHIFT;
	uint64_t room = managed_room_locked(m);
	if (extent > room)
		extent = room;
	if (extent < m->unit_blocks)
		extent = m->unit_blocks;
	if (end - first <= extent)
		return end;
	uint64_t stop = first + extent, border = stop - stop % m->chunk_blocks;
	return border > first + extent / 2 ? border : stop;
}

/* Holes come at once when they are touched: guessed, they would take room from what does not. */
static void skip_holes_locked(struct managed *m)
{
	bool hole = m->resident_blocks > 0;
	while (hole && m->guess.len > 0) {
		uint64_t n = hither_backend_extent(m->base.backend, m->guess.offset, m->guess.len,
		                                   &hole);
		if (hole) {
			m->guess.offset += n;
			m->guess.len -= n;
		}
	}
}

static bool claim_from_guess_locked(struct managed *m, struct managed_job *job)
{
	uint64_t size = m->base.size_bytes;
	if (m->guess.offset >= size)
		m->guess.len = 0;
	if (m->guess.len == 0)
		return false;
	if (m->guess.len > size - m->guess.offset)
		m->guess.len = size - m->guess.offset;
	skip_holes_locked(m);
	if (m->guess.len == 0)
		return false;
	uint64_t first = m->guess.offset >> HITHER_BLOCK_SHIFT;
	uint64_t last = ((m->guess.offset + m->guess.len - 1) >> HITHER_BLOCK_SHIFT) + 1,
	         end = last;
	if (!managed_trim_locked(m, &first, &end)) {
		m->guess.len = 0;
		return false;
	}
	end = cut(m, first, end, guess_extent_locked(m));
	managed_whole(m, &first, &end);
	uint64_t taken = managed_bytes(m, first, end);
	bool alone = m->hurry_bytes > 0;
	m->hurry_bytes = m->hurry_bytes > taken ? m->hurry_bytes - taken : 0;
	m->guess_quick = m->guess_quick > taken ? m->guess_quick - taken : 0;
	m->guess.offset = end << HITHER_BLOCK_SHIFT;
	m->guess.len = end < last ? (last - end) << HITHER_BLOCK_SHIFT : 0;
	start_guess_locked(m, job, first, end);
	job->alone = alone;
	return true;
}

static bool sweeping_locked(const struct managed *m)
{
	if (((m->pull_off || m->laid_out) && !m->pull_waiters) ||
	    (m->order_holds && m->job_count > 0) ||
	    hither_block_map_count(m->map, HITHER_BLOCK_ABSENT) == 0)
		return false;
	/* The cap is for what is used, not for the front of the file: it is filled once, and what
	 * makes room later does so for others. */
	if (m->cap_blocks && m->cap_blocks < m->block_count &&
	    (m->evictions || hither_block_map_count(m->map, HITHER_BLOCK_LOCAL) +
	                                     (m->outstanding_bytes >> HITHER_BLOCK_SHIFT) >=
	                             m->cap_blocks))
		return false;
	if (managed_filling_locked(m))
		return false;
	return m->now() >= m->sweep_again_ns;
}

static bool claim_from_sweep_locked(struct managed *m, struct managed_job *job)
{
	if (!sweeping_locked(m))
		return false;
	uint64_t first = m->sweep, end = m->block_count;
	if (!managed_trim_locked(m, &first, &end)) {
		/* From the front again, at once if this pass brought something. */
		if (m->sweep > 0 && m->job_count == 0) {
			if (m->sweep_progress == m->stats.pulled_bytes)
				m->sweep_again_ns = m->now() + SWEEP_PAUSE_NS;
			m->sweep_progress = m->stats.pulled_bytes;
			m->sweep = 0;
			return m->sweep_again_ns <= m->now() && claim_from_sweep_locked(m, job);
		}
		return false;
	}
	end = cut(m, first, end, extent_locked(m));
	managed_whole(m, &first, &end);
	m->sweep = end;
	start_guess_locked(m, job, first, end);
	job->flight_bytes = 0; /* in which order it comes is all the same */
	return true;
}

bool managed_guess_wanted_locked(const struct managed *m)
{
	if (!room_locked(m))
		return false;
	return m->guess.len > 0 || m->later_count > 0 || (m->order && !m->order_idle) ||
	       sweeping_locked(m);
}

void managed_room_opened(struct managed *m)
{
	HITHER_LOCK_SCOPE(&m->lock);
	if (managed_guess_wanted_locked(m))
		managed_wake_locked(m);
}

/* Ranges that touch are one, and servers may send them as one (RFC 9110, 15.3.7.2). */
static bool touches(const struct managed_job *job, struct hither_range r)
{
	uint64_t first = r.offset >> HITHER_BLOCK_SHIFT;
	uint64_t end = ((r.offset + r.len - 1) >> HITHER_BLOCK_SHIFT) + 1;
	for (; job; job = job->more)
		if (first <= job->end && end >= job->first)
			return true;
	return false;
}

bool managed_claim_more_locked(struct managed *m, uint64_t most, const struct managed_job *beside,
                               struct managed_job *job)
{
	while (m->outstanding_bytes < hither_link_window(&m->link) && managed_room_locked(m)) {
		if (has_guess_locked(m)) {
			if (m->guess.len > most << HITHER_BLOCK_SHIFT || touches(beside, m->guess))
				return false; /* worth a request of its own */
			if (claim_from_guess_locked(m, job))
				return true;
		} else if (m->order && !m->order_idle) {
			consult_order_locked(m);
		} else {
			return false;
		}
	}
	return false;
}

bool managed_claim_guess_locked(struct managed *m, struct managed_job *job)
{
	job->follower = false;
	while (room_locked(m)) {
		/* What was guessed before somebody had to wait is of yesterday. */
		bool late = m->order && m->order_late && m->later_count < MANAGED_LATER / 2;
		if (late && m->laid_out) { /* and of another place; the layout comes back to it */
			m->guess.len = 0;
			m->later_count = 0;
		}
		if (!late && claim_from_guess_locked(m, job))
			return true;
		if (!late && has_guess_locked(m))
			continue;
		if (m->order && !m->order_idle) {
			consult_order_locked(m);
			if (m->job_count < m->jobs_max &&
			    managed_claim_demand_locked(
			            m, job)) /* somebody came while the lock was free */
				return true;
			continue;
		}
		if (m->order_thinking) { /* it may yet say something, which comes first */
			m->order_turned_away = true;
			return false;
		}
		return claim_from_sweep_locked(m, job);
	}
	return false;
}
