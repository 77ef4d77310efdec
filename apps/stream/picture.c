/* SPDX-License-Identifier: Apache-2.0 */
#include "picture.h"

#include "progress.h"

#include <stdio.h>

enum { PARTS = 200 };

static void add_map(struct json *j, struct hither_mount *m)
{
	uint8_t parts[PARTS];
	char text[2 * PARTS + 1];
	hither_mount_picture(m, parts, PARTS);
	for (int i = 0; i < PARTS; i++)
		sprintf(text + 2 * i, "%02x", parts[i]);
	json_string(j, "local", text);
}

void picture_json(struct json *j, const struct picture_about *about)
{
	struct playback_picture p;
	struct hither_mount_stats stats;
	playback_picture(about->playback, &p);
	hither_mount_stats(about->mount, &stats);
	json_object(j, NULL);
	json_string(j, "name", about->name);
	json_string(j, "url", about->shown_url);
	json_string(j, "format", p.format);
	json_uint(j, "duration_us", p.duration_us);
	json_uint(j, "playhead_us", p.playhead_us);
	json_bool(j, "playhead_told", p.told);
	json_uint(j, "buffered_us", p.buffered_us);
	json_uint(j, "stalls", p.stalls);
	json_uint(j, "stalled_us", p.stalled_us);
	json_bool(j, "faststart", about->faststart);
	json_uint(j, "viewers", about->viewers);
	add_map(j, about->mount);
	progress_stats(j, &stats);
	json_end_object(j);
}
