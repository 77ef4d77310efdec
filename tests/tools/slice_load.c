/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures slices beside the bare mechanisms of the kernel, in one process and one run.
 *
 * usage: slice_load PART [MIB]; prints name=value, rates in bytes a second (_cpu: of a processor's
 * time, whoever else uses it), times in microseconds.
 *   read    everything pulled: a sequential read, beside the same from plain memory
 *   fill    filled in the background from memory, a reader streaming behind; beside the kernel
 *           alone: one thread, and two by the quickest way there is (bare2)
 *   seq     a sequential read on fault from memory
 *   random  4 KiB faults in random order, beside a bare userfaultfd's
 *   dirty   finding 1 % written pages, beside hashing all
 *   link    a managed slice over 25 ms, at most 64 requests in flight
 */
#include "base/clock.h"
#include "check.h"
#include "frontend/slice/uffd.h"

#include <hither/layer.h>
#include <hither/slice.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	PAGE = 4096,
	PIECE = 1 << 20,
	FAULTS = 20000,
	FILLERS = 3, /* two fill, one place stays free for who waits */
};

static struct hither_error err;
static size_t size;

static void rate(const char *name, uint64_t bytes, uint64_t ns)
{
	printf("%s=%.0f\n", name, (double)bytes * 1e9 / (double)ns);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* One word in each cache line: reads all, computes little. */
static uint64_t sum(const void *data, size_t len)
{
	const uint64_t *p = data;
	uint64_t s = 0;
	for (size_t i = 0; i < len / 8; i += 8)
		s += p[i];
	return s;
}

static uint64_t sink;

static uint64_t time_of_read(const void *data)
{
	uint64_t begin = hither_now_ns();
	sink += sum(data, size);
	return hither_now_ns() - begin;
}

static struct hither_backend *memory_new(void)
{
	struct hither_backend *b;
	char *piece = malloc(1 << 20);
	CHECK_OK(hither_backend_memory_create(size, &b, &err));
	for (size_t at = 0; at < size; at += 1 << 20) {
		memset(piece, (int)(at >> 20) + 1, 1 << 20);
		CHECK_OK(hither_backend_write_at(b, piece, 1 << 20, at, &err));
	}
	free(piece);
	return b;
}

static struct hither_mount *mount_new(struct hither_backend *b, struct hither_mount_options o)
{
	struct hither_mount *m;
	CHECK_OK(hither_mount_backend(b, "bench", &o, &m, &err));
	return m;
}

static struct hither_slice *slice_new(struct hither_mount *m, struct hither_slice_options o)
{
	struct hither_slice *s;
	CHECK_OK(hither_slice_open(m, &o, &s, &err));
	return s;
}

static void end(struct hither_slice *s, struct hither_mount *m)
{
	hither_slice_close(s, NULL);
	hither_mount_cancel(m);
	hither_mount_close(m, NULL);
}

/*
 * In a virtual machine whose free pages go back to the host, the first touch of a page may cost ten
 * times what it costs otherwise: let that be over before anything is measured.
 */
static void warm(void)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	CHECK(p != MAP_FAILED);
	munmap(p, size);
}

/* --- the kernel alone --- */

static struct bare {
	struct uffd u;
	int fd, stop;
	char *data;
	const char *source;
} bare;

static void bare_answer(uint64_t address)
{
	uint64_t at = (address - (uintptr_t)bare.data) / PAGE * PAGE;
	CHECK_EQ(pwrite(bare.fd, bare.source + at, PAGE, (off_t)at), PAGE);
	uffd_continue(&bare.u, bare.data + at, PAGE, false);
}

static void *bare_thread(void *arg)
{
	for (;;) {
		struct pollfd fds[] = {{bare.stop, POLLIN, 0}, {bare.u.fd, POLLIN, 0}};
		struct uffd_msg msg;
		poll(fds, 2, -1);
		if (fds[0].revents)
			return NULL;
		while (read(bare.u.fd, &msg, sizeof msg) == sizeof msg)
			bare_answer(msg.arg.pagefault.address);
	}
}

static void bare_bus(int number, siginfo_t *info, void *context)
{
	bare_answer((uintptr_t)info->si_addr);
}

static void bare_open(bool bus)
{
	bare.fd = memfd_create("bare", MFD_CLOEXEC);
	CHECK_EQ(ftruncate(bare.fd, (off_t)size), 0);
	bare.data = mmap(NULL, size, PROT_READ, MAP_SHARED, bare.fd, 0);
	CHECK(bare.data != MAP_FAILED);
	CHECK_OK(uffd_open(&bare.u, false,
	                   UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM |
	                           (bus ? UFFD_FEATURE_SIGBUS : 0),
	                   &err));
	CHECK_OK(uffd_register(&bare.u, bare.data, size, false, &err));
}

static void bare_close(void)
{
	munmap(bare.data, size);
	close(bare.fd);
	close(bare.u.fd);
}

