/* SPDX-License-Identifier: Apache-2.0 */
/* Stores on disk as their callers see them. Crashes are store_crash_test.c's, damage is
 * store_damage_test.c's. */
#include "chunk/store_disk.h"
#include "chunk/store_testing.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { BLOCK = HITHER_BLOCK_BYTES, REGION_BLOCKS = HITHER_LOG_REGION_BLOCKS };

static void check_states(const struct hither_block_map *map, const char *expected)
{
	for (size_t i = 0; expected[i]; i++)
		CHECK_EQ("ALDP"[hither_block_map_get(map, i)], expected[i]);
}

static void a_store_is_found_again(void)
{
	struct hither_store *s = fresh_store(10 * BLOCK - 100);
	struct hither_store_identity identity = {0};
	char buf[BLOCK] = "hello";
	CHECK(hither_store_persistent(s));
	CHECK_EQ(hither_store_write(s, buf, 996, 9 * BLOCK + 3000), 0);
	CHECK_EQ(hither_store_write(s, buf, 997, 9 * BLOCK + 3000), -EINVAL);
	CHECK_EQ(hither_store_note(s, 9, 1, HITHER_BLOCK_DIRTY), 0);
	CHECK_EQ(hither_store_note(s, 0, 2, HITHER_BLOCK_LOCAL), 0);
	CHECK_EQ(hither_store_note(s, 2, 1, HITHER_BLOCK_LOCAL), 0);
	CHECK_EQ(hither_store_note(s, 5, 1, HITHER_BLOCK_PUSHED), 0);
	CHECK_OK(hither_store_sync(s, &err));
	hither_store_close(s);

	s = reopen_store(&identity);
	CHECK_EQ(identity.size_bytes, 10 * BLOCK - 100);
	CHECK(strcmp(identity.version, "v1") == 0 && !identity.pushing);
	struct hither_block_map *map = load_map(s);
	check_states(map, "LLLAADAAAD");
	memset(buf, 0, sizeof buf);
	CHECK_EQ(hither_store_read(s, buf, 996, 9 * BLOCK + 3000), 0);
	CHECK(strcmp(buf, "hello") == 0);
	hither_block_map_destroy(map);
	hither_store_close(s);
}

static void identity_is_remembered(void)
{
	struct hither_store *s = fresh_store(BLOCK);
	struct hither_store_identity identity = {
	        .size_bytes = BLOCK, .version = "v2", .pushing = true};
	CHECK_OK(hither_store_set_identity(s, &identity, &err));
	hither_store_close(s);
	identity = (struct hither_store_identity){0};
	s = reopen_store(&identity);
	CHECK(strcmp(identity.version, "v2") == 0 && identity.pushing);
	struct hither_block_map *map = load_map(s);
	CHECK_OK(hither_store_compact(s, map, &err));
	hither_block_map_destroy(map);
	hither_store_close(s);
	hither_store_set_boot_id("another");
	s = reopen_store(&identity);
	CHECK(strcmp(identity.version, "v2") == 0 && identity.pushing);
	hither_store_close(s);
	hither_store_set_boot_id(NULL);
}

static void a_reset_forgets_everything(void)
{
	struct hither_store *s = fresh_store(100 * BLOCK);
	struct hither_store_identity identity = {.size_bytes = 3 * BLOCK};
	char byte = 'x';
	CHECK_EQ(hither_store_write(s, &byte, 1, 0), 0);
	CHECK_EQ(hither_store_note(s, 0, 1, HITHER_BLOCK_DIRTY), 0);
	CHECK_OK(hither_store_reset(s, &identity, &err));
	CHECK_EQ(hither_store_read(s, &byte, 1, 0), 0);
	CHECK_EQ(byte, 0);
	CHECK_EQ(hither_store_read(s, &byte, 1, 3 * BLOCK), -EINVAL);
	hither_store_close(s);
	s = reopen_store(&identity);
	CHECK_EQ(identity.size_bytes, 3 * BLOCK);
	struct hither_block_map *map = load_map(s);
	check_states(map, "AAA");
	hither_block_map_destroy(map);
	hither_store_close(s);
}

