/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults that come as SIGBUS to the faulting thread, which answers them itself. The handler runs at
 * a memory access of the program's, so what it may not do is wait for a lock that the program holds
 * there: see HITHER_SLICE_FAULTS_SIGBUS.
 */
#include "slice_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

enum { SLICES_MAX = 256 };

static _Atomic(struct hither_slice *) slices[SLICES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards installed and before */
static bool installed;
static struct sigaction before;

static struct hither_slice *slice_of(const char *addr)
{
	for (unsigned i = 0; i < SLICES_MAX; i++) {
		struct hither_slice *s = slices[i];
		if (s && addr >= s->data && addr < slice_addr(s, s->block_count))
			return s;
	}
	return NULL;
}

static void hand_on(int number, siginfo_t *info, void *context)
{
	if (before.sa_flags & SA_SIGINFO && before.sa_sigaction) {
		before.sa_sigaction(number, info, context);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(number);
	} else {
		/* On return the access is tried again, and ends the process as it should. */
		signal(SIGBUS, SIG_DFL);
	}
}

/*
 * Which access it was. A page that was to be read may have come before the signal: taken for a
 * write, it would be pushed for nothing.
 */
static bool was_write(const ucontext_t *context)
{
#ifdef __x86_64__
	return context->uc_mcontext.gregs[REG_ERR] & 2; /* the page fault's error code: W */
#else
	return true; /* not told: what is pushed for nothing is the same bytes */
#endif
}

static void on_bus(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	struct hither_error err = {0};
	struct hither_slice *s = slice_of(info->si_addr);
	uint64_t block = s ? (uint64_t)((char *)info->si_addr - s->data) >> SLICE_BLOCK_SHIFT : 0;
	int r = -EFAULT;
	if (s) {
		r = slice_fault_here(s, block, was_write(context), &err);
		if (r)
			slice_fail(s, block, block + 1, &err);
	}
	if (r)
		hand_on(number, info, context);
	errno = saved;
}

int slice_bus_add(struct hither_slice *s, struct hither_error *err)
{
	HITHER_LOCK_SCOPE(&lock);
	if (!installed) {
		struct sigaction act = {.sa_sigaction = on_bus,
		                        .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
		if (sigaction(SIGBUS, &act, &before) < 0)
			return hither_fail(err, -errno, "SIGBUS: %s", strerror(errno));
		installed = true;
	}
	for (unsigned i = 0; i < SLICES_MAX; i++) {
		if (slices[i])
			continue;
		slices[i] = s;
		return 0;
	}
	return hither_fail(err, -EMFILE, "at most %d slices can have their faults by SIGBUS",
	                   SLICES_MAX);
}

void slice_bus_remove(struct hither_slice *s)
{
	HITHER_LOCK_SCOPE(&lock);
	for (unsigned i = 0; i < SLICES_MAX; i++)
		if (slices[i] == s)
			slices[i] = NULL;
}
