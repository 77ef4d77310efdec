/* SPDX-License-Identifier: Apache-2.0 */
/* Built without libavformat. */
#include "streams.h"

void streams_find(struct streams *out, struct hither_mount *mount)
{
	*out = (struct streams){0};
}

void streams_finish(struct streams *s)
{
}
