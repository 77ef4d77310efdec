/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NAME_idx, of rows (segment, term, block): it is small beside the blocks, and taken whole. A block
 * that is read then tells between which two terms the one that is looked for lies, and _idx where
 * the other segments have these: all are asked for at once, in a wave.
 */
#include "order/sqlite_fts.h"

#include <stdlib.h>
#include <string.h>

enum {
	IDX_MOST_BYTES = 1 << 20,
	ENTRIES_MOST = 1 << 16,
	SEGMENT_SHIFT = 37, /* FTS5_DATA_PAGE_B + FTS5_DATA_HEIGHT_B + FTS5_DATA_DLI_B */
	DLIDX_SHIFT = 36,   /* the bit below: FTS5_DLIDX_ROWID; its lowest level has height 0 */
	SEGMENT_MOST_BLOCKS = 16, /* of one wave; a segment that has more is left for later */
	LONG_LIST_BLOCKS = 8,     /* of a list with an index of its own, with its first */
	/* Blocks ahead of a reader who goes on along a list: first so many, then four times that.
	 */
	CONTINUED = 24,
};

static int64_t segment_of(int64_t block)
{
	return block >> SEGMENT_SHIFT;
}

bool fts_is_dlidx(int64_t id)
{
	return id >> DLIDX_SHIFT & 1;
}

int fts_term_compare(const struct fts_term *a, const struct fts_term *b)
{
	int d = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);
	return d ? d : (int)a->len - (int)b->len;
}

bool fts_wave_has(const struct fts_wave *w, const struct fts_term *term)
{
	return fts_term_compare(term, &w->low) >= 0 &&
	       (w->open || fts_term_compare(term, &w->high) < 0);
}

void fts_idx_take(struct sq_order *o, struct sq_fts *f)
{
	struct sq_page p;
	uint32_t root = o->trees[f->idx].root;
	if (f->idx_asked || f->idx_dead || !sq_get(o, o->other, root, &p))
		return;
	uint32_t count = sq_page_is_interior(&p) ? p.count + 1 : 1;
	f->idx_dead = count > FTS_IDX_PAGES ||
	              (uint64_t)count * o->shape.page_bytes > IDX_MOST_BYTES ||
	              !(f->idx_pages = malloc(FTS_IDX_PAGES * sizeof *f->idx_pages));
	f->idx_asked = !f->idx_dead;
	if (f->idx_dead)
		return;
	sq_map_children(o, root, &p, f->idx);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t page = sq_page_is_interior(&p) ? sq_page_child(&p, i) : root;
		f->idx_pages[f->idx_count++] = page;
		f->idx_dead = f->idx_dead || !sq_is_page(o, page);
		sq_want(o, page);
	}
}

static bool add_first(struct sq_fts *f, int64_t segment, uint32_t first)
{
	struct fts_entry *e = &f->entries[f->entry_count];
	*e = (struct fts_entry){.block = segment * (INT64_C(1) << SEGMENT_SHIFT) + first};
	f->entry_count += !f->entry_count || e[-1].block != e->block;
	return true;
}

static bool add_entry(struct sq_fts *f, const struct sq_cell *c)
{
	struct sq_value segment, term, block;
	int64_t s, b;
	if (f->entry_count == ENTRIES_MOST || !sq_cell_value(c, 0, &segment) ||
	    !sq_value_int(&segment, &s) || !sq_cell_value(c, 1, &term) ||
	    !sq_cell_value(c, 2, &block) || !sq_value_int(&block, &b) || s < 0 || s > UINT16_MAX ||
	    b < 0 || b > INT32_MAX)
		return false;
	const struct fts_segment *known = fts_segment_of(f, (uint32_t)s);
	if (f->segments && !known)
		return true; /* it is no more */
	struct fts_entry *e = &f->entries[f->entry_count];
	*e = (struct fts_entry){.block = s * (INT64_C(1) << SEGMENT_SHIFT) + b / 2,
	                        .has_dlidx = b & 1};
	if (known && b / 2 < known->first) /* any term before the next entry's leads there */
		return add_first(f, s, known->first);
	if (f->entry_count > 0 && e[-1].block == e->block)
		return true; /* it was added as such a one */
	e->term.len = (uint8_t)(term.len < FTS_TERM_BYTES ? term.len : FTS_TERM_BYTES);
	memcpy(e->term.bytes, term.bytes, e->term.len);
	if (f->entry_count > 0 && e[-1].block >= e->block)
		return false;
	f->entry_count++;
	return true;
}

