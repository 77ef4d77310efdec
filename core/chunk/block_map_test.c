/* SPDX-License-Identifier: Apache-2.0 */
#include "chunk/block_map.h"
#include "chunk/block_map_internal.h"

#include "check.h"

#include <errno.h>
#include <string.h>

static uint64_t seed = 88172645463325252u;

static uint64_t any(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

/* Memory that runs out after `alloc_left` more allocations. */
static int alloc_left;
static void *scarce(size_t count, size_t size)
{
	return alloc_left-- > 0 ? calloc(count, size) : NULL;
}

struct model {
	uint64_t block_count;
	uint8_t *state;
};

static bool in(uint8_t state, unsigned states)
{
	return states >> state & 1;
}

static uint64_t model_run(const struct model *m, uint64_t first, uint64_t end, uint64_t max,
                          unsigned states, uint64_t *run_first)
{
	while (first < end && !in(m->state[first], states))
		first++;
	uint64_t count = 0;
	while (first + count < end && count < max && in(m->state[first + count], states))
		count++;
	if (count)
		*run_first = first;
	return count;
}

static void check_counts(const struct hither_block_map *map, const struct model *m)
{
	uint64_t count[4] = {0};
	for (uint64_t i = 0; i < m->block_count; i++) {
		count[m->state[i]]++;
		CHECK_EQ(hither_block_map_get(map, i), m->state[i]);
	}
	for (int s = 0; s < 4; s++)
		CHECK_EQ(hither_block_map_count(map, (enum hither_block_state)s), count[s]);
}

static void check_run(const struct hither_block_map *map, const struct model *m)
{
	uint64_t first = any(m->block_count + 1);
	uint64_t end = first + any(m->block_count - first + 1);
	uint64_t max = any(3) ? any(300) : UINT64_MAX;
	unsigned states = (unsigned)any(16);
	uint64_t at = 0, model_at = 0;
	uint64_t count = hither_block_map_run(map, first, end, max, states, &at);
	CHECK_EQ(count, model_run(m, first, end, max, states, &model_at));
	CHECK_EQ(at, model_at);
	uint64_t all_count = any(end - first + 1);
	uint64_t absent = 0;
	while (absent < all_count && in(m->state[first + absent], states))
		absent++;
	CHECK_EQ(hither_block_map_all(map, first, all_count, states), absent == all_count);
}

/* Mostly short runs, now and then ends that fall on leaves. */
static void any_range(uint64_t block_count, uint64_t *first, uint64_t *count)
{
	*first = any(block_count);
	*count = any(any(4) ? 100 : block_count) + 1;
	if (any(8) == 0)
		*first -= *first % HITHER_BLOCK_MAP_LEAF_BLOCKS;
	if (any(8) == 0)
		*count = HITHER_BLOCK_MAP_LEAF_BLOCKS * (1 + any(2));
	if (*count > block_count - *first)
		*count = block_count - *first;
}

static void like_an_array(uint64_t block_count, int ops)
{
	struct model m = {block_count, calloc(block_count, 1)};
	struct hither_block_map *map = hither_block_map_create(block_count);
	CHECK(map && m.state);
	hither_block_map_alloc = scarce;
	for (int i = 0; i < ops; i++) {
		uint64_t first, count;
		any_range(block_count, &first, &count);
		uint8_t state = (uint8_t)any(4);
		alloc_left = any(10) ? 2 : (int)any(2);
		int r = hither_block_map_set(map, first, count, (enum hither_block_state)state);
		CHECK(r == 0 || (r == -ENOMEM && alloc_left < 0));
		if (r == 0)
			memset(m.state + first, state, count);
		check_run(map, &m);
		if (i % (ops / 16 + 1) == 0 || (r && i % 64 == 0))
			check_counts(map, &m);
	}
	check_counts(map, &m);
	hither_block_map_alloc = calloc;
	hither_block_map_destroy(map);
	free(m.state);
}

static void random_ops_match_a_plain_array(void)
{
	like_an_array(1, 1000);
	like_an_array(31, 5000);
	like_an_array(4095, 10000);
	like_an_array(4096, 10000);
	like_an_array(4097, 10000);
	like_an_array(4096 * 2 + 33, 30000);
	like_an_array(4096 * 5 - 1, 34000);
}

static void an_empty_map_has_nothing(void)
{
	struct hither_block_map *map = hither_block_map_create(0);
	uint64_t at = 7;
	CHECK(map);
	CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_ABSENT), 0);
	CHECK_EQ(hither_block_map_set(map, 0, 0, HITHER_BLOCK_DIRTY), 0);
	CHECK(hither_block_map_all(map, 0, 0, HITHER_BLOCKS_DIRTY));
	CHECK_EQ(hither_block_map_run(map, 0, 0, 1, HITHER_BLOCKS_ABSENT, &at), 0);
	hither_block_map_destroy(map);
	hither_block_map_destroy(NULL);
}

