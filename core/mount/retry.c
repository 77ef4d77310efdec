/* SPDX-License-Identifier: Apache-2.0 */
/* Outages: wait and try again, each time a little later, until somebody's deadline. */
#include "base/clock.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

#define BACKOFF_FIRST_NS (100 * HITHER_NS_PER_MS)
#define BACKOFF_DOUBLINGS 5 /* at most 3.2 s */
#define AGAIN_MIN_NS (500 * HITHER_NS_PER_MS)
#define AGAIN_MAX_NS (5 * HITHER_NS_PER_S)
#define HEDGE_AGAIN_NS (20 * HITHER_NS_PER_MS)

/* Requests for the same blocks at a time: a server that is stuck at one place shall not keep all
 * requests from those who wait for another. */
enum { HEDGE_MOST = 3 };

void managed_trouble_locked(struct managed *m, int result, const struct hither_error *err)
{
	uint64_t now = m->now();
	m->stats.retries++;
	m->trouble = *err;
	m->trouble.code = result;
	if (m->retry_at_ns > now)
		return; /* one outage fails many requests: it counts once */
	unsigned doublings = m->failures < BACKOFF_DOUBLINGS ? m->failures : BACKOFF_DOUBLINGS;
	m->failures++;
	uint64_t pause = BACKOFF_FIRST_NS << doublings;
	if (err->retry_after_ms > 0)
		pause = (uint64_t)err->retry_after_ms * HITHER_NS_PER_MS;
	m->retry_at_ns = now + pause;
	pthread_cond_signal(&m->timer);
}

void managed_success_locked(struct managed *m)
{
	m->failures = 0;
	m->retry_at_ns = 0;
	m->progress_ns = m->now();
	m->gave_up.code = 0;
	if (!m->stale)
		m->trouble.code = 0;
}

/*
 * Once somebody was told that it is no use, the next ones wait only as long as it takes to see
 * whether it is still so: a kernel that is told EIO of a readahead asks for the same again, page by
 * page, and one read of a program's would take many deadlines.
 */
static uint64_t patience_ns(const struct managed *m)
{
	uint64_t all = m->deadline_ns, some = all / 8;
	if (!m->gave_up.code)
		return all;
	some = some < AGAIN_MIN_NS ? AGAIN_MIN_NS : some > AGAIN_MAX_NS ? AGAIN_MAX_NS : some;
	return some < all ? some : all;
}

static uint64_t deadline_of(const struct managed *m, const struct hither_io *io)
{
	/* Counted from the last sign of life: a slow link is no outage. */
	uint64_t since = io->submitted_ns > m->progress_ns ? io->submitted_ns : m->progress_ns;
	return since + patience_ns(m);
}

static void collect_late_locked(struct managed *m, struct managed_ios *from,
                                struct managed_ios *out)
{
	struct hither_io **at = &from->head;
	while (*at) {
		if (deadline_of(m, *at) > m->now()) {
			at = &(*at)->next;
			continue;
		}
		struct hither_io *io = *at;
		managed_ios_remove(from, at);
		managed_ios_append(out, io);
	}
}

void managed_collect_expired_locked(struct managed *m, struct managed_ios *expired)
{
	collect_late_locked(m, &m->waiting, expired);
	collect_late_locked(m, &m->round_ios, expired);
	collect_late_locked(m, &m->flush_ios, expired);
}

uint64_t managed_stall_ns(const struct managed *m, const struct managed_job *job)
{
	/* Where seeks cost seconds there is one drive: asked again, it would seek again. */
	if (m->base.backend && m->base.backend->flags & HITHER_BACKEND_ORDERED)
		return UINT64_MAX / 2;
	uint64_t rtt = hither_link_rtt_ns(&m->link);
	/* Before the first byte a request may queue behind a window, and a server may think. */
	bool narrow = hither_link_is_narrow(&m->link);
	uint64_t patience = job->first_byte_ns ? 2 * rtt : 4 * rtt;
	if (narrow) /* hardly anything queues there */
		patience = job->first_byte_ns ? rtt * 3 / 2 : 2 * rtt;
	/* A piece that is handed out whole is silent for as long as its share of the line takes. */
	const struct hither_backend *b = m->base.backend;
	uint64_t rate = hither_link_rate(&m->link);
	if (b && b->piece_bytes && rate)
		patience += 2 * b->piece_bytes * HITHER_NS_PER_S / rate * m->job_count;
	return job->last_ns + patience + (rtt ? 20 * HITHER_NS_PER_MS : HITHER_NS_PER_S);
}

static void sooner(uint64_t *best, uint64_t t)
{
	if (t && (!*best || t < *best))
		*best = t;
}

bool managed_may_hedge_locked(const struct managed *m, const struct managed_job *job)
{
	unsigned pulls = 0; /* of the same blocks */
	if (job->kind != MANAGED_JOB_PULL || job->hedged)
		return false;
	for (const struct managed_job *j = m->jobs; j; j = j->next)
		pulls += j->kind == MANAGED_JOB_PULL &&
		         managed_overlap(j->first, j->end, job->first, job->end);
	return pulls < HEDGE_MOST;
}

/* When somebody shall look at stalled requests again; 0: once something else has happened. */
static uint64_t next_hedge_locked(const struct managed *m)
{
	uint64_t best = 0, now = m->now();
	if (!m->waiting.head || m->job_count >= m->jobs_max || m->retry_at_ns > now ||
	    managed_silent_locked(m) || managed_quiet_locked(m))
		return 0;
	for (const struct managed_job *j = m->jobs; j; j = j->next) {
		uint64_t stall = managed_may_hedge_locked(m, j) ? managed_stall_ns(m, j) : 0;
		/* Who has just looked saw it a moment too early, or has no room for it now. */
		sooner(&best, stall && stall <= now ? now + HEDGE_AGAIN_NS : stall);
	}
	return best;
}

static uint64_t next_probe_locked(const struct managed *m)
{
	uint64_t now = m->now(), at = m->retry_at_ns > now ? 0 : managed_probe_at_locked(m);
	return at && at <= now ? now + HEDGE_AGAIN_NS : at;
}

uint64_t managed_next_event_locked(const struct managed *m)
{
	uint64_t best = 0;
	/* Lists are in order of arrival, so the head has the earliest deadline. */
	const struct managed_ios *lists[] = {&m->waiting, &m->round_ios, &m->flush_ios};
	for (unsigned i = 0; i < sizeof lists / sizeof lists[0]; i++)
		if (lists[i]->head)
			sooner(&best, deadline_of(m, lists[i]->head));
	sooner(&best, next_hedge_locked(m));
	sooner(&best, next_probe_locked(m));
	sooner(&best, m->retry_at_ns > m->now() ? m->retry_at_ns : 0);
	sooner(&best, m->sweep_again_ns > m->now() ? m->sweep_again_ns : 0);
	sooner(&best, m->full_until_ns > m->now() ? m->full_until_ns : 0);
	uint64_t due = managed_push_due_locked(m);
	sooner(&best, due > m->now() ? due : 0);
	return best;
}

void managed_fail_waiting(struct managed *m, int result, const struct hither_error *err)
{
	struct managed_ios *lists[] = {&m->waiting, &m->round_ios, &m->flush_ios, &m->sync_ios};
	struct managed_ios out;
	managed_ios_init(&out);
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		while (lists[i]->head) {
			struct hither_io *io = lists[i]->head;
			managed_ios_remove(lists[i], &lists[i]->head);
			managed_ios_append(&out, io);
		}
	}
	pthread_mutex_unlock(&m->lock);
	managed_answer_all(&out, result, err);
}
