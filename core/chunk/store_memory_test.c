/* SPDX-License-Identifier: Apache-2.0 */
#include "chunk/store.h"

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static struct hither_error err;

static void bytes_come_back(void)
{
	struct hither_store *s = NULL;
	char buf[10] = "123456789";
	CHECK_OK(hither_store_memory(10001, &s, &err));
	CHECK(!hither_store_persistent(s));
	CHECK(strcmp(hither_store_path(s), "memory") == 0);
	CHECK_EQ(hither_store_write(s, buf, 10, 9991), 0);
	memset(buf, 0, sizeof buf);
	CHECK_EQ(hither_store_read(s, buf, 10, 9991), 0);
	CHECK(strcmp(buf, "123456789") == 0);
	CHECK_EQ(hither_store_read(s, buf, 10, 9992), -EINVAL);
	CHECK_EQ(hither_store_write(s, buf, 1, UINT64_MAX), -EINVAL);
	CHECK_EQ(hither_store_read(s, buf, 10, 0), 0);
	CHECK_EQ(buf[0], 0);
	hither_store_close(s);
	hither_store_close(NULL);
}

static void punching_gives_memory_back(void)
{
	struct hither_store *s = NULL;
	static char buf[1 << 20];
	struct stat st;
	memset(buf, 'x', sizeof buf);
	CHECK_OK(hither_store_memory(sizeof buf, &s, &err));
	CHECK_EQ(hither_store_write(s, buf, sizeof buf, 0), 0);
	CHECK_EQ(hither_store_punch(s, 4096, sizeof buf - 4096), 0);
	CHECK_EQ(fstat(hither_store_fd(s), &st), 0);
	CHECK_EQ(st.st_size, sizeof buf);
	CHECK(st.st_blocks * 512 < (long)sizeof buf / 2);
	CHECK_EQ(hither_store_read(s, buf, sizeof buf, 0), 0);
	CHECK_EQ(buf[4095], 'x');
	CHECK_EQ(buf[4096], 0);
	hither_store_close(s);
}

static void nothing_is_remembered(void)
{
	struct hither_store *s = NULL;
	struct hither_store_identity identity = {.size_bytes = 1 << 20};
	struct hither_block_map *map = hither_block_map_create(256);
	CHECK(map);
	CHECK_OK(hither_store_memory(1, &s, &err));
	CHECK_OK(hither_store_reset(s, &identity, &err));
	CHECK_EQ(hither_store_write(s, "y", 1, (1 << 20) - 1), 0);
	CHECK_EQ(hither_store_intent(s, 0, 256), 0);
	CHECK_EQ(hither_store_note(s, 0, 256, HITHER_BLOCK_DIRTY), 0);
	CHECK_OK(hither_store_sync(s, &err));
	CHECK_OK(hither_store_set_identity(s, &identity, &err));
	CHECK_OK(hither_store_load(s, map, &err));
	CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_ABSENT), 256);
	CHECK_OK(hither_store_compact(s, map, &err));
	CHECK(!hither_store_log_long(s));
	hither_store_close(s);
	hither_block_map_destroy(map);
}

static void a_size_no_file_has_is_refused(void)
{
	struct hither_store *s = NULL;
	CHECK_EQ(hither_store_memory(UINT64_MAX, &s, &err), -EFBIG);
	CHECK(strstr(err.message, "18446744073709551615"));
}

int main(void)
{
	RUN(bytes_come_back);
	RUN(punching_gives_memory_back);
	RUN(nothing_is_remembered);
	RUN(a_size_no_file_has_is_refused);
	return 0;
}