static void one_process_at_a_time(void)
{
	struct hither_store *s = fresh_store(BLOCK), *second = NULL;
	struct hither_store_identity identity;
	bool existed;
	char pid[32];
	snprintf(pid, sizeof pid, "process %d", (int)getpid());
	CHECK_EQ(hither_store_open(cache_dir, URL, &second, &identity, &existed, &err), -EBUSY);
	CHECK(strstr(err.message, pid));
	CHECK_EQ(hither_store_delete(cache_dir, URL, true, &err), -EBUSY);
	hither_store_close(s);
	hither_store_close(reopen_store(NULL));
}

static void secrets_stay_out_of_the_folder(void)
{
	static const char *const names[] = {"http://me:hunter2@example.test/x",
	                                    "http://me:other@example.test/x"};
	struct hither_store *s[2];
	struct hither_store_identity identity = {.size_bytes = 1};
	bool existed;
	fresh_cache();
	for (int i = 0; i < 2; i++) {
		CHECK_OK(hither_store_open(cache_dir, names[i], &s[i], &identity, &existed, &err));
		CHECK(!existed); /* names that differ in the secret alone are two stores */
		identity.size_bytes = 1;
		CHECK_OK(hither_store_reset(s[i], &identity, &err));
	}
	CHECK(strcmp(hither_store_path(s[0]), hither_store_path(s[1])) != 0);
	void *text = NULL;
	size_t len;
	int dir_fd = open(hither_store_path(s[0]), O_RDONLY | O_DIRECTORY);
	CHECK_EQ(hither_store_folder_read(dir_fd, "url", &text, &len), 0);
	close(dir_fd);
	CHECK(strncmp(text, "http://me:***@example.test/x\n", 29) == 0);
	CHECK(!strstr(text, "hunter2"));
	free(text);
	hither_store_close(s[0]);
	hither_store_close(s[1]);
	CHECK_OK(hither_store_open(cache_dir, names[1], &s[1], &identity, &existed, &err));
	CHECK(existed);
	hither_store_close(s[1]);
}

static void names_that_collide_get_folders_of_their_own(void)
{
	struct hither_store *s = fresh_store(BLOCK);
	struct hither_store_identity identity;
	bool existed = true;
	hither_store_close(s);
	/* As if another name with the same hash had come first. */
	int fd = open(file_in_store("url"), O_WRONLY | O_TRUNC);
	const char another[] = "http://another.test/\n00000000000000000000000000000000\n";
	CHECK_EQ(hither_write_all(fd, another, strlen(another)), 0);
	close(fd);
	CHECK_OK(hither_store_open(cache_dir, URL, &s, &identity, &existed, &err));
	CHECK(!existed);
	CHECK(strcmp(hither_store_path(s) + strlen(hither_store_path(s)) - 2, "-1") == 0);
	hither_store_close(s);
	CHECK_EQ(hither_store_delete(cache_dir, URL, false, &err), 0);
	CHECK_EQ(hither_store_delete(cache_dir, URL, false, &err), -ENOENT);
}

static void cut_to_nothing(const char *file)
{
	int fd = open(file_in_store(file), O_WRONLY | O_TRUNC);
	CHECK(fd >= 0);
	close(fd);
}

/* Nobody waits for the disk to open a file: a new store is durable when it first promises
 * something. */
static void a_store_is_founded_with_its_first_promise(void)
{
	struct hither_store *s = fresh_store(BLOCK);
	CHECK(!s->disk->founded);
	CHECK_EQ(hither_store_note(s, 0, 1, HITHER_BLOCK_LOCAL), 0);
	CHECK(!s->disk->founded);
	CHECK_OK(hither_store_sync(s, &err));
	CHECK(s->disk->founded);
	hither_store_close(s);
}

/* What a crash of the machine leaves of one that had promised nothing: names, and empty files. */
static void one_that_was_just_begun_begins_anew(void)
{
	static const char *const empty[][2] = {
	        {"url", "state"}, {"url", "lock"}, {"state", "lock"}};
	for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
		struct hither_store *s = fresh_store(BLOCK);
		struct hither_store_identity identity;
		bool existed = true;
		hither_store_close(s);
		cut_to_nothing(empty[i][0]);
		cut_to_nothing(empty[i][1]);
		CHECK_OK(hither_store_open(cache_dir, URL, &s, &identity, &existed, &err));
		CHECK(!existed);
		CHECK(access(file_in_store("state"), F_OK) < 0 || i == 2);
		hither_store_close(s);
		CHECK_EQ(hither_store_delete(cache_dir, URL, false, &err), 0);
	}
}

