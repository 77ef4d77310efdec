/* SPDX-License-Identifier: Apache-2.0 */
/* A player on a file: mpv, ffplay or VLC, as a child process. */
#ifndef HITHER_STREAM_PLAYER_H
#define HITHER_STREAM_PLAYER_H

#include "playback.h"

struct player;

/*
 * Start name (a program; NULL: the first of mpv, ffplay, vlc that is there) on path, with the
 * further arguments of extra (NULL-terminated). mpv tells playback where it is, by its JSON IPC.
 * -ENOENT: there is none.
 */
int player_start(const char *name, const char *path, char *const *extra, struct playback *playback,
                 struct player **out, struct hither_error *err);
/* Wait until it has ended: 0, or -ECHILD with how. One thread. */
int player_wait(struct player *p, struct hither_error *err);
/* Ask it to end. Any thread, until player_finish(). */
void player_end(struct player *p);
/* It has ended. NULL is fine. */
void player_finish(struct player *p);

#endif
