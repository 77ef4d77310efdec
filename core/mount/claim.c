/* SPDX-License-Identifier: Apache-2.0 */
/* Which job is next: local work, what somebody waits for, pushes, guesses, connections. */
#include "mount/managed.h"

static bool claim_sync_locked(struct managed *m, struct managed_job *job)
{
	if (!m->sync_ios.head)
		return false;
	*job = (struct managed_job){.ios = m->sync_ios};
	managed_ios_init(&m->sync_ios);
	managed_start_job_locked(m, job, MANAGED_JOB_SYNC);
	return true;
}

bool managed_claim_locked(struct managed *m, struct managed_job *job)
{
	if (m->cancelled)
		return false;
	if (claim_sync_locked(m, job) || managed_claim_evict_locked(m, job))
		return true;
	if (!m->base.backend || m->retry_at_ns > m->now() || m->job_count >= m->jobs_max)
		return false;
	/* Rule 3 is kept here: a job is run by managed_run, with no lock held. */
	if (!m->stale && managed_claim_demand_locked(m, job))
		return true;
	if (managed_claim_push_locked(m, job))
		return true;
	if (!managed_claim_guess_locked(m, job))
		return managed_claim_warm_locked(m, job);
	managed_batch_locked(m, job);
	return true;
}

void managed_run(struct managed *m, struct managed_job *job)
{
	switch (job->kind) {
	case MANAGED_JOB_PULL:
		if (job->more)
			managed_run_batch(m, job);
		else
			managed_run_pull(m, job);
		break;
	case MANAGED_JOB_DIRECT:
		managed_run_direct(m, job);
		break;
	case MANAGED_JOB_PUSH:
		managed_run_push(m, job);
		break;
	case MANAGED_JOB_FLUSH:
		managed_run_flush(m, job);
		break;
	case MANAGED_JOB_SYNC:
		managed_run_sync(m, job);
		break;
	case MANAGED_JOB_EVICT:
		managed_run_evict(m, job);
		break;
	case MANAGED_JOB_WARM:
		managed_run_warm(m, job);
		break;
	case MANAGED_JOB_NONE:
		break;
	}
}
