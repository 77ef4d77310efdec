/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Linux 6.7's <linux/userfaultfd.h> and <linux/fs.h> have beyond Linux 5.14's. Sources: these
 * headers, and Documentation/admin-guide/mm/{userfaultfd,pagemap}.rst.
 */
#ifndef HITHER_SLICE_KERNEL_ABI_H
#define HITHER_SLICE_KERNEL_ABI_H

#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP ((__u64)1 << 1)
#endif

/* struct uffdio_poison */
struct slice_poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;
};
#define SLICE_UFFDIO_POISON _IOWR(0xAA, 0x08, struct slice_poison)

/* struct page_region, struct pm_scan_arg */
struct slice_page_region {
	uint64_t start, end, categories;
};
struct slice_pagemap_scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SLICE_PAGEMAP_SCAN _IOWR('f', 16, struct slice_pagemap_scan)
enum {
	SLICE_PM_SCAN_WP_MATCHING = 1 << 0,
	SLICE_PM_SCAN_CHECK_WPASYNC = 1 << 1,
	SLICE_PAGE_IS_WRITTEN = 1 << 1,
};
/* An entry of /proc/PID/pagemap: write-protected by userfaultfd, mapped or as a marker. */
#define SLICE_PAGEMAP_UFFD_WP (UINT64_C(1) << 57)

#endif
