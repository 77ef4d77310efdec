/* SPDX-License-Identifier: Apache-2.0 */
/* What programs see of a mount while all is well. */
#include "frontend/fuse/fuse_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

enum { SIZE = (3 << 20) + 123 }; /* no multiple of anything */

static int open_checked(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		fprintf(stderr, "open %s: %s\n", path, strerror(errno));
	CHECK(fd >= 0);
	return fd;
}

static void check_range(int fd, uint64_t offset, size_t len, size_t expected)
{
	char *buf = malloc(len + 1);
	CHECK(buf);
	CHECK_EQ(pread(fd, buf, len, (off_t)offset), expected);
	check_pattern(buf, expected, offset);
	free(buf);
}

static void a_file_has_its_bytes(void)
{
	struct server s;
	server_start(&s, "file", &(struct setup){.size = SIZE});
	int fd = open_checked(s.file, O_RDONLY);
	check_range(fd, 0, 1, 1);
	check_range(fd, 4095, 2, 2);
	check_range(fd, 1234567, 77777, 77777);
	check_range(fd, SIZE - 5, 100, 5);
	check_range(fd, SIZE, 10, 0);
	check_range(fd, SIZE + 100000, 10, 0);
	check_range(fd, 0, SIZE, SIZE);
	struct stat st;
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_blksize, 4096); /* whoever buffers by it waits for no more than that */
	CHECK_EQ(st.st_size, SIZE);
	CHECK_EQ(st.st_mode, S_IFREG | 0444);
	CHECK_EQ(st.st_blocks, (SIZE + 511) / 512);
	CHECK_EQ(st.st_uid, getuid());
	CHECK_EQ(lseek(fd, 10, SEEK_DATA), 10);
	CHECK_EQ(lseek(fd, 10, SEEK_HOLE), SIZE);
	close(fd);
	CHECK(open(s.file, O_RDWR) < 0);
	CHECK_EQ(errno, EROFS);
	server_stop(&s);
}

static void a_second_open_needs_no_reads(void)
{
	struct server s;
	server_start(&s, "warm", &(struct setup){.size = SIZE, .no_passthrough = true});
	int fd = open_checked(s.file, O_RDONLY);
	check_range(fd, 0, SIZE, SIZE);
	close(fd);
	int reads = server_ask(&s, ASK_READS);
	CHECK(reads > 0);
	fd = open_checked(s.file, O_RDONLY);
	check_range(fd, 0, SIZE, SIZE);
	close(fd);
	CHECK_EQ(server_ask(&s, ASK_READS), reads);
	server_stop(&s);
}

static void it_can_be_mapped(void)
{
	struct server s;
	server_start(&s, "mapped", &(struct setup){.size = SIZE});
	int fd = open_checked(s.file, O_RDONLY);
	uint8_t *p = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	check_pattern(p + 999999, 5000, 999999);
	check_pattern(p, SIZE, 0);
	uint8_t *own = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(own != MAP_FAILED);
	own[4096] ^= 0xff;
	CHECK_EQ(own[4096], (uint8_t)~pattern(4096));
	CHECK_EQ(p[4096], pattern(4096));
	munmap(p, SIZE);
	munmap(own, SIZE);
	close(fd);
	server_stop(&s);
}

