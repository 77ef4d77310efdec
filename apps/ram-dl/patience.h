/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For how long a server may be silent. Where a second one has all that it has, that one must be
 * asked in time: a connection that stalls, and one that cannot be made anew, together take less
 * than the deadline.
 */
#ifndef HITHER_APP_RAM_DL_PATIENCE_H
#define HITHER_APP_RAM_DL_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

enum { PATIENCE_MOST_MS = 10000 };

struct server_patience {
	uint32_t idle_ms, connect_ms; /* of struct hither_backend_options */
};

static inline struct server_patience server_patience(uint32_t deadline_ms, bool mirrored)
{
	uint32_t share = deadline_ms / 3;
	if (!mirrored)
		return (struct server_patience){.idle_ms = deadline_ms};
	return (struct server_patience){.idle_ms = share,
	                                .connect_ms = share < PATIENCE_MOST_MS ? share
	                                                                       : PATIENCE_MOST_MS};
}

#endif
