/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a rowid to the page of its row, as far as local pages lead; the page that is missing is
 * asked for, and the lookup goes on when it has come. A row that was found names others: by foreign
 * keys that the schema declares or the session has shown, once the other table is in use.
 */
#include "order/sqlite_order.h"

#include <string.h>

enum {
	LEARN_COLUMNS = 16, /* columns looked at for a key of another table */
	LEARN_HITS = 2,     /* how often it must have been one */
	LEARN_SPAN = 8,     /* pages read since the row was */
};

static bool is_row_tree(const struct sq_order *o, uint16_t tree)
{
	return tree < o->tree_count && o->trees[tree].kind == SQ_TABLE;
}

static bool is_pending(const struct sq_order *o, uint16_t tree, int64_t rowid)
{
	for (unsigned i = 0; i < o->lookup_count; i++)
		if (o->lookups[i].rowid == rowid && o->lookups[i].tree == tree)
			return true;
	return false;
}

void sq_lookup(struct sq_order *o, uint16_t tree, int64_t rowid, uint8_t hops)
{
	if (!is_row_tree(o, tree) || is_pending(o, tree, rowid))
		return;
	if (o->lookup_count == SQ_LOOKUPS) { /* the oldest wait for pages that never came */
		o->lookup_count /= 2;
		memmove(o->lookups, o->lookups + o->lookup_count,
		        o->lookup_count * sizeof *o->lookups);
	}
	o->lookups[o->lookup_count++] = (struct sq_lookup){
	        .rowid = rowid, .tree = tree, .page = o->trees[tree].root, .hops = hops};
	o->lookups_news = true;
}

/* The value of a column, where an alias of the rowid is stored as NULL. */
static bool row_int(const struct sq_tree *t, const struct sq_cell *c, unsigned column, int64_t *out)
{
	struct sq_value v;
	if (t->key_column >= 0 && (unsigned)t->key_column == column) {
		*out = c->rowid;
		return true;
	}
	return sq_cell_value(c, column, &v) && sq_value_int(&v, out);
}

static void follow_edges(struct sq_order *o, uint16_t tree, const struct sq_cell *c, uint8_t hops)
{
	const struct sq_tree *t = &o->trees[tree];
	int64_t key;
	for (unsigned i = 0; hops < SQ_HOPS_MOST && i < t->edge_count; i++)
		if (t->edges[i].active && row_int(t, c, t->edges[i].column, &key))
			sq_lookup(o, t->edges[i].to, key, (uint8_t)(hops + 1));
}

static void found(struct sq_order *o, const struct sq_lookup *l, const struct sq_cell *c)
{
	struct sq_tree *t = &o->trees[l->tree];
	o->rows[o->row_head++ % SQ_ROWS] = (struct sq_row){
	        .rowid = l->rowid, .page = l->page, .tree = l->tree, .hops = l->hops};
	if (c->overflow && sq_is_page(o, c->overflow)) {
		sq_map_add(&o->map, &(struct sq_place){.page = c->overflow,
		                                       .parent = l->page,
		                                       .tree = l->tree,
		                                       .overflow = true});
		if (t->overflows)
			sq_want(o, c->overflow);
	}
	follow_edges(o, l->tree, c, l->hops);
}

/* As far as it goes. False: it is over. */
static bool advance(struct sq_order *o, struct sq_lookup *l)
{
	struct sq_page p;
	struct sq_cell c;
	for (; l->depth < SQ_DEPTH_MOST; l->depth++) {
		if (!sq_bytes(o, o->page, l->page)) {
			if (!l->asked)
				sq_want(o, l->page);
			l->asked = true;
			return sq_is_page(o, l->page);
		}
		l->asked = false;
		if (!sq_page_open(&p, &o->shape, o->page, l->page))
			return false;
		if (p.type != SQ_TABLE_INTERIOR) {
			if (sq_page_row(&p, l->rowid, &c))
				found(o, l, &c);
			return false;
		}
		uint32_t child = sq_page_child_of(&p, l->rowid);
		if (!sq_map_find(&o->map, child))
			sq_map_children(o, l->page, &p, l->tree);
		l->page = child;
	}
	return false;
}

