/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Full-text search in the order that knows SQLite: blocks are read as FTS5's own vocabulary tables
 * read them, and what a query comes to is asked for before it does.
 */
#include "order/sqlite_fts.h"

#include "order/sqlite_played.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEGMENT_SHIFT = 37, INDEX_OF_LISTS = 36, SEGMENTS = 5, DOCS = 3000 };

#define DOCS_OF(from, to)                                                                          \
	"WITH RECURSIVE n(i) AS (VALUES(" #from ") UNION ALL SELECT i+1 FROM n WHERE i<" #to       \
	") INSERT INTO f SELECT (SELECT group_concat('w' || ((i * 7 + k.value * 131) % 2000), "    \
	"' ') FROM json_each('[0,1,2,3,4,5,6,7,8,9]') k) || ' common', printf('%0300d', i) "       \
	"FROM n;"
/* Each transaction makes a segment. */
#define TEXTS                                                                                      \
	"CREATE VIRTUAL TABLE f USING fts5(x, pad UNINDEXED);"                                     \
	"INSERT INTO f(f, rank) VALUES('automerge', 0); INSERT INTO f(f, rank) VALUES("            \
	"'crisismerge', 100);" DOCS_OF(1, 600) DOCS_OF(601, 1200) DOCS_OF(1201, 1800)              \
	        DOCS_OF(1801, 2400) DOCS_OF(2401, 3000)

#define LONG_LISTS(from, to)                                                                       \
	"WITH RECURSIVE n(i) AS (VALUES(" #from ") UNION ALL SELECT i+1 FROM n WHERE i<" #to       \
	") INSERT INTO f(rowid, x) SELECT i, 'common w' || (i % 500) FROM n;"

/* The same bytes, to be asked in SQL. */
static sqlite3 *ask_in_sql(const struct database *d)
{
	sqlite3 *db;
	sqlite3_int64 size = (sqlite3_int64)d->view.size_bytes;
	CHECK_EQ(sqlite3_open(":memory:", &db), SQLITE_OK);
	unsigned char *copy = sqlite3_malloc64((sqlite3_uint64)size);
	CHECK(copy);
	memcpy(copy, d->bytes, (size_t)size);
	CHECK_EQ(
	        sqlite3_deserialize(db, "main", copy, size, size,
	                            SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE),
	        SQLITE_OK);
	return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL))
		fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
	CHECK(stmt);
	return stmt;
}

/* --- blocks --- */

/* Every row of every term, in SQL: "seen" is what our reader found. */
static void note_rows(sqlite3_stmt *insert, const struct fts_term *term, int64_t rowid)
{
	sqlite3_bind_text(insert, 1, (const char *)term->bytes, term->len, SQLITE_TRANSIENT);
	sqlite3_bind_int64(insert, 2, rowid);
	CHECK_EQ(sqlite3_step(insert), SQLITE_DONE);
	sqlite3_reset(insert);
}

struct rows {
	sqlite3_stmt *insert;
	struct fts_term term;
};

static bool note_row(void *user, int64_t rowid)
{
	const struct rows *r = user;
	note_rows(r->insert, &r->term, rowid);
	return true;
}

static void read_all_blocks(sqlite3 *db)
{
	sqlite3_stmt *blocks =
	        prepare(db, "SELECT id, block FROM f_data WHERE id > 10 ORDER BY id");
	struct rows rows = {.insert = prepare(db, "INSERT INTO seen VALUES(?, ?)")};
	struct fts_list *lists = malloc(FTS_LISTS * sizeof *lists);
	while (sqlite3_step(blocks) == SQLITE_ROW) {
		if (sqlite3_column_int64(blocks, 0) >> INDEX_OF_LISTS & 1)
			continue;
		const uint8_t *block = sqlite3_column_blob(blocks, 1);
		unsigned count = fts_lists(block, (uint32_t)sqlite3_column_bytes(blocks, 1), lists);
		CHECK(count < FTS_LISTS);
		for (unsigned i = 0; i < count; i++) {
			if (!lists[i].continued)
				rows.term = lists[i].term;
			fts_rows(block, &lists[i], note_row, &rows);
		}
	}
	free(lists);
	sqlite3_finalize(blocks);
	sqlite3_finalize(rows.insert);
}

static int first_int(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt = prepare(db, sql);
	CHECK_EQ(sqlite3_step(stmt), SQLITE_ROW);
	int value = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return value;
}

