/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What TCP does by itself, of which no call tells: whoever knows it asks for as much as comes at
 * once.
 */
#ifndef HITHER_BASE_TCP_H
#define HITHER_BASE_TCP_H

#include "base/clock.h"

enum {
	/* What a connection brings in its first round trip: ten segments (RFC 6928) of 1448 bytes
	 * less an HTTP answer's headers. Then as much again as it has brought (RFC 5681, 3.1). */
	HITHER_TCP_FIRST_BYTES = 13 << 10,
	HITHER_TCP_FIRST_BLOCKS = 3, /* of it, of 4 KiB */
	HITHER_TCP_FIRST_BLOCK_BYTES = HITHER_TCP_FIRST_BLOCKS << 12,
};

/* Linux's least retransmission time. A connection without traffic for so long begins anew (RFC
 * 5681, 4.1). */
#define HITHER_TCP_RTO_MIN_NS (200 * HITHER_NS_PER_MS)

#endif
