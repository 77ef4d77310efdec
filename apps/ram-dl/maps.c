/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings. Of the program's those that are private memory, to read and write, wherever there is
 * room, come from the pool; what it does later to them, or to a part, is done here as the kernel
 * would, since to the kernel the pool is one shared mapping. The pool's own calls go to the kernel.
 */
#include "hook.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FIRST_NEW_ADVICE = 100 }; /* poison, guards: not of this memory */

static size_t round_up(size_t len)
{
	return (len + HOOK_PAGE - 1) / HOOK_PAGE * HOOK_PAGE;
}

static bool is_page(const void *p)
{
	return (uintptr_t)p % HOOK_PAGE == 0;
}

/* The part of [p, p + len) that is the pool's; false: none is. */
static bool clip(void *p, size_t len, char **from, size_t *out)
{
	const struct pool *pool = hook_pool();
	if (!pool || hook_inner)
		return false;
	char *begin = p, *end = begin + round_up(len);
	char *last = pool->data + pool->size;
	if (begin >= last || end <= pool->data || end < begin)
		return false;
	*from = begin > pool->data ? begin : pool->data;
	*out = (size_t)((end < last ? end : last) - *from);
	return true;
}

static void *plain_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd,
	                       offset); /* NOLINT: an address */
}

static int plain_mprotect(void *p, size_t len, int prot)
{
	return (int)syscall(SYS_mprotect, p, len, prot);
}

/* Mapped anew where it is: zeros. Of anything else there would be no way back into the pool. */
static void *map_over(void *p, size_t len, int prot, int flags)
{
	const struct pool *pool = hook_pool();
	char *from;
	size_t part;
	const int kind = MAP_PRIVATE | MAP_ANONYMOUS;
	if (!is_page(p) || !len) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	if (!clip(p, len, &from, &part) || from != p || part != round_up(len) ||
	    (flags & (kind | MAP_SHARED)) != kind) {
		hook_say("something was to be mapped over memory of the server: refused");
		errno = ENOMEM;
		return MAP_FAILED;
	}
	hook_inner++;
	pool->clear(p, part);
	hook_inner--;
	if (prot != (PROT_READ | PROT_WRITE))
		pool->guard();
	return plain_mprotect(p, part, prot) ? MAP_FAILED : p;
}

HOOK void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	const int kind = MAP_PRIVATE | MAP_ANONYMOUS;
	const int harmless = MAP_POPULATE | MAP_NONBLOCK | MAP_NORESERVE;
	char *from;
	size_t part;
	if (!addr && fd == -1 && (flags & ~harmless) == kind && prot == (PROT_READ | PROT_WRITE) &&
	    hook_wanted(len)) {
		void *p = hook_take(len, 1);
		return p ? p : MAP_FAILED;
	}
	if ((flags & MAP_FIXED) && clip(addr, len, &from, &part))
		return map_over(addr, len, prot, flags);
	return plain_mmap(addr, len, prot, flags, fd, offset);
}

HOOK void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return mmap(addr, len, prot, flags, fd, offset);
}

static int plain_munmap(char *from, const char *to)
{
	return from < to ? (int)syscall(SYS_munmap, from, (size_t)(to - from)) : 0;
}

HOOK int munmap(void *p, size_t len)
{
	char *from, *begin = p;
	size_t part;
	if (!hook_inner && hook_is_ours(p) && !hook_pool())
		return 0; /* a child does not have it */
	if (!clip(p, len, &from, &part))
		return (int)syscall(SYS_munmap, p, len);
	if (!is_page(p) || !len)
		return errno = EINVAL, -1;
	hook_give(from, part);
	return plain_munmap(begin, from) | plain_munmap(from + part, begin + round_up(len));
}

/* Whoever gets the pages next can use them: the pool undoes it then. */
HOOK int mprotect(void *p, size_t len, int prot)
{
	char *from;
	size_t part;
	if (prot != (PROT_READ | PROT_WRITE) && clip(p, len, &from, &part))
		hook_pool()->guard();
	return plain_mprotect(p, len, prot);
}

static void *mremap_ours(void *p, size_t old, size_t size, int flags)
{
	const struct pool *pool = hook_pool();
	if (!pool || flags & ~MREMAP_MAYMOVE || !size || !old || !is_page(p)) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	hook_inner++;
	bool done = pool->resize(p, round_up(old), round_up(size));
	hook_inner--;
	if (done)
		return p;
	void *to = flags & MREMAP_MAYMOVE ? hook_move(p, round_up(old), size) : NULL;
	if (to)
		return to;
	errno = ENOMEM;
	return MAP_FAILED;
}

HOOK void *mremap(void *p, size_t old, size_t size, int flags, ...)
{
	va_list ap;
	char *from;
	size_t part;
	va_start(ap, flags);
	void *to = flags & MREMAP_FIXED ? va_arg(ap, void *) : NULL;
	va_end(ap);
	if (!hook_inner && hook_is_ours(p))
		return mremap_ours(p, old, size, flags);
	if (to && clip(to, size, &from, &part)) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mremap, p, old, size, flags, to); /* NOLINT: an address */
}

/* The region is shared memory: advice that drops private pages must be done by hand. */
HOOK int madvise(void *p, size_t len, int advice)
{
	char *from;
	size_t part;
	if (!clip(p, len, &from, &part))
		return hook_is_ours(p) && !hook_inner ? 0
		                                      : (int)syscall(SYS_madvise, p, len, advice);
	if (!is_page(p) || advice >= FIRST_NEW_ADVICE)
		return errno = EINVAL, -1;
	if (advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_REMOVE) {
		hook_inner++;
		hook_pool()->clear(from, part);
		hook_inner--;
	}
	return 0;
}
