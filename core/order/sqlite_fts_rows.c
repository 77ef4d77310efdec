/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows that a query comes to: of the terms that it can be about (those in a wave's interval),
 * the ones whose lists have the row where the reader is; then the rows that as many of them have.
 */
#include "order/sqlite_fts.h"

#include <stdlib.h>
#include <string.h>

enum {
	TERMS_MOST = 64,
	HITS_MOST = 1 << 15,
	ROWS_AHEAD = 32,
	CONTINUED_MOST = 192, /* blocks of one list that are gone along */
	WAVE_SPAN = 256,      /* pages read since a wave's last block was */
	ARRIVALS_LEAST = 8,   /* before rows are looked for again */
};

struct hit {
	int64_t rowid;
	uint8_t term;
};

struct gather {
	struct {
		uint8_t wave; /* slot */
		struct fts_term term;
	} terms[TERMS_MOST];
	unsigned term_count;
	struct hit *hits;
	uint32_t count;
	uint8_t term; /* whose rows come */
};

static bool add_hit(void *user, int64_t rowid)
{
	struct gather *g = user;
	if (g->count == HITS_MOST)
		return false;
	g->hits[g->count++] = (struct hit){rowid, g->term};
	return true;
}

static bool find_term(struct gather *g, uint8_t wave, const struct fts_term *term)
{
	for (g->term = 0; g->term < g->term_count; g->term++)
		if (g->terms[g->term].wave == wave &&
		    !fts_term_compare(&g->terms[g->term].term, term))
			return true;
	if (g->term_count == TERMS_MOST)
		return false;
	g->terms[g->term_count].wave = wave;
	g->terms[g->term_count++].term = *term;
	return true;
}

bool fts_data(struct sq_order *o, const struct sq_fts *f, int64_t id, struct sq_value *v)
{
	struct sq_page p;
	struct sq_cell c;
	uint32_t page = o->trees[f->data].root;
	for (unsigned depth = 0; depth < SQ_DEPTH_MOST; depth++) {
		if (!sq_get(o, o->other, page, &p))
			return false;
		if (p.type == SQ_TABLE_LEAF)
			break;
		if (p.type != SQ_TABLE_INTERIOR)
			return false;
		page = sq_page_child_of(&p, id);
	}
	return p.type == SQ_TABLE_LEAF && sq_page_row(&p, id, &c) && sq_cell_value(&c, 1, v);
}

/* The lists of a block, if it is here. 0: none. */
static unsigned read_block(struct sq_order *o, const struct sq_fts *f, int64_t id,
                           struct sq_value *v, struct fts_list lists[FTS_LISTS])
{
	return fts_data(o, f, id, v) ? fts_lists(v->bytes, (uint32_t)v->len, lists) : 0;
}

/* Whose list is it that goes on in this block? */
static bool term_before(struct sq_order *o, const struct sq_fts *f, int64_t id,
                        struct fts_list *lists, struct fts_term *out)
{
	struct sq_value v;
	for (unsigned n = 0; n < CONTINUED_MOST; n++) {
		unsigned count = read_block(o, f, --id, &v, lists);
		if (!count)
			return false;
		if (lists[count - 1].continued)
			continue;
		*out = lists[count - 1].term;
		return true;
	}
	return false;
}

static void gather_block(struct sq_order *o, const struct sq_fts *f, const struct fts_block *block,
                         struct gather *g, struct fts_list *lists)
{
	uint8_t slot = block->wave % FTS_WAVES;
	const struct fts_wave *w = &f->waves[slot];
	struct fts_term before;
	struct sq_value v;
	if (!block->wave || w->number != block->wave || o->clock - w->at > WAVE_SPAN)
		return;
	unsigned count = read_block(o, f, block->id, &v, lists);
	bool known = false, goes_on = false;
	if (count && lists[0].continued) {
		known = term_before(o, f, block->id, lists, &before);
		count = read_block(o, f, block->id, &v, lists);
	}
	for (unsigned i = 0; i < count; i++) {
		if (lists[i].continued && !known)
			continue;
		const struct fts_term *term = lists[i].continued ? &before : &lists[i].term;
		goes_on = fts_wave_has(w, term) && find_term(g, slot, term);
		if (goes_on)
			fts_rows(v.bytes, &lists[i], add_hit, g);
	}
	/* The last list's blocks that are here already, before they are read. */
	for (unsigned n = 1; goes_on && n <= CONTINUED_MOST; n++) {
		count = read_block(o, f, block->id + n, &v, lists);
		goes_on = count == 1 && lists[0].continued;
		if (count && lists[0].continued)
			fts_rows(v.bytes, &lists[0], add_hit, g);
	}
}

static int by_rowid(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;
	return x->rowid != y->rowid ? (x->rowid < y->rowid ? -1 : 1) : (int)x->term - (int)y->term;
}

/* Those of one row from `i` on: which waves have it, by terms of a set. Returns where it ends. */
static uint32_t row_at(const struct gather *g, uint32_t i, uint64_t set, unsigned *waves,
                       uint64_t *terms)
{
	uint32_t k = i;
	unsigned bits = 0;
	for (*terms = 0; k < g->count && g->hits[k].rowid == g->hits[i].rowid; k++) {
		uint64_t bit = UINT64_C(1) << g->hits[k].term;
		if (set & bit) {
			*terms |= bit;
			bits |= 1u << g->terms[g->hits[k].term].wave;
		}
	}
	*waves = (unsigned)__builtin_popcount(bits);
	return k;
}

struct set {
	uint64_t terms;
	unsigned rows;
};

/* Which terms do the rows where the reader is have in common: of those in most waves the set that
 * most of them have. */
static uint64_t common_terms(const struct gather *g, struct sq_rowids at, unsigned *best)
{
	struct set sets[TERMS_MOST];
	unsigned count = 0, waves, k;
	uint64_t terms;
	*best = 0;
	for (uint32_t i = 0; i < g->count;) {
		int64_t rowid = g->hits[i].rowid;
		i = row_at(g, i, UINT64_MAX, &waves, &terms);
		if (rowid <= at.low || rowid > at.high || waves < *best)
			continue;
		count = waves > *best ? 0 : count;
		*best = waves;
		for (k = 0; k < count && sets[k].terms != terms; k++)
			;
		if (k == TERMS_MOST)
			continue;
		sets[k] = (struct set){terms, k < count ? sets[k].rows + 1 : 1};
		count += k == count;
	}
	struct set most = {0};
	for (k = 0; k < count; k++)
		most = sets[k].rows > most.rows ? sets[k] : most;
	return most.terms;
}

/* All rows after the reader's that have as many of these terms. */
static void pick_rows(struct sq_fts *f, const struct gather *g, struct sq_rowids at)
{
	unsigned best, waves;
	uint64_t set = common_terms(g, at, &best), terms;
	f->row_count = f->content_given = f->docsize_given = 0;
	for (uint32_t i = 0; best && i < g->count && f->row_count < FTS_ROWS;) {
		int64_t rowid = g->hits[i].rowid;
		i = row_at(g, i, set, &waves, &terms);
		if (rowid > at.low && waves >= best)
			f->rows[f->row_count++] = rowid;
	}
}

static void find_rows(struct sq_order *o, struct sq_fts *f, struct sq_rowids at)
{
	struct gather *g = calloc(1, sizeof *g);
	struct fts_list *lists = malloc(FTS_LISTS * sizeof *lists);
	if (g && lists && (g->hits = malloc(HITS_MOST * sizeof *g->hits))) {
		uint64_t n = f->block_count < FTS_BLOCKS ? f->block_count : FTS_BLOCKS;
		for (uint64_t i = 0; i < n; i++)
			gather_block(o, f, &f->blocks[i], g, lists);
		if (g->count)
			qsort(g->hits, g->count, sizeof *g->hits, by_rowid);
		pick_rows(f, g, at);
	}
	if (g)
		free(g->hits);
	free(g);
	free(lists);
}

/* The first of the known rows that is among these; UINT32_MAX: none. */
static uint32_t row_here(const struct sq_fts *f, struct sq_rowids at)
{
	uint32_t i = 0;
	while (i < f->row_count && f->rows[i] <= at.low)
		i++;
	return i < f->row_count && f->rows[i] <= at.high ? i : UINT32_MAX;
}

static void give_rows(struct sq_order *o, struct sq_fts *f, uint16_t tree, uint32_t here)
{
	uint32_t *given = tree == f->docsize ? &f->docsize_given : &f->content_given;
	while (*given < f->row_count && *given < here + ROWS_AHEAD)
		sq_lookup(o, tree, f->rows[(*given)++], SQ_HOPS_MOST);
}

void fts_predict(struct sq_order *o, struct sq_fts *f, uint16_t tree, struct sq_rowids at)
{
	uint32_t here = row_here(f, at);
	if (here == UINT32_MAX) {
		find_rows(o, f, at);
		here = row_here(f, at);
		f->arrivals = 0;
	}
	f->reading = here != UINT32_MAX && tree == f->content;
	f->at = at;
	if (here != UINT32_MAX)
		give_rows(o, f, tree, here);
}

void fts_rows_run(struct sq_order *o, struct sq_fts *f)
{
	uint32_t here =
	        f->reading && f->arrivals >= ARRIVALS_LEAST ? row_here(f, f->at) : UINT32_MAX;
	if (here == UINT32_MAX || f->row_count - here > ROWS_AHEAD)
		return;
	f->arrivals = 0;
	find_rows(o, f, f->at);
	if ((here = row_here(f, f->at)) != UINT32_MAX)
		give_rows(o, f, f->content, here);
}
