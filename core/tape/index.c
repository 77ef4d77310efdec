/* SPDX-License-Identifier: Apache-2.0 */
#include "tape/index.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t page_count(const struct tape_index *x)
{
	return (x->block_count + TAPE_INDEX_PAGE - 1) / TAPE_INDEX_PAGE;
}

int tape_index_init(struct tape_index *x, uint64_t block_count)
{
	*x = (struct tape_index){.block_count = block_count};
	x->pages = calloc(page_count(x) ? page_count(x) : 1, sizeof *x->pages);
	return x->pages ? 0 : -ENOMEM;
}

void tape_index_clear(struct tape_index *x)
{
	for (uint64_t i = 0; x->pages && i < page_count(x); i++) {
		free(x->pages[i]);
		x->pages[i] = NULL;
	}
	x->live = 0;
}

void tape_index_finish(struct tape_index *x)
{
	tape_index_clear(x);
	free(x->pages);
}

int tape_index_set(struct tape_index *x, uint64_t block, uint64_t record, uint32_t index)
{
	uint64_t **page = &x->pages[block / TAPE_INDEX_PAGE];
	if (!*page)
		*page = calloc(TAPE_INDEX_PAGE, sizeof **page);
	if (!*page)
		return -ENOMEM;
	uint64_t *entry = &(*page)[block % TAPE_INDEX_PAGE];
	x->live += !*entry;
	*entry = (record + 1) << 16 | index; /* 0: a hole */
	return 0;
}

bool tape_index_get(const struct tape_index *x, uint64_t block, uint64_t *record, uint32_t *index)
{
	const uint64_t *page = x->pages[block / TAPE_INDEX_PAGE];
	uint64_t entry = page ? page[block % TAPE_INDEX_PAGE] : 0;
	if (!entry)
		return false;
	*record = (entry >> 16) - 1;
	*index = entry & 0xffff;
	return true;
}

static bool follows(const struct tape_index *x, const struct tape_run *run)
{
	uint64_t record;
	uint32_t index;
	return run->block + run->count < x->block_count &&
	       tape_index_get(x, run->block + run->count, &record, &index) &&
	       record == run->record &&
	       index == (run->index == TAPE_INDEX_LOST ? run->index : run->index + run->count);
}

bool tape_index_run(const struct tape_index *x, uint64_t *block, struct tape_run *out)
{
	for (uint64_t b = *block; b < x->block_count;) {
		*out = (struct tape_run){.block = b, .count = 1};
		if (!x->pages[b / TAPE_INDEX_PAGE]) {
			b = (b / TAPE_INDEX_PAGE + 1) * TAPE_INDEX_PAGE;
			continue;
		}
		if (!tape_index_get(x, b++, &out->record, &out->index))
			continue;
		while (follows(x, out))
			out->count++;
		*block = out->block + out->count;
		return true;
	}
	return false;
}
