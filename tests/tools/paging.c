/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paging MIB PASSES: uses so much memory, page by page, each page full of numbers that only its
 * place and the pass tell, and checks every one of them: in order, then in a random one. What the
 * memory lacks goes to swap and comes back. Prints the milliseconds that it took. Exit 0: all was
 * right.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void fill(uint64_t *page, uint64_t number, uint64_t pass)
{
	uint64_t seed = mix(number * 1000003 + pass);
	for (unsigned i = 0; i < WORDS; i++)
		page[i] = seed + i;
}

static void check(const uint64_t *page, uint64_t number, uint64_t pass)
{
	uint64_t seed = mix(number * 1000003 + pass);
	for (unsigned i = 0; i < WORDS; i++)
		if (page[i] != seed + i) {
			fprintf(stderr, "page %" PRIu64 ", word %u: wrong in pass %" PRIu64 "\n",
			        number, i, pass);
			exit(1);
		}
}

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	uint64_t mib = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
	uint64_t passes = argc == 3 ? strtoull(argv[2], NULL, 10) : 0, start = now_ms();
	uint64_t count = (mib << 20) / PAGE;
	if (!mib || !passes)
		return fprintf(stderr, "usage: paging MIB PASSES\n"), 2;
	uint64_t *memory = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE,
	                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return perror("mmap"), 1;
	madvise(memory, count * PAGE, MADV_NOHUGEPAGE);
	for (uint64_t i = 0; i < count; i++)
		fill(memory + i * WORDS, i, 0);
	for (uint64_t pass = 0; pass < passes; pass++) {
		/* An odd pass goes in a random order: a step that has no divisor with count. */
		uint64_t step = pass % 2 ? count * 5 / 8 | 1 : 1, at = 0;
		while (pass % 2 && count % step == 0)
			step += 2;
		for (uint64_t i = 0; i < count; i++, at = (at + step) % count)
			check(memory + at * WORDS, at, 0);
	}
	for (uint64_t i = 0; i < count;
	     i++) { /* what was paged out is changed, and paged out again */
		check(memory + i * WORDS, i, 0);
		fill(memory + i * WORDS, i, 1);
	}
	for (uint64_t i = 0; i < count; i++)
		check(memory + i * WORDS, i, 1);
	printf("%" PRIu64 "\n", now_ms() - start);
	return 0;
}
