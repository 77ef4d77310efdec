/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A processor that sleeps takes long to wake: some 25 us in a virtual machine, as long as all the
 * rest of a 4 KiB request. A client with one request under way waits for that twice: until we have
 * woken, and until it has. So who has just answered a single request may look for the next one a
 * little before it sleeps.
 *
 * Where processors are busy anyway that is of no use, even harmful: the client waits for the
 * processor that is looking. Which it is nobody tells; so both ways are tried, a few requests each,
 * and the quicker one is kept to until the next trial. A client that takes its time between
 * requests is soon found out too. And nobody looks while other connections have something to do:
 * the processors are for them, and for clients.
 */
#include "base/clock.h"
#include "stream.h"

#include <errno.h>
#include <sched.h>
#include <sys/socket.h>

enum {
	SPIN_NS = 100000, /* longer than a near client takes to wake and ask again */
	TAKEN_NS = 20000, /* between two looks: somebody else had this processor, and may need it */
	PAUSES = 16,      /* of some 40 cycles each, between looks */
	TRIAL_WAITS = 64,
	TRIAL_MISSES = 16,    /* looks in vain, that end a trial */
	KEPT_TRIALS_MIN = 4,  /* of the quicker way before the other one is tried again: soon */
	KEPT_TRIALS_MAX = 64, /* after a change, and the more rarely the longer it was right */
	PAUSE_NS = 10000000,  /* who asks so rarely is not waiting for us */
};

unsigned export_spinners_max(void)
{
	cpu_set_t set;
	return sched_getaffinity(0, sizeof set, &set) ? 0 : (unsigned)CPU_COUNT(&set) / 2;
}

static void pause_a_little(void)
{
	for (int i = 0; i < PAUSES; i++)
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#else
		__asm__ volatile("" ::: "memory");
#endif
}

static bool crowded(const struct export_awake *a)
{
	return atomic_load_explicit(&a->count, memory_order_relaxed) > a->spinners_max;
}

static ssize_t look(struct export_stream *s, void *buf, size_t len)
{
	uint64_t begin = hither_now_ns(), last = begin, now;
	for (;;) {
		ssize_t n = recv(s->fd, buf, len, MSG_DONTWAIT);
		if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
			return n >= 0 ? n : -errno;
		pause_a_little();
		now = hither_now_ns();
		if (now - last > TAKEN_NS || now - begin > SPIN_NS || crowded(s->awake))
			return -EAGAIN;
		last = now;
	}
}

/* The trial is over: which way is it from now on? */
static void choose(struct export_spin *p)
{
	p->mean_ns[p->looks] = p->misses >= TRIAL_MISSES ? UINT64_MAX : p->sum_ns / TRIAL_WAITS;
	p->sum_ns = p->waits = p->misses = 0;
	bool known = p->mean_ns[false] && p->mean_ns[true];
	bool better = p->mean_ns[true] < p->mean_ns[false] / 8 * 7;
	if (known && better != p->chosen) {
		p->chosen = better;
		p->kept_trials = 0;
		p->kept_max = KEPT_TRIALS_MIN;
	}
	p->looks = p->chosen;
	if (!known || ++p->kept_trials > p->kept_max) {
		p->looks = !p->chosen;
		p->kept_trials = 0;
		p->kept_max = p->kept_max ? p->kept_max * 2 : KEPT_TRIALS_MIN;
		if (p->kept_max > KEPT_TRIALS_MAX)
			p->kept_max = KEPT_TRIALS_MAX;
	}
}

void export_spin_note(struct export_spin *p, uint64_t now_ns)
{
	uint64_t took = now_ns - p->last_ns;
	if (p->last_ns && took < PAUSE_NS) {
		p->sum_ns += took;
		p->waits++;
	}
	p->last_ns = now_ns;
	if (p->waits == TRIAL_WAITS || p->misses >= TRIAL_MISSES)
		choose(p);
}

ssize_t export_spin(struct export_stream *s, void *buf, size_t len)
{
	struct export_spin *p = &s->spin;
	if (!s->awake || !p->single || crowded(s->awake)) {
		p->last_ns = 0;
		return -EAGAIN;
	}
	export_spin_note(p, hither_now_ns());
	if (!p->looks)
		return -EAGAIN;
	ssize_t n = look(s, buf, len);
	p->misses += n == -EAGAIN;
	return n;
}
