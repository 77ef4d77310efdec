/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests only. */
#ifndef HITHER_CHUNK_BLOCK_MAP_INTERNAL_H
#define HITHER_CHUNK_BLOCK_MAP_INTERNAL_H

#include <stddef.h>

enum { HITHER_BLOCK_MAP_LEAF_BLOCKS = 4096 };

/* Where leaves come from: calloc, unless a test lets memory run out. Not for use beside other
 * threads. */
extern void *(*hither_block_map_alloc)(size_t count, size_t size);

#endif
