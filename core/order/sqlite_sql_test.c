/* SPDX-License-Identifier: Apache-2.0 */
/* What is read from a CREATE TABLE: the rowid's alias, foreign keys, WITHOUT ROWID. */
#include "order/sqlite_order.h"

#include "check.h"

#include <string.h>

/* Tables: t, whose SQL it is, and "other". */
static struct sq_tree trees[2];

static const struct sq_tree *of(const char *sql)
{
	struct sq_order o = {.trees = trees, .tree_count = 2};
	memset(trees, 0, sizeof trees);
	trees[0].kind = trees[1].kind = SQ_TABLE;
	trees[0].key_column = -1;
	strcpy(trees[0].name, "t");
	strcpy(trees[1].name, "other");
	sq_sql_read(&o, &trees[0], sql, strlen(sql));
	return &trees[0];
}

static void the_rowid_has_a_name(void)
{
	CHECK_EQ(of("CREATE TABLE t(a TEXT, id INTEGER PRIMARY KEY)")->key_column, 1);
	CHECK_EQ(of("create table \"t\"([a], `id` integer primary key autoincrement)")->key_column,
	         1);
	CHECK_EQ(of("CREATE TABLE t(id INT PRIMARY KEY)")->key_column, -1);
	CHECK_EQ(of("CREATE TABLE t(a -- one, two(\n, /* ( */ id INTEGER PRIMARY KEY)")->key_column,
	         1);
}

static void marks_in_quotes_are_none(void)
{
	CHECK_EQ(of("CREATE TABLE t(a DEFAULT ',', b CHECK(b != '('), c DEFAULT ')', "
	            "id INTEGER PRIMARY KEY)")
	                 ->key_column,
	         3);
	CHECK_EQ(of("CREATE TABLE t(\"check\" TEXT, \"a,b\", id INTEGER PRIMARY KEY)")->key_column,
	         2);
}

static void tables_are_referred_to(void)
{
	const struct sq_tree *t = of("CREATE TABLE t(a DEFAULT '(', b REFERENCES other(id), c)");
	CHECK_EQ(t->edge_count, 1);
	CHECK_EQ(t->edges[0].column, 1);
	CHECK_EQ(t->edges[0].to, 1);
	t = of("CREATE TABLE t(a, b, CONSTRAINT x FOREIGN KEY(b) REFERENCES \"other\"(id), "
	       "UNIQUE(a))");
	CHECK_EQ(t->edge_count, 1);
	CHECK_EQ(t->edges[0].column, 1);
	/* Two columns name no rowid; a table that is none is nothing. */
	CHECK_EQ(of("CREATE TABLE t(a, b, FOREIGN KEY(a, b) REFERENCES other)")->edge_count, 0);
	CHECK_EQ(of("CREATE TABLE t(a REFERENCES nowhere)")->edge_count, 0);
}

static void there_may_be_no_rowid(void)
{
	CHECK_EQ(of("CREATE TABLE t(a PRIMARY KEY) WITHOUT ROWID")->kind, SQ_WITHOUT_ROWID);
	CHECK_EQ(of("CREATE TABLE t(a PRIMARY KEY)")->kind, SQ_TABLE);
}

static void what_is_cut_short_ends(void)
{
	static const char sql[] = "CREATE TABLE t(\xc3\xa4 INTEGER PRIMARY KEY, [b, 'c\" /* d";
	char part[sizeof sql];
	for (size_t n = 0; n < sizeof sql; n++) {
		memcpy(part, sql, n);
		part[n] = 0;
		CHECK(of(part)->edge_count == 0);
	}
}

int main(void)
{
	RUN(the_rowid_has_a_name);
	RUN(marks_in_quotes_are_none);
	RUN(tables_are_referred_to);
	RUN(there_may_be_no_rowid);
	RUN(what_is_cut_short_ends);
	return 0;
}
