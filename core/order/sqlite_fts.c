/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Full-text search. FTS5 keeps an index NAME in tables NAME_data (blocks of terms and their rows),
 * NAME_idx (which block a term is in), NAME_docsize, NAME_config and perhaps NAME_content. Opening
 * one reads the rows 1 and 10 of _data; a query reads _idx, then blocks of _data, then rows of the
 * table whose text it is, one by one in the order of their rowids. The blocks name these rows:
 * those that all lists have in which the first one was found are looked up ahead. The format:
 * https://www.sqlite.org/src/file/ext/fts5/fts5_index.c, at its top.
 */
#include "order/sqlite_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	ROW_AVERAGES = 1,
	ROW_STRUCTURE = 10,
	WIDE_MOST_PAGES = 80, /* interior pages are taken if they are no more */
	IDX_MOST_PAGES = 16,  /* _idx is taken whole if it is no more */
	AHEAD_LEAST = 4,      /* blocks of one term's list */
	AHEAD_MOST = 32,
	BLOCKS = 24,      /* read last, that are remembered */
	LISTS_MOST = 256, /* in one block */
	ROWS_AHEAD = 32,
	ROWS_MOST = 1024,
	BLOCK_SPAN = 64, /* pages read since the last block was */
};

struct block {
	int64_t id;
	uint32_t page;
};

struct sq_fts {
	uint16_t data, idx; /* trees */
	bool started, idx_wide, data_wide;
	struct block blocks[BLOCKS];
	uint64_t block_count; /* ever */
	uint64_t at;          /* clock when the last was read */
	int64_t given;        /* rows up to this one were looked up */
	struct sq_fts *next;
};

/* One list of rows in a block. */
struct list {
	uint32_t from, to;
	bool continued; /* begins on an earlier block */
};

void sq_fts_finish(struct sq_order *o)
{
	while (o->fts) {
		struct sq_fts *f = o->fts;
		o->fts = f->next;
		free(f);
	}
}

static uint16_t tree_named(const struct sq_order *o, const char *stem, size_t len, const char *tail)
{
	for (uint32_t i = 0; i < o->tree_count; i++) {
		const char *name = o->trees[i].name;
		if (!strncmp(name, stem, len) && !strcmp(name + len, tail))
			return (uint16_t)i;
	}
	return SQ_NONE;
}

void sq_fts_find(struct sq_order *o)
{
	static const char *const tails[] = {"_data", "_idx", "_docsize", "_config", "_content"};
	uint16_t number = 0;
	for (uint32_t i = 0; i < o->tree_count; i++) {
		size_t len = strlen(o->trees[i].name);
		if (len < 6 || strcmp(o->trees[i].name + len - 5, "_data") != 0)
			continue;
		len -= 5;
		uint16_t idx = tree_named(o, o->trees[i].name, len, "_idx");
		struct sq_fts *f =
		        idx != SQ_NONE && number < SQ_NONE - 1 ? calloc(1, sizeof *f) : NULL;
		if (!f)
			continue;
		*f = (struct sq_fts){.data = (uint16_t)i, .idx = idx, .next = o->fts};
		o->fts = f;
		number++;
		for (size_t k = 0; k < sizeof tails / sizeof *tails; k++) {
			uint16_t tree = tree_named(o, o->trees[i].name, len, tails[k]);
			if (tree != SQ_NONE)
				o->trees[tree].fts = number;
		}
	}
}

static struct sq_fts *fts_of(const struct sq_order *o, uint16_t number)
{
	uint16_t count = 0;
	for (struct sq_fts *f = o->fts; f; f = f->next)
		count++;
	struct sq_fts *f = o->fts; /* the last that was found is first */
	for (uint16_t i = count; f && i > number; i--)
		f = f->next;
	return number ? f : NULL;
}

/* --- opening --- */

/* The pages under a root, if they are few. False: it is not here yet. */
static bool take_children(struct sq_order *o, uint16_t tree, bool leaves_too)
{
	struct sq_page p;
	uint32_t root = o->trees[tree].root;
	if (!sq_get(o, o->other, root, &p))
		return false;
	if (!sq_page_is_interior(&p) || p.count > (leaves_too ? IDX_MOST_PAGES : WIDE_MOST_PAGES))
		return true;
	sq_map_children(o, root, &p, tree);
	struct sq_page child;
	uint32_t first = sq_page_child(&p, 0);
	if (!leaves_too && !(sq_get(o, o->page, first, &child) && sq_page_is_interior(&child)))
		return !sq_bytes(o, o->page, first) ? (sq_want(o, first), false) : true;
	for (uint32_t i = 0; i <= p.count; i++) {
		uint32_t page = sq_page_child(&p, i);
		if (sq_is_page(o, page))
			sq_want_later(o, page);
	}
	return true;
}

