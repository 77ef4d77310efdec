/* SPDX-License-Identifier: Apache-2.0 */
#include "units.h"

#include "util.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
        {"", 1},
        {"b", 1},
        {"k", UINT64_C(1) << 10},
        {"kib", UINT64_C(1) << 10},
        {"kb", UINT64_C(1000)},
        {"m", UINT64_C(1) << 20},
        {"mib", UINT64_C(1) << 20},
        {"mb", UINT64_C(1000000)},
        {"g", UINT64_C(1) << 30},
        {"gib", UINT64_C(1) << 30},
        {"gb", UINT64_C(1000000000)},
        {"t", UINT64_C(1) << 40},
        {"tib", UINT64_C(1) << 40},
        {"tb", UINT64_C(1000000000000)},
        {"p", UINT64_C(1) << 50},
        {"pib", UINT64_C(1) << 50},
        {"pb", UINT64_C(1000000000000000)},
};

static const struct unit duration_units[] = {
        {"", 1000000},   {"us", 1},         {"ms", 1000},        {"s", 1000000},
        {"m", 60000000}, {"min", 60000000}, {"h", 3600000000ul}, {"d", 86400000000ul},
};

static const struct unit *find_unit(const struct unit *units, size_t count, const char *name,
                                    size_t len)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(units[i].name) == len && !strncasecmp(units[i].name, name, len))
			return &units[i];
	return NULL;
}

/*
 * A decimal number with an optional fraction and a unit, from [text, text + len). Integers all the
 * way, so that large sizes stay exact.
 */
static int parse_scaled(const char *text, size_t len, const struct unit *units, size_t unit_count,
                        uint64_t *out)
{
	const char *p = text, *end = text + len;
	uint64_t whole = 0, fraction = 0, scale = 1;
	if (p == end || !isdigit((unsigned char)*p))
		return -EINVAL;
	for (; p < end && isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10u, &whole) ||
		    __builtin_add_overflow(whole, (unsigned)(*p - '0'), &whole))
			return -ERANGE;
	if (p + 1 < end && *p == '.' && isdigit((unsigned char)p[1]))
		for (p++; p < end && isdigit((unsigned char)*p); p++)
			if (scale < 1000000) {
				fraction = fraction * 10 + (unsigned)(*p - '0');
				scale *= 10;
			}
	const struct unit *unit = find_unit(units, unit_count, p, (size_t)(end - p));
	if (!unit)
		return -EINVAL;
	uint64_t value;
	if (__builtin_mul_overflow(whole, unit->factor, &value))
		return -ERANGE;
	/* factor / scale and the rest apart: their product may not fit. */
	uint64_t part = unit->factor / scale * fraction + unit->factor % scale * fraction / scale;
	return __builtin_add_overflow(value, part, out) ? -ERANGE : 0;
}

static int parse_size_part(const char *text, size_t len, uint64_t *out)
{
	return parse_scaled(text, len, size_units, COUNT_OF(size_units), out);
}

int units_parse_size(const char *text, uint64_t *out, struct hither_error *err)
{
	int r = parse_size_part(text, strlen(text), out);
	if (r)
		return hither_fail(err, r, "%s is %s (try 4096, 64K or 1.5GB)", text,
		                   r == -ERANGE ? "too large" : "not a size");
	return 0;
}

int units_parse_duration(const char *text, uint64_t *us, struct hither_error *err)
{
	int r = parse_scaled(text, strlen(text), duration_units, COUNT_OF(duration_units), us);
	if (r)
		return hither_fail(err, r, "%s is %s (try 250ms, 10s or 5min)", text,
		                   r == -ERANGE ? "too long" : "not a duration");
	return 0;
}

static int parse_first_last(const char *text, const char *dash, struct units_range *out)
{
	uint64_t last;
	int r = parse_size_part(text, (size_t)(dash - text), &out->first);
	if (r)
		return r;
	out->len = UINT64_MAX;
	if (!dash[1])
		return 0;
	r = parse_size_part(dash + 1, strlen(dash + 1), &last);
	if (r)
		return r;
	if (last < out->first)
		return -EINVAL;
	if (last - out->first < UINT64_MAX - 1)
		out->len = last - out->first + 1;
	return 0;
}

static int parse_range(const char *text, struct units_range *out)
{
	const char *plus = strchr(text, '+'), *dash = strchr(text, '-');
	*out = (struct units_range){0};
	if (dash == text) {
		out->from_end = true;
		return parse_size_part(text + 1, strlen(text + 1), &out->first);
	}
	if (plus) {
		int r = parse_size_part(text, (size_t)(plus - text), &out->first);
		return r ? r : parse_size_part(plus + 1, strlen(plus + 1), &out->len);
	}
	return dash ? parse_first_last(text, dash, out) : -EINVAL;
}

int units_parse_range(const char *text, struct units_range *out, struct hither_error *err)
{
	int r = parse_range(text, out);
	if (r)
		return hither_fail(err, r, "%s is not a range (try 0-4095, 1M+64K, 1G- or -4K)",
		                   text);
	return 0;
}

int units_resolve_range(const struct units_range *range, uint64_t size, uint64_t *offset,
                        uint64_t *len, struct hither_error *err)
{
	if (range->from_end) {
		*len = range->first < size ? range->first : size;
		*offset = size - *len;
		return 0;
	}
	if (range->first > size)
		return hither_fail(err, -ERANGE, "the range starts at %llu, beyond the end at %llu",
		                   (unsigned long long)range->first, (unsigned long long)size);
	*offset = range->first;
	*len = range->len < size - range->first ? range->len : size - range->first;
	return 0;
}

const char *units_format_size(char text[UNITS_TEXT_BYTES], uint64_t bytes)
{
	static const char *const names[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
	if (bytes < 1000) {
		snprintf(text, UNITS_TEXT_BYTES, "%u B", (unsigned)bytes);
		return text;
	}
	double value = (double)bytes / 1000;
	size_t i = 0;
	for (; value >= 999.5 && i + 1 < COUNT_OF(names); i++)
		value /= 1000;
	snprintf(text, UNITS_TEXT_BYTES, "%.*f %s", value < 99.95 ? 1 : 0, value, names[i]);
	return text;
}

const char *units_format_seconds(char text[UNITS_TEXT_BYTES], uint64_t seconds)
{
	unsigned long long s = seconds % 60, m = seconds / 60 % 60, h = seconds / 3600;
	if (h >= 48)
		snprintf(text, UNITS_TEXT_BYTES, "%llu d %02llu h", h / 24, h % 24);
	else if (h)
		snprintf(text, UNITS_TEXT_BYTES, "%llu:%02llu:%02llu", h, m, s);
	else
		snprintf(text, UNITS_TEXT_BYTES, "%llu:%02llu", m, s);
	return text;
}
