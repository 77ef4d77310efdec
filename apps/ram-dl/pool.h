/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is larger than this machine's, for the program that `ram-dl run` runs.
 *
 *     the program: malloc, mmap, free ...          read, write ... of such memory
 *        |                                            |
 *     hook.c, maps.c   which calls are for large areas     bounce.c   where the kernel must not
 * fault
 *        |
 *     pool.c   a slice over a mount over the server; lease.c says whose part of it is whose
 *
 * They, and fds.c, are preloaded into every program that is started (ram-dl-hook.so). They load
 * pool.c with all of hither (ram-dl-pool.so) when the first large area is asked for, so that small
 * programs pay nothing. What the pool itself allocates must not come from the pool: its threads
 * call inner() when they begin, and hook.c sees that on whatever thread the pool is called.
 */
#ifndef RAM_DL_RUN_POOL_H
#define RAM_DL_RUN_POOL_H

#include <stdbool.h>
#include <stddef.h>

/* What `ram-dl run` tells its program's processes, by their environment. */
#define RUN_DIR "RAM_DL_RUN_DIR"       /* folder: leases, and a note a process */
#define RUN_POOL "RAM_DL_RUN_POOL"     /* path of ram-dl-pool.so */
#define RUN_URL "RAM_DL_RUN_URL"       /* the server */
#define RUN_CLAIM "RAM_DL_RUN_CLAIM"   /* the id of claim.h, in hexadecimal digits */
#define RUN_MIRROR "RAM_DL_RUN_MIRROR" /* a second one; unset: none */
#define RUN_SIZE "RAM_DL_RUN_SIZE"     /* bytes of it, as the rest */
#define RUN_LIMIT "RAM_DL_RUN_LIMIT"   /* that stay in memory, a process */
#define RUN_ABOVE "RAM_DL_RUN_ABOVE"   /* least area */
#define RUN_CHUNK "RAM_DL_RUN_CHUNK"   /* what a fault brings */
#define RUN_CONNECTIONS "RAM_DL_RUN_CONNECTIONS"
#define RUN_DEADLINE_MS "RAM_DL_RUN_DEADLINE_MS"
#define RUN_CA "RAM_DL_RUN_CA"
#define RUN_CERT "RAM_DL_RUN_CERT"
#define RUN_KEY "RAM_DL_RUN_KEY"
#define RUN_PACK "RAM_DL_RUN_PACK"               /* lz4 or zstd; unset: neither */
#define RUN_ENCRYPT "RAM_DL_RUN_ENCRYPT"         /* set: yes */
#define RUN_USER_FAULTS "RAM_DL_RUN_USER_FAULTS" /* set: as where the kernel may not fault */

struct pool {
	char *data;
	size_t size;
	bool kernel_faults; /* system calls may be given this memory */
	/* Any thread, from outside of the pool. */
	/* Zeros. NULL and errno: ENOMEM, there is no room. */
	void *(*take)(size_t len, size_t align);
	/* The same to move the `has` bytes at p to, which go on growing. p is given back. */
	void *(*move)(void *p, size_t has, size_t len);
	void (*give)(void *p, size_t len); /* len 0: all of it */
	size_t (*length)(const void *p);   /* from p to the end of what was taken */
	/* Make the area at p, or what its first `old` bytes are (0: all of it), len bytes where it
	 * is; what is new is zeros, if old is not 0. False: there is no room. */
	bool (*resize)(void *p, size_t old, size_t len);
	/* Some of the memory has been made inaccessible; whoever takes it next gets it as it was.
	 */
	void (*guard)(void);
	void (*clear)(void *p, size_t len); /* zeros again */
	/* Why memory cannot be had, one line. */
	void (*why)(char *text, size_t size);
	/* Why an area of len bytes could not be taken, one line. */
	void (*full)(size_t len, char *text, size_t size);
	/* In a child that was forked: it does not have this memory. */
	void (*forked)(void);
};

/* NULL: why says why. inner: what the pool's threads call first. */
#define POOL_START "ram_dl_pool_start"
typedef const struct pool *pool_start_fn(void (*inner)(void), char *why, size_t size);
pool_start_fn ram_dl_pool_start;

#endif
