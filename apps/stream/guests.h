/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is connected. A player that is paused takes no bytes for hours, and one that has forgotten
 * its connection takes none for ever: when there are too many, the one that has not been heard of
 * for longest makes room for the next.
 */
#ifndef HITHER_STREAM_GUESTS_H
#define HITHER_STREAM_GUESTS_H

#include <pthread.h>
#include <stdint.h>

/* A member of what is one's own: taken out before its connection is closed. */
struct guest {
	struct guest *next;
	int fd; /* its connection */
	uint64_t heard_ns;
};

struct guests {
	pthread_mutex_t lock; /* guards the list, and heard_ns of all */
	struct guest *first;
	unsigned count;
};

#define GUESTS_INITIALIZER                                                                         \
	{                                                                                          \
		.lock = PTHREAD_MUTEX_INITIALIZER                                                  \
	}

/* Any thread. NULL is nobody: there was no memory for it. */

/* most: so many at a time; one more ends the idlest one's connection. */
void guests_enter(struct guests *all, struct guest *v, int fd, unsigned most);
/* It asks for something, or takes bytes. */
void guests_heard(struct guests *all, struct guest *v);
void guests_leave(struct guests *all, struct guest *v);
#endif
