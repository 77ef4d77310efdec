/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files for full-text search share.
 *
 *     sqlite_fts.c        FTS5's tables, opening one, what was read
 *     sqlite_fts_idx.c    its index of blocks: where other segments have a term
 *     sqlite_fts_segments.c   which segments there are
 *     sqlite_fts_list.c   blocks: terms and their rows
 *     sqlite_fts_rows.c   the rows that a query comes to
 *
 * FTS5 keeps an index NAME in tables NAME_data (blocks of terms and their rows), NAME_idx (which
 * block of a segment begins with which term), NAME_docsize, NAME_config and perhaps NAME_content.
 * A list over many blocks has an index of its own in _data (a "doclist index"), which a query for
 * its term reads, too. Opening one reads the rows 1 and 10 of _data. For each of its terms a query
 * goes to every segment, one after another: to _idx, then to a block of _data; then to rows of the
 * table whose text it is, in the order of their rowids. The format:
 * https://www.sqlite.org/src/file/ext/fts5/fts5_index.c, at its top.
 */
#ifndef HITHER_ORDER_SQLITE_FTS_H
#define HITHER_ORDER_SQLITE_FTS_H

#include "order/sqlite_order.h"

enum {
	FTS_TERM_BYTES = 32, /* longer ones are cut: a guess at worst */
	FTS_BLOCKS = 128,    /* read last, that are remembered */
	FTS_WAVES = 8,
	FTS_IDX_PAGES = 256,
	FTS_ROWS = 256,      /* of a query, that are known ahead */
	FTS_SEGMENTS = 2000, /* FTS5_MAX_SEGMENT */
};

/* Of blocks first to last; those before were merged into another segment already, though _idx still
 * has them. */
struct fts_segment {
	uint32_t id, first;
};

struct fts_term {
	uint8_t len, bytes[FTS_TERM_BYTES];
};

/* A block that begins with a term, or the first of a segment; by rising blocks. */
struct fts_entry {
	int64_t block; /* rowid in _data */
	struct fts_term term;
	uint8_t wave; /* it was asked for in that one; 0: not yet */
	bool has_dlidx;
};

/* One term of a query, which lies in the same interval in all segments. */
struct fts_wave {
	uint8_t number; /* 0: none */
	bool open;      /* there is no `high` */
	struct fts_term low, high;
	uint64_t at;   /* clock when a block of it was read last */
	uint8_t reads; /* blocks that were, up to 2 */
};

struct fts_block {
	int64_t id;
	uint8_t wave;
};

struct sq_fts {
	uint16_t data, idx, content, docsize; /* trees, or SQ_NONE */
	bool started, data_wide, content_wide;
	struct fts_block blocks[FTS_BLOCKS];
	uint64_t block_count; /* ever */
	/* sqlite_fts_idx.c */
	uint32_t *idx_pages; /* FTS_IDX_PAGES; of leaves */
	uint32_t idx_count, idx_here;
	bool idx_asked, idx_dead;
	struct fts_segment *segments; /* NULL: not known */
	uint32_t segment_count;
	bool segments_read;
	struct fts_entry *entries; /* NULL: not known yet */
	uint32_t entry_count;
	struct fts_wave waves[FTS_WAVES];
	uint8_t wave_number;
	int64_t latest_block;
	uint32_t going_on; /* blocks read one after another */
	/* sqlite_fts_rows.c */
	int64_t rows[FTS_ROWS];
	uint32_t row_count, content_given, docsize_given;
	struct sq_rowids at; /* where the reader of the text is */
	bool reading;        /* there is one */
	unsigned arrivals;   /* since the rows were looked for */
	struct sq_fts *next;
};

/* Is a row of _data no block but a part of a doclist index? */
bool fts_is_dlidx(int64_t id);
/* Read the structure record. False: it is not here yet. */
bool fts_segments_read(struct sq_order *o, struct sq_fts *f);
/* NULL: there is none of this id. */
const struct fts_segment *fts_segment_of(const struct sq_fts *f, uint32_t id);
/* The bytes of a row of _data, in o->other, if they are here. */
bool fts_data(struct sq_order *o, const struct sq_fts *f, int64_t id, struct sq_value *out);
/* Take _idx whole, once its root is here. */
void fts_idx_take(struct sq_order *o, struct sq_fts *f);
/* Read it, once all of it is here. */
void fts_idx_run(struct sq_order *o, struct sq_fts *f);
/* A block was read: ask for what goes with it. Returns the wave that it is of; 0: not known. */
uint8_t fts_idx_block(struct sq_order *o, struct sq_fts *f, int64_t id);
int fts_term_compare(const struct fts_term *a, const struct fts_term *b);
bool fts_wave_has(const struct fts_wave *w, const struct fts_term *term);

/* One list of rows in a block, and whose it is. */
struct fts_list {
	uint32_t from, to;
	bool continued; /* begins on an earlier block: the term is not known here */
	struct fts_term term;
};
enum { FTS_LISTS = 1024 };
unsigned fts_lists(const uint8_t *block, uint32_t len, struct fts_list out[FTS_LISTS]);
/* Call each for every row of a list; false ends it. */
void fts_rows(const uint8_t *block, const struct fts_list *list,
              bool (*each)(void *user, int64_t rowid), void *user);

/* Something has arrived: lists may go on further by now. */
void fts_rows_run(struct sq_order *o, struct sq_fts *f);
/* The reader is among these rows of the text's table (or of _docsize). */
void fts_predict(struct sq_order *o, struct sq_fts *f, uint16_t tree, struct sq_rowids at);

#endif
