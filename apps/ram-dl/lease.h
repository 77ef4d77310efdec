/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has which part of the server's space. Several processes of one `ram-dl run` share it: a byte
 * of it is its owner's who has that byte of a file locked, so that what a process had is free once
 * it has ended, however it ended. One thread at a time.
 */
#ifndef RAM_DL_RUN_LEASE_H
#define RAM_DL_RUN_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEASE_GRAIN = 64 << 10 }; /* areas begin and end at multiples of this */

struct lease_area {
	uint64_t offset, len;
	uint64_t spare; /* so much of its end was never asked for, but rounded up to */
};

struct lease {
	int fd;               /* the file; its open file description is this process's alone */
	uint64_t first_bytes; /* so many at the beginning are nobody's; lease_init() makes it 0 */
	uint64_t size_bytes;
	struct lease_area *areas; /* by offset */
	size_t count, room;
	uint64_t taken_bytes;
};

void lease_init(struct lease *l, int fd, uint64_t size_bytes);
/* Gives all back; the file stays the caller's. */
void lease_finish(struct lease *l);
/* A new area of len bytes, rounded up, as far up as it can be; align: a power of two. 0; -ENOSPC;
 * -ENOMEM; -errno of the file. */
int lease_take(struct lease *l, uint64_t len, uint64_t align, uint64_t *offset);
/* The same for one that grows, and will again: where most room is behind it. */
int lease_take_growing(struct lease *l, uint64_t len, uint64_t *offset);
/* The longest piece that nobody has. */
uint64_t lease_longest(const struct lease *l);
/* Give a part of an area back: the whole, an end, or the middle. -EINVAL: not ours; -ENOMEM. */
int lease_give(struct lease *l, uint64_t offset, uint64_t len);
/* Make the area that begins at offset len bytes long where it is. False: somebody has that place.
 */
bool lease_resize(struct lease *l, uint64_t offset, uint64_t len);
/* len, and what is behind it in the area if nobody has asked for that: giving back all that was
 * asked for gives back the whole. */
uint64_t lease_reach(const struct lease *l, uint64_t offset, uint64_t len);
/* From offset to the end of its area; 0: nobody's. */
uint64_t lease_length(const struct lease *l, uint64_t offset);

#endif
