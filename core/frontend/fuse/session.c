/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serving: INIT, and a few threads that take requests and answer them.
 *
 *     program -> kernel -> /dev/fuse -> a thread: read, dispatch, hither_mount_submit
 *                              ^            | local: the same thread writes the answer
 *                              |            | not local: the mount keeps it; the thread goes on
 *                              +------------+-- later: whoever brings the bytes writes the answer
 *
 * No thread ever waits for the network, so two are enough for two processors. Each waits in an
 * epoll of its own, in which the device is EPOLLEXCLUSIVE: a request wakes one thread, and always
 * the same one while the load is light, so that its memory stays in one processor's cache.
 */
#include "frontend/fuse/fuse_internal.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57 /* include/uapi/linux/prctl.h, Linux 5.6 */
#endif

enum {
	MOST_THREADS = 4,
	LEAST_THREADS = 2,
	/*
	 * Requests of the page cache (readahead, writeback) at a time. Many, as reads that wait for
	 * the network must not keep out those that are local; but from CONGESTION on the kernel
	 * leaves out what it only guesses.
	 */
	BACKGROUND = 64,
	CONGESTION = 16,
};

int fuse_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

/* --- INIT --- */

static uint64_t wanted_flags(const struct hither_fuse *f)
{
	uint64_t flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS |
	                 FUSE_ASYNC_DIO | FUSE_ATOMIC_O_TRUNC | FUSE_EXPLICIT_INVAL_DATA |
	                 FUSE_DO_READDIRPLUS | FUSE_INIT_EXT | ABI_INIT_DIRECT_IO_ALLOW_MMAP;
	/* Attributes come with names, always: they cost nothing here, and who reads all names
	 * before it looks at any (find, ls) would ask for each, as FUSE_READDIRPLUS_AUTO has it. */
	if (f->any_writable)
		flags |= FUSE_WRITEBACK_CACHE; /* the kernel merges small writes */
	else if (f->want_passthrough)
		flags |= ABI_INIT_PASSTHROUGH; /* the kernel has it only without the writeback cache
		                                */
	return flags;
}

void fuse_op_init(struct fuse_call *c)
{
	struct fuse_init_in in = {0};
	memcpy(&in, c->arg, c->arg_len < sizeof in ? c->arg_len : sizeof in);
	if (in.major != ABI_MAJOR || in.minor < ABI_MINOR_OLDEST) {
		atomic_store(&c->f->first_error, -EPROTONOSUPPORT);
		fuse_answer(c, -EPROTO, NULL, 0);
		return;
	}
	uint64_t offered = in.flags;
	if (in.flags & FUSE_INIT_EXT)
		offered |= (uint64_t)in.flags2 << 32;
	uint64_t flags = offered & wanted_flags(c->f);
	if ((flags & FUSE_WRITEBACK_CACHE) && !c->f->is_folder && fuse_tell_root_size(c->f))
		flags &= ~(uint64_t)FUSE_WRITEBACK_CACHE;
	struct abi_init_out out = {.major = ABI_MAJOR,
	                           .minor = in.minor < ABI_MINOR ? in.minor : ABI_MINOR,
	                           .max_readahead = c->f->readahead_bytes,
	                           .flags = (uint32_t)flags,
	                           .flags2 = (uint32_t)(flags >> 32),
	                           .max_background = BACKGROUND,
	                           .congestion_threshold = CONGESTION,
	                           .max_write = FUSE_WRITE_MAX,
	                           .time_gran = 1,
	                           .max_pages = FUSE_SLOT_DATA / 4096};
	if (flags & ABI_INIT_PASSTHROUGH)
		out.max_stack_depth = 1;
	atomic_store(&c->f->direct_io, (flags & ABI_INIT_DIRECT_IO_ALLOW_MMAP) != 0);
	atomic_store(&c->f->passthrough, (flags & ABI_INIT_PASSTHROUGH) != 0);
	fuse_answer(c, 0, &out, sizeof out);
}

/* --- threads --- */

struct serving_thread {
	struct hither_fuse *f;
	struct fuse_slot *slot;
	int epoll;
	pthread_t thread;
};

enum { WAITED_DEVICE, WAITED_STOP };

static int open_epoll(const struct hither_fuse *f, int stop_fd)
{
	HITHER_CLOSE int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event device = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.u32 = WAITED_DEVICE};
	struct epoll_event stop = {.events = EPOLLIN, .data.u32 = WAITED_STOP};
	if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, fuse_channel_fd(f->channel), &device) ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, stop_fd, &stop))
		return -errno;
	return HITHER_TAKE(ep, -1);
}

