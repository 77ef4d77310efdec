/* SPDX-License-Identifier: Apache-2.0 */
#include "remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEADER_BYTES = 100, BUSY_MS = 5000 };

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int open_failed(const struct settings *settings, sqlite3 *db, int code)
{
	char why[512];
	hither_sqlite_error(why, sizeof why);
	if (!*why)
		snprintf(why, sizeof why, "%s: %s", settings->url,
		         db ? sqlite3_errmsg(db) : sqlite3_errstr(code));
	return fail_with(EXIT_FAILED, "%s", why);
}

int session_open(struct session *s, const struct settings *settings)
{
	*s = (struct session){.settings = settings};
	int code = hither_sqlite_register();
	char *uri = code ? NULL : uri_of(settings);
	if (!uri)
		return fail_with(EXIT_FAILED, "no memory");
	int flags = SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX |
	            (settings->readonly ? SQLITE_OPEN_READONLY
	                                : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
	uint64_t begin = now_ns();
	code = sqlite3_open_v2(uri, &s->db, flags, NULL);
	s->opened_ns = now_ns() - begin;
	free(uri);
	if (code)
		return open_failed(settings, s->db, code);
	sqlite3_busy_timeout(s->db, BUSY_MS);
	if (settings->explain && !(s->explain = explain_start(s->db)))
		return fail_with(EXIT_FAILED, "no memory");
	return EXIT_DONE;
}

int session_close(struct session *s, int code)
{
	char before[512], after[512];
	explain_destroy(s->explain);
	hither_sqlite_error(before, sizeof before);
	int closed = sqlite3_close(s->db);
	/* SQLite does not tell that the last bytes could not be sent. */
	hither_sqlite_error(after, sizeof after);
	if (!code && strcmp(before, after) != 0)
		return fail_with(EXIT_FAILED, "closing %s", after);
	if (closed && !code)
		return fail_with(closed & 0xff, "closing %s: %s", s->settings->url,
		                 sqlite3_errstr(closed));
	return code;
}

/* --- reasons --- */

static uint64_t bytes_by_header(const unsigned char *h)
{
	uint64_t page = (uint64_t)h[16] << 8 | h[17];
	uint64_t pages =
	        (uint64_t)h[28] << 24 | (uint64_t)h[29] << 16 | (uint64_t)h[30] << 8 | h[31];
	return pages * (page == 1 ? 65536 : page);
}

static void tell_not_a_database(struct session *s, sqlite3_file *file, sqlite3_int64 size)
{
	char first[16] = "";
	if (size < HEADER_BYTES || file->pMethods->xRead(file, first, sizeof first, 0))
		fail_with(0, "%s: %lld bytes are too few for a database", s->settings->url,
		          (long long)size);
	else if (memcmp(first, "SQLite format 3", sizeof first) != 0)
		fail_with(0,
		          "%s does not begin like a SQLite database: it is another file, or an "
		          "encrypted one",
		          s->settings->url);
}

static void tell_truncated(struct session *s, sqlite3_file *file, sqlite3_int64 size)
{
	unsigned char header[HEADER_BYTES];
	if (size < HEADER_BYTES || file->pMethods->xRead(file, header, sizeof header, 0))
		return;
	uint64_t wanted = bytes_by_header(header);
	if (wanted > (uint64_t)size)
		fail_with(0, "%s is truncated: %lld bytes of %llu", s->settings->url,
		          (long long)size, (unsigned long long)wanted);
}

void session_tell_why(struct session *s, int code)
{
	sqlite3_file *file = NULL;
	sqlite3_int64 size = 0;
	char why[512];
	hither_sqlite_error(why, sizeof why);
	if (*why) {
		fail_with(0, "%s", why);
		return;
	}
	sqlite3_file_control(s->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
	if (!file || !file->pMethods || file->pMethods->xFileSize(file, &size))
		return;
	if (code == SQLITE_NOTADB)
		tell_not_a_database(s, file, size);
	else if (code == SQLITE_CORRUPT)
		tell_truncated(s, file, size);
}
