/* SPDX-License-Identifier: Apache-2.0 */
/* Locals that own something say so; the command sees no header of core/base. */
#ifndef HITHER_APPS_UTIL_H
#define HITHER_APPS_UTIL_H

#include <hither/error.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static inline void util_cleanup_free(void *p)
{
	free(*(void **)p);
}
static inline void util_cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define AUTO_FREE __attribute__((cleanup(util_cleanup_free)))
#define AUTO_CLOSE __attribute__((cleanup(util_cleanup_close)))

/* Hand a local over: its value, leaving `empty` behind. */
#define TAKE(local, empty)                                                                         \
	__extension__({                                                                            \
		__typeof__(local) taken_ = (local);                                                \
		(local) = (empty);                                                                 \
		taken_;                                                                            \
	})

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define NS_PER_S UINT64_C(1000000000)

/* Monotonic nanoseconds. */
static inline uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* When so many milliseconds have passed, for pthread_cond_timedwait() and its like. */
static inline struct timespec in_ms(unsigned ms)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	uint64_t ns = (uint64_t)t.tv_nsec + ms * (NS_PER_S / 1000);
	return (struct timespec){.tv_sec = t.tv_sec + (time_t)(ns / NS_PER_S),
	                         .tv_nsec = (long)(ns % NS_PER_S)};
}

#endif