/* No crash does this, as a promise first makes durable whose it is. */
static void changes_that_are_nobodys_are_kept(void)
{
	struct hither_store *s = fresh_store(BLOCK);
	struct hither_store_identity identity;
	bool existed;
	CHECK_EQ(hither_store_intent(s, 0, 1), 0);
	CHECK_EQ(hither_store_write(s, "x", 1, 0), 0);
	CHECK_EQ(hither_store_note(s, 0, 1, HITHER_BLOCK_DIRTY), 0);
	CHECK_OK(hither_store_sync(s, &err));
	char *path = strdup(hither_store_path(s));
	hither_store_close(s);
	cut_to_nothing("url");
	CHECK_EQ(hither_store_open(cache_dir, URL, &s, &identity, &existed, &err), -EUCLEAN);
	CHECK(strstr(err.message, "url: missing or damaged"));
	CHECK_EQ(access(file_in_store("state"), F_OK), 0);
	CHECK_EQ(hither_store_delete_at(path, true, &err), 0);
	free(path);
}

/* The same crash, later: the kernel had written bytes back, as it does for who pulls much. */
static void bytes_without_a_promise_begin_anew(void)
{
	struct hither_store *s = fresh_store(2 * BLOCK);
	struct hither_store_identity identity;
	static char buf[BLOCK];
	bool existed = true;
	memset(buf, 'x', sizeof buf);
	CHECK_EQ(hither_store_write(s, buf, sizeof buf, 0), 0);
	CHECK_EQ(hither_store_note(s, 0, 1, HITHER_BLOCK_LOCAL), 0);
	hither_store_close(s);
	cut_to_nothing("state");
	CHECK_OK(hither_store_open(cache_dir, URL, &s, &identity, &existed, &err));
	CHECK(!existed);
	identity = (struct hither_store_identity){.size_bytes = 2 * BLOCK};
	CHECK_OK(hither_store_reset(s, &identity, &err));
	CHECK_EQ(hither_store_read(s, buf, sizeof buf, 0), 0);
	CHECK_EQ(buf[0], 0);
	hither_store_close(s);
	CHECK_EQ(hither_store_delete(cache_dir, URL, false, &err), 0);
}

static void the_log_stays_short(void)
{
	struct hither_store *s = fresh_store(UINT64_C(1) << 40);
	struct stat st;
	off_t most = 0;
	/* Blocks far apart, so that nothing merges; then the same ones again. */
	for (uint64_t round = 0; round < 12; round++) {
		for (uint64_t i = 0; i < 10000; i++)
			CHECK_EQ(hither_store_note(s, 3 * i, 1,
			                           round % 2 ? HITHER_BLOCK_DIRTY
			                                     : HITHER_BLOCK_LOCAL),
			         0);
		CHECK_EQ(stat(file_in_store("state"), &st), 0);
		most = st.st_size > most ? st.st_size : most;
		CHECK_OK(hither_store_sync(s, &err));
		CHECK(!hither_store_log_long(s));
	}
	CHECK(most > 1 << 20); /* else nothing was tried */
	CHECK(st.st_size < most);
	hither_store_close(s);
	s = reopen_store(NULL);
	struct hither_block_map *map = load_map(s);
	CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_DIRTY), 10000);
	CHECK_OK(hither_store_compact(s, map, &err));
	CHECK_EQ(stat(file_in_store("state"), &st), 0);
	CHECK_EQ(st.st_size, HITHER_LOG_HEADER_BYTES + 10001 * HITHER_LOG_RECORD_BYTES);
	hither_block_map_destroy(map);
	hither_store_close(s);
}

