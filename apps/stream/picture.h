/* SPDX-License-Identifier: Apache-2.0 */
/* What is local and where it is played, as JSON. */
#ifndef HITHER_STREAM_PICTURE_H
#define HITHER_STREAM_PICTURE_H

#include "json.h"
#include "playback.h"

struct picture_about {
	struct hither_mount *mount;
	struct playback *playback;
	const char *name, *shown_url;
	bool faststart;   /* served with the index in front */
	unsigned viewers; /* answers with media under way */
};

/*
 * An object: name, url, format (null: not known), duration_us, playhead_us, playhead_told,
 * buffered_us, stalls, stalled_us, faststart, viewers, local (hexadecimal, two digits for each of
 * 200 equal parts of the file: 00 nothing of it is here, ff all), and what struct
 * hither_mount_stats has.
 */
void picture_json(struct json *j, const struct picture_about *about);

#endif
