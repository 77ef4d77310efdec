/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages a statement touched, by table and index. SQLite comes to a page by way of its
 * parents, so every page that was ever touched is found from the roots through touched pages
 * alone, and those are local: this costs no request, however large the database.
 */
#include "remote.h"

#include "pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOBODY = 0, HEADER_BYTES = 100 };

struct tree {
	char label[128]; /* "index purchase_day" */
	uint32_t root;
	uint32_t touched, waited, guessed; /* by this statement */
};

enum touched {
	TOUCHED_WAITED,
	TOUCHED_GUESSED, /* it came before it was asked for */
	TOUCHED_BEFORE,  /* by this program or, on a cache that is kept, by an earlier one */
};

struct touch {
	uint32_t page;
	enum touched how;
};

struct explain {
	sqlite3 *db;
	sqlite3_file *file;
	uint32_t page_bytes, usable, page_count;
	uint8_t *seen;   /* [page_count + 1] a page was read, by any statement */
	uint8_t *kept;   /* [page_count + 1] it was local from the start */
	uint16_t *owner; /* [page_count + 1] index into trees */
	uint32_t *queue; /* [page_count + 1] pages whose children are to be looked at */
	uint8_t *is_overflow;
	uint32_t queued;
	uint16_t now;       /* the tree being walked */
	struct tree *trees; /* the first is nobody's */
	size_t tree_count;
	struct touch *touches;
	size_t touch_count, touch_room;
	bool deaf;
};

/* --- listening --- */

static void touch(struct explain *e, uint32_t page, bool waited)
{
	if (page < 1 || page > e->page_count)
		return;
	enum touched how = waited                           ? TOUCHED_WAITED
	                   : e->seen[page] || e->kept[page] ? TOUCHED_BEFORE
	                                                    : TOUCHED_GUESSED;
	e->seen[page] = 1;
	if (e->touch_count == e->touch_room) {
		size_t room = e->touch_room ? 2 * e->touch_room : 256;
		struct touch *more = realloc(e->touches, room * sizeof *more);
		if (!more)
			return; /* the picture lacks a page */
		e->touches = more;
		e->touch_room = room;
	}
	e->touches[e->touch_count++] = (struct touch){page, how};
}

static void heard(void *user, const struct hither_sqlite_read *r)
{
	struct explain *e = user;
	if (!e->deaf && r->len == e->page_bytes)
		touch(e, (uint32_t)(r->offset / e->page_bytes) + 1, r->waited);
}

static int read_header(struct explain *e)
{
	unsigned char h[HEADER_BYTES];
	sqlite3_int64 size = 0;
	if (e->file->pMethods->xFileSize(e->file, &size) || size < HEADER_BYTES ||
	    e->file->pMethods->xRead(e->file, h, sizeof h, 0))
		return -1;
	e->page_bytes = (uint32_t)h[16] << 8 | h[17];
	if (e->page_bytes == 1)
		e->page_bytes = 65536;
	if (e->page_bytes < 512)
		e->page_bytes = 4096; /* not a database: the query will say so */
	e->usable = e->page_bytes - h[20];
	uint64_t count = (uint64_t)size / e->page_bytes;
	e->page_count = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX - 1;
	return 0;
}

/* What an earlier run has left in the cache, and what came with the opening. */
static void note_kept(struct explain *e)
{
	uint64_t size = (uint64_t)e->page_count * e->page_bytes;
	struct hither_sqlite_local l = {0};
	for (; l.offset < size; l.offset += l.len) {
		if (sqlite3_file_control(e->db, "main", HITHER_SQLITE_LOCAL, &l) || !l.len)
			return;
		uint64_t first = (l.offset + e->page_bytes - 1) / e->page_bytes,
		         end = (l.offset + l.len) / e->page_bytes;
		if (l.local && first < end && end <= e->page_count)
			memset(e->kept + first + 1, 1, end - first);
	}
}

struct explain *explain_start(sqlite3 *db)
{
	struct explain *e = calloc(1, sizeof *e);
	if (!e)
		return NULL;
	e->db = db;
	sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &e->file);
	if (e->file && e->file->pMethods)
		read_header(e);
	size_t n = (size_t)e->page_count + 1;
	e->seen = calloc(n, sizeof *e->seen);
	e->kept = calloc(n, sizeof *e->kept);
	e->owner = calloc(n, sizeof *e->owner);
	e->queue = calloc(n, sizeof *e->queue);
	e->is_overflow = calloc(n, sizeof *e->is_overflow);
	if (!e->seen || !e->kept || !e->owner || !e->queue || !e->is_overflow) {
		explain_destroy(e);
		return NULL;
	}
	if (e->page_count)
		note_kept(e);
	struct hither_sqlite_observer observer = {heard, e};
	sqlite3_file_control(db, "main", HITHER_SQLITE_OBSERVE, &observer);
	return e;
}

