/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a daemon for something that takes a while, over its control socket (control.h), and
 * waiting for it for as long as there is evidence that it works: it says so, or its process runs.
 */
#ifndef HITHER_APP_TALK_H
#define HITHER_APP_TALK_H

#include <hither/mount.h>
#include <sys/types.h>

struct talk {
	int socket; /* connected; negative: it has none (any more), so that only its end can be
	               waited for */
	int pidfd;  /* -1: unknown */
	pid_t pid;
	const char *request; /* a line, with its newline */
	/* How it goes, a few times a second. */
	void (*progress)(void *user, const struct hither_mount_stats *stats);
	/* It has been silent for a while, and why: a line for people. Once. */
	void (*waiting)(void *user, const char *why);
	void *user;
	/* Out: what it says is amiss, or what is known of a silent one; "" if nothing is. */
	char message[1200];
	bool forced; /* out: that is what somebody wanted */
};

enum talk_result {
	TALK_DONE,
	TALK_FAILED, /* it says so, or it is stopped or hangs: message */
	TALK_GONE,   /* its process has ended without a word */
	TALK_AGAIN,  /* it hung up without a word, and lives: ask again */
};

/* Is it stopped, so that there is nothing to wait for? message says so. */
bool talk_stopped(struct talk *t);
/* Blocks. The descriptors stay the caller's. */
enum talk_result talk(struct talk *t);
/* Wait for the process's end, which it has begun. TALK_GONE, or TALK_FAILED: it hangs. */
enum talk_result talk_end(struct talk *t);

#endif
