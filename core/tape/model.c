/* SPDX-License-Identifier: Apache-2.0 */
#include "tape/drive.h"

/*
 * Sources. 18 TB; 8,960 tracks, written 32 at a time, make 280 wraps. 300 MB/s: IBM's table of
 * half-height drives (TS2900 guide, "Supported tape drives"); full-height ones have 400 MB/s. An
 * average locate from the load point takes 45 s there (IBM, "Performance specifications for LTO
 * tape drives", LTO-9), 65 s on LTO-10: 65 s is taken, the slower one.
 *
 * A back-hitch is "the condition that occurs when a tape stops, reverses, and restarts motion" (IBM
 * TotalStorage Ultrium Internal Tape Drive T800, its guide, "Speed Matching"); so it is charged
 * to the transfer that restarts the tape, and a stop that nothing follows is none. How long it and
 * the 4 s to start take is in no manual that was found: estimates, good for comparing only.
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

static uint64_t read_ns(const struct tape_model *m, uint64_t bytes)
{
	return (uint64_t)((unsigned __int128)bytes * 1000000000u / m->rate_bytes);
}

bool tape_model_reads_on(const struct tape_model *m, uint64_t from, uint64_t to)
{
	return from <= to && read_ns(m, to - from) <= tape_model_seek_ns(m, from, to);
}

uint64_t tape_model_move_ns(const struct tape_model *m, uint64_t from, uint64_t to)
{
	return tape_model_reads_on(m, from, to) ? read_ns(m, to - from)
	                                        : tape_model_seek_ns(m, from, to);
}
