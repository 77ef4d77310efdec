/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime folder: where this user's daemons can be found. $XDG_RUNTIME_DIR/hither, or
 * /tmp/hither-UID where that is unset or not ours. Others are looked for in both, and in
 * /run/user/UID, where those of a session are when cron or sudo asks. For each daemon:
 *
 *     PID.info   a line of JSON (pid, path, url ...), locked (flock) as long as the daemon lives
 *     PID.sock   its control socket
 *     PID.log    what it had to say; empty if all was well
 *
 * A lock that can be had means that its holder is dead, whatever its pid is used for by now.
 */
#ifndef HITHER_APP_RUNTIME_H
#define HITHER_APP_RUNTIME_H

#include "json.h"

#include <hither/error.h>
#include <stdbool.h>
#include <sys/types.h>

/* --- a daemon's own entry --- */

struct runtime_entry {
	char *folder;
	int folder_fd; /* -1: none yet */
	int info_fd;   /* holds the lock */
	int log_fd;
	pid_t pid;
};

/* Make the folder if need be, and this process's log. err on a folder that others could play with.
 */
int runtime_enter(struct runtime_entry *e, struct hither_error *err);
/* A listening socket, non-blocking. */
int runtime_listen(struct runtime_entry *e, int *out, struct hither_error *err);
/* Publish the entry; info is a JSON object. From now on others see it. */
int runtime_publish(struct runtime_entry *e, const char *info, struct hither_error *err);
/* Take the entry back. keep: leave info and log, as a record of what went wrong. */
void runtime_leave(struct runtime_entry *e, bool keep);

/* --- all entries of this user --- */

struct runtime_daemon {
	pid_t pid;
	bool alive;
	int pidfd;            /* if asked for and alive; else -1. The callee may take it (-1). */
	int folder_fd;        /* for runtime_connect() */
	const char *info;     /* JSON object; "{}" if it cannot be read */
	const char *last_log; /* the log's last line, "" if it is empty */
	const char *log_path;
	bool forget; /* out: remove this dead daemon's record */
};
/*
 * Call each() for every daemon, lowest pid first, until it returns non-zero, which is returned.
 * What dead daemons left is cleared away first, their mounts and the mount points they had made
 * included; the dead are shown only if their log says why, or if they may have left bytes that are
 * not pushed. pidfds: open them. each NULL: only clear.
 */
int runtime_each(bool pidfds, int (*each)(void *user, struct runtime_daemon *d), void *user);
/*
 * A connection to a daemon's control socket, non-blocking. Never waits: -EAGAIN, where many wait
 * for it already, as for one that is stopped; another -errno: it has none (any more).
 */
int runtime_connect(const struct runtime_daemon *d);
/*
 * What is published is mounted: forget dead daemons whose cache it has taken over, and those that
 * were at its path and have left nothing to push.
 */
void runtime_supersede(const struct runtime_entry *e);

#endif
