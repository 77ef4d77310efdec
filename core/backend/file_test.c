/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"
#include "check.h"
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hither/backend.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

static char folder[PATH_MAX];

static const char *in_folder(const char *name)
{
	static char path[PATH_MAX + 64];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void make_file(const char *name, const char *text)
{
	int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(hither_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static int try_open(const char *url, bool writable, uint64_t create_bytes,
                    struct hither_backend **out, struct hither_error *err)
{
	struct hither_backend_options options = {.writable = writable,
	                                         .create_bytes = create_bytes};
	return hither_backend_open(url, &options, out, err);
}

static void check_refused(const char *url, bool writable, int code)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_EQ(try_open(url, writable, 0, &b, &err), code);
	CHECK(!b);
	CHECK_EQ(err.code, code);
	CHECK(strstr(err.message, "file: "));
	CHECK_EQ(try_open(url, writable, 0, &b, NULL), code);
}

static void what_is_no_file_is_refused(void)
{
	check_refused(in_folder("nothing"), false, -ENOENT);
	check_refused(in_folder("nothing"), true, -ENOENT);
	check_refused(folder, false, -EISDIR);
	check_refused(folder, true, -EISDIR);
	CHECK_EQ(mkfifo(in_folder("fifo"), 0600), 0);
	check_refused(in_folder("fifo"), false, -EINVAL); /* and nobody waits for a writer */
	check_refused(in_folder("fifo"), true, -EINVAL);
	check_refused("/dev/null", true, -EINVAL);
	check_refused("file://elsewhere/x", false, -EINVAL);
	make_file("plain", "x");
	check_refused(in_folder("plain/below"), false, -ENOTDIR);
}

static void a_message_names_the_file(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_EQ(try_open(in_folder("nothing"), false, 0, &b, &err), -ENOENT);
	CHECK(strstr(err.message, in_folder("nothing")));
	CHECK(strstr(err.message, strerror(ENOENT)));
}

static void it_knows_when_it_was_changed(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 784111777, .tv_nsec = 5}};
	make_file("dated", "x");
	CHECK_EQ(utimensat(AT_FDCWD, in_folder("dated"), times, 0), 0);
	CHECK_OK(try_open(in_folder("dated"), false, 0, &b, &err));
	CHECK_EQ(b->modified_ns, 784111777 * INT64_C(1000000000) + 5);
	hither_backend_close(b);
}

/* A running program may not be written, not even by root. */
static void what_cannot_be_written_opens_read_only(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_OK(try_open("/proc/self/exe", false, 0, &b, &err));
	CHECK(b->size_bytes > 0);
	hither_backend_close(b);
	check_refused("/proc/self/exe", true, -EROFS);
}

static void names_are_decoded_in_urls_only(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	char url[PATH_MAX + 64];
	make_file("a b", "12");
	make_file("a%20b", "123");
	snprintf(url, sizeof url, "file://%s/a%%20b", folder);
	CHECK_OK(try_open(url, false, 0, &b, &err));
	CHECK_EQ(b->size_bytes, 2);
	hither_backend_close(b);
	CHECK_OK(try_open(in_folder("a%20b"), false, 0, &b, &err));
	CHECK_EQ(b->size_bytes, 3);
	hither_backend_close(b);
}

static void creating_leaves_what_is_there(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	char bytes[3];
	make_file("there", "abc");
	CHECK_OK(try_open(in_folder("there"), true, 1000, &b, &err));
	CHECK_EQ(b->size_bytes, 3);
	CHECK_OK(hither_backend_read_at(b, bytes, 3, 0, &err));
	CHECK(memcmp(bytes, "abc", 3) == 0);
	hither_backend_close(b);
	CHECK_OK(try_open(in_folder("fresh"), true, UINT64_C(1) << 40, &b, &err));
	CHECK(b->size_bytes == UINT64_C(1) << 40); /* sparse */
	CHECK_OK(hither_backend_write_at(b, "tail", 4, (UINT64_C(1) << 40) - 4, &err));
	hither_backend_close(b);
	struct stat st;
	CHECK_EQ(stat(in_folder("fresh"), &st), 0);
	CHECK(st.st_blocks < 1024);
	CHECK_EQ(try_open(in_folder("huge"), true, UINT64_MAX, &b, &err), -EFBIG);
	CHECK(access(in_folder("huge"), F_OK) && errno == ENOENT); /* nothing half-made stays */
	CHECK_EQ(try_open(in_folder("no/such/folder"), true, 10, &b, &err), -ENOENT);
}

static void a_file_that_shrank_is_stale(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	char bytes[10];
	make_file("shrinks", "0123456789");
	CHECK_OK(try_open(in_folder("shrinks"), false, 0, &b, &err));
	CHECK_EQ(truncate(in_folder("shrinks"), 4), 0);
	CHECK_OK(hither_backend_read_at(b, bytes, 4, 0, &err));
	CHECK_EQ(hither_backend_read_at(b, bytes, 10, 0, &err), -ESTALE);
	CHECK(strstr(err.message, "ends at 4 now, it had 10"));
	hither_backend_close(b);
}

static void get_version(const char *name, char version[HITHER_VERSION_BYTES])
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_OK(try_open(in_folder(name), false, 0, &b, &err));
	CHECK_OK(hither_backend_version(b, version, &err));
	CHECK(version[0]);
	hither_backend_close(b);
}

