/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread of a daemon: its signals, its socket, its progress line.
 *
 * On the socket a client sends one line, and reads lines of JSON until the end of the stream:
 *
 *     status                   {"pid":1,"path":...}         one object: daemon_describe()
 *     umount [lazy] [force]    {"event":"progress","dirty_bytes":5,...}   a few times a second
 *                              {"event":"failed","message":...}           still mounted
 *                              {"event":"done"}, or with a "message" what is amiss, "forced" if
 *                              that is what somebody wanted; the process ends
 *
 * A client that stalls is dropped; nobody waits for it.
 */
#ifndef HITHER_APP_CONTROL_H
#define HITHER_APP_CONTROL_H

#include <hither/error.h>

struct control;
struct daemon;
struct ending;

/*
 * Block SIGINT, SIGTERM and SIGHUP in this thread and those it starts later, and start the control
 * thread. While the daemon is DAEMON_OPENING a signal ends the process at once: nothing can be
 * lost.
 */
int control_start(struct daemon *d, struct control **out, struct hither_error *err);
/* Serve this listening socket (taken over) and show progress from now on. */
void control_serve(struct control *c, int listen_fd);
/* daemon.shows has changed: look again. What is drawn is wiped first. */
void control_show_progress(struct control *c);
/* The ender has failed: tell whoever asked. */
void control_failed(struct control *c, const char *message);
/* Tell the clients that it is over, and how; stop; free. Did anybody hear it? NULL is fine. */
bool control_finish(struct control *c, const struct ending *e);

#endif
