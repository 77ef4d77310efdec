/* SPDX-License-Identifier: Apache-2.0 */
/* A program that runs in, or from, a mount of ours, for as long as that is there. */
#ifndef HITHER_APPS_CHILD_H
#define HITHER_APPS_CHILD_H

#include <hither/error.h>
#include <stdbool.h>
#include <sys/types.h>

struct child_wish {
	const char *program; /* a path, or a name for $PATH */
	char *const *argv;   /* ended by NULL */
	const char *folder;  /* where it starts; NULL: where we are */
	/* A folder that takes what it writes in `folder`, by an overlayfs that it alone sees:
	 * -EBUSY while another one has it. NULL: none. */
	const char *overlay;
	bool proper; /* no text that only sh would make something of: it has to be ELF, or begin
	              * with #!
	              */
	const char *name, *value; /* a variable of its environment; NULL: none */
};

struct child {
	pid_t pid;
	int pidfd;
	int overlay_fd; /* locked meanwhile; -1: none */
	int signal;     /* child_wait(): the one that ended it; 0: none */
};

/*
 * Start it. Any thread; the thread stays until child_wait() has returned. -ENOENT, -EACCES,
 * -ENOEXEC and other -errno of execve(2); -ECHILD: it could not come to that, err has why.
 */
int child_start(const struct child_wish *wish, struct child *out, struct hither_error *err);
/* Wait for its end: its exit code, or 128 and the signal's number. */
int child_wait(struct child *c);
/* The number is forgotten; nobody signals it any more. */
void child_finish(struct child *c);
/* Send it a signal. Any thread, until child_finish(). */
void child_signal(const struct child *c, int number);

#endif
