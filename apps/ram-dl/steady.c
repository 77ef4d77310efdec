/* SPDX-License-Identifier: Apache-2.0 */
#include "steady.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57 /* include/uapi/linux/prctl.h, Linux 5.6 */
#define PR_GET_IO_FLUSHER 58
#endif

enum { STACK_BYTES = 512 << 10 }; /* locked, all of it, for each thread */

/* Threads that start later are made like the one that starts them. */
static void make_small_and_steady_threads(void)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
	/* steady_protect() tells what could not be had. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	/* Real-time tasks get at half of the memory that is kept for emergencies
	 * (gfp_to_alloc_flags() of Linux): else, with none left, they would wait for what their own
	 * paging is to free. */
	pthread_setschedparam(pthread_self(), SCHED_RR, &(struct sched_param){.sched_priority = 1});
}

int steady_lock(size_t reserve_bytes, struct hither_error *err)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		return hither_fail(
		        err, -errno,
		        "lock memory: %s: run it as root, or raise the limit (ulimit -l)",
		        strerror(errno));
	/* One heap for all threads, that neither shrinks nor is left for mappings. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, -1);
	mallopt(M_MMAP_MAX, 0);
	AUTO_FREE char *reserve = malloc(reserve_bytes + 1);
	if (!reserve)
		return hither_fail(err, -ENOMEM, "no memory to reserve");
	memset(reserve, 1, reserve_bytes + 1);
	__asm__ volatile("" : : "r"(reserve) : "memory"); /* it is not for nothing */
	make_small_and_steady_threads();
	return 0;
}

static bool write_text(const char *path, const char *text)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

void steady_protect(char *missing, size_t size)
{
	bool score = write_text("/proc/self/oom_score_adj", "-1000");
	bool flusher = prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1;
	int policy = SCHED_OTHER;
	struct sched_param param;
	pthread_getschedparam(pthread_self(), &policy, &param);
	snprintf(missing, size, "%s%s%s%s%s",
	         score ? "" : "the OOM killer may choose it (no right to lower oom_score_adj)",
	         !score && !flusher ? "; " : "",
	         flusher ? ""
	                 : "its allocations may wait for paging (PR_SET_IO_FLUSHER needs "
	                   "CAP_SYS_RESOURCE)",
	         (!score || !flusher) && policy != SCHED_RR ? "; " : "",
	         policy == SCHED_RR ? ""
	                            : "no memory is kept for it when there is none left (SCHED_RR "
	                              "needs CAP_SYS_NICE)");
}

void steady_stand_aside(void)
{
	prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
	pthread_setschedparam(pthread_self(), SCHED_OTHER, &(struct sched_param){0});
}
