/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program may do to its memory and descriptors, for ram-dl run: each part checks that the
 * outcome is the kernel's. usage: maps PART; see main(). Children die of their parent's memory, as
 * they should there.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, MIB = 1 << 20 };

static unsigned char *map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static unsigned char value(size_t i)
{
	return (unsigned char)(i * 2654435761u >> 13);
}

static void fill(unsigned char *p, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		p[i] = value(i);
}

static void check(const unsigned char *p, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (p[i] != value(i))
			CHECK_EQ(p[i], value(i));
}

static void check_zeros(const unsigned char *p, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (p[i])
			CHECK_EQ(p[i], 0);
}

/* Everything that it has not opened itself is closed, and its next files get the free numbers. */
static void descriptors(void)
{
	enum { LEN = 64 * MIB };
	unsigned char *p = malloc(LEN);
	char path[] = "/tmp/hither-maps-XXXXXX";
	fill(p, 0, LEN);
	closefrom(3);
	for (int fd = 3; fd < 64; fd++)
		close(fd);
	CHECK_EQ(close_range(3, 2, 0), -1);
	int file = mkstemp(path);
	CHECK(file >= 0 && !unlink(path));
	for (int i = 0; i < 32; i++)
		CHECK(dup(file) >= 0);
	for (int fd = 3; fd < 64; fd++) /* a number of its choice */
		CHECK_EQ(dup2(file, fd), fd);
	for (int fd = 64; fd < 300; fd++)
		CHECK(dup2(file, fd) == fd || errno == EBUSY);
	check(p, 0, LEN);
	CHECK_EQ(lseek(file, 0, SEEK_END), 0);
}

/* Pages that cannot be touched, in the middle of what a fault brings; and whoever gets them next.
 */
static void guards(void)
{
	for (int i = 0; i < 3; i++) {
		unsigned char *p = map(24 * MIB);
		fill(p, 0, 24 * MIB);
		CHECK_EQ(mprotect(p + MIB + PAGE, PAGE, PROT_NONE), 0);
		CHECK_EQ(mprotect(p + 3 * MIB, MIB, PROT_READ), 0);
		check(p, 0, MIB + PAGE);
		check(p, MIB + 2 * PAGE, 24 * MIB);
		CHECK_EQ(munmap(p, 24 * MIB), 0);
	}
	unsigned char *p = malloc(100 * MIB);
	fill(p, 0, 100 * MIB);
	check(p, 0, 100 * MIB);
	free(p);
}

