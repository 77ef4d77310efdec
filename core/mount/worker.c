/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of a managed mount. Each claims a job, sees that another thread looks for the next
 * one, and runs it. They are started as they are needed, at most one a request in flight. One idle
 * thread keeps the time: it sleeps until the next deadline, retry or push is due; the others sleep
 * until woken.
 */
#include "base/clock.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

#define STACK_BYTES (512 << 10)

static void *worker_main(void *arg);

static int spawn_locked(struct managed *m)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int r = pthread_create(&m->threads[m->thread_count], &attr, worker_main, m);
	pthread_attr_destroy(&attr);
	if (!r)
		m->thread_count++;
	return -r;
}

bool managed_work_locked(const struct managed *m)
{
	return m->waiting.head || m->sync_ios.head || m->flush_ios.head || m->round != ROUND_NONE ||
	       managed_evict_wanted_locked(m) || managed_push_due_locked(m) == 1 ||
	       managed_guess_wanted_locked(m) || managed_warm_wanted_locked(m);
}

void managed_wake_locked(struct managed *m)
{
	if (m->manual || m->closing)
		return;
	if (m->idle_count > (m->timekeeper ? 1u : 0u))
		pthread_cond_signal(&m->work);
	else if (m->timekeeper)
		pthread_cond_signal(&m->timer);
	else if (m->thread_count <= m->jobs_max && m->thread_count < MANAGED_THREADS_MAX)
		spawn_locked(m); /* one more than requests: it keeps the time while all wait */
}

static void keep_time_locked(struct managed *m)
{
	uint64_t event = managed_next_event_locked(m);
	m->timekeeper = true;
	m->timer_ns = event;
	if (event) {
		struct timespec until = hither_timespec(event);
		pthread_cond_timedwait(&m->timer, &m->lock, &until);
	} else {
		pthread_cond_wait(&m->timer, &m->lock);
	}
	m->timekeeper = false;
}

static void wait_locked(struct managed *m)
{
	m->idle_count++;
	if (!m->timekeeper) {
		keep_time_locked(m);
	} else {
		uint64_t event = managed_next_event_locked(m);
		if (event && (!m->timer_ns || event < m->timer_ns))
			pthread_cond_signal(&m->timer); /* it went to sleep for longer than that */
		pthread_cond_wait(&m->work, &m->lock);
	}
	m->idle_count--;
}

static void answer_expired_locked(struct managed *m)
{
	struct managed_ios expired;
	managed_ios_init(&expired);
	managed_collect_expired_locked(m, &expired);
	if (!expired.head)
		return;
	struct hither_error err = {0};
	const char *why = m->trouble.code ? m->trouble.message : "the server is silent";
	int len = hither_error_fact_len(why);
	hither_fail(&err, -ETIMEDOUT,
	            "%s: gave up after %llu s without an answer (%.*s); --deadline sets for how "
	            "long to wait",
	            m->name, (unsigned long long)(m->deadline_ns / HITHER_NS_PER_S),
	            len < 160 ? len : 160, why);
	m->gave_up = err;
	pthread_mutex_unlock(&m->lock);
	managed_answer_all(&expired, -ETIMEDOUT, &err);
	pthread_mutex_lock(&m->lock);
}

static void *worker_main(void *arg)
{
	struct managed *m = arg;
	pthread_mutex_lock(&m->lock);
	while (!m->closing) {
		struct managed_job job;
		answer_expired_locked(m);
		if (!managed_claim_locked(m, &job)) {
			if (!m->closing)
				wait_locked(m);
			continue;
		}
		managed_wake_locked(m); /* there may be more, and the time must be kept */
		pthread_mutex_unlock(&m->lock);
		managed_run(m, &job);
		pthread_mutex_lock(&m->lock);
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

bool managed_by_hand;

int managed_threads_start(struct managed *m, struct hither_error *err)
{
	pthread_mutex_lock(&m->lock);
	int r = m->manual ? 0 : spawn_locked(m);
	pthread_mutex_unlock(&m->lock);
	return r ? hither_fail(err, r, "%s: cannot start a thread: %s", m->name, strerror(-r)) : 0;
}

void managed_threads_stop(struct managed *m)
{
	pthread_mutex_lock(&m->lock);
	m->closing = true;
	pthread_cond_broadcast(&m->work);
	pthread_cond_broadcast(&m->timer);
	pthread_mutex_unlock(&m->lock);
	for (uint32_t i = 0; i < m->thread_count; i++)
		pthread_join(m->threads[i], NULL);
	m->thread_count = 0;
}
