/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order that knows SQLite, inside.
 *
 *     sqlite.c          the order: what was read and what arrived goes in, ranges come out
 *     sqlite_page.c     pages, cells, records
 *     sqlite_schema.c   the trees, by sqlite_schema             sqlite_sql.c  columns, foreign keys
 *     sqlite_map.c      whose page, and under which one
 *     sqlite_lookup.c   from a rowid to its row's page, and from a row to rows that it names
 *     sqlite_range.c    the rows that an index range names
 *     sqlite_scan.c     leaves in their order
 *     sqlite_fts*.c     FTS5's tables; sqlite_fts.h has their picture
 *
 * All works on pages that are local (peek), so it costs no request but those for what it suggests.
 * SQLite's page cache hides reads of interior pages: hence the map, which is fed by every interior
 * page that somebody came by. Nothing here is believed further than a guess: each walk is bounded,
 * by depth or by a budget, so that pages in a circle end it.
 */
#ifndef HITHER_ORDER_SQLITE_ORDER_H
#define HITHER_ORDER_SQLITE_ORDER_H

#include "order/seen.h"
#include "order/sqlite_page.h"

#include <hither/order.h>

enum {
	SQ_TREES_MOST = 4096,
	SQ_DEPTH_MOST = 20,
	SQ_NAME_BYTES = 64,
	SQ_FKEYS = 6, /* foreign keys that are looked at, of a table */
	SQ_NONE = 0xffff,
};

enum sq_tree_kind { SQ_TABLE, SQ_INDEX, SQ_WITHOUT_ROWID };

/* A column whose value is the rowid of a row of another table. */
struct sq_edge {
	uint16_t column;
	uint16_t to;   /* tree */
	uint8_t hits;  /* learned: the session has shown it */
	bool declared; /* by the schema */
	bool active;   /* the other table is in use */
};

struct sq_tree {
	uint32_t root;
	enum sq_tree_kind kind;
	char name[SQ_NAME_BYTES], table_name[SQ_NAME_BYTES];
	uint16_t table;     /* an index: its table's tree, or SQ_NONE */
	int16_t key_column; /* INTEGER PRIMARY KEY: its value is the rowid; -1: none */
	uint16_t fts;       /* 1 + index of its FTS5 table; 0: none */
	uint32_t touched;   /* pages that were read */
	uint64_t touched_at;
	uint8_t height; /* pages from the root to a leaf; 0: not known */
	bool overflows; /* its overflow pages are read */
	bool widened;   /* its interior pages were asked for */
	struct sq_edge edges[SQ_FKEYS];
	unsigned edge_count;
	/* sqlite_scan.c */
	uint32_t last_leaf, run; /* consecutive leaves read */
	bool scanned;            /* its leaves are asked for ahead */
	uint32_t ahead_leaf;     /* handed out up to here; 0: nothing */
	uint64_t ahead_bytes;    /* of them, not yet read */
	/* sqlite_range.c */
	uint32_t cursor; /* an index: the leaf read last, from which no row was looked up yet */
	/* sqlite_lookup.c */
	uint32_t row_leaf; /* the leaf read last, and one of its rows that was expected */
	int64_t row_id;
};

/* --- sqlite_map.c --- */

struct sq_place {
	uint32_t page; /* 0: free */
	uint32_t parent;
	uint16_t tree;
	uint16_t overflow : 1;
	uint16_t at : 15; /* which child of its parent it was last known to be */
};
struct sq_map {
	struct sq_place *places;
	uint32_t room, count;
};

/* --- sqlite_lookup.c --- */

struct sq_lookup {
	int64_t rowid;
	uint32_t page; /* where it is; 0: over */
	uint16_t tree;
	uint8_t depth; /* pages passed */
	uint8_t hops;  /* foreign keys passed */
	bool asked;    /* its page was, and has not come */
};
enum { SQ_LOOKUPS = 2048, SQ_ROWS = 512, SQ_HOPS_MOST = 3 };
struct sq_row {
	int64_t rowid;
	uint32_t page;
	uint16_t tree;
	uint8_t hops;
};

/* --- sqlite_range.c --- */

enum { SQ_RANGES = 8, SQ_KEY_BYTES = 64 };
struct sq_index_range {
	uint16_t index;
	bool open;             /* goes on */
	bool any;              /* all rows, not just those of one key */
	uint32_t leaf;         /* of the index; 0: the struct is free */
	uint32_t before;       /* the leaf before it */
	uint32_t next;         /* cell */
	uint32_t given, taken; /* rows looked up ahead, rows that were read */
	uint32_t budget;       /* most rows ahead */
	uint64_t key_type;
	uint32_t key_len;
	uint8_t key[SQ_KEY_BYTES]; /* the first column of its rows */
};

/* --- sqlite.c --- */

