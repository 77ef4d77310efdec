/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel is one connection to the kernel, /dev/fuse, and the requests under way on it. It
 * outlives the frontend as long as a mount still has one of its accesses: after an unmount during
 * an outage nobody waits for the network; the last access to end frees the channel.
 *
 * A request lives in a slot, from the read() that takes it to the write() that answers it:
 *
 *     slot                 slot + HEAD - 80           slot + HEAD
 *     | struct fuse_slot ...  | in header, arguments  | bytes to write, or bytes read ... 1 MiB |
 *                                    | out header (16)|
 *
 * so that the bytes of a WRITE arrive page-aligned, and a READ is answered by one plain write()
 * from the buffer the mount has filled. Slots are address space; only what is touched takes memory.
 *
 * Lock order: nothing is taken while `lock` is held; `gate` is held, shared, while a reply is
 * written, and alone while the device is closed.
 */
#ifndef HITHER_FRONTEND_FUSE_CHANNEL_H
#define HITHER_FRONTEND_FUSE_CHANNEL_H

#include "frontend/fuse/kernel_abi.h"

#include <hither/mount.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum {
	FUSE_SLOT_HEAD = 4096,
	FUSE_SLOT_DATA = 1 << 20, /* the longest READ: 256 pages */
	/*
	 * The longest WRITE. Bytes to write are in memory while they wait, bytes to read are not,
	 * so this is what bounds our memory: FUSE_BACKGROUND of them.
	 */
	FUSE_WRITE_MAX = 256 << 10,
	FUSE_REQUEST_HEAD = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in),
};

struct fuse_channel;

enum fuse_phase {
	FUSE_SUBMITTING, /* the thread that took it is inside hither_mount_submit() */
	FUSE_PARKED,     /* the mount has it; in the channel's list of parked ones */
	FUSE_QUEUED,     /* waits for other reads to end, so that we stay within our memory */
	FUSE_FINISHED,   /* the mount is done with it */
};

struct fuse_slot {
	struct hither_io io;
	struct fuse_channel *channel;
	struct hither_mount *mount;
	uint64_t unique;     /* the kernel's name for the request */
	uint32_t write_done; /* WRITE: what to answer when all went well: so many bytes ... */
	int write_error;     /* ... or this error */
	bool interruptible;
	pthread_t submitter; /* who is inside hither_mount_submit() with it, and ... */
	bool submitter_left; /* ... has it come out again? Written by that thread alone. */
	bool answered;       /* done() was called before it came out, on that thread */

	/* Under channel->lock. */
	enum fuse_phase phase;
	bool abandoned; /* answered with EINTR: the mount's result is not wanted any more */
	unsigned refs;  /* the submitter's and the mount's */
	struct fuse_slot *prev, *next;
};

static inline void *fuse_slot_data(struct fuse_slot *s)
{
	return (char *)s + FUSE_SLOT_HEAD;
}
/* Where a request is read to. */
static inline void *fuse_slot_request(struct fuse_slot *s)
{
	return (char *)s + FUSE_SLOT_HEAD - FUSE_REQUEST_HEAD;
}

/* Whom to tell why an access failed; see struct hither_fuse_options. */
struct fuse_failed {
	void (*tell)(void *user, const struct hither_error *err); /* NULL: nobody */
	void *user;
};

/* Takes over fd on success. NULL: no memory. */
struct fuse_channel *fuse_channel_create(int fd, struct fuse_failed failed);
int fuse_channel_fd(const struct fuse_channel *ch); /* valid until shut */
/* Close the device, which ends the connection if it was the last to hold it. Threads have ended.
 * Twice is fine. */
void fuse_channel_shut(struct fuse_channel *ch);
/* Shut, and free as soon as the last access has ended. NULL is fine. */
void fuse_channel_drop(struct fuse_channel *ch);

/*
 * Where there is no memory for one more, waits until one of those in use is put back. NULL: there
 * is none in use either, or fuse_channel_stop() was called.
 */
struct fuse_slot *fuse_slot_get(struct fuse_channel *ch);
void fuse_slot_put(struct fuse_channel *ch, struct fuse_slot *s); /* NULL is fine */
/* Nobody needs to wait for a slot any more. */
void fuse_channel_stop(struct fuse_channel *ch);
bool fuse_channel_stopped(struct fuse_channel *ch);

/*
 * Answer. error: 0 or -errno. 0, or -ENOENT if the request had been given up, or another -errno.
 * fuse_reply_slot: len bytes of the slot's data.
 */
int fuse_reply(struct fuse_channel *ch, uint64_t unique, int error, const void *payload,
               size_t len);
int fuse_reply_slot(struct fuse_slot *s, int error, size_t len);
/* Tell the kernel something it did not ask for. */
int fuse_notify(struct fuse_channel *ch, enum fuse_notify_code code, const void *head,
                size_t head_len, const void *data, size_t len);

/*
 * Start s->io on s->mount, to be answered when it is done: inside this call, or later by another
 * thread. True: it is answered, s is the caller's again. False: s is not.
 */
bool fuse_submit(struct fuse_slot *s);
/* The kernel's INTERRUPT for `target`; `unique` is its own name. */
void fuse_interrupt(struct fuse_channel *ch, uint64_t unique, uint64_t target);

#endif
