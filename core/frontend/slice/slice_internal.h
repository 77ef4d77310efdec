/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The slice, inside. The region is a mapping of the store's memfd, registered with a userfaultfd:
 * a page can be touched once it has been mapped by UFFDIO_CONTINUE, which is done for present
 * blocks only, while they are pinned (mount/memory.h).
 *
 *     slice.c   open, close, the mount's hooks      fault.c   who touches what is not mapped
 *     track.c   what was written: the choice        track_*.c its ways
 *     through.c a mount as a backend                bus.c     faults by signal
 *     serve.c   other processes' regions            view.c    their side of it
 *     thread.c  who answers faults                  near.c    what is brought beside a page
 *     uffd.c    the kernel's calls
 *
 * Blocks are counted from the region's start, unless a name says `mount`.
 *
 * Locks: the mount's hooks come with none held, but `lead` maybe, which is the first. `mapping` is
 * held for reading while pages are mapped and their bits set, for writing while written pages are
 * looked for, so that a bit and its page agree; then the mount's. `lock` is innermost; a parent's
 * before a client's.
 */
#ifndef HITHER_SLICE_INTERNAL_H
#define HITHER_SLICE_INTERNAL_H

#include "mount/memory.h"
#include "uffd.h"

#include <hither/slice.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
	SLICE_BLOCK_BYTES = 4096,
	SLICE_BLOCK_SHIFT = 12,
	SLICE_WAIT_STEPS = 8,      /* of a histogram, to each doubling */
	SLICE_WINDOW_BLOCKS = 256, /* most that one fault of a sequential reader brings: 1 MiB */
	SLICE_AHEAD_BLOCKS = 1024, /* and what comes behind it while the reader is at that */
	SLICE_THREADS = 8,         /* faults that wait for a network beside workers, and one more */
	SLICE_RECENT = 32,         /* chunks */
};

/* A way to find written pages. Called with `mapping` held for writing, but `mapped` and `fault`. */
struct slice_tracker {
	enum hither_slice_tracking kind;
	uint64_t features;                                             /* of userfaultfd, needed */
	int (*open)(struct hither_slice *s, struct hither_error *err); /* NULL: nothing to do */
	void (*close)(struct hither_slice *s);
	/* These are about to be mapped, pinned. NULL: nothing to do. */
	void (*mapped)(struct hither_slice *s, uint64_t first, uint64_t end);
	/* Tell what was written (slice_written), and look at it as clean from now on. NULL: told
	 * already. */
	void (*scan)(struct hither_slice *s, uint64_t first, uint64_t end);
	/* Look at these as clean from now on, telling nothing. */
	void (*rearm)(struct hither_slice *s, uint64_t first, uint64_t end);
	/* Let nobody write to these before they are mapped again, and tell what was written. */
	void (*unmap)(struct hither_slice *s, uint64_t first, uint64_t end);
	/* What was told could not be noted: tell it again. */
	void (*again)(struct hither_slice *s, uint64_t first, uint64_t end);
	/* The kernel has taken out a mapped page: was it write-protected? NULL: no. `mapping` is
	 * held for reading. */
	bool (*protected)(const struct hither_slice *s, uint64_t block);
};

/* A pull that some fault waits for. In s->waits until its bytes are here. */
struct slice_wait {
	struct hither_io io; /* first */
	struct slice_wait *next;
	struct hither_slice *slice;
	uint64_t first, end;
	uint64_t bring; /* [end, bring) is to come, too, though nobody waits for it */
	uint64_t start_ns;
};

struct hither_slice {
	struct mount_memory_watch watch; /* first */
	/* fixed after open */
	struct hither_mount *mount; /* its store is mapped */
	bool own_mount;             /* made for this slice, over the caller's */
	uint64_t mount_first;       /* where the region begins */
	uint64_t block_count;
	uint64_t size_bytes;
	char *data;
	const char *alias; /* TRACK_HASH: the same bytes, without faults */
	bool writable;
	enum hither_slice_faults faults;
	struct uffd uffd;
	const struct slice_tracker *tracker;
	bool follow;
	uint32_t chunk_blocks;
	uint32_t scan_ms;
	int pagemap_fd; /* TRACK_ASYNC */
	int stop_fd;    /* an event: the thread shall end */
	bool remote;    /* serve.c: data is another process's address */
	int peer_fd;    /* and this the socket to it */

	pthread_mutex_t lead; /* held by the thread that looks for faults; guards these */
	pthread_t threads[SLICE_THREADS];
	unsigned thread_count;
	uint64_t scan_due_ns;
	_Atomic unsigned followers; /* threads that could lead at once */
	_Atomic unsigned looks_vain;

	pthread_rwlock_t mapping;
	_Atomic uint64_t *mapped; /* bit per block */
	_Atomic uint64_t *hashes; /* TRACK_HASH: one per block */

