/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a daemon: the thread that waits for somebody to want it, and what comes after. If the
 * push fails everything is left as it was, and whoever asked is told.
 */
#ifndef HITHER_APP_ENDER_H
#define HITHER_APP_ENDER_H

#include "daemon.h"

/* How it ended. */
struct ending {
	int result;          /* 0: all is pushed; or -errno */
	bool forced;         /* not all is pushed because somebody wanted it so */
	uint64_t kept_bytes; /* not pushed, in the cache on disk */
	char text[1024];     /* what is amiss; "" if nothing is */
};

int ender_start(struct daemon *d, struct hither_error *err);
/* The daemon is not DAEMON_MOUNTED any more: wait until the thread is through. */
void ender_stop(struct daemon *d);
/* Push what came in since the last push, unless told not to, and close the mount. */
void ender_close_mount(struct daemon *d, struct ending *out);

#endif