void explain_destroy(struct explain *e)
{
	if (!e)
		return;
	sqlite3_file_control(e->db, "main", HITHER_SQLITE_OBSERVE, NULL);
	free(e->seen);
	free(e->kept);
	free(e->owner);
	free(e->queue);
	free(e->is_overflow);
	free(e->trees);
	free(e->touches);
	free(e);
}

void explain_begin(struct explain *e)
{
	e->touch_count = 0;
}

/* --- whose page --- */

static void own(void *user, uint32_t page, int is_overflow)
{
	struct explain *e = user;
	if (page < 1 || page > e->page_count || !e->seen[page] || e->owner[page] != NOBODY)
		return;
	e->owner[page] = e->now;
	e->is_overflow[page] = (uint8_t)is_overflow;
	e->queue[e->queued++] = page;
}

static void walk(struct explain *e, uint16_t tree, unsigned char *bytes)
{
	e->now = tree;
	own(e, e->trees[tree].root, 0);
	while (e->queued > 0) {
		uint32_t page = e->queue[--e->queued];
		struct page p = {bytes, e->page_bytes, e->usable, page};
		if (e->file->pMethods->xRead(e->file, bytes, (int)e->page_bytes,
		                             (sqlite3_int64)(page - 1) * e->page_bytes))
			continue;
		if (!e->is_overflow[page])
			pages_children(&p, own, e);
		else
			own(e, pages_next(&p), 1);
	}
}

static bool add_tree(struct explain *e, const char *kind, const char *name, uint32_t root)
{
	struct tree *more = realloc(e->trees, (e->tree_count + 1) * sizeof *more);
	if (!more || e->tree_count > UINT16_MAX)
		return false;
	e->trees = more;
	struct tree *t = &e->trees[e->tree_count++];
	*t = (struct tree){.root = root};
	snprintf(t->label, sizeof t->label, "%s %s", kind, name);
	return true;
}

/* The schema is in SQLite's own memory by now; a statement may have changed it. */
static void list_trees(struct explain *e)
{
	sqlite3_stmt *stmt = NULL;
	e->tree_count = 0;
	bool more = add_tree(e, "other", "pages", 0) && add_tree(e, "the", "schema", 1);
	if (sqlite3_prepare_v2(e->db,
	                       "SELECT type, name, rootpage FROM sqlite_schema WHERE rootpage > 0",
	                       -1, &stmt, NULL))
		return;
	while (more && sqlite3_step(stmt) == SQLITE_ROW)
		more = add_tree(e, (const char *)sqlite3_column_text(stmt, 0),
		                (const char *)sqlite3_column_text(stmt, 1),
		                (uint32_t)sqlite3_column_int64(stmt, 2));
	sqlite3_finalize(stmt);
}

static void find_owners(struct explain *e)
{
	unsigned char *bytes = malloc(e->page_bytes);
	memset(e->owner, 0, ((size_t)e->page_count + 1) * sizeof *e->owner);
	for (size_t t = 1; bytes && t < e->tree_count; t++)
		walk(e, (uint16_t)t, bytes);
	free(bytes);
}

static int most_touched_first(const void *a, const void *b)
{
	const struct tree *x = a, *y = b;
	return x->touched < y->touched ? 1 : x->touched > y->touched ? -1 : 0;
}

void explain_print(struct explain *e, const char *statement)
{
	e->deaf = true;
	list_trees(e);
	find_owners(e);
	e->deaf = false;
	for (size_t i = 0; i < e->touch_count; i++) {
		struct tree *t = &e->trees[e->owner[e->touches[i].page]];
		t->touched++;
		t->waited += e->touches[i].how == TOUCHED_WAITED;
		t->guessed += e->touches[i].how == TOUCHED_GUESSED;
	}
	qsort(e->trees, e->tree_count, sizeof *e->trees, most_touched_first);
	fprintf(stderr, "%s: %zu pages read\n", statement, e->touch_count);
	for (size_t i = 0; i < e->tree_count && e->trees[i].touched; i++)
		fprintf(stderr,
		        "  %-34s %6u pages: %6u waited for, %6u guessed in time, %6u here before\n",
		        e->trees[i].label, e->trees[i].touched, e->trees[i].waited,
		        e->trees[i].guessed,
		        e->trees[i].touched - e->trees[i].waited - e->trees[i].guessed);
}
