/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded: allocations from a certain size on come from the pool, all others from where they
 * always came. It must not allocate, print by stdio or take a lock of the program's.
 */
#include "hook.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

enum { PAGE = 4096 };
enum state { OFF, READY, ON, FAILED, CHILD };

static _Atomic enum state state = OFF;
static const struct pool *pool; /* set before state is ON; stays */
static size_t above;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
__thread int hook_inner __attribute__((tls_model("initial-exec")));

void hook_say(const char *text)
{
	char line[512];
	int n = snprintf(line, sizeof line, "ram-dl run: %s[%ld]: %s\n",
	                 program_invocation_short_name, (long)getpid(), text);
	if (n > 0 && write(2, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
		return;
}

static void stay_inner(void)
{
	hook_inner = 1;
}

bool hook_is_ours(const void *p)
{
	const char *c = p;
	return pool && c >= pool->data && c < pool->data + pool->size;
}

const struct pool *hook_pool(void)
{
	return state == ON ? pool : NULL;
}

/* --- a child that was only forked --- */

static struct sigaction segv_before;

static void say_it_is_the_parents(const void *p)
{
	char text[128];
	snprintf(text, sizeof text,
	         "memory at %p is its parent's: a child that was only forked has none of it", p);
	hook_say(text);
}

static void on_segv(int number, siginfo_t *info, void *context)
{
	if (hook_is_ours(info->si_addr))
		say_it_is_the_parents(info->si_addr);
	/* On return the access is tried again, and ends as it would have. */
	if (sigaction(SIGSEGV, &segv_before, NULL))
		signal(SIGSEGV, SIG_DFL);
}

static void forked(void)
{
	struct sigaction act = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	if (state != ON)
		return;
	state = CHILD;
	pool->forked();
	sigaction(SIGSEGV, &act, &segv_before);
}

/* A system call that is given what is its parent's fails with EFAULT, which says nothing. */
bool hook_must_bounce(const void *p)
{
	static _Atomic bool told;
	if (!hook_is_ours(p))
		return false;
	if (state == CHILD && !hook_inner && !atomic_exchange(&told, true))
		say_it_is_the_parents(p);
	return !pool->kernel_faults;
}

/* --- the pool's life --- */

static struct sigaction bus_before;

static void on_bus(int number, siginfo_t *info, void *context)
{
	char why[300], text[400];
	if (hook_is_ours(info->si_addr)) {
		pool->why(why, sizeof why);
		snprintf(text, sizeof text, "memory at %p cannot be had: %s", info->si_addr, why);
		hook_say(text);
	}
	/* On return the access is tried again, and ends the process as it should. */
	if (sigaction(SIGBUS, &bus_before, NULL))
		signal(SIGBUS, SIG_DFL);
}

static const struct pool *load(char *why, size_t size)
{
	const char *path = getenv(RUN_POOL);
	void *handle = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
	void *symbol = handle ? dlsym(handle, POOL_START) : NULL;
	if (symbol)
		return ((pool_start_fn *)symbol)(stay_inner, why, size);
	const char *told = dlerror();
	snprintf(why, size, "%s", told ? told : "no pool");
	return NULL;
}

/* Whoever comes first. A failure leaves the program with this machine's own memory. */
static void start(void)
{
	char why[300], text[400];
	pthread_mutex_lock(&starting);
	if (state == READY) {
		struct sigaction act = {.sa_sigaction = on_bus,
		                        .sa_flags = SA_SIGINFO | SA_ONSTACK};
		hook_inner++;
		hook_fds_raise(true);
		pool = load(why, sizeof why);
		hook_fds_raise(false);
		if (pool) {
			hook_fds_find(); /* before anybody can close them */
			sigaction(SIGBUS, &act, &bus_before);
			pthread_atfork(NULL, NULL, forked);
		} else {
			snprintf(text, sizeof text, "no more memory than this machine has: %s",
			         why);
			hook_say(text);
		}
		state = pool ? ON : FAILED;
		hook_inner--;
	}
	pthread_mutex_unlock(&starting);
}

__attribute__((constructor)) static void begin(void)
{
	const char *text = getenv(RUN_ABOVE);
	above = text ? strtoull(text, NULL, 10) : 0;
	if (above >= PAGE && getenv(RUN_DIR))
		state = READY;
}

/* Is an area of this size the pool's? */
bool hook_wanted(size_t size)
{
	if (state == OFF || size < above || hook_inner)
		return false;
	if (state == READY)
		start();
	return state == ON;
}

/* Programs may try again with less: the first time is enough. */
static void *tell_if_full(void *p, size_t size)
{
	static _Atomic bool told;
	char why[300];
	if (!p && !told) {
		told = true;
		hook_inner++;
		pool->full(size, why, sizeof why);
		hook_inner--;
		hook_say(why);
		errno = ENOMEM;
	}
	return p;
}

void *hook_take(size_t size, size_t align)
{
	hook_inner++;
	void *p = pool->take(size, align);
	hook_inner--;
	return tell_if_full(p, size);
}

void *hook_move(void *p, size_t old, size_t size)
{
	hook_inner++;
	void *to = pool->move(p, old, size);
	hook_inner--;
	return tell_if_full(to, size);
}

void hook_give(void *p, size_t len)
{
	if (state != ON)
		return; /* a child does not have it */
	int saved = errno;
	hook_inner++;
	pool->give(p, len);
	hook_inner--;
	errno = saved;
}

/* --- the allocator --- */

HOOK void *malloc(size_t size)
{
	return hook_wanted(size) ? hook_take(size, 1) : __libc_malloc(size);
}

HOOK void free(void *p)
{
	if (hook_is_ours(p))
		hook_give(p, 0);
	else
		__libc_free(p);
}

HOOK void *calloc(size_t count, size_t size)
{
	size_t all;
	if (!__builtin_mul_overflow(count, size, &all) && hook_wanted(all))
		return hook_take(all, 1);
	return __libc_calloc(count, size);
}

/* Into the pool, or out of it. */
static void *move(void *p, size_t old, size_t size)
{
	void *to = hook_wanted(size) ? hook_take(size, 1) : __libc_malloc(size);
	if (!to)
		return NULL;
	memcpy(to, p, old < size ? old : size);
	free(p);
	return to;
}

static void *realloc_ours(void *p, size_t size)
{
	if (state != ON) {
		errno = ENOMEM;
		return NULL;
	}
	if (!size) {
		hook_give(p, 0);
		return NULL;
	}
	hook_inner++;
	size_t old = pool->length(p);
	bool done = size >= above && pool->resize(p, 0, size);
	hook_inner--;
	if (done)
		return p;
	return hook_wanted(size) ? hook_move(p, old, size) : move(p, old, size);
}

HOOK void *realloc(void *p, size_t size)
{
	if (!p)
		return malloc(size);
	if (hook_is_ours(p))
		return realloc_ours(p, size);
	return hook_wanted(size) ? move(p, malloc_usable_size(p), size) : __libc_realloc(p, size);
}

HOOK void *reallocarray(void *p, size_t count, size_t size)
{
	size_t all;
	if (!__builtin_mul_overflow(count, size, &all))
		return realloc(p, all);
	errno = ENOMEM;
	return NULL;
}

HOOK void *memalign(size_t align, size_t size)
{
	return hook_wanted(size) ? hook_take(size, align) : __libc_memalign(align, size);
}

HOOK void *aligned_alloc(size_t align, size_t size)
{
	return memalign(align, size);
}

HOOK int posix_memalign(void **out, size_t align, size_t size)
{
	if (align % sizeof(void *) || align & (align - 1) || !align)
		return EINVAL;
	int saved = errno;
	void *p = memalign(align, size);
	errno = saved;
	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

HOOK void *valloc(size_t size)
{
	return memalign(PAGE, size);
}

HOOK void *pvalloc(size_t size)
{
	return memalign(PAGE, (size + PAGE - 1) / PAGE * PAGE);
}

HOOK size_t malloc_usable_size(void *p)
{
	static size_t (*real)(void *);
	if (hook_is_ours(p)) {
		hook_inner++;
		size_t len = pool->length(p);
		hook_inner--;
		return len;
	}
	/* Not the next one: that may be another allocator's, and all that is not the pool's is
	 * glibc's. */
	if (!real) {
		void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
		real = libc ? (size_t(*)(void *))dlsym(libc, "malloc_usable_size") : NULL;
	}
	return real ? real(p) : 0;
}
