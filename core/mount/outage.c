/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outages of the line, of which no backend tells: nothing comes any more over any connection, and
 * later it does again. TCP looks for that at intervals which it doubles, and goes on with one
 * segment in the first round trip (RFC 6298, 5.5; RFC 5681, 3.1), so that what was under way comes
 * a second after the end of an outage of a second, and slowly.
 *
 * So while nothing comes, the first bytes that somebody waits for are asked for again and again,
 * each time over another connection: who asks after the end has an answer in one round trip. And
 * once anything has come, whatever is still silent is dropped, and asked for anew.
 *
 * Both only over a long way, where much was under way and a backend can drop it: elsewhere silence
 * may be a server that thinks.
 */
#include "base/clock.h"
#include "base/tcp.h"
#include "mount/managed.h"

#include <string.h>

/* What comes back sooner TCP has seen to by itself. */
#define SILENCE_MIN_NS HITHER_TCP_RTO_MIN_NS

enum {
	SILENT_PULLS = 2, /* of one, the server may be stuck at that place */
	PROBES_MOST = 16, /* and a third of all requests */
};

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool may_drop(const struct managed_job *j)
{
	return j->kind == MANAGED_JOB_PULL && !j->follower && !j->more && !j->here && !j->dropped;
}

/* When the line counts as silent if nothing comes until then; 0: it is not used enough for that. */
static uint64_t silent_at_locked(const struct managed *m)
{
	uint64_t rtt = hither_link_rtt_ns(&m->link);
	unsigned pulls = 0;
	if (!m->base.backend || !m->base.backend->ops->drop || !hither_link_is_far(&m->link) ||
	    m->outstanding_bytes < hither_link_window(&m->link) / 4)
		return 0;
	for (const struct managed_job *j = m->jobs; j; j = j->next)
		pulls += may_drop(j) && j->start_ns <= m->heard_ns;
	return pulls < SILENT_PULLS ? 0 : m->heard_ns + max_u64(2 * rtt, SILENCE_MIN_NS);
}

bool managed_silent_locked(const struct managed *m)
{
	uint64_t at = silent_at_locked(m);
	return at && at <= m->now();
}

bool managed_quiet_locked(const struct managed *m)
{
	return hither_link_is_narrow(&m->link) &&
	       m->now() - m->heard_ns > hither_link_rtt_ns(&m->link) / 2 && silent_at_locked(m);
}

uint64_t managed_under_way_locked(const struct managed *m)
{
	uint64_t sum = m->outstanding_bytes, now = m->now();
	if (!hither_link_is_narrow(&m->link) || managed_quiet_locked(m))
		return sum;
	for (const struct managed_job *j = m->jobs; j; j = j->next)
		if (j->kind == MANAGED_JOB_PULL && managed_stall_ns(m, j) <= now)
			sum -= managed_bytes(m, j->first, j->end) - j->arrived;
	return sum;
}

/* The first blocks that somebody waits for. */
static bool first_hole_locked(const struct managed *m, uint64_t *first, uint64_t *end)
{
	for (const struct hither_io *io = m->waiting.head; io; io = io->next)
		if (managed_io_missing_locked(m, io, 0, first, end))
			return true;
	return false;
}

uint64_t managed_probe_at_locked(const struct managed *m)
{
	uint64_t silent = silent_at_locked(m), rtt = hither_link_rtt_ns(&m->link);
	uint64_t first, end, newest = 0;
	unsigned pulls = 0, most = m->jobs_max / 3 < PROBES_MOST ? m->jobs_max / 3 : PROBES_MOST;
	if (!silent || m->job_count >= m->jobs_max || !first_hole_locked(m, &first, &end))
		return 0;
	for (const struct managed_job *j = m->jobs; j; j = j->next) {
		if (j->kind != MANAGED_JOB_PULL || j->first > first || j->end <= first)
			continue;
		newest = max_u64(newest, j->start_ns);
		pulls++;
	}
	if (!pulls || pulls >= most)
		return 0;
	/* The longer it lasts, the more patience. */
	uint64_t lasted = newest > m->heard_ns ? newest - m->heard_ns : 0;
	return lasted ? max_u64(silent, newest + max_u64(rtt, lasted / 4)) : silent;
}

bool managed_claim_probe_locked(struct managed *m, struct managed_job *job)
{
	uint64_t at = managed_probe_at_locked(m), first, end;
	if (!at || at > m->now() || !first_hole_locked(m, &first, &end))
		return false;
	/* As little as there is: those of the last round trips may all be answered. */
	end = first + m->unit_blocks;
	managed_whole(m, &first, &end);
	*job = (struct managed_job){.first = first, .end = end, .demand = true};
	managed_start_job_locked(m, job, MANAGED_JOB_PULL);
	m->outstanding_bytes += managed_bytes(m, first, end);
	return true;
}

/* The latest request's first, so that the earliest one's blocks are asked for first. */
static unsigned drop_silent_locked(struct managed *m, uint64_t since_ns)
{
	unsigned count = 0;
	for (struct managed_job *j = m->jobs; j; j = j->next) {
		if (!may_drop(j) || j->last_ns >= since_ns)
			continue;
		j->dropped = true;
		managed_guess_first_locked(m, j);
		count++;
	}
	return count;
}

bool managed_heard_locked(struct managed *m)
{
	uint64_t now = m->now(), silence = now - m->heard_ns, rtt = hither_link_rtt_ns(&m->link);
	bool back = silence > max_u64(3 * rtt, 2 * SILENCE_MIN_NS) && managed_silent_locked(m);
	m->heard_ns = now;
	if (!back)
		return false;
	/* What was asked for in the last round trip may be on its way. */
	unsigned count = drop_silent_locked(m, now - rtt - rtt / 4);
	m->connections -= count < m->connections ? count : m->connections;
	m->cold_bytes = m->stats.pulled_bytes; /* those that take their place are new */
	hither_link_back(&m->link, now);
	return count > 0;
}
