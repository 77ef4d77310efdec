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
	struct hither_mount_stats before;
	uint64_t before_ns; /* 0: nothing seen yet */
	double down, up;    /* smoothed bytes per second */
};

void progress_init(struct progress *p, enum progress_style style, int machine_fd);
/* Would updates be seen by anybody? */
bool progress_wanted(const struct progress *p);
/* Show these; a few times a second is right. */
void progress_update(struct progress *p, const struct hither_mount_stats *stats);
/* Wipe the line, so that a message can be printed. */
void progress_clear(struct progress *p);
/* The line for a terminal of `width` columns, without colour. Returns line. */
const char *progress_line(const struct progress *p, const struct hither_mount_stats *stats,
                          unsigned width, char *line, size_t size);

/* Add each field of stats to an open object. */
struct json;
void progress_stats(struct json *j, const struct hither_mount_stats *stats);

#endif
