/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For kernels that cannot write-protect shared memory: a hash of each mapped block as it was when
 * it was last clean. Read through a second mapping, which has no faults.
 */
#include "slice_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static int hash_open(struct hither_slice *s, struct hither_error *err)
{
	size_t len = s->block_count << SLICE_BLOCK_SHIFT;
	s->hashes = calloc(s->block_count, sizeof *s->hashes);
	if (!s->hashes)
		return hither_fail(err, -ENOMEM, "no memory for %llu hashes",
		                   (unsigned long long)s->block_count);
	void *p = mmap(NULL, len, PROT_READ, MAP_SHARED, mount_memory_fd(s->mount),
	               (off_t)(s->mount_first << SLICE_BLOCK_SHIFT));
	if (p == MAP_FAILED)
		return hither_fail(err, -errno, "mapping %zu bytes: %s", len, strerror(errno));
	s->alias = p;
	return 0;
}

static void hash_close(struct hither_slice *s)
{
	if (s->alias)
		munmap((void *)s->alias, s->block_count << SLICE_BLOCK_SHIFT);
	free(s->hashes);
}

/* What a program writes meanwhile gives a hash of neither: the next look differs from it. */
__attribute__((no_sanitize("thread"))) static uint64_t hash_of(const struct hither_slice *s,
                                                               uint64_t block)
{
	return XXH3_64bits(s->alias + (block << SLICE_BLOCK_SHIFT), SLICE_BLOCK_BYTES);
}

static void hash_mapped(struct hither_slice *s, uint64_t first, uint64_t end)
{
	for (uint64_t b = first; b < end; b++)
		s->hashes[b] = hash_of(s, b);
}

static void hash_scan(struct hither_slice *s, uint64_t first, uint64_t end)
{
	uint64_t run;
	for (uint64_t at = first; (run = slice_run(s, at, end, true, &at)) > 0; at += run) {
		for (uint64_t b = at; b < at + run; b++) {
			uint64_t hash = hash_of(s, b);
			if (hash == s->hashes[b])
				continue;
			s->hashes[b] = hash;
			slice_written(s, b, b + 1);
		}
	}
}

static void hash_rearm(struct hither_slice *s, uint64_t first, uint64_t end)
{
	uint64_t run;
	for (uint64_t at = first; (run = slice_run(s, at, end, true, &at)) > 0; at += run)
		hash_mapped(s, at, at + run);
}

static void hash_unmap(struct hither_slice *s, uint64_t first, uint64_t end)
{
	madvise(slice_addr(s, first), (end - first) << SLICE_BLOCK_SHIFT, MADV_DONTNEED);
	hash_scan(s, first, end);
}

static void hash_again(struct hither_slice *s, uint64_t first, uint64_t end)
{
	for (uint64_t b = first; b < end; b++)
		s->hashes[b] = ~s->hashes[b];
}

const struct slice_tracker slice_track_hash = {
        .kind = HITHER_SLICE_TRACK_HASH,
        .open = hash_open,
        .close = hash_close,
        .mapped = hash_mapped,
        .scan = hash_scan,
        .rearm = hash_rearm,
        .unmap = hash_unmap,
        .again = hash_again,
};