void sq_lookups_run(struct sq_order *o)
{
	if (!o->lookups_news)
		return;
	o->lookups_news = false;
	/* Rows that are found may add more at the end: they are taken along. */
	unsigned kept = 0;
	for (unsigned i = 0; i < o->lookup_count; i++) {
		struct sq_lookup l = o->lookups[i];
		if (!advance(o, &l))
			continue;
		o->lookups[kept++] = l;
	}
	o->lookup_count = kept;
	o->lookups_news = false;
}

/* --- foreign keys --- */

/* The rows that were found before their edge became active. */
static void catch_up(struct sq_order *o, uint16_t tree, const struct sq_edge *e)
{
	uint32_t first = o->row_head > SQ_ROWS ? o->row_head - SQ_ROWS : 0, end = o->row_head;
	for (uint32_t i = first; i < end; i++) {
		struct sq_row r = o->rows[i % SQ_ROWS];
		struct sq_page p;
		struct sq_cell c;
		int64_t key;
		if (r.tree == tree && r.hops < SQ_HOPS_MOST && sq_get(o, o->page, r.page, &p) &&
		    sq_page_row(&p, r.rowid, &c) && row_int(&o->trees[tree], &c, e->column, &key))
			sq_lookup(o, e->to, key, (uint8_t)(r.hops + 1));
	}
}

static void activate(struct sq_order *o, uint16_t tree, struct sq_edge *e)
{
	if (e->active)
		return;
	e->active = true;
	catch_up(o, tree, e);
}

/* A table is in use: foreign keys to it are, of tables whose rows were read just before. */
static void use_declared(struct sq_order *o, uint16_t tree)
{
	for (uint32_t i = 0; i < o->tree_count; i++) {
		struct sq_tree *from = &o->trees[i];
		for (unsigned k = 0; from->touched && k < from->edge_count; k++)
			if (from->edges[k].declared && from->edges[k].to == tree)
				activate(o, (uint16_t)i, &from->edges[k]);
	}
}

static struct sq_edge *edge_of(struct sq_tree *t, uint16_t column, uint16_t to)
{
	for (unsigned i = 0; i < t->edge_count; i++)
		if (t->edges[i].column == column && t->edges[i].to == to)
			return &t->edges[i];
	if (t->edge_count == SQ_FKEYS)
		return NULL;
	t->edges[t->edge_count] = (struct sq_edge){.column = column, .to = to};
	return &t->edges[t->edge_count++];
}

/* Which column of the row that `from` was last read for lies in r? Each that does twice is an edge.
 */
static void learn_from(struct sq_order *o, uint16_t from, uint16_t to, struct sq_rowids r)
{
	struct sq_tree *t = &o->trees[from];
	struct sq_page p;
	struct sq_cell c;
	int64_t key;
	if (!sq_get(o, o->other, t->row_leaf, &p) || !sq_page_row(&p, t->row_id, &c))
		return;
	for (uint16_t column = 0; column < LEARN_COLUMNS; column++) {
		if (!row_int(t, &c, column, &key) || key <= r.low || key > r.high)
			continue;
		struct sq_edge *e = edge_of(t, column, to);
		if (e && !e->active && ++e->hits >= LEARN_HITS)
			activate(o, from, e);
	}
}

/* The row of this leaf that was looked up ahead, if there was one. */
static void note_row(struct sq_order *o, uint16_t tree, uint32_t page)
{
	uint32_t first = o->row_head > SQ_ROWS ? o->row_head - SQ_ROWS : 0;
	o->trees[tree].row_leaf = 0;
	for (uint32_t i = o->row_head; i-- > first;) {
		const struct sq_row *r = &o->rows[i % SQ_ROWS];
		if (r->tree != tree || r->page != page)
			continue;
		o->trees[tree].row_leaf = page;
		o->trees[tree].row_id = r->rowid;
		return;
	}
}

void sq_lookup_touch(struct sq_order *o, uint16_t tree, uint32_t page, bool leaf,
                     struct sq_rowids r)
{
	use_declared(o, tree);
	if (!leaf)
		return;
	for (uint32_t i = 0; i < o->tree_count; i++)
		if (i != tree && o->trees[i].row_leaf &&
		    o->clock - o->trees[i].touched_at <= LEARN_SPAN)
			learn_from(o, (uint16_t)i, tree, r);
	note_row(o, tree, page);
}