/* "common" is in every document: its list goes over many blocks. */
static void blocks_are_read_as_fts5_reads_them(void)
{
	struct database d;
	open_database(&d, TEXTS);
	sqlite3 *db = ask_in_sql(&d);
	CHECK_EQ(sqlite3_exec(db,
	                      "CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, f, instance);"
	                      "CREATE TEMP TABLE seen(term, doc)",
	                      NULL, NULL, NULL),
	         SQLITE_OK);
	read_all_blocks(db);
	/* Terms of the main index begin with a '0'. */
	CHECK(first_int(db, "SELECT count(*) FROM seen") > 10 * DOCS);
	CHECK_EQ(first_int(db, "SELECT count(*) FROM (SELECT '0' || term, doc FROM v EXCEPT SELECT "
	                       "term, doc FROM seen)"),
	         0);
	CHECK_EQ(first_int(db, "SELECT count(*) FROM (SELECT term, doc FROM seen EXCEPT SELECT '0' "
	                       "|| term, doc FROM v)"),
	         0);
	sqlite3_close(db);
	close_database(&d);
}

static bool count_row(void *user, int64_t rowid)
{
	return ++*(unsigned *)user < 100000;
}

/* In a buffer of its own size, so that a read beyond it is found out. */
static void read_damaged(const uint8_t *block, uint32_t len, uint32_t at, uint8_t value)
{
	struct fts_list *lists = malloc(FTS_LISTS * sizeof *lists);
	uint8_t *copy = malloc(len);
	unsigned rows = 0;
	memcpy(copy, block, len);
	copy[at] = value;
	unsigned count = fts_lists(copy, len, lists);
	for (unsigned i = 0; i < count; i++) {
		CHECK(lists[i].from < lists[i].to && lists[i].to <= len);
		fts_rows(copy, &lists[i], count_row, &rows);
	}
	CHECK(rows <= len);
	free(copy);
	free(lists);
}

static void damaged_blocks_are_only_wrong(void)
{
	static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
	struct database d;
	open_database(&d, TEXTS);
	sqlite3 *db = ask_in_sql(&d);
	sqlite3_stmt *blocks = prepare(db, "SELECT block FROM f_data WHERE id > 10 ORDER BY id "
	                                   "LIMIT 3");
	while (sqlite3_step(blocks) == SQLITE_ROW) {
		const uint8_t *block = sqlite3_column_blob(blocks, 0);
		uint32_t len = (uint32_t)sqlite3_column_bytes(blocks, 0);
		for (uint32_t at = 0; at < len; at++)
			for (size_t v = 0; v < sizeof values; v++)
				read_damaged(block, len, at, values[v]);
		for (uint32_t cut = 1; cut < len; cut += 7)
			read_damaged(block, cut, 0, block[0]);
	}
	sqlite3_finalize(blocks);
	sqlite3_close(db);
	close_database(&d);
}

static void terms_are_in_the_order_of_their_bytes(void)
{
	struct fts_term a = {.len = 2, .bytes = "ab"}, b = {.len = 3, .bytes = "abc"},
	                c = {.len = 1, .bytes = "\xff"};
	CHECK(fts_term_compare(&a, &b) < 0 && fts_term_compare(&b, &c) < 0);
	CHECK(fts_term_compare(&c, &a) > 0 && !fts_term_compare(&a, &a));
	struct fts_wave w = {.low = a, .high = b};
	CHECK(fts_wave_has(&w, &a) && !fts_wave_has(&w, &b));
	w.open = true;
	CHECK(fts_wave_has(&w, &c));
}

/* --- queries --- */

/* Where the segments have a term, if they have it. */
static unsigned blocks_of(sqlite3 *db, const char *term, int64_t ids[SEGMENTS])
{
	char sql[512];
	snprintf(sql, sizeof sql,
	         "SELECT segid, pgno / 2 FROM f_idx i WHERE term = (SELECT max(term) FROM f_idx "
	         "WHERE segid = i.segid AND term <= CAST('0%s' AS BLOB)) ORDER BY segid",
	         term);
	sqlite3_stmt *stmt = prepare(db, sql);
	unsigned n = 0;
	while (n < SEGMENTS && sqlite3_step(stmt) == SQLITE_ROW)
		ids[n++] = sqlite3_column_int64(stmt, 0) << SEGMENT_SHIFT |
		           sqlite3_column_int64(stmt, 1);
	sqlite3_finalize(stmt);
	return n;
}

static void open_index(struct database *d)
{
	settle(d);
	read_page(d, 1);
	settle(d);
	read_page(d, root_of(d, "f_config"));
	settle(d);
}

