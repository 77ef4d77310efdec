/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite's own messages cannot say what a server answered: the latest one is kept here, told to
 * SQLite's log, and to stderr where tell=stderr asks for it. Its errno is sqlite3_system_errno()'s.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One failure may be met several times by one statement: it is told once in so long. */
#define TELL_AGAIN_NS (200 * HITHER_NS_PER_MS)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards these */
static char latest[sizeof(((struct hither_error *)0)->message)];
static uint64_t told_ns;

static atomic_bool telling;
static _Thread_local int system_errno; /* SQLite asks for it on the thread that failed, or never */

void hsq_tell(void)
{
	telling = true;
}

static bool note(const char *message)
{
	uint64_t now = hither_now_ns();
	HITHER_LOCK_SCOPE(&lock);
	bool new = now - told_ns > TELL_AGAIN_NS || strcmp(latest, message) != 0;
	snprintf(latest, sizeof latest, "%s", message);
	told_ns = now;
	return new;
}

int hsq_fail(int code, const struct hither_error *err)
{
	bool new = note(err->message);
	if ((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN)
		system_errno = err->code ? -err->code : EIO;
	sqlite3_log(code, "hither: %s", err->message);
	if (telling && new)
		fprintf(stderr, "hither: %s\n", err->message);
	return code;
}

int hsq_take_errno(void)
{
	int code = system_errno;
	system_errno = 0;
	return code;
}

int hsq_failf(int code, const char *fmt, ...)
{
	struct hither_error err = {0};
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err.message, sizeof err.message, fmt, ap);
	va_end(ap);
	return hsq_fail(code, &err);
}

void hither_sqlite_error(char *out, size_t size)
{
	HITHER_LOCK_SCOPE(&lock);
	snprintf(out, size, "%s", latest);
}