static void direct_io_works(void)
{
	struct server s;
	server_start(&s, "direct", &(struct setup){.size = SIZE, .writable = true});
	int fd = open_checked(s.file, O_RDWR | O_DIRECT);
	void *buf = aligned_alloc(4096, 2 << 20);
	CHECK(buf);
	CHECK_EQ(pread(fd, buf, 2 << 20, 4096), 2 << 20);
	check_pattern(buf, 2 << 20, 4096);
	memset(buf, 7, 8192);
	CHECK_EQ(pwrite(fd, buf, 8192, 12288), 8192);
	memset(buf, 0, 8192);
	CHECK_EQ(pread(fd, buf, 8192, 12288), 8192);
	CHECK(((char *)buf)[0] == 7 && ((char *)buf)[8191] == 7);
	CHECK_EQ(pwrite(fd, buf, 8192, SIZE / 4096 * 4096), -1);
	CHECK_EQ(errno, ENOSPC);
	CHECK_EQ(pwrite(fd, buf, 4096, (SIZE / 4096 + 1) * 4096), -1);
	CHECK_EQ(errno, ENOSPC);
	CHECK_EQ(fsync(fd), 0);
	CHECK_EQ(s.control->bytes[12288 + 8191], 7);
	free(buf);
	close(fd);
	server_stop(&s);
}

static void a_folder_lists_its_files(void)
{
	enum { FILES = 300 };
	struct server s;
	server_start(&s, "folder",
	             &(struct setup){.size = 5000, .folder_files = FILES, .direct = true});
	DIR *dir = opendir(s.path);
	CHECK(dir);
	bool seen[FILES] = {0};
	size_t count = 0;
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		unsigned i;
		CHECK_EQ(sscanf(e->d_name, "file-%u", &i), 1);
		CHECK(i < FILES && !seen[i]);
		CHECK_EQ(e->d_type, DT_REG);
		seen[i] = true;
		count++;
	}
	CHECK_EQ(count, FILES);
	closedir(dir);
	char path[PATH_MAX + 32];
	struct stat st;
	snprintf(path, sizeof path, "%s/file-299", s.path);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_size, 5000);
	int fd = open_checked(path, O_RDONLY);
	check_range(fd, 10, 4990, 4990);
	close(fd);
	snprintf(path, sizeof path, "%s/no-such-file", s.path);
	CHECK_EQ(stat(path, &st), -1);
	CHECK_EQ(errno, ENOENT);
	CHECK_EQ(stat(s.path, &st), 0);
	CHECK(S_ISDIR(st.st_mode));
	CHECK_EQ(mkdir(path, 0755), -1);
	struct statfs fs;
	CHECK_EQ(statfs(s.path, &fs), 0);
	CHECK_EQ(fs.f_blocks, FILES * 2);
	CHECK_EQ(fs.f_bfree, 0);
	server_stop(&s);
}

static void what_is_written_arrives(const char *name, bool direct)
{
	struct server s;
	server_start(&s, name, &(struct setup){.size = SIZE, .writable = true, .direct = direct});
	int fd = open_checked(s.file, O_RDWR);
	uint8_t own[3000];
	memset(own, 0xa5, sizeof own);
	CHECK_EQ(pwrite(fd, own, sizeof own, 100001), sizeof own);
	CHECK_EQ(pwrite(fd, own, 100, SIZE - 100), 100);
	CHECK_EQ(fsync(fd), 0); /* sync=remote: the backend has it */
	CHECK(!memcmp(s.control->bytes + 100001, own, sizeof own));
	CHECK(!memcmp(s.control->bytes + SIZE - 100, own, 100));
	check_pattern(s.control->bytes + 90000, 10001, 90000);
	check_pattern(s.control->bytes + 103001, 10000, 103001);
	close(fd);
	fd = open_checked(s.file, O_RDONLY);
	uint8_t back[3002];
	CHECK_EQ(pread(fd, back, sizeof back, 100000), sizeof back);
	CHECK(back[0] == pattern(100000) && back[3001] == pattern(103001));
	CHECK(!memcmp(back + 1, own, sizeof own));
	close(fd);
	server_stop(&s);
}

static void writes_to_a_managed_mount_arrive(void)
{
	what_is_written_arrives("managed-write", false);
}

static void writes_to_a_direct_mount_arrive(void)
{
	what_is_written_arrives("direct-write", true);
}

