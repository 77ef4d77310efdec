/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a CREATE TABLE tells of its columns: which one is the rowid's alias, which refer to another
 * table's rowid, whether there are rowids at all. A reader of words and brackets, not a parser:
 * SQLite has accepted the text, and what is misread is a wrong guess.
 */
#include "order/sqlite_order.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* A word, a quoted name, or a single character; len 0: the end. */
struct word {
	const char *text;
	size_t len;
	bool quoted;
};
struct words {
	const char *at, *end;
	struct word now;
};

static char closing(char open)
{
	return open == '[' ? ']' : open == '"' || open == '`' || open == '\'' ? open : 0;
}

static void skip_blank(struct words *w)
{
	while (w->at < w->end) {
		if (isspace((unsigned char)*w->at))
			w->at++;
		else if (w->end - w->at > 1 && !memcmp(w->at, "--", 2))
			while (w->at < w->end && *w->at != '\n')
				w->at++;
		else if (w->end - w->at > 3 && !memcmp(w->at, "/*", 2)) {
			const char *stop = memmem(w->at + 2, (size_t)(w->end - w->at) - 2, "*/", 2);
			w->at = stop ? stop + 2 : w->end;
		} else
			return;
	}
}

static bool is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static void step(struct words *w)
{
	skip_blank(w);
	const char *from = w->at;
	char stop = from < w->end ? closing(*from) : 0;
	if (stop) {
		const char *to = memchr(from + 1, stop, (size_t)(w->end - from) - 1);
		to = to ? to : w->end;
		w->now = (struct word){from + 1, (size_t)(to - from) - 1, true};
		w->at = to < w->end ? to + 1 : to;
		return;
	}
	while (w->at < w->end && is_name(*w->at))
		w->at++;
	if (w->at == from && w->at < w->end)
		w->at++;
	w->now = (struct word){from, (size_t)(w->at - from), false};
}

static bool is(struct word w, const char *text)
{
	return w.len == strlen(text) && !strncasecmp(w.text, text, w.len);
}

/* A bracket or a comma, not one that is quoted (DEFAULT ','). */
static bool is_mark(struct word w, char mark)
{
	return w.len == 1 && *w.text == mark && !w.quoted;
}

static bool at_end(const struct words *w)
{
	return w->now.len == 0 && w->at >= w->end;
}

/* Is this still of the same column or constraint? Ends at ',' or the last ')'. */
static bool within(const struct words *w, int depth)
{
	return !at_end(w) && (depth > 0 || (!is_mark(w->now, ',') && !is_mark(w->now, ')')));
}

static uint16_t table_named(const struct sq_order *o, struct word name)
{
	for (uint32_t i = 0; i < o->tree_count; i++)
		if (o->trees[i].kind == SQ_TABLE && is(name, o->trees[i].name))
			return (uint16_t)i;
	return SQ_NONE;
}

static void add_edge(struct sq_order *o, struct sq_tree *t, unsigned column, struct word table)
{
	uint16_t to = table_named(o, table);
	if (to == SQ_NONE || t->edge_count == SQ_FKEYS)
		return;
	t->edges[t->edge_count++] =
	        (struct sq_edge){.column = (uint16_t)column, .to = to, .declared = true};
}

/* The names of the columns, for FOREIGN KEY(name). */
enum { NAMES_MOST = 64 };

struct columns {
	struct word names[NAMES_MOST];
	unsigned count;
};

static bool is_constraint(struct word w)
{
	return !w.quoted && (is(w, "CONSTRAINT") || is(w, "PRIMARY") || is(w, "UNIQUE") ||
	                     is(w, "CHECK") || is(w, "FOREIGN"));
}

/* FOREIGN KEY(a) REFERENCES t; what is no such thing is passed over. */
static void table_constraint(struct sq_order *o, struct sq_tree *t, struct words *w,
                             const struct columns *columns)
{
	struct word column = {0};
	bool foreign = false;
	unsigned keys = 0;
	int depth = 0;
	for (; within(w, depth); step(w)) {
		if (is_mark(w->now, '('))
			depth++;
		else if (is_mark(w->now, ')'))
			depth--;
		else if (depth == 0 && is(w->now, "FOREIGN"))
			foreign = true;
		else if (depth == 1 && foreign && !is_mark(w->now, ','))
			column = w->now, keys++;
		else if (depth == 0 && foreign && is(w->now, "REFERENCES")) {
			step(w);
			for (unsigned i = 0; keys == 1 && i < columns->count; i++)
				if (column.len == columns->names[i].len &&
				    !strncasecmp(column.text, columns->names[i].text, column.len))
					add_edge(o, t, i, w->now);
			foreign = false;
		}
	}
}

static void column(struct sq_order *o, struct sq_tree *t, struct words *w, unsigned number)
{
	bool integer = false, primary = false;
	int depth = 0;
	unsigned at = 0;
	for (; within(w, depth); step(w), at++) {
		if (is_mark(w->now, '('))
			depth++;
		else if (is_mark(w->now, ')'))
			depth--;
		else if (at == 0 && is(w->now, "INTEGER"))
			integer = true;
		else if (at == 1 && integer && !is_constraint(w->now) && !is(w->now, "NOT") &&
		         !is(w->now, "REFERENCES") && !is(w->now, "DEFAULT"))
			integer = false; /* a type of two words */
		else if (depth == 0 && is(w->now, "PRIMARY"))
			primary = true;
		else if (depth == 0 && is(w->now, "REFERENCES")) {
			step(w);
			add_edge(o, t, number, w->now);
		}
	}
	if (integer && primary)
		t->key_column = (int16_t)number;
}

static bool without_rowid(struct words *w)
{
	for (; !at_end(w); step(w))
		if (is(w->now, "WITHOUT")) {
			step(w);
			if (is(w->now, "ROWID"))
				return true;
		}
	return false;
}

void sq_sql_read(struct sq_order *o, struct sq_tree *t, const char *sql, size_t len)
{
	struct words w = {sql, sql + len, {0}};
	struct columns columns = {.count = 0};
	unsigned number = 0;
	do
		step(&w);
	while (!at_end(&w) && !is_mark(w.now, '('));
	step(&w);
	while (!at_end(&w) && !is_mark(w.now, ')')) {
		if (is_constraint(w.now)) {
			table_constraint(o, t, &w, &columns);
		} else {
			if (columns.count < NAMES_MOST)
				columns.names[columns.count++] = w.now;
			step(&w);
			column(o, t, &w, number);
			if (number < INT16_MAX)
				number++;
		}
		if (is_mark(w.now, ','))
			step(&w);
	}
	if (without_rowid(&w))
		t->kind = SQ_WITHOUT_ROWID;
}
