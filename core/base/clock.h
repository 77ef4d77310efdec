/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HITHER_BASE_CLOCK_H
#define HITHER_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define HITHER_NS_PER_MS UINT64_C(1000000)
#define HITHER_NS_PER_S UINT64_C(1000000000)

/* Monotonic nanoseconds. */
static inline uint64_t hither_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * HITHER_NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline struct timespec hither_timespec(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / HITHER_NS_PER_S),
	                         .tv_nsec = (long)(ns % HITHER_NS_PER_S)};
}

#endif
