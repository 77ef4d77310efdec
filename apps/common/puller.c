/* SPDX-License-Identifier: Apache-2.0 */
#include "puller.h"

#include <string.h>

static void *pull(void *arg)
{
	struct puller *p = arg;
	struct hither_error err = {0};
	int r = 0;
	for (size_t i = 0; !r && i < p->count; i++)
		r = hither_mount_pull(p->mounts[i], &err);
	atomic_store(&p->runs, false); /* who asks from here on gets a new one */
	p->over(p->user, r ? err.message : NULL);
	return NULL;
}

int puller_begin(struct puller *p, struct hither_error *err)
{
	if (atomic_load(&p->runs))
		return 0;
	puller_stop(p);
	atomic_store(&p->runs, true);
	int r = -pthread_create(&p->thread, NULL, pull, p);
	p->has_thread = !r;
	if (!r)
		return 0;
	atomic_store(&p->runs, false);
	return hither_fail(err, r, "start a thread: %s", strerror(-r));
}

bool puller_runs(struct puller *p)
{
	return atomic_load(&p->runs);
}

void puller_stop(struct puller *p)
{
	if (p->has_thread)
		pthread_join(p->thread, NULL);
	p->has_thread = false;
}
