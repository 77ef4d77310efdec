/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts over a backend whose seeks cost seconds: one drive, which is asked once, and in order. */
#include "check.h"
#include "mount/managed.h"

#include <string.h>
#include <unistd.h>

enum { BLOCK = HITHER_BLOCK_BYTES, BLOCKS = 1024 };

static uint64_t now_ns = HITHER_NS_PER_S;
static uint64_t test_now(void)
{
	return now_ns;
}

static int answers;
static void answered(struct hither_io *io, int result, const struct hither_error *err)
{
	CHECK_EQ(result, 0);
	answers++;
}

static struct managed *mount_of(uint32_t flags)
{
	struct hither_mount_options options = {.order = "none", .pull_off = true};
	struct hither_error err = {0};
	struct hither_backend *b;
	struct hither_mount *m;
	CHECK_OK(hither_backend_memory_create(BLOCKS * BLOCK, &b, &err));
	b->flags = HITHER_BACKEND_WRITABLE | flags;
	managed_by_hand = true;
	CHECK_OK(hither_mount_backend(b, "ordered", &options, &m, &err));
	managed_by_hand = false;
	managed_of(m)->now = test_now;
	return managed_of(m);
}

static bool claim(struct managed *m, struct managed_job *job)
{
	pthread_mutex_lock(&m->lock);
	bool got = managed_claim_locked(m, job);
	pthread_mutex_unlock(&m->lock);
	return got;
}

/* A drive that is silent for minutes seeks; others that are silent have lost a packet. */
static void a_silent_drive_is_not_asked_twice(void)
{
	static const uint32_t flags[] = {0, HITHER_BACKEND_ORDERED};
	static char buf[BLOCK];
	struct hither_error err = {0};
	for (int ordered = 0; ordered < 2; ordered++) {
		struct managed *m = mount_of(flags[ordered]);
		struct hither_io io = {
		        .op = HITHER_IO_READ, .len = BLOCK, .buf = buf, .done = answered};
		struct managed_job job, again;
		answers = 0;
		hither_mount_submit(&m->base, &io);
		CHECK(claim(m, &job));
		now_ns += 100 * HITHER_NS_PER_S;
		bool twice = claim(m, &again);
		CHECK_EQ(twice, !ordered);
		managed_run(m, &job);
		if (twice)
			managed_run(m, &again);
		CHECK_EQ(answers, 1);
		CHECK_OK(hither_mount_close(&m->base, &err));
	}
}

/* What is pushed goes out front to back, one piece after another. */
static void pushes_go_one_at_a_time(void)
{
	static char bytes[BLOCKS * BLOCK];
	struct managed *m = mount_of(HITHER_BACKEND_ORDERED);
	struct hither_error err = {0};
	struct managed_job job, other;
	CHECK_OK(hither_mount_write_at(&m->base, bytes, sizeof bytes, 0, &err));
	now_ns += 10 * HITHER_NS_PER_S;
	for (uint64_t at = 0; at < BLOCKS; at = job.end) {
		CHECK(claim(m, &job));
		CHECK_EQ(job.kind, MANAGED_JOB_PUSH);
		CHECK_EQ(job.first, at);
		CHECK(!claim(m, &other));
		managed_run(m, &job);
	}
	CHECK(claim(m, &job));
	CHECK_EQ(job.kind, MANAGED_JOB_FLUSH);
	managed_run(m, &job);
	CHECK_OK(hither_mount_close(&m->base, &err));
}

int main(void)
{
	alarm(50);
	RUN(a_silent_drive_is_not_asked_twice);
	RUN(pushes_go_one_at_a_time);
	return 0;
}