/* Wait for a request. False: it is time to stop. */
static bool wait_request(const struct serving_thread *t)
{
	struct epoll_event events[2];
	int n = epoll_wait(t->epoll, events, 2, -1);
	for (int i = 0; i < n; i++)
		if (events[i].data.u32 == WAITED_STOP)
			return false;
	return true;
}

/* One request, if there is one. 0: go on; 1: unmounted or stopped; else -errno. */
static int serve_one(struct serving_thread *t)
{
	struct fuse_channel *ch = t->f->channel;
	if (!t->slot && !(t->slot = fuse_slot_get(ch)))
		return fuse_channel_stopped(ch) ? 1 : -ENOMEM;
	ssize_t n = read(fuse_channel_fd(ch), fuse_slot_request(t->slot),
	                 FUSE_REQUEST_HEAD + FUSE_WRITE_MAX);
	if (n < 0)
		switch (errno) {
		case EAGAIN:
			return wait_request(t) ? 0 : 1;
		case EINTR:
		case ENOENT: /* the request was given up before we had it */
			return 0;
		case ENODEV:
		case ECONNABORTED:
			return 1;
		default:
			return -errno;
		}
	if ((size_t)n < sizeof(struct fuse_in_header))
		return -EPROTO;
	if (!fuse_dispatch(t->f, t->slot, (size_t)n))
		t->slot = NULL;
	return 0;
}

void fuse_stop_serving(struct hither_fuse *f)
{
	uint64_t one = 1;
	ssize_t n = write(f->stop_fd, &one, sizeof one);
	(void)n; /* it can only be full, which is as good */
	fuse_channel_stop(f->channel);
}

static void *serving_main(void *arg)
{
	struct serving_thread *t = arg;
	/* Writeback waits for us: our own memory must not wait for writeback. Needs
	 * CAP_SYS_RESOURCE. */
	int was_flusher = t->f->any_writable ? prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) : -1;
	int r;
	while ((r = serve_one(t)) == 0)
		;
	int none = 0;
	if (r < 0)
		atomic_compare_exchange_strong(&t->f->first_error, &none, r);
	fuse_stop_serving(t->f); /* the others too, should only this one have failed */
	if (was_flusher == 0)
		prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
	return NULL;
}

static unsigned thread_count(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	return cpus < LEAST_THREADS  ? LEAST_THREADS
	       : cpus > MOST_THREADS ? MOST_THREADS
	                             : (unsigned)cpus;
}

static int run_threads(struct hither_fuse *f)
{
	struct serving_thread threads[MOST_THREADS];
	unsigned wanted = thread_count(), ready = 0, started = 1;
	int r = 0;
	for (; ready < wanted; ready++) {
		threads[ready] =
		        (struct serving_thread){.f = f, .epoll = open_epoll(f, f->stop_fd)};
		if ((r = threads[ready].epoll) < 0)
			break;
	}
	if (ready > 0) { /* the first one is ours; fewer than wanted will do */
		while (started < ready && fuse_thread_start(&threads[started].thread, serving_main,
		                                            &threads[started]) == 0)
			started++;
		serving_main(&threads[0]);
		for (unsigned i = 1; i < started; i++)
			pthread_join(threads[i].thread, NULL);
		r = 0;
	}
	for (unsigned i = 0; i < ready; i++) {
		fuse_slot_put(f->channel, threads[i].slot);
		close(threads[i].epoll);
	}
	return r < 0 ? r : 0;
}

int fuse_serve_until(struct hither_fuse *f, int until_fd)
{
	struct serving_thread t = {.f = f, .epoll = open_epoll(f, until_fd)};
	int r = t.epoll;
	if (r < 0)
		return r;
	while ((r = serve_one(&t)) == 0)
		;
	fuse_slot_put(f->channel, t.slot);
	close(t.epoll);
	return r < 0 ? r : 0;
}

int hither_fuse_serve(struct hither_fuse *f, struct hither_error *err)
{
	if (fuse_channel_fd(f->channel) < 0)
		return 0; /* it has ended before */
	if (f->any_writable && !f->guard)
		f->guard = fuse_guard_start(f); /* without one, a wrong size may show for a while */
	atomic_store(&f->serving, true);
	int r = run_threads(f);
	atomic_store(&f->serving, false);
	if (r == 0)
		r = atomic_load(&f->first_error);
	fuse_channel_shut(
	        f->channel); /* whoever still has a file open gets ENOTCONN, and does not hang */
	if (r == -EPROTONOSUPPORT)
		return hither_fail(
		        err, r,
		        "fuse: this kernel's protocol is too old: Linux 4.20 or later is needed");
	if (r)
		return hither_fail(err, r, "fuse: serving %s: %s", f->at.path, strerror(-r));
	return 0;
}
