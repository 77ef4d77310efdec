/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of game-assets share. */
#ifndef HITHER_GAME_GAME_H
#define HITHER_GAME_GAME_H

#include "program.h"
#include "settings.h"

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

/* When the game may start. */
struct ready {
	unsigned percent;            /* of everything; 0: see ranges */
	struct hither_range *ranges; /* these must be local */
	size_t range_count;
	uint64_t total_bytes;
};

/* text: --ready's value; NULL: at once. profile: a file; NULL: there is none. -EINVAL, -ENOENT. */
int ready_parse(const char *text, const char *profile, struct hither_mount *m, struct ready *out,
                struct hither_error *err);
void ready_finish(struct ready *r);
/* How many of total_bytes are local now. */
uint64_t ready_bytes(const struct ready *r, struct hither_mount *m);

#endif
