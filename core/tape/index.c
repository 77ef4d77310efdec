/* SPDX-License-Identifier: Apache-2.0 */
#include "tape/index.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * A piece: the block of the page where it begins, 12 bits; lost, 1 bit; place + 1, or 0 for a hole,
 * 51 bits. It goes up to the next one; the first begins at block 0 of the page. From block to block
 * a place grows by one; what is lost has that of its record all through.
 */
enum { PLACE_BITS = 51, FIRST_SHIFT = 52 };
#define LOST (UINT64_C(1) << PLACE_BITS)
#define VALUE_MASK (LOST | (LOST - 1))

struct tape_index_page {
	uint32_t count, room;
	uint64_t pieces[];
};

static uint32_t first_of(uint64_t piece)
{
	return (uint32_t)(piece >> FIRST_SHIFT);
}

/* What a block has that comes `ahead` blocks behind one with this value. */
static uint64_t advance(uint64_t value, uint64_t ahead)
{
	return !value || value & LOST ? value : value + ahead;
}

static uint64_t page_count(const struct tape_index *x)
{
	return (x->block_count + TAPE_INDEX_PAGE - 1) / TAPE_INDEX_PAGE;
}

int tape_index_init(struct tape_index *x, uint64_t block_count)
{
	*x = (struct tape_index){.block_count = block_count};
	x->pages = calloc(page_count(x) ? page_count(x) : 1, sizeof(struct tape_index_page *));
	pthread_mutex_init(&x->lock, NULL);
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
	if (x->pages)
		pthread_mutex_destroy(&x->lock);
	free((void *)x->pages);
	x->pages = NULL;
}

