/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "tape/gate.h"

#include <sched.h>

enum { REQUESTS = 128 };

static uint64_t random_state = 7;
static uint64_t random_byte(void)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (random_state >> 8) % tape_model_lto9.capacity_bytes;
}

/* All served in some order: seconds of seeking, and how long the list lasted for the last. */
static uint64_t serve(struct tape_waiter *list, bool by_cost)
{
	uint64_t at = 0, ns = 0;
	while (list) {
		struct tape_waiter **best = by_cost ? tape_gate_choose(&list, at) : &list;
		struct tape_waiter *w = *best;
		*best = w->next;
		uint64_t used = tape_gate_use_ns(w, at, w->byte + (1 << 20));
		for (struct tape_waiter *o = list; o; o = o->next)
			o->waited_ns += used;
		ns += tape_model_seek_ns(&tape_model_lto9, at, w->byte);
		at = w->byte + (1 << 20);
	}
	return ns;
}

static int by_byte(const void *a, const void *b)
{
	uint64_t x = ((const struct tape_waiter *)a)->byte,
	         y = ((const struct tape_waiter *)b)->byte;
	return x < y ? -1 : x > y;
}

static void link_up(struct tape_waiter *w)
{
	for (int i = 0; i < REQUESTS; i++) {
		w[i].next = i + 1 < REQUESTS ? &w[i + 1] : NULL;
		w[i].waited_ns = 0;
	}
}

static void the_cheapest_first_beats_fifo_and_sorting(void)
{
	struct tape_waiter w[REQUESTS] = {0};
	for (int i = 0; i < REQUESTS; i++)
		w[i].byte = random_byte();
	link_up(w);
	uint64_t fifo = serve(w, false);
	link_up(w);
	uint64_t gate = serve(w, true);
	qsort(w, REQUESTS, sizeof *w, by_byte);
	link_up(w);
	uint64_t sorted = serve(w, false);
	printf("  128 reads: fifo %.0f s, by position %.0f s, by cost %.0f s\n", fifo / 1e9,
	       sorted / 1e9, gate / 1e9);
	CHECK(gate * 2 <= fifo);
	CHECK(gate <= sorted);
}

static void a_locate_from_the_beginning_takes_65_s_on_average(void)
{
	uint64_t sum = 0;
	for (int i = 0; i < 10000; i++)
		sum += tape_model_seek_ns(&tape_model_lto9, 0, random_byte());
	CHECK(sum / 10000 > UINT64_C(64000000000) && sum / 10000 < UINT64_C(66000000000));
}

/* One is far away, and near ones keep coming. */
static void nobody_starves(void)
{
	struct tape_waiter far = {.byte = tape_model_lto9.wrap_bytes - 1}, near, *list;
	int passed = 0;
	for (;; passed++) {
		near = (struct tape_waiter){.byte = 1 << 30};
		list = &near;
		near.next = &far;
		far.next = NULL;
		if (*tape_gate_choose(&list, 0) == &far)
			break;
		far.waited_ns += tape_gate_use_ns(&near, 0, near.byte);
		CHECK(passed < 1000);
	}
	CHECK(passed > 10);
}

enum { THREADS = 24 };
struct served {
	struct tape_gate gate;
	uint64_t order[THREADS];
	int count;
};
struct asker {
	struct served *all;
	uint64_t byte;
};

static void *ask(void *user)
{
	struct asker *a = user;
	struct tape_waiter w;
	tape_gate_enter(&a->all->gate, &w, a->byte);
	a->all->order[a->all->count++] = a->byte; /* alone here */
	tape_gate_leave(&a->all->gate, a->byte);
	return NULL;
}

static int waiting(struct tape_gate *g)
{
	int n = 0;
	pthread_mutex_lock(&g->lock);
	for (struct tape_waiter *w = g->waiting; w; w = w->next)
		n++;
	pthread_mutex_unlock(&g->lock);
	return n;
}

/* Threads that wait while somebody has the drive go in the order that the list would. */
static void who_waits_is_served_by_cost(void)
{
	struct served all = {.count = 0};
	struct asker askers[THREADS];
	struct tape_waiter holder, list[THREADS] = {0}, *head = NULL;
	pthread_t threads[THREADS];
	tape_gate_init(&all.gate);
	tape_gate_enter(&all.gate, &holder, 0);
	for (int i = 0; i < THREADS; i++) {
		askers[i] = (struct asker){&all, random_byte()};
		CHECK(!pthread_create(&threads[i], NULL, ask, &askers[i]));
		while (waiting(&all.gate) <= i) /* nothing tells when a thread waits */
			sched_yield();
	}
	tape_gate_leave(&all.gate, 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(!pthread_join(threads[i], NULL));
	for (int i = THREADS; i-- > 0; head = &list[i])
		list[i] = (struct tape_waiter){.byte = askers[i].byte, .next = head};
	uint64_t at = 0;
	for (int i = 0; i < THREADS; i++) {
		struct tape_waiter **best = tape_gate_choose(&head, at);
		uint64_t used = tape_gate_use_ns(*best, at, (*best)->byte);
		at = (*best)->byte;
		CHECK_EQ(all.order[i], at);
		*best = (*best)->next;
		for (struct tape_waiter *w = head; w; w = w->next)
			w->waited_ns += used;
	}
	tape_gate_finish(&all.gate);
}

int main(void)
{
	RUN(a_locate_from_the_beginning_takes_65_s_on_average);
	RUN(the_cheapest_first_beats_fifo_and_sorting);
	RUN(nobody_starves);
	RUN(who_waits_is_served_by_cost);
	return 0;
}