static void one_segments_block_names_the_others(void)
{
	struct database d;
	int64_t ids[SEGMENTS];
	open_database(&d, TEXTS);
	sqlite3 *db = ask_in_sql(&d);
	uint32_t data = root_of(&d, "f_data");
	open_index(&d);
	CHECK_EQ(blocks_of(db, "w777", ids), SEGMENTS);
	unsigned here = 0;
	for (unsigned i = 0; i < SEGMENTS; i++)
		here += is_local(&d, leaf_of(&d, data, ids[i]));
	CHECK(here < SEGMENTS);
	uint64_t asked = d.asked;
	descend(&d, data, ids[SEGMENTS - 1], true);
	settle(&d);
	for (unsigned i = 0; i < SEGMENTS; i++)
		CHECK(is_local(&d, leaf_of(&d, data, ids[i])));
	/* These, what lies behind each, and a few at the borders: not the whole index. */
	CHECK(d.asked - asked <= 8 * SEGMENTS * 4096);
	sqlite3_close(db);
	close_database(&d);
}

/* FTS5 loads the index of a list that goes over several blocks before it goes along it. */
static void indexes_of_long_lists_come_with_their_blocks(void)
{
	struct database d;
	open_database(&d, "CREATE VIRTUAL TABLE f USING fts5(x, content='');"
	                  "INSERT INTO f(f, rank) VALUES('automerge', 0);" LONG_LISTS(1, 8000)
	                          LONG_LISTS(8001, 16000) LONG_LISTS(16001, 24000));
	sqlite3 *db = ask_in_sql(&d);
	uint32_t data = root_of(&d, "f_data");
	int64_t ids[SEGMENTS];
	open_index(&d);
	unsigned count = blocks_of(db, "common", ids);
	CHECK_EQ(count, 3);
	descend(&d, data, ids[0], true);
	settle(&d);
	for (unsigned i = 0; i < count; i++) {
		char sql[128];
		int64_t dlidx = ids[i] | INT64_C(1) << INDEX_OF_LISTS;
		CHECK(fts_is_dlidx(dlidx) && !fts_is_dlidx(ids[i]));
		snprintf(sql, sizeof sql, "SELECT count(*) FROM f_data WHERE id = %lld",
		         (long long)dlidx);
		CHECK_EQ(first_int(db, sql), 1);
		CHECK(is_local(&d, leaf_of(&d, data, dlidx)));
	}
	/* Reading one is no term: nothing else is asked for. */
	uint64_t asked = d.asked;
	descend(&d, data, ids[0] | INT64_C(1) << INDEX_OF_LISTS, true);
	settle(&d);
	CHECK_EQ(d.asked, asked);
	sqlite3_close(db);
	close_database(&d);
}

static void rows_that_the_terms_share_come_before_they_are_read(void)
{
	enum { LOOKED_AT = 8 };
	struct database d;
	int64_t ids[SEGMENTS];
	open_database(&d, TEXTS);
	sqlite3 *db = ask_in_sql(&d);
	uint32_t data = root_of(&d, "f_data"), content = root_of(&d, "f_content");
	open_index(&d);
	CHECK_EQ(blocks_of(db, "w777", ids), SEGMENTS);
	for (unsigned i = SEGMENTS; i-- > 0;) {
		descend(&d, data, ids[i], true);
		settle(&d);
	}
	sqlite3_stmt *docs = prepare(db, "SELECT rowid FROM f WHERE f MATCH 'w777' ORDER BY rowid");
	CHECK_EQ(sqlite3_step(docs), SQLITE_ROW);
	descend(&d, content, sqlite3_column_int64(docs, 0), true);
	settle(&d);
	unsigned here = 0;
	for (int i = 0; i < LOOKED_AT; i++) {
		CHECK_EQ(sqlite3_step(docs), SQLITE_ROW);
		here += is_local(&d, leaf_of(&d, content, sqlite3_column_int64(docs, 0)));
	}
	CHECK(here >= LOOKED_AT - 2);
	sqlite3_finalize(docs);
	/* And not all of the text. */
	unsigned all = 0;
	for (int64_t row = 1; row <= DOCS; row += 50)
		all += is_local(&d, leaf_of(&d, content, row));
	CHECK(all < DOCS / 50 / 2);
	sqlite3_close(db);
	close_database(&d);
}

int main(void)
{
	RUN(terms_are_in_the_order_of_their_bytes);
	RUN(blocks_are_read_as_fts5_reads_them);
	RUN(damaged_blocks_are_only_wrong);
	RUN(one_segments_block_names_the_others);
	RUN(indexes_of_long_lists_come_with_their_blocks);
	RUN(rows_that_the_terms_share_come_before_they_are_read);
	return 0;
}
