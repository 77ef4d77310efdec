/* SPDX-License-Identifier: Apache-2.0 */
/* The VFS linked in: parameters, connections and threads that share a database, a second writer. */
#include "check.h"
#include "frontend/sqlite/guard_testing.h"

#include <fcntl.h>
#include <hither/sqlite.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEVICE_BYTES = 4 << 20, THREADS = 4, ROUNDS = 40 };

static char folder[] = "/tmp/hither-sqlite-XXXXXX";

/* A device of zeros: an empty database. */
static void make_device(const char *name)
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, DEVICE_BYTES), 0);
	close(fd);
}

static int open_database(const char *name, const char *params, int flags, sqlite3 **db)
{
	char uri[1024];
	snprintf(uri, sizeof uri, "file:file:%s/%s?vfs=hither&state=%s/state&%s", folder, name,
	         folder, params);
	return sqlite3_open_v2(uri, db, flags | SQLITE_OPEN_URI, NULL);
}

static sqlite3 *opened(const char *name, const char *params)
{
	sqlite3 *db;
	CHECK_EQ(open_database(name, params, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db),
	         SQLITE_OK);
	sqlite3_busy_timeout(db, 60000);
	return db;
}

static void run(sqlite3 *db, const char *sql)
{
	char *message = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &message))
		fprintf(stderr, "%s: %s\n", sql, message);
	CHECK(!message);
}

static int first_int(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;
	CHECK_EQ(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
	CHECK_EQ(sqlite3_step(stmt), SQLITE_ROW);
	int value = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return value;
}

static void wrong_parameters_are_named(void)
{
	static const char *const wrong[][2] = {
	        {"prefetch=some", "prefetch=some"},   {"deadline=soon", "deadline=soon"},
	        {"sync=never", "sync=never"},         {"beside=x", "beside=x"},
	        {"follow=perhaps", "follow=perhaps"}, {"order=nonsense", "nonsense"},
	        {"sync=local", "store on disk"},
	};
	make_device("params");
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		sqlite3 *db;
		char why[512];
		CHECK_EQ(open_database("params", wrong[i][0], SQLITE_OPEN_READWRITE, &db),
		         SQLITE_CANTOPEN);
		hither_sqlite_error(why, sizeof why);
		CHECK(strstr(why, wrong[i][1]));
		sqlite3_close(db);
	}
}

struct worker {
	pthread_t thread;
	const char *name, *params;
};

static void *add_up(void *arg)
{
	struct worker *w = arg;
	sqlite3 *db = opened(w->name, w->params);
	for (int i = 0; i < ROUNDS; i++) {
		run(db, "BEGIN IMMEDIATE; UPDATE t SET n = n + 1; INSERT INTO log VALUES(1);"
		        "COMMIT");
		CHECK(first_int(db, "SELECT n = (SELECT count(*) FROM log) FROM t"));
	}
	CHECK_EQ(sqlite3_close(db), SQLITE_OK);
	return NULL;
}

