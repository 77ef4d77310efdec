/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/spread.h"

#include "base/io.h"

#include <pthread.h>
#include <stdlib.h>

enum { STACK_BYTES = 256 << 10 };

/* A read, on its caller's stack. Guarded by the pool's lock. */
struct spread_job {
	struct spread_part *parts;
	char *buf;
	uint32_t count, begun;
	uint32_t running;
	int result; /* of the first part that failed, or of the sink */
	struct hither_error err;
	pthread_cond_t news;
	struct spread_job *next; /* that has parts which are not begun */
};

struct spread {
	spread_fetch fetch;
	void *user;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t work;
	struct spread_job *head, **tail; /* with parts that are not begun, first come first */
	uint32_t waiting;                /* such parts */
	uint32_t thread_most;            /* fixed */
	uint32_t thread_count, idle_count;
	bool closing;
	pthread_t threads[SPREAD_MOST];
};

/* --- who brings parts --- */

static void unlink_locked(struct spread *s, struct spread_job *job)
{
	struct spread_job **at = &s->head;
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	if (!*at)
		s->tail = at;
}

/* What is not begun is not wanted any more. */
static void stop_locked(struct spread *s, struct spread_job *job, int result)
{
	if (!job->result)
		job->result = result;
	if (job->begun == job->count)
		return;
	s->waiting -= job->count - job->begun;
	job->begun = job->count;
	unlink_locked(s, job);
}

/* The first part that waits; lets go of the lock meanwhile. */
static void bring_locked(struct spread *s)
{
	struct spread_job *job = s->head;
	struct spread_part *part = &job->parts[job->begun++];
	struct hither_error err = {0};
	s->waiting--;
	if (job->begun == job->count)
		unlink_locked(s, job);
	job->running++;
	pthread_mutex_unlock(&s->lock);
	int r = s->fetch(s->user, part, job->buf + part->at, &err);
	pthread_mutex_lock(&s->lock);
	job->running--;
	part->done = !r;
	if (r && !job->result)
		job->err = err;
	if (r)
		stop_locked(s, job, r);
	pthread_cond_signal(&job->news);
}

static void *bring_main(void *arg)
{
	struct spread *s = arg;
	pthread_mutex_lock(&s->lock);
	while (!s->closing) {
		if (s->head) {
			bring_locked(s);
			continue;
		}
		s->idle_count++;
		pthread_cond_wait(&s->work, &s->lock);
		s->idle_count--;
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static bool start_thread_locked(struct spread *s)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int r = pthread_create(&s->threads[s->thread_count], &attr, bring_main, s);
	pthread_attr_destroy(&attr);
	s->thread_count += !r;
	return !r;
}

static void see_to_it_locked(struct spread *s)
{
	uint32_t count = s->waiting;
	for (uint32_t i = 0; i < s->idle_count && count; i++, count--)
		pthread_cond_signal(&s->work);
	while (count && s->thread_count < s->thread_most && start_thread_locked(s))
		count--;
}

/* --- who waits for them --- */

/* Parts that have come before those in front of them. */
static size_t untold_locked(const struct spread_job *job, uint32_t from)
{
	size_t sum = 0;
	for (uint32_t i = from; i < job->count; i++) {
		struct spread_part *p = &job->parts[i];
		if (p->done && !p->told) {
			p->told = true;
			sum += p->len;
		}
	}
	return sum;
}

/* Deliver the parts in front that have come; *next: the first that has not. */
static void deliver_locked(struct spread *s, struct spread_job *job, uint32_t *next, size_t *given,
                           struct hither_sink *sink)
{
	while (!job->result && *next < job->count && job->parts[*next].done) {
		while (*next < job->count && job->parts[*next].done)
			++*next;
		const struct spread_part *last = &job->parts[*next - 1];
		const char *from = job->buf + *given;
		*given = last->at + last->len;
		pthread_mutex_unlock(&s->lock);
		int r = sink->take(sink, from, (size_t)(job->buf + *given - from));
		pthread_mutex_lock(&s->lock);
		if (r)
			stop_locked(s, job, r);
	}
}

static void wait_locked(struct spread *s, struct spread_job *job, struct hither_sink *sink)
{
	uint32_t next = 0;
	size_t given = 0, untold;
	while (!job->result && next < job->count) {
		deliver_locked(s, job, &next, &given, sink);
		untold = sink->held ? untold_locked(job, next) : 0;
		if (untold) {
			pthread_mutex_unlock(&s->lock);
			sink->held(sink, untold);
			pthread_mutex_lock(&s->lock);
		} else if (!job->result && next < job->count && !job->parts[next].done) {
			pthread_cond_wait(&job->news, &s->lock);
		}
	}
	while (job->running)
		pthread_cond_wait(&job->news, &s->lock);
}

int spread_read(struct spread *s, struct spread_part *parts, uint32_t count, char *buf, size_t len,
                struct hither_sink *sink, struct hither_error *err)
{
	struct spread_job job = {
	        .parts = parts, .buf = buf, .count = count, .news = PTHREAD_COND_INITIALIZER};
	pthread_mutex_lock(&s->lock);
	*s->tail = &job;
	s->tail = &job.next;
	s->waiting += count;
	see_to_it_locked(s);
	while (!s->thread_count && job.begun < count) /* no memory for one */
		bring_locked(s);
	wait_locked(s, &job, sink);
	pthread_mutex_unlock(&s->lock);
	pthread_cond_destroy(&job.news);
	if (job.err.code && err)
		*err = job.err;
	const struct spread_part *last = &parts[count - 1];
	size_t end = last->at + (size_t)last->len;
	return job.result || end == len ? job.result : sink->take(sink, buf + end, len - end);
}

/* --- life --- */

struct spread *spread_create(spread_fetch fetch, void *user)
{
	struct spread *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->fetch = fetch;
	s->user = user;
	s->tail = &s->head;
	s->thread_most = hither_has_few_files() ? SPREAD_FEW : SPREAD_MOST;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, NULL);
	return s;
}

void spread_destroy(struct spread *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_broadcast(&s->work);
	pthread_mutex_unlock(&s->lock);
	for (uint32_t i = 0; i < s->thread_count; i++)
		pthread_join(s->threads[i], NULL);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->work);
	free(s);
}
