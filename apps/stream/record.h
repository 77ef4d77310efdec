/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of the file, once everything has been seen: written, flushed, read back, compared. */
#ifndef HITHER_STREAM_RECORD_H
#define HITHER_STREAM_RECORD_H

#include <hither/mount.h>

struct recorder;

/*
 * Begin to wait for all to be local, on a thread of its own; then copy to path.part, verify, and
 * rename. -EEXIST: path is there. say: told when it is done, or why not, from that thread or
 * recorder_stop().
 */
int recorder_start(struct hither_mount *mount, const char *path, bool all,
                   void (*say)(void *user, const char *message), void *user, struct recorder **out,
                   struct hither_error *err);
/*
 * Finish, where everything is local, else give up. 0: the file is there, or parts were never seen;
 * else -errno. Before the mount is closed. NULL is fine.
 */
int recorder_stop(struct recorder *r);

#endif
