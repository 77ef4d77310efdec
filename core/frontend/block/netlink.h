/* SPDX-License-Identifier: Apache-2.0 */
/* Generic netlink, as much as the kernel's NBD client takes. linux/genetlink.h, linux/netlink.h. */
#ifndef HITHER_FRONTEND_BLOCK_NETLINK_H
#define HITHER_FRONTEND_BLOCK_NETLINK_H

#include <hither/error.h>
#include <stddef.h>
#include <stdint.h>

enum { NETLINK_BYTES = 4096 };

/* A message, and then its answer. Aligned as struct nlmsghdr wants it. */
struct block_netlink {
	int fd;
	uint16_t family;
	uint32_t sequence;
	size_t len;
	_Alignas(8) uint8_t buf[NETLINK_BYTES];
};

/* Find the family of this name. -ENOENT: the kernel has none. */
int block_netlink_open(struct block_netlink *n, const char *family, struct hither_error *err);
void block_netlink_close(struct block_netlink *n);
void block_netlink_begin(struct block_netlink *n, uint8_t command, uint8_t version);
void block_netlink_put(struct block_netlink *n, uint16_t type, const void *data, size_t len);
void block_netlink_put32(struct block_netlink *n, uint16_t type, uint32_t value);
void block_netlink_put64(struct block_netlink *n, uint16_t type, uint64_t value);
/* An attribute of attributes: from begin's result to end. */
size_t block_netlink_nest(struct block_netlink *n, uint16_t type);
void block_netlink_nest_end(struct block_netlink *n, size_t at);
/*
 * Send it, and wait until the kernel has done it: 0 or -errno. The answer, if it had one, is in
 * buf, and block_netlink_find() looks in it.
 */
int block_netlink_call(struct block_netlink *n);
/* The payload of an attribute of the answer; NULL: it has none of at least `size` bytes. */
const void *block_netlink_find(const struct block_netlink *n, uint16_t type, size_t size);

#endif
