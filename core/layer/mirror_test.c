/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "contract.h"

#include <errno.h>
#include <hither/layer.h>
#include <hither/mount.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { SIZE = 1 << 20, PIECE = 8192 };

static struct hither_backend *sides[2], *mirror;
static struct hither_error err;
static unsigned lost_count[2];

static void count_lost(void *user, unsigned number, const struct hither_error *why)
{
	CHECK(user == &err && why->code && *why->message);
	lost_count[number]++;
}

static void make(void)
{
	memset(lost_count, 0, sizeof lost_count);
	for (int i = 0; i < 2; i++) {
		struct hither_backend *memory;
		CHECK_OK(hither_backend_memory_create(SIZE, &memory, &err));
		CHECK_OK(hither_layer_fault(memory, &sides[i], &err));
	}
	CHECK_OK(hither_layer_mirror(sides[0], sides[1], count_lost, &err, &mirror, &err));
}

static void both_get_what_is_written(void)
{
	char out[PIECE], in[PIECE];
	make();
	memset(out, 'x', sizeof out);
	CHECK_OK(hither_backend_write_at(mirror, out, PIECE, 100, &err));
	for (int i = 0; i < 2; i++) {
		CHECK_OK(hither_backend_read_at(sides[i], in, PIECE, 100, &err));
		CHECK(!memcmp(in, out, PIECE));
	}
	CHECK_OK(hither_backend_flush(mirror, &err));
	CHECK_EQ(hither_layer_fault_calls(sides[1], HITHER_FAULT_FLUSH), 1);
	hither_backend_close(mirror);
}

/* Whichever side dies, at whatever call, nobody notices; and it stays out. */
static void one_may_die(void)
{
	for (int dies = 0; dies < 2; dies++)
		for (int op = HITHER_FAULT_WRITE; op <= HITHER_FAULT_FLUSH; op++) {
			char out[PIECE], in[PIECE];
			make();
			hither_layer_fault_arm(sides[dies], (enum hither_fault_op)op, 1, 1, -EIO,
			                       100);
			for (int i = 0; i < 4; i++) {
				memset(out, 'a' + i, sizeof out);
				CHECK_OK(hither_backend_write_at(mirror, out, PIECE, 0, &err));
				CHECK_OK(hither_backend_flush(mirror, &err));
				CHECK_OK(hither_backend_read_at(mirror, in, PIECE, 0, &err));
				CHECK(!memcmp(in, out, PIECE));
			}
			CHECK_EQ(lost_count[dies], 1);
			CHECK_EQ(lost_count[!dies], 0);
			CHECK_EQ(hither_layer_fault_calls(sides[dies], HITHER_FAULT_WRITE), 2);
			hither_backend_close(mirror);
		}
}

/* The second side goes on where the first one failed: each byte comes once. */
static void a_read_changes_sides_in_the_middle(void)
{
	char out[PIECE], in[PIECE];
	make();
	for (int i = 0; i < PIECE; i++)
		out[i] = (char)(i * 7 + i / 256);
	CHECK_OK(hither_backend_write_at(mirror, out, PIECE, 0, &err));
	hither_layer_fault_arm(sides[0], HITHER_FAULT_READ, 0, 1, -ECONNRESET, 1000);
	CHECK_OK(hither_backend_read_at(mirror, in, PIECE, 0, &err));
	CHECK(!memcmp(in, out, PIECE));
	CHECK_EQ(lost_count[0], 0); /* it still has the bytes */
	/* Were it silent, each read would wait for that: the other one is asked first from now on.
	 */
	CHECK_OK(hither_backend_read_at(mirror, in, PIECE, 0, &err));
	CHECK_EQ(hither_layer_fault_calls(sides[0], HITHER_FAULT_READ), 1);
	CHECK_EQ(hither_layer_fault_calls(sides[1], HITHER_FAULT_READ), 2);
	hither_layer_fault_arm(sides[1], HITHER_FAULT_READ, 0, 1, -ECONNRESET, 0);
	CHECK_OK(hither_backend_read_at(mirror, in, PIECE, 0, &err));
	CHECK_OK(hither_backend_read_at(mirror, in, PIECE, 0, &err));
	CHECK_EQ(hither_layer_fault_calls(sides[0], HITHER_FAULT_READ), 3);
	hither_backend_close(mirror);
}