static bool add_leaf(struct sq_order *o, struct sq_fts *f, uint32_t number)
{
	struct sq_page p;
	struct sq_cell c;
	if (!sq_get(o, o->page, number, &p) || p.type != SQ_INDEX_LEAF)
		return false;
	for (uint32_t i = 0; i < p.count; i++)
		if (!sq_page_cell(&p, i, &c) || !add_entry(f, &c))
			return false;
	return true;
}

/* In the tree's order: a leaf, the root's cell after it, the next leaf. */
static bool read_all(struct sq_order *o, struct sq_fts *f)
{
	struct sq_page root;
	struct sq_cell c;
	if (!sq_get(o, o->other, o->trees[f->idx].root, &root))
		return false;
	for (uint32_t i = 0; i < f->idx_count; i++)
		if (!add_leaf(o, f, f->idx_pages[i]) ||
		    (i + 1 < f->idx_count && (!sq_page_cell(&root, i, &c) || !add_entry(f, &c))))
			return false;
	return true;
}

static void ask(struct sq_order *o, struct sq_fts *f, int64_t block)
{
	sq_lookup(o, f->data, block, SQ_HOPS_MOST);
}

/* Where a part of a segment is gone, many a term leads to the first block that is left. */
static void ask_firsts(struct sq_order *o, struct sq_fts *f)
{
	for (uint32_t i = 0; i < f->segment_count; i++)
		if (f->segments[i].first > 1)
			ask(o, f,
			    (int64_t)f->segments[i].id << SEGMENT_SHIFT | f->segments[i].first);
}

void fts_idx_run(struct sq_order *o, struct sq_fts *f)
{
	fts_idx_take(o, f);
	if (!f->idx_asked || f->idx_dead || f->entries)
		return;
	while (f->idx_here < f->idx_count && sq_bytes(o, o->page, f->idx_pages[f->idx_here]))
		f->idx_here++;
	if (f->idx_here < f->idx_count)
		return;
	if (!fts_segments_read(o, f))
		return;
	f->entries = malloc(ENTRIES_MOST * sizeof *f->entries);
	f->idx_dead = !f->entries || !read_all(o, f) || !f->entry_count;
	if (!f->idx_dead) {
		ask_firsts(o, f);
		return;
	}
	free(f->entries);
	f->entries = NULL;
}

/* The last entry at or before a block; UINT32_MAX: none of its segment. */
static uint32_t entry_of(const struct sq_fts *f, int64_t block)
{
	uint32_t low = 0, high = f->entry_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (f->entries[middle].block <= block)
			low = middle + 1;
		else
			high = middle;
	}
	return low && segment_of(f->entries[low - 1].block) == segment_of(block) ? low - 1
	                                                                         : UINT32_MAX;
}

static bool has_next(const struct sq_fts *f, uint32_t i)
{
	return i + 1 < f->entry_count &&
	       segment_of(f->entries[i + 1].block) == segment_of(f->entries[i].block);
}

static void ask_entry(struct sq_order *o, struct sq_fts *f, const struct fts_entry *e, bool narrow)
{
	ask(o, f, e->block);
	if (!e->has_dlidx)
		return;
	ask(o, f, e->block | INT64_C(1) << DLIDX_SHIFT);
	for (int64_t k = 1; narrow && k <= LONG_LIST_BLOCKS; k++)
		ask(o, f, e->block + k);
}

/* The blocks of one segment, whose entries begin at `first`, that may have a term of the wave.
 * Returns where the next segment's begin. */
static uint32_t ask_segment(struct sq_order *o, struct sq_fts *f, uint32_t first,
                            const struct fts_wave *w)
{
	uint32_t end = first, from = first, to;
	while (end < f->entry_count &&
	       segment_of(f->entries[end].block) == segment_of(f->entries[first].block))
		end++;
	while (from + 1 < end && fts_term_compare(&f->entries[from + 1].term, &w->low) <= 0)
		from++;
	for (to = from + 1; to < end; to++)
		if (!w->open && fts_term_compare(&f->entries[to].term, &w->high) >= 0)
			break;
	if (to - from > SEGMENT_MOST_BLOCKS)
		return end;
	for (uint32_t i = from; i < to; i++) {
		f->entries[i].wave = w->number;
		ask_entry(o, f, &f->entries[i], w->reads > 1);
	}
	if (to < end) /* where it is looked whether the last list goes on */
		ask(o, f, f->entries[to].block);
	return end;
}

