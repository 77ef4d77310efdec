/* SPDX-License-Identifier: Apache-2.0 */
/* A store in memory, mapped: to be sent from, and to be written over. */
#include "base/cleanup.h"
#include "chunk/store_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { LINE = 64, LONG_BYTES = 64 << 10 };

/* Not when the store is made: most have no use for it, and a process that locks all it maps would
 * get all of it. */
const uint8_t *hither_store_bytes(struct hither_store *s)
{
	if (s->disk || !s->size_bytes || s->size_bytes > SIZE_MAX)
		return NULL;
	uint8_t *bytes = atomic_load(&s->bytes);
	if (bytes)
		return bytes;
	void *p = mmap(NULL, (size_t)s->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong(&s->bytes, &bytes, p))
		return p;
	munmap(p, (size_t)s->size_bytes); /* somebody else was quicker */
	return bytes;
}

void hither_store_unmap(struct hither_store *s)
{
	if (s->bytes)
		munmap(s->bytes, (size_t)s->size_bytes);
	s->bytes = NULL;
}

/*
 * Past the caches: whole lines, so that the processor does not read what it writes over. Who reads
 * these bytes meanwhile may see old and new ones, as with write(2); to ThreadSanitizer that would
 * be a mistake.
 */
__attribute__((no_sanitize("thread"))) static void copy_past(uint8_t *to, const uint8_t *from,
                                                             size_t len)
{
#ifdef __SSE2__
	for (; len && (uintptr_t)to % LINE; len--)
		*to++ = *from++;
	for (; len >= LINE; len -= LINE, to += LINE, from += LINE)
		for (unsigned i = 0; i < LINE; i += sizeof(__m128i))
			_mm_stream_si128((void *)(to + i),
			                 _mm_loadu_si128((const void *)(from + i)));
	for (; len; len--)
		*to++ = *from++;
	_mm_sfence();
#else
	memcpy(to, from, len);
#endif
}

int hither_store_overwrite(struct hither_store *s, const void *buf, size_t len, uint64_t offset)
{
	if (len < LONG_BYTES || offset > s->size_bytes || len > s->size_bytes - offset ||
	    !hither_store_bytes(s))
		return hither_store_write(s, buf, len, offset);
	copy_past(s->bytes + offset, buf, len);
	return 0;
}
