/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One entry of 8 bytes for each leaf of 4096 blocks (16 MiB):
 *
 *     entries   | 0 | 0 | 1 | * | 0 | 2 | ...      0 to 3: all blocks of the leaf are in this
 * state
 *                             |
 *                             +-> leaf: 128 words of 32 blocks, two bits each, block 0 lowest
 *
 * All zeros is a valid empty map, so calloc() makes one of any size without touching its pages.
 */
#include "chunk/block_map.h"

#include "base/cleanup.h"
#include "chunk/block_map_internal.h"

#include <assert.h>
#include <errno.h>

enum {
	LEAF_BLOCKS = HITHER_BLOCK_MAP_LEAF_BLOCKS,
	WORD_BLOCKS = 32,
	LEAF_WORDS = LEAF_BLOCKS / WORD_BLOCKS,
	STATES = 4,
	ALL_STATES = (1u << STATES) - 1,
};
#define LOW_BITS UINT64_C(0x5555555555555555) /* the lower bit of each block's two */

struct leaf {
	uint16_t count[STATES]; /* blocks in each state; the sum is the leaf's size */
	uint64_t words[LEAF_WORDS];
};

struct hither_block_map {
	uint64_t block_count;
	uint64_t leaf_count;
	uint64_t count[STATES];
	uintptr_t entries[]; /* a state, or a struct leaf * */
};

void *(*hither_block_map_alloc)(size_t count, size_t size) = calloc;

struct hither_block_map *hither_block_map_create(uint64_t block_count)
{
	uint64_t leaf_count = block_count / LEAF_BLOCKS + (block_count % LEAF_BLOCKS != 0);
	if (leaf_count > (SIZE_MAX - sizeof(struct hither_block_map)) / sizeof(uintptr_t))
		return NULL;
	struct hither_block_map *map = hither_block_map_alloc(
	        1, sizeof *map + (size_t)leaf_count * sizeof map->entries[0]);
	if (!map)
		return NULL;
	map->block_count = block_count;
	map->leaf_count = leaf_count;
	map->count[HITHER_BLOCK_ABSENT] = block_count;
	return map;
}

static bool is_uniform(uintptr_t entry)
{
	return entry < STATES;
}

static struct leaf *leaf_of(uintptr_t entry)
{
	return (struct leaf *)entry;
}

void hither_block_map_destroy(struct hither_block_map *map)
{
	if (!map)
		return;
	for (uint64_t i = 0; i < map->leaf_count; i++)
		if (!is_uniform(map->entries[i]))
			free(leaf_of(map->entries[i]));
	free(map);
}

uint64_t hither_block_map_count(const struct hither_block_map *map, enum hither_block_state state)
{
	return map->count[state];
}

static unsigned leaf_size(const struct hither_block_map *map, uint64_t index)
{
	uint64_t left = map->block_count - index * LEAF_BLOCKS;
	return left < LEAF_BLOCKS ? (unsigned)left : LEAF_BLOCKS;
}

enum hither_block_state hither_block_map_get(const struct hither_block_map *map, uint64_t block)
{
	assert(block < map->block_count);
	uintptr_t entry = map->entries[block / LEAF_BLOCKS];
	if (is_uniform(entry))
		return (enum hither_block_state)entry;
	unsigned at = block % LEAF_BLOCKS;
	return (enum hither_block_state)(
	        leaf_of(entry)->words[at / WORD_BLOCKS] >> at % WORD_BLOCKS * 2 & 3);
}

/* The bits of blocks [from, to) of a word, 0 <= from < to <= 32. */
static uint64_t lanes(unsigned from, unsigned to)
{
	return ~UINT64_C(0) >> (64 - 2 * (to - from)) << 2 * from;
}

static struct leaf *make_leaf(unsigned size, enum hither_block_state state)
{
	struct leaf *leaf = hither_block_map_alloc(1, sizeof *leaf);
	if (!leaf)
		return NULL;
	for (unsigned i = 0; i < LEAF_WORDS; i++)
		leaf->words[i] = LOW_BITS * state;
	leaf->count[state] = (uint16_t)size;
	return leaf;
}

