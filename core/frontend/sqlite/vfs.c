/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VFS "hither": names that are URLs are ours, whatever else is the default VFS's, called with
 * the name it would have got.
 */
#include "frontend/sqlite/sqlite_vfs.h"

#include <hither/url.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static sqlite3_vfs *base_of(sqlite3_vfs *vfs)
{
	return vfs->pAppData;
}

static bool is_url(const char *name)
{
	return name && hither_url_scheme(name) > 0;
}

static int open_database(sqlite3_vfs *vfs, const char *name, struct hsq_file *f, int flags,
                         int *out_flags)
{
	struct hsq_params params;
	bool write = flags & SQLITE_OPEN_READWRITE;
	struct hsq_share *share;
	int code = hsq_params_parse(name, &params);
	if (!code)
		code = hsq_share_get(name, &params, write, &share);
	if (code)
		return code;
	*f = (struct hsq_file){.share = share, .readonly = !write || !share->writable};
	pthread_rwlock_rdlock(&share->mount_lock);
	f->epoch = share->epoch;
	pthread_rwlock_unlock(&share->mount_lock);
	f->base.pMethods = share->writable && share->sync == HITHER_SYNC_LOCAL ? &hsq_wal_methods
	                                                                       : &hsq_plain_methods;
	if (out_flags)
		*out_flags = f->readonly ? (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) |
		                                   SQLITE_OPEN_READONLY
		                         : flags;
	return SQLITE_OK;
}

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags,
                    int *out_flags)
{
	sqlite3_vfs *base = base_of(vfs);
	file->pMethods = NULL;
	if (!is_url(name))
		return base->xOpen(base, name, file, flags, out_flags);
	if (flags & SQLITE_OPEN_MAIN_DB)
		return open_database(vfs, name, (struct hsq_file *)file, flags, out_flags);
	const char *path = hsq_local_path(name, NULL);
	if (!path)
		return hsq_failf(SQLITE_CANTOPEN, "%s: no place for it: the database is read-only",
		                 name);
	if ((flags & SQLITE_OPEN_SUPER_JOURNAL) && (flags & SQLITE_OPEN_CREATE)) {
		int code = hsq_check_super(name, path);
		if (code)
			return code;
	}
	/* A plain path has no parameters to look for. */
	return base->xOpen(base, path, file, flags & ~SQLITE_OPEN_URI, out_flags);
}

/*
 * The journal's folder is ours: an empty journal says as much as none, as PRAGMA
 * journal_mode=TRUNCATE has it, and the next transaction need not have a folder with a new file in
 * it put on disk. False: it has to be deleted.
 */
static bool empty_journal(const char *name, const char *path)
{
	static const char suffix[] = "-journal";
	size_t len = strlen(name), n = sizeof suffix - 1;
	return len > n && !strcmp(name + len - n, suffix) && !truncate(path, 0);
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	sqlite3_vfs *base = base_of(vfs);
	const char *path = is_url(name) ? hsq_local_path(name, NULL) : name;
	if (!path)
		return SQLITE_IOERR_DELETE_NOENT;
	if (is_url(name) && !sync_dir && empty_journal(name, path))
		return SQLITE_OK;
	return base->xDelete(base, path, sync_dir);
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
	sqlite3_vfs *base = base_of(vfs);
	bool unknown = false;
	const char *path = is_url(name) ? hsq_local_path(name, &unknown) : name;
	*out = 0;
	if (unknown)
		return hsq_failf(SQLITE_IOERR_ACCESS,
		                 "%s: of a transaction over several databases that was cut short: "
		                 "its folder is not here: open them with the same state=DIR",
		                 name);
	return path ? base->xAccess(base, path, flags, out) : SQLITE_OK;
}

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
	sqlite3_vfs *base = base_of(vfs);
	if (!is_url(name))
		return base->xFullPathname(base, name, size, out);
	if (strlen(name) >= (size_t)size)
		return hsq_failf(SQLITE_CANTOPEN, "a URL of %zu bytes: at most %d were expected",
		                 strlen(name), size - 1);
	memcpy(out, name, strlen(name) + 1);
	return SQLITE_OK;
}

/* --- the default VFS's business --- */

static void *vfs_dl_open(sqlite3_vfs *vfs, const char *name)
{
	return base_of(vfs)->xDlOpen(base_of(vfs), name);
}
static void vfs_dl_error(sqlite3_vfs *vfs, int size, char *out)
{
	base_of(vfs)->xDlError(base_of(vfs), size, out);
}
static void (*vfs_dl_sym(sqlite3_vfs *vfs, void *handle, const char *name))(void)
{
	return base_of(vfs)->xDlSym(base_of(vfs), handle, name);
}
static void vfs_dl_close(sqlite3_vfs *vfs, void *handle)
{
	base_of(vfs)->xDlClose(base_of(vfs), handle);
}
static int vfs_randomness(sqlite3_vfs *vfs, int size, char *out)
{
	return base_of(vfs)->xRandomness(base_of(vfs), size, out);
}
static int vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
	return base_of(vfs)->xSleep(base_of(vfs), microseconds);
}
static int vfs_current_time(sqlite3_vfs *vfs, double *out)
{
	return base_of(vfs)->xCurrentTime(base_of(vfs), out);
}
static int vfs_last_error(sqlite3_vfs *vfs, int size, char *out)
{
	int code = hsq_take_errno();
	if (!code)
		return base_of(vfs)->xGetLastError(base_of(vfs), size, out);
	if (out && size > 0)
		hither_sqlite_error(out, (size_t)size);
	return code;
}
static int vfs_current_time_int64(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
	return base_of(vfs)->xCurrentTimeInt64(base_of(vfs), out);
}

static sqlite3_vfs hither_vfs = {
        .iVersion = 2,
        .mxPathname = PATH_BYTES,
        .zName = "hither",
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_pathname,
        .xDlOpen = vfs_dl_open,
        .xDlError = vfs_dl_error,
        .xDlSym = vfs_dl_sym,
        .xDlClose = vfs_dl_close,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_current_time,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_current_time_int64,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards hither_vfs until registered */

static int register_locked(void)
{
	sqlite3_vfs *base = sqlite3_vfs_find(NULL);
	if (hither_vfs.pAppData)
		return SQLITE_OK;
	if (!base || base->iVersion < 2)
		return hsq_failf(SQLITE_ERROR, "this SQLite has no usable default VFS");
	hither_vfs.szOsFile = (int)sizeof(struct hsq_file) > base->szOsFile
	                              ? (int)sizeof(struct hsq_file)
	                              : base->szOsFile;
	hither_vfs.pAppData = base;
	return sqlite3_vfs_register(&hither_vfs, 0);
}

int hither_sqlite_register(void)
{
	pthread_mutex_lock(&lock);
	int code = register_locked();
	pthread_mutex_unlock(&lock);
	return code;
}
