/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control thread of a daemon: its signals, its socket, its progress line.
 *
 * On the socket a client sends one line, and reads lines of JSON until the end of the stream:
 *
 *     status                   {"pid":1,"path":...}         one object: the owner's describe()
 *     umount [lazy] [force]    {"event":"progress","dirty_bytes":5,...}   a few times a second
 *                              {"event":"failed","message":...}           still there
 *                              {"event":"done"}, or with a "message" what is amiss, "forced" if
 *                              that is what somebody wanted; the process ends
 *     pull                     {"event":"progress",...}, then
 *                              {"event":"done"}                           everything is local
 *                              {"event":"failed","message":...}
 *
 * A client that stalls is dropped; nobody waits for it.
 */
#ifndef HITHER_APP_CONTROL_H
#define HITHER_APP_CONTROL_H

#include <hither/error.h>
#include <hither/mount.h>
#include <sys/signalfd.h>

struct control;
struct json;

/* Whose life it is. All but what begins with "may be NULL" is needed; called on the control thread,
 * which must not be kept waiting. */
struct control_ops {
	/* Everything about it, as an object. */
	void (*describe)(void *user, struct json *j);
	/* Of now; false: there is nothing (any more) to tell of. */
	bool (*stats)(void *user, struct hither_mount_stats *out);
	/* Begin to end. Again: adds its wishes to the one under way. */
	void (*end)(void *user, bool lazy, bool force, bool signal);
	/* A signal came before control_serve(). True: nothing can be lost yet, and what others
	 * could see has been taken back: the process ends here. */
	bool (*abandon)(void *user);
	/* Is the terminal ours to draw on? May be NULL: it is. */
	bool (*shows)(void *user);
	/* It shall end, and waits for those who use it; the next signal is not for quitting, but
	 * for taking it away from them. May be NULL: it never does. */
	bool (*in_use)(void *user);
	/* True: the signal is dealt with. May be NULL. */
	bool (*signalled)(void *user, const struct signalfd_siginfo *info);
	/* Begin to pull everything, and tell control_pulled() once. May be NULL. 0 or -errno. */
	int (*pull)(void *user, struct hither_error *err);
};

struct control_owner {
	const struct control_ops *ops;
	void *user;
	bool foreground;
	int progress_fd;      /* lines of JSON go there; -1: nowhere */
	const char *ending;   /* what it does on a signal: "unmounting" */
	bool waits_for_users; /* the first ^C takes nothing away from anybody */
};

/*
 * Block SIGINT, SIGTERM and SIGHUP in this thread and those it starts later, and start the control
 * thread.
 */
int control_start(const struct control_owner *owner, struct control **out,
                  struct hither_error *err);
/* Serve this listening socket (taken over) and show progress from now on. */
void control_serve(struct control *c, int listen_fd);
/* Whether the terminal is ours has changed: look again. What is drawn is wiped first. */
void control_show_progress(struct control *c);
/* What end() began has failed: tell whoever asked. */
void control_failed(struct control *c, const char *message);
/* What pull() began is over. message NULL: everything is here. Any thread. */
void control_pulled(struct control *c, const char *message);
/*
 * Tell the clients that it is over: what is amiss ("": nothing), and whether somebody wanted it so;
 * stop; free. Did anybody hear it? NULL is fine.
 */
bool control_finish(struct control *c, const char *message, bool forced);

#endif
