/* SPDX-License-Identifier: Apache-2.0 */
/* Which way of finding written pages the kernel has; and the ways that take little code. */
#include "slice_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

const char *hither_slice_tracking_name(enum hither_slice_tracking tracking)
{
	static const char *const names[] = {"auto", "async", "fault", "hash", "none"};
	return names[tracking];
}

static bool has_pagemap_scan(void)
{
	int fd = uffd_hide_pagemap_scan ? -1 : open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	struct slice_pagemap_scan scan = {.size = sizeof scan};
	bool there = !ioctl(fd, SLICE_PAGEMAP_SCAN, &scan) || errno != ENOTTY;
	close(fd);
	return there;
}

static const struct slice_tracker *pick(enum hither_slice_tracking kind, uint64_t there)
{
	static const struct slice_tracker *const all[] = {&slice_track_async, &slice_track_fault,
	                                                  &slice_track_hash, &slice_track_none};
	for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++) {
		const struct slice_tracker *t = all[i];
		if ((kind != HITHER_SLICE_TRACK_AUTO && kind != t->kind) ||
		    (t->features & ~there) != 0)
			continue;
		if (t->kind != HITHER_SLICE_TRACK_ASYNC || has_pagemap_scan())
			return t;
	}
	return NULL;
}

int slice_tracker_choose(struct hither_slice *s, enum hither_slice_tracking kind, bool user_only,
                         uint64_t *features, struct hither_error *err)
{
	uint64_t there, base = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
	int r = uffd_probe(user_only, &there, err);
	if (r)
		return r;
	if ((base & ~there) != 0)
		return hither_fail(err, -EOPNOTSUPP,
		                   "this kernel's userfaultfd lacks minor faults on shared memory "
		                   "(Linux 5.14 has them)");
	s->tracker = pick(kind, there);
	if (!s->tracker)
		return hither_fail(err, -EOPNOTSUPP,
		                   "this kernel cannot find written pages by \"%s\"",
		                   hither_slice_tracking_name(kind));
	*features = base | s->tracker->features | (there & UFFD_FEATURE_POISON);
	return 0;
}

/* --- a fault for each first write --- */

static void fault_rearm(struct hither_slice *s, uint64_t first, uint64_t end)
{
	int r = uffd_protect(&s->uffd, slice_addr(s, first), (end - first) << SLICE_BLOCK_SHIFT,
	                     true);
	if (!r)
		return;
	/* Nobody hears of later writes: so these pages stay dirty. */
	slice_trouble(s, r, "write-protecting pages failed: they are pushed again and again");
	slice_written(s, first, end);
}

static void fault_unmap(struct hither_slice *s, uint64_t first, uint64_t end)
{
	/* Who writes now waits until the fault thread has looked whether the page is still here. */
	fault_rearm(s, first, end);
	madvise(slice_addr(s, first), (end - first) << SLICE_BLOCK_SHIFT, MADV_DONTNEED);
}

/* Protected once more costs a fault at the next write, no more. */
static bool fault_protected(const struct hither_slice *s, uint64_t block)
{
	return true;
}

const struct slice_tracker slice_track_fault = {
        .kind = HITHER_SLICE_TRACK_FAULT,
        .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
        .rearm = fault_rearm,
        .unmap = fault_unmap,
        .protected = fault_protected,
};

/* --- nobody writes --- */

static void none_unmap(struct hither_slice *s, uint64_t first, uint64_t end)
{
	madvise(slice_addr(s, first), (end - first) << SLICE_BLOCK_SHIFT, MADV_DONTNEED);
}

const struct slice_tracker slice_track_none = {
        .kind = HITHER_SLICE_TRACK_NONE,
        .unmap = none_unmap,
};