static void both_dead_is_an_error(void)
{
	char buf[16] = "";
	make();
	hither_layer_fault_arm(sides[0], HITHER_FAULT_WRITE, 0, 1, -ETIMEDOUT, 0);
	hither_layer_fault_arm(sides[1], HITHER_FAULT_WRITE, 0, UINT64_MAX, -EIO, 0);
	CHECK_EQ(hither_backend_write_at(mirror, buf, sizeof buf, 0, &err), -ETIMEDOUT);
	CHECK_EQ(lost_count[0] + lost_count[1], 0); /* neither is better than the other */
	CHECK_OK(hither_backend_write_at(mirror, buf, sizeof buf, 0, &err));
	CHECK_EQ(lost_count[1], 1);
	hither_layer_fault_arm(sides[0], HITHER_FAULT_WRITE, 0, 1, -EIO, 0);
	CHECK_EQ(hither_backend_write_at(mirror, buf, sizeof buf, 0, &err), -EIO);
	CHECK_OK(
	        hither_backend_write_at(mirror, buf, sizeof buf, 0, &err)); /* the last one stays */
	hither_backend_close(mirror);
}

static void a_cancel_reaches_both_and_kills_none(void)
{
	char buf[16] = "";
	make();
	hither_backend_cancel(mirror);
	CHECK_EQ(hither_backend_write_at(mirror, buf, sizeof buf, 0, &err), -ECANCELED);
	CHECK_EQ(hither_backend_read_at(sides[1], buf, sizeof buf, 0, &err), -ECANCELED);
	CHECK_EQ(lost_count[0] + lost_count[1], 0);
	hither_backend_close(mirror);
}

static void *write_own_part(void *arg)
{
	char buf[PIECE];
	for (int i = 0; i < 200; i++) {
		memset(buf, i, sizeof buf);
		CHECK_EQ(hither_backend_write_at(mirror, buf, PIECE, (uintptr_t)arg * PIECE, NULL),
		         0);
	}
	return NULL;
}

static void many_threads_lose_one_side_once(void)
{
	pthread_t threads[4];
	char in[PIECE];
	make();
	hither_layer_fault_arm(sides[0], HITHER_FAULT_WRITE, 150, UINT64_MAX, -EIO, 0);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, write_own_part, (void *)i));
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_join(threads[i], NULL));
	CHECK_EQ(lost_count[0], 1);
	for (uint64_t i = 0; i < 4; i++) {
		CHECK_OK(hither_backend_read_at(mirror, in, PIECE, i * PIECE, &err));
		CHECK_EQ((unsigned char)in[PIECE - 1], 199);
	}
	hither_backend_close(mirror);
}

/* --- the contract --- */

static char folder[] = "/tmp/hither-mirror-XXXXXX";

static int open_files(void *user, bool writable, struct hither_backend **out,
                      struct hither_error *e)
{
	struct hither_backend *b[2] = {NULL, NULL};
	const struct hither_backend_options options = {.writable = writable, .create_bytes = SIZE};
	char path[64];
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%d", folder, i);
		CHECK_OK(hither_backend_open(path, &options, &b[i], &err));
	}
	return hither_layer_mirror(b[0], b[1], NULL, NULL, out, e);
}

static void it_is_a_backend(void)
{
	char path[64];
	CHECK(mkdtemp(folder));
	contract_check(&(struct contract_subject){.name = "mirror of two files",
	                                          .open = open_files,
	                                          .writable = true,
	                                          .keeps = true});
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%d", folder, i);
		unlink(path);
	}
	CHECK(!rmdir(folder));
}

int main(void)
{
	RUN(both_get_what_is_written);
	RUN(one_may_die);
	RUN(a_read_changes_sides_in_the_middle);
	RUN(both_dead_is_an_error);
	RUN(a_cancel_reaches_both_and_kills_none);
	RUN(many_threads_lose_one_side_once);
	RUN(it_is_a_backend);
	return 0;
}
