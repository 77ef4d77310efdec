/* SPDX-License-Identifier: Apache-2.0 */
/* Statements one by one, rows as in the stock shell's list mode, errors in its words. */
#include "remote.h"

#include <stdio.h>
#include <string.h>

static void print_header(const struct settings *s, sqlite3_stmt *stmt)
{
	for (int i = 0; i < sqlite3_column_count(stmt); i++)
		printf("%s%s", i ? s->separator : "", sqlite3_column_name(stmt, i));
	putchar('\n');
}

static void print_row(const struct settings *s, sqlite3_stmt *stmt)
{
	int count = sqlite3_data_count(stmt);
	for (int i = 0; i < count; i++) {
		const unsigned char *text = sqlite3_column_text(stmt, i);
		printf("%s%s", i ? s->separator : "", text ? (const char *)text : "");
	}
	if (count)
		putchar('\n');
}

static int report(struct session *s, const char *doing, int code)
{
	fflush(stdout);
	code &= 0xff;
	fprintf(stderr, code > SQLITE_ERROR ? "Error: %s, %s (%d)\n" : "Error: %s, %s\n", doing,
	        sqlite3_errmsg(s->db), code);
	session_tell_why(s, code);
	return code;
}

enum { FOLLOW_TRIES = 3 };

static int step_once(struct session *s, sqlite3_stmt *stmt, int *rows)
{
	int code;
	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		if (s->settings->header && !*rows)
			print_header(s->settings, stmt);
		++*rows;
		print_row(s->settings, stmt);
		if (ferror(stdout))
			break; /* main says so */
	}
	return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : code & 0xff;
}

/* A query that the database has changed under may begin again, if nobody has seen a row of it. */
static int step_all(struct session *s, sqlite3_stmt *stmt)
{
	int code, rows = 0, tries = 0;
	while ((code = step_once(s, stmt, &rows)) == SQLITE_IOERR && s->settings->follow && !rows &&
	       sqlite3_get_autocommit(s->db) && ++tries < FOLLOW_TRIES)
		sqlite3_reset(stmt);
	return code ? report(s, "stepping", code) : SQLITE_OK;
}

static void told(struct session *s, unsigned number, const struct hither_mount_stats *before)
{
	char what[32];
	snprintf(what, sizeof what, "query %u", number);
	if (!s->settings->stats && !s->explain)
		return;
	fflush(stdout);
	if (s->settings->stats) {
		struct hither_mount_stats after;
		stats_of(s->db, &after);
		stats_print(what, before, &after);
	}
	if (s->explain)
		explain_print(s->explain, what);
}

/* One statement of *sql, which is moved on. */
static int run_one(struct session *s, const char **sql, unsigned *number)
{
	sqlite3_stmt *stmt = NULL;
	struct hither_mount_stats before;
	stats_of(s->db, &before);
	if (s->explain)
		explain_begin(s->explain);
	int code = sqlite3_prepare_v2(s->db, *sql, -1, &stmt, sql);
	if (code)
		return report(s, "in prepare", code);
	if (!stmt)
		return SQLITE_OK; /* a comment, or nothing */
	code = step_all(s, stmt);
	sqlite3_finalize(stmt);
	told(s, ++*number, &before);
	return code;
}

int query_run(struct session *s)
{
	unsigned number = 0;
	if (s->settings->stats)
		fprintf(stderr, "open: %.1f ms\n", (double)s->opened_ns / 1e6);
	for (char *const *text = s->settings->sql; *text; text++) {
		const char *sql = *text;
		while (*sql) {
			int code = run_one(s, &sql, &number);
			if (code)
				return code;
		}
	}
	return EXIT_DONE;
}