	/* the fault thread's (or, with FAULTS_SIGBUS, whoever's; a guess that may be wrong) */
	_Atomic uint64_t stream_next;      /* block after the last fault's range */
	_Atomic uint64_t stream_blocks;    /* its length */
	_Atomic uint64_t ahead, ahead_end; /* what who leads brings when nobody waits */

	_Atomic uint64_t mapped_count, fault_count, fault_waits, write_faults, scans, written_count,
	        unmapped_count, failed_count;

	_Atomic uint32_t waits_took[64 * SLICE_WAIT_STEPS]; /* how many took about so long */

	_Atomic bool gone; /* remote: the other process went away */

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t idle;  /* the last wait has ended */
	struct slice_wait *waits;
	unsigned wait_count;           /* those in `waits`, and those that map what has come */
	uint64_t recent[SLICE_RECENT]; /* chunks that were waited for, + 1; 0: none */
	unsigned recent_next;
	unsigned coming_back; /* near.c */
	struct hither_error trouble;
	struct hither_slice *clients;     /* regions of other processes */
	struct hither_slice *next_client; /* guarded by their parent's lock */
};

static inline bool slice_is_mapped(const struct hither_slice *s, uint64_t block)
{
	return atomic_load_explicit(&s->mapped[block / 64], memory_order_acquire) >> block % 64 & 1;
}
static inline char *slice_addr(const struct hither_slice *s, uint64_t block)
{
	return s->data + (block << SLICE_BLOCK_SHIFT);
}

/* slice.c */
int slice_new(struct hither_slice **out, struct hither_error *err);
int slice_bits_create(struct hither_slice *s, struct hither_error *err);
void slice_watch(struct hither_slice *s);
/* No thread and no wait is left. */
void slice_stop(struct hither_slice *s);
void slice_free(struct hither_slice *s);
/* The first run in [first, end) of blocks that are mapped (or not); 0: none. */
uint64_t slice_run(const struct hither_slice *s, uint64_t first, uint64_t end, bool mapped,
                   uint64_t *run_first);
/* Map what is present, and wake who waits for it. 0 or -errno. */
int slice_map_present(struct hither_slice *s, uint64_t first, uint64_t end);
/* These were written: the mount is told. */
void slice_written(struct hither_slice *s, uint64_t first, uint64_t end);
void slice_collect(struct hither_slice *s);
void slice_trouble(struct hither_slice *s, int code, const char *message);

/* waits.c: how long faults wait */
void slice_waited(struct hither_slice *s, uint64_t ns);
/* Nanoseconds that so many of a thousand waits do not exceed; 0: there were none. */
uint64_t slice_wait_quantile(const struct hither_slice *s, uint32_t per_mille);

/* thread.c */
int slice_threads_start(struct hither_slice *s, struct hither_error *err);
/* They have ended when it returns. */
void slice_threads_stop(struct hither_slice *s);

/* near.c */
void slice_near_init(struct hither_slice *s);
/* A fault waits for this block. True: bring what is behind it in its chunk, too. */
bool slice_near_waits(struct hither_slice *s, uint64_t block);
/* A fault found this block here. */
void slice_near_found(struct hither_slice *s, uint64_t block);

/* fault.c */
/* Answer it, if that takes no network. False: *waits must be waited for. */
bool slice_answer(struct hither_slice *s, const struct uffd_msg *msg, uint64_t *waits);
/* Is there something near to bring while nobody waits? By who leads. */
bool slice_is_ahead(const struct hither_slice *s);
void slice_go_ahead(struct hither_slice *s);
/*
 * See that a block comes and is mapped. asked: this thread may bring it, which takes as long as
 * that; asked(s) is called once, before it waits. NULL: others bring it.
 */
void slice_wait_for(struct hither_slice *s, uint64_t block, void (*asked)(void *slice));
/* What a fault at `block` brings. */
void slice_fault_range(struct hither_slice *s, uint64_t block, uint64_t *first, uint64_t *end);
/* Blocks until `block` is mapped, or has failed. */
int slice_fault_here(struct hither_slice *s, uint64_t block, bool write, struct hither_error *err);
/* Blocks until [first, end) is local or has failed; it need not be mapped. */
int slice_pull(struct hither_slice *s, uint64_t first, uint64_t end, struct hither_error *err);
void slice_fail(struct hither_slice *s, uint64_t first, uint64_t end,
                const struct hither_error *err);
void slice_waits_finish(struct hither_slice *s);

/* track.c */
int slice_tracker_choose(struct hither_slice *s, enum hither_slice_tracking kind, bool user_only,
                         uint64_t *features, struct hither_error *err);
extern const struct slice_tracker slice_track_async, slice_track_fault, slice_track_hash,
        slice_track_none;

/* through.c: m as a backend, which does not own it. */
int slice_through(struct hither_mount *m, bool writable, struct hither_backend **out,
                  struct hither_error *err);

/* serve.c */
void slice_clients_finish(struct hither_slice *s);

/* bus.c */
int slice_bus_add(struct hither_slice *s, struct hither_error *err);
void slice_bus_remove(struct hither_slice *s);

#endif