static void start(struct sq_order *o, struct sq_fts *f)
{
	if (!f->started) {
		f->started = true;
		uint16_t number = o->trees[f->data].fts;
		for (uint32_t i = 0; i < o->tree_count; i++)
			if (o->trees[i].fts == number)
				sq_want(o, o->trees[i].root);
		sq_lookup(o, f->data, ROW_STRUCTURE, SQ_HOPS_MOST);
		sq_lookup(o, f->data, ROW_AVERAGES, SQ_HOPS_MOST);
	}
	f->idx_wide = f->idx_wide || take_children(o, f->idx, true);
	f->data_wide = f->data_wide || take_children(o, f->data, false);
}

void sq_fts_run(struct sq_order *o)
{
	for (struct sq_fts *f = o->fts; f; f = f->next)
		if (f->started && !(f->idx_wide && f->data_wide))
			start(o, f);
}

/* --- blocks --- */

/* A list goes on: the more of its blocks were read, the more of them come next. */
static void run_ahead(struct sq_order *o, struct sq_fts *f, uint32_t page)
{
	unsigned n = AHEAD_LEAST +
	             (unsigned)(f->block_count < AHEAD_MOST ? f->block_count : AHEAD_MOST) / 2;
	for (unsigned i = 0; page && i < n && i < AHEAD_MOST; i++)
		if ((page = sq_scan_next(o, page)))
			sq_want(o, page);
}

static void remember(struct sq_order *o, struct sq_fts *f, uint32_t page)
{
	struct sq_page p;
	struct sq_cell c;
	f->at = o->clock;
	uint64_t first = f->block_count > BLOCKS ? f->block_count - BLOCKS : 0;
	for (uint64_t i = first; i < f->block_count; i++)
		if (f->blocks[i % BLOCKS].page == page)
			return;
	if (sq_get(o, o->other, page, &p) && p.type == SQ_TABLE_LEAF && sq_page_cell(&p, 0, &c))
		f->blocks[f->block_count++ % BLOCKS] = (struct block){c.rowid, page};
	f->given = INT64_MIN;
}

/* The lists of a block: those before and after each term. */
static unsigned lists_of(const uint8_t *b, uint32_t len, struct list *out)
{
	if (len < 4)
		return 0;
	uint32_t first_row = sq_be16(b), end = sq_be16(b + 2), term = 0;
	if (end > len || end < 4)
		return 0;
	unsigned count = 0;
	const uint8_t *at = b + end, *stop = b + len;
	bool first = true;
	/* What comes before the first term goes on from the block before. */
	uint32_t open = first_row >= 4 && first_row < end ? first_row : 0;
	bool continued = true;
	while (count < LISTS_MOST) {
		uint64_t delta = 0, prefix = 0, size;
		size_t n = at < stop ? sq_varint(at, stop, &delta) : 0;
		uint32_t next =
		        n && delta < end && term + delta < end ? term + (uint32_t)delta : end;
		if (open && open < next)
			out[count++] = (struct list){open, next, continued};
		if (next == end || next <= term)
			break;
		at += n;
		term = next;
		const uint8_t *t = b + term;
		if (!first) {
			if (!(n = sq_varint(t, b + end, &prefix)))
				break;
			t += n;
		}
		first = false;
		if (!(n = sq_varint(t, b + end, &size)) || size >= (uint64_t)(b + end - t) - n)
			break;
		open = (uint32_t)(t - b) + (uint32_t)n + (uint32_t)size;
		continued = false;
	}
	return count;
}

/* The rows of a list: each calls with a rowid; false ends it. */
static void rows_of(const uint8_t *b, struct list l, bool (*each)(void *user, int64_t rowid),
                    void *user)
{
	const uint8_t *at = b + l.from, *end = b + l.to;
	uint64_t row = 0, delta, size;
	while (at < end) {
		size_t n = sq_varint(at, end, &delta);
		if (!n)
			return;
		row += delta;
		at += n;
		if (!each(user, (int64_t)row) || !(n = sq_varint(at, end, &size)))
			return;
		at += n;
		if (size / 2 >= (uint64_t)(end - at))
			return;
		at += size / 2;
	}
}

