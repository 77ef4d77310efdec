/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts: a backend made usable here. A direct mount sends every access to its backend. A managed
 * one has a local store, which pullers fill (what somebody waits for first, then what its order
 * says) and pushers write back.
 */
#ifndef HITHER_MOUNT_H
#define HITHER_MOUNT_H

#include <hither/backend.h>
#include <hither/order.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a flush (fsync) promises. */
enum hither_sync {
	HITHER_SYNC_REMOTE, /* the backend has the bytes, durably */
	HITHER_SYNC_LOCAL,  /* the local store has them, durably; they are pushed later */
};

/** What to do with a cached copy when the resource behind it has changed. */
enum hither_changed {
	HITHER_CHANGED_REFETCH, /* at open: drop the clean copy (with dirty blocks: fail). Later:
	                           fail */
	HITHER_CHANGED_FAIL,    /* fail, always */
};

/**
 * Hears of every push of a managed mount. Called with no lock held, by several threads at a time,
 * but not for the same bytes; may block as a backend may.
 */
struct hither_push_watch {
	/**
	 * buf is to be written to backend, which may be asked what is there. 0: go on; an error
	 * that does not pass by itself ends the push as if the backend had given it.
	 */
	int (*before)(void *user, struct hither_backend *backend, const void *buf, size_t len,
	              uint64_t offset, struct hither_error *err);
	/** What became of it: 0, or an -errno, after which the bytes may be there or not. */
	void (*after)(void *user, uint64_t offset, int result);
	/** All that was pushed before is durable. */
	void (*flushed)(void *user);
	void *user;
};

struct hither_mount_options {
	bool direct;   /* no local store, no order */
	bool pull_off; /* no front-to-back pull in the background; guesses ahead of readers stay */
	/*
	 * What is guessed ahead of the readers: NULL or "auto", what the resource's format suggests
	 * (its first bytes tell which), then readahead; "readahead", that alone; "none", nothing;
	 * or the name of a format. Anything else: -EINVAL.
	 */
	const char *order;
	/*
	 * Many things lie beside each other: in the background, what lies around a read that waited
	 * comes before the front.
	 */
	bool scattered;
	uint32_t ahead_ms; /* orders that know time keep so much ahead of a reader; 0: 30 s */
	bool offline;      /* use only what the cache has; the backend is not asked */
	enum hither_sync sync;
	enum hither_changed changed;
	const char *cache_dir; /* folder of caches, made if missing; NULL: keep the store in memory
	                          (memfd) */
	uint64_t cache_cap_bytes; /* most bytes of clean data kept; 0: no cap */
	/*
	 * Of a store in memory: most bytes kept, dirty ones included (which are pushed first, then
	 * dropped); whoever needs more waits meanwhile. At least 64 chunks; 0: no limit.
	 */
	uint64_t resident_bytes;
	uint32_t chunk_bytes;      /* power of two, 4 KiB to 16 MiB; 0: 64 KiB */
	uint32_t workers;          /* most requests in flight, 1 to 64; 0: 32 */
	uint32_t deadline_ms;      /* how long a read or flush rides through an outage; 0: 5 min */
	uint32_t push_interval_ms; /* dirty bytes are pushed after at most so long; 0: 5 s */
	uint64_t push_dirty_bytes; /* or when there are so many; 0: 64 MiB */
	const struct hither_push_watch *push_watch; /* copied; NULL: none */
	const struct hither_range *ranges;          /* wanted first, in this order */
	size_t range_count;
	const char *profile; /* replay this file; NULL: none */
	const char *record;  /* record first accesses to this file; NULL: no */
	int64_t (*priority)(void *user, uint64_t chunk); /* see hither_order_priority; NULL: none */
	void *priority_user;
	struct hither_backend_options backend;
};

struct hither_mount;

/**
 * Open url and mount it. Blocks until the resource has answered, or failed to. *out is the
 * caller's. Any thread. -EBUSY: another process has this cache.
 */
