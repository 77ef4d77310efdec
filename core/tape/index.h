/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where each block's newest version is, in memory: pages of 4096 blocks, each a sorted row of
 * pieces. What was written in one stream is one piece a page, however many records it took, since a
 * place is counted in blocks of full records: record * TAPE_RECORD_BLOCKS + index. Any thread.
 */
#ifndef HITHER_TAPE_INDEX_H
#define HITHER_TAPE_INDEX_H

#include "tape/record.h"

#include <pthread.h>

struct tape_index_page;

struct tape_index {
	uint64_t block_count;
	uint64_t live;        /* blocks that are not holes */
	pthread_mutex_t lock; /* guards all but block_count */
	struct tape_index_page **pages;
};
enum { TAPE_INDEX_PAGE = 4096 };

int tape_index_init(struct tape_index *x, uint64_t block_count);
/* Also of one that is all zeros. */
void tape_index_finish(struct tape_index *x);
/* Forget all. */
void tape_index_clear(struct tape_index *x);
/* Put a run into the index, over what was there. -ENOMEM: not all of it. */
int tape_index_put(struct tape_index *x, const struct tape_run *run);
/* These are holes. -ENOMEM: not all of them. */
int tape_index_drop(struct tape_index *x, uint64_t block, uint64_t count);
/* The rest of the run that has this block. False: a hole. */
bool tape_index_get(struct tape_index *x, uint64_t block, struct tape_run *out);
/* The next run at or behind *block, which moves behind it; false: none. */
bool tape_index_run(struct tape_index *x, uint64_t *block, struct tape_run *out);
/* How many blocks from `block` on, at most max, are holes, or are not. */
uint64_t tape_index_extent(struct tape_index *x, uint64_t block, uint64_t max, bool *hole);

#endif
