/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages (4 KiB) of a mount have been seen: a bit each, in leaves of 128 MiB that exist only
 * where some but not all pages have been.
 */
#ifndef HITHER_ORDER_SEEN_H
#define HITHER_ORDER_SEEN_H

#include <stdbool.h>
#include <stdint.h>

#define SEEN_PAGE UINT64_C(4096)

struct seen_leaf; /* opaque */
struct seen {
	uint64_t leaf_count;
	struct seen_leaf **leaves;
};

/* 0 or -ENOMEM. */
int seen_init(struct seen *s, uint64_t size_bytes);
void seen_finish(struct seen *s); /* a struct of zeros is fine */

/* Is it marked? */
bool seen_has(const struct seen *s, uint64_t page);
/* Mark a page. True: it was not marked yet. Without memory it is not, and is new the next time too.
 */
bool seen_mark(struct seen *s, uint64_t page);

#endif
