/* SPDX-License-Identifier: Apache-2.0 */
/* Who is connected to a control socket: says a line, and is told lines of JSON. One thread's. */
#ifndef HITHER_APP_CLIENT_H
#define HITHER_APP_CLIENT_H

#include "json.h"

#include <hither/mount.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLIENT_LINE_BYTES = 64 };

/* What a client waits for, and hears of. */
enum client_waits { CLIENT_NOTHING, CLIENT_END, CLIENT_PULL };

struct client {
	int fd; /* -1: free */
	char line[CLIENT_LINE_BYTES];
	size_t line_len;
	char *out; /* not sent yet */
	size_t out_len;
	enum client_waits waits; /* meanwhile it gets progress */
	bool closes;             /* once out is empty */
	uint64_t since_ns;       /* when its side last did something */
};

/* Hang up; the slot is free. */
void client_drop(struct client *cl);
/* Send what the socket takes, and hang up if that was all and it closes. */
void client_flush(struct client *cl);
/* Queue a line of JSON. Who does not read, and lets it grow, is dropped. */
void client_say(struct client *cl, struct json *j);
void client_say_event(struct client *cl, const char *event, const char *message, bool forced);
/* Nothing, while it has not read the last one. */
void client_say_progress(struct client *cl, const struct hither_mount_stats *stats);

#endif
