/* SPDX-License-Identifier: Apache-2.0 */
/* The path a mount is seen at: finding it, making it, clearing what a dead daemon left there. */
#ifndef HITHER_APP_MOUNTPOINT_H
#define HITHER_APP_MOUNTPOINT_H

#include <hither/error.h>
#include <stdbool.h>
#include <sys/types.h>

struct mountpoint {
	char *path;  /* absolute; its folder is resolved */
	bool exists; /* at resolve */
	bool folder; /* it is, or will be, one */
	bool made;   /* by us: removed again */
	dev_t dev;   /* of what we made */
	ino_t ino;
};

/*
 * Where `path` leads for a resource of this file name: a folder gets the name appended. Makes
 * nothing. -EBUSY: something is mounted there; -ENOENT: its folder is missing. A mount whose daemon
 * is dead (ENOTCONN) is unmounted first.
 */
int mountpoint_resolve(struct mountpoint *mp, const char *path, const char *name,
                       struct hither_error *err);
/* The same of a folder that a tree is shown at: it must be empty, or is made. */
int mountpoint_resolve_folder(struct mountpoint *mp, const char *path, struct hither_error *err);
/* False also where it cannot be read. */
bool mountpoint_is_empty(const char *folder);
/* Make the empty file or folder if it is not there. */
int mountpoint_make(struct mountpoint *mp, struct hither_error *err);
/* The folder there is ours, too. */
int mountpoint_adopt(struct mountpoint *mp, struct hither_error *err);
/* Remove it if we made it and it is still that empty file or folder. */
void mountpoint_remove(const struct mountpoint *mp);
void mountpoint_finish(struct mountpoint *mp);

/*
 * Make an empty folder of our own, NAME-XXXXXX in $XDG_RUNTIME_DIR or /tmp, for what is mounted
 * only as long as a program runs. The caller removes it.
 */
int mountpoint_scratch(const char *name, char *out, size_t size, struct hither_error *err);

/*
 * Who has something open at or below path (a device's too), works there, or runs it: "sqlite3 (pid
 * 12), bash (pid 7)", as far as we may see; "": nobody known. Not ourselves, and not the process
 * but_pid (0: none). Looks at names only, never into the mount. Returns out.
 */
const char *mountpoint_users(const char *path, pid_t but_pid, char *out, size_t size);

/* path with its folder resolved, so that two ways of writing it compare equal. The caller frees it.
 */
char *mountpoint_canonical(const char *path, struct hither_error *err);

#endif
