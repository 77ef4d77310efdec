/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block frontend: a mount as a block device of this kernel, by ublk, by the kernel's NBD
 * client, or by a loop device over a file of the FUSE frontend. All three need root.
 */
#ifndef HITHER_BLOCK_H
#define HITHER_BLOCK_H

#include <hither/mount.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hither_block;

enum hither_block_kind {
	HITHER_BLOCK_AUTO, /* the first of these that this kernel has */
	HITHER_BLOCK_UBLK,
	HITHER_BLOCK_NBD,
	HITHER_BLOCK_LOOP,
	HITHER_BLOCK_KINDS,
};

struct hither_block_options {
	enum hither_block_kind kind;
	bool read_only;
	uint32_t block_bytes; /* logical block size, 512 to 4096; 0: 512, as images expect it */
	uint32_t queues;      /* ublk: queues, NBD: connections, 1 to 16; 0: 2 */
	/*
	 * NBD: after so long without an answer a request fails. The mount's own deadline comes
	 * first, this one is for a process that hangs. 0: never. At least 1 s.
	 */
	uint32_t timeout_ms;
	/*
	 * ublk: should this process be killed, accesses to the device wait for the next attach of
	 * the same name, which takes the device over. Else they fail at once.
	 */
	bool recover;
	const char *name; /* for lists, and what recover goes by: a URL, say; NULL: "" */
};

/** "auto", "ublk", "nbd", "loop". */
const char *hither_block_kind_name(enum hither_block_kind kind);
/** Can this kernel and user do it? 0, or -errno and what to change. AUTO: any of them. */
int hither_block_probe(enum hither_block_kind kind, struct hither_error *err);

/**
 * Make a device. When this returns it answers, by threads of its own; mount outlives it. What dead
 * processes left is cleaned up first. Blocks, for milliseconds. With AUTO, err tells for each kind
 * why it could not be.
 */
int hither_block_attach(struct hither_mount *mount, const struct hither_block_options *options,
                        struct hither_block **out, struct hither_error *err);
/**
 * A device for which the kernel's NBD client talks to the server by itself, over
 * options->queues connections: no process is on the path of its accesses. url:
 * nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=PATH, without TLS. options->kind is NBD or
 * AUTO. A server that is silent for timeout_ms, or dies, gives I/O errors.
 */
int hither_block_attach_remote(const char *url, const struct hither_block_options *options,
                               struct hither_block **out, struct hither_error *err);
/** "/dev/ublkb0". Borrowed. */
const char *hither_block_path(const struct hither_block *b);
enum hither_block_kind hither_block_kind(const struct hither_block *b);
uint64_t hither_block_size(const struct hither_block *b);
/** Write back what the kernel caches of it, and flush the mount, as options.sync of it says. */
int hither_block_flush(struct hither_block *b, struct hither_error *err);
/**
 * Remove the device and free b. -EBUSY: it is mounted, or swap: nothing has happened, b still
 * works. force: remove it nevertheless; its users get I/O errors. Any other -errno: it is removed,
 * but not all that was written to it could be taken. NULL is fine.
 */
int hither_block_detach(struct hither_block *b, bool force, struct hither_error *err);

/** A device that some process made by this frontend. */
struct hither_block_entry {
	const char *path; /* "/dev/nbd0" */
	const char *name; /* as attached */
	enum hither_block_kind kind;
	int pid;
	bool alive; /* its process is; else hither_block_cleanup() removes it */
};
/** Call each() for every one, until it returns non-zero, which is returned. */
int hither_block_each(int (*each)(void *user, const struct hither_block_entry *entry), void *user);
/**
 * Remove the devices of dead processes, but those that wait for recovery unless `all`. *count
 * (NULL: not wanted): how many. -EBUSY and the first one in err: some are in use, unmount them.
 */
int hither_block_cleanup(bool all, unsigned *count, struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
