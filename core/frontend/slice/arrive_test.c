/* SPDX-License-Identifier: Apache-2.0 */
/* How bytes come into a slice: because they are touched, ahead of that, and by way of its mapping.
 */
#include "frontend/slice/slice_testing.h"
#include "mount/memory.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { BLOCKS = (SIZE + PAGE - 1) / PAGE };

/* Tells when so many of these blocks of a mount have arrived. */
struct arrival {
	struct mount_memory_watch watch;
	uint64_t first, end;
	_Atomic uint64_t left;
	sem_t over;
};

static void on_arrived(struct mount_memory_watch *w, uint64_t first, uint64_t end)
{
	struct arrival *a = (struct arrival *)w;
	first = first > a->first ? first : a->first;
	end = end < a->end ? end : a->end;
	if (first < end && atomic_fetch_sub(&a->left, end - first) == end - first)
		sem_post(&a->over);
}

static void pass_range(struct mount_memory_watch *w, uint64_t first, uint64_t end)
{
}

static void pass_collect(struct mount_memory_watch *w)
{
}

/* Whose slices are opened after this have been told first, each time. */
static void arrival_expect(struct arrival *a, struct hither_mount *m, uint64_t first, uint64_t end,
                           uint64_t count)
{
	*a = (struct arrival){.watch = {.arrived = on_arrived,
	                                .pushing = pass_range,
	                                .leaving = pass_range,
	                                .collect = pass_collect},
	                      .first = first,
	                      .end = end,
	                      .left = count};
	sem_init(&a->over, 0, 0);
	mount_memory_watch(m, &a->watch);
}

static void arrival_wait(struct arrival *a, struct hither_mount *m)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	CHECK_EQ(sem_timedwait(&a->over, &until), 0);
	mount_memory_unwatch(m, &a->watch);
	sem_destroy(&a->over);
}

