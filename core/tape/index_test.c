/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "tape/index.h"

#include <stdlib.h>

enum { BLOCKS = 3 * TAPE_INDEX_PAGE - 5 };

static uint64_t random_state = 3;
static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((random_state >> 33) % n);
}

/* The same, one entry a block: 0 a hole, else place + 1; lost ones are negative. */
static int64_t plain[BLOCKS];

static void put_both(struct tape_index *x, struct tape_run run)
{
	CHECK(!tape_index_put(x, &run));
	for (uint32_t i = 0; i < run.count; i++)
		plain[run.block + i] =
		        run.lost ? -(int64_t)run.place - 1 : (int64_t)(run.place + i) + 1;
}

static void drop_both(struct tape_index *x, uint32_t block, uint32_t count)
{
	CHECK(!tape_index_drop(x, block, count));
	for (uint32_t i = 0; i < count; i++)
		plain[block + i] = 0;
}

static bool goes_on(int64_t a, int64_t b)
{
	return a && (a > 0 ? b == a + 1 : b == a);
}

static void compare(struct tape_index *x)
{
	uint64_t live = 0, at = 0;
	struct tape_run run;
	for (uint64_t b = 0; b < BLOCKS;) {
		uint64_t n = 1;
		while (b + n < BLOCKS && goes_on(plain[b + n - 1], plain[b + n]))
			n++;
		if (!plain[b]) {
			CHECK(!tape_index_get(x, b, &run));
			b++;
			continue;
		}
		uint64_t before = at;
		CHECK(tape_index_run(x, &at, &run) && at >= before);
		CHECK_EQ(run.block, b);
		CHECK_EQ(run.count, n);
		CHECK_EQ(run.lost, plain[b] < 0);
		CHECK_EQ(run.place, (uint64_t)llabs(plain[b]) - 1);
		uint64_t inside = b + random_below((uint32_t)n);
		CHECK(tape_index_get(x, inside, &run));
		CHECK_EQ(run.count, b + n - inside);
		CHECK_EQ(run.place, (uint64_t)llabs(plain[inside]) - 1);
		live += n;
		b += n;
	}
	CHECK(!tape_index_run(x, &at, &run));
	CHECK_EQ(x->live, live);
	bool hole, next;
	for (uint64_t b = 0; b < BLOCKS;) {
		uint64_t n = tape_index_extent(x, b, BLOCKS - b, &hole);
		CHECK(n > 0 && b + n <= BLOCKS);
		for (uint64_t i = b; i < b + n; i++)
			CHECK_EQ(!plain[i], hole);
		b += n;
		if (b < BLOCKS) {
			tape_index_extent(x, b, 1, &next);
			CHECK(next != hole);
		}
	}
}

static void it_says_what_a_plain_array_says(void)
{
	struct tape_index x;
	CHECK(!tape_index_init(&x, BLOCKS));
	compare(&x);
	for (int round = 0; round < 3000; round++) {
		uint32_t block = random_below(BLOCKS), most = round % 3 ? 40 : 6000;
		uint32_t count = 1 + random_below(BLOCKS - block < most ? BLOCKS - block : most);
		/* Often just what goes on from the block before, so that pieces join. */
		uint64_t place = block && plain[block - 1] > 0 && random_below(3) == 0
		                         ? (uint64_t)plain[block - 1]
		                         : random_below(100000);
		if (random_below(4) == 0)
			drop_both(&x, block, count);
		else
			put_both(&x, (struct tape_run){.block = block,
			                               .place = place,
			                               .count = count,
			                               .lost = random_below(20) == 0});
		if (round % 50 == 0)
			compare(&x);
	}
	compare(&x);
	tape_index_finish(&x);
}

/* A stream of full records is one run, whatever its length. */
static void a_stream_is_one_run(void)
{
	struct tape_index x;
	struct tape_run run;
	uint64_t at = 0;
	CHECK(!tape_index_init(&x, BLOCKS));
	for (uint32_t b = 0; b < BLOCKS; b++) {
		run = (struct tape_run){.block = b, .place = 127 + b, .count = 1};
		CHECK(!tape_index_put(&x, &run));
	}
	CHECK(tape_index_run(&x, &at, &run));
	CHECK_EQ(run.count, BLOCKS);
	CHECK_EQ(at, BLOCKS);
	tape_index_finish(&x);
}

int main(void)
{
	RUN(it_says_what_a_plain_array_says);
	RUN(a_stream_is_one_run);
	return 0;
}
