/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the order that knows SQLite: a database that SQLite makes, of which a byte is local
 * once it has arrived, and a reader and a network that are played.
 */
#ifndef HITHER_ORDER_SQLITE_PLAYED_H
#define HITHER_ORDER_SQLITE_PLAYED_H

#include "check.h"
#include "order/format.h"
#include "order/sqlite_page.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096 };

struct database {
	struct hither_order_view view;
	uint8_t *bytes, *local; /* local: a byte a block */
	uint64_t asked;         /* bytes */
	uint32_t page;
	struct hither_order *order;
};

static inline int peek(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset)
{
	const struct database *d = (const struct database *)view;
	if (offset > view->size_bytes || len > view->size_bytes - offset)
		return -EINVAL;
	for (uint64_t at = offset; at < offset + len; at++)
		if (!d->local[at / BLOCK])
			return -EAGAIN;
	memcpy(buf, d->bytes + offset, len);
	return 0;
}

static uint32_t warm_connections; /* of the open database, that were foretold */

static inline void note_warm(const struct hither_order_view *view, uint32_t connections)
{
	warm_connections = connections;
}

static inline void open_database(struct database *d, const char *sql)
{
	char path[] = "/tmp/hither-sqlite-order-XXXXXX";
	struct hither_error err = {0};
	sqlite3 *db;
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	struct stat st;
	CHECK(!stat(path, &st));
	*d = (struct database){
	        .view = {.size_bytes = (uint64_t)st.st_size, .peek = peek, .warm = note_warm}};
	d->bytes = malloc((size_t)st.st_size);
	d->local = calloc((size_t)st.st_size / BLOCK + 1, 1);
	CHECK(d->bytes && d->local);
	CHECK_EQ(pread(fd, d->bytes, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	unlink(path);
	warm_connections = 0;
	d->page = sq_be16(d->bytes + 16) == 1 ? 65536 : sq_be16(d->bytes + 16);
	CHECK_OK(hither_order_format(&d->view, NULL, &d->order, &err));
}

static inline void close_database(struct database *d)
{
	hither_order_destroy(d->order);
	free(d->bytes);
	free(d->local);
}

static inline void arrive(struct database *d, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len;
	offset -= offset % BLOCK;
	for (uint64_t at = offset; at < end; at += BLOCK)
		d->local[at / BLOCK] = 1;
	d->order->ops->arrived(d->order, offset, end - offset);
}

/* Round trips until it asks for no more: all that it asks for at a time comes at once. */
static inline unsigned settle(struct database *d)
{
	unsigned trips = 0;
	for (;;) {
		struct hither_range got[512], r;
		unsigned n = 0;
		while (n < 512 && d->order->ops->next(d->order, 1 << 20, &r)) {
			got[n++] = r;
			d->asked += r.len;
		}
		if (!n)
			return trips;
		trips++;
		while (n-- > 0)
			arrive(d, got[n].offset, got[n].len);
	}
}

static inline bool is_local(const struct database *d, uint32_t page)
{
	return d->local[(uint64_t)(page - 1) * d->page / BLOCK];
}

static inline void read_page(struct database *d, uint32_t page)
{
	uint64_t offset = (uint64_t)(page - 1) * d->page;
	bool here = is_local(d, page);
	d->order->ops->saw(d->order, offset, d->page, !here);
	if (!here)
		arrive(d, offset, d->page);
}

static inline uint32_t root_of(const struct database *d, const char *name)
{
	struct sq_shape shape;
	struct sq_page p;
	struct sq_cell c;
	struct sq_value v;
	int64_t root;
	CHECK(sq_shape_read(d->bytes, SQ_HEADER_BYTES, d->view.size_bytes, &shape));
	CHECK(sq_page_open(&p, &shape, d->bytes, 1));
	for (uint32_t i = 0; i < p.count; i++)
		if (sq_page_cell(&p, i, &c) && sq_cell_value(&c, 1, &v) && v.len == strlen(name) &&
		    !memcmp(v.bytes, name, v.len) && sq_cell_value(&c, 3, &v) &&
		    sq_value_int(&v, &root))
			return (uint32_t)root;
	CHECK(!"no such tree");
	return 0;
}

static inline void page_of(const struct database *d, uint32_t number, struct sq_page *p)
{
	struct sq_shape shape;
	CHECK(sq_shape_read(d->bytes, SQ_HEADER_BYTES, d->view.size_bytes, &shape));
	CHECK(sq_page_open(p, &shape, d->bytes + (uint64_t)(number - 1) * d->page, number));
}

/* Read the pages to a row, as SQLite does; the leaf, or the last interior page. */
static inline uint32_t descend(struct database *d, uint32_t root, int64_t rowid, bool to_leaf)
{
	struct sq_page p;
	for (uint32_t at = root;;) {
		page_of(d, at, &p);
		bool leaf = !sq_page_is_interior(&p);
		if (leaf && !to_leaf)
			return at;
		read_page(d, at);
		if (leaf)
			return at;
		at = sq_page_is_table(&p) ? sq_page_child_of(&p, rowid) : sq_page_child(&p, 0);
	}
}

static inline uint32_t leaf_of(const struct database *d, uint32_t root, int64_t rowid)
{
	struct sq_page p;
	uint32_t at = root;
	for (page_of(d, at, &p); sq_page_is_interior(&p); page_of(d, at, &p))
		at = sq_page_child_of(&p, rowid);
	return at;
}

#endif