static void neighbours_are_noted_together(void)
{
	struct hither_store *s = fresh_store(1000 * BLOCK);
	for (uint64_t i = 0; i < 500; i++)
		CHECK_EQ(hither_store_note(s, i, 1, HITHER_BLOCK_LOCAL), 0);
	for (uint64_t i = 999; i >= 500; i--)
		CHECK_EQ(hither_store_note(s, i, 1, HITHER_BLOCK_LOCAL), 0);
	hither_store_close(s);
	struct stat st;
	CHECK_EQ(stat(file_in_store("state"), &st), 0);
	/* A barrier from the reset, and these two, written down a MiB (256 blocks) at a time. */
	CHECK_EQ(st.st_size, HITHER_LOG_HEADER_BYTES + 6 * HITHER_LOG_RECORD_BYTES);
}

static void punched_blocks_are_absent(void)
{
	struct hither_store *s = fresh_store(100 * BLOCK + 5);
	static char buf[100 * BLOCK];
	struct stat before, after;
	memset(buf, 'x', sizeof buf);
	CHECK_EQ(hither_store_write(s, buf, sizeof buf, 0), 0);
	CHECK_EQ(hither_store_write(s, buf, 5, sizeof buf), 0);
	CHECK_EQ(hither_store_note(s, 0, 101, HITHER_BLOCK_LOCAL), 0);
	CHECK_OK(hither_store_sync(s, &err));
	CHECK_EQ(fstat(hither_store_fd(s), &before), 0);
	CHECK_EQ(hither_store_punch(s, BLOCK - 1, 50 * BLOCK), 0); /* whole blocks 1 to 49 */
	CHECK_EQ(hither_store_punch(s, 100 * BLOCK, 5), 0);
	CHECK_EQ(fstat(hither_store_fd(s), &after), 0);
	CHECK(after.st_blocks < before.st_blocks);
	CHECK_EQ(after.st_size, 100 * BLOCK + 5);
	CHECK_EQ(hither_store_read(s, buf, 1, BLOCK - 1), 0);
	CHECK_EQ(buf[0], 'x');
	CHECK_EQ(hither_store_read(s, buf, 1, 50 * BLOCK), 0);
	CHECK_EQ(buf[0], 'x');
	hither_store_close(s);
	s = reopen_store(NULL);
	struct hither_block_map *map = load_map(s);
	CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_ABSENT), 50);
	CHECK_EQ(hither_block_map_get(map, 0), HITHER_BLOCK_LOCAL);
	CHECK_EQ(hither_block_map_get(map, 50), HITHER_BLOCK_LOCAL);
	CHECK_EQ(hither_block_map_get(map, 100), HITHER_BLOCK_ABSENT);
	hither_block_map_destroy(map);
	hither_store_close(s);
}

static void what_nobody_knows_of_is_given_back(void)
{
	struct hither_store *s = fresh_store(10 * BLOCK - 100);
	char buf[BLOCK] = "hello", got[BLOCK];
	const uint64_t stored[] = {3, 5, 9};
	for (size_t i = 0; i < 3; i++)
		CHECK_EQ(hither_store_write(s, buf, stored[i] == 9 ? BLOCK - 100 : BLOCK,
		                            stored[i] * BLOCK),
		         0);
	CHECK_EQ(hither_store_note(s, 5, 1, HITHER_BLOCK_LOCAL), 0);
	hither_store_close(s);
	s = reopen_store(NULL);
	struct hither_block_map *map = load_map(s);
	check_states(map, "AAAAALAAAA");
	hither_store_trim(s, map);
	CHECK_EQ(lseek(hither_store_fd(s), 0, SEEK_DATA), 5 * BLOCK);
	CHECK_EQ(lseek(hither_store_fd(s), 6 * BLOCK, SEEK_DATA), -1);
	CHECK_EQ(hither_store_read(s, got, BLOCK, 5 * BLOCK), 0);
	CHECK(memcmp(got, buf, BLOCK) == 0);
	hither_block_map_destroy(map);
	hither_store_close(s);
}

