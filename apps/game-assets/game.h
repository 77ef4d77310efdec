/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of game-assets share. */
#ifndef HITHER_GAME_GAME_H
#define HITHER_GAME_GAME_H

#include "program.h"
#include "progress.h"
#include "settings.h"

#include <pthread.h>

struct game_settings {
	struct settings base; /* first */
	char *overlay;        /* a folder; NULL: the game cannot write */
	char *ready;          /* "N%", "profile" or NULL */
	char *profile_out;    /* of learn */
};

static inline struct game_settings *game_of(struct settings *s)
{
	return (struct game_settings *)s;
}

extern const struct command command_publish;
extern const struct command command_play;
extern const struct command command_learn;

/* --- ready.c --- */

/* When the game may start: once what it shall have is local, or cannot be had. */
struct ready {
	struct hither_mount *mount;
	bool everything;             /* any total_bytes will do; else those of ranges */
	struct hither_range *ranges; /* of everything: one */
	size_t range_count;
	uint64_t total_bytes;
	double file_share; /* of the mount's bytes so many are of files */
	bool offline;      /* what is not here does not come */
	struct progress progress;
	uint64_t shown_ns;

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	bool stopped;
	/* What does not come by itself is asked for, a piece at a time: one that fails is passed
	 * over. */
	struct hither_io ask;
	bool asking;
	size_t at_range;
	uint64_t at;
	struct hither_error failed; /* the first of them; code 0: none */
};

void ready_init(struct ready *r);
/* Is text, --ready's value or NULL, a good one? -EINVAL. */
int ready_check(const char *text, struct hither_error *err);
/*
 * text: --ready's value; NULL: at once. profile: a file; NULL: there is none. file_bytes: all that
 * the mount's files have. 0, -EINVAL, -ENOENT, -ENOMEM.
 */
int ready_parse(struct ready *r, const char *text, const char *profile, struct hither_mount *m,
                uint64_t file_bytes, struct hither_error *err);
/* Wait, with a bar on a terminal; else what is wrong meanwhile is told. Notes what cannot be had.
 * False: ready_stop() was called, or the server will never give what is wanted; err tells. */
bool ready_wait(struct ready *r, struct hither_error *err);
/* Any thread; before, during or after ready_wait(). */
void ready_stop(struct ready *r);
/* No call of its mount is under way any more: it is closed. */
void ready_finish(struct ready *r);

#endif
