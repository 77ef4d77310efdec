/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A managed mount played by hand: no threads, a clock of our own, and the test is the network. For
 * tests only.
 */
#ifndef HITHER_MOUNT_PLAYED_H
#define HITHER_MOUNT_PLAYED_H

#include "base/clock.h"
#include "check.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

#define BLOCK HITHER_BLOCK_BYTES

static uint64_t clock_ns;
static inline uint64_t test_now(void)
{
	return clock_ns;
}

struct access {
	struct hither_io io;
	bool over;
	int result;
	struct hither_error err;
	char buf[64 * BLOCK];
};

static inline void access_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct access *a = (struct access *)io;
	CHECK(!a->over);
	a->over = true;
	a->result = result;
	a->err = *err;
}

static inline char content(uint64_t offset)
{
	return (char)(offset * 31 + offset / BLOCK);
}

struct played {
	struct managed *m;
	struct hither_backend *memory;
};

static inline struct hither_backend *filled(uint64_t size)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	CHECK_OK(hither_backend_memory_create(size, &b, &err));
	char *bytes = malloc(size + 1);
	for (uint64_t i = 0; i < size; i++)
		bytes[i] = content(i);
	CHECK_OK(hither_backend_write_at(b, bytes, size, 0, &err));
	free(bytes);
	return b;
}

static inline struct managed *by_hand(struct managed *m)
{
	m->now = test_now;
	clock_ns = 1000 * HITHER_NS_PER_S;
	m->progress_ns = clock_ns;
	return m;
}

static inline struct managed *play_over(struct hither_backend *b,
                                        const struct hither_mount_options *options)
{
	struct hither_error err = {0};
	struct hither_mount *mount;
	managed_by_hand = true;
	CHECK_OK(hither_mount_backend(b, "played", options, &mount, &err));
	managed_by_hand = false;
	return by_hand(managed_of(mount));
}

static inline void end_over(struct managed *m)
{
	struct hither_error err = {0};
	CHECK_OK(hither_mount_close(&m->base, &err));
}

static inline struct played play(uint64_t size, uint64_t cap)
{
	const struct hither_mount_options o = {
	        .pull_off = true, .order = "none", .cache_cap_bytes = cap, .deadline_ms = 1000};
	struct hither_backend *b = filled(size);
	return (struct played){.m = play_over(b, &o), .memory = b};
}

static inline void end_play(struct played *p)
{
	struct hither_error err = {0};
	p->m->base.writable = false;
	CHECK_OK(hither_mount_close(&p->m->base, &err));
}

static inline struct access *submit(struct managed *m, enum hither_io_op op, uint64_t offset,
                                    size_t len, int fill)
{
	struct access *a = calloc(1, sizeof *a);
	memset(a->buf, fill, sizeof a->buf);
	a->io = (struct hither_io){
	        .op = op, .offset = offset, .len = len, .buf = a->buf, .done = access_done};
	hither_mount_submit(&m->base, &a->io);
	return a;
}

static inline void expect_content(const struct access *a)
{
	CHECK(a->over);
	CHECK_EQ(a->result, 0);
	for (size_t i = 0; i < a->io.len; i++)
		CHECK_EQ(a->buf[i], content(a->io.offset + i));
}

static inline enum managed_job_kind claim(struct managed *m, struct managed_job *job)
{
	pthread_mutex_lock(&m->lock);
	bool got = managed_claim_locked(m, job);
	pthread_mutex_unlock(&m->lock);
	return got ? job->kind : MANAGED_JOB_NONE;
}

static inline void deliver(struct played *p, struct managed_job *job, uint64_t first,
                           uint64_t count)
{
	struct hither_error err = {0};
	char buf[64 * BLOCK];
	uint64_t len = managed_bytes(p->m, first, first + count);
	CHECK_OK(hither_backend_read_at(p->memory, buf, len, first * BLOCK, &err));
	if (!job->first_byte_ns)
		job->first_byte_ns = clock_ns;
	CHECK_EQ(managed_commit(p->m, job, buf, len, first * BLOCK), 0);
}

static inline void settle(struct managed *m, struct managed_job *job, int result)
{
	struct hither_error err = {0};
	if (result)
		hither_fail(&err, result, "played failure");
	if (job->kind == MANAGED_JOB_PULL)
		managed_settle_pull(m, job, result, &err);
	else if (job->kind == MANAGED_JOB_PUSH)
		managed_settle_push(m, job, result, &err);
	else
		managed_settle_flush(m, job, result, &err);
}

/* Run whatever there is to do, honestly, until nothing is. */
static inline void run_all(struct managed *m)
{
	struct managed_job job;
	while (claim(m, &job) != MANAGED_JOB_NONE)
		managed_run(m, &job);
}

static inline enum hither_block_state state_of(struct managed *m, uint64_t block)
{
	return hither_block_map_get(m->map, block);
}

#endif
