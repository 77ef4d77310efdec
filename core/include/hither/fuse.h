/* SPDX-License-Identifier: Apache-2.0 */
/* The FUSE frontend: a mount as a file. */
#ifndef HITHER_FUSE_H
#define HITHER_FUSE_H

#include <hither/mount.h>
#include <hither/tree.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hither_fuse;

/** One file. */
struct hither_fuse_file {
	struct hither_mount *mount;
	const char *name; /* as seen in a folder; ignored where the mount point itself is a file */
	bool executable;  /* its mode says that it is a program */
	int64_t modified_ns; /* its date, since 1970; 0: hither_mount_modified_ns(), else now */
};

struct hither_fuse_options {
	bool allow_other;         /* other users may open it (as root, or with user_allow_other) */
	uint32_t readahead_bytes; /* 0: by the link: 1 MiB where it is near, else 128 KiB */
	bool no_passthrough;      /* never let the kernel read the store's file by itself */
	/*
	 * An access failed: the program got an error number, this is the message. Any thread, with
	 * no lock held, from hither_fuse_attach() on; must not block. NULL: nobody is told.
	 */
	void (*failed)(void *user, const struct hither_error *err);
	void *failed_user;
};

/** May this kernel and user do it? 0, or -ENOSYS / -EPERM / -ENOENT and what to change. */
int hither_fuse_probe(struct hither_error *err);
/**
 * Mount files at path: a regular file (then exactly one) or a folder; it must exist. The kernel
 * sees it when this returns; requests are answered once hither_fuse_serve() runs. mounts stay the
 * caller's.
 */
int hither_fuse_attach(const struct hither_fuse_file *files, size_t count, const char *path,
                       const struct hither_fuse_options *options, struct hither_fuse **out,
                       struct hither_error *err);
/**
 * Mount a tree at the folder `path`: names, sizes and links come from t, and never from a network;
 * bytes from m, which is hither_tree_mount()'s. Both stay the caller's. -ENOTDIR: path is no
 * folder, or t no folder (then it is one file: hither_fuse_attach() shows m).
 */
int hither_fuse_attach_tree(const struct hither_tree *t, struct hither_mount *m, const char *path,
                            const struct hither_fuse_options *options, struct hither_fuse **out,
                            struct hither_error *err);
/** Answer requests until unmounted, by anybody, or stopped. Blocks. 0 or -errno. */
int hither_fuse_serve(struct hither_fuse *f, struct hither_error *err);
/**
 * Unmount, so that serve returns. lazy: at once, even if somebody has the file open (else -EBUSY).
 * Any thread, but no signal handler.
 */
int hither_fuse_stop(struct hither_fuse *f, bool lazy, struct hither_error *err);
/** Unmount if need be, free. serve has returned or was never called. NULL is fine. */
void hither_fuse_detach(struct hither_fuse *f);

/* --- mounts of any process; path is absolute and canonical --- */

enum hither_fuse_found {
	HITHER_FUSE_NOTHING, /* no mount right at this path */
	HITHER_FUSE_OTHER,   /* of another kind */
	HITHER_FUSE_HITHER,
};
/** What is mounted at path, topmost. Does not look into it, so never waits. */
enum hither_fuse_found hither_fuse_at(const char *path);
/**
 * Call each(user, path, source) for every mount of hither's that this user made and that can be
 * seen here, until it returns non-zero, which is returned. source is what was mounted, as it may be
 * shown. Does not look into them.
 */
int hither_fuse_each(int (*each)(void *user, const char *path, const char *source), void *user);
/** Is this a mount whose server is gone? Asks it: waits for one that is stopped. */
bool hither_fuse_is_dead(const char *path);
/** Unmount what is at path, by fusermount3 where we have no right. lazy: even if in use, else
 * -EBUSY. */
int hither_fuse_unmount(const char *path, bool lazy, struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
