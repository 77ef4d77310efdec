/* SPDX-License-Identifier: Apache-2.0 */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* Connections, files and pipes of a mount: the fewest that it can work with, and what it may
 * like. */
enum { FILES_LEAST = 64, FILES_WANTED = 1024 };

enum {
	SMALL_STACK = 512 << 10,
	SPACE_LEAST = 24 << 20, /* the daemon's own threads, requests of the kernel, one worker */
	SPACE_WORKER = 1536 << 10, /* its stack, its connection and their buffers */
	WORKERS_USUAL = 32,
	FILES_FEW = 256,
};

/* Opened the wrong way around: using one fails as it does with a closed one. */
static bool take_standard(int fd)
{
	if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
		return true;
	return open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) == fd;
}

static rlim_t files_allowed(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files))
		return FILES_WANTED;
	if (files.rlim_cur < FILES_WANTED && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
		setrlimit(RLIMIT_NOFILE, &files);
		getrlimit(RLIMIT_NOFILE, &files);
	}
	return files.rlim_cur;
}

bool start_has_few_files(void)
{
	return files_allowed() < FILES_FEW;
}

/* --- address space --- */

/* What is left of it; UINT64_MAX: there is no limit. */
static uint64_t space_left(void)
{
	struct rlimit space;
	unsigned long pages = 0;
	if (getrlimit(RLIMIT_AS, &space) || space.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	FILE *statm = fopen("/proc/self/statm", "re");
	if (!statm || fscanf(statm, "%lu", &pages) != 1)
		pages = 0;
	if (statm)
		fclose(statm);
	uint64_t used = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return used < space.rlim_cur ? space.rlim_cur - used : 0;
}

/* 8 MiB of stack and a heap of 64 MiB for each thread are no matter, until space is limited. */
static void make_threads_small(void)
{
	pthread_attr_t attr;
	if (space_left() == UINT64_MAX || pthread_attr_init(&attr))
		return;
	if (!pthread_attr_setstacksize(&attr, SMALL_STACK))
		pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
	mallopt(M_ARENA_MAX, 1);
}

int start_fit_space(uint32_t *workers, struct hither_error *err)
{
	uint64_t left = space_left(),
	         most = left < SPACE_LEAST ? 0 : 1 + (left - SPACE_LEAST) / SPACE_WORKER;
	if (left == UINT64_MAX)
		return 0;
	if (!most)
		return hither_fail(
		        err, -ENOMEM,
		        "only %llu MiB of address space are left (ulimit -v), at least %d MiB "
		        "are needed: ulimit -v unlimited",
		        (unsigned long long)left >> 20, SPACE_LEAST >> 20);
	if (!*workers || *workers > most)
		*workers = most < WORKERS_USUAL ? (uint32_t)most
		           : *workers           ? *workers
		                                : WORKERS_USUAL;
	return 0;
}

bool start_process(const char *name)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG says it, too: the cache is full then */
	make_threads_small();
	bool standard = take_standard(STDIN_FILENO) && take_standard(STDOUT_FILENO) &&
	                take_standard(STDERR_FILENO);
	rlim_t files = files_allowed();
	if (standard && files >= FILES_LEAST)
		return true;
	fprintf(stderr,
	        "%s: only %llu files may be open at a time, at least %d are needed: ulimit -n %d\n",
	        name, (unsigned long long)files, FILES_LEAST, FILES_WANTED);
	return false;
}

void start_end_by_pipe(void)
{
	struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
	sigset_t pipe;
	if (poll(&out, 1, 0) <= 0 || !(out.revents & POLLERR))
		return;
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, &pipe, NULL);
	raise(SIGPIPE);
}