/* Blocks [from, to) of one word; counts follow. */
static void set_in_word(struct hither_block_map *map, struct leaf *leaf, unsigned word,
                        unsigned from, unsigned to, enum hither_block_state state)
{
	uint64_t mask = lanes(from, to);
	uint64_t low = leaf->words[word] & mask & LOW_BITS;
	uint64_t high = leaf->words[word] >> 1 & mask & LOW_BITS;
	unsigned was[STATES];
	was[HITHER_BLOCK_LOCAL] = (unsigned)__builtin_popcountll(low & ~high);
	was[HITHER_BLOCK_DIRTY] = (unsigned)__builtin_popcountll(high & ~low);
	was[HITHER_BLOCK_PUSHED] = (unsigned)__builtin_popcountll(high & low);
	was[HITHER_BLOCK_ABSENT] = to - from - (unsigned)__builtin_popcountll(high | low);
	for (unsigned i = 0; i < STATES; i++) {
		leaf->count[i] = (uint16_t)(leaf->count[i] - was[i]);
		map->count[i] -= was[i];
	}
	leaf->count[state] = (uint16_t)(leaf->count[state] + (to - from));
	map->count[state] += to - from;
	leaf->words[word] = (leaf->words[word] & ~mask) | (LOW_BITS * state & mask);
}

static void set_whole_leaf(struct hither_block_map *map, uint64_t index,
                           enum hither_block_state state)
{
	unsigned size = leaf_size(map, index);
	uintptr_t entry = map->entries[index];
	if (is_uniform(entry)) {
		map->count[entry] -= size;
	} else {
		for (unsigned i = 0; i < STATES; i++)
			map->count[i] -= leaf_of(entry)->count[i];
		free(leaf_of(entry));
	}
	map->count[state] += size;
	map->entries[index] = state;
}

/* Blocks [from, to) of a leaf that has its words, but not all of the leaf. */
static void set_in_leaf(struct hither_block_map *map, uint64_t index, unsigned from, unsigned to,
                        enum hither_block_state state)
{
	struct leaf *leaf = leaf_of(map->entries[index]);
	while (from < to) {
		unsigned start = from % WORD_BLOCKS;
		unsigned stop = to - from < WORD_BLOCKS - start ? start + (to - from) : WORD_BLOCKS;
		set_in_word(map, leaf, from / WORD_BLOCKS, start, stop, state);
		from += stop - start;
	}
	if (leaf->count[state] == leaf_size(map, index)) {
		map->entries[index] = state;
		free(leaf);
	}
}

/* The part of [first, end) in leaf `index`, relative to it. True: that is the whole leaf. */
static bool part_of_leaf(const struct hither_block_map *map, uint64_t index, uint64_t first,
                         uint64_t end, unsigned *from, unsigned *to)
{
	uint64_t base = index * LEAF_BLOCKS;
	unsigned size = leaf_size(map, index);
	*from = first > base ? (unsigned)(first - base) : 0;
	*to = end - base < size ? (unsigned)(end - base) : size;
	return *from == 0 && *to == size;
}

/* Give the leaf its words if setting [first, end) to state will need them. 0 or -ENOMEM. */
static int split_leaf(struct hither_block_map *map, uint64_t index, uint64_t first, uint64_t end,
                      enum hither_block_state state)
{
	unsigned from, to;
	uintptr_t entry = map->entries[index];
	if (part_of_leaf(map, index, first, end, &from, &to) || !is_uniform(entry) ||
	    entry == state)
		return 0;
	struct leaf *leaf = make_leaf(leaf_size(map, index), (enum hither_block_state)entry);
	if (!leaf)
		return -ENOMEM;
	map->entries[index] = (uintptr_t)leaf;
	return 0;
}

/* A leaf that was split for nothing goes back to being uniform. */
static void unsplit_leaf(struct hither_block_map *map, uint64_t index)
{
	uintptr_t entry = map->entries[index];
	if (is_uniform(entry))
		return;
	for (unsigned i = 0; i < STATES; i++) {
		if (leaf_of(entry)->count[i] == leaf_size(map, index)) {
			free(leaf_of(entry));
			map->entries[index] = i;
			return;
		}
	}
}

