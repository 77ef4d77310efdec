/* SPDX-License-Identifier: Apache-2.0 */
/* hither_vfs.so: `.load hither_vfs`, or load_extension() in any program that has SQLite. */
#define HSQ_EXTENSION_MAIN
#include "frontend/sqlite/sqlite_vfs.h"

SQLITE_EXTENSION_INIT1

/* The name follows from the file's: https://www.sqlite.org/loadext.html, 3. */
int sqlite3_hithervfs_init(sqlite3 *db, char **message, const sqlite3_api_routines *api);

/* SQL: hither_error() tells why opening a database failed, from a connection that did open. */
static void error_function(sqlite3_context *context, int count, sqlite3_value **values)
{
	char message[sizeof(((struct hither_error *)0)->message)];
	hither_sqlite_error(message, sizeof message);
	sqlite3_result_text(context, message, -1, SQLITE_TRANSIENT);
}

static int add_functions(sqlite3 *db, char **message, const sqlite3_api_routines *api)
{
	return sqlite3_create_function(db, "hither_error", 0, SQLITE_UTF8, NULL, error_function,
	                               NULL, NULL);
}

__attribute__((visibility("default"))) int sqlite3_hithervfs_init(sqlite3 *db, char **message,
                                                                  const sqlite3_api_routines *api)
{
	SQLITE_EXTENSION_INIT2(api);
	int code = hither_sqlite_register();
	if (!code)
		code = add_functions(db, message, api);
	/* For the connections to come, whose names are those of this VFS. */
	if (!code)
		code = sqlite3_auto_extension((void (*)(void))add_functions);
	/* They may outlive the one that loaded it. */
	return code ? code : SQLITE_OK_LOAD_PERMANENTLY;
}
