/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon of this user that has the cache of a URL, which one process at a time can have. */
#ifndef HITHER_APP_HOLDER_H
#define HITHER_APP_HOLDER_H

#include <hither/error.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct settings;

struct holder {
	pid_t pid;
	int socket, pidfd;   /* for talk.h; the finder closes them */
	char path[PATH_MAX]; /* where it shows it: a path, or an export's address */
};

/* Find who has what s is about to open. False: nobody that can be found. */
bool holder_find(const struct settings *s, struct holder *out);
void holder_finish(struct holder *h);
/* err says that the cache is in use: say where, as far as that is known. */
void holder_explain(const struct settings *s, struct hither_error *err);

#endif