static void part_read(void)
{
	struct hither_mount *m = mount_new(memory_new(), (struct hither_mount_options){0});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.read_only = true});
	CHECK_OK(hither_mount_pull(m, &err));
	CHECK_OK(hither_slice_prefault(s, 0, size, &err));
	/* The same kind of pages: a memfd, populated. */
	int fd = memfd_create("plain", MFD_CLOEXEC);
	CHECK_EQ(ftruncate(fd, (off_t)size), 0);
	char *plain = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(plain != MAP_FAILED);
	memset(plain, 1, size);
	uint64_t best[2] = {UINT64_MAX, UINT64_MAX};
	for (int i = 0; i < 8; i++) {
		uint64_t a = time_of_read(plain), b = time_of_read(hither_slice_data(s));
		best[0] = a < best[0] ? a : best[0];
		best[1] = b < best[1] ? b : best[1];
	}
	rate("plain", size, best[0]);
	rate("slice", size, best[1]);
	end(s, m);
}

/* One thread that does nothing but copy and map. */
static void bare_fill(void)
{
	bare_open(false);
	warm();
	uint64_t begin = hither_now_ns(), cpu = cpu_ns();
	for (size_t at = 0; at < size; at += PIECE) {
		CHECK_EQ(pwrite(bare.fd, bare.source + at, PIECE, (off_t)at), PIECE);
		uffd_continue(&bare.u, bare.data + at, PIECE, false);
	}
	rate("bare", size, hither_now_ns() - begin);
	rate("bare_cpu", size, cpu_ns() - cpu);
	bare_close();
}

static _Atomic size_t next_piece;

static void *copy_pieces(void *arg)
{
	for (size_t at; (at = atomic_fetch_add(&next_piece, PIECE)) < size;)
		CHECK_EQ(uffd_copy(&bare.u, bare.data + at, bare.source + at, PIECE), 0);
	return NULL;
}

static void bare_fill_by_two(void)
{
	pthread_t other;
	bare_open(false);
	warm();
	next_piece = 0;
	uint64_t begin = hither_now_ns();
	CHECK_EQ(pthread_create(&other, NULL, copy_pieces, NULL), 0);
	copy_pieces(NULL);
	pthread_join(other, NULL);
	rate("bare2", size, hither_now_ns() - begin);
	bare_close();
}

static void part_fill(void)
{
	char *source = malloc(size);
	memset(source, 1, size);
	bare.source = source;
	bare_fill();
	bare_fill_by_two();
	free(source);
	struct hither_backend *b = memory_new();
	warm();
	struct hither_mount *m = mount_new(b, (struct hither_mount_options){.workers = FILLERS});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.read_only = true});
	uint64_t took = time_of_read(hither_slice_data(s));
	CHECK_OK(hither_mount_pull(m, &err));
	struct hither_slice_stats st;
	hither_slice_stats(s, &st);
	rate("reader", size, took);
	printf("reader_faults=%llu\n", (unsigned long long)st.fault_count);
	end(s, m);
	/* And with nobody reading: how quickly is all of it mapped? */
	b = memory_new();
	warm();
	m = mount_new(b, (struct hither_mount_options){.workers = FILLERS, .pull_off = true});
	s = slice_new(m, (struct hither_slice_options){.read_only = true});
	uint64_t begin = hither_now_ns(), cpu = cpu_ns();
	CHECK_OK(hither_mount_pull(m, &err));
	rate("fill", size, hither_now_ns() - begin);
	rate("fill_cpu", size, cpu_ns() - cpu);
	end(s, m);
}

static void part_seq(void)
{
	static const struct {
		const char *name;
		enum hither_slice_faults faults;
		uint32_t chunk;
	} ways[] = {{"thread", HITHER_SLICE_FAULTS_THREAD, 1 << 20},
	            {"sigbus", HITHER_SLICE_FAULTS_SIGBUS, 64 << 10}};
	for (unsigned i = 0; i < 2; i++) {
		struct hither_backend *b = memory_new();
		warm();
		struct hither_mount *m =
		        mount_new(b, (struct hither_mount_options){.direct = true});
		struct hither_slice *s =
		        slice_new(m, (struct hither_slice_options){.read_only = true,
		                                                   .faults = ways[i].faults,
		                                                   .chunk_bytes = ways[i].chunk});
		rate(ways[i].name, size, time_of_read(hither_slice_data(s)));
		end(s, m);
	}
}

