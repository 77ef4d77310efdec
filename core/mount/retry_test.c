/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that stall are asked for again elsewhere, within limits. Played by hand. */
#include "mount/played.h"

static struct managed_job jobs[MANAGED_WORKERS_MAX];

static unsigned claim_all(struct managed *m, unsigned count)
{
	while (count < MANAGED_WORKERS_MAX && claim(m, &jobs[count]))
		count++;
	return count;
}

static void bring(struct played *p, unsigned from, unsigned until)
{
	for (unsigned i = from; i < until; i++) {
		for (uint64_t at = jobs[i].first; at < jobs[i].end; at++)
			deliver(p, &jobs[i], at, 1);
		settle(p->m, &jobs[i], 0);
	}
}

/* A server that is stuck at one place does not keep those out who wait for another. */
static void one_place_takes_three_requests(void)
{
	struct played p = play(64 * BLOCK, 0);
	struct access *stuck = submit(p.m, HITHER_IO_READ, 40 * BLOCK, BLOCK, 1);
	unsigned count = claim_all(p.m, 0);
	CHECK_EQ(count, 1);
	for (unsigned s = 0; s < 30; s++) {
		clock_ns += HITHER_NS_PER_S;
		count = claim_all(p.m, count);
	}
	CHECK_EQ(count, 3);
	struct access *other = submit(p.m, HITHER_IO_READ, 10 * BLOCK, BLOCK, 1);
	CHECK_EQ(claim_all(p.m, count), count + 1);
	bring(&p, count, count + 1);
	expect_content(other);
	/* One that has failed makes room for another. */
	settle(p.m, &jobs[0], -ECONNRESET);
	clock_ns += 10 * HITHER_NS_PER_S;
	CHECK_EQ(claim(p.m, &jobs[0]), MANAGED_JOB_PULL);
	bring(&p, 0, count);
	expect_content(stuck);
	free(stuck);
	free(other);
	end_play(&p);
}

/* Whoever keeps the time is not woken for what nobody can do anything about. */
static void nobody_spins(void)
{
	struct played p = play(64 * BLOCK, 0);
	struct access *stuck[MANAGED_WORKERS_MAX];
	p.m->jobs_max = 4;
	for (unsigned i = 0; i < 4; i++)
		stuck[i] = submit(p.m, HITHER_IO_READ, (uint64_t)i * 16 * BLOCK, BLOCK, 1);
	CHECK_EQ(claim_all(p.m, 0), 4);
	clock_ns += 700 * HITHER_NS_PER_MS;
	pthread_mutex_lock(&p.m->lock);
	CHECK_EQ(managed_next_event_locked(p.m), stuck[0]->io.submitted_ns + p.m->deadline_ns);
	/* With a request to spare somebody looks, but not at once. */
	p.m->jobs_max = 5;
	clock_ns += 290 * HITHER_NS_PER_MS;
	CHECK(managed_next_event_locked(p.m) > clock_ns);
	clock_ns += HITHER_NS_PER_S;
	p.m->deadline_ns = UINT64_MAX / 2;
	CHECK(managed_next_event_locked(p.m) > clock_ns + HITHER_NS_PER_MS);
	pthread_mutex_unlock(&p.m->lock);
	bring(&p, 0, 4);
	for (unsigned i = 0; i < 4; i++) {
		expect_content(stuck[i]);
		free(stuck[i]);
	}
	end_play(&p);
}

int main(void)
{
	RUN(one_place_takes_three_requests);
	RUN(nobody_spins);
	return 0;
}