static struct fts_wave interval_of(const struct sq_fts *f, uint32_t i)
{
	struct fts_wave w = {.low = f->entries[i].term, .open = !has_next(f, i)};
	if (!w.open)
		w.high = f->entries[i + 1].term;
	return w;
}

static bool is_empty(const struct fts_wave *w)
{
	return !w->open && fts_term_compare(&w->low, &w->high) >= 0;
}

static struct fts_wave both_of(const struct fts_wave *a, const struct fts_wave *b)
{
	struct fts_wave both = *a;
	if (fts_term_compare(&b->low, &both.low) > 0)
		both.low = b->low;
	if (!b->open && (both.open || fts_term_compare(&b->high, &both.high) < 0)) {
		both.high = b->high;
		both.open = false;
	}
	return both;
}

static void ask_all(struct sq_order *o, struct sq_fts *f, const struct fts_wave *w)
{
	for (uint32_t first = 0; first < f->entry_count;)
		first = ask_segment(o, f, first, w);
}

static void new_wave(struct sq_order *o, struct sq_fts *f, uint32_t i)
{
	struct fts_wave w = interval_of(f, i);
	f->wave_number = f->wave_number == UINT8_MAX ? 1 : f->wave_number + 1;
	w.number = f->wave_number;
	w.at = o->clock;
	w.reads = 1;
	f->waves[w.number % FTS_WAVES] = w;
	ask_all(o, f, &w);
	f->entries[i].wave = w.number;
}

static void begin_wave(struct sq_order *o, struct sq_fts *f, uint32_t i)
{
	struct fts_wave w = interval_of(f, i);
	/* One that was cut short, or whose block has come to be read otherwise. */
	struct fts_wave *latest = &f->waves[f->wave_number % FTS_WAVES];
	struct fts_wave both = both_of(latest, &w);
	if (latest->number && !is_empty(&both)) {
		both.at = o->clock;
		both.reads = 2;
		*latest = both;
		ask_all(o, f, &both);
		f->entries[i].wave = both.number;
		return;
	}
	new_wave(o, f, i);
}

/* The term lies in all intervals of the blocks that were read for it. */
static void narrow_wave(struct sq_order *o, struct sq_fts *f, uint32_t i)
{
	struct fts_wave *w = &f->waves[f->entries[i].wave % FTS_WAVES], own = interval_of(f, i);
	if (w->number != f->entries[i].wave) {
		begin_wave(o, f, i); /* it is long over */
		return;
	}
	struct fts_wave both = both_of(w, &own);
	if (is_empty(&both)) { /* another term, in a block that was asked for before */
		new_wave(o, f, i);
		return;
	}
	bool narrower = both.open != w->open || fts_term_compare(&both.low, &w->low) != 0 ||
	                (!both.open && fts_term_compare(&both.high, &w->high) != 0);
	both.at = o->clock;
	both.reads = 2;
	*w = both;
	if (narrower)
		ask_all(o, f, w);
}

uint8_t fts_idx_block(struct sq_order *o, struct sq_fts *f, int64_t id)
{
	uint32_t i = f->entries ? entry_of(f, id) : UINT32_MAX;
	if (i == UINT32_MAX)
		return 0;
	struct fts_entry *e = &f->entries[i];
	/* The next block is read where a list may go on. */
	bool goes_on = id == f->latest_block + 1, begins = e->block == id && !goes_on;
	f->going_on = goes_on ? f->going_on + 1 : 0;
	f->latest_block = id;
	if (e->block == id && goes_on)
		return i > 0 ? e[-1].wave : 0;
	if (begins && !e->wave)
		begin_wave(o, f, i);
	else if (begins)
		narrow_wave(o, f, i);
	/* Its last list goes on up to the next entry. */
	int64_t end = has_next(f, i) ? e[1].block : id + 2;
	int64_t ahead = begins ? 1 : f->going_on < 2 ? CONTINUED : 4 * CONTINUED;
	for (int64_t k = id + 1; k < end && k <= id + ahead; k++)
		ask(o, f, k);
	return e->wave;
}
