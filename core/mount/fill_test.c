/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that are known from elsewhere, put into a mount: nothing is pulled for them. */
#include "check.h"

#include <errno.h>
#include <hither/layer.h>
#include <hither/mount.h>
#include <string.h>

enum { BLOCK = 4096, SIZE = 8 * BLOCK + 10 };

static struct hither_error err;

/* Over a backend that answers nobody. */
static struct hither_mount *open_mount(bool direct)
{
	struct hither_backend *memory, *never;
	struct hither_mount *m;
	struct hither_mount_options o = {.pull_off = true, .order = "none", .direct = direct};
	CHECK_OK(hither_backend_memory_create(SIZE, &memory, &err));
	CHECK_OK(hither_layer_delay(memory, UINT64_C(1000000000), &never, &err));
	CHECK_OK(hither_mount_backend(never, "never", &o, &m, &err));
	return m;
}

static void close_mount(struct hither_mount *m)
{
	hither_mount_cancel(m);
	CHECK_OK(hither_mount_close(m, &err));
}

static void note_done(struct hither_io *io, int result, const struct hither_error *why)
{
	CHECK_EQ(result, 0);
	*(char *)io->buf = 'd';
}

static void who_waits_has_it(void)
{
	struct hither_mount *m = open_mount(false);
	char bytes[2 * BLOCK], got[3] = "";
	memset(bytes, 'f', sizeof bytes);
	struct hither_io io = {.op = HITHER_IO_READ,
	                       .offset = 3 * BLOCK - 1,
	                       .len = sizeof got,
	                       .buf = got,
	                       .done = note_done};
	hither_mount_submit(m, &io);
	CHECK_OK(hither_mount_fill(m, bytes, sizeof bytes, 2 * BLOCK, &err));
	CHECK(!memcmp(got, "dff", sizeof got)); /* on this thread, and the bytes before done() */
	CHECK_EQ(hither_mount_peek(m, bytes, BLOCK, BLOCK), -EAGAIN);
	struct hither_mount_stats stats;
	hither_mount_stats(m, &stats);
	CHECK_EQ(stats.pulled_bytes, 0);
	CHECK_EQ(stats.local_bytes, 2 * BLOCK);
	close_mount(m);
}

static void what_is_here_stays(void)
{
	struct hither_mount *m = open_mount(false);
	char written[BLOCK], bytes[3 * BLOCK];
	memset(written, 'w', sizeof written);
	memset(bytes, 'f', sizeof bytes);
	CHECK_OK(hither_mount_write_at(m, written, BLOCK, 4 * BLOCK, &err));
	CHECK_OK(hither_mount_fill(m, bytes, sizeof bytes, 3 * BLOCK, &err));
	CHECK_EQ(hither_mount_peek(m, bytes, sizeof bytes, 3 * BLOCK), 0);
	CHECK(bytes[0] == 'f' && bytes[BLOCK] == 'w' && bytes[2 * BLOCK] == 'f');
	close_mount(m);
}

static void only_whole_blocks_are_taken(void)
{
	struct hither_mount *m = open_mount(false), *direct = open_mount(true);
	char bytes[BLOCK] = "";
	CHECK_EQ(hither_mount_fill(m, bytes, 1, 0, &err), -EINVAL);
	CHECK_EQ(hither_mount_fill(m, bytes, BLOCK, 1, &err), -EINVAL);
	CHECK_EQ(hither_mount_fill(m, bytes, BLOCK, 8 * BLOCK, &err), -EINVAL);
	CHECK_EQ(hither_mount_fill(m, bytes, BLOCK, UINT64_MAX & ~UINT64_C(4095), &err), -EINVAL);
	CHECK_OK(hither_mount_fill(m, bytes, 0, 0, &err));
	CHECK_OK(hither_mount_fill(m, bytes, 10, 8 * BLOCK, &err)); /* the end */
	CHECK_EQ(hither_mount_peek(m, bytes, 10, 8 * BLOCK), 0);
	CHECK_EQ(hither_mount_fill(direct, bytes, BLOCK, 0, &err), -EOPNOTSUPP);
	close_mount(m);
	close_mount(direct);
}

int main(void)
{
	RUN(who_waits_has_it);
	RUN(what_is_here_stays);
	RUN(only_whole_blocks_are_taken);
	return 0;
}
