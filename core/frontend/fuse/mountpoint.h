/* SPDX-License-Identifier: Apache-2.0 */
/* Mount points: mounting, unmounting, and what is mounted at a path, asked without touching it. */
#ifndef HITHER_FRONTEND_FUSE_MOUNTPOINT_H
#define HITHER_FRONTEND_FUSE_MOUNTPOINT_H

#include <hither/error.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

/* One line of /proc/self/mountinfo. */
struct fuse_mountinfo {
	dev_t device;
	char type[64];
};

/* The topmost mount at path, which is absolute and canonical. False: nothing is mounted there
 * (errno is ENOENT), or nobody can tell. */
bool fuse_mountinfo_at(const char *path, struct fuse_mountinfo *out);

struct fuse_mountpoint {
	char path[PATH_MAX]; /* canonical */
	mode_t mode;         /* its type: S_IFREG or S_IFDIR */
	dev_t device;        /* of our file system, 0 while there is none */
	bool by_helper;      /* mounted by fusermount3, so unmounted by it */
};

/*
 * Look at path: canonical name and type. A mount of ours whose server has died is unmounted first.
 * -EBUSY: a live mount of ours is there. -EINVAL: neither file nor folder.
 */
int fuse_mountpoint_find(const char *path, struct fuse_mountpoint *out, struct hither_error *err);

struct fuse_mount_wish {
	const char *source; /* as shown by mount(8) and df(1); any bytes */
	bool read_only;
	bool allow_other;
};
/* Mount. Fills device and by_helper; *fd is the connection to the kernel. */
int fuse_mountpoint_mount(struct fuse_mountpoint *at, const struct fuse_mount_wish *wish, int *fd,
                          struct hither_error *err);
/* Is our file system still the topmost at its path? */
bool fuse_mountpoint_present(const struct fuse_mountpoint *at);
/* Unmount it. Not there any more: 0. lazy: even if in use, else -EBUSY. */
int fuse_mountpoint_unmount(const struct fuse_mountpoint *at, bool lazy, struct hither_error *err);

/* --- fusermount.c: the setuid helper --- */

/* Is it installed? -ENOENT and where to get it. */
int fusermount_probe(struct hither_error *err);
/* Mount at path with options "a=b,c"; *fd is the connection. */
int fusermount_mount(const char *path, const char *options, int *fd, struct hither_error *err);
int fusermount_unmount(const char *path, bool lazy, struct hither_error *err);

#endif
