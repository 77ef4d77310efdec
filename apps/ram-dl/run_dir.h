/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of one `ram-dl run`, in $XDG_RUNTIME_DIR or /tmp: ram-dl-run-UID-XXXXXX with
 *
 *     lock      locked (flock) as long as ram-dl run lives
 *     leases    whose part of the server's space is whose (lease.h)
 *     PID       what a process of it tells (note.h)
 */
#ifndef RAM_DL_RUN_DIR_H
#define RAM_DL_RUN_DIR_H

#include "note.h"

#include <hither/error.h>
#include <limits.h>

struct run_dir {
	char path[PATH_MAX];
	int lock_fd;
};

/* What runs left that have died is cleared away first. */
int run_dir_make(struct run_dir *d, struct hither_error *err);
void run_dir_remove(struct run_dir *d);
/* Every process of every run of this user that lives; clears away what the dead left. */
void run_dir_each(void (*each)(void *user, long pid, const struct note *note), void *user);

#endif
