/* SPDX-License-Identifier: Apache-2.0 */
/* Locals that own something say so in their declaration, so that any `return` is correct. */
#ifndef HITHER_BASE_CLEANUP_H
#define HITHER_BASE_CLEANUP_H

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

static inline void hither_cleanup_free(void *p)
{
	free(*(void **)p);
}
static inline void hither_cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void hither_cleanup_unlock(pthread_mutex_t **lock)
{
	if (*lock)
		pthread_mutex_unlock(*lock);
}

#define HITHER_FREE __attribute__((cleanup(hither_cleanup_free)))
#define HITHER_CLOSE __attribute__((cleanup(hither_cleanup_close)))

#define HITHER_PASTE_(a, b) a##b
#define HITHER_PASTE(a, b) HITHER_PASTE_(a, b)
/* Hold a mutex until the end of the enclosing scope. */
#define HITHER_LOCK_SCOPE(mutex)                                                                   \
	__attribute__((cleanup(hither_cleanup_unlock), unused)) pthread_mutex_t *HITHER_PASTE(     \
	        hither_held_, __LINE__) = hither_lock_taken(mutex)
static inline pthread_mutex_t *hither_lock_taken(pthread_mutex_t *lock)
{
	pthread_mutex_lock(lock);
	return lock;
}

/* Hand a local over: its value, leaving `empty` behind. */
#define HITHER_TAKE(local, empty)                                                                  \
	__extension__({                                                                            \
		__typeof__(local) hither_taken_ = (local);                                         \
		(local) = (empty);                                                                 \
		hither_taken_;                                                                     \
	})

/* The struct of type `type` whose member `member` is at `ptr`. */
#define HITHER_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
