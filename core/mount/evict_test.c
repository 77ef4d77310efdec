/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <hither/backend.h>
#include <hither/mount.h>
#include <stdlib.h>

enum { SIZE = 64 << 20, CAP = 4 << 20, READS = 1500 };

/*
 * The background fills a capped cache once. What is dropped later is dropped for what is read:
 * filling that room from the front of the file again would move the file over the line for nothing.
 */
static void a_full_cache_is_not_swept_into_again(void)
{
	const struct hither_mount_options options = {.cache_cap_bytes = CAP, .order = "none"};
	struct hither_error err = {0};
	struct hither_backend *memory;
	struct hither_mount *m;
	struct hither_mount_stats stats;
	CHECK_OK(hither_backend_memory_create(SIZE, &memory, &err));
	CHECK_OK(hither_mount_backend(memory, "capped", &options, &m, &err));
	unsigned seed = 1;
	for (int i = 0; i < READS; i++) {
		char c = 1;
		uint64_t at = (uint64_t)rand_r(&seed) % SIZE;
		CHECK_OK(hither_mount_read_at(m, &c, 1, at, &err));
		CHECK_EQ(c, 0);
	}
	hither_mount_stats(m, &stats);
	CHECK(stats.evicted_bytes > 0);
	CHECK(stats.pulled_bytes - stats.demand_bytes <= 2 * CAP);
	CHECK_OK(hither_mount_close(m, &err));
}

int main(void)
{
	RUN(a_full_cache_is_not_swept_into_again);
	return 0;
}