static void mapped_writes_arrive(void)
{
	struct server s;
	server_start(&s, "map-write", &(struct setup){.size = SIZE, .writable = true});
	int fd = open_checked(s.file, O_RDWR);
	uint8_t *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	memset(p + 50000, 0x5a, 60000);
	CHECK_EQ(msync(p, SIZE, MS_SYNC), 0);
	CHECK_EQ(s.control->bytes[50000], 0x5a);
	CHECK_EQ(s.control->bytes[109999], 0x5a);
	check_pattern(s.control->bytes + 110000, 10000, 110000);
	munmap(p, SIZE);
	close(fd);
	server_stop(&s);
}

static void unsynced_writes_survive_an_unmount(void)
{
	struct server s;
	server_start(&s, "late-write", &(struct setup){.size = SIZE, .writable = true});
	struct control *c = s.control;
	int fd = open_checked(s.file, O_WRONLY);
	CHECK_EQ(pwrite(fd, "late", 4, 12345), 4);
	close(fd);
	server_send(&s, ASK_STOP_LAZY);
	CHECK_EQ(server_answer(&s), 0);
	CHECK_EQ(server_answer(&s), 0); /* stop and serve */
	close(s.command);
	char byte;
	CHECK_EQ(read(s.reply, &byte, 1), 0); /* the mount is closed: all is pushed */
	CHECK(!memcmp(c->bytes + 12345, "late", 4));
	s.command = -1;
	CHECK_EQ(server_join(&s), 0);
}

static void the_size_is_fixed(void)
{
	struct server s;
	server_start(&s, "fixed", &(struct setup){.size = SIZE, .writable = true});
	CHECK_EQ(open(s.file, O_WRONLY | O_TRUNC), -1);
	CHECK_EQ(errno, EPERM);
	int fd = open_checked(s.file, O_RDWR);
	CHECK_EQ(ftruncate(fd, SIZE), 0);
	CHECK_EQ(ftruncate(fd, SIZE - 1), -1);
	CHECK_EQ(errno, EPERM);
	CHECK_EQ(ftruncate(fd, SIZE + 1), -1);
	CHECK_EQ(errno, EPERM);
	CHECK_EQ(fallocate(fd, 0, 0, SIZE * 2), -1);
	CHECK_EQ(errno, EOPNOTSUPP);
	struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000, .tv_nsec = 5}};
	CHECK_EQ(futimens(fd, times), 0);
	struct stat st;
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_mtim.tv_sec, 2000);
	CHECK_EQ(st.st_mtim.tv_nsec, 5);
	CHECK_EQ(fchmod(fd, 0600), -1);
	CHECK_EQ(errno, EPERM);
	close(fd);
	server_stop(&s);
}

/* time() may be a tick behind, and so a second. */
static time_t real_now_s(void)
{
	struct timespec t;
	CHECK_EQ(clock_gettime(CLOCK_REALTIME, &t), 0);
	return t.tv_sec;
}

