/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the block frontend's files share.
 *
 *     block.c    choosing, attaching, detaching     record.c   who made which device: for cleaning
 * up loop.c     loop over FUSE                     device.c   what all block devices need nbd.c the
 * kernel's NBD client            netlink.c  talking to it remote.c   handshakes for it ublk.c,
 * ublk_queue.c, ublk_control.c
 *
 * A kind is a table of functions and a number that names one of its devices. The number is chosen,
 * and written down in a record, before the device is made: a process that is killed in between
 * leaves nothing that the next one does not know.
 */
#ifndef HITHER_FRONTEND_BLOCK_INTERNAL_H
#define HITHER_FRONTEND_BLOCK_INTERNAL_H

#include <hither/block.h>
#include <stddef.h>

enum { BLOCK_PATH_BYTES = 32, BLOCK_NAME_BYTES = 512, BLOCK_QUEUES_MAX = 16 };

struct block_record {
	enum hither_block_kind kind;
	unsigned number;
	int pid;
	int fd; /* holds the lock; -1: none */
	bool recover;
	char name[BLOCK_NAME_BYTES];
};

struct hither_block {
	const struct block_kind *kind;
	struct hither_mount *mount;          /* NULL: the kernel talks to a server by itself */
	struct hither_block_options options; /* defaults filled in, no name */
	uint64_t size_bytes;
	char path[BLOCK_PATH_BYTES];
	struct block_record record;
	int sockets[BLOCK_QUEUES_MAX]; /* remote: connected, until the kernel has them; else -1 */
	uint16_t server_flags;
	void *state; /* the kind's own; NULL before attach and after detach */
};

struct block_kind {
	enum hither_block_kind kind;
	const char *device; /* "/dev/loop" */
	int (*probe)(struct hither_error *err);
	/* The first number from `from` on that looks free, or -errno. */
	int (*pick)(unsigned from, struct hither_error *err);
	/* Make device b->record.number. -EBUSY: somebody else has that number. */
	int (*attach)(struct hither_block *b, struct hither_error *err);
	/* Undo attach, whatever happens. The device is closed, but perhaps by its users. */
	void (*detach)(struct hither_block *b);
	/* The process that made it is dead. -EBUSY: in use; else 0, also where nothing was left. */
	int (*cleanup)(const struct block_record *r, struct hither_error *err);
	/* Take the device of a dead process over; b->record is its. NULL: cannot. */
	int (*recover)(struct hither_block *b, struct hither_error *err);
};
extern const struct block_kind block_loop, block_nbd, block_ublk;
/* NULL: not in this build. */
const struct block_kind *block_kind_of(enum hither_block_kind kind);

/* --- record.c: files in /run/hither/block, locked as long as their process lives --- */

#define BLOCK_FOLDER "/run/hither/block"

/* Make r->kind, r->number ours. -EBUSY: another live process has it. */
int block_record_take(struct block_record *r, struct hither_error *err);
void block_record_drop(struct block_record *r);
/*
 * Call each() for all; for those of the dead the record is locked meanwhile, r->fd; each() may take
 * it (fd = -1 after), or set *drop to have the record removed.
 */
int block_record_each(int (*each)(void *user, struct block_record *r, bool alive, bool *drop),
                      void *user);

/* --- device.c --- */

void block_device_path(char path[BLOCK_PATH_BYTES], const struct block_record *r);
/* Wait until the node at path is there. -ENOENT after 10 s. */
int block_device_wait(const char *path, struct hither_error *err);
/* Open with the exclusive claim that mounting takes. -EBUSY: it is mounted, or swap. */
int block_device_claim(const char *path);
/* Wait until nobody claims the device any more, at most ms; false: somebody still does. */
int block_device_sync(const char *path);
/* First line of a file in /sys, without its end; "" if it cannot be read. */
void block_sysfs(char *out, size_t size, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* 0, or -EPERM: only root. */
int block_need_root(struct hither_error *err);
/* A thread that takes no signals. 0 or -errno. */
int block_thread(unsigned long *thread, void *(*run)(void *), void *arg);

/* --- remote.c --- */

/* Connect b->sockets, shake hands, and fill in size and flags. */
int block_remote_connect(struct hither_block *b, const char *url, struct hither_error *err);

#endif