int hither_mount_open(const char *url, const struct hither_mount_options *options,
                      struct hither_mount **out, struct hither_error *err);
/** Mount an open backend, which the mount takes over on success. name stands for the URL: it names
 * the cache. */
int hither_mount_backend(struct hither_backend *backend, const char *name,
                         const struct hither_mount_options *options, struct hither_mount **out,
                         struct hither_error *err);

uint64_t hither_mount_size(const struct hither_mount *m);
bool hither_mount_writable(const struct hither_mount *m);
/** Does it take HITHER_IO_DISCARD? Where zeros are as dear as any bytes it does not: a managed
 * mount does over HITHER_BACKEND_SPARSE, a direct one also where the backend makes holes
 * (ops->zero). */
bool hither_mount_discards(const struct hither_mount *m);
/** When the resource had last been changed as it was opened, since 1970; 0: it does not tell. */
int64_t hither_mount_modified_ns(const struct hither_mount *m);

/**
 * Copy bytes [offset, offset + len) into buf, pulling what is not local yet; any alignment. Waits
 * for these blocks only. Safe from any thread, except beside hither_mount_close(). Returns 0;
 * -EINVAL beyond the end; -ESTALE when the resource has changed; else the backend's -errno.
 */
int hither_mount_read_at(struct hither_mount *m, void *buf, size_t len, uint64_t offset,
                         struct hither_error *err);
/** Write; -EROFS if not writable. What it wrote is pushed in the background, or by a flush. */
int hither_mount_write_at(struct hither_mount *m, const void *buf, size_t len, uint64_t offset,
                          struct hither_error *err);
/** Everything written before the call is safe, as options.sync says, when it has returned 0. */
int hither_mount_flush(struct hither_mount *m, struct hither_error *err);
/** Push every dirty byte and flush the backend, whatever options.sync says. */
int hither_mount_push(struct hither_mount *m, struct hither_error *err);
/**
 * Say what will be wanted, in this order: it is guessed before all else. Clipped to the size;
 * copied. A direct mount takes no advice.
 */
int hither_mount_suggest(struct hither_mount *m, const struct hither_range *ranges, size_t count,
                         struct hither_error *err);
/**
 * These bytes, of whole blocks of 4 KiB (or up to the end), are what the backend has there, by what
 * the caller knows: keep them as if they had been pulled. What is here already stays. Does not wait
 * for the network. -EINVAL: not whole blocks; -EOPNOTSUPP: a direct mount; -ENOSPC and the like.
 */
int hither_mount_fill(struct hither_mount *m, const void *buf, size_t len, uint64_t offset,
                      struct hither_error *err);
/**
 * Many requests at a time come soon: have so many connections open by then, as far as the mount may
 * have them and its backend needs them. Never blocks. Also: hither_order_view.warm.
 */
void hither_mount_warm(struct hither_mount *m, uint32_t connections);
/** Wait until everything is local. -ECANCELED if the mount is cancelled meanwhile. */
int hither_mount_pull(struct hither_mount *m, struct hither_error *err);

enum hither_io_op {
	HITHER_IO_READ,
	HITHER_IO_WRITE,
	HITHER_IO_FLUSH,
	/*
	 * Whole blocks of 4 KiB (or up to the end) are zeros from now on, as if these had been
	 * written, and take no room here; no buf. -EINVAL: not whole blocks; -EOPNOTSUPP: see
	 * hither_mount_discards(). Never waits for a network.
	 */
	HITHER_IO_DISCARD,
};

/** One access, for frontends that must not block. Owned by the caller until done() is called. */
struct hither_io {
	enum hither_io_op op;
	uint64_t offset;
	size_t len;
	void *buf; /* read: filled; write: read from; until done(). A managed mount's read may have
	              NULL: done() when the bytes are local, nothing is copied */
	/*
	 * Called once, on the submitting thread or a worker, with no lock held; result is 0 or
	 * -errno, and err then has the message. May submit again; must not block on this mount.
	 */
	void (*done)(struct hither_io *io, int result, const struct hither_error *err);
	/* The mount's own, from here on. */
	struct hither_io *next;
	uint64_t submitted_ns;
	bool waited, jumped;
};
/** Start io. Never blocks on the network; a local hit is answered on the calling thread, before it
 * returns. */
