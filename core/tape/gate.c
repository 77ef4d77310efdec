/* SPDX-License-Identifier: Apache-2.0 */
#include "tape/gate.h"
#include "base/cleanup.h"

/* Having been passed by so many counts like a whole length of tape. */
enum { MOST_PASSED = 256 };

void tape_gate_init(struct tape_gate *g)
{
	*g = (struct tape_gate){0};
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->moved, NULL);
}

void tape_gate_finish(struct tape_gate *g)
{
	pthread_cond_destroy(&g->moved);
	pthread_mutex_destroy(&g->lock);
}

static int64_t cost(const struct tape_waiter *w, uint64_t at)
{
	const struct tape_model *m = &tape_model_lto9;
	uint64_t age = w->passed * (m->length_ns / MOST_PASSED);
	return (int64_t)tape_model_move_ns(m, at, w->byte) - (int64_t)age;
}

struct tape_waiter **tape_gate_choose(struct tape_waiter **list, uint64_t at)
{
	struct tape_waiter **best = list;
	for (struct tape_waiter **w = list; *w; w = &(*w)->next)
		if (cost(*w, at) < cost(*best, at))
			best = w;
	return best;
}

static void choose_locked(struct tape_gate *g)
{
	if (g->chosen || !g->waiting)
		return;
	struct tape_waiter **best = tape_gate_choose(&g->waiting, g->at);
	g->chosen = *best;
	*best = g->chosen->next;
	for (struct tape_waiter *w = g->waiting; w; w = w->next)
		w->passed++;
	pthread_cond_broadcast(&g->moved);
}

void tape_gate_enter(struct tape_gate *g, struct tape_waiter *w, uint64_t byte)
{
	HITHER_LOCK_SCOPE(&g->lock);
	*w = (struct tape_waiter){.byte = byte, .next = NULL};
	struct tape_waiter **last = &g->waiting;
	while (*last) /* behind the others: among equals the first comes first */
		last = &(*last)->next;
	*last = w;
	choose_locked(g);
	while (g->chosen != w)
		pthread_cond_wait(&g->moved, &g->lock);
}

void tape_gate_leave(struct tape_gate *g, uint64_t at)
{
	HITHER_LOCK_SCOPE(&g->lock);
	g->chosen = NULL;
	g->at = at;
	choose_locked(g);
}
