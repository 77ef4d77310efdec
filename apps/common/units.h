/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, durations and ranges, as people type and read them. */
#ifndef HITHER_APPS_UNITS_H
#define HITHER_APPS_UNITS_H

#include <hither/error.h>
#include <stddef.h>
#include <stdint.h>

/*
 * "4096", "64K", "64KiB" (65536), "64kB" (64000), "1.5G". K M G T P and KiB .. PiB are powers of
 * 1024, kB .. PB powers of 1000; case does not matter. 0, or -EINVAL / -ERANGE with the text named
 * in err.
 */
int units_parse_size(const char *text, uint64_t *out, struct hither_error *err);

/* "25ms", "10s", "5min" or "5m", "1h", "250us"; a bare number is in seconds. In microseconds. */
int units_parse_duration(const char *text, uint64_t *us, struct hither_error *err);

/*
 * Bytes of a resource: "A-B" (both included, as in HTTP), "A+LEN", "A-" (to the end), "-N" (the
 * last N), each a size. Needs units_resolve_range() once the resource's size is known.
 */
struct units_range {
	uint64_t first; /* from_end: how many of the last bytes */
	uint64_t len;   /* UINT64_MAX: to the end */
	bool from_end;
};
int units_parse_range(const char *text, struct units_range *out, struct hither_error *err);
/* Offset and length within a resource of `size` bytes, clipped to its end. -ERANGE: it starts
 * beyond. */
int units_resolve_range(const struct units_range *range, uint64_t size, uint64_t *offset,
                        uint64_t *len, struct hither_error *err);

enum { UNITS_TEXT_BYTES = 32 };
/* "512 B", "12.3 kB", "420 MB", "1.0 GB": decimal units, three figures. Returns text. */
const char *units_format_size(char text[UNITS_TEXT_BYTES], uint64_t bytes);
/* "0:07", "12:34", "3:02:01", "4 d 03 h". Returns text. */
const char *units_format_seconds(char text[UNITS_TEXT_BYTES], uint64_t seconds);

#endif
