/* SPDX-License-Identifier: Apache-2.0 */
#include "remote.h"

#include <stdarg.h>
#include <stdio.h>

int fail_with(int code, const char *fmt, ...)
{
	va_list ap;
	fputs("sqlite-remote: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

struct shown show_bytes(uint64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	struct shown out;
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 999.5 && unit + 1 < sizeof units / sizeof *units)
		value /= 1000, unit++;
	snprintf(out.text, sizeof out.text, unit && value < 99.95 ? "%.1f %s" : "%.0f %s", value,
	         units[unit]);
	return out;
}