void hither_mount_submit(struct hither_mount *m, struct hither_io *io);

/** A picture of now. Byte counts are since open, unless said otherwise. */
struct hither_mount_stats {
	uint64_t size_bytes;
	uint64_t local_bytes;  /* local now, dirty ones included */
	uint64_t dirty_bytes;  /* dirty now */
	uint64_t pulled_bytes; /* came from the backend */
	uint64_t demand_bytes; /* of these, because somebody waited */
	uint64_t pushed_bytes;
	uint64_t pull_requests;
	uint64_t push_requests;
	uint64_t retries;       /* requests that failed and were tried again */
	uint64_t reads;         /* accesses by programs */
	uint64_t reads_waited;  /* of these, some bytes were not local */
	uint64_t wait_ns;       /* time they waited, summed */
	uint64_t reads_stalled; /* of these, waited longer than 50 ms */
	uint64_t writes;
	uint64_t evicted_bytes;
	uint32_t waiting;    /* reads that wait now */
	uint32_t in_flight;  /* requests under way now */
	uint32_t pushing;    /* of these, pushes */
	uint64_t rtt_ns;     /* measured: least time from request to first byte; 0: not yet */
	uint64_t rate_bytes; /* measured: pull bytes per second, recent best */
	int error;           /* last failure not yet followed by a success, else 0 */
	char message[384];   /* its message */
};
void hither_mount_stats(struct hither_mount *m, struct hither_mount_stats *out);
/**
 * Copy the state of count equal parts of the mount into parts[]: 0 to 254 is the local share, 255
 * all local; for pictures of the map.
 */
void hither_mount_picture(struct hither_mount *m, uint8_t *parts, size_t count);

/** What is known of some bytes. */
enum {
	HITHER_EXTENT_HOLE = 1u << 0,  /* stored nowhere: they read as zeros */
	HITHER_EXTENT_LOCAL = 1u << 1, /* in the local store */
	HITHER_EXTENT_DIRTY = 1u << 2, /* written here, and not yet safe in the backend */
};
/**
 * How many bytes from offset on, at least 1 and at most max, are of one kind, which goes to *kind
 * (HITHER_EXTENT_*). 0 < max, and offset + max is not beyond the end. Never waits for a network.
 */
uint64_t hither_mount_extent(struct hither_mount *m, uint64_t offset, uint64_t max, uint32_t *kind);

/**
 * Copy [offset, offset + len) into buf if all of it is local: 0. -EAGAIN if some is not, and always
 * of a direct mount; -EINVAL beyond the end. Never waits for a network; no access of a program's,
 * so orders do not learn of it.
 */
int hither_mount_peek(struct hither_mount *m, void *buf, size_t len, uint64_t offset);

/**
 * A file's descriptor that has every byte, of a mount that cannot be written: the store's once all
 * is local, or the resource itself where a direct mount is of a file. -1: not, or not yet.
 * Borrowed.
 */
int hither_mount_local_fd(struct hither_mount *m);
/** Whoever reads from here on keeps a copy of his own, as a page cache does: what is read from a
 * store on disk leaves no second one in memory, where the kernel can. Any thread. */
void hither_mount_cached_above(struct hither_mount *m);

/** Give up on the network: waiting calls return -ECANCELED. What is dirty stays in the cache. */
void hither_mount_cancel(struct hither_mount *m);
/**
 * Push what is dirty (unless cancelled), stop, free. Returns the push's result: on failure what is
 * dirty is still in the cache (if there is one on disk), and the next mount pushes it. NULL is
 * fine.
 */
int hither_mount_close(struct hither_mount *m, struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