/* What is put right through the mount point makes events there. */
static int watch(const char *path)
{
	int fd = inotify_init1(IN_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(inotify_add_watch(fd, path, IN_ATTRIB | IN_MODIFY) >= 0);
	return fd;
}

static void wait_for_event(int fd)
{
	char events[4096];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	CHECK_EQ(poll(&p, 1, 10000), 1);
	CHECK(read(fd, events, sizeof events) > 0);
}

/* events: watched since before what makes it new. */
static void wait_until_new(const struct server *s, time_t began, int events)
{
	struct stat st;
	CHECK_EQ(stat(s->file, &st), 0);
	while (st.st_mtim.tv_sec < began) {
		wait_for_event(events);
		CHECK_EQ(stat(s->file, &st), 0);
	}
	CHECK(st.st_mtim.tv_sec <= real_now_s());
}

/* Of a file that is the mount's root, and of one in a folder. */
static void a_file_has_its_date(const char *name, struct setup setup)
{
	struct server s;
	struct stat st;
	const struct timespec date = {.tv_sec = 784111777, .tv_nsec = 5};
	const time_t began = time(NULL);
	setup.size = SIZE;
	server_start(&s, name, &setup); /* it does not know when it was changed */
	CHECK_EQ(stat(s.file, &st), 0);
	CHECK(st.st_mtim.tv_sec >= began && st.st_mtim.tv_sec <= real_now_s());
	server_stop(&s);
	setup.modified_ns = date.tv_sec * INT64_C(1000000000) + date.tv_nsec;
	server_start(&s, name, &setup);
	CHECK_EQ(stat(s.file, &st), 0);
	CHECK(st.st_mtim.tv_sec == date.tv_sec && st.st_mtim.tv_nsec == date.tv_nsec);
	CHECK(st.st_ctim.tv_sec >= began);
	if (setup.writable) {
		int events = watch(s.file);
		int fd = open_checked(s.file, O_WRONLY);
		CHECK_EQ(pwrite(fd, "x", 1, 5), 1);
		close(fd);
		wait_until_new(&s, began, events);
		/* A program that sets a date after it has written, as cp -p does, has its way. */
		for (int i = 0; i < 20; i++) {
			const struct timespec times[2] = {date, date};
			fd = open_checked(s.file, O_WRONLY);
			CHECK_EQ(pwrite(fd, "y", 1, i), 1);
			CHECK_EQ(futimens(fd, times), 0);
			close(fd);
			CHECK_EQ(stat(s.file, &st), 0);
			CHECK_EQ(st.st_mtim.tv_sec, date.tv_sec);
		}
		/* And one that goes on writing need not close it: a second after the last time. */
		usleep(1100000);
		CHECK_EQ(stat(s.file, &st), 0);
		CHECK_EQ(st.st_mtim.tv_sec, date.tv_sec);
		fd = open_checked(s.file, O_WRONLY);
		CHECK_EQ(pwrite(fd, "z", 1, 5), 1);
		CHECK_EQ(fsync(fd), 0);
		wait_until_new(&s, began, events);
		close(fd);
		close(events);
	}
	server_stop(&s);
}

static void files_have_their_dates(void)
{
	a_file_has_its_date("date", (struct setup){0});
	a_file_has_its_date("date-written", (struct setup){.writable = true});
	a_file_has_its_date("date-direct", (struct setup){.writable = true, .direct = true});
	a_file_has_its_date("date-folder", (struct setup){.folder_files = 2});
	a_file_has_its_date("date-folder-written",
	                    (struct setup){.folder_files = 2, .writable = true});
}

/* The kernel caches the write and shows a longer file, until we have put that right. */
static void a_cached_write_past_the_end_fails_at_fsync(const char *name, size_t folder_files)
{
	struct server s;
	server_start(&s, name,
	             &(struct setup){.size = SIZE, .writable = true, .folder_files = folder_files});
	int fd = open_checked(s.file, O_RDWR), events = watch(s.file);
	char own[10000];
	memset(own, 1, sizeof own);
	CHECK_EQ(pwrite(fd, own, sizeof own, SIZE - 100), sizeof own);
	CHECK_EQ(fsync(fd), -1);
	CHECK_EQ(errno, ENOSPC);
	struct stat st;
	CHECK_EQ(fstat(fd, &st), 0);
	while (st.st_size != SIZE) {
		wait_for_event(events);
		CHECK_EQ(fstat(fd, &st), 0);
	}
	close(events);
	CHECK_EQ(fsync(fd), 0);
	check_pattern(s.control->bytes, SIZE - 100, 0);
	CHECK_EQ(s.control->bytes[SIZE - 100], 1); /* what was within is written */
	CHECK_EQ(s.control->bytes[SIZE - 1], 1);
	check_range(fd, SIZE + 10, 10, 0);
	close(fd);
	server_stop(&s);
}

static void a_file_cannot_grow(void)
{
	a_cached_write_past_the_end_fails_at_fsync("grow-file", 0);
}

static void a_file_in_a_folder_cannot_grow(void)
{
	a_cached_write_past_the_end_fails_at_fsync("grow-folder", 1);
}

static void *read_all_over(void *arg)
{
	const char *path = arg;
	int fd = open_checked(path, O_RDONLY);
	unsigned seed = (unsigned)(uintptr_t)&fd;
	for (int i = 0; i < 300; i++) {
		uint64_t offset = (uint64_t)rand_r(&seed) % SIZE;
		size_t len = (size_t)rand_r(&seed) % 20000 + 1;
		check_range(fd, offset, len, offset + len > SIZE ? SIZE - offset : len);
	}
	close(fd);
	return NULL;
}

static void many_threads_read(void)
{
	struct server s;
	server_start(&s, "threads", &(struct setup){.size = SIZE, .no_passthrough = true});
	pthread_t threads[16];
	for (int i = 0; i < 16; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, read_all_over, s.file), 0);
	for (int i = 0; i < 16; i++)
		pthread_join(threads[i], NULL);
	server_stop(&s);
}

