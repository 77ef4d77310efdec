/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/spread.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/tcp.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
	STACK_BYTES = 256 << 10,
	PART_LEAST = 4096,
};

struct part {
	struct spread_run run;
	bool done;
	bool told; /* the sink knows that it has come; its caller's */
};

/* A read, on its caller's stack. Guarded by the pool's lock. */
struct spread_job {
	const struct spread_run *runs; /* [run_count] */
	struct part *parts;            /* those that are begun, in order */
	char *buf;
	uint32_t run_count, run; /* of which all before run are begun, */
	uint64_t run_done;       /* and so much of that one */
	uint64_t flight;         /* longest part; 0: any */
	uint64_t number;         /* the order of reads */
	uint32_t begun, running;
	int result; /* of the first part that failed, or of the sink */
	struct hither_error err;
	pthread_cond_t news;
	struct spread_job *next; /* that has something which is not begun */
};

struct spread {
	spread_fetch fetch;
	void *user;
	atomic_uint_fast64_t numbers; /* of reads so far */
	pthread_mutex_t lock;         /* guards the rest */
	pthread_cond_t work;
	struct spread_job *head; /* with something that is not begun, first come first */
	uint32_t thread_most;    /* fixed */
	uint32_t failed_count;   /* threads that could not be started */
	uint32_t thread_count, idle_count;
	bool closing;
	pthread_t threads[SPREAD_MOST];
	bool started[SPREAD_MOST]; /* by whoever has counted it */
};

/* --- who brings parts --- */

static bool is_begun(const struct spread_job *job)
{
	return job->run == job->run_count;
}

static void unlink_locked(struct spread *s, struct spread_job *job)
{
	struct spread_job **at = &s->head;
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
}

/* What is not begun is not wanted any more. */
static void stop_locked(struct spread *s, struct spread_job *job, int result)
{
	if (!job->result)
		job->result = result;
	if (is_begun(job))
		return;
	job->run = job->run_count;
	unlink_locked(s, job);
}

/* Parts of which so much would come at once, each as long as the others. */
static uint64_t parts_of(const struct spread_job *job, uint64_t len, uint64_t flight)
{
	if (!job->flight)
		return 1;
	flight = flight > job->flight ? job->flight : flight;
	flight = flight < PART_LEAST ? PART_LEAST : flight;
	return (len + flight - 1) / flight;
}

/* The next part of what waits first. */
static struct part *begin_locked(struct spread *s, struct spread_job *job, uint64_t flight)
{
	const struct spread_run *run = &job->runs[job->run];
	struct part *part = &job->parts[job->begun++];
	uint64_t left = run->len - job->run_done, count = parts_of(job, left, flight);
	uint64_t len = (left + count - 1) / count;
	*part = (struct part){.run = {.node = run->node,
	                              .from = run->from + job->run_done,
	                              .len = len,
	                              .at = run->at + (size_t)job->run_done}};
	job->run_done += len;
	if (len == left) {
		job->run++;
		job->run_done = 0;
	}
	if (is_begun(job))
		unlink_locked(s, job);
	job->running++;
	return part;
}

/* Lets go of the lock meanwhile. Bytes that it brought. */
static uint64_t bring_locked(struct spread *s, uint64_t flight)
{
	struct spread_job *job = s->head;
	struct part *part = begin_locked(s, job, flight);
	struct hither_error err = {0};
	pthread_mutex_unlock(&s->lock);
	int r = s->fetch(s->user, &part->run, job->buf + part->run.at, &err);
	pthread_mutex_lock(&s->lock);
	uint64_t len = r ? 0 : part->run.len;
	job->running--;
	part->done = !r;
	if (r && !job->result)
		job->err = err;
	if (r)
		stop_locked(s, job, r);
	pthread_cond_signal(&job->news);
	return len;
}

/*
 * Connections are anybody's between two requests, but the one that was used last is taken first: a
 * thread that goes on at once gets its own again, which is as wide as what it has brought.
 */
