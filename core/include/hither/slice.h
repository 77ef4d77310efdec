/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices: a mount, or a part of it, as memory. What a program touches is pulled, by whole chunks;
 * what arrives in the background is there before it is touched; what it writes is pushed. Needs
 * Linux 5.14 or later (memfd and userfaultfd), no root, no module.
 *
 * A slice of a managed mount that keeps its store in memory (cache_dir NULL) maps that very store:
 * nothing is copied, and what the mount's other frontends do is seen at once. Over any other mount
 * it makes such a store of its own in between: over a direct mount that is the direct slice, which
 * pages in from the backend on a fault and keeps what is mapped, nothing else.
 *
 * System calls: where the kernel lets this process have only user-mode faults (see
 * hither_slice_stats.kernel_faults), read(2) and its like fail with EFAULT for a page that is not
 * mapped: hither_slice_prefault() it first.
 *
 * Fork: a child does not have the region (it gets SIGSEGV there), since nobody would answer its
 * faults. Processes that shall read it attach, see hither_slice_serve().
 *
 * When bytes cannot be had (the mount's deadline is over, the resource has changed) whoever touches
 * them gets SIGBUS; hither_slice_stats.message says why.
 */
#ifndef HITHER_SLICE_H
#define HITHER_SLICE_H

#include <hither/mount.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hither_slice;

/** How writes are found. */
enum hither_slice_tracking {
	HITHER_SLICE_TRACK_AUTO,  /* the first of these that the kernel has */
	HITHER_SLICE_TRACK_ASYNC, /* asynchronous write protection and PAGEMAP_SCAN: Linux 6.7 */
	HITHER_SLICE_TRACK_FAULT, /* a write-protect fault for each first write: Linux 5.19 */
	HITHER_SLICE_TRACK_HASH,  /* comparing hashes (XXH3) of all that is mapped */
	HITHER_SLICE_TRACK_NONE,  /* told only: the slice cannot be written */
};

/** Who answers faults. */
enum hither_slice_faults {
	HITHER_SLICE_FAULTS_THREAD, /* a thread of the slice's */
	/*
	 * The faulting thread itself, by a handler for SIGBUS that this process must leave alone:
	 * several times quicker where bytes are near. Other processes cannot attach. The memory
	 * must not be touched inside malloc, or with a lock held that the backend needs; signals of
	 * other causes go to the handler that was there before.
	 */
	HITHER_SLICE_FAULTS_SIGBUS,
};

/** Zero-initialise. */
struct hither_slice_options {
	uint64_t offset; /* where it begins in the mount; a multiple of 4096 */
	uint64_t len;    /* 0: up to the end */
	bool read_only;
	enum hither_slice_tracking tracking; /* one that the kernel lacks: -EOPNOTSUPP */
	enum hither_slice_faults faults;
	bool user_faults_only; /* do not even try to have system calls' faults */
	/*
	 * Leave a page of each piece that was pulled ahead unmapped, so that the mount's order
	 * hears of a program that reads on, and goes on ahead of it. Costs it a fault for each
	 * piece.
	 */
	bool follow;
	uint32_t scan_ms; /* how often written pages are looked for; 0: 1 s */
	/*
	 * Over a mount that does not keep its store in memory: most bytes that stay in memory (see
	 * hither_mount_options.resident_bytes); 0: no limit.
	 */
	uint64_t resident_bytes;
	uint32_t chunk_bytes; /* and what one fault brings; 0: 64 KiB. Else the mount's chunks. */
};

/**
 * Map m, which stays the caller's and must outlive the slice. Writable if the mount is and
 * read_only is not set. A few system calls; never waits for a network. -EOPNOTSUPP: the kernel
 * lacks what is asked for; -EPERM: userfaultfd is forbidden (the message says what to change).
 */
int hither_slice_open(struct hither_mount *m, const struct hither_slice_options *options,
                      struct hither_slice **out, struct hither_error *err);

/** The memory: hither_slice_size() bytes, page-aligned. Valid until close. */
void *hither_slice_data(const struct hither_slice *s);
uint64_t hither_slice_size(const struct hither_slice *s);

/**
 * Wait until [offset, offset + len) is mapped: system calls may use it from then on, as long as
 * nothing is evicted. Any thread. -EINVAL beyond the end; else the mount's -errno.
 */
int hither_slice_prefault(struct hither_slice *s, uint64_t offset, uint64_t len,
                          struct hither_error *err);

/**
 * Nobody wants these bytes any more (of whole pages): they are not pushed, take no room, and are
 * zeros when they are touched again. Nobody may touch them meanwhile. Waits for requests for them
 * that are under way. -EOPNOTSUPP: the backend cannot (see hither_backend_discard()), or the slice
 * does not map its mount's own store. Any thread.
 */
int hither_slice_discard(struct hither_slice *s, uint64_t offset, uint64_t len,
                         struct hither_error *err);

/** Look for written pages now, rather than within scan_ms; pushing them is the mount's. Any thread.
 */
void hither_slice_collect(struct hither_slice *s);

/** Every byte written before the call is safe, as hither_mount_flush() says. Any thread. */
int hither_slice_flush(struct hither_slice *s, struct hither_error *err);

/** A picture of now; counts are since open. */
struct hither_slice_stats {
	enum hither_slice_tracking tracking; /* in use */
	enum hither_slice_faults faults;
	bool kernel_faults;      /* system calls may touch what is not mapped */
	bool shares_store;       /* the mount's own store is mapped */
	uint64_t mapped_bytes;   /* touching these costs nothing */
	uint64_t fault_count;    /* faults that somebody had to answer */
	uint64_t fault_waits;    /* of these, for bytes that were not local */
	uint64_t write_faults;   /* for HITHER_SLICE_TRACK_FAULT */
	uint64_t scans;          /* looks for written pages */
	uint64_t written_bytes;  /* found by them, in pages */
	uint64_t unmapped_bytes; /* taken out again to make room */
	uint64_t wait_p50_ns;    /* half of the waits for a network took no longer; 0: none yet */
	uint64_t wait_p99_ns;    /* and 99 of 100 no longer than this */
	uint64_t failed_bytes;   /* whoever touches these gets SIGBUS */
	int error;               /* the latest failure; 0: none */
	char message[256];
};
void hither_slice_stats(struct hither_slice *s, struct hither_slice_stats *out);
/** "async", "fault", "hash" or "none". */
const char *hither_slice_tracking_name(enum hither_slice_tracking tracking);

/* --- other processes --- */

/**
 * Hand the region to the process at the other end of `socket` (a connected UNIX stream socket),
 * which calls hither_slice_attach() and may read. From here on this process answers its faults,
 * too, until the socket is closed over there or the slice is. The socket becomes the slice's.
 * Blocks until the other side has attached. Not with HITHER_SLICE_FAULTS_SIGBUS: -EOPNOTSUPP.
 * -EPROTO: what came is not an attaching process's. Any thread.
 */
int hither_slice_serve(struct hither_slice *s, int socket, struct hither_error *err);

/** A region that another process serves. */
struct hither_slice_view;
/**
 * Attach to the slice that is served at the other end of `socket`, which becomes the view's. Blocks
 * until it is. Both sides share the store's memory, so serve only whom you trust with writing it.
 * When the serving process ends or closes the slice, whoever touches the memory gets SIGBUS, and
 * whoever waits for a page at that time, too: nobody hangs and nobody reads zeros.
 */
int hither_slice_attach(int socket, struct hither_slice_view **out, struct hither_error *err);
const void *hither_slice_view_data(const struct hither_slice_view *v);
uint64_t hither_slice_view_size(const struct hither_slice_view *v);
/** Is it still served? */
bool hither_slice_view_alive(const struct hither_slice_view *v);
/** Nobody may touch the memory any more. NULL is fine. */
void hither_slice_detach(struct hither_slice_view *v);

/**
 * Unmap. What was written is told to the mount, which pushes it in time and when it is closed; over
 * a mount without a store in memory it is pushed now, and the result is that push's. Nobody may
 * touch the memory any more. Waits for pages that clients still wait for: hither_mount_cancel()
 * cuts that short. NULL is fine.
 */
int hither_slice_close(struct hither_slice *s, struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
