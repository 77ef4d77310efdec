/* SPDX-License-Identifier: Apache-2.0 */
/* The caches that managed mounts leave on disk: listing and deleting them. */
#ifndef HITHER_CACHE_H
#define HITHER_CACHE_H

#include <hither/error.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One cache: what is kept of one resource. Strings are valid during the call of each() only. */
struct hither_cache_entry {
	const char *name; /* the URL, or what hither_mount_backend() was given; "" if it cannot be
	                     read */
	const char *path; /* its folder */
	uint64_t size_bytes;  /* of the resource */
	uint64_t disk_bytes;  /* taken on disk, with what is noted about them */
	uint64_t local_bytes; /* of these, what is here, dirty ones included */
	uint64_t dirty_bytes; /* changed here and not pushed yet */
	bool in_use;          /* a process has it open now */
	int64_t used_at;      /* last use, seconds since 1970 */
	int error; /* 0; or -errno: damaged or of another version, then only path and disk_bytes
	              hold */
};

/**
 * Call each(user, entry) for every cache below dir (see cache_dir in hither/mount.h), until it
 * returns non-zero, which is returned. A missing folder has none. Caches may come and go meanwhile.
 */
int hither_cache_list(const char *dir,
                      int (*each)(void *user, const struct hither_cache_entry *entry), void *user,
                      struct hither_error *err);

/**
 * Delete the cache for name. -ENOENT: there is none. -EBUSY: a process has it open. -ENOTEMPTY: it
 * has dirty bytes, which would be lost; with `force` they are.
 */
int hither_cache_delete(const char *dir, const char *name, bool force, struct hither_error *err);
/** The same by an entry's path: a name is listed without the secrets that were in it. */
int hither_cache_delete_at(const char *path, bool force, struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
