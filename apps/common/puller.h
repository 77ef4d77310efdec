/* SPDX-License-Identifier: Apache-2.0 */
/* Everything of some mounts is wanted, by somebody who is not waited for: a thread that pulls. */
#ifndef HITHER_APP_PULLER_H
#define HITHER_APP_PULLER_H

#include <hither/mount.h>
#include <pthread.h>
#include <stdatomic.h>

/* Zero-initialise. Its functions are called by one thread at a time. */
struct puller {
	struct hither_mount *const *mounts; /* one after the other */
	size_t count;
	/* It is over; message NULL: everything is here. On the puller's thread, which goes on with
	 * nothing else: the next puller_begin() may be called at once. */
	void (*over)(void *user, const char *message);
	void *user;

	pthread_t thread;
	bool has_thread;
	atomic_bool runs;
};

/* Begin, unless it has begun: over() will be called. 0 or -errno. */
int puller_begin(struct puller *p, struct hither_error *err);
/* Is there something to be cut short by hither_mount_cancel()? */
bool puller_runs(struct puller *p);
/* Wait until it is through; cancel the mounts first, or it takes until they are here. */
void puller_stop(struct puller *p);

#endif
