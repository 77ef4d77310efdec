/* SPDX-License-Identifier: Apache-2.0 */
/* The order that knows SQLite, over databases that SQLite makes: what comes next is asked for. */
#include "order/sqlite_played.h"

#include <stdio.h>

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
	CHECK_EQ(warm_connections, 0);
	close_database(&d);
}

static void a_burst_is_foretold(void)
{
	struct database d;
	open_database(&d, SHOP);
	settle(&d);
	read_page(&d, 1);
	settle(&d);
	read_page(&d, root_of(&d, "pk"));
	CHECK(warm_connections >= 8);
	warm_connections = 0;
	/* The left edge of a table, where chance does not lead. */
	uint32_t root = root_of(&d, "customer");
	descend(&d, root, 1, false);
	CHECK_EQ(warm_connections, 0);
	read_page(&d, leaf_of(&d, root, 1));
	CHECK(warm_connections >= 8);
	close_database(&d);
}

/* Readahead goes without what was foreseen, and sees the rest. */
static void what_was_asked_for_is_known(void)
{
	struct database d;
	open_database(&d, SHOP);
	const struct hither_order_ops *ops = d.order->ops;
	uint32_t root = root_of(&d, "purchase");
	settle(&d);
	for (int64_t row = 1; row < 400; row += 20)
		descend(&d, root, row, true);
	settle(&d);
	uint64_t next = (uint64_t)(leaf_of(&d, root, 420) - 1) * d.page;
	uint64_t far = (uint64_t)(leaf_of(&d, root_of(&d, "customer"), 15000) - 1) * d.page;
	CHECK(ops->knows(d.order, next, d.page));
	CHECK(!ops->knows(d.order, far, d.page));
	CHECK(!ops->knows(d.order, next, d.page + 1));
	CHECK(!ops->knows(d.order, UINT64_MAX, 1));
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

/* While its first leaf is on its way the line is idle. */
static void a_scan_begins_before_its_first_leaf_is_here(void)
{
	struct database d;
	open_database(&d, SHOP);
	uint32_t root = root_of(&d, "purchase"), first = leaf_of(&d, root, 1);
	settle(&d);
	read_page(&d, 1);
	descend(&d, root, 1, false);
	settle(&d);
	d.order->ops->saw(d.order, (uint64_t)(first - 1) * d.page, d.page, true);
	CHECK(!is_local(&d, first));
	settle(&d);
	for (int64_t row = 40; row < 400; row += 20)
		CHECK(is_local(&d, leaf_of(&d, root, row)));
	close_database(&d);
}

/* Who looks at the first leaf only does not pay for the whole table. */
static void the_first_rows_cost_little(void)
{
	struct database d;
	open_database(&d, SHOP);
	settle(&d);
	read_page(&d, 1);
	descend(&d, root_of(&d, "purchase"), 1, true);
	settle(&d);
	CHECK(d.asked <= (1 << 20) / 4 + 16 * 4096);
	close_database(&d);
}

/*
 * A reader that goes along what is local is not told of page by page. Each time it comes up again
 * what comes next is here after one round trip at most.
 */
static void a_scan_goes_on_though_not_every_leaf_is_told(void)
{
	enum { ROWS = 60000, STEP = 1000 };
	struct database d;
	open_database(&d, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT);" COUNT(
	                          60000) " INSERT INTO t SELECT i, printf('%0400d', i) FROM n;");
	uint32_t root = root_of(&d, "t");
	settle(&d);
	read_page(&d, 1);
	for (int64_t row = 1; row < 200; row += 9)
		descend(&d, root, row, true);
	settle(&d);
	for (int64_t row = STEP; row < ROWS; row += STEP) {
		read_page(&d, leaf_of(&d, root, row));
		CHECK(settle(&d) <= 1);
		for (int64_t ahead = row; ahead <= row + 4 * STEP && ahead <= ROWS; ahead += 100)
			CHECK(is_local(&d, leaf_of(&d, root, ahead)));
	}
	close_database(&d);
}

/* The longer it has gone on, the further ahead; but no more than twice what was read. */
static void a_long_scan_runs_further_ahead(void)
{
	struct database d;
	open_database(&d, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT);" COUNT(
	                          60000) " INSERT INTO t SELECT i, printf('%0400d', i) FROM n;");
	uint32_t root = root_of(&d, "t"), last = 0;
	uint64_t read = 0;
	settle(&d);
	read_page(&d, 1);
	for (int64_t row = 1; row < 20000; row++) {
		uint32_t leaf = leaf_of(&d, root, row);
		if (leaf == last)
			continue;
		descend(&d, root, row, true);
		settle(&d);
		last = leaf;
		read += d.page;
		uint64_t most = 3 << 20;
		most = most > 2 * read ? most : 2 * read;
		CHECK(d.asked <= read + most + (256 << 10));
	}
	CHECK(d.asked >= read + (6 << 20));
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
	RUN(a_burst_is_foretold);
	RUN(what_was_asked_for_is_known);
	RUN(a_scan_runs_ahead);
	RUN(a_scan_begins_before_its_first_leaf_is_here);
	RUN(the_first_rows_cost_little);
	RUN(a_scan_goes_on_though_not_every_leaf_is_told);
	RUN(a_long_scan_runs_further_ahead);
	RUN(full_text_is_prepared);
	RUN(another_format_is_left_alone);
	return 0;
}