static void runs_cross_leaves_and_are_clipped(void)
{
	const uint64_t tib_blocks = UINT64_C(1) << 28;
	struct hither_block_map *map = hither_block_map_create(tib_blocks);
	uint64_t at = 0;
	CHECK(map);
	CHECK_EQ(hither_block_map_run(map, 5, tib_blocks, UINT64_MAX, HITHER_BLOCKS_ABSENT, &at),
	         tib_blocks - 5);
	CHECK_EQ(at, 5);
	CHECK_EQ(hither_block_map_run(map, 0, tib_blocks, UINT64_MAX, HITHER_BLOCKS_PRESENT, &at),
	         0);
	CHECK_EQ(hither_block_map_set(map, 4000, 3 * 4096, HITHER_BLOCK_LOCAL), 0);
	CHECK_EQ(hither_block_map_set(map, 8000, 10, HITHER_BLOCK_DIRTY), 0);
	CHECK_EQ(hither_block_map_run(map, 0, tib_blocks, UINT64_MAX, HITHER_BLOCKS_PRESENT, &at),
	         3 * 4096);
	CHECK_EQ(at, 4000);
	CHECK_EQ(hither_block_map_run(map, 0, 5000, UINT64_MAX, HITHER_BLOCKS_PRESENT, &at), 1000);
	CHECK_EQ(hither_block_map_run(map, 0, tib_blocks, 7, HITHER_BLOCKS_PRESENT, &at), 7);
	CHECK_EQ(hither_block_map_run(map, 0, tib_blocks, 0, HITHER_BLOCKS_PRESENT, &at), 0);
	CHECK_EQ(hither_block_map_run(map, 0, tib_blocks, UINT64_MAX, HITHER_BLOCKS_DIRTY, &at),
	         10);
	CHECK_EQ(at, 8000);
	CHECK_EQ(hither_block_map_set(map, 0, tib_blocks, HITHER_BLOCK_LOCAL), 0);
	CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_LOCAL), tib_blocks);
	hither_block_map_destroy(map);
}

static void without_memory_nothing_changes(void)
{
	struct hither_block_map *map = hither_block_map_create(3 * 4096);
	CHECK(map);
	hither_block_map_alloc = scarce;
	for (int left = 0; left < 2; left++) {
		alloc_left = left;
		CHECK_EQ(hither_block_map_set(map, 1, 3 * 4096 - 2, HITHER_BLOCK_DIRTY), -ENOMEM);
		CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_ABSENT), 3 * 4096);
		CHECK(hither_block_map_all(map, 0, 3 * 4096, HITHER_BLOCKS_ABSENT));
	}
	alloc_left = 0; /* whole leaves, and what is so already, need none */
	CHECK_EQ(hither_block_map_set(map, 0, 2 * 4096, HITHER_BLOCK_DIRTY), 0);
	CHECK_EQ(hither_block_map_set(map, 5, 4096, HITHER_BLOCK_DIRTY), 0);
	alloc_left = 0;
	CHECK(!hither_block_map_create(1));
	hither_block_map_alloc = calloc;
	hither_block_map_destroy(map);
}

int main(void)
{
	RUN(random_ops_match_a_plain_array);
	RUN(an_empty_map_has_nothing);
	RUN(runs_cross_leaves_and_are_clipped);
	RUN(without_memory_nothing_changes);
	return 0;
}
