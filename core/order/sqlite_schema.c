/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trees, by the rows of sqlite_schema, whose own root is page 1. It is read anew while pages of
 * it are missing; SQLite needs all of them before its first query, so all are asked for at once.
 */
#include "order/sqlite_order.h"

#include <stdlib.h>
#include <string.h>

enum {
	SCHEMA_PAGES_MOST = 4096,
	COLUMN_TYPE = 0,
	COLUMN_NAME = 1,
	COLUMN_TABLE = 2,
	COLUMN_ROOT = 3,
	COLUMN_SQL = 4,
};

/* Its text goes through what is local of the record: long SQL is on overflow pages. */
static bool text_of(const struct sq_cell *c, uint32_t column, char out[SQ_NAME_BYTES])
{
	struct sq_value v;
	if (!sq_cell_value(c, column, &v) || !sq_value_is_text(&v) || v.len >= SQ_NAME_BYTES ||
	    memchr(v.bytes, 0, v.len))
		return false;
	memcpy(out, v.bytes, v.len);
	out[v.len] = 0;
	return true;
}

static void add_tree(struct sq_order *o, const struct sq_cell *c)
{
	struct sq_tree t = {.table = SQ_NONE, .key_column = -1};
	struct sq_value v;
	int64_t root;
	char type[SQ_NAME_BYTES];
	if (o->tree_count == SQ_TREES_MOST || !text_of(c, COLUMN_TYPE, type) ||
	    !text_of(c, COLUMN_NAME, t.name) || !text_of(c, COLUMN_TABLE, t.table_name) ||
	    !sq_cell_value(c, COLUMN_ROOT, &v) || !sq_value_int(&v, &root) || root < 2 ||
	    root > o->shape.page_count)
		return;
	t.kind = strcmp(type, "table") ? SQ_INDEX : SQ_TABLE;
	t.root = (uint32_t)root;
	o->trees[o->tree_count++] = t;
}

/* The SQL, as much of it as is in the page. */
static void read_sql(struct sq_order *o, const struct sq_cell *c)
{
	struct sq_value v;
	struct sq_cell whole = *c;
	char name[SQ_NAME_BYTES];
	if (!text_of(c, COLUMN_NAME, name))
		return;
	struct sq_tree *t = NULL;
	for (uint32_t i = 0; !t && i < o->tree_count; i++)
		if (o->trees[i].kind == SQ_TABLE && !strcmp(o->trees[i].name, name))
			t = &o->trees[i];
	if (!t) {
		if (sq_cell_value(&whole, COLUMN_SQL, &v) && sq_value_is_text(&v))
			sq_fts_sql(o, name, (const char *)v.bytes, v.len);
		return;
	}
	/* A record that goes on elsewhere: its last column is cut off where the page's part ends.
	 */
	if (sq_cell_value(&whole, COLUMN_SQL, &v) && sq_value_is_text(&v)) {
		sq_sql_read(o, t, (const char *)v.bytes, v.len);
	} else if (c->overflow && sq_cell_value(c, COLUMN_ROOT, &v)) {
		const char *from = (const char *)v.bytes + v.len;
		sq_sql_read(o, t, from, c->local - (size_t)((const uint8_t *)from - c->record));
	}
}

typedef void (*visit)(struct sq_order *o, const struct sq_cell *c);

/* Call each for every row under a page. Returns how many pages are missing; they are asked for. */
static unsigned walk(struct sq_order *o, visit each, uint32_t number, unsigned depth,
                     unsigned *budget)
{
	uint8_t *bytes = malloc(o->shape.page_bytes);
	struct sq_page p;
	struct sq_cell c;
	unsigned missing = 0;
	if (!bytes || *budget == 0 || depth > SQ_DEPTH_MOST) {
		free(bytes);
		return 0;
	}
	--*budget;
	if (!sq_bytes(o, bytes, number)) {
		sq_want(o, number);
		missing = 1;
	} else if (sq_page_open(&p, &o->shape, bytes, number)) {
		for (uint32_t i = 0; p.type == SQ_TABLE_INTERIOR && i <= p.count; i++) {
			uint32_t child = sq_page_child(&p, i);
			if (sq_is_page(o, child))
				missing += walk(o, each, child, depth + 1, budget);
		}
		for (uint32_t i = 0; each && p.type == SQ_TABLE_LEAF && i < p.count; i++)
			if (sq_page_cell(&p, i, &c))
				each(o, &c);
	}
	free(bytes);
	return missing;
}

static unsigned walk_all(struct sq_order *o, visit each)
{
	unsigned budget = SCHEMA_PAGES_MOST;
	return walk(o, each, 1, 0, &budget);
}

/* An index is its table's if that has rowids. */
static void join_indexes(struct sq_order *o)
{
	for (uint32_t i = 0; i < o->tree_count; i++) {
		struct sq_tree *t = &o->trees[i];
		for (uint32_t k = 0; t->kind == SQ_INDEX && k < o->tree_count; k++)
			if (o->trees[k].kind == SQ_TABLE &&
			    !strcmp(o->trees[k].name, t->table_name))
				t->table = (uint16_t)k;
	}
}

bool sq_schema_read(struct sq_order *o)
{
	if (walk_all(o, NULL) > 0)
		return false;
	o->trees = calloc(SQ_TREES_MOST, sizeof *o->trees);
	if (!o->trees)
		return false;
	walk_all(o, add_tree);
	sq_fts_find(o);
	walk_all(o, read_sql);
	join_indexes(o);
	for (uint32_t i = 0; i < o->tree_count; i++)
		sq_map_add(&o->map,
		           &(struct sq_place){.page = o->trees[i].root, .tree = (uint16_t)i});
	o->schema_known = true;
	return true;
}
