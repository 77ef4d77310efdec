/* SPDX-License-Identifier: Apache-2.0 */
/* Full-text search: which tables belong to it, opening one, and what was read; sqlite_fts.h. */
#include "order/sqlite_fts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	ROW_AVERAGES = 1,
	ROW_STRUCTURE = 10,
	WIDE_MOST_BYTES = 512 << 10, /* interior pages are taken if they are no more */
	AHEAD = 4,                   /* blocks, where _idx is not known */
};

void sq_fts_finish(struct sq_order *o)
{
	while (o->fts) {
		struct sq_fts *f = o->fts;
		o->fts = f->next;
		free(f->idx_pages);
		free(f->entries);
		free(f->segments);
		free(f);
	}
}

static uint16_t tree_named(const struct sq_order *o, const char *stem, size_t len, const char *tail)
{
	for (uint32_t i = 0; i < o->tree_count; i++) {
		const char *name = o->trees[i].name;
		if (!strncasecmp(name, stem, len) && !strcasecmp(name + len, tail))
			return (uint16_t)i;
	}
	return SQ_NONE;
}

static struct sq_fts *create(struct sq_order *o, const char *name, size_t len)
{
	struct sq_fts *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	*f = (struct sq_fts){.data = tree_named(o, name, len, "_data"),
	                     .idx = tree_named(o, name, len, "_idx"),
	                     .docsize = tree_named(o, name, len, "_docsize"),
	                     .content = tree_named(o, name, len, "_content"),
	                     .next = o->fts};
	o->fts = f;
	return f;
}

void sq_fts_find(struct sq_order *o)
{
	static const char *const tails[] = {"_data", "_idx", "_docsize", "_config", "_content"};
	uint16_t number = 0;
	for (uint32_t i = 0; i < o->tree_count; i++) {
		const char *name = o->trees[i].name;
		size_t len = strlen(name);
		if (len < 6 || strcmp(name + len - 5, "_data") != 0)
			continue;
		len -= 5;
		if (tree_named(o, name, len, "_idx") == SQ_NONE || number == SQ_NONE - 1 ||
		    !create(o, name, len))
			continue;
		number++;
		for (size_t k = 0; k < sizeof tails / sizeof *tails; k++) {
			uint16_t tree = tree_named(o, name, len, tails[k]);
			if (tree != SQ_NONE)
				o->trees[tree].fts = number;
		}
	}
}

/* "..., content='product', ...": the table whose text it is. */
void sq_fts_sql(struct sq_order *o, const char *name, const char *sql, size_t len)
{
	static const char word[] = "content", blank[] = " \t\r\n'\"[`";
	size_t stem = strlen(name), n;
	const char *end = sql + len, *at = memmem(sql, len, word, sizeof word - 1);
	if (!at || !memmem(sql, len, "fts5", 4))
		return;
	for (at += sizeof word - 1; at < end && strchr(" \t\r\n=", *at) && *at; at++)
		;
	while (at < end && *at && strchr(blank, *at))
		at++;
	for (n = 0; at + n < end && at[n] && !strchr(" \t\r\n'\"]`,)", at[n]); n++)
		;
	for (struct sq_fts *f = o->fts; n && f; f = f->next)
		if (f->content == SQ_NONE && !strncasecmp(o->trees[f->data].name, name, stem) &&
		    !strcmp(o->trees[f->data].name + stem, "_data"))
			f->content = tree_named(o, at, n, "");
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

/* The interior pages under a root, if they are few. False: it is not here yet. */
static bool take_interior(struct sq_order *o, uint16_t tree)
{
	struct sq_page p, child;
	uint32_t root = o->trees[tree].root;
	sq_want(o, root);
	if (!sq_get(o, o->other, root, &p))
		return sq_bytes(o, o->other, root);
	if (!sq_page_is_interior(&p) || (uint64_t)p.count * o->shape.page_bytes > WIDE_MOST_BYTES)
		return true;
	sq_map_children(o, root, &p, tree);
	uint32_t first = sq_page_child(&p, 0);
	if (!sq_get(o, o->page, first, &child)) {
		sq_want(o, first);
		return sq_bytes(o, o->page, first);
	}
	for (uint32_t i = 1; sq_page_is_interior(&child) && i <= p.count; i++) {
		uint32_t page = sq_page_child(&p, i);
		if (sq_is_page(o, page))
			sq_want(o, page);
	}
	return true;
}

static void start(struct sq_order *o, struct sq_fts *f)
{
	f->started = true;
	uint16_t number = o->trees[f->data].fts;
	for (uint32_t i = 0; i < o->tree_count; i++)
		if (o->trees[i].fts == number)
			sq_want(o, o->trees[i].root);
	sq_lookup(o, f->data, ROW_STRUCTURE, SQ_HOPS_MOST);
	sq_lookup(o, f->data, ROW_AVERAGES, SQ_HOPS_MOST);
}

void sq_fts_arrived(struct sq_order *o)
{
	for (struct sq_fts *f = o->fts; f; f = f->next)
		f->arrivals++;
}

void sq_fts_run(struct sq_order *o)
{
	for (struct sq_fts *f = o->fts; f; f = f->next) {
		if (!f->started)
			continue;
		f->data_wide = f->data_wide || take_interior(o, f->data);
		fts_idx_run(o, f);
		fts_rows_run(o, f);
		/* What is searched for will be looked at. */
		if (!f->content_wide && f->content != SQ_NONE)
			f->content_wide = take_interior(o, f->content);
	}
}

/* --- what was read --- */

/* A leaf of _data has one block, as a rule; the pages above it tell which. */
static void read_block(struct sq_order *o, struct sq_fts *f, uint32_t page, struct sq_rowids r)
{
	struct sq_page p;
	struct sq_cell c;
	int64_t id = r.high;
	if (sq_get(o, o->other, page, &p) && p.type == SQ_TABLE_LEAF && sq_page_cell(&p, 0, &c))
		id = c.rowid;
	else if (id == INT64_MAX && r.low == INT64_MIN)
		return;
	else if (id == INT64_MAX)
		id = r.low + 1;
	if (fts_is_dlidx(id))
		return;
	uint8_t wave = fts_idx_block(o, f, id);
	f->blocks[f->block_count++ % FTS_BLOCKS] = (struct fts_block){id, wave};
	for (unsigned i = 0; !f->entries && page && i < AHEAD; i++)
		if ((page = sq_scan_next(o, page)))
			sq_want(o, page);
}

void sq_fts_touch(struct sq_order *o, uint16_t tree, uint32_t page, bool leaf, struct sq_rowids r)
{
	struct sq_fts *f = fts_of(o, o->trees[tree].fts);
	if (f && !f->started)
		start(o, f);
	if (f && tree == f->data) {
		if (leaf)
			read_block(o, f, page, r);
		return;
	}
	if (r.low == INT64_MIN && r.high == INT64_MAX)
		return; /* all rows tell nothing */
	for (f = o->fts; f; f = f->next)
		if (f->block_count && (tree == f->content || tree == f->docsize))
			fts_predict(o, f, tree, r);
}
