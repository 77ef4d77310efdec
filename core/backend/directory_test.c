/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"
#include "check.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/backend.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

static char folder[PATH_MAX];

static const char *in_folder(const char *name)
{
	static char path[PATH_MAX + 128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static int try_open(const char *rest, bool writable, uint64_t create_bytes,
                    struct hither_backend **out, struct hither_error *err)
{
	char url[PATH_MAX + 128];
	struct hither_backend_options options = {.writable = writable,
	                                         .create_bytes = create_bytes};
	snprintf(url, sizeof url, "directory://%s/%s", folder, rest);
	return hither_backend_open(url, &options, out, err);
}

static struct hither_backend *open_ok(const char *rest, bool writable)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_OK(try_open(rest, writable, 0, &b, &err));
	return b;
}

static void check_refused(const char *rest, int code)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_EQ(try_open(rest, true, 0, &b, &err), code);
	CHECK_EQ(err.code, code);
	CHECK(!b && strstr(err.message, "directory: "));
}

static void make_text(const char *name, const char *text)
{
	int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(hither_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static void read_text(const char *name, char *text, size_t size)
{
	int fd = open(in_folder(name), O_RDONLY);
	CHECK(fd >= 0);
	ssize_t n = read(fd, text, size - 1);
	CHECK(n >= 0);
	text[n] = 0;
	close(fd);
}

static unsigned file_count;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *where)
{
	file_count += type == FTW_F;
	return 0;
}

static unsigned count_files(const char *name)
{
	file_count = 0;
	CHECK_EQ(nftw(in_folder(name), count_file, 16, FTW_PHYS), 0);
	return file_count;
}

static void it_remembers_size_and_chunk(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_ok("made/deep?chunk=8K&size=100000", true);
	CHECK_EQ(b->size_bytes, 100000);
	CHECK_EQ(b->align_bytes, 8192);
	hither_backend_close(b);
	char text[256];
	read_text("made/deep/hither-directory", text, sizeof text);
	CHECK(strcmp(text, "hither-directory 1\nchunk 8192\nsize 100000\n") == 0);
	b = open_ok("made/deep", false);
	CHECK_EQ(b->size_bytes, 100000);
	CHECK_EQ(b->align_bytes, 8192);
	hither_backend_close(b);
	hither_backend_close(open_ok("made/deep?size=100000", false));
	CHECK_OK(try_open("made/deep", true, 5, &b,
	                  &err)); /* create_bytes is for what is not there */
	CHECK_EQ(b->size_bytes, 100000);
	hither_backend_close(b);
	check_refused("made/deep?size=100001", -EINVAL);
	check_refused("made/deep?chunk=4096", -EINVAL);
	CHECK_OK(try_open("default", true, 1, &b, &err));
	CHECK_EQ(b->align_bytes, 65536);
	hither_backend_close(b);
}

static void what_is_not_ours_is_refused(void)
{
	check_refused("absent", -ENOENT);
	CHECK_EQ(mkdir(in_folder("bare"), 0700), 0);
	check_refused("bare", -ENOENT);
	hither_backend_close(open_ok("bare?size=1", true)); /* an empty folder will do */
	CHECK_EQ(mkdir(in_folder("home"), 0700), 0);
	make_text("home/letter", "x");
	check_refused("home?size=1", -ENOTEMPTY);
	CHECK_EQ(count_files("home"), 1);
	check_refused("home/letter?size=1", -ENOTDIR);
	static const char *const bad[] = {
	        "x?size=1&chunk=1000", "x?size=1&chunk=256", "x?size=1&chunk=32M",
	        "x?size=1&chunk=",     "x?size=many",        "x?size=-1"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		check_refused(bad[i], -EINVAL);
	CHECK(access(in_folder("x"), F_OK) && errno == ENOENT);
}

static void a_marker_of_another_format_is_refused(void)
{
	static const char *const bad[] = {
	        "",
	        "hither-directory 2\nchunk 4096\nsize 1\n",
	        "hither-directory 1\nchunk 4096\n",
	        "hither-directory 1\nchunk 4095\nsize 1\n",
	        "hither-directory 1\nchunk 0\nsize 1\n",
	        "hither-directory 1\nchunk 4096\nsize -1\n",
	        "hither-directory 1\nchunk 4096\nsize 99999999999999999999\n",
	        "hither-directory 1\nchunk 4096\nsize 1\nmore\n",
	};
	CHECK_EQ(mkdir(in_folder("marked"), 0700), 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		make_text("marked/hither-directory", bad[i]);
		check_refused("marked?size=1", -EINVAL);
	}
}

static void chunks_lie_where_the_picture_says(void)
{
	struct hither_error err = {0};
	/* 512 bytes a chunk: chunk 0x12345678 begins at 0x2468acf000. */
	struct hither_backend *b = open_ok("laid?chunk=512&size=1T", true);
	CHECK_OK(hither_backend_write_at(b, "x", 1, UINT64_C(0x2468acf000), &err));
	CHECK_OK(hither_backend_write_at(b, "y", 1, 0, &err));
	CHECK_OK(hither_backend_flush(b, &err));
	struct stat st;
	CHECK_EQ(stat(in_folder("laid/00000123/45/0000000012345678"), &st), 0);
	CHECK_EQ(st.st_size, 512);
	CHECK_EQ(stat(in_folder("laid/00000000/00/0000000000000000"), &st), 0);
	CHECK_EQ(count_files("laid"), 3); /* with the marker, and nothing unfinished */
	char bytes[1024];
	CHECK_OK(
	        hither_backend_read_at(b, bytes, sizeof bytes, UINT64_C(0x2468acf000) - 512, &err));
	for (size_t i = 0; i < sizeof bytes; i++)
		CHECK_EQ(bytes[i], i == 512 ? 'x' : 0);
	hither_backend_close(b);
}

static void the_last_chunk_is_as_short_as_need_be(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_ok("short?chunk=512&size=1000", true);
	CHECK_OK(hither_backend_write_at(b, "z", 1, 999, &err));
	struct stat st;
	CHECK_EQ(stat(in_folder("short/00000000/00/0000000000000001"), &st), 0);
	CHECK_EQ(st.st_size, 488);
	hither_backend_close(b);
}

static void damage_is_told(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_ok("hurt?chunk=512&size=2K", true);
	char bytes[512] = "x";
	CHECK_OK(hither_backend_write_at(b, bytes, sizeof bytes, 512, &err));
	CHECK_EQ(truncate(in_folder("hurt/00000000/00/0000000000000001"), 100), 0);
	CHECK_EQ(hither_backend_read_at(b, bytes, sizeof bytes, 512, &err), -EIO);
	CHECK(strstr(err.message, "0000000000000001 is damaged"));
	CHECK_OK(hither_backend_read_at(b, bytes, sizeof bytes, 0, &err));
	CHECK_OK(hither_backend_write_at(b, bytes, sizeof bytes, 512, &err)); /* whole: heals it */
	CHECK_OK(hither_backend_read_at(b, bytes, sizeof bytes, 512, &err));
	CHECK_EQ(unlink(in_folder("hurt/hither-directory")), 0);
	CHECK_EQ(hither_backend_read_at(b, bytes, sizeof bytes, 0, &err),
	         -ESTALE); /* no zeros for a loss */
	hither_backend_close(b);
}

static void a_failed_flush_fails_again(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_ok("gone?chunk=512&size=2K", true);
	CHECK_OK(hither_backend_write_at(b, "x", 1, 0, &err));
	scratch_remove(in_folder("gone/00000000"));
	CHECK_EQ(hither_backend_flush(b, &err), -ENOENT);
	CHECK_EQ(hither_backend_flush(b, &err), -ENOENT);
	CHECK_OK(hither_backend_write_at(b, "x", 1, 0, &err));
	CHECK_OK(hither_backend_flush(b, &err));
	hither_backend_close(b);
}

static void a_failed_write_leaves_nothing(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_ok("blocked?chunk=512&size=2K", true);
	make_text("blocked/00000000", "in the way");
	CHECK_EQ(hither_backend_write_at(b, "x", 1, 0, &err), -ENOTDIR);
	CHECK_EQ(unlink(in_folder("blocked/00000000")), 0);
	CHECK_OK(hither_backend_flush(b, &err)); /* nothing was promised */
	CHECK_OK(hither_backend_write_at(b, "x", 1, 0, &err));
	/* A folder under the chunk's name: the rename fails, when the bytes are already there. */
	CHECK_EQ(mkdir(in_folder("blocked/00000000/00/0000000000000001"), 0700), 0);
	static char bytes[512];
	CHECK(hither_backend_write_at(b, bytes, sizeof bytes, 512, &err) < 0);
	CHECK_EQ(count_files("blocked"), 2); /* the marker and chunk 0 */
	hither_backend_close(b);
}

static void *open_concurrently(void *arg)
{
	struct hither_backend *b = open_ok("raced?size=4096", true);
	CHECK_EQ(b->size_bytes, 4096);
	hither_backend_close(b);
	return NULL;
}

static void one_of_several_makes_it(void)
{
	pthread_t threads[8];
	for (unsigned i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, open_concurrently, NULL), 0);
	for (unsigned i = 0; i < 8; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK_EQ(count_files("raced"), 1);
}

int main(void)
{
	scratch_make(folder);
	RUN(it_remembers_size_and_chunk);
	RUN(what_is_not_ours_is_refused);
	RUN(a_marker_of_another_format_is_refused);
	RUN(chunks_lie_where_the_picture_says);
	RUN(the_last_chunk_is_as_short_as_need_be);
	RUN(damage_is_told);
	RUN(a_failed_flush_fails_again);
	RUN(a_failed_write_leaves_nothing);
	RUN(one_of_several_makes_it);
	scratch_remove(folder);
	return 0;
}