int hither_block_map_set(struct hither_block_map *map, uint64_t first, uint64_t count,
                         enum hither_block_state state)
{
	assert(first <= map->block_count && count <= map->block_count - first);
	assert((unsigned)state < STATES);
	if (count == 0)
		return 0;
	uint64_t end = first + count;
	uint64_t head = first / LEAF_BLOCKS, tail = (end - 1) / LEAF_BLOCKS;
	/* Only the outermost leaves can be covered in part, so only they can need memory. */
	if (split_leaf(map, head, first, end, state) < 0)
		return -ENOMEM;
	if (split_leaf(map, tail, first, end, state) < 0) {
		unsplit_leaf(map, head);
		return -ENOMEM;
	}
	for (uint64_t i = head; i <= tail; i++) {
		unsigned from, to;
		if (map->entries[i] == state)
			continue;
		if (part_of_leaf(map, i, first, end, &from, &to))
			set_whole_leaf(map, i, state);
		else
			set_in_leaf(map, i, from, to, state);
	}
	return 0;
}

/* The lower bits of those blocks of a word that are in one of `states`. */
static uint64_t matches(uint64_t word, unsigned states)
{
	uint64_t found = 0;
	if (states & HITHER_BLOCKS_ABSENT)
		found |= ~(word | word >> 1);
	if (states & HITHER_BLOCKS_LOCAL)
		found |= word & ~(word >> 1);
	if (states & HITHER_BLOCKS_DIRTY)
		found |= ~word & word >> 1;
	if (states & HITHER_BLOCKS_PUSHED)
		found |= word & word >> 1;
	return found & LOW_BITS;
}

/* The first block of [from, to) of a leaf in one of `states`, or to. */
static unsigned find_in_leaf(const struct leaf *leaf, unsigned from, unsigned to, unsigned states)
{
	while (from < to) {
		uint64_t found =
		        matches(leaf->words[from / WORD_BLOCKS], states) >> from % WORD_BLOCKS * 2;
		if (found) {
			from += (unsigned)__builtin_ctzll(found) / 2;
			return from < to ? from : to;
		}
		from = (from / WORD_BLOCKS + 1) * WORD_BLOCKS;
	}
	return to;
}

/* The first block of [first, end) in one of `states`, or end. */
static uint64_t find(const struct hither_block_map *map, uint64_t first, uint64_t end,
                     unsigned states)
{
	assert(first <= end && end <= map->block_count);
	uint64_t known = 0;
	for (unsigned i = 0; i < STATES; i++)
		if (states & 1u << i)
			known += map->count[i];
	if (known == 0)
		return end;
	while (first < end) {
		uint64_t index = first / LEAF_BLOCKS;
		uint64_t base = index * LEAF_BLOCKS;
		uintptr_t entry = map->entries[index];
		unsigned to = end - base < LEAF_BLOCKS ? (unsigned)(end - base) : LEAF_BLOCKS;
		if (is_uniform(entry)) {
			if (states & 1u << entry)
				return first;
		} else {
			unsigned at =
			        find_in_leaf(leaf_of(entry), (unsigned)(first - base), to, states);
			if (at < to)
				return base + at;
		}
		first = base + to;
	}
	return end;
}

bool hither_block_map_all(const struct hither_block_map *map, uint64_t first, uint64_t count,
                          unsigned states)
{
	assert(first <= map->block_count && count <= map->block_count - first);
	return find(map, first, first + count, ~states & ALL_STATES) == first + count;
}

uint64_t hither_block_map_run(const struct hither_block_map *map, uint64_t first, uint64_t end,
                              uint64_t max, unsigned states, uint64_t *run_first)
{
	uint64_t start = find(map, first, end, states & ALL_STATES);
	if (start == end || max == 0)
		return 0;
	uint64_t limit = max < end - start ? start + max : end;
	*run_first = start;
	return find(map, start, limit, ~states & ALL_STATES) - start;
}