static void what_is_touched_is_pulled(void)
{
	struct hither_mount *m = mount_new(
	        remote_new(SIZE), (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	struct hither_slice_stats st;
	CHECK_EQ(hither_slice_size(s), SIZE);
	hither_slice_stats(s, &st);
	CHECK(st.shares_store);
	CHECK_EQ(st.mapped_bytes, 0);
	/* In this thread: a fault is answered a moment before it is counted. */
	CHECK_OK(hither_slice_prefault(s, 1 << 20, 10, &err));
	hither_slice_stats(s, &st);
	CHECK_EQ(st.mapped_bytes, 64 << 10); /* a whole chunk */
	CHECK_EQ(st.fault_count, 1);
	check_bytes(s, 0, SIZE);
	CHECK_OK(hither_slice_close(s, &err));
	s = slice_new(m, (struct hither_slice_options){0});
	CHECK_OK(hither_slice_prefault(s, 0, SIZE, &err));
	hither_slice_stats(s, &st);
	CHECK_EQ(st.mapped_bytes, (SIZE + PAGE - 1) / PAGE * PAGE);
	CHECK(st.fault_count < 10); /* few, large answers for who reads on */
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

static void what_arrives_is_mapped_before_it_is_touched(void)
{
	struct hither_mount *m = mount_new(remote_new(SIZE), (struct hither_mount_options){0});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	struct hither_slice_stats st;
	CHECK_OK(hither_mount_pull(m, &err));
	CHECK_OK(hither_slice_prefault(s, 0, SIZE, &err)); /* what came before the slice */
	hither_slice_stats(s, &st);
	uint64_t before = st.fault_count;
	check_bytes(s, 0, SIZE);
	hither_slice_stats(s, &st);
	CHECK_EQ(st.fault_count, before);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* A pull puts bytes into a region that is only read by way of its mapping: they are in the store,
 * too, and in the other regions. */
static void what_arrives_is_there_once_for_all(void)
{
	const struct hither_slice_options reads = {.read_only = true};
	struct hither_mount *m = mount_new(
	        remote_new(SIZE), (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct arrival all_of_it;
	arrival_expect(&all_of_it, m, 0, BLOCKS, BLOCKS - 1); /* but what is written here */
	struct hither_slice *s = slice_new(m, reads), *other = slice_new(m, reads);
	struct hither_slice *part =
	        slice_new(m, (struct hither_slice_options){.offset = PAGE, .len = 3 * PAGE + 5});
	unsigned char bytes[PAGE] = {0};
	/* Some of it is there already, and one block is written over. */
	CHECK_OK(hither_mount_read_at(m, bytes, 100, 300000, &err));
	CHECK_OK(hither_mount_write_at(m, bytes, PAGE, 100 * PAGE, &err));
	CHECK_OK(hither_mount_pull(m, &err));
	arrival_wait(&all_of_it, m);
	struct hither_slice_stats st;
	hither_slice_stats(s, &st);
	CHECK(st.mapped_bytes > SIZE - 4 * (64 << 10)); /* but chunks of which some was there */
	CHECK_EQ(st.fault_count, 0);
	const struct hither_slice *all[] = {s, other};
	for (unsigned i = 0; i < 2; i++) {
		check_bytes(all[i], 0, 100 * PAGE);
		check_bytes(all[i], 101 * PAGE, SIZE);
		CHECK(!memcmp((char *)hither_slice_data(all[i]) + 100 * PAGE, bytes, PAGE));
	}
	unsigned char *p = hither_slice_data(part);
	for (unsigned i = 0; i < 3 * PAGE + 5; i++)
		CHECK_EQ(p[i], byte_at(i + PAGE));
	p[7] = 99; /* seen by all */
	CHECK_EQ(((unsigned char *)hither_slice_data(s))[PAGE + 7], 99);
	for (uint64_t at = 0; at + PAGE <= SIZE; at += PAGE) {
		CHECK_OK(hither_mount_read_at(m, bytes, PAGE, at, &err));
		for (unsigned i = 0; i < PAGE && at != 100 * PAGE; i++)
			CHECK_EQ(bytes[i], at + i == PAGE + 7 ? 99 : byte_at(at + i));
	}
	CHECK_OK(hither_slice_close(part, &err));
	CHECK_OK(hither_slice_close(other, &err));
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* Who reads on where most was pulled ahead faults once in each piece. That is a run, no stride. */
static void who_passes_over_what_is_here_is_followed(void)
{
	enum { PIECE = 1 << 20, CHUNK = 64 << 10, PIECES = 8 };
	struct hither_backend *far;
	CHECK_OK(hither_layer_delay(remote_new(PIECES * PIECE), 1000, &far, &err));
	struct hither_mount *m = mount_new(far, (struct hither_mount_options){.pull_off = true});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.read_only = true});
	unsigned char *ahead = malloc(PIECE);
	for (unsigned i = 0; i < 3 * PIECE; i++) {
		ahead[i % PIECE] = byte_at(i);
		if (i % PIECE == PIECE - 1)
			CHECK_OK(hither_mount_fill(m, ahead + CHUNK, PIECE - CHUNK,
			                           i + 1 - PIECE + CHUNK, &err));
	}
	free(ahead);
	/* How far a guess goes is the line's affair: on a slow machine it is the next chunk. */
	struct arrival next;
	arrival_expect(&next, m, (3 * PIECE + CHUNK) / PAGE, (3 * PIECE + CHUNK) / PAGE + 1, 1);
	for (unsigned i = 0; i < 4; i++)
		check_bytes(s, i * PIECE, i * PIECE + 1);
	arrival_wait(&next, m);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* Near bytes come while their reader is at what came before; not all of them. */
static void who_reads_on_from_near_finds_it_mapped(void)
{
	enum { LEN = 16 << 20, READ = 1 << 20, AHEAD = 1024 };
	struct hither_mount *m = mount_new(
	        remote_new(LEN), (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct hither_slice_stats st;
	struct arrival ahead;
	/* What the last fault brings begins at 960 KiB: 64, 128, 256, 512 KiB came before. */
	uint64_t first = ((960 << 10) + (1 << 20)) / PAGE;
	arrival_expect(&ahead, m, first, LEN / PAGE, AHEAD);
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.read_only = true});
	check_bytes(s, 0, READ);
	arrival_wait(&ahead, m);
	CHECK_OK(hither_slice_prefault(s, 0, (first + AHEAD) * PAGE, &err));
	hither_slice_stats(s, &st);
	CHECK_EQ(st.mapped_bytes, (first + AHEAD) * PAGE);
	check_bytes(s, READ, LEN);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

int main(void)
{
	RUN(what_is_touched_is_pulled);
	RUN(what_arrives_is_mapped_before_it_is_touched);
	RUN(what_arrives_is_there_once_for_all);
	RUN(who_passes_over_what_is_here_is_followed);
	RUN(who_reads_on_from_near_finds_it_mapped);
	return 0;
}
