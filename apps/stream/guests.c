/* SPDX-License-Identifier: Apache-2.0 */
#include "guests.h"

#include "util.h"

#include <stddef.h>
#include <sys/socket.h>

static struct guest *idlest_locked(const struct guests *all)
{
	struct guest *idlest = NULL;
	for (struct guest *v = all->first; v; v = v->next)
		if (v->fd >= 0 && (!idlest || v->heard_ns < idlest->heard_ns))
			idlest = v;
	return idlest;
}

void guests_enter(struct guests *all, struct guest *v, int fd, unsigned most)
{
	pthread_mutex_lock(&all->lock);
	struct guest *idlest = all->count >= most ? idlest_locked(all) : NULL;
	if (idlest) { /* its thread sees it, and closes it */
		shutdown(idlest->fd, SHUT_RDWR);
		idlest->fd = -1;
	}
	*v = (struct guest){.next = all->first, .fd = fd, .heard_ns = now_ns()};
	all->first = v;
	all->count++;
	pthread_mutex_unlock(&all->lock);
}

void guests_heard(struct guests *all, struct guest *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&all->lock);
	v->heard_ns = now_ns();
	pthread_mutex_unlock(&all->lock);
}

void guests_leave(struct guests *all, struct guest *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&all->lock);
	struct guest **at = &all->first;
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	all->count--;
	pthread_mutex_unlock(&all->lock);
}
