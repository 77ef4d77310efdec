/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a read, several at a time.
 *
 * A hashed piece of 64 KiB takes three round trips over a connection that is new, and one over six
 * of them; and where each part is what a connection brings in one round trip, parts come in the
 * order in which they were asked for, however many are under way:
 *
 *     one each    c1 |10 segments|  20      |  15  |     units 1, 2, 3 ... all at the end
 *                 c2 |10         |  20      |  15  |
 *     in parts    c1 |unit 1     | unit 3 ...            unit 1, then 2, then 3 ...
 *                 c2 |unit 1, 2  | unit 3, 4 ...
 *
 * Parts are begun first come, first served, by threads of their own, since libcurl has a transfer
 * wait for itself.
 */
#ifndef HITHER_TREE_SPREAD_H
#define HITHER_TREE_SPREAD_H

#include <hither/backend.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SPREAD_MOST = 48, /* parts at a time */
	SPREAD_FEW = 8,   /* the same where few files may be open */
};

struct hither_tree_node;

/* Bytes of one file. */
struct spread_run {
	const struct hither_tree_node *node;
	uint64_t from, len;
	size_t at; /* in the read's buffer, behind the run before */
};

/* Bring a part of a run to buf. 0 or -errno. From any thread, several at a time. */
typedef int (*spread_fetch)(void *user, const struct spread_run *part, char *buf,
                            struct hither_error *err);

/* NULL: no memory. */
struct spread *spread_create(spread_fetch fetch, void *user);
void spread_destroy(struct spread *s); /* no read is under way; NULL is fine */

/*
 * Bring all runs, count > 0, into buf [len], and deliver that from its front as they come; bytes
 * between them are delivered as they are. Runs are cut into parts of what a connection brings at
 * once, and of sink->flight_bytes at most (0: not at all). 0, or what ended it; no part is under
 * way then.
 */
int spread_read(struct spread *s, const struct spread_run *runs, uint32_t count, char *buf,
                size_t len, struct hither_sink *sink, struct hither_error *err);

#endif
