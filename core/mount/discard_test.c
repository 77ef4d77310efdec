/* SPDX-License-Identifier: Apache-2.0 */
/* Discards, by hand; model_test.c mixes them with all else. */
#include "mount/played.h"

enum { BLOCKS = 32 };

/* The memory backend's holes are where nothing was ever written; it finds zeros as dear as others.
 */
static struct played play_sparse(void)
{
	const struct hither_mount_options o = {
	        .pull_off = true, .order = "none", .deadline_ms = 1000};
	struct hither_backend *b = filled(BLOCKS * BLOCK);
	b->flags |= HITHER_BACKEND_SPARSE;
	return (struct played){.m = play_over(b, &o), .memory = b};
}

static void discard(struct played *p, uint64_t offset, uint64_t len, int result)
{
	struct access *a = submit(p->m, HITHER_IO_DISCARD, offset, len, 0);
	CHECK(a->over);
	CHECK_EQ(a->result, result);
	free(a);
}

static void expect_zeros(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		CHECK_EQ(bytes[i], 0);
}

static void what_is_discarded_is_zeros_here_and_there(void)
{
	struct played p = play_sparse();
	struct access *old = submit(p.m, HITHER_IO_READ, 0, 8 * BLOCK, 1);
	run_all(p.m);
	expect_content(old);
	discard(&p, 2 * BLOCK, 20 * BLOCK, 0); /* some of it here, most of it not */
	CHECK_EQ(state_of(p.m, 2), HITHER_BLOCK_DIRTY);
	CHECK_EQ(state_of(p.m, 21), HITHER_BLOCK_DIRTY);
	CHECK_EQ(state_of(p.m, 22), HITHER_BLOCK_ABSENT);
	struct access *now = submit(p.m, HITHER_IO_READ, 2 * BLOCK, 20 * BLOCK, 1);
	CHECK(now->over);
	expect_zeros(now->buf, 20 * BLOCK);
	struct access *flush = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	run_all(p.m);
	CHECK(flush->over && !flush->result);
	char bytes[20 * BLOCK];
	struct hither_error err = {0};
	CHECK_OK(hither_backend_read_at(p.memory, bytes, sizeof bytes, 2 * BLOCK, &err));
	expect_zeros(bytes, sizeof bytes);
	free(old);
	free(now);
	free(flush);
	end_play(&p);
}

/* A pull that was under way brings back nothing. */
static void a_pull_does_not_undo_it(void)
{
	struct played p = play_sparse();
	struct managed_job job;
	struct access *r = submit(p.m, HITHER_IO_READ, 0, 4 * BLOCK, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	discard(&p, BLOCK, BLOCK, 0);
	deliver(&p, &job, 0, 4);
	settle(p.m, &job, 0);
	CHECK(r->over && !r->result);
	expect_zeros(r->buf + BLOCK, BLOCK);
	CHECK_EQ(r->buf[2 * BLOCK], content(2 * BLOCK));
	free(r);
	end_play(&p);
}

/* Who waits for what is discarded waits no longer. */
static void it_answers_who_waits(void)
{
	struct played p = play_sparse();
	struct access *r = submit(p.m, HITHER_IO_READ, BLOCK, 2 * BLOCK, 1);
	CHECK(!r->over);
	discard(&p, 0, 8 * BLOCK, 0);
	CHECK(r->over && !r->result);
	expect_zeros(r->buf, 2 * BLOCK);
	free(r);
	end_play(&p);
}

static uint64_t all_holes(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole)
{
	*hole = offset >= 8 * BLOCK;
	return *hole || max < 8 * BLOCK - offset ? max : 8 * BLOCK - offset;
}

/* As mkfs does it, with all of a new device. */
static void holes_are_left_alone(void)
{
	struct played p = play_sparse();
	struct hither_backend_ops ops = *p.memory->ops;
	ops.extent = all_holes;
	p.memory->ops = &ops;
	free(submit(p.m, HITHER_IO_WRITE, 20 * BLOCK, BLOCK, 'w'));
	discard(&p, 0, BLOCKS * BLOCK, 0);
	CHECK_EQ(hither_block_map_count(p.m->map, HITHER_BLOCK_DIRTY), 9);
	CHECK_EQ(state_of(p.m, 7), HITHER_BLOCK_DIRTY);
	CHECK_EQ(state_of(p.m, 20), HITHER_BLOCK_DIRTY);
	struct access *r = submit(p.m, HITHER_IO_READ, 20 * BLOCK, BLOCK, 1);
	CHECK(r->over);
	expect_zeros(r->buf, BLOCK);
	free(r);
	end_play(&p);
}

static void only_whole_blocks_of_who_can(void)
{
	struct played p = play_sparse();
	discard(&p, 1, BLOCK, -EINVAL);
	discard(&p, 0, BLOCK + 1, -EINVAL);
	discard(&p, 0, BLOCKS * BLOCK + BLOCK, -EINVAL);
	p.m->base.writable = false;
	discard(&p, 0, BLOCK, -EROFS);
	p.m->base.writable = true;
	p.memory->flags &= ~(uint32_t)HITHER_BACKEND_SPARSE;
	CHECK(!hither_mount_discards(&p.m->base));
	discard(&p, 0, BLOCK, -EOPNOTSUPP);
	end_play(&p);
}

int main(void)
{
	RUN(what_is_discarded_is_zeros_here_and_there);
	RUN(a_pull_does_not_undo_it);
	RUN(it_answers_who_waits);
	RUN(holes_are_left_alone);
	RUN(only_whole_blocks_of_who_can);
	return 0;
}
