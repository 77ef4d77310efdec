/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is preloaded. hook.c: the allocator, and the pool's life; maps.c: mappings; bounce.c: system
 * calls; fds.c: descriptors.
 */
#ifndef RAM_DL_RUN_HOOK_H
#define RAM_DL_RUN_HOOK_H

#include "pool.h"

#include <stdbool.h>
#include <stddef.h>

/* What the program calls; all else in here is hidden. */
#define HOOK __attribute__((visibility("default")))

/* The next one of that name: the C library's. */
#define REAL(name, failure)                                                                        \
	static __typeof__(name) *real;                                                             \
	if (!real)                                                                                 \
		real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                                \
	if (!real)                                                                                 \
	return errno = ENOSYS, failure

enum { HOOK_PAGE = 4096 };

/* Not 0: this thread is in the pool, whose calls go where they always went. */
extern __thread int hook_inner __attribute__((tls_model("initial-exec")));

/* NULL: there is none yet, or this is a child that does not have it. */
const struct pool *hook_pool(void);
bool hook_is_ours(const void *p);
/* Memory of the pool that the kernel must not be given. */
bool hook_must_bounce(const void *p);
/* Is an area of this size the pool's? Starts the pool for the first one. */
bool hook_wanted(size_t size);
/* See struct pool; NULL: there is no room, which has been told, and errno is set. */
void *hook_take(size_t size, size_t align);
void *hook_move(void *p, size_t old, size_t size);
void hook_give(void *p, size_t len);
/* A line on standard error. */
void hook_say(const char *text);

/* Until false: the pool's next descriptors get numbers that programs do not choose. */
void hook_fds_raise(bool on);
/* Which descriptors the pool has opened; hook_inner or not. */
void hook_fds_find(void);

/* glibc's own, under names that nobody interposes. */
void *__libc_malloc(size_t size);
void __libc_free(void *p);

#endif
