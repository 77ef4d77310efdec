/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has the drive next. Of those who wait the one whose seek is cheapest goes first; waiting
 * makes a seek look cheaper, so that nobody starves (an elevator with ageing).
 */
#ifndef HITHER_TAPE_GATE_H
#define HITHER_TAPE_GATE_H

#include "tape/drive.h"

#include <pthread.h>
#include <stdbool.h>

struct tape_waiter {
	uint64_t byte;      /* where on the medium it wants to be */
	bool anywhere;      /* it needs the drive, but does not move it */
	uint64_t waited_ns; /* of the drive's time, for those who went before it */
	struct tape_waiter *next;
};

struct tape_gate {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t moved;
	struct tape_waiter *waiting;
	struct tape_waiter *chosen; /* has the drive, or may take it; NULL: it is free */
	uint64_t at;                /* byte where the drive is */
};

void tape_gate_init(struct tape_gate *g);
void tape_gate_finish(struct tape_gate *g);
/* Wait for the drive, to use it at `byte`. w is the caller's until it leaves. */
void tape_gate_enter(struct tape_gate *g, struct tape_waiter *w, uint64_t byte);
/* The same for what moves nothing, as for what was read already. */
void tape_gate_enter_anywhere(struct tape_gate *g, struct tape_waiter *w);
/* The drive's time for one that leaves it at byte `to`, by the model. */
uint64_t tape_gate_use_ns(const struct tape_waiter *w, uint64_t from, uint64_t to);
void tape_gate_leave(struct tape_gate *g, uint64_t at);
/* The link to the cheapest of a list, from byte `at`. */
struct tape_waiter **tape_gate_choose(struct tape_waiter **list, uint64_t at);

#endif
