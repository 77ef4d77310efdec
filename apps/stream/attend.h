/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon (daemon.h) whose mount is watched: where it is played, and a copy of it. */
#ifndef HITHER_STREAM_ATTEND_H
#define HITHER_STREAM_ATTEND_H

#include "stream.h"

#include "daemon.h"
#include "playback.h"
#include "record.h"

struct attendant {
	struct daemon daemon;
	struct stream_settings *settings;
	struct playback *playback;
	struct recorder *recorder;
};

/*
 * Mount settings' URL, which stream_apply() has taken, at path, until it is unmounted; hooks and
 * their user may be set in a->daemon (they call the two below), quiet, too. apart: in a process of
 * its own. The exit code.
 */
int attend(struct attendant *a, const char *path, bool apart);

/* For the hooks: playback and recorder begin, and end. */
int attend_begin(struct attendant *a, struct hither_error *err);
int attend_end(struct attendant *a);

#endif
