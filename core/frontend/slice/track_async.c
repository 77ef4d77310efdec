/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages are mapped write-protected, and the kernel lifts that by itself on the first write.
 * PAGEMAP_SCAN tells which, and protects them again in the same step, so no write is missed.
 *
 * A page that the kernel has taken out of the page table (swap) keeps a marker if it was protected.
 * So what is mapped by our bits and has neither protection nor marker was written.
 */
#include "slice_internal.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { REGIONS = 512 };

static int async_open(struct hither_slice *s, struct hither_error *err)
{
	s->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return s->pagemap_fd < 0
	               ? hither_fail(err, -errno, "/proc/self/pagemap: %s", strerror(errno))
	               : 0;
}

static void async_close(struct hither_slice *s)
{
	if (s->pagemap_fd >= 0)
		close(s->pagemap_fd);
}

/* The kernel reports pages that are not in the table, too. */
static void tell_mapped(struct hither_slice *s, uint64_t first, uint64_t end)
{
	uint64_t run;
	for (uint64_t at = first; (run = slice_run(s, at, end, true, &at)) > 0; at += run)
		slice_written(s, at, at + run);
}

static uint64_t block_of(const struct hither_slice *s, uint64_t address)
{
	return (address - (uintptr_t)s->data) >> SLICE_BLOCK_SHIFT;
}

static void walk(struct hither_slice *s, uint64_t first, uint64_t end, bool tell)
{
	struct slice_page_region found[REGIONS];
	struct slice_pagemap_scan scan = {
	        .size = sizeof scan,
	        .flags = SLICE_PM_SCAN_WP_MATCHING | SLICE_PM_SCAN_CHECK_WPASYNC,
	        .start = (uintptr_t)slice_addr(s, first),
	        .end = (uintptr_t)slice_addr(s, end),
	        .vec = (uintptr_t)found,
	        .vec_len = REGIONS,
	        .category_mask = SLICE_PAGE_IS_WRITTEN,
	        .return_mask = SLICE_PAGE_IS_WRITTEN,
	};
	while (scan.start < scan.end) {
		int n = ioctl(s->pagemap_fd, SLICE_PAGEMAP_SCAN, &scan);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			slice_trouble(s, -errno,
			              "PAGEMAP_SCAN failed: every page counts as written");
			if (tell)
				tell_mapped(s, block_of(s, scan.start), end);
			return;
		}
		for (int i = 0; tell && i < n; i++)
			tell_mapped(s, block_of(s, found[i].start), block_of(s, found[i].end));
		scan.start = scan.walk_end;
	}
}

static void async_scan(struct hither_slice *s, uint64_t first, uint64_t end)
{
	walk(s, first, end, true);
}

static void async_rearm(struct hither_slice *s, uint64_t first, uint64_t end)
{
	walk(s, first, end, false);
}

/* What cannot be read says that all is written. */
static void read_entries(const struct hither_slice *s, uint64_t first, uint64_t count,
                         uint64_t *entries)
{
	uint64_t page = (uintptr_t)slice_addr(s, first) >> SLICE_BLOCK_SHIFT;
	if (hither_pread_all(s->pagemap_fd, entries, count * sizeof *entries,
	                     page * sizeof *entries))
		memset(entries, 0, count * sizeof *entries);
}

static bool async_protected(const struct hither_slice *s, uint64_t block)
{
	uint64_t entry;
	read_entries(s, block, 1, &entry);
	return entry & SLICE_PAGEMAP_UFFD_WP;
}

static void async_unmap(struct hither_slice *s, uint64_t first, uint64_t end)
{
	uint64_t entries[256];
	madvise(slice_addr(s, first), (end - first) << SLICE_BLOCK_SHIFT, MADV_DONTNEED);
	while (first < end) {
		uint64_t n = end - first < 256 ? end - first : 256;
		read_entries(s, first, n, entries);
		for (uint64_t i = 0; i < n; i++)
			if (!(entries[i] & SLICE_PAGEMAP_UFFD_WP))
				slice_written(s, first + i, first + i + 1);
		first += n;
	}
}

static void async_again(struct hither_slice *s, uint64_t first, uint64_t end)
{
	uffd_protect(&s->uffd, slice_addr(s, first), (end - first) << SLICE_BLOCK_SHIFT, false);
}

const struct slice_tracker slice_track_async = {
        .kind = HITHER_SLICE_TRACK_ASYNC,
        .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                    UFFD_FEATURE_WP_ASYNC,
        .open = async_open,
        .close = async_close,
        .scan = async_scan,
        .rearm = async_rearm,
        .unmap = async_unmap,
        .again = async_again,
        .protected = async_protected,
};
