/* SPDX-License-Identifier: Apache-2.0 */
/* Every page of a database is somebody's child, once; and bytes that mean nothing harm nobody. */
#include "check.h"
#include "pages.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 512, MOST = 4096 };

struct walk {
	const unsigned char *bytes;
	uint32_t count;
	unsigned char seen[MOST];
	uint32_t pending[MOST], pending_count;
	unsigned char is_overflow[MOST];
};

static void note(void *user, uint32_t number, int is_overflow)
{
	struct walk *w = user;
	CHECK(number >= 1 && number <= w->count);
	CHECK(!w->seen[number]++);
	w->is_overflow[number] = (unsigned char)is_overflow;
	w->pending[w->pending_count++] = number;
}

static void walk(struct walk *w, uint32_t root)
{
	note(w, root, 0);
	while (w->pending_count > 0) {
		uint32_t n = w->pending[--w->pending_count];
		struct page p = {w->bytes + (size_t)(n - 1) * PAGE, PAGE, PAGE, n};
		if (!w->is_overflow[n])
			pages_children(&p, note, w);
		else if (pages_next(&p))
			note(w, pages_next(&p), 1);
	}
}

static void run(sqlite3 *db, const char *sql)
{
	CHECK_EQ(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void every_page_has_one_parent(void)
{
	sqlite3 *db;
	sqlite3_stmt *stmt;
	sqlite3_int64 size;
	struct walk *w = calloc(1, sizeof *w);
	CHECK_EQ(sqlite3_open(":memory:", &db), SQLITE_OK);
	run(db, "PRAGMA page_size=512; CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
	        "CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE INDEX i ON t(b);"
	        "WITH n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<600) INSERT INTO t"
	        " SELECT i, hex(zeroblob(i%50*i%700)) FROM n;"
	        "INSERT INTO w SELECT a || b, b FROM t WHERE a % 3 = 0;");
	unsigned char *bytes = sqlite3_serialize(db, "main", &size, 0);
	CHECK(bytes);
	w->bytes = bytes;
	w->count = (uint32_t)(size / PAGE);
	CHECK(w->count > 300 && w->count < MOST);
	walk(w, 1);
	CHECK_EQ(sqlite3_prepare_v2(db, "SELECT rootpage FROM sqlite_schema", -1, &stmt, NULL),
	         SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW)
		walk(w, (uint32_t)sqlite3_column_int(stmt, 0));
	sqlite3_finalize(stmt);
	for (uint32_t n = 1; n <= w->count; n++)
		CHECK(w->seen[n]);
	sqlite3_free(bytes);
	sqlite3_close(db);
	free(w);
}

static void ignore(void *user, uint32_t number, int is_overflow)
{
	++*(unsigned *)user;
}

static void nonsense_is_read_within_the_page(void)
{
	static const unsigned char types[] = {2, 5, 10, 13, 0};
	srand(1);
	for (int round = 0; round < 20000; round++) {
		unsigned calls = 0;
		unsigned char *bytes = malloc(PAGE); /* of just this size, for the sanitizer */
		for (int i = 0; i < PAGE; i++)
			bytes[i] = (unsigned char)rand();
		uint32_t number = round % 2 ? 1 : 2;
		bytes[number == 1 ? 100 : 0] = types[round % 5];
		struct page p = {bytes, PAGE, PAGE - 32, number};
		pages_children(&p, ignore, &calls);
		CHECK(calls <= PAGE);
		free(bytes);
	}
}

int main(void)
{
	RUN(every_page_has_one_parent);
	RUN(nonsense_is_read_within_the_page);
	return 0;
}