static void an_idle_barrier_costs_nothing(void)
{
	struct hither_store *s = fresh_store(BLOCK);
	struct stat before, after;
	CHECK_EQ(hither_store_write(s, "x", 1, 0), 0);
	CHECK_OK(hither_store_sync(s, &err));
	CHECK_EQ(stat(file_in_store("state"), &before), 0);
	CHECK_OK(hither_store_sync(s, &err));
	CHECK_EQ(hither_store_intent(s, 0, 0), 0);
	CHECK_EQ(hither_store_note(s, 0, 0, HITHER_BLOCK_DIRTY), 0);
	CHECK_OK(hither_store_sync(s, &err));
	CHECK_EQ(stat(file_in_store("state"), &after), 0);
	CHECK_EQ(before.st_size, after.st_size);
	hither_store_close(s);
}

/* fdatasync() of a pipe fails, as does that of a disk which is gone. */
static void break_fd(int fd)
{
	int ends[2];
	CHECK_EQ(pipe(ends), 0);
	CHECK(dup2(ends[1], fd) == fd);
	close(ends[0]);
	close(ends[1]);
}

static void after_a_failed_sync_nothing_is_promised(void)
{
	struct hither_store *s = fresh_store(BLOCK);
	int kept = dup(hither_store_fd(s));
	CHECK_EQ(hither_store_write(s, "x", 1, 0), 0);
	CHECK_EQ(hither_store_note(s, 0, 1, HITHER_BLOCK_DIRTY), 0);
	break_fd(hither_store_fd(s));
	CHECK_EQ(hither_store_sync(s, &err), -EINVAL);
	CHECK(strstr(err.message, "/data: fdatasync"));
	/* The kernel tells of a lost page once; the store does not forget. */
	CHECK(dup2(kept, hither_store_fd(s)) >= 0);
	err = (struct hither_error){0};
	CHECK_EQ(hither_store_sync(s, &err), -EINVAL);
	CHECK(strstr(err.message, hither_store_path(s)));
	CHECK_EQ(hither_store_note(s, 0, 1, HITHER_BLOCK_LOCAL), -EINVAL);
	CHECK_EQ(hither_store_intent(s, 0, 1), -EINVAL);
	struct hither_store_identity identity = {.size_bytes = BLOCK};
	CHECK_OK(hither_store_reset(s, &identity, &err)); /* from here on all bytes are new */
	CHECK_EQ(hither_store_note(s, 0, 1, HITHER_BLOCK_LOCAL), 0);
	CHECK_OK(hither_store_sync(s, &err));
	hither_store_close(s);
	close(kept);
}

static size_t resident_pages(int fd, size_t len)
{
	unsigned char pages[1 << 8];
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED && len / 4096 <= sizeof pages);
	CHECK_EQ(mincore(map, len, pages), 0);
	munmap(map, len);
	size_t count = 0;
	for (size_t i = 0; i < len / 4096; i++)
		count += pages[i] & 1;
	return count;
}

static void uncached_reads_leave_no_copy(void)
{
	struct hither_store *s = fresh_store(1 << 20);
	static char out[1 << 20], in[1 << 20];
	for (size_t i = 0; i < sizeof out; i++)
		out[i] = (char)(i * 7 + i / 4096);
	CHECK_EQ(hither_store_write(s, out, sizeof out, 0), 0);
	int fd = hither_store_fd(s);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	struct iovec first = {in, 4096};
	bool able = resident_pages(fd, sizeof in) == 0 && preadv2(fd, &first, 1, 0, 0x80) == 4096;
	hither_store_uncached(s, true);
	CHECK_EQ(hither_store_read(s, in, sizeof in, 0), 0);
	CHECK(memcmp(in, out, sizeof in) == 0);
	if (able)
		CHECK(resident_pages(fd, sizeof in) <= 1);
	else
		printf("  not checked: no RWF_DONTCACHE here\n");
	hither_store_uncached(s, false);
	memset(in, 0, sizeof in);
	CHECK_EQ(hither_store_read(s, in, sizeof in, 0), 0);
	CHECK(memcmp(in, out, sizeof in) == 0);
	CHECK(resident_pages(fd, sizeof in) > 0);
	hither_store_close(s);
}

/* --- the cache as a whole --- */

struct seen {
	int count;
	struct hither_store_info info[4];
};

