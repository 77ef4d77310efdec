/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount's store as memory, for core/frontend/slice (and core/frontend/export, which only looks at
 * it): a program maps the very memfd that pulls are
 * written to, and changes its bytes without asking. So the mount and whoever maps its store tell
 * each other:
 *
 *  - A block is mapped only while it is pinned, and pinned only while it is present.
 *  - What was changed in place is told by mount_memory_touched(); it is dirty from then on.
 *  - A watcher is asked before dirty blocks are read to be pushed (it arms its tracking again, so
 *    that a later change is told as a new one: rule 5), and before clean ones leave the store (it
 *    unmaps them, and tells what was changed: they stay then, rule 6).
 *
 * Any thread. Hooks are called with no lock of the mount's held; they may call these functions.
 */
#ifndef HITHER_MOUNT_MEMORY_H
#define HITHER_MOUNT_MEMORY_H

#include <hither/mount.h>

/* Ranges are blocks of 4 KiB, half-open, within the mount. */
struct mount_memory_watch {
	struct mount_memory_watch *next;
	void (*arrived)(struct mount_memory_watch *w, uint64_t first, uint64_t end);
	void (*pushing)(struct mount_memory_watch *w, uint64_t first, uint64_t end);
	void (*leaving)(struct mount_memory_watch *w, uint64_t first, uint64_t end);
	/* Tell all that was changed so far: a flush begins. */
	void (*collect)(struct mount_memory_watch *w);
	/*
	 * Put whole absent blocks into the memfd by way of one's own mapping of it, which maps them
	 * in the same step: quicker than write() and mapping, and not one thread at a time. False:
	 * not all of it was done. NULL: cannot.
	 */
	bool (*fill)(struct mount_memory_watch *w, uint64_t first, uint64_t end, const void *bytes);
};

/* Present blocks that cannot leave the store; `next`, `first` and `end` as in struct managed_busy.
 */
struct mount_memory_pin {
	struct mount_memory_pin *next;
	uint64_t first, end;
	bool leaves; /* false */
};

/* The store's memfd, as large as the mount in whole bytes; borrowed. -1: the store is not in
 * memory. */
int mount_memory_fd(struct hither_mount *m);
uint32_t mount_memory_chunk_bytes(struct hither_mount *m);

/*
 * All bytes of a store in memory that nothing ever leaves, to read from: those of present blocks
 * are right, as long as the mount lives. NULL: it is not such a one. From the first call on no
 * block leaves it, not even where the machine has no memory for more.
 */
const uint8_t *mount_memory_view(struct hither_mount *m);

void mount_memory_watch(struct hither_mount *m, struct mount_memory_watch *w);
/* No hook of w runs when it has returned. Not from a hook. */
void mount_memory_unwatch(struct hither_mount *m, struct mount_memory_watch *w);

/*
 * Pin the first run of present blocks in the range. False: all are absent. Waits while others
 * change or pin some of them, never for a network. Ranges of one thread must not overlap.
 */
bool mount_memory_pin(struct hither_mount *m, struct mount_memory_pin *pin, uint64_t first,
                      uint64_t end);
void mount_memory_unpin(struct hither_mount *m, struct mount_memory_pin *pin);

/* Blocks that the backend takes as a whole: discards must begin and end at multiples. */
uint32_t mount_memory_unit_blocks(struct hither_mount *m);
/* Do the first of these blocks come at once: is the backend near, or are they holes? */
bool mount_memory_near(struct hither_mount *m, uint64_t first, uint64_t end);

/* May what nobody waits for come, too? Not where the mount's limit is near. */
bool mount_memory_roomy(struct hither_mount *m);

/* A program went on to these, which were pulled ahead of it: the order is told. */
void mount_memory_saw(struct hither_mount *m, uint64_t first, uint64_t end);

/* Somebody probably went over these, which were here: the order is told, but nobody's record. */
void mount_memory_passed(struct hither_mount *m, uint64_t first, uint64_t end);

/*
 * Nobody wants these bytes any more: they leave the store, dirty ones too, and the backend (its
 * discard) gives zeros from now on. Waits for what is under way there, at most for a request's
 * time-out. -EOPNOTSUPP: the backend cannot; -ENOMEM: some are still there.
 */
int mount_memory_discard(struct hither_mount *m, uint64_t first, uint64_t end,
                         struct hither_error *err);

/* Present blocks of the range were changed in place. -ENOMEM: tell it again later. */
int mount_memory_touched(struct hither_mount *m, uint64_t first, uint64_t end);

/*
 * Pull the range on the calling thread, if no other thread is at it and the backend has a place
 * free. True: all of it is present. False: submit a read and wait, which also tells why.
 */
bool mount_memory_pull_here(struct hither_mount *m, uint64_t first, uint64_t end);

/*
 * hither_mount_submit() of a read of whole blocks without a buffer, but that the calling thread
 * pulls them, and what is behind them up to block `bring`, if no other thread is at it and the
 * backend has a place free. The read ends when its own blocks are here, before this returns or
 * later. Of what is behind them no watcher is told. asked(user) is called once, before anything is
 * waited for: mostly when the request has just gone out.
 */
void mount_memory_read_here(struct hither_mount *m, struct hither_io *io, uint64_t bring,
                            void (*asked)(void *user), void *user);

#endif