struct sq_queue {
	uint32_t *pages; /* a ring of SQ_QUEUE */
	uint32_t head, tail;
};
enum { SQ_QUEUE = 8192, SQ_LATER = 64 };
struct sq_unread {
	uint32_t page; /* 0: none */
	bool told;     /* all was done that can be done without its bytes */
};

struct sq_order {
	struct hither_order base;
	const struct hither_order_view *view;
	bool dead, ready; /* not SQLite; the header was read */
	bool head_asked, schema_known, roots_asked;
	bool news; /* something has arrived since the schema was looked at */
	struct sq_shape shape;
	struct seen asked;                 /* 4 KiB blocks that were asked for */
	struct sq_queue soon, later;       /* pages to ask for */
	uint64_t clock;                    /* pages read so far */
	uint64_t window;                   /* bytes the link keeps in flight */
	struct sq_unread unread[SQ_LATER]; /* read by SQLite before they were local */
	unsigned unread_at, unread_count;
	uint8_t *page; /* the buffers of sq_get: a page each */
	uint8_t *other;
	uint32_t page_held, other_held; /* the pages in them; 0: none */

	struct sq_tree *trees;
	uint32_t tree_count;
	struct sq_tree *widening; /* a table whose root must come first; NULL */
	struct sq_map map;
	struct sq_lookup *lookups; /* SQ_LOOKUPS */
	unsigned lookup_count;
	bool lookups_news;   /* something has arrived since they were looked at */
	struct sq_row *rows; /* a ring of SQ_ROWS: rows that were looked up ahead and found */
	uint32_t row_head;
	struct sq_index_range ranges[SQ_RANGES];
	struct sq_fts *fts; /* sqlite_fts.c's own */
};

/* The page's bytes in `buf` (one of page, other), opened. False: not local, or no B-tree page. */
bool sq_get(struct sq_order *o, uint8_t *buf, uint32_t number, struct sq_page *out);
/* True: the page is local, its bytes are in buf. */
bool sq_bytes(struct sq_order *o, uint8_t *buf, uint32_t number);
bool sq_is_page(const struct sq_order *o, uint32_t number);
/* Ask for a page, once. */
void sq_want(struct sq_order *o, uint32_t number);
void sq_want_later(struct sq_order *o, uint32_t number);

int sq_map_init(struct sq_map *m);
void sq_map_finish(struct sq_map *m);
/* NULL: not known. Valid until the next add. */
struct sq_place *sq_map_find(const struct sq_map *m, uint32_t page);
/* The first word counts; more than the map holds are forgotten. */
void sq_map_add(struct sq_map *m, const struct sq_place *place);
/* Which child of its parent, which is open as p, a page is; UINT32_MAX: none. */
uint32_t sq_map_child(const struct sq_place *place, const struct sq_page *parent);
/* Note the children of an interior page. */
void sq_map_children(struct sq_order *o, uint32_t number, const struct sq_page *p, uint16_t tree);

/* Go on with reading the schema. True: it is known. */
bool sq_schema_read(struct sq_order *o);
void sq_sql_read(struct sq_order *o, struct sq_tree *t, const char *sql, size_t len);

/* Look a row up, from the tree's root. */
void sq_lookup(struct sq_order *o, uint16_t tree, int64_t rowid, uint8_t hops);
void sq_lookups_run(struct sq_order *o);
/* SQLite has come to a page of a table that has these rowids. */
void sq_lookup_touch(struct sq_order *o, uint16_t tree, uint32_t page, bool leaf,
                     struct sq_rowids r);

/* An index's leaf was read, and is local. */
void sq_range_leaf(struct sq_order *o, uint16_t index, uint32_t leaf);
void sq_range_touch(struct sq_order *o, uint16_t table, bool leaf, struct sq_rowids r);
void sq_ranges_run(struct sq_order *o);

/* The page after this one on its level; 0: none, or not known yet (then what it takes is asked
 * for). */
uint32_t sq_scan_next(struct sq_order *o, uint32_t number);
void sq_scan_leaf(struct sq_order *o, uint16_t tree, uint32_t leaf);
/* Does somebody go down the left edge of a tree, as scans do? */
bool sq_scan_begins(struct sq_order *o, const struct sq_tree *t, uint32_t number);
/* The next extent of a scan; false: nothing now. */
bool sq_scan_extent(struct sq_order *o, struct hither_range *out);

void sq_fts_finish(struct sq_order *o);
/* The trees are known: find the tables of full-text indexes. */
void sq_fts_find(struct sq_order *o);
/* The SQL of a table without a tree. */
void sq_fts_sql(struct sq_order *o, const char *name, const char *sql, size_t len);
void sq_fts_touch(struct sq_order *o, uint16_t tree, uint32_t page, bool leaf, struct sq_rowids r);
void sq_fts_arrived(struct sq_order *o);
void sq_fts_run(struct sq_order *o);

#endif