static int see(void *user, const struct hither_store_info *info)
{
	struct seen *seen = user;
	CHECK(seen->count < 4);
	seen->info[seen->count++] = *info;
	return 0;
}

static int stop_at_once(void *user, const struct hither_store_info *info)
{
	++*(int *)user;
	return 7;
}

static void a_cache_is_listed(void)
{
	struct hither_store *s = fresh_store(3 * BLOCK - 1);
	static struct seen seen;
	char path[4096];
	int calls = 0;
	CHECK_EQ(hither_store_write(s, "x", 1, 2 * BLOCK), 0);
	CHECK_EQ(hither_store_note(s, 1, 2, HITHER_BLOCK_DIRTY), 0);
	CHECK_OK(hither_store_sync(s, &err));
	snprintf(path, sizeof path, "%s/0000000000000000", cache_dir); /* half made */
	CHECK_EQ(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/not-a-store", cache_dir);
	CHECK_EQ(mkdir(path, 0700), 0);
	CHECK_OK(hither_store_list(cache_dir, see, &seen, &err));
	CHECK_EQ(seen.count, 2);
	const struct hither_store_info *info = &seen.info[*seen.info[0].name ? 0 : 1];
	CHECK(strcmp(info->name, URL) == 0);
	CHECK(strcmp(info->path, hither_store_path(s)) == 0);
	CHECK_EQ(info->size_bytes, 3 * BLOCK - 1);
	CHECK_EQ(info->dirty_bytes, 2 * BLOCK - 1);
	CHECK(info->disk_bytes >= BLOCK && info->disk_bytes < 100 * BLOCK);
	CHECK(info->in_use && info->error == 0 && info->used_at > 1600000000);
	info = &seen.info[*seen.info[0].name ? 1 : 0];
	CHECK(!info->in_use && info->error == 0 && info->size_bytes == 0);
	hither_store_close(s);
	CHECK_EQ(hither_store_list(cache_dir, stop_at_once, &calls, &err), 7);
	CHECK_EQ(calls, 1);
	CHECK_OK(hither_store_list("/nonexistent/cache", see, &seen, &err));
}

static void dirty_stores_are_deleted_only_by_force(void)
{
	struct hither_store *s = fresh_store(3 * BLOCK);
	CHECK_EQ(hither_store_note(s, 1, 1, HITHER_BLOCK_DIRTY), 0);
	hither_store_close(s);
	CHECK_EQ(hither_store_delete(cache_dir, URL, false, &err), -ENOTEMPTY);
	CHECK(strstr(err.message, "4096 bytes"));
	hither_store_close(reopen_store(NULL));
	CHECK_OK(hither_store_delete(cache_dir, URL, true, &err));
	CHECK_EQ(hither_store_delete(cache_dir, URL, true, &err), -ENOENT);
	CHECK_EQ(open_fails(), 0); /* does not exist any more */
}

/* --- a full disk --- */

static void stores_survive_a_full_log(void)
{
	/* No file may grow beyond this, as on a disk that is full. */
	struct rlimit limit = {0}, unlimited;
	struct hither_store *s = fresh_store(1000 * BLOCK);
	CHECK_EQ(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
	signal(SIGXFSZ, SIG_IGN);
	limit = unlimited;
	limit.rlim_cur = HITHER_LOG_HEADER_BYTES + 20 * HITHER_LOG_RECORD_BYTES + 10;
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
	uint64_t fit = 0;
	while (fit < 100 && hither_store_note(s, 2 * fit, 1, HITHER_BLOCK_DIRTY) == 0)
		fit++;
	CHECK_EQ(fit, 19); /* and the reset's barrier */
	CHECK_EQ(hither_store_note(s, 200, 1, HITHER_BLOCK_DIRTY), -EFBIG);
	CHECK_EQ(hither_store_intent(s, 0, 1), -EFBIG);
	CHECK_EQ(hither_store_sync(s, &err), -EFBIG);
	CHECK(strstr(err.message, "/state"));
	struct stat st;
	CHECK_EQ(stat(file_in_store("state"), &st), 0);
	CHECK_EQ(st.st_size, HITHER_LOG_HEADER_BYTES + 20 * HITHER_LOG_RECORD_BYTES);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
	CHECK_EQ(hither_store_note(s, 300, 1, HITHER_BLOCK_DIRTY), 0); /* room again */
	CHECK_OK(hither_store_sync(s, &err));
	hither_store_close(s);
	hither_store_set_boot_id("another");
	s = reopen_store(NULL);
	struct hither_block_map *map = load_map(s);
	CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_DIRTY), 20);
	CHECK_EQ(hither_block_map_get(map, 300), HITHER_BLOCK_DIRTY);
	CHECK_EQ(hither_block_map_get(map, 200), HITHER_BLOCK_ABSENT);
	hither_block_map_destroy(map);
	hither_store_close(s);
	hither_store_set_boot_id(NULL);
}

