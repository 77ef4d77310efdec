/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a SQLite database, read with suspicion: whatever the bytes are, nothing outside the page
 * is touched, and a cell that is not what it should be is no cell. No state, no I/O.
 * The format: https://www.sqlite.org/fileformat2.html; sections are named where they matter.
 */
#ifndef HITHER_ORDER_SQLITE_PAGE_H
#define HITHER_ORDER_SQLITE_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SQ_HEADER_BYTES = 100, SQ_PAGE_MOST_BYTES = 65536 };

/* Page types, 1.6. */
enum { SQ_INDEX_INTERIOR = 2, SQ_TABLE_INTERIOR = 5, SQ_INDEX_LEAF = 10, SQ_TABLE_LEAF = 13 };

/* What the database header says, 1.3. */
struct sq_shape {
	uint32_t page_bytes;
	uint32_t usable; /* less what is reserved at each page's end */
	uint32_t page_count;
};
/* False: not a SQLite database. */
bool sq_shape_read(const uint8_t *head, size_t len, uint64_t size_bytes, struct sq_shape *out);

struct sq_page {
	const uint8_t *bytes;
	uint32_t usable;
	uint32_t cells; /* offset of the cell pointers */
	uint32_t count; /* of cells */
	uint32_t right; /* interior: the child after the last cell's */
	uint8_t type;
};
/* False: not a page of a B-tree. */
bool sq_page_open(struct sq_page *p, const struct sq_shape *shape, const uint8_t *bytes,
                  uint32_t number);
static inline bool sq_page_is_interior(const struct sq_page *p)
{
	return p->type == SQ_INDEX_INTERIOR || p->type == SQ_TABLE_INTERIOR;
}
static inline bool sq_page_is_table(const struct sq_page *p)
{
	return p->type == SQ_TABLE_LEAF || p->type == SQ_TABLE_INTERIOR;
}

struct sq_cell {
	uint32_t child;    /* interior pages, else 0 */
	int64_t rowid;     /* tables */
	uint64_t payload;  /* bytes of the record; 0: none */
	uint32_t overflow; /* its first overflow page, 0: none */
	const uint8_t *record;
	uint32_t local; /* bytes of the record in this page */
};
bool sq_page_cell(const struct sq_page *p, uint32_t i, struct sq_cell *out);

/* The i-th child of an interior page, 0 to count; 0: there is none. */
uint32_t sq_page_child(const struct sq_page *p, uint32_t i);
/* Which child is it; UINT32_MAX: none. */
uint32_t sq_page_find_child(const struct sq_page *p, uint32_t child);

/* Rowids above `low` and up to `high`. */
struct sq_rowids {
	int64_t low, high;
};
/* Those under the i-th child of an interior table page, which has those of *within. */
struct sq_rowids sq_page_rowids(const struct sq_page *p, uint32_t i, struct sq_rowids within);
/* The child of an interior table page that has a rowid. */
uint32_t sq_page_child_of(const struct sq_page *p, int64_t rowid);
/* The cell of a table's leaf that has it; false: none. */
bool sq_page_row(const struct sq_page *p, int64_t rowid, struct sq_cell *out);

/* A value in a record, 2.1; its bytes are those that lie in the page. */
struct sq_value {
	uint64_t type; /* serial type */
	const uint8_t *bytes;
	uint64_t len;
};
/* Column i; false: the record has not so many, or it lies on overflow pages. */
bool sq_cell_value(const struct sq_cell *c, uint32_t i, struct sq_value *out);
/* The last column, which is the rowid in an index of a table with rowids. */
bool sq_cell_last(const struct sq_cell *c, struct sq_value *out);
/* False: not an integer. */
bool sq_value_int(const struct sq_value *v, int64_t *out);
bool sq_value_is_text(const struct sq_value *v);

uint16_t sq_be16(const uint8_t *p);
uint32_t sq_be32(const uint8_t *p);
/* A varint, 1.6, in [at, end): its length; 0: it goes past the end. */
size_t sq_varint(const uint8_t *at, const uint8_t *end, uint64_t *out);

#endif