static void mapped_over(void)
{
	unsigned char *p = map(8 * MIB);
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	fill(p, 0, 8 * MIB);
	CHECK(mmap(p + MIB, 3 * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == p + MIB);
	CHECK(mmap(p + 2 * MIB, MIB, PROT_NONE, flags, -1, 0) == p + 2 * MIB);
	CHECK(mmap(p + 2 * MIB, MIB, PROT_READ | PROT_WRITE, flags, -1, 0) == p + 2 * MIB);
	check(p, 0, MIB);
	check_zeros(p, MIB, MIB + 3 * PAGE);
	check(p, MIB + 3 * PAGE, 2 * MIB);
	check_zeros(p, 2 * MIB, 3 * MIB);
	check(p, 3 * MIB, 8 * MIB);
	int fd = memfd_create("maps", 0);
	CHECK(fd >= 0 && !ftruncate(fd, MIB));
	CHECK(mmap(p, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED);
	check(p, 0, MIB);
	CHECK_EQ(munmap(p, 8 * MIB), 0);
}

/* What is given back leaves nothing behind, however it was taken: 60 MiB at a time out of 64. */
static void given_back(void)
{
	for (int i = 0; i < 40; i++) {
		const size_t p_len = 30 * MIB + PAGE, q_len = 29 * MIB + 3 * PAGE;
		unsigned char *p = map(p_len), *q = map(q_len);
		CHECK(p && q);
		p[p_len - 1] = q[q_len - 1] = 1;
		unsigned char *low = p < q ? p : q, *end = p < q ? q + q_len : p + p_len;
		CHECK_EQ(munmap(low, (size_t)(end - low)), 0); /* both, and what is between them */
	}
	for (int i = 0; i < 1100; i++) {
		unsigned char *p = map(2 * MIB + PAGE);
		CHECK(p != NULL);
		CHECK_EQ(munmap(p, 2 * MIB + PAGE), 0);
	}
	unsigned char *p = map(60 * MIB);
	CHECK(p != NULL);
	check_zeros(p, 0, 60 * MIB);
}

/* A part grows: what is behind it stays. One shrinks and grows: what is new is zeros. */
static void parts_move(void)
{
	unsigned char *p = map(16 * MIB);
	fill(p, 0, 16 * MIB);
	unsigned char *q = mremap(p, 4 * MIB, 8 * MIB, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q != p);
	check(q, 0, 4 * MIB);
	check_zeros(q, 4 * MIB, 8 * MIB);
	check(p, 4 * MIB, 16 * MIB);
	CHECK(mremap(p + 8 * MIB, 4 * MIB, 6 * MIB, 0) == MAP_FAILED && errno == ENOMEM);
	CHECK(mremap(q, 8 * MIB, 4 * MIB - 3 * PAGE, MREMAP_MAYMOVE) == q);
	unsigned char *r = mremap(q, 4 * MIB - 3 * PAGE, 5 * MIB, MREMAP_MAYMOVE);
	CHECK(r != MAP_FAILED);
	check(r, 0, 4 * MIB - 3 * PAGE);
	check_zeros(r, 4 * MIB - 3 * PAGE, 5 * MIB);
}

static void advice(void)
{
	unsigned char *p = map(8 * MIB);
	fill(p, 0, 8 * MIB);
	CHECK_EQ(madvise(p + PAGE, 100, MADV_DONTNEED), 0);
	check(p, 0, PAGE);
	check_zeros(p, PAGE, 2 * PAGE);
	check(p, 2 * PAGE, 8 * MIB);
	CHECK(madvise(p + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
	CHECK(munmap(p + 1, PAGE) == -1 && errno == EINVAL);
	check(p, 2 * PAGE, 8 * MIB);
}

/* Run beside an allocator whose this is not. */
static void usable(void)
{
	void *small = malloc(100), *large = malloc(8 * MIB);
	CHECK(malloc_usable_size(small) >= 100 && malloc_usable_size(small) < 1000);
	CHECK(malloc_usable_size(large) >= 8 * MIB);
	free(small);
	free(large);
}

/* How a forked child ends that does `what` with its parent's memory. */
static int fork_and(int (*what)(unsigned char *))
{
	unsigned char *p = malloc(8 * MIB);
	int status;
	fill(p, 0, 8 * MIB);
	pid_t pid = fork();
	if (!pid)
		_exit(what(p));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	check(p, 0, 8 * MIB);
	return status;
}

static int touch(unsigned char *p)
{
	return p[5];
}

static void child(void)
{
	int status = fork_and(touch);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void on_segv(int number)
{
	_exit(7);
}

/* Whose parent has a handler of its own, as many interpreters do. */
static void child_with_handler(void)
{
	signal(SIGSEGV, on_segv);
	int status = fork_and(touch);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static int print(unsigned char *p)
{
	int fds[2];
	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(write(fds[1], p, 100), -1);
	return errno == EFAULT ? 9 : 0;
}

static void child_by_the_kernel(void)
{
	int status = fork_and(print);
	/* Where the kernel may not fault, a copy of it is what would be written. */
	CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGSEGV : WEXITSTATUS(status) == 9);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {{"descriptors", descriptors},
	             {"guards", guards},
	             {"mapped-over", mapped_over},
	             {"given-back", given_back},
	             {"parts", parts_move},
	             {"advice", advice},
	             {"usable", usable},
	             {"child", child},
	             {"child-with-handler", child_with_handler},
	             {"child-by-the-kernel", child_by_the_kernel}};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (argc == 2 && !strcmp(argv[1], parts[i].name))
			return parts[i].run(), 0;
	return 2;
}