static void threads_add_up(const char *name, const char *params, const char *mode)
{
	struct worker workers[THREADS];
	char sql[128];
	make_device(name);
	sqlite3 *db = opened(name, params);
	snprintf(sql, sizeof sql, "PRAGMA journal_mode=%s", mode);
	run(db, sql);
	run(db, "CREATE TABLE t(n); CREATE TABLE log(x); INSERT INTO t VALUES(0)");
	for (int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.name = name, .params = params};
		CHECK_EQ(pthread_create(&workers[i].thread, NULL, add_up, &workers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	CHECK_EQ(first_int(db, "SELECT n FROM t"), THREADS * ROUNDS);
	CHECK(first_int(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"));
	CHECK_EQ(sqlite3_close(db), SQLITE_OK);
	db = opened(name, params);
	CHECK_EQ(first_int(db, "SELECT count(*) FROM log"), THREADS * ROUNDS);
	CHECK_EQ(sqlite3_close(db), SQLITE_OK);
}

static void threads_share_a_database_with_a_journal(void)
{
	threads_add_up("journal", "sync=remote", "delete");
}

static void threads_share_a_database_in_wal_mode(void)
{
	char params[256];
	snprintf(params, sizeof params, "sync=local&store=%s/store", folder);
	threads_add_up("wal", params, "wal");
}

static void wal_mode_is_refused_where_it_would_lie(void)
{
	make_device("no-wal");
	sqlite3 *db = opened("no-wal", "sync=remote");
	run(db, "CREATE TABLE t(a)");
	CHECK_EQ(sqlite3_exec(db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL), SQLITE_ERROR);
	CHECK(strstr(sqlite3_errmsg(db), "sync=local"));
	sqlite3_close(db);
}

static void a_full_device_says_so(void)
{
	make_device("full");
	sqlite3 *db = opened("full", "sync=remote");
	run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(100000))");
	CHECK_EQ(sqlite3_exec(db, "INSERT INTO t VALUES(zeroblob(5000000))", NULL, NULL, NULL),
	         SQLITE_FULL);
	CHECK_EQ(first_int(db, "SELECT count(*) FROM t"), 1);
	CHECK(first_int(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"));
	sqlite3_close(db);
}

/* Somebody on another host: another state folder, another process's copy; here, plain writes. */
static void elsewhere_runs(const char *device, const char *sql)
{
	char path[256];
	sqlite3 *other;
	snprintf(path, sizeof path, "%s/%s", folder, device);
	CHECK_EQ(sqlite3_open(path, &other), SQLITE_OK);
	run(other, sql);
	sqlite3_close(other);
}

static void a_second_writer_elsewhere_is_refused(void)
{
	make_device("foreign");
	sqlite3 *db = opened("foreign", "sync=remote");
	run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
	elsewhere_runs("foreign", "INSERT INTO t VALUES(2); INSERT INTO t VALUES(3)");
	CHECK(sqlite3_exec(db, "INSERT INTO t VALUES(4)", NULL, NULL, NULL) != SQLITE_OK);
	char why[512];
	hither_sqlite_error(why, sizeof why);
	CHECK(strstr(why, "changed") || strstr(why, "somebody else"));
	sqlite3_close(db);
}

/* What A commits here is not pushed yet; B, elsewhere, is at the same change counter by then. */
static void a_second_writer_is_refused_before_anything_is_pushed(void)
{
	char params[256];
	make_device("apart");
	snprintf(params, sizeof params, "sync=local&store=%s/apart-cache", folder);
	sqlite3 *db = opened("apart", params);
	run(db, "CREATE TABLE t(a)");
	sqlite3_close(db); /* all is pushed */
	db = opened("apart", params);
	run(db, "INSERT INTO t VALUES(1)");
	elsewhere_runs("apart", "INSERT INTO t VALUES(2)");
	CHECK(sqlite3_exec(db, "INSERT INTO t VALUES(3)", NULL, NULL, NULL) != SQLITE_OK);
	sqlite3_close(db);
}

static int plain_int(const char *device, const char *sql)
{
	char path[256];
	sqlite3 *db;
	snprintf(path, sizeof path, "%s/%s", folder, device);
	CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
	int value = first_int(db, sql);
	sqlite3_close(db);
	return value;
}

/* Nothing goes over what B wrote: not at the end, and not when A's store is used again. */
static void what_is_sent_at_the_end_spares_a_second_writer(void)
{
	char params[256], why[512];
	make_device("end");
	snprintf(params, sizeof params, "sync=local&store=%s/end-cache", folder);
	sqlite3 *db = opened("end", params);
	run(db, "CREATE TABLE t(a)");
	sqlite3_close(db);
	db = opened("end", params);
	run(db, "INSERT INTO t VALUES(1)");
	elsewhere_runs("end", "INSERT INTO t VALUES(2); INSERT INTO t VALUES(3)");
	sqlite3_close(db);
	hither_sqlite_error(why, sizeof why);
	CHECK(strstr(why, "somebody else"));
	CHECK(strstr(why, "stays in the store"));
	CHECK_EQ(plain_int("end", "SELECT sum(a) FROM t"), 5);
	if (!open_database("end", params, SQLITE_OPEN_READWRITE, &db))
		CHECK(sqlite3_exec(db, "INSERT INTO t VALUES(4)", NULL, NULL, NULL) != SQLITE_OK);
	sqlite3_close(db);
	CHECK_EQ(plain_int("end", "SELECT sum(a) FROM t"), 5);
}

/* --- a transaction over two databases --- */

/* The super-journal's end is the commit: this one does not come to it. */
static int die_at_commit(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	if (strstr(name, "-mj"))
		_exit(9);
	return SQLITE_OK;
}

static void die_between_two_databases(void)
{
	char sql[1024];
	sqlite3 *db = opened("left", "sync=remote");
	snprintf(sql, sizeof sql,
	         "ATTACH 'file:file:%s/right?vfs=hither&state=%s/state' AS r;"
	         "BEGIN; UPDATE main.t SET v = 2; UPDATE r.t SET v = 2",
	         folder, folder);
	run(db, sql);
	sqlite3_vfs_find("hither")->xDelete = die_at_commit;
	sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	_exit(0);
}

static int wait_for(pid_t child)
{
	int status = 0;
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void make_one(const char *name)
{
	make_device(name);
	sqlite3 *db = opened(name, "sync=remote");
	run(db, "CREATE TABLE t(v, pad); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 "
	        "FROM c LIMIT 50) INSERT INTO t SELECT 1, zeroblob(2000) FROM c");
	sqlite3_close(db);
}

static void half_a_transaction_is_undone_whichever_comes_first(void)
{
	static const char *const orders[2][2] = {{"right", "left"}, {"left", "right"}};
	for (int i = 0; i < 2; i++) {
		make_one("left");
		make_one("right");
		fflush(NULL);
		pid_t child = fork();
		if (!child)
			die_between_two_databases();
		CHECK_EQ(wait_for(child), 9);
		for (int k = 0; k < 2; k++) {
			sqlite3 *db = opened(orders[i][k], "sync=remote");
			CHECK_EQ(first_int(db, "SELECT count(*) FROM t WHERE v = 1"), 50);
			run(db, "UPDATE t SET v = 3");
			sqlite3_close(db);
		}
	}
}

static void databases_of_one_transaction_share_a_folder(void)
{
	char sql[1024], why[512];
	make_one("left");
	make_one("right");
	sqlite3 *db = opened("left", "sync=remote");
	snprintf(sql, sizeof sql,
	         "ATTACH 'file:file:%s/right?vfs=hither&state=%s/state-of-its-own' AS r;"
	         "BEGIN; UPDATE main.t SET v = 2; UPDATE r.t SET v = 2",
	         folder, folder);
	run(db, sql);
	CHECK(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK);
	hither_sqlite_error(why, sizeof why);
	CHECK(strstr(why, "state="));
	sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	CHECK_EQ(first_int(db, "SELECT max(v) FROM main.t"), 1);
	CHECK_EQ(first_int(db, "SELECT max(v) FROM r.t"), 1);
	run(db, "UPDATE main.t SET v = 2"); /* one of them alone is fine */
	sqlite3_close(db);
}

/* --- fork() --- */

static void use_what_the_parent_opened(sqlite3 *db)
{
	alarm(60); /* it hangs, if it fails */
	char why[512];
	CHECK(sqlite3_exec(db, "INSERT INTO t VALUES(2)", NULL, NULL, NULL) != SQLITE_OK);
	hither_sqlite_error(why, sizeof why);
	CHECK(strstr(why, "fork"));
	sqlite3_close(db);
#ifndef __SANITIZE_THREAD__ /* which knows no threads after fork() */
	sqlite3 *mine;
	CHECK_EQ(open_database("forked", "sync=remote", SQLITE_OPEN_READWRITE, &mine), SQLITE_BUSY);
	sqlite3_close(mine);
	make_device("child's");
	mine = opened("child's", "sync=remote");
	run(mine, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
	sqlite3_close(mine);
#endif
	_exit(0);
}

static void a_child_is_told_to_open_its_own(void)
{
	make_device("forked");
	sqlite3 *db = opened("forked", "sync=remote");
	run(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
	fflush(NULL);
	pid_t child = fork();
	if (!child)
		use_what_the_parent_opened(db);
	CHECK_EQ(wait_for(child), 0);
	run(db, "INSERT INTO t VALUES(3)");
	CHECK_EQ(first_int(db, "SELECT sum(a) FROM t"), 4);
	sqlite3_close(db);
}

int main(void)
{
	hsq_guard_ns = 0; /* every look is old at once */
	CHECK(mkdtemp(folder));
	CHECK_EQ(hither_sqlite_register(), SQLITE_OK);
	CHECK_EQ(hither_sqlite_register(), SQLITE_OK);
	RUN(half_a_transaction_is_undone_whichever_comes_first);
	RUN(databases_of_one_transaction_share_a_folder);
	RUN(a_child_is_told_to_open_its_own);
	RUN(wrong_parameters_are_named);
	RUN(threads_share_a_database_with_a_journal);
	RUN(threads_share_a_database_in_wal_mode);
	RUN(wal_mode_is_refused_where_it_would_lie);
	RUN(a_full_device_says_so);
	RUN(a_second_writer_elsewhere_is_refused);
	RUN(a_second_writer_is_refused_before_anything_is_pushed);
	RUN(what_is_sent_at_the_end_spares_a_second_writer);
	char command[64];
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) != 0;
}
