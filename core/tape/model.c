/* SPDX-License-Identifier: Apache-2.0 */
#include "tape/drive.h"

/*
 * Capacity, rate and the 65 s of an average locate (from the beginning of the tape) are what is
 * commonly told of an LTO-9 drive, as are its 280 wraps. The 4 s to start and the 3 s of a
 * back-hitch are estimates, not from a drive's manual: figures that rest on them are good for
 * comparing only.
 */
const struct tape_model tape_model_lto9 = {
        .capacity_bytes = UINT64_C(18000000000000),
        .wrap_bytes = UINT64_C(18000000000000) / 280,
        .rate_bytes = 300000000,
        .start_ns = UINT64_C(4000000000),
        .length_ns = UINT64_C(122000000000), /* half of it and start_ns: 65 s */
        .backhitch_ns = UINT64_C(3000000000),
};

/* Distance of a byte from the beginning of the tape, in parts of 2^20. */
static uint64_t along(const struct tape_model *m, uint64_t byte)
{
	uint64_t in = byte % m->wrap_bytes;
	uint64_t part = (uint64_t)((unsigned __int128)in * (1u << 20) / m->wrap_bytes);
	return byte / m->wrap_bytes % 2 ? (1u << 20) - part : part;
}

uint64_t tape_model_seek_ns(const struct tape_model *m, uint64_t from, uint64_t to)
{
	if (from == to)
		return 0;
	uint64_t a = along(m, from), b = along(m, to);
	return m->start_ns + (a > b ? a - b : b - a) * (m->length_ns >> 20);
}
