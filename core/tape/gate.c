/* SPDX-License-Identifier: Apache-2.0 */
#include "tape/gate.h"
#include "base/cleanup.h"

/* Having waited for so many seconds of the drive's time counts like a seek of one. */
enum { AGEING = 8 };

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
	uint64_t move = w->anywhere ? 0 : tape_model_move_ns(m, at, w->byte);
	return (int64_t)move - (int64_t)(w->waited_ns / AGEING);
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
	pthread_cond_broadcast(&g->moved);
}

static void enter_locked(struct tape_gate *g, struct tape_waiter *w)
{
	struct tape_waiter **last = &g->waiting;
	while (*last) /* behind the others: among equals the first comes first */
		last = &(*last)->next;
	*last = w;
	choose_locked(g);
	while (g->chosen != w)
		pthread_cond_wait(&g->moved, &g->lock);
}

void tape_gate_enter(struct tape_gate *g, struct tape_waiter *w, uint64_t byte)
{
	HITHER_LOCK_SCOPE(&g->lock);
	*w = (struct tape_waiter){.byte = byte};
	enter_locked(g, w);
}

void tape_gate_enter_anywhere(struct tape_gate *g, struct tape_waiter *w)
{
	HITHER_LOCK_SCOPE(&g->lock);
	*w = (struct tape_waiter){.anywhere = true};
	enter_locked(g, w);
}

uint64_t tape_gate_use_ns(const struct tape_waiter *w, uint64_t from, uint64_t to)
{
	const struct tape_model *m = &tape_model_lto9;
	if (w->anywhere)
		return 0;
	return tape_model_move_ns(m, from, w->byte) +
	       (to > w->byte ? tape_model_move_ns(m, w->byte, to) : 0);
}

void tape_gate_leave(struct tape_gate *g, uint64_t at)
{
	HITHER_LOCK_SCOPE(&g->lock);
	uint64_t used = tape_gate_use_ns(g->chosen, g->at, at);
	for (struct tape_waiter *w = g->waiting; w; w = w->next)
		w->waited_ns += used;
	g->chosen = NULL;
	g->at = at;
	choose_locked(g);
}
