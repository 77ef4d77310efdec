/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program sqlite-remote: a database elsewhere, queried in place. One query runs in this
 * process, over the VFS of <hither/sqlite.h>: nothing starts faster. Whatever is more (an
 * interactive shell, a script, a dot-command) is the stock sqlite3's, with that VFS loaded.
 */
#ifndef SQLITE_REMOTE_H
#define SQLITE_REMOTE_H

#include <hither/mount.h>
#include <hither/sqlite.h>
#include <sqlite3.h>
#include <stdbool.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSED = 2 };

enum { MOST_PARAMS = 12 };

/* A URI parameter of the VFS. */
struct param {
	const char *name, *value;
};

struct settings {
	const char *url;
	char *const *sql; /* NULL-terminated; may be empty */
	struct param params[MOST_PARAMS];
	size_t param_count;
	const char *output; /* warm: the profile's file; NULL: by the URL's name */
	const char *separator;
	bool readonly, follow, stats, explain, header;
};

/* options.c. Exit code, or -1 to go on. */
int options_parse(int argc, char **argv, const char *command, struct settings *out);
void options_add(struct settings *s, const char *name, const char *value);
void options_help(void);

/* uri.c: "file:URL?vfs=hither&...", percent-encoded; the caller frees it. NULL: no memory. */
char *uri_of(const struct settings *s);

/* print.c: one line on stderr, "sqlite-remote: ..."; returns code. */
int fail_with(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 12.3 MB and the like, in a buffer of the caller's. */
struct shown {
	char text[24];
};
struct shown show_bytes(uint64_t bytes);

/* session.c: an open database. Exit code. */
struct session {
	const struct settings *settings;
	sqlite3 *db;
	struct explain *explain; /* NULL: not wanted */
	uint64_t opened_ns;      /* how long it took */
};
int session_open(struct session *s, const struct settings *settings);
int session_close(struct session *s, int code);
/* Why a statement failed, beyond what SQLite says; nothing if there is no more to say. */
void session_tell_why(struct session *s, int code);

/* query.c: run every statement of settings->sql; exit code as the stock sqlite3's. */
int query_run(struct session *s);

/* stats.c */
void stats_of(sqlite3 *db, struct hither_mount_stats *out);
void stats_print(const char *what, const struct hither_mount_stats *before,
                 const struct hither_mount_stats *after);

/* explain.c */
struct explain *explain_start(sqlite3 *db);
void explain_begin(struct explain *e);                        /* a statement */
void explain_print(struct explain *e, const char *statement); /* and what it touched */
void explain_destroy(struct explain *e);                      /* NULL is fine */

/* shell.c: become another program; on return it failed, with this exit code. */
int shell_exec(const struct settings *s);
int mount_exec(int argc, char **argv);

#endif
