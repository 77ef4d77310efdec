/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite's own messages cannot say what a server answered: the latest one is kept here. */
#include "base/cleanup.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the message */
static char latest[sizeof(((struct hither_error *)0)->message)];

int hsq_fail(int code, const struct hither_error *err)
{
	pthread_mutex_lock(&lock);
	snprintf(latest, sizeof latest, "%s", err->message);
	pthread_mutex_unlock(&lock);
	sqlite3_log(code, "hither: %s", err->message);
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
