/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orders (pull heuristics): which bytes should come next, and why. A managed mount asks its order
 * for ranges whenever it has room for one more request and nobody is waiting; it leaves out what is
 * local or on its way already. A wrong guess costs bandwidth, never correctness.
 */
#ifndef HITHER_ORDER_H
#define HITHER_ORDER_H

#include <hither/error.h>
#include <hither/range.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What an order can see of its mount. Valid until the order is destroyed; read it in its calls. */
struct hither_order_view {
	uint64_t size_bytes;
	bool background;     /* the mount wants everything in the end, not only what is read soon */
	uint32_t ahead_ms;   /* orders that know time keep so much ahead of a reader; 0: 30 s */
	uint64_t rate_bytes; /* what the line has brought a second lately; 0: not known yet */
	/*
	 * Copy [offset, offset + len) into buf if all of it is local: 0. -EAGAIN if some is not;
	 * -EINVAL beyond the end. Never waits for the network.
	 */
	int (*peek)(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset);
	/*
	 * Move *offset and *end, where a range of the mount begins and ends, apart to what comes
	 * with it in any case: guesses beside each other in there are one. NULL: just the range.
	 */
	void (*whole)(const struct hither_order_view *view, uint64_t *offset, uint64_t *end);
	/*
	 * Many guesses at a time come soon: see hither_mount_warm(). Cheap to say again. NULL:
	 * nothing to open.
	 */
	void (*warm)(const struct hither_order_view *view, uint32_t connections);
	/*
	 * Of what next() gives from now on, somebody who has jumped there waits for so many bytes:
	 * they are asked for in many short requests, each of which comes in one round trip, before
	 * all that was wanted before. NULL: it cannot be said.
	 */
	void (*hurry)(const struct hither_order_view *view, uint64_t bytes);
};

struct hither_order;

/** All calls of one order are serialised by the mount; none may wait for the network. */
struct hither_order_ops {
	const char *name;
	/*
	 * The next range worth having; false: nothing now (the mount asks again after the next
	 * saw() or arrived()). True with a length of 0: nothing, and until then nobody else is to
	 * guess either, so that what was given before has the line for itself. Ranges are taken
	 * from the front, may be long, and must lie within
	 * size_bytes. window_bytes is what the link keeps in flight: a guess need not run further
	 * ahead than a few times this.
	 */
	bool (*next)(struct hither_order *o, uint64_t window_bytes, struct hither_range *out);
	/* A program has read [offset, offset + len); `waited` if some of it was not local. NULL:
	 * not interested. */
	void (*saw)(struct hither_order *o, uint64_t offset, uint64_t len, bool waited);
	/* These bytes have become local (view->peek has them). NULL: not interested. */
	void (*arrived)(struct hither_order *o, uint64_t offset, uint64_t len);
	void (*destroy)(struct hither_order *o);
	/*
	 * Does it know what this access is about, so that orders after it in a composition, which
	 * know less, shall not be told of it? Asked before saw(). NULL: no.
	 */
	bool (*knows)(struct hither_order *o, uint64_t offset, uint64_t len);
	/*
	 * What a reader that goes on has left behind since this was asked last, each place once;
	 * false: nothing more. Under a limit on memory that goes first. NULL: cannot tell.
	 */
	bool (*left)(struct hither_order *o, struct hither_range *out);
};

/** First member of each order's own struct. */
struct hither_order {
	const struct hither_order_ops *ops;
};

/** Front to back, once. */
int hither_order_front(const struct hither_order_view *view, struct hither_order **out,
                       struct hither_error *err);
/** These ranges, in this order, once (clipped to the size). Copies the array. */
int hither_order_ranges(const struct hither_order_view *view, const struct hither_range *ranges,
                        size_t count, struct hither_order **out, struct hither_error *err);
/**
 * These ranges, none of which overlap, in this order, which is that of the medium: from where
 * somebody waited last, round and round until all was said since. Copies the array.
 */
int hither_order_layout(const struct hither_order_view *view, const struct hither_range *ranges,
                        size_t count, struct hither_order **out, struct hither_error *err);
/**
 * Chunks by falling priority, equal ones front to back; a negative priority: never. `priority` is
 * called once for each chunk, at once; chunk_bytes is a power of two.
 */
int hither_order_priority(const struct hither_order_view *view, uint32_t chunk_bytes,
                          int64_t (*priority)(void *user, uint64_t chunk), void *user,
                          struct hither_order **out, struct hither_error *err);
/** Follows several streams of accesses at once: forward, backward, strided; guesses what they read
 * next. */
int hither_order_readahead(const struct hither_order_view *view, struct hither_order **out,
                           struct hither_error *err);
/** What lies around reads that waited, the newest first. */
int hither_order_near(const struct hither_order_view *view, struct hither_order **out,
                      struct hither_error *err);
/** Replays a recorded profile (file at path); see hither_profile in profile.h for the format. */
int hither_order_replay(const struct hither_order_view *view, const char *path,
                        struct hither_order **out, struct hither_error *err);
/** Writes first accesses to a profile at path (made at once, complete when destroyed); suggests
 * nothing. */
int hither_order_record(const struct hither_order_view *view, const char *path,
                        struct hither_order **out, struct hither_error *err);
/**
 * Asks each in turn, first come first; tells each of everything. Takes over the orders (not the
 * array), on failure too.
 */
int hither_order_compose(struct hither_order *const *orders, size_t count,
                         struct hither_order **out, struct hither_error *err);
/** NULL is fine. */
void hither_order_destroy(struct hither_order *o);

/** 0 if a mount's `order` option may be this (NULL too), else -EINVAL and a message with all names.
 */
int hither_order_check_name(const char *name, struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
