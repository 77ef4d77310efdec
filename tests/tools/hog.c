/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that wants much memory, for ram-dl run.
 *
 * usage: hog churn MIB OPS   allocate, grow, shrink, map, unmap and free areas, MIB together at
 * most, in two threads, and check every byte that was written hog pass MIB N      write MIB, then
 * read it N times from front to back hog table MIB N     a hash table of MIB of 64 byte slots: N
 * look-ups at random hog wait MIB        write MIB, say "ready", wait for a byte on stdin, read it
 * all hog beside MIB      the same in a thread; while it sleeps, touch fresh memory and say "went
 * on" Prints name=value: seconds, and for table p50, p75 and p99 of a look-up in microseconds.
 */
#include "check.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20, AREAS = 12, SLOT = 64 };

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- churn --- */

struct area {
	uint64_t *data;
	size_t len;
	uint64_t tag; /* what is in it: tag + index, in each 8 bytes that begin a 512 byte piece */
	bool mapped;
};

static size_t most_bytes, ops;

static void fill(struct area *a, size_t from, uint64_t tag)
{
	a->tag = tag;
	for (size_t i = from / 512 * 64; i < a->len / 8; i += 64)
		a->data[i] = tag + i;
}

static void verify(const struct area *a, size_t len)
{
	for (size_t i = 0; i < len / 8; i += 64)
		CHECK_EQ(a->data[i], a->tag + i);
}

static void verify_zeros(const struct area *a)
{
	for (size_t i = 0; i < a->len / 8; i += 64)
		CHECK_EQ(a->data[i], 0);
}

static void drop(struct area *a)
{
	verify(a, a->len);
	if (a->mapped)
		CHECK_EQ(munmap(a->data, a->len), 0);
	else
		free(a->data);
	*a = (struct area){0};
}

static void make(struct area *a, uint64_t *seed, uint64_t tag)
{
	uint64_t kind = next_random(seed) % 5;
	*a = (struct area){.len = (size_t)(MIB + next_random(seed) % (most_bytes / AREAS / 2))};
	void *p = NULL;
	if (kind == 0) {
		a->len = a->len / PAGE * PAGE;
		a->mapped = true;
		p = mmap(NULL, a->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(p != MAP_FAILED);
	} else if (kind == 1) {
		CHECK_EQ(posix_memalign(&p, 1 << 18, a->len), 0);
		CHECK_EQ((uintptr_t)p % (1 << 18), 0);
	} else if (kind == 2) {
		p = calloc(a->len, 1);
	} else {
		p = malloc(a->len);
	}
	CHECK(p != NULL);
	a->data = p;
	if (kind == 0 || kind == 2)
		verify_zeros(a);
	fill(a, 0, tag);
}

static void resize(struct area *a, uint64_t *seed)
{
	size_t len = (size_t)(PAGE + next_random(seed) % (most_bytes / AREAS / 2)), old = a->len;
	void *p;
	if (a->mapped) {
		len = len / PAGE * PAGE;
		p = mremap(a->data, a->len, len, MREMAP_MAYMOVE);
		CHECK(p != MAP_FAILED);
	} else {
		p = realloc(a->data, len);
		CHECK(p != NULL);
	}
	a->data = p;
	a->len = len;
	verify(a, len < old ? len : old);
	fill(a, len < old ? len : old, a->tag);
}

/* Pages that are given up are zeros again; the rest stays. */
static void clear_some(struct area *a, uint64_t *seed)
{
	if (!a->mapped || a->len < 64 * PAGE)
		return;
	size_t at = (size_t)(next_random(seed) % (a->len / PAGE - 32)) * PAGE;
	CHECK_EQ(madvise((char *)a->data + at, 32 * PAGE, MADV_DONTNEED), 0);
	for (size_t i = 0; i < a->len / 8; i += 64)
		CHECK_EQ(a->data[i], i * 8 >= at && i * 8 < at + 32 * PAGE ? 0 : a->tag + i);
	fill(a, at, a->tag);
}

static void *churn_main(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 7919 + 1;
	struct area areas[AREAS] = {0};
	for (size_t i = 0; i < ops; i++) {
		struct area *a = &areas[next_random(&seed) % AREAS];
		uint64_t what = next_random(&seed) % 8;
		if (!a->data)
			make(a, &seed, next_random(&seed));
		else if (what < 3)
			drop(a);
		else if (what < 5)
			resize(a, &seed);
		else if (what == 5)
			clear_some(a, &seed);
		else
			verify(a, a->len);
	}
	for (int i = 0; i < AREAS; i++)
		if (areas[i].data)
			drop(&areas[i]);
	return NULL;
}

static void churn(void)
{
	pthread_t threads[2];
	most_bytes /= 2;
	for (uintptr_t i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn_main, (void *)i), 0);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	pid_t child = fork(); /* which has none of it, but may allocate */
	if (!child) {
		char *p = malloc(4 * MIB);
		memset(p, 1, 4 * MIB);
		_exit(p[MIB] - 1);
	}
	int status;
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
}

