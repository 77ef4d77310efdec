/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads that answer faults. One of them leads: it looks for faults, and answers what it can
 * at once. Whoever finds one that waits for a network lets another lead, and brings the bytes by
 * itself: to hand that to a worker would wake one thread more, tens of microseconds, while a
 * program waits. Whom it has to wake it wakes once its request has gone out.
 */
#include "slice_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOK_NS (50 * 1000)

enum {
	LOOKS_VAIN = 8,  /* in a row */
	LOOKS_REST = 64, /* then so many that are left out */
};

static void *fault_main(void *arg);

static int spawn_leading(struct hither_slice *s)
{
	int r = pthread_create(&s->threads[s->thread_count], NULL, fault_main, s);
	if (!r)
		s->thread_count++;
	return -r;
}

/* Is there somebody to take over? */
static bool can_hand_over_leading(struct hither_slice *s)
{
	return s->followers || (s->thread_count < SLICE_THREADS && !spawn_leading(s));
}

static void hand_over_leading(void *slice)
{
	struct hither_slice *s = slice;
	pthread_mutex_unlock(&s->lead);
}

static void leads_not(void *slice)
{
}

/* False: another thread leads now. */
static bool read_faults_leading(struct hither_slice *s)
{
	struct uffd_msg msgs[16];
	uint64_t block;
	ssize_t n;
	while ((n = read(s->uffd.fd, msgs, sizeof msgs)) > 0) {
		size_t count = (size_t)n / sizeof msgs[0];
		for (size_t i = 0; i < count; i++) {
			if (msgs[i].event != UFFD_EVENT_PAGEFAULT ||
			    slice_answer(s, &msgs[i], &block))
				continue;
			bool here = i + 1 == count && can_hand_over_leading(s);
			slice_wait_for(s, block, here ? hand_over_leading : NULL);
			if (here)
				return false;
		}
	}
	return true;
}

/* Until another thread leads (false), or the end (true). */
static bool look_leading(struct hither_slice *s)
{
	bool scans = s->writable && s->tracker->scan;
	bool answers = s->faults == HITHER_SLICE_FAULTS_THREAD;
	for (;;) {
		struct pollfd fds[] = {{s->stop_fd, POLLIN, 0},
		                       {s->peer_fd, POLLIN | POLLRDHUP, 0},
		                       {answers ? s->uffd.fd : -1, POLLIN, 0}};
		uint64_t now = hither_now_ns(), due = s->scan_due_ns,
		         left = now < due ? (due - now) / HITHER_NS_PER_MS + 1 : 0;
		bool ahead = slice_is_ahead(s);
		int n = poll(fds, 3, ahead ? 0 : scans ? (int)left : -1);
		if (n < 0)
			continue;
		if (n == 0 && ahead)
			slice_go_ahead(s);
		if (fds[0].revents || fds[1].revents) {
			s->gone = true;
			return true;
		}
		if (fds[2].revents & POLLIN && !read_faults_leading(s))
			return false;
		if (scans && hither_now_ns() >= due) {
			slice_collect(s);
			s->scan_due_ns = hither_now_ns() + s->scan_ms * HITHER_NS_PER_MS;
		}
	}
}

/*
 * The program goes on the moment its page is here, and mostly needs the next one soon: who has just
 * brought one looks for that a little before it sleeps, since to be woken takes as long. Where it
 * looks in vain a few times it does not for a while; and not where it would only keep the program
 * from running.
 */
static bool may_look(struct hither_slice *s)
{
	unsigned vain = s->looks_vain;
	if (vain < LOOKS_VAIN)
		return true;
	s->looks_vain = vain < LOOKS_VAIN + LOOKS_REST ? vain + 1 : LOOKS_VAIN - 1;
	return false;
}

/* False: nobody faulted. Another thread leads meanwhile. */
static bool look_for_next(struct hither_slice *s)
{
	uint64_t until = hither_now_ns() + LOOK_NS, block;
	struct uffd_msg msg;
	do {
		if (read(s->uffd.fd, &msg, sizeof msg) == sizeof msg) {
			s->looks_vain = 0;
			if (msg.event == UFFD_EVENT_PAGEFAULT && !slice_answer(s, &msg, &block))
				slice_wait_for(s, block, leads_not);
			return true;
		}
	} while (hither_now_ns() < until);
	s->looks_vain++;
	return false;
}

static void *fault_main(void *arg)
{
	struct hither_slice *s = arg;
	bool looks = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	for (;;) {
		s->followers++;
		pthread_mutex_lock(&s->lead);
		s->followers--;
		if (look_leading(s))
			break;
		while (looks && may_look(s) && look_for_next(s))
			;
	}
	pthread_mutex_unlock(&s->lead);
	return NULL;
}

int slice_threads_start(struct hither_slice *s, struct hither_error *err)
{
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stop_fd < 0)
		return hither_fail(err, -errno, "eventfd: %s", strerror(errno));
	s->scan_due_ns = hither_now_ns() + s->scan_ms * HITHER_NS_PER_MS;
	pthread_mutex_lock(&s->lead);
	int r = spawn_leading(s);
	pthread_mutex_unlock(&s->lead);
	return r ? hither_fail(err, r, "cannot start a thread: %s", strerror(-r)) : 0;
}

void slice_threads_stop(struct hither_slice *s)
{
	if (s->stop_fd < 0)
		return;
	eventfd_write(s->stop_fd, 1);
	pthread_mutex_lock(&s->lead); /* whoever leads from here on starts no other */
	unsigned count = s->thread_count;
	s->thread_count = 0;
	pthread_mutex_unlock(&s->lead);
	for (unsigned i = 0; i < count; i++)
		pthread_join(s->threads[i], NULL);
}
