/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block map: one state for each 4 KiB block of a mount, in two bits, in leaves that are
 * allocated only where neighbouring blocks differ. A uniform stretch of any size costs nothing, so
 * that a map of 1 TiB starts at half a mebibyte. No locks: the mount's guard it.
 */
#ifndef HITHER_CHUNK_BLOCK_MAP_H
#define HITHER_CHUNK_BLOCK_MAP_H

#include <hither/error.h>
#include <stdbool.h>
#include <stdint.h>

#define HITHER_BLOCK_BYTES 4096u
#define HITHER_BLOCK_SHIFT 12

enum hither_block_state {
	HITHER_BLOCK_ABSENT = 0, /* only the backend has it */
	HITHER_BLOCK_LOCAL = 1,  /* the local store's copy equals the backend's */
	HITHER_BLOCK_DIRTY = 2,  /* the local store's copy is newer */
	HITHER_BLOCK_PUSHED =
	        3, /* as DIRTY, but sent to the backend since: clean once that has flushed */
};
enum { /* sets of states, for hither_block_map_run */
       HITHER_BLOCKS_ABSENT = 1u << HITHER_BLOCK_ABSENT,
       HITHER_BLOCKS_LOCAL = 1u << HITHER_BLOCK_LOCAL,
       HITHER_BLOCKS_DIRTY = 1u << HITHER_BLOCK_DIRTY,
       HITHER_BLOCKS_PUSHED = 1u << HITHER_BLOCK_PUSHED,
       HITHER_BLOCKS_PRESENT = HITHER_BLOCKS_LOCAL | HITHER_BLOCKS_DIRTY | HITHER_BLOCKS_PUSHED,
};

struct hither_block_map; /* opaque */

/* All absent. NULL: no memory. block_count may be 0. */
struct hither_block_map *hither_block_map_create(uint64_t block_count);
void hither_block_map_destroy(struct hither_block_map *map); /* NULL is fine */

uint64_t hither_block_map_count(const struct hither_block_map *map,
                                enum hither_block_state state); /* O(1) */
enum hither_block_state hither_block_map_get(const struct hither_block_map *map, uint64_t block);
/*
 * Set blocks [first, first + count). -ENOMEM: nothing was changed (a leaf could not be allocated).
 * Leaves that become uniform are freed.
 */
int hither_block_map_set(struct hither_block_map *map, uint64_t first, uint64_t count,
                         enum hither_block_state state);
/* Are all of [first, first + count) in one of `states` (HITHER_BLOCKS_*)? True for count 0. */
bool hither_block_map_all(const struct hither_block_map *map, uint64_t first, uint64_t count,
                          unsigned states);
/*
 * The first run of blocks within [first, end) whose states are in `states`: its start in *run_first
 * and its length (at most max, clipped to end) as the result; 0: there is none. Skips uniform
 * leaves whole.
 */
uint64_t hither_block_map_run(const struct hither_block_map *map, uint64_t first, uint64_t end,
                              uint64_t max, unsigned states, uint64_t *run_first);

#endif