static void *bring_main(void *arg)
{
	struct spread *s = arg;
	uint64_t flight = HITHER_TCP_FIRST_BYTES, rests_ns = 0;
	pthread_mutex_lock(&s->lock);
	while (!s->closing) {
		if (s->head) {
			if (rests_ns && hither_now_ns() - rests_ns > HITHER_TCP_RTO_MIN_NS)
				flight = HITHER_TCP_FIRST_BYTES;
			flight += bring_locked(s, flight);
			rests_ns = 0;
			continue;
		}
		rests_ns = rests_ns ? rests_ns : hither_now_ns();
		s->idle_count++;
		pthread_cond_wait(&s->work, &s->lock);
		s->idle_count--;
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static bool start_thread(struct spread *s, uint32_t i)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	s->started[i] = !pthread_create(&s->threads[i], &attr, bring_main, s);
	pthread_attr_destroy(&attr);
	return s->started[i];
}

/*
 * job has just come. Threads are started with the lock let go of: others come meanwhile, and who
 * has to wait for a lock gets it in any order.
 */
static void see_to_it_locked(struct spread *s, const struct spread_job *job)
{
	uint64_t count = 0;
	for (uint32_t i = 0; i < job->run_count; i++)
		count += parts_of(job, job->runs[i].len, HITHER_TCP_FIRST_BYTES);
	for (uint32_t i = 0; i < s->idle_count && count; i++, count--)
		pthread_cond_signal(&s->work);
	uint32_t first = s->thread_count, end = s->thread_most, failed = 0;
	end = count < end - first ? first + (uint32_t)count : end;
	s->thread_count = end;
	if (first < end) {
		pthread_mutex_unlock(&s->lock);
		for (uint32_t i = first; i < end; i++)
			failed += !start_thread(s, i);
		pthread_mutex_lock(&s->lock);
	}
	s->failed_count += failed;
	while (s->failed_count == s->thread_count && s->head) /* no memory for any */
		bring_locked(s, HITHER_TCP_FIRST_BYTES);
}

/* In the order in which reads were begun. */
static void enqueue_locked(struct spread *s, struct spread_job *job)
{
	struct spread_job **at = &s->head;
	while (*at && (*at)->number < job->number)
		at = &(*at)->next;
	job->next = *at;
	*at = job;
}

/* --- who waits for them --- */

/* Parts that have come before those in front of them. */
static size_t untold_locked(const struct spread_job *job, uint32_t from)
{
	size_t sum = 0;
	for (uint32_t i = from; i < job->begun; i++) {
		struct part *p = &job->parts[i];
		if (p->done && !p->told) {
			p->told = true;
			sum += (size_t)p->run.len;
		}
	}
	return sum;
}

static bool is_next_locked(const struct spread_job *job, uint32_t next)
{
	return next < job->begun && job->parts[next].done;
}

/* Deliver the parts in front that have come; *next: the first that has not. */
static void deliver_locked(struct spread *s, struct spread_job *job, uint32_t *next, size_t *given,
                           struct hither_sink *sink)
{
	while (!job->result && is_next_locked(job, *next)) {
		while (is_next_locked(job, *next))
			++*next;
		const struct spread_run *last = &job->parts[*next - 1].run;
		const char *from = job->buf + *given;
		*given = last->at + (size_t)last->len;
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
	while (!job->result && (next < job->begun || !is_begun(job))) {
		deliver_locked(s, job, &next, &given, sink);
		untold = sink->held ? untold_locked(job, next) : 0;
		if (untold) {
			pthread_mutex_unlock(&s->lock);
			sink->held(sink, untold);
			pthread_mutex_lock(&s->lock);
		} else if (!job->result && !is_next_locked(job, next) &&
		           (next < job->begun || !is_begun(job))) {
			pthread_cond_wait(&job->news, &s->lock);
		}
	}
	while (job->running)
		pthread_cond_wait(&job->news, &s->lock);
}

static uint64_t most_parts(const struct spread_run *runs, uint32_t count)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < count; i++)
		sum += runs[i].len / PART_LEAST + 1;
	return sum;
}

int spread_read(struct spread *s, const struct spread_run *runs, uint32_t count, char *buf,
                size_t len, struct hither_sink *sink, struct hither_error *err)
{
	HITHER_FREE struct part *parts = malloc(most_parts(runs, count) * sizeof *parts);
	struct spread_job job = {.runs = runs,
	                         .parts = parts,
	                         .buf = buf,
	                         .run_count = count,
	                         .flight = sink->flight_bytes,
	                         .number = atomic_fetch_add(&s->numbers, 1),
	                         .news = PTHREAD_COND_INITIALIZER};
	if (!parts)
		return hither_fail(err, -ENOMEM, "tree: no memory");
	pthread_mutex_lock(&s->lock);
	enqueue_locked(s, &job);
	see_to_it_locked(s, &job);
	wait_locked(s, &job, sink);
	pthread_mutex_unlock(&s->lock);
	pthread_cond_destroy(&job.news);
	if (job.err.code && err)
		*err = job.err;
	size_t end = runs[count - 1].at + (size_t)runs[count - 1].len;
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
		if (s->started[i])
			pthread_join(s->threads[i], NULL);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->work);
	free(s);
}
