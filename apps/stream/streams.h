/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streams of a medium, as libavformat sees them, which reads a mount by an AVIO context. The
 * library is loaded when it is needed only: with all that it depends on it would cost every start
 * of the program some 50 ms.
 */
#ifndef HITHER_STREAM_STREAMS_H
#define HITHER_STREAM_STREAMS_H

#include <hither/mount.h>

enum { STREAMS_MOST = 32 };

struct streams {
	bool looked; /* libavformat was there to be asked */
	char format[32];
	uint64_t duration_us;     /* 0: not known */
	size_t count;             /* 0: it does not know it */
	char *text[STREAMS_MOST]; /* "video h264, 1920x1080, 25 fps" */
};

/* Blocks. */
void streams_find(struct streams *out, struct hither_mount *mount);
void streams_finish(struct streams *s);

#endif
