/* SPDX-License-Identifier: Apache-2.0 */
/* How far it is: one line on a terminal that is drawn over, and lines of JSON for programs. */
#ifndef HITHER_APP_PROGRESS_H
#define HITHER_APP_PROGRESS_H

#include <hither/mount.h>

enum progress_style {
	PROGRESS_MOUNT, /* local share, rates both ways, who waits, what is dirty */
	PROGRESS_PULL,  /* a bar, the rate, the time left */
};

struct progress {
	enum progress_style style;
	bool terminal; /* stderr is one */
	bool color;
	int machine_fd; /* lines of JSON go there; -1: nowhere */
	bool drawn;
	bool told; /* progress_tell() has told of the trouble that there is */
	struct hither_mount_stats before;
	uint64_t before_ns; /* 0: nothing seen yet */
	bool rated;         /* the rates have been measured */
	double down, up;    /* smoothed bytes per second */
};

void progress_init(struct progress *p, enum progress_style style, int machine_fd);
/* Would updates be seen by anybody? */
bool progress_wanted(const struct progress *p);
/* Show these; a few times a second is right. */
void progress_update(struct progress *p, const struct hither_mount_stats *stats);
/* Where nobody sees a line: say what is wrong, once each time that it begins. */
void progress_tell(struct progress *p, const struct hither_mount_stats *stats);
/* Wipe the line, so that a message can be printed. */
void progress_clear(struct progress *p);
/* The line for a terminal of `width` columns, without colour. Returns line. */
const char *progress_line(const struct progress *p, const struct hither_mount_stats *stats,
                          unsigned width, char *line, size_t size);
/* Of a message, what went wrong: behind "backend: URL: ", up to the advice; *len bytes. */
const char *progress_reason(const char *message, int *len);
/* What stderr has room for on a line. */
unsigned progress_width(void);

/* Add each field of stats to an open object. */
struct json;
void progress_stats(struct json *j, const struct hither_mount_stats *stats);

#endif
