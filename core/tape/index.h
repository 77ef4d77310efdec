/* SPDX-License-Identifier: Apache-2.0 */
/* Where each block's newest version is, in memory: pages made as needed. */
#ifndef HITHER_TAPE_INDEX_H
#define HITHER_TAPE_INDEX_H

#include "tape/record.h"

struct tape_index {
	uint64_t block_count, live; /* live: blocks that are not holes */
	uint64_t **pages;
};
enum { TAPE_INDEX_PAGE = 4096, TAPE_INDEX_LOST = UINT16_MAX };

int tape_index_init(struct tape_index *x, uint64_t block_count);
void tape_index_finish(struct tape_index *x);
/* Forget all. */
void tape_index_clear(struct tape_index *x);
/* index TAPE_INDEX_LOST: the newest version was in `record`, which cannot be read. -ENOMEM. */
int tape_index_set(struct tape_index *x, uint64_t block, uint64_t record, uint32_t index);
/* False: a hole. */
bool tape_index_get(const struct tape_index *x, uint64_t block, uint64_t *record, uint32_t *index);
/* The next run at or behind *block, which moves behind it; false: none. */
bool tape_index_run(const struct tape_index *x, uint64_t *block, struct tape_run *out);

#endif
