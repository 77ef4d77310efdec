/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where it is played, and how many seconds from there on are local.
 *
 * The playhead is what a player tells (mpv by its IPC, the page of the endpoint), else the time of
 * the byte that was asked for last. A jump of a told playhead is pulled at once: before the player
 * has found out which bytes it needs.
 */
#ifndef HITHER_STREAM_PLAYBACK_H
#define HITHER_STREAM_PLAYBACK_H

#include <hither/media.h>
#include <hither/mount.h>

struct playback;

struct playback_picture {
	const char *format; /* NULL: no media, or the index is not here yet */
	uint64_t duration_us;
	bool told; /* by a player; else it is where was read last */
	uint64_t playhead_us, buffered_us;
	uint32_t stalls; /* that players told of, the start not counted */
	uint64_t stalled_us;
};

int playback_create(struct hither_mount *mount, struct playback **out, struct hither_error *err);
/* The mount has been cancelled, or nothing is under way. NULL is fine. */
void playback_destroy(struct playback *p);

/* All of these: any thread, at any time; they never wait for the network. */

/* A player is there now. */
void playback_told(struct playback *p, uint64_t time_us);
/* A player waits for bytes, or does not any more. */
void playback_stalled(struct playback *p, bool waits);
/* A player counts its stalls itself: so many, so long in all. */
void playback_stalls(struct playback *p, uint32_t stalls, uint64_t stalled_us);
/*
 * Somebody begins to ask for the file's bytes at offset: so many of them shall be here before he
 * gets the first. 0, unless it is the start or a jump, over a line that brings hardly more than is
 * played: who starts there with nothing ahead of him is stopped by the first hiccup of it.
 */
uint64_t playback_cushion(struct playback *p, uint64_t offset);
/* The byte at offset of the file has been asked for. */
void playback_read(struct playback *p, uint64_t offset);
void playback_picture(struct playback *p, struct playback_picture *out);

#endif
