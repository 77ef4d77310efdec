/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/played.h"

#include <hither/backend.h>
#include <hither/layer.h>
#include <hither/mount.h>
#include <stdlib.h>

enum { SIZE = 64 << 20, CAP = 4 << 20, READS = 1500 };

/*
 * The background fills a capped cache once. What is dropped later is dropped for what is read:
 * filling that room from the front of the file again would move the file over the line for nothing.
 */
static void a_full_cache_is_not_swept_into_again(void)
{
	const struct hither_mount_options options = {.cache_cap_bytes = CAP, .order = "none"};
	struct hither_error err = {0};
	struct hither_backend *memory;
	struct hither_mount *m;
	struct hither_mount_stats stats;
	CHECK_OK(hither_backend_memory_create(SIZE, &memory, &err));
	CHECK_OK(hither_mount_backend(memory, "capped", &options, &m, &err));
	unsigned seed = 1;
	for (int i = 0; i < READS; i++) {
		char c = 1;
		uint64_t at = (uint64_t)rand_r(&seed) % SIZE;
		CHECK_OK(hither_mount_read_at(m, &c, 1, at, &err));
		CHECK_EQ(c, 0);
	}
	hither_mount_stats(m, &stats);
	CHECK(stats.evicted_bytes > 0);
	CHECK(stats.pulled_bytes - stats.demand_bytes <= 2 * CAP);
	CHECK_OK(hither_mount_close(m, &err));
}

/*
 * Each hole costs the file system a transaction, and may wait for the log: a cache that is told to
 * be smaller than it is goes in large pieces.
 */
static void neighbours_are_dropped_together(void)
{
	struct hither_mount_options options = {.order = "none", .pull_off = true};
	options.cache_cap_bytes = SIZE;
	struct hither_backend *memory;
	struct hither_error err = {0};
	struct managed_job job;
	CHECK_OK(hither_backend_memory_create(SIZE, &memory, &err));
	struct managed *m = play_over(memory, &options);
	const uint64_t all = m->block_count, cap = CAP >> HITHER_BLOCK_SHIFT;
	pthread_mutex_lock(&m->lock);
	CHECK_EQ(hither_block_map_set(m->map, 0, all, HITHER_BLOCK_LOCAL), 0);
	m->used[0] |= 1; /* has been read of late: stays for a turn of the clock */
	m->cap_blocks = cap;
	const uint64_t holes = m->evictions;
	pthread_mutex_unlock(&m->lock);
	CHECK_EQ(claim(m, &job), MANAGED_JOB_EVICT);
	managed_run(m, &job);
	CHECK_EQ(hither_block_map_count(m->map, HITHER_BLOCK_LOCAL), cap);
	CHECK_EQ(state_of(m, 0), HITHER_BLOCK_LOCAL);
	CHECK(m->evictions - holes <= 2 * SIZE / (4 << 20));
	end_over(m);
}

/* Oldest first would leave nothing to whoever goes over more than fits, again and again. */
static uint64_t pulled_by_passes(const char *order, uint64_t all, unsigned passes,
                                 uint64_t delay_us)
{
	enum { PIECE = 32 << 10 };
	const struct hither_mount_options options = {
	        .order = order, .pull_off = true, .chunk_bytes = PIECE, .resident_bytes = all / 2};
	struct hither_error err = {0};
	struct hither_backend *memory;
	struct hither_mount *m;
	struct hither_mount_stats stats;
	static char buf[PIECE];
	CHECK_OK(hither_backend_memory_create(all, &memory, &err));
	if (delay_us)
		CHECK_OK(hither_layer_delay(memory, delay_us, &memory, &err));
	CHECK_OK(hither_mount_backend(memory, "limited", &options, &m, &err));
	for (unsigned i = 0; i < passes; i++)
		for (uint64_t at = 0; at < all; at += PIECE)
			CHECK_OK(hither_mount_read_at(m, buf, PIECE, at, &err));
	hither_mount_stats(m, &stats);
	CHECK(stats.local_bytes <= all / 2);
	CHECK_OK(hither_mount_close(m, &err));
	return stats.pulled_bytes;
}

static void what_is_passed_over_again_is_there_in_part(void)
{
	enum { ALL = 8 << 20, PASSES = 8 };
	CHECK(pulled_by_passes("none", ALL, PASSES, 0) < (uint64_t)PASSES * ALL * 19 / 20);
}

/* Any chunk that goes leaves a sixth here. */
static void half_of_it_is_there_where_the_order_tells_what_is_left_behind(void)
{
	enum { ALL = 32 << 20, PASSES = 12 };
	uint64_t pulled = pulled_by_passes("readahead", ALL, PASSES, 1000);
	fprintf(stderr, "    %.2f of each pass was pulled\n", (double)pulled / ALL / PASSES);
	CHECK(pulled < (uint64_t)PASSES * ALL * 78 / 100);
}

int main(void)
{
	RUN(what_is_passed_over_again_is_there_in_part);
	RUN(half_of_it_is_there_where_the_order_tells_what_is_left_behind);
	RUN(a_full_cache_is_not_swept_into_again);
	RUN(neighbours_are_dropped_together);
	return 0;
}
