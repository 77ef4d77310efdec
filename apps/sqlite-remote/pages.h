/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages a B-tree page points to (https://www.sqlite.org/fileformat2.html, 1.6). Whatever a
 * page holds, nothing beyond it is read.
 */
#ifndef SQLITE_REMOTE_PAGES_H
#define SQLITE_REMOTE_PAGES_H

#include <stdint.h>

struct page {
	const unsigned char *bytes;
	uint32_t size, usable; /* bytes */
	uint32_t number;       /* the first is 1 */
};

/* Call each for every child page, and for the first overflow page of every cell that has one. */
void pages_children(const struct page *p,
                    void (*each)(void *user, uint32_t number, int is_overflow), void *user);
/* Of an overflow page: the next one; 0: it is the last. */
uint32_t pages_next(const struct page *p);

#endif
