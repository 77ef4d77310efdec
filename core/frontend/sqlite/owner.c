/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may write a database on this host, and where its journals are: a folder for each URL,
 *
 *     lock      flock()ed by the process that writes (exclusive) or reads (shared) it; its text
 *               names the cache folder of the last writer
 *     db.journal, db.wal, ...
 *
 * Each process has a copy of the database's pages of its own, so a second one beside a writer
 * could only read what is no longer so. (Through a FUSE mount any number of processes share one
 * copy.)
 */
#include "base/cleanup.h"
#include "base/io.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FOLDER_NAME_BYTES = 2 * sizeof(XXH128_canonical_t) + 1 };

static void name_folder(const char *url, size_t len, char out[FOLDER_NAME_BYTES])
{
	XXH128_canonical_t hash;
	XXH128_canonicalFromHash(&hash, XXH3_128bits(url, len));
	for (size_t i = 0; i < sizeof hash.digest; i++)
		snprintf(out + 2 * i, 3, "%02x", hash.digest[i]);
}

/* The folder for url; the caller frees it. */
static int folder_of(const char *url, const struct hsq_params *params, char **out)
{
	char name[FOLDER_NAME_BYTES];
	const char *base = params->state_dir, *below = "";
	name_folder(url, strlen(url), name);
	if (!base && (base = getenv("XDG_STATE_HOME")) && *base == '/')
		below = "/hither/sqlite";
	else if (!base || *base != '/') {
		base = params->state_dir ? params->state_dir : getenv("HOME");
		below = params->state_dir ? "" : "/.local/state/hither/sqlite";
	}
	if (!base || !*base)
		return hsq_failf(SQLITE_CANTOPEN,
		                 "%s: no folder for its journal: set HOME, or name one with "
		                 "state=DIR",
		                 url);
	if (asprintf(out, "%s%s/%s", base, below, name) < 0) {
		*out = NULL;
		return SQLITE_NOMEM;
	}
	return SQLITE_OK;
}

static int open_lock(const struct hsq_owner *o, bool write)
{
	HITHER_FREE char *path = NULL;
	if (asprintf(&path, "%s/lock", o->dir) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	int r = write ? hither_mkdir_all(o->dir) : 0;
	int fd = r ? -1 : open(path, (write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0600);
	return r ? r : fd < 0 ? -errno : fd;
}

/* Is there a journal or WAL of a writer that did not end well? */
static bool left_behind(const struct hsq_owner *o)
{
	static const char *const names[] = {"db.journal", "db.wal"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		HITHER_FREE char *path = NULL;
		struct stat st;
		if (asprintf(&path, "%s/%s", o->dir, names[i]) < 0) {
			path = NULL;
			return true;
		}
		if (!stat(path, &st) && st.st_size > 0)
			return true;
	}
	return false;
}

/* A hot journal is about the pages in its own cache. */
static int match_cache(const char *url, struct hsq_owner *o, const struct hsq_params *params)
{
	char was[PATH_MAX + 1] = "";
	HITHER_FREE char *real =
	        params->mount.cache_dir ? realpath(params->mount.cache_dir, NULL) : NULL;
	const char *cache = real                      ? real
	                    : params->mount.cache_dir ? params->mount.cache_dir
	                                              : "memory";
	ssize_t n = pread(o->lock_fd, was, PATH_MAX, 0);
	if (n > 0 && strcmp(was, cache) != 0 && left_behind(o))
		return hsq_failf(SQLITE_CANTOPEN,
		                 "%s: a transaction that was cut short is to be undone with the "
		                 "store that it used: open it with store=%s",
		                 url, was);
	size_t len = strlen(cache);
	if (ftruncate(o->lock_fd, 0) || hither_pwrite_all(o->lock_fd, cache, len, 0) ||
	    fdatasync(o->lock_fd))
		return hsq_failf(SQLITE_CANTOPEN, "%s/lock: %s", o->dir, strerror(errno));
	return SQLITE_OK;
}

int hsq_owner_take(const char *url, const struct hsq_params *params, bool write,
                   struct hsq_owner *out)
{
	struct hsq_owner o = {.lock_fd = -1};
	*out = o;
	int code = folder_of(url, params, &o.dir);
	if (code)
		return write ? code : SQLITE_OK; /* no folder: nobody here writes it */
	int fd = open_lock(&o, write);
	o.lock_fd = fd < 0 ? -1 : fd;
	if (fd < 0 && write)
		code = hsq_failf(SQLITE_CANTOPEN, "%s: folder for its journal %s: %s", url, o.dir,
		                 strerror(-fd));
	else if (fd >= 0 && flock(fd, (write ? LOCK_EX : LOCK_SH) | LOCK_NB))
		code = hsq_failf(
		        SQLITE_BUSY,
		        "%s: another process %s it; let several share it by 'hither mount'", url,
		        write ? "has" : "writes");
	else if (fd >= 0 && write)
		code = match_cache(url, &o, params);
	if (code)
		hsq_owner_release(&o);
	*out = o;
	return code;
}

char *hsq_owner_neighbour(const struct hsq_owner *o, const char *url, size_t len)
{
	char name[FOLDER_NAME_BYTES], *out;
	const char *last = o->dir ? strrchr(o->dir, '/') : NULL;
	if (!last)
		return NULL;
	name_folder(url, len, name);
	return asprintf(&out, "%.*s/%s", (int)(last - o->dir), o->dir, name) < 0 ? NULL : out;
}

void hsq_owner_release(struct hsq_owner *o)
{
	if (o->lock_fd >= 0) {
		flock(o->lock_fd, LOCK_UN); /* a child may have a copy of it */
		close(o->lock_fd);
	}
	free(o->dir);
	*o = (struct hsq_owner){.lock_fd = -1};
}