static void fill_disk(struct hither_store *s, uint64_t *noted)
{
	static char buf[16 * BLOCK];
	int r = 0;
	for (*noted = 0; *noted < 1000; ++*noted) {
		r = hither_store_write(s, buf, sizeof buf, *noted * sizeof buf);
		if (!r)
			r = hither_store_note(s, *noted * 16, 16, HITHER_BLOCK_DIRTY);
		if (r)
			break;
	}
	CHECK_EQ(r, -ENOSPC);
	CHECK(*noted > 0);
	/* Whatever is tried now: it says so, and what is noted stays. */
	CHECK_EQ(hither_store_write(s, buf, sizeof buf, (*noted + 1) * sizeof buf), -ENOSPC);
	for (uint64_t i = 0; i < 1000; i++) {
		r = hither_store_note(s, 8000 + 2 * i, 1, HITHER_BLOCK_LOCAL);
		CHECK(r == 0 || r == -ENOSPC);
	}
	r = hither_store_compact(s, NULL, &err);
	CHECK(r == 0 || r == -ENOSPC);
}

static void a_full_disk_harms_nothing(void)
{
	struct hither_store *s;
	struct hither_store_identity identity = {.size_bytes = 16000 * BLOCK};
	bool existed;
	uint64_t noted;
	fresh_cache();
	if (mount("hither-test", cache_dir, "tmpfs", 0, "size=1m") < 0) {
		printf("  (no right to mount a small tmpfs: left out)\n");
		return;
	}
	CHECK_OK(hither_store_open(cache_dir, URL, &s, &identity, &existed, &err));
	CHECK_OK(hither_store_reset(s, &identity, &err));
	fill_disk(s, &noted);
	hither_store_close(s);
	s = reopen_store(NULL);
	struct hither_block_map *map = load_map(s);
	CHECK(hither_block_map_all(map, 0, noted * 16, HITHER_BLOCKS_DIRTY));
	CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_DIRTY), noted * 16);
	/* Pushed, it may be evicted: room again, though the log itself had to find some. */
	hither_block_map_destroy(map);
	hither_store_close(s);
	CHECK_EQ(hither_store_delete(cache_dir, URL, false, &err), -ENOTEMPTY);
	CHECK_OK(hither_store_delete(cache_dir, URL, true, &err));
	CHECK_EQ(umount(cache_dir), 0);
}

int main(void)
{
	RUN(a_store_is_found_again);
	RUN(identity_is_remembered);
	RUN(a_reset_forgets_everything);
	RUN(one_process_at_a_time);
	RUN(secrets_stay_out_of_the_folder);
	RUN(names_that_collide_get_folders_of_their_own);
	RUN(a_store_is_founded_with_its_first_promise);
	RUN(one_that_was_just_begun_begins_anew);
	RUN(changes_that_are_nobodys_are_kept);
	RUN(bytes_without_a_promise_begin_anew);
	RUN(the_log_stays_short);
	RUN(neighbours_are_noted_together);
	RUN(punched_blocks_are_absent);
	RUN(what_nobody_knows_of_is_given_back);
	RUN(an_idle_barrier_costs_nothing);
	RUN(after_a_failed_sync_nothing_is_promised);
	RUN(uncached_reads_leave_no_copy);
	RUN(a_cache_is_listed);
	RUN(dirty_stores_are_deleted_only_by_force);
	RUN(stores_survive_a_full_log);
	RUN(a_full_disk_harms_nothing);
	return 0;
}
