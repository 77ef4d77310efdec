/* SPDX-License-Identifier: Apache-2.0 */
/* A swap area on a block device. The header's format: mkswap(8), include/linux/swap.h of Linux. */
#ifndef HITHER_APP_RAM_DL_SWAP_AREA_H
#define HITHER_APP_RAM_DL_SWAP_AREA_H

#include <hither/error.h>
#include <stddef.h>
#include <stdint.h>

/* Write a header for an area of size_bytes, around the record of claim.h. */
int swap_area_make(const char *device, uint64_t size_bytes, struct hither_error *err);
/* priority -1: the kernel's choice. */
int swap_area_on(const char *device, int priority, struct hither_error *err);
/*
 * -ENOMEM: what is paged out does not fit into memory. Found out before it is tried, unless
 * `force`: the kernel would find out by killing whoever tries (include/linux/oom.h,
 * oom_task_origin).
 */
int swap_area_off(const char *device, bool force, struct hither_error *err);

/* A line of /proc/swaps. False: it is no swap. */
struct swap_use {
	uint64_t size_bytes, used_bytes;
	int priority;
};
bool swap_area_use(const char *device, struct swap_use *out);

#endif
