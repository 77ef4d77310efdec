/* SPDX-License-Identifier: Apache-2.0 */
/* The order that knows SQLite, over databases that SQLite makes: what comes next is asked for. */
#include "check.h"
#include "order/format.h"
#include "order/sqlite_page.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096 };

static struct hither_error err;

struct database {
	struct hither_order_view view;
	uint8_t *bytes, *local; /* local: a byte a block */
	uint64_t asked;         /* bytes */
	uint32_t page;
	struct hither_order *order;
};

static int peek(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset)
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

static void open_database(struct database *d, const char *sql)
{
	char path[] = "/tmp/hither-sqlite-order-XXXXXX";
	sqlite3 *db;
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_EQ(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	struct stat st;
	CHECK(!stat(path, &st));
	*d = (struct database){.view = {.size_bytes = (uint64_t)st.st_size, .peek = peek}};
	d->bytes = malloc((size_t)st.st_size);
	d->local = calloc((size_t)st.st_size / BLOCK + 1, 1);
	CHECK(d->bytes && d->local);
	CHECK_EQ(pread(fd, d->bytes, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	unlink(path);
	d->page = sq_be16(d->bytes + 16) == 1 ? 65536 : sq_be16(d->bytes + 16);
	CHECK_OK(hither_order_format(&d->view, NULL, &d->order, &err));
}

static void close_database(struct database *d)
{
	hither_order_destroy(d->order);
	free(d->bytes);
	free(d->local);
}

static void arrive(struct database *d, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len;
	offset -= offset % BLOCK;
	for (uint64_t at = offset; at < end; at += BLOCK)
		d->local[at / BLOCK] = 1;
	d->order->ops->arrived(d->order, offset, end - offset);
}

/* Round trips until it asks for no more: all that it asks for at a time comes at once. */
static unsigned settle(struct database *d)
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

static bool is_local(const struct database *d, uint32_t page)
{
	return d->local[(uint64_t)(page - 1) * d->page / BLOCK];
}

static void read_page(struct database *d, uint32_t page)
{
	uint64_t offset = (uint64_t)(page - 1) * d->page;
	bool here = is_local(d, page);
	d->order->ops->saw(d->order, offset, d->page, !here);
	if (!here)
		arrive(d, offset, d->page);
}

static uint32_t root_of(const struct database *d, const char *name)
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

static void page_of(const struct database *d, uint32_t number, struct sq_page *p)
{
	struct sq_shape shape;
	CHECK(sq_shape_read(d->bytes, SQ_HEADER_BYTES, d->view.size_bytes, &shape));
	CHECK(sq_page_open(p, &shape, d->bytes + (uint64_t)(number - 1) * d->page, number));
}

/* Read the pages to a row, as SQLite does; the leaf, or the last interior page. */
static uint32_t descend(struct database *d, uint32_t root, int64_t rowid, bool to_leaf)
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

static uint32_t leaf_of(const struct database *d, uint32_t root, int64_t rowid)
{
	struct sq_page p;
	uint32_t at = root;
	for (page_of(d, at, &p); sq_page_is_interior(&p); page_of(d, at, &p))
		at = sq_page_child_of(&p, rowid);
	return at;
}

#define COUNT(n) "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<" #n ")"
#define SHOP                                                                                       \
	"CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT);"                                \
	"CREATE TABLE purchase(id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer, k "   \
	"INT, note TEXT); CREATE INDEX pk ON purchase(k);" COUNT(20000) " INSERT INTO customer "   \
	                                                                "SELECT i, "               \
	                                                                "printf('%0100d', i) "     \
	                                                                "FROM n;" COUNT(           \
	                                                                        20000) " INSERT "  \
	                                                                               "INTO "     \
	                                                                               "purchase " \
	                                                                               "SELECT "   \
	                                                                               "i, "       \
	                                                                               "i*7919%"   \
	                                                                               "20000+1, " \
	                                                                               "i%997, "   \
	                                                                               "printf('%" \
	                                                                               "0100d', "  \
	                                                                               "i) FROM "  \
	                                                                               "n;"

static void an_index_range_names_its_rows(const char *page_size)
{
	struct database d;
	char sql[1024];
	snprintf(sql, sizeof sql, "PRAGMA page_size=%s;%s", page_size, SHOP);
	open_database(&d, sql);
	uint32_t table = root_of(&d, "purchase");
	settle(&d);
	read_page(&d, 1);
	settle(&d);
	/* k = 0: the rows 997, 1994, ... */
	descend(&d, root_of(&d, "pk"), 0, true);
	settle(&d);
	descend(&d, table, 997, false);
	settle(&d);
	read_page(&d, leaf_of(&d, table, 997));
	CHECK(settle(&d) <= 4);
	for (int64_t row = 997; row <= 997 * 5; row += 997)
		CHECK(is_local(&d, leaf_of(&d, table, row)));
	/* Then the customers that they name, once one was looked up. */
	uint32_t customer = root_of(&d, "customer");
	descend(&d, customer, 997 * 7919 % 20000 + 1, true);
	settle(&d);
	for (int64_t row = 997; row <= 997 * 5; row += 997)
		CHECK(is_local(&d, leaf_of(&d, customer, row * 7919 % 20000 + 1)));
	close_database(&d);
}

static void ranges_at_each_page_size(void)
{
	static const char *const sizes[] = {"512",  "1024",  "2048",  "4096",
	                                    "8192", "16384", "32768", "65536"};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		an_index_range_names_its_rows(sizes[i]);
}

static void a_point_query_costs_little(void)
{
	struct database d;
	open_database(&d, SHOP);
	settle(&d);
	read_page(&d, 1);
	descend(&d, root_of(&d, "customer"), 777, true);
	settle(&d);
	/* Beside the head: roots, and nothing of other trees. */
	CHECK(d.asked <= 6 * 4096 + HITHER_ORDER_HEAD_BYTES);
	close_database(&d);
}

static void a_scan_runs_ahead(void)
{
	struct database d;
	open_database(&d, SHOP);
	uint32_t root = root_of(&d, "purchase");
	settle(&d);
	for (int64_t row = 1; row < 400; row += 20)
		descend(&d, root, row, true);
	settle(&d);
	unsigned here = 0;
	for (int64_t row = 400; row < 4000; row += 20)
		here += is_local(&d, leaf_of(&d, root, row));
	CHECK(here == 180);
	close_database(&d);
}

static void full_text_is_prepared(void)
{
	struct database d;
	open_database(
	        &d,
	        "CREATE VIRTUAL TABLE f USING fts5(x);" COUNT(
	                3000) " INSERT INTO f SELECT 'word' || (i % 50) || ' all' || i FROM n;");
	uint32_t data = root_of(&d, "f_data");
	settle(&d);
	read_page(&d, root_of(&d, "f_config"));
	settle(&d);
	CHECK(is_local(&d, leaf_of(&d, data, 1)) && is_local(&d, leaf_of(&d, data, 10)));
	CHECK(is_local(&d, root_of(&d, "f_idx")));
	close_database(&d);
}

static void another_format_is_left_alone(void)
{
	struct database d;
	struct hither_range r;
	open_database(&d, "CREATE TABLE t(a)");
	memset(d.bytes, 'x', 100);
	settle(&d);
	read_page(&d, 1);
	CHECK(!d.order->ops->next(d.order, 1 << 20, &r));
	close_database(&d);
}

int main(void)
{
	RUN(ranges_at_each_page_size);
	RUN(a_point_query_costs_little);
	RUN(a_scan_runs_ahead);
	RUN(full_text_is_prepared);
	RUN(another_format_is_left_alone);
	return 0;
}
