/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record: what is accepted lies within its bytes. The checksum is made right first, or no input
 * would come past it; once with it as it is.
 */
#include "check.h"
#include "fuzz.h"
#include "tape/record.h"

#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static void check(const uint8_t *bytes, size_t len)
{
	struct tape_record r;
	struct tape_run run;
	if (tape_record_parse(bytes, len, &r))
		return;
	CHECK_EQ(tape_record_len(&r), len);
	CHECK(r.blocks >= bytes && r.before >= r.blocks && r.payload >= r.before &&
	      r.payload <= bytes + len);
	for (uint32_t i = 0; r.kind == TAPE_CHECKPOINT && i < r.count; i++)
		if (tape_run_get(&r, i, &run))
			CHECK(run.block + run.count <= r.size_bytes / TAPE_BLOCK_BYTES);
	for (uint32_t i = 0; r.kind == TAPE_DATA && i < r.count; i++) {
		uint64_t e = tape_get64(r.blocks, i);
		CHECK(tape_entry_block(e) + tape_entry_count(e) <= r.size_bytes / TAPE_BLOCK_BYTES);
		CHECK(!(e & TAPE_HOLE) == (i < r.count - r.holes));
	}
	uint8_t last = 0;
	for (size_t i = (size_t)(r.payload - bytes); i < len; i++)
		last ^= bytes[i];
	(void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check(data, size);
	uint8_t *copy = malloc(size ? size : 1);
	CHECK(copy);
	memcpy(copy, data, size);
	if (size >= TAPE_HEAD_BYTES) {
		memset(copy + 64, 0, 8);
		uint64_t seed = XXH3_64bits(copy, TAPE_HEAD_BYTES);
		tape_put64(
		        copy + 64, 0,
		        XXH3_64bits_withSeed(copy + TAPE_HEAD_BYTES, size - TAPE_HEAD_BYTES, seed));
	}
	check(copy, size);
	free(copy);
	return 0;
}
