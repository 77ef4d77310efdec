/* SPDX-License-Identifier: Apache-2.0 */
#include "order/seen.h"

#include <errno.h>
#include <stdlib.h>

#define LEAF_PAGES (UINT64_C(1) << 15)

struct seen_leaf {
	uint32_t left; /* pages not marked */
	uint64_t words[LEAF_PAGES / 64];
};

static struct seen_leaf full; /* stands for any leaf without a page left; never written */

int seen_init(struct seen *s, uint64_t size_bytes)
{
	uint64_t leaf_bytes = LEAF_PAGES * SEEN_PAGE;
	s->leaf_count = size_bytes / leaf_bytes + !!(size_bytes % leaf_bytes);
	s->leaves = calloc(s->leaf_count ? s->leaf_count : 1, sizeof(struct seen_leaf *));
	return s->leaves ? 0 : -ENOMEM;
}

void seen_finish(struct seen *s)
{
	for (uint64_t i = 0; s->leaves && i < s->leaf_count; i++) {
		if (s->leaves[i] != &full)
			free(s->leaves[i]);
	}
	free(s->leaves);
	*s = (struct seen){0};
}

bool seen_has(const struct seen *s, uint64_t page)
{
	const struct seen_leaf *leaf = s->leaves[page / LEAF_PAGES];
	return leaf == &full || (leaf && leaf->words[page % LEAF_PAGES / 64] >> (page % 64) & 1);
}

bool seen_mark(struct seen *s, uint64_t page)
{
	struct seen_leaf **slot = &s->leaves[page / LEAF_PAGES];
	if (*slot == &full)
		return false;
	if (!*slot) {
		*slot = calloc(1, sizeof **slot);
		if (!*slot)
			return true;
		(*slot)->left = LEAF_PAGES;
	}
	uint64_t *word = &(*slot)->words[page % LEAF_PAGES / 64], bit = UINT64_C(1) << (page % 64);
	if (*word & bit)
		return false;
	*word |= bit;
	if (--(*slot)->left == 0) {
		free(*slot);
		*slot = &full;
	}
	return true;
}