/* The piece that has block `at` of the page. */
static uint32_t find(const struct tape_index_page *p, uint32_t at)
{
	uint32_t low = 0, high = p->count;
	while (high - low > 1) {
		uint32_t middle = (low + high) / 2;
		if (first_of(p->pieces[middle]) <= at)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static uint32_t end_of(const struct tape_index_page *p, uint32_t i)
{
	return i + 1 < p->count ? first_of(p->pieces[i + 1]) : TAPE_INDEX_PAGE;
}

static uint64_t value_at(const struct tape_index_page *p, uint32_t at)
{
	uint64_t piece = p->pieces[find(p, at)];
	return advance(piece & VALUE_MASK, at - first_of(piece));
}

static uint32_t live_between(const struct tape_index_page *p, uint32_t at, uint32_t end)
{
	uint32_t sum = 0;
	for (uint32_t i = find(p, at); i < p->count && first_of(p->pieces[i]) < end; i++) {
		uint32_t from = first_of(p->pieces[i]), to = end_of(p, i);
		if (p->pieces[i] & VALUE_MASK)
			sum += (to < end ? to : end) - (from > at ? from : at);
	}
	return sum;
}

static int reserve(struct tape_index_page **page, uint32_t count)
{
	struct tape_index_page *p = *page;
	uint32_t room = p ? p->room : 0;
	if (count <= room)
		return 0;
	room = 2 * room > count ? 2 * room : count + 2;
	struct tape_index_page *grown = realloc(p, sizeof *p + room * sizeof *p->pieces);
	if (!grown)
		return -ENOMEM;
	if (!p) {
		grown->count = 1;
		grown->pieces[0] = 0; /* one hole */
	}
	grown->room = room;
	*page = grown;
	return 0;
}

/* Blocks [at, end) of a page get value and what follows from it. */
static int put(struct tape_index *x, uint64_t number, uint32_t at, uint32_t end, uint64_t value)
{
	struct tape_index_page **page = &x->pages[number];
	if (reserve(page, (*page ? (*page)->count : 1) + 2))
		return -ENOMEM;
	struct tape_index_page *p = *page;
	uint64_t add[2], behind = end < TAPE_INDEX_PAGE ? value_at(p, end) : 0;
	uint32_t count = 0, from = find(p, at), to = from;
	x->live += value ? end - at : 0;
	x->live -= live_between(p, at, end);
	if (first_of(p->pieces[from]) < at)
		from++;
	while (to < p->count && first_of(p->pieces[to]) <= end)
		to++;
	if (to < from)
		to = from;
	if (!from ||
	    advance(p->pieces[from - 1] & VALUE_MASK, at - first_of(p->pieces[from - 1])) != value)
		add[count++] = (uint64_t)at << FIRST_SHIFT | value;
	if (end < TAPE_INDEX_PAGE && behind != advance(value, end - at))
		add[count++] = (uint64_t)end << FIRST_SHIFT | behind;
	memmove(p->pieces + from + count, p->pieces + to, (p->count - to) * sizeof *p->pieces);
	memcpy(p->pieces + from, add, count * sizeof *add);
	p->count += count;
	p->count -= to - from;
	return 0;
}

int tape_index_put(struct tape_index *x, const struct tape_run *run)
{
	HITHER_LOCK_SCOPE(&x->lock);
	uint64_t value = (run->place + 1) | (run->lost ? LOST : 0), done = 0;
	while (done < run->count) {
		uint64_t block = run->block + done;
		uint32_t at = block % TAPE_INDEX_PAGE, n = TAPE_INDEX_PAGE - at;
		if (n > run->count - done)
			n = (uint32_t)(run->count - done);
		if (put(x, block / TAPE_INDEX_PAGE, at, at + n, advance(value, done)))
			return -ENOMEM;
		done += n;
	}
	return 0;
}

int tape_index_drop(struct tape_index *x, uint64_t block, uint64_t count)
{
	HITHER_LOCK_SCOPE(&x->lock);
	for (uint64_t n; count; block += n, count -= n) {
		uint32_t at = block % TAPE_INDEX_PAGE;
		n = TAPE_INDEX_PAGE - at < count ? TAPE_INDEX_PAGE - at : count;
		if (x->pages[block / TAPE_INDEX_PAGE] &&
		    put(x, block / TAPE_INDEX_PAGE, at, at + (uint32_t)n, 0))
			return -ENOMEM;
	}
	return 0;
}

/* The run from `block` on, which is no hole, over the ends of pages. */
static void follow_locked(const struct tape_index *x, uint64_t block, struct tape_run *out)
{
	const struct tape_index_page *p = x->pages[block / TAPE_INDEX_PAGE];
	uint32_t at = block % TAPE_INDEX_PAGE, i = find(p, at);
	uint64_t value = advance(p->pieces[i] & VALUE_MASK, at - first_of(p->pieces[i]));
	uint64_t count = end_of(p, i) - at;
	while ((block + count) % TAPE_INDEX_PAGE == 0 && block + count < x->block_count &&
	       (p = x->pages[(block + count) / TAPE_INDEX_PAGE]) &&
	       p->pieces[0] == advance(value, count) && count < UINT32_MAX - TAPE_INDEX_PAGE)
		count += end_of(p, 0);
	if (count > x->block_count - block)
		count = x->block_count - block;
	*out = (struct tape_run){.block = block,
	                         .place = (value & ~LOST) - 1,
	                         .count = (uint32_t)count,
	                         .lost = value & LOST};
}

/* From `block` on: where what is of one kind ends. */
static uint64_t kind_end_locked(const struct tape_index *x, uint64_t block, bool *hole)
{
	const struct tape_index_page *p = x->pages[block / TAPE_INDEX_PAGE];
	*hole = true;
	if (!p)
		return (block / TAPE_INDEX_PAGE + 1) * TAPE_INDEX_PAGE;
	uint32_t i = find(p, block % TAPE_INDEX_PAGE);
	*hole = !(p->pieces[i] & VALUE_MASK);
	return block - block % TAPE_INDEX_PAGE + end_of(p, i);
}

bool tape_index_get(struct tape_index *x, uint64_t block, struct tape_run *out)
{
	HITHER_LOCK_SCOPE(&x->lock);
	bool hole;
	kind_end_locked(x, block, &hole);
	if (!hole)
		follow_locked(x, block, out);
	return !hole;
}

bool tape_index_run(struct tape_index *x, uint64_t *block, struct tape_run *out)
{
	HITHER_LOCK_SCOPE(&x->lock);
	bool hole;
	for (uint64_t b = *block; b < x->block_count;) {
		uint64_t end = kind_end_locked(x, b, &hole);
		if (!hole) {
			follow_locked(x, b, out);
			*block = b + out->count;
			return true;
		}
		b = end;
	}
	return false;
}

uint64_t tape_index_extent(struct tape_index *x, uint64_t block, uint64_t max, bool *hole)
{
	HITHER_LOCK_SCOPE(&x->lock);
	uint64_t at = kind_end_locked(x, block, hole);
	bool same = *hole;
	while (at < block + max && at < x->block_count) {
		uint64_t end = kind_end_locked(x, at, &same);
		if (same != *hole)
			break;
		at = end;
	}
	return at - block < max ? at - block : max;
}
