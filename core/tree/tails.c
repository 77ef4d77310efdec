/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ends of large files. Archives (ZIP and what is one: pk3, jar; WAD, RPA and others) have their
 * directory there, and games begin by reading all of them, one after another, each in a few steps:
 * over a long way these round trips are seconds, and the bytes of all together less than one.
 */
#include "tree/tree_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	LARGE_CHUNKS = 8, /* smaller files come nearly whole by what lies around a read */
	PART = 256,       /* directories of games' archives are at most half a percent of them */
	TAIL_LEAST = 64 << 10,
	TAIL_MOST = 256 << 10,
	ALL_MOST = 4 << 20,
};

static uint64_t tail_bytes(const struct hither_tree *t, uint64_t size)
{
	uint64_t tail = size / PART;
	tail = tail < TAIL_LEAST ? TAIL_LEAST : tail > TAIL_MOST ? TAIL_MOST : tail;
	/* In whole pieces, which the last one need not be. */
	return tail + (size - tail) % t->chunk_bytes;
}

int tree_add_tails(const struct hither_tree *t, const struct hither_range *asked, size_t count,
                   struct hither_range **out, size_t *out_count)
{
	size_t room = count + t->file_count, n = count;
	struct hither_range *ranges = malloc((room ? room : 1) * sizeof *ranges);
	uint64_t left = ALL_MOST;
	if (!ranges)
		return -ENOMEM;
	if (count)
		memcpy(ranges, asked, count * sizeof *ranges);
	for (uint32_t i = 0; i < t->file_count; i++) {
		const struct hither_tree_node *f = &t->nodes[t->by_offset[i]];
		if (f->size / LARGE_CHUNKS < t->chunk_bytes)
			continue;
		uint64_t tail = tail_bytes(t, f->size);
		if (tail > left)
			break;
		left -= tail;
		ranges[n++] = (struct hither_range){f->offset + f->size - tail, tail};
	}
	*out = ranges;
	*out_count = n;
	return 0;
}
