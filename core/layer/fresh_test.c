/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "contract.h"

#include <errno.h>
#include <hither/layer.h>
#include <string.h>

enum { SIZE = (1 << 20) + 100, BLOCK = 4096 };

static struct hither_error err;
static struct hither_backend *fault, *fresh;

/* Over a backend full of somebody else's bytes. */
static void make(void)
{
	static char old[SIZE];
	struct hither_backend *memory;
	memset(old, 'x', sizeof old);
	CHECK_OK(hither_backend_memory_create(SIZE, &memory, &err));
	CHECK_OK(hither_backend_write_at(memory, old, SIZE, 0, &err));
	CHECK_OK(hither_layer_fault(memory, &fault, &err));
	CHECK_OK(hither_layer_fresh(fault, &fresh, &err));
}

static void check_bytes(uint64_t offset, size_t len, char want)
{
	static char buf[SIZE];
	CHECK_OK(hither_backend_read_at(fresh, buf, len, offset, &err));
	for (size_t i = 0; i < len; i++)
		CHECK_EQ(buf[i], want);
}

static void what_was_not_written_is_zeros_and_asks_nobody(void)
{
	make();
	check_bytes(0, SIZE, 0);
	CHECK_EQ(hither_layer_fault_calls(fault, HITHER_FAULT_READ), 0);
	hither_backend_close(fresh);
}

static void what_was_written_is_read(void)
{
	char a[BLOCK];
	bool hole;
	make();
	memset(a, 'a', sizeof a);
	CHECK_OK(hither_backend_write_at(fresh, a, BLOCK, 8 * BLOCK, &err));
	CHECK_OK(hither_backend_write_at(fresh, a, 10, 20 * BLOCK + 5, &err)); /* the rest: zeros */
	check_bytes(7 * BLOCK, BLOCK, 0);
	check_bytes(8 * BLOCK, BLOCK, 'a');
	check_bytes(20 * BLOCK, 5, 0);
	check_bytes(20 * BLOCK + 5, 10, 'a');
	check_bytes(20 * BLOCK + 15, BLOCK - 15, 0);
	CHECK_EQ(hither_backend_extent(fresh, 0, SIZE, &hole), 8 * BLOCK);
	CHECK(hole);
	CHECK_EQ(hither_backend_extent(fresh, 8 * BLOCK, 100, &hole), 100);
	CHECK(!hole);
	CHECK_EQ(hither_backend_extent(fresh, 21 * BLOCK, SIZE - 21 * BLOCK, &hole),
	         SIZE - 21 * BLOCK);
	CHECK(hole);
	hither_backend_close(fresh);
}

static void what_was_discarded_is_zeros_again(void)
{
	static char a[8 * BLOCK];
	make();
	memset(a, 'a', sizeof a);
	CHECK_OK(hither_backend_write_at(fresh, a, sizeof a, 0, &err));
	CHECK_OK(hither_backend_discard(fresh, BLOCK - 1, 3 * BLOCK,
	                                &err)); /* whole ones: 1 and 2 */
	check_bytes(0, BLOCK, 'a');
	check_bytes(BLOCK, 2 * BLOCK, 0);
	check_bytes(3 * BLOCK, 5 * BLOCK, 'a');
	CHECK_EQ(hither_backend_discard(fresh, 0, SIZE + 1, &err), -EINVAL);
	CHECK_EQ(hither_backend_discard(fault, 0, BLOCK, &err), -EOPNOTSUPP);
	hither_backend_close(fresh);
}

static void a_write_that_failed_was_none(void)
{
	char a[BLOCK];
	make();
	memset(a, 'a', sizeof a);
	hither_layer_fault_arm(fault, HITHER_FAULT_WRITE, 0, 1, -EIO, 0);
	CHECK_EQ(hither_backend_write_at(fresh, a, BLOCK, 0, &err), -EIO);
	check_bytes(0, BLOCK, 0);
	hither_backend_close(fresh);
}

static int open_subject(void *user, bool writable, struct hither_backend **out,
                        struct hither_error *e)
{
	struct hither_backend *memory;
	int r = hither_backend_memory_create(SIZE, &memory, e);
	if (!r)
		r = hither_layer_fresh(memory, out, e);
	if (!r && !writable)
		(*out)->flags &= ~(uint32_t)HITHER_BACKEND_WRITABLE;
	return r;
}

static void it_keeps_the_contract(void)
{
	contract_check(&(struct contract_subject){
	        .name = "fresh", .open = open_subject, .writable = true});
}

int main(void)
{
	RUN(what_was_not_written_is_zeros_and_asks_nobody);
	RUN(what_was_written_is_read);
	RUN(what_was_discarded_is_zeros_again);
	RUN(a_write_that_failed_was_none);
	RUN(it_keeps_the_contract);
	return 0;
}
