/* SPDX-License-Identifier: Apache-2.0 */
/* hither-stream: its commands, and the options that they share. */
#ifndef HITHER_STREAM_H
#define HITHER_STREAM_H

#include "program.h"
#include "settings.h"

#include <hither/mount.h>

struct stream_settings {
	struct settings base; /* first: options of all programs set fields of it */
	char *copy;           /* --record */
	char *listen, *player;
	bool all;
};

static inline struct stream_settings *stream_of(struct settings *s)
{
	return (struct stream_settings *)s;
}

extern const struct command command_play, command_stream_mount, command_serve, command_probe;

extern const struct option_group stream_options; /* --buffer, --record, --all, --deadline */

/* settings_apply(), and what these options mean for the mount. Exit code, or -1 to go on. */
int stream_apply(const char *command, struct stream_settings *s, const char *url);
/* Can the cache keep what --record and --all are for? */
int stream_check_room(const struct stream_settings *s, const struct hither_mount *m,
                      struct hither_error *err);
/* Says that it is no media: -EMEDIUMTYPE. */
int stream_refuse(const char *name, struct hither_error *err);
/*
 * Is it media? What has no index here may be known to libavformat; where that is not there, it is
 * the player's to say. Reads, and so blocks. 0, -EMEDIUMTYPE, or why it cannot be read.
 */
int stream_check_media(struct hither_mount *m, const char *name, struct hither_error *err);

#endif