/* --- the rest --- */

static void write_all(uint64_t *p)
{
	for (size_t i = 0; i < most_bytes / 8; i++)
		p[i] = i * 0x9e3779b97f4a7c15u;
}

static void read_all(const uint64_t *p)
{
	for (size_t i = 0; i < most_bytes / 8; i++)
		if (p[i] != i * 0x9e3779b97f4a7c15u)
			CHECK_EQ(p[i], i * 0x9e3779b97f4a7c15u);
}

static void pass(void)
{
	uint64_t *p = malloc(most_bytes);
	double begin = now();
	write_all(p);
	printf("write=%.3f\n", now() - begin);
	for (size_t i = 0; i < ops; i++) {
		begin = now();
		read_all(p);
		printf("read=%.3f\n", now() - begin);
	}
	free(p);
}

static int by_size(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void table(void)
{
	uint64_t *p = malloc(most_bytes), seed = 12345, sum = 0;
	size_t slots = most_bytes / SLOT;
	double *took = calloc(ops, sizeof *took);
	write_all(p);
	double begin = now();
	for (size_t i = 0; i < ops; i++) {
		double before = now();
		size_t at = (size_t)(next_random(&seed) % slots) * (SLOT / 8);
		CHECK_EQ(p[at], at * 0x9e3779b97f4a7c15u);
		sum += p[at];
		took[i] = now() - before;
	}
	printf("seconds=%.3f\n", now() - begin);
	qsort(took, ops, sizeof *took, by_size);
	printf("p50=%.1f\np75=%.1f\np99=%.1f\nsum=%llx\n", took[ops / 2] * 1e6,
	       took[ops / 4 * 3] * 1e6, took[ops - ops / 100 - 1] * 1e6, (unsigned long long)sum);
	free(p);
	free(took);
}

static _Atomic pid_t reader;

static void *read_main(void *p)
{
	reader = gettid();
	read_all(p);
	return NULL;
}

static bool is_asleep(pid_t thread)
{
	char path[64], state = 0;
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
	FILE *file = fopen(path, "re");
	bool told = file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1;
	if (file)
		fclose(file);
	return told && (state == 'S' || state == 'D');
}

/* Memory that was never written needs no server: whoever waits for one keeps nobody from it. */
static void read_beside(void)
{
	uint64_t *p = malloc(most_bytes);
	char byte, *fresh;
	pthread_t thread;
	write_all(p);
	puts("ready");
	fflush(stdout);
	CHECK_EQ(read(0, &byte, 1), 1);
	CHECK_EQ(pthread_create(&thread, NULL, read_main, p), 0);
	while (!reader || !is_asleep(reader))
		usleep(1000); /* its state is a picture, not an event */
	fresh = malloc(4 * MIB);
	for (size_t at = 0; at < 4 * MIB; at += MIB / 2)
		CHECK_EQ(fresh[at], 0);
	puts("went on");
	fflush(stdout);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	puts("equal");
	free(p);
	free(fresh);
}

static void wait_and_read(void)
{
	uint64_t *p = malloc(most_bytes);
	char byte;
	write_all(p);
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		return;
	read_all(p);
	puts("equal");
	free(p);
}

int main(int argc, char **argv)
{
	CHECK(argc >= 3);
	most_bytes = (size_t)strtoul(argv[2], NULL, 10) * MIB;
	ops = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
	if (!strcmp(argv[1], "churn"))
		churn();
	else if (!strcmp(argv[1], "pass"))
		pass();
	else if (!strcmp(argv[1], "table"))
		table();
	else if (!strcmp(argv[1], "beside"))
		read_beside();
	else
		wait_and_read();
	return 0;
}
