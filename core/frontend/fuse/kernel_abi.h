/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's FUSE protocol: <linux/fuse.h>, and the few things that are newer than the one we may
 * be built with (Debian 12 has protocol 7.38). Source of every value here:
 * include/uapi/linux/fuse.h of Linux 6.9 (protocol 7.40), where passthrough came in. They carry our
 * prefix, so that a newer header does not clash.
 */
#ifndef HITHER_FRONTEND_FUSE_KERNEL_ABI_H
#define HITHER_FRONTEND_FUSE_KERNEL_ABI_H

#include <linux/fuse.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define ABI_MAJOR 7
#define ABI_MINOR 40
/* The oldest that has INIT's max_pages (Linux 4.20), without which requests end at 128 KiB. */
#define ABI_MINOR_OLDEST 28

/* INIT flags above 31 go into flags2, shifted down. */
#define ABI_INIT_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36) /* protocol 7.39 */
#define ABI_INIT_PASSTHROUGH (UINT64_C(1) << 37)

#define ABI_FOPEN_NOFLUSH (1u << 5)
#define ABI_FOPEN_PARALLEL_DIRECT_WRITES (1u << 6)
#define ABI_FOPEN_PASSTHROUGH (1u << 7)

struct abi_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define ABI_IOC_BACKING_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 1, struct abi_backing_map)
#define ABI_IOC_BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)

/* struct fuse_open_out, whose last field older headers call padding. */
struct abi_open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

/* struct fuse_init_out, whose max_stack_depth older headers count among the unused. */
struct abi_init_out {
	uint32_t major;
	uint32_t minor;
	uint32_t max_readahead;
	uint32_t flags;
	uint16_t max_background;
	uint16_t congestion_threshold;
	uint32_t max_write;
	uint32_t time_gran;
	uint16_t max_pages;
	uint16_t map_alignment;
	uint32_t flags2;
	uint32_t max_stack_depth;
	uint32_t unused[6];
};
_Static_assert(sizeof(struct abi_open_out) == sizeof(struct fuse_open_out),
               "open_out has its size");
_Static_assert(sizeof(struct abi_init_out) == sizeof(struct fuse_init_out),
               "init_out has its size");

#endif
