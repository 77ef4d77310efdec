/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory:SIZE, zeros until written. An anonymous mapping without reservation: what was never
 * written reads from the kernel's zero page, so that memory:1T costs nothing but address space.
 */
#include "backend/registry.h"
#include "backend/url.h"
#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Reads and writes go piece by piece, within multiples of this: a reader of a large range sees the
 * first of it soon, and cancel works in between. Neighbouring pieces have different locks. */
enum { PIECE_BYTES = 1 << 20, LOCK_COUNT = 64 };

struct memory_backend {
	struct hither_backend base;
	char *bytes; /* [base.size_bytes]; NULL if that is 0 */
	size_t mapped_bytes;
	uintptr_t page_bytes;
	/* A mount may push what another of its threads is reading (and will not keep): whoever
	 * reads sees a piece before a write or after it. */
	pthread_rwlock_t locks[LOCK_COUNT];
	atomic_bool cancelled;
};

static struct memory_backend *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct memory_backend, base);
}

static int check_cancelled(struct memory_backend *m, struct hither_error *err)
{
	return atomic_load(&m->cancelled) ? hither_fail(err, -ECANCELED, "memory: cancelled") : 0;
}

static size_t piece_len(uint64_t offset, uint64_t len)
{
	uint64_t left = PIECE_BYTES - offset % PIECE_BYTES;
	return (size_t)(len < left ? len : left);
}

static pthread_rwlock_t *lock_of(struct memory_backend *m, uint64_t offset)
{
	return &m->locks[offset / PIECE_BYTES % LOCK_COUNT];
}

static int memory_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                       struct hither_sink *sink, struct hither_error *err)
{
	struct memory_backend *m = self(b);
	int r = 0;
	while (len > 0 && !r) {
		size_t n = piece_len(offset, len);
		pthread_rwlock_rdlock(lock_of(m, offset));
		r = check_cancelled(m, err);
		if (!r)
			r = sink->take(sink, m->bytes + offset, n);
		pthread_rwlock_unlock(lock_of(m, offset));
		offset += n;
		len -= n;
	}
	return r;
}

static int memory_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                           struct hither_error *err)
{
	struct memory_backend *m = self(b);
	const char *from = buf;
	int r = check_cancelled(m, err);
	while (len > 0 && !r) {
		size_t n = piece_len(offset, len);
		pthread_rwlock_wrlock(lock_of(m, offset));
		memcpy(m->bytes + offset, from, n);
		pthread_rwlock_unlock(lock_of(m, offset));
		from += n;
		offset += n;
		len -= n;
	}
	return r;
}

/*
 * Its whole pages are given back. Of huge ones, which a piece has no whole one of, the kernel would
 * give back what is whole, and answer that all is well.
 */
static void zero_bytes(const struct memory_backend *m, char *bytes, size_t len)
{
	uintptr_t page = m->page_bytes, begin = (uintptr_t)bytes, end = begin + len;
	uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
	if (first < last && !madvise(bytes + (first - begin), last - first, MADV_DONTNEED)) {
		memset(bytes, 0, first - begin);
		memset(bytes + (last - begin), 0, end - last);
	} else {
		memset(bytes, 0, len);
	}
}

static int memory_zero(struct hither_backend *b, uint64_t offset, uint64_t len,
                       struct hither_error *err)
{
	struct memory_backend *m = self(b);
	int r = check_cancelled(m, err);
	while (len > 0 && !r) {
		size_t n = piece_len(offset, len);
		pthread_rwlock_wrlock(lock_of(m, offset));
		zero_bytes(m, m->bytes + offset, n);
		pthread_rwlock_unlock(lock_of(m, offset));
		offset += n;
		len -= n;
	}
	return r;
}

static int memory_flush(struct hither_backend *b, struct hither_error *err)
{
	return check_cancelled(self(b), err);
}

static void memory_cancel(struct hither_backend *b)
{
	atomic_store(&self(b)->cancelled, true);
}

static void memory_close(struct hither_backend *b)
{
	struct memory_backend *m = self(b);
	if (m->bytes)
		munmap(m->bytes, m->mapped_bytes);
	for (int i = 0; i < LOCK_COUNT; i++)
		pthread_rwlock_destroy(&m->locks[i]);
	free(m);
}