static void local_files_pass_through(void)
{
	struct server s;
	server_start(&s, "through", &(struct setup){.size = SIZE});
	int cached = open_checked(s.file, O_RDONLY);
	check_range(cached, 0, 10, 10);
	CHECK_EQ(server_ask(&s, ASK_PULL), 0);
	int also_cached = open_checked(s.file, O_RDONLY); /* must not, while `cached` is open */
	check_range(also_cached, 1 << 20, 10, 10);
	close(cached);
	close(also_cached);
	/* RELEASE is not waited for by close(): open until one passes, which some kernels never do.
	 */
	int reads = -1, before = -2, fd = -1;
	for (int i = 0; i < 100 && reads != before; i++) {
		usleep(1000);
		fd = open_checked(s.file, O_RDONLY);
		before = server_ask(&s, ASK_READS);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		check_range(fd, 0, SIZE, SIZE);
		reads = server_ask(&s, ASK_READS);
		if (reads != before)
			close(fd);
	}
	if (reads != before) {
		printf("    (this kernel has no passthrough, or not for us)\n");
	} else {
		uint8_t *p = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
		CHECK(p != MAP_FAILED);
		check_pattern(p, SIZE, 0);
		int second = open_checked(s.file, O_RDONLY);
		check_range(second, 5000, 5000, 5000);
		CHECK_EQ(server_ask(&s, ASK_READS), reads);
		close(second);
		munmap(p, SIZE);
		close(fd);
	}
	server_stop(&s);
}

static void stored_bytes_need_no_reads(void)
{
	struct server s;
	server_start(&s, "store", &(struct setup){.size = SIZE, .no_passthrough = true});
	int fd = open_checked(s.file, O_RDONLY);
	CHECK_EQ(server_ask(&s, ASK_STORE), 0);
	check_range(fd, 0, SIZE, SIZE);
	CHECK_EQ(server_ask(&s, ASK_READS), 0);
	close(fd);
	server_stop(&s);
}

static void tests(void)
{
	RUN(a_file_has_its_bytes);
	RUN(a_second_open_needs_no_reads);
	RUN(it_can_be_mapped);
	RUN(direct_io_works);
	RUN(a_folder_lists_its_files);
	RUN(writes_to_a_managed_mount_arrive);
	RUN(writes_to_a_direct_mount_arrive);
	RUN(mapped_writes_arrive);
	RUN(unsynced_writes_survive_an_unmount);
	RUN(the_size_is_fixed);
	RUN(files_have_their_dates);
	RUN(a_file_cannot_grow);
	RUN(a_file_in_a_folder_cannot_grow);
	RUN(many_threads_read);
	RUN(local_files_pass_through);
	RUN(stored_bytes_need_no_reads);
}

int main(void)
{
	return run_in_scratch(tests);
}
