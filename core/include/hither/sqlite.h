/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite VFS "hither": a database named by a URL is opened over a managed mount in this
 * process. Link with hither_sqlite (and libsqlite3), or load hither_vfs.so into any program that
 * has SQLite:
 *
 *     sqlite3_open_v2("file:https://host/shop.db?vfs=hither", &db, SQLITE_OPEN_READONLY |
 *                     SQLITE_OPEN_URI, NULL);
 *
 * In the URL '?', '#' and '%' are percent-encoded (%3F, %23, %25). Names that are no URLs go to
 * the default VFS. Parameters:
 *
 *     store=DIR|memory         where what was pulled is kept (memory)
 *     prefetch=none|btree|all  nothing; what the pages suggest (btree); the whole file as well
 *     order=NAME               which guesses: as hither_mount_options.order
 *     deadline=SECONDS         how long a query rides through an outage (300)
 *     profile=PATH|none        replay this profile; none: nor the one at URL.hither-profile
 *     record=PATH              record a profile
 *     beside=refuse|ignore     a hot journal or WAL beside the database on its server (refuse)
 *     follow=on|off            when the database changes on its server, the next transaction is of
 *                              the new version (off: whatever is not local fails)
 *     tell=stderr|none         messages of failures go to stderr, too (none)
 *     sync=remote|local        what a COMMIT promises: the backend has it, or the store on disk
 *     state=DIR                where journals of writable databases are kept
 *                              ($XDG_STATE_HOME/hither/sqlite)
 *
 * All connections of a process to one URL share a mount; the first one's parameters count. A
 * database that can be written (nbd:) belongs to one process at a time: others get SQLITE_BUSY.
 *
 * PRAGMA hither_stats gives figures as JSON, PRAGMA hither_error the latest failure's message,
 * which SQLite's log (SQLITE_CONFIG_LOG) gets, too; sqlite3_system_errno() is its errno, ESTALE if
 * the database has changed on its server.
 */
#ifndef HITHER_SQLITE_H
#define HITHER_SQLITE_H

#include <hither/mount.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Register the VFS "hither" in this process; not as the default. Returns a SQLite code. Again is
 * fine. */
int hither_sqlite_register(void);

/**
 * Copy the message of the latest failure in this process to out (size bytes with the final 0, cut
 * if need be); "" if there was none. sqlite3_errmsg() can only say "disk I/O error". Any thread.
 */
void hither_sqlite_error(char *out, size_t size);

/** One read by SQLite: bytes, whether some of them were not local, and how long that took. */
struct hither_sqlite_read {
	uint64_t offset, len;
	uint64_t wait_ns; /* 0 unless waited */
	bool waited;
};

/** Told of each read of a database, on the reading thread. */
struct hither_sqlite_observer {
	void (*read)(void *user, const struct hither_sqlite_read *read);
	void *user;
};

/** Whether what begins at offset is local, and for how many bytes that is so; 0: it is the end. */
struct hither_sqlite_local {
	uint64_t offset, len;
	bool local;
};

/** For sqlite3_file_control() on a database of this VFS; others: SQLITE_NOTFOUND. */
enum {
	HITHER_SQLITE_STATS = 0x68746801, /* struct hither_mount_stats *: filled */
	HITHER_SQLITE_OBSERVE =
	        0x68746802,               /* struct hither_sqlite_observer *: copied; NULL: none */
	HITHER_SQLITE_LOCAL = 0x68746803, /* struct hither_sqlite_local *: from its offset on */
};

#ifdef __cplusplus
}
#endif
#endif
