/* SPDX-License-Identifier: Apache-2.0 */
/* The contract, over a tape file. */
#include "check.h"
#include "contract.h"
#include "scratch.h"

#include <hither/backend.h>
#include <hither/mount.h>
#include <hither/tape.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static char url[PATH_MAX + 16];

static int open_tape(void *user, bool writable, struct hither_backend **out,
                     struct hither_error *err)
{
	struct hither_backend_options options = {.writable = writable};
	return hither_backend_open(url, &options, out, err);
}

enum { BLOCK = 4096, PIECE = 300 * BLOCK, PIECES = 5 };

static void write_piece(struct hither_backend *b, uint64_t offset)
{
	static char buf[PIECE];
	memset(buf, 1, sizeof buf); /* zeros would be holes */
	struct hither_error err = {0};
	CHECK_OK(hither_backend_write_at(b, buf, PIECE, offset, &err));
}

/* Pieces in the order in which they were written last, without what is nowhere. */
static void the_layout_is_in_the_tapes_order(void)
{
	static const uint64_t at[] = {3, 1, 4, 0, 1};
	struct hither_backend *b;
	struct hither_error err = {0};
	struct hither_range *ranges;
	size_t count;
	bool hole;
	CHECK_OK(hither_tape_format(url + 5, 16 << 20, 0, true, &err));
	CHECK_OK(open_tape(NULL, true, &b, &err));
	for (int i = 0; i < PIECES; i++)
		write_piece(b, at[i] * PIECE);
	CHECK_OK(hither_backend_flush(b, &err));
	hither_backend_close(b);
	CHECK_OK(open_tape(NULL, false, &b, &err));
	CHECK(b->flags & HITHER_BACKEND_ORDERED);
	CHECK_EQ(b->ops->layout(b, &ranges, &count), 0);
	static const uint64_t want[] = {3, 4, 0}; /* and 1, which goes on from 0 */
	CHECK_EQ(count, 3);
	for (size_t i = 0; i < count; i++) {
		CHECK_EQ(ranges[i].offset, want[i] * PIECE);
		CHECK_EQ(ranges[i].len, (i == 2 ? 2 : 1) * PIECE);
	}
	free(ranges);
	CHECK_EQ(hither_backend_extent(b, 100, 8 << 20, &hole), 2 * PIECE - 100);
	CHECK(!hole);
	CHECK_EQ(hither_backend_extent(b, 2 * PIECE + 5, 8 << 20, &hole), PIECE - 5);
	CHECK(hole);
	/* What is asked for grows to whole records: the first one has 127 blocks from piece 3 on.
	 */
	uint64_t offset = 3 * PIECE + 5 * BLOCK, end = offset + BLOCK;
	hither_backend_whole(b, &offset, &end);
	CHECK_EQ(offset, 3 * PIECE);
	CHECK_EQ(end, 3 * PIECE + 127 * BLOCK);
	offset = 3 * PIECE + 130 * BLOCK, end = offset + 2 * BLOCK;
	hither_backend_whole(b, &offset, &end);
	CHECK_EQ(offset, 3 * PIECE + 127 * BLOCK);
	CHECK_EQ(end, 3 * PIECE + 254 * BLOCK);
	offset = 3 * PIECE + 299 * BLOCK, end = offset + BLOCK; /* others are behind it there */
	hither_backend_whole(b, &offset, &end);
	CHECK_EQ(offset, 3 * PIECE + 254 * BLOCK);
	CHECK_EQ(end, 4 * PIECE);
	offset = 2 * PIECE, end = offset + BLOCK; /* a hole */
	hither_backend_whole(b, &offset, &end);
	CHECK_EQ(offset, 2 * PIECE);
	CHECK_EQ(end, 2 * PIECE + BLOCK);
	hither_backend_close(b);
}

/* What nobody waits for comes in that order, too; holes do not come at all. */
static void a_mount_brings_what_there_is(void)
{
	struct hither_mount_options options = {.order = "none"};
	struct hither_mount_stats stats;
	struct hither_mount *m;
	struct hither_error err = {0};
	char buf[BLOCK];
	CHECK_OK(hither_mount_open(url, &options, &m, &err));
	do {
		sched_yield();
		hither_mount_stats(m, &stats);
	} while (stats.local_bytes < 4 * PIECE);
	CHECK_OK(hither_mount_read_at(m, buf, BLOCK, 15 << 20, &err));
	hither_mount_stats(m, &stats);
	CHECK(stats.local_bytes < 4 * PIECE + (1 << 20));
	CHECK_OK(hither_mount_pull(m, &err));
	hither_mount_stats(m, &stats);
	CHECK_EQ(stats.local_bytes, 16 << 20);
	CHECK_OK(hither_mount_close(m, &err));
}

int main(void)
{
	char folder[PATH_MAX];
	struct hither_error err = {0};
	scratch_make(folder);
	snprintf(url, sizeof url, "tape:%s/t", folder);
	CHECK_OK(hither_tape_format(url + 5, 4 << 20, 1 << 30, false, &err));
	contract_check(&(struct contract_subject){.name = "tape",
	                                          .open = open_tape,
	                                          .writable = true,
	                                          .exclusive = true,
	                                          .keeps = true});
	RUN(the_layout_is_in_the_tapes_order);
	RUN(a_mount_brings_what_there_is);
	scratch_remove(folder);
	return 0;
}