/* --- rows that all lists have --- */

struct gather {
	struct sq_rowids at; /* where the reader is */
	bool hit;            /* this list has a row there */
	unsigned lists;      /* that do */
	int64_t *rows;       /* ROWS_MOST, that come after it */
	uint8_t *votes;      /* lists that have it */
	unsigned count;
	int64_t after;
};

static bool look(void *user, int64_t rowid)
{
	struct gather *g = user;
	g->hit = g->hit || (rowid > g->at.low && rowid <= g->at.high);
	return rowid <= g->at.high;
}

static bool vote(void *user, int64_t rowid)
{
	struct gather *g = user;
	if (rowid <= g->after)
		return true;
	for (unsigned i = 0; i < g->count; i++)
		if (g->rows[i] == rowid) {
			g->votes[i] += g->votes[i] < UINT8_MAX;
			return true;
		}
	if (g->count == ROWS_MOST)
		return false;
	g->rows[g->count] = rowid;
	g->votes[g->count++] = 1;
	return true;
}

/* All lists of the blocks that were read; each list that has a row where the reader is counts, with
 * the blocks on which it goes on. */
static void gather_rows(struct sq_order *o, struct sq_fts *f, struct gather *g)
{
	struct list lists[LISTS_MOST];
	uint64_t first = f->block_count > BLOCKS ? f->block_count - BLOCKS : 0;
	bool last_hit = false;
	int64_t last_id = INT64_MIN;
	for (uint64_t i = first; i < f->block_count; i++) {
		struct block block = f->blocks[i % BLOCKS];
		struct sq_page p;
		struct sq_cell c;
		if (!sq_get(o, o->other, block.page, &p))
			continue;
		struct sq_value v;
		if (!sq_page_cell(&p, 0, &c) || !sq_cell_value(&c, 1, &v))
			continue;
		unsigned n = lists_of(v.bytes, (uint32_t)v.len, lists);
		bool goes_on = last_hit && block.id == last_id + 1;
		for (unsigned k = 0; k < n; k++) {
			g->hit = false;
			rows_of(v.bytes, lists[k], look, g);
			bool same = k == 0 && lists[k].continued && goes_on;
			g->lists += g->hit && !same;
			g->hit = g->hit || same;
			if (g->hit)
				rows_of(v.bytes, lists[k], vote, g);
			last_hit = g->hit;
		}
		last_hit = n ? last_hit : goes_on;
		last_id = block.id;
	}
}

static int by_rowid(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static void predict(struct sq_order *o, struct sq_fts *f, uint16_t tree, struct sq_rowids r)
{
	struct gather g = {.at = r, .after = f->given > r.low ? f->given : r.low};
	g.rows = malloc(ROWS_MOST * sizeof *g.rows);
	g.votes = malloc(ROWS_MOST);
	if (g.rows && g.votes)
		gather_rows(o, f, &g);
	unsigned need = g.lists > 2 ? 2 : g.lists, count = 0;
	for (unsigned i = 0; need && i < g.count; i++)
		if (g.votes[i] >= need)
			g.rows[count++] = g.rows[i];
	if (count)
		qsort(g.rows, count, sizeof *g.rows, by_rowid);
	for (unsigned i = 0; i < count && i < ROWS_AHEAD; i++) {
		sq_lookup(o, tree, g.rows[i], SQ_HOPS_MOST);
		f->given = g.rows[i];
	}
	free(g.rows);
	free(g.votes);
}

void sq_fts_touch(struct sq_order *o, uint16_t tree, uint32_t page, bool leaf, struct sq_rowids r)
{
	struct sq_fts *f = fts_of(o, o->trees[tree].fts);
	if (f)
		start(o, f);
	if (f && tree == f->data && leaf) {
		remember(o, f, page);
		run_ahead(o, f, page);
	}
	if (!leaf || (f && tree == f->data) || o->trees[tree].kind != SQ_TABLE)
		return;
	for (f = o->fts; f; f = f->next)
		if (f->block_count && o->clock - f->at <= BLOCK_SPAN)
			predict(o, f, tree, r);
}