/* A line of /proc/meminfo; 0: it is not there. */
static uint64_t meminfo(const char *name)
{
	char line[128];
	uint64_t value = 0;
	size_t len = strlen(name);
	FILE *file = fopen("/proc/meminfo", "re");
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, name, len) && line[len] == ':')
			value = strtoull(line + len + 1, NULL, 10);
	if (file)
		fclose(file);
	return value;
}

static int map_bytes(struct memory_backend *m, bool huge, struct hither_error *err)
{
	uint64_t size = m->base.size_bytes, page = m->page_bytes,
	         len = size > SIZE_MAX - page ? size : (size + page - 1) / page * page;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : MAP_NORESERVE);
	void *bytes = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (bytes == MAP_FAILED && huge && errno == ENOMEM)
		return hither_fail(err, -ENOMEM,
		                   "memory: %" PRIu64 " huge pages of %" PRIu64
		                   " KiB are needed, and %" PRIu64
		                   " are free; set more aside: sysctl vm.nr_hugepages=NUMBER",
		                   len / page, page >> 10, meminfo("HugePages_Free"));
	if (bytes == MAP_FAILED)
		return hither_fail(err, -errno, "memory: map %" PRIu64 " bytes: %s", size,
		                   strerror(errno));
	m->bytes = bytes;
	m->mapped_bytes = (size_t)len;
	return 0;
}

static int create(uint64_t size_bytes, bool huge, struct hither_backend **out,
                  struct hither_error *err)
{
	uint64_t page = huge ? meminfo("Hugepagesize") << 10 : (uint64_t)sysconf(_SC_PAGESIZE);
	HITHER_FREE struct memory_backend *m = calloc(1, sizeof *m);
	if (!page)
		return hither_fail(err, -EOPNOTSUPP, "memory: this kernel has no huge pages");
	if (!m || size_bytes > SIZE_MAX)
		return hither_fail(err, -ENOMEM, "memory: no memory for %" PRIu64 " bytes",
		                   size_bytes);
	m->base = (struct hither_backend){
	        .ops = &hither_backend_memory,
	        .size_bytes = size_bytes,
	        .flags = HITHER_BACKEND_WRITABLE | HITHER_BACKEND_LOCAL,
	        .align_bytes = 1,
	        .parallel = 64,
	};
	m->page_bytes = (uintptr_t)page;
	int r = size_bytes > 0 ? map_bytes(m, huge, err) : 0;
	if (r)
		return r;
	for (int i = 0; i < LOCK_COUNT; i++)
		pthread_rwlock_init(&m->locks[i], NULL);
	*out = &HITHER_TAKE(m, NULL)->base;
	return 0;
}

int hither_backend_memory_create(uint64_t size_bytes, struct hither_backend **out,
                                 struct hither_error *err)
{
	return create(size_bytes, false, out, err);
}

int hither_backend_memory_huge(uint64_t size_bytes, struct hither_backend **out,
                               struct hither_error *err)
{
	return create(size_bytes, true, out, err);
}

static int memory_open(const char *url, const struct hither_backend_options *options,
                       struct hither_backend **out, struct hither_error *err)
{
	const char *text = url + hither_url_scheme(url) + 1;
	if (strncmp(text, "//", 2) == 0)
		text += 2;
	uint64_t size = options->create_bytes;
	if (*text && hither_parse_bytes(text, &size))
		return hither_fail(err, -EINVAL,
		                   "memory: %s is no size; write memory:SIZE, such as memory:64M",
		                   text);
	if (!*text && size == 0)
		return hither_fail(err, -EINVAL,
		                   "memory: no size given; write memory:SIZE, such as memory:64M");
	int r = hither_backend_memory_create(size, out, err);
	if (r)
		return r;
	if (!options->writable)
		(*out)->flags &= ~(uint32_t)HITHER_BACKEND_WRITABLE;
	if (options->parallel)
		(*out)->parallel = options->parallel;
	return 0;
}

static const char *const memory_schemes[] = {"memory", NULL};

const struct hither_backend_ops hither_backend_memory = {
        .name = "memory",
        .schemes = memory_schemes,
        .open = memory_open,
        .read = memory_read,
        .write_at = memory_write_at,
        .zero = memory_zero,
        .flush = memory_flush,
        .cancel = memory_cancel,
        .close = memory_close,
};
