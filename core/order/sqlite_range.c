/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite reads an index's leaf, then the first row's page in the table: of the leaf's rows, the
 * first that such a page can have is where it began. The rows after it that share its first column
 * are looked up ahead, as many as the line takes in about a round trip, and more as they are read.
 * Rows of other keys are only if the reader goes on to them.
 */
#include "order/sqlite_order.h"

#include <string.h>

enum { BUDGET_LEAST = 4, BUDGET_MOST = 256, BUDGET_ANY = 8 };

static uint32_t budget_of(const struct sq_order *o)
{
	uint64_t rows = o->window / 2 / o->shape.page_bytes;
	return rows < BUDGET_LEAST  ? BUDGET_LEAST
	       : rows > BUDGET_MOST ? BUDGET_MOST
	                            : (uint32_t)rows;
}

static bool rowid_at(const struct sq_page *p, uint32_t i, struct sq_cell *c, int64_t *rowid)
{
	struct sq_value v;
	return sq_page_cell(p, i, c) && sq_cell_last(c, &v) && sq_value_int(&v, rowid);
}

static bool take_key(struct sq_index_range *r, const struct sq_cell *c)
{
	struct sq_value v;
	if (!sq_cell_value(c, 0, &v) || v.len > SQ_KEY_BYTES)
		return false;
	r->key_type = v.type;
	r->key_len = (uint32_t)v.len;
	memcpy(r->key, v.bytes, v.len);
	return true;
}

static bool same_key(const struct sq_index_range *r, const struct sq_cell *c)
{
	struct sq_value v;
	return sq_cell_value(c, 0, &v) && v.type == r->key_type && v.len == r->key_len &&
	       !memcmp(v.bytes, r->key, v.len);
}

static struct sq_index_range *free_range(struct sq_order *o)
{
	struct sq_index_range *best = &o->ranges[0];
	for (unsigned i = 0; i < SQ_RANGES; i++) {
		struct sq_index_range *r = &o->ranges[i];
		if (!r->leaf)
			return r;
		if (!r->open || best->open)
			best = r;
	}
	return best;
}

void sq_range_leaf(struct sq_order *o, uint16_t index, uint32_t leaf)
{
	if (o->trees[index].table == SQ_NONE)
		return;
	for (unsigned i = 0; i < SQ_RANGES; i++) {
		const struct sq_index_range *r = &o->ranges[i];
		if (r->leaf && r->index == index && (r->leaf == leaf || r->before == leaf) &&
		    r->given > r->taken)
			return; /* it is being gone along */
	}
	o->trees[index].cursor = leaf;
}

/* Where did the reader of this leaf begin, if it has come to one of these rows? */
static bool begin(struct sq_order *o, uint16_t index, struct sq_rowids rows)
{
	uint32_t leaf = o->trees[index].cursor;
	struct sq_page p;
	struct sq_cell c;
	int64_t rowid;
	if (!sq_get(o, o->other, leaf, &p) || p.type != SQ_INDEX_LEAF)
		return false;
	for (uint32_t i = 0; i < p.count; i++) {
		if (!rowid_at(&p, i, &c, &rowid) || rowid <= rows.low || rowid > rows.high)
			continue;
		struct sq_index_range new = {.index = index,
		                             .leaf = leaf,
		                             .open = true,
		                             .next = i,
		                             .budget = budget_of(o)};
		if (take_key(&new, &c))
			*free_range(o) = new;
		return true;
	}
	return false;
}

/* The reader is at one of these rows: is it the one after those of the range's key? */
static void go_on(struct sq_order *o, struct sq_index_range *r, struct sq_rowids rows)
{
	struct sq_page p;
	struct sq_cell c;
	int64_t rowid;
	if (r->open || !sq_get(o, o->other, r->leaf, &p) || !rowid_at(&p, r->next, &c, &rowid) ||
	    rowid <= rows.low || rowid > rows.high)
		return;
	r->budget = r->any ? r->budget * 2 : BUDGET_ANY;
	if (r->budget > budget_of(o))
		r->budget = budget_of(o);
	r->open = r->any = true;
	r->given = r->taken = 0;
}

void sq_range_touch(struct sq_order *o, uint16_t table, bool leaf, struct sq_rowids rows)
{
	for (unsigned i = 0; i < SQ_RANGES; i++) {
		struct sq_index_range *r = &o->ranges[i];
		if (!r->leaf || o->trees[r->index].table != table || !leaf)
			continue;
		r->taken += r->taken < r->given;
		go_on(o, r, rows);
	}
	for (uint32_t i = 0; i < o->tree_count; i++) {
		struct sq_tree *t = &o->trees[i];
		/* All rows of the table tell nothing. */
		if (t->cursor && t->table == table && t->kind == SQ_INDEX &&
		    (leaf || rows.low != INT64_MIN || rows.high != INT64_MAX) &&
		    begin(o, (uint16_t)i, rows))
			t->cursor = 0;
	}
}

/* One row more. False: not now. */
static bool give(struct sq_order *o, struct sq_index_range *r)
{
	struct sq_page p;
	struct sq_cell c;
	int64_t rowid;
	if (!r->open || r->given - r->taken >= r->budget)
		return false;
	if (!sq_get(o, o->other, r->leaf, &p)) {
		sq_want(o, r->leaf);
		return false;
	}
	if (r->next >= p.count) {
		uint32_t leaf = sq_scan_next(o, r->leaf);
		if (leaf && leaf != r->leaf) {
			r->before = r->leaf;
			r->leaf = leaf;
			r->next = 0;
			sq_want(o, leaf);
		}
		return leaf != 0;
	}
	if (!rowid_at(&p, r->next, &c, &rowid) || (!r->any && !same_key(r, &c))) {
		r->open = false;
		return false;
	}
	r->next++;
	r->given++;
	sq_lookup(o, o->trees[r->index].table, rowid, 0);
	return true;
}

void sq_ranges_run(struct sq_order *o)
{
	for (unsigned i = 0; i < SQ_RANGES; i++)
		for (unsigned n = 0; n < BUDGET_MOST && o->ranges[i].leaf && give(o, &o->ranges[i]);
		     n++)
			;
}