static void any_change_is_another_version(void)
{
	char before[HITHER_VERSION_BYTES], after[HITHER_VERSION_BYTES];
	const char *name = "versioned";
	make_file(name, "abc");
	get_version(name, before);
	get_version(name, after);
	CHECK(strcmp(before, after) == 0);
	const struct timespec times[2] = {{0, UTIME_OMIT}, {1000000000, 123456789}};
	CHECK_EQ(utimensat(AT_FDCWD, in_folder(name), times, 0), 0);
	get_version(name, after);
	CHECK(strcmp(before, after) != 0);
	memcpy(before, after, sizeof before);
	make_file("replacement", "abc"); /* same size and time, another file */
	CHECK_EQ(utimensat(AT_FDCWD, in_folder("replacement"), times, 0), 0);
	char from[PATH_MAX + 64];
	snprintf(from, sizeof from, "%s", in_folder("replacement"));
	CHECK_EQ(rename(from, in_folder(name)), 0);
	get_version(name, after);
	CHECK(strcmp(before, after) != 0);
}

static void large_reads_come_in_pieces(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	enum { LEN = 1000 * 1000 };
	static char bytes[LEN], back[LEN];
	for (size_t i = 0; i < LEN; i++)
		bytes[i] = (char)(i * 13 + i / 255);
	CHECK_OK(try_open(in_folder("large"), true, LEN, &b, &err));
	CHECK_OK(hither_backend_write_at(b, bytes, LEN, 0, &err));
	CHECK_OK(hither_backend_flush(b, &err));
	CHECK_OK(hither_backend_read_at(b, back, LEN, 0, &err));
	CHECK(memcmp(bytes, back, LEN) == 0);
	hither_backend_close(b);
}

/* Only the size is looked at, and only where there is a disk that may be opened. */
static void holes_are_known(void)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	bool hole;
	CHECK_OK(try_open(in_folder("sparse"), true, 3 << 20, &b, &err));
	CHECK_EQ(hither_backend_extent(b, 5, 1000, &hole), 1000);
	CHECK(hole);
	CHECK_OK(hither_backend_write_at(b, "x", 1, 1 << 20, &err));
	CHECK_EQ(hither_backend_extent(b, 0, 3 << 20, &hole), 1 << 20);
	CHECK(hole);
	uint64_t data = hither_backend_extent(b, 1 << 20, 2 << 20, &hole);
	CHECK(!hole && data >= 1 && data < 2 << 20);
	CHECK_EQ(hither_backend_extent(b, 2 << 20, 1 << 20, &hole), 1 << 20);
	CHECK(hole);
	hither_backend_close(b);
}

static void zeros_take_no_room(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	struct stat before, after;
	char noise[64 << 10];
	bool hole;
	memset(noise, 'n', sizeof noise);
	CHECK_OK(try_open(in_folder("zeros"), true, 1 << 20, &b, &err));
	for (uint64_t at = 0; at < 1 << 20; at += sizeof noise)
		CHECK_OK(hither_backend_write_at(b, noise, sizeof noise, at, &err));
	CHECK_OK(hither_backend_flush(b, &err));
	CHECK_EQ(stat(in_folder("zeros"), &before), 0);
	CHECK_OK(hither_backend_zero(b, 100, (1 << 20) - 200, &err));
	CHECK_OK(hither_backend_flush(b, &err));
	CHECK_EQ(stat(in_folder("zeros"), &after), 0);
	CHECK_EQ(after.st_size, 1 << 20);
	CHECK(after.st_blocks < before.st_blocks / 8);
	CHECK(hither_backend_extent(b, 8192, 1 << 19, &hole) == 1 << 19 && hole);
	CHECK_OK(hither_backend_read_at(b, noise, 200, 0, &err));
	for (unsigned i = 0; i < 200; i++)
		CHECK_EQ(noise[i], i < 100 ? 'n' : 0);
	hither_backend_close(b);
}

static void a_block_device_has_its_size(void)
{
	DIR *list = opendir("/sys/block");
	for (const struct dirent *e; list && (e = readdir(list));) {
		char path[PATH_MAX];
		uint64_t sectors = 0;
		snprintf(path, sizeof path, "/sys/block/%s/size", e->d_name);
		FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		if (!f)
			continue;
		int n = fscanf(f, "%" SCNu64, &sectors);
		fclose(f);
		snprintf(path, sizeof path, "/dev/%s", e->d_name);
		struct hither_error err = {0};
		struct hither_backend *b = NULL;
		if (n != 1 || sectors == 0 || try_open(path, false, 0, &b, &err))
			continue;
		char version[HITHER_VERSION_BYTES] = "x";
		CHECK_EQ(b->size_bytes, sectors * 512);
		CHECK_OK(hither_backend_version(b, version, &err));
		CHECK(version[0] == 0); /* nothing tells whether a disk has changed */
		hither_backend_close(b);
		printf("    %s\n", path);
	}
	if (list)
		closedir(list);
}

int main(void)
{
	scratch_make(folder);
	RUN(what_is_no_file_is_refused);
	RUN(a_message_names_the_file);
	RUN(it_knows_when_it_was_changed);
	RUN(what_cannot_be_written_opens_read_only);
	RUN(names_are_decoded_in_urls_only);
	RUN(creating_leaves_what_is_there);
	RUN(a_file_that_shrank_is_stale);
	RUN(any_change_is_another_version);
	RUN(large_reads_come_in_pieces);
	RUN(holes_are_known);
	RUN(zeros_take_no_room);
	RUN(a_block_device_has_its_size);
	scratch_remove(folder);
	return 0;
}
