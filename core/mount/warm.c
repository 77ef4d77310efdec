/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections before they are needed. A connection costs a round trip before its first request,
 * with TLS two, and an order often knows that a burst is coming (an index is gone down, whose rows
 * lie all over a table) before it knows of which bytes: the line is idle then, so connections are
 * opened meanwhile.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "mount/managed.h"

/* Servers close what has been silent for long: after so long none is counted upon. */
#define KEPT_NS (30 * HITHER_NS_PER_S)

/* How often it is looked which are still open while there is something to do. */
#define LOOK_NS (10 * HITHER_NS_PER_S)

void managed_look_at_connections(struct managed *m)
{
	pthread_mutex_lock(&m->lock);
	bool due = m->warm_wanted && m->now() - m->warm_looked_ns >= LOOK_NS;
	if (due)
		m->warm_looked_ns = m->now();
	pthread_mutex_unlock(&m->lock);
	if (!due || !m->base.backend->ops->connections)
		return;
	uint32_t count = m->base.backend->ops->connections(m->base.backend);
	HITHER_LOCK_SCOPE(&m->lock);
	m->connections = count > m->job_count ? count : m->job_count;
	if (managed_warm_wanted_locked(m))
		managed_wake_locked(m);
}

/* After a rest. */
static void forget_closed_locked(struct managed *m)
{
	if (m->link.idle_ns && m->now() - m->link.idle_ns > KEPT_NS)
		m->connections = m->warm_wanted = 0;
}

void managed_warm(struct hither_mount *base, uint32_t connections)
{
	struct managed *m = managed_of(base);
	if (!m->base.backend || !m->base.backend->ops->warm)
		return;
	HITHER_LOCK_SCOPE(&m->lock);
	if (!m->job_count)
		forget_closed_locked(m);
	if (connections > managed_jump_places(m))
		connections = managed_jump_places(m);
	if (connections <= m->warm_wanted)
		return;
	m->warm_wanted = connections;
	m->warm_looked_ns = m->now();
	managed_wake_locked(m);
}

void managed_connected_locked(struct managed *m, const struct managed_job *job)
{
	if (m->job_count == 1 && job->kind != MANAGED_JOB_WARM)
		forget_closed_locked(m);
	if (m->job_count > m->connections)
		m->connections = m->job_count;
}

uint64_t managed_brought_locked(const struct managed *m, uint32_t begun)
{
	struct hither_backend *b = m->base.backend;
	if (b->ops->brought)
		return b->ops->brought(b, begun);
	return (m->stats.pulled_bytes - m->cold_bytes) / (m->connections ? m->connections : 1);
}

bool managed_warm_wanted_locked(const struct managed *m)
{
	return m->connections < m->warm_wanted && m->job_count < managed_jump_places(m) &&
	       !m->stale && m->retry_at_ns <= m->now();
}

bool managed_claim_warm_locked(struct managed *m, struct managed_job *job)
{
	if (!managed_warm_wanted_locked(m))
		return false;
	*job = (struct managed_job){0};
	uint32_t before = m->connections;
	managed_start_job_locked(m, job, MANAGED_JOB_WARM);
	m->connections = before + 1; /* though others may rest */
	return true;
}

void managed_settle_warm(struct managed *m, struct managed_job *job, int result)
{
	HITHER_LOCK_SCOPE(&m->lock);
	managed_end_job_locked(m, job);
	if (!result)
		return;
	/* Who needs bytes will find out what is wrong. Until somebody asks again, that is all. */
	m->connections -= m->connections > 0;
	m->warm_wanted = 0;
}

void managed_run_warm(struct managed *m, struct managed_job *job)
{
	managed_settle_warm(m, job, hither_backend_warm(m->base.backend, NULL));
}