/* --- faults in random order --- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static double touch_at_random(const char *data)
{
	static uint64_t took[FAULTS];
	uint64_t pages = size / PAGE, at = 1;
	for (unsigned i = 0; i < FAULTS; i++) {
		at = (at * 6364136223846793005u + 1442695040888963407u);
		const volatile char *p = data + (at >> 33) % pages * PAGE;
		uint64_t begin = hither_now_ns();
		sink += (uint64_t)*p;
		took[i] = hither_now_ns() - begin;
	}
	qsort(took, FAULTS, sizeof took[0], by_value);
	return (double)took[FAULTS / 2] / 1000;
}

static double bare_by_thread(void)
{
	pthread_t thread;
	bare_open(false);
	bare.stop = eventfd(0, 0);
	CHECK_EQ(pthread_create(&thread, NULL, bare_thread, NULL), 0);
	double p50 = touch_at_random(bare.data);
	CHECK_EQ(eventfd_write(bare.stop, 1), 0);
	pthread_join(thread, NULL);
	close(bare.stop);
	bare_close();
	return p50;
}

static double bare_by_bus(void)
{
	struct sigaction act = {.sa_sigaction = bare_bus, .sa_flags = SA_SIGINFO}, before;
	bare_open(true);
	sigaction(SIGBUS, &act, &before);
	double p50 = touch_at_random(bare.data);
	sigaction(SIGBUS, &before, NULL);
	bare_close();
	return p50;
}

static double slice_by(enum hither_slice_faults faults)
{
	struct hither_mount *m =
	        mount_new(memory_new(), (struct hither_mount_options){.direct = true});
	struct hither_slice *s =
	        slice_new(m, (struct hither_slice_options){
	                             .read_only = true, .faults = faults, .chunk_bytes = PAGE});
	double p50 = touch_at_random(hither_slice_data(s));
	end(s, m);
	return p50;
}

static void part_random(void)
{
	char *source = malloc(size);
	memset(source, 1, size);
	bare.source = source;
	printf("bare_thread=%.2f\n", bare_by_thread());
	printf("slice_thread=%.2f\n", slice_by(HITHER_SLICE_FAULTS_THREAD));
	printf("bare_sigbus=%.2f\n", bare_by_bus());
	printf("slice_sigbus=%.2f\n", slice_by(HITHER_SLICE_FAULTS_SIGBUS));
	free(source);
}

static void write_some(char *data, unsigned seed)
{
	uint64_t pages = size / PAGE, at = seed;
	for (uint64_t i = 0; i < pages / 100; i++) {
		at = at * 6364136223846793005u + 1442695040888963407u;
		data[(at >> 33) % pages * PAGE + 8] = (char)seed;
	}
}

static void part_dirty(void)
{
	struct hither_mount *m = mount_new(
	        memory_new(), (struct hither_mount_options){.push_interval_ms = 3600000,
	                                                    .push_dirty_bytes = UINT64_MAX / 2});
	CHECK_OK(hither_mount_pull(m, &err));
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.scan_ms = 3600000});
	char *data = hither_slice_data(s);
	CHECK_OK(hither_slice_prefault(s, 0, size, &err));
	uint64_t best = UINT64_MAX, best_hash = UINT64_MAX;
	for (unsigned i = 1; i < 6; i++) {
		struct hither_slice_stats before, after;
		write_some(data, i);
		hither_slice_stats(s, &before);
		uint64_t begin = hither_now_ns();
		hither_slice_collect(s);
		uint64_t took = hither_now_ns() - begin;
		hither_slice_stats(s, &after);
		CHECK(after.written_bytes - before.written_bytes > size / 110);
		CHECK(after.written_bytes - before.written_bytes <= size / 100 + PAGE);
		best = took < best ? took : best;
		begin = hither_now_ns();
		for (size_t at = 0; at < size; at += PAGE)
			sink += XXH3_64bits(data + at, PAGE);
		took = hither_now_ns() - begin;
		best_hash = took < best_hash ? took : best_hash;
	}
	printf("find=%.0f\nhash=%.0f\n", (double)best / 1000, (double)best_hash / 1000);
	end(s, m);
}

static void part_link(void)
{
	struct hither_backend *b = memory_new(), *slow, *rated;
	CHECK_OK(hither_layer_delay(b, 25000, &slow, &err));
	CHECK_OK(hither_layer_rate(slow, 1250000000, &rated, &err));
	warm();
	struct hither_mount *m = mount_new(rated, (struct hither_mount_options){.workers = 64});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.read_only = true});
	rate("slice", size, time_of_read(hither_slice_data(s)));
	end(s, m);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {{"read", part_read},     {"fill", part_fill},   {"seq", part_seq},
	             {"random", part_random}, {"dirty", part_dirty}, {"link", part_link}};
	size = (size_t)(argc > 2 ? strtoul(argv[2], NULL, 10) : 1024) << 20;
	for (unsigned i = 0; argc > 1 && size > 0 && i < sizeof parts / sizeof parts[0]; i++) {
		if (!strcmp(argv[1], parts[i].name)) {
			parts[i].run();
			return 0;
		}
	}
	fprintf(stderr, "usage: slice_load read|fill|seq|random|dirty|link [MIB]\n");
	return 2;
}
