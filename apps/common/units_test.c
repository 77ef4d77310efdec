/* SPDX-License-Identifier: Apache-2.0 */
#include "units.h"

#include "check.h"

#include <errno.h>
#include <string.h>

static uint64_t size_of(const char *text)
{
	uint64_t v = 12345;
	struct hither_error err = {0};
	CHECK_OK(units_parse_size(text, &v, &err));
	return v;
}

static void sizes_have_binary_and_decimal_suffixes(void)
{
	CHECK_EQ(size_of("0"), 0);
	CHECK_EQ(size_of("4096"), 4096);
	CHECK_EQ(size_of("7B"), 7);
	CHECK_EQ(size_of("64K"), 65536);
	CHECK_EQ(size_of("64k"), 65536);
	CHECK_EQ(size_of("64KiB"), 65536);
	CHECK_EQ(size_of("64kB"), 64000);
	CHECK_EQ(size_of("1.5G"), 1610612736);
	CHECK_EQ(size_of("1.5GB"), 1500000000);
	CHECK_EQ(size_of("0.001kB"), 1);
	CHECK_EQ(size_of("2T"), 2199023255552);
	CHECK(size_of("18446744073709551615") == UINT64_MAX);
}

static void bad_sizes_are_refused_and_named(void)
{
	static const char *const bad[] = {"",    "K",   "-1", "+1",  "1X",
	                                  "1KK", "1 K", "1.", ".5K", "0x10"};
	uint64_t v;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct hither_error err = {0};
		CHECK_EQ(units_parse_size(bad[i], &v, &err), -EINVAL);
		CHECK(strstr(err.message, bad[i]));
	}
	CHECK_EQ(units_parse_size("18446744073709551616", &v, NULL), -ERANGE);
	CHECK_EQ(units_parse_size("16384P", &v, NULL), -ERANGE);
}

static void durations_are_in_microseconds(void)
{
	static const struct {
		const char *text;
		uint64_t us;
	} good[] = {{"10", 10000000}, {"25ms", 25000},     {"250us", 250},
	            {"0.5s", 500000}, {"5min", 300000000}, {"1h", 3600000000}};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		uint64_t us = 0;
		struct hither_error err = {0};
		CHECK_OK(units_parse_duration(good[i].text, &us, &err));
		CHECK_EQ(us, good[i].us);
	}
	uint64_t us;
	CHECK_EQ(units_parse_duration("soon", &us, NULL), -EINVAL);
}

static void check_range(const char *text, uint64_t size, uint64_t offset, uint64_t len)
{
	struct units_range range;
	struct hither_error err = {0};
	uint64_t o = 0, l = 0;
	CHECK_OK(units_parse_range(text, &range, &err));
	CHECK_OK(units_resolve_range(&range, size, &o, &l, &err));
	CHECK_EQ(o, offset);
	CHECK_EQ(l, len);
}

static void ranges_are_resolved_against_a_size(void)
{
	check_range("0-0", 100, 0, 1);
	check_range("10-19", 100, 10, 10);
	check_range("10-1000", 100, 10, 90);
	check_range("1K+2K", 10000, 1024, 2048);
	check_range("90+20", 100, 90, 10);
	check_range("40-", 100, 40, 60);
	check_range("100-", 100, 100, 0);
	check_range("-30", 100, 70, 30);
	check_range("-300", 100, 0, 100);
	check_range("0-18446744073709551615", 100, 0, 100);
}

static void bad_ranges_are_refused(void)
{
	static const char *const bad[] = {"", "5", "-", "9-3", "a-b", "1+", "+1", "1-2-3", "--1"};
	struct units_range range;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK(units_parse_range(bad[i], &range, NULL) < 0);
	uint64_t o, l;
	CHECK_EQ(units_parse_range("200-", &range, NULL), 0);
	CHECK_EQ(units_resolve_range(&range, 100, &o, &l, NULL), -ERANGE);
}

static void sizes_are_printed_with_three_figures(void)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {{0, "0 B"},
	             {999, "999 B"},
	             {1000, "1.0 kB"},
	             {12345, "12.3 kB"},
	             {420000000, "420 MB"},
	             {999499999, "999 MB"},
	             {999500000, "1.0 GB"},
	             {1000000000, "1.0 GB"},
	             {UINT64_MAX, "18.4 EB"}};
	char text[UNITS_TEXT_BYTES];
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		if (strcmp(units_format_size(text, sizes[i].bytes), sizes[i].text)) {
			fprintf(stderr, "%s, not %s\n", text, sizes[i].text);
			CHECK(false);
		}
}

static void times_are_printed_like_clocks(void)
{
	char text[UNITS_TEXT_BYTES];
	CHECK(!strcmp(units_format_seconds(text, 7), "0:07"));
	CHECK(!strcmp(units_format_seconds(text, 754), "12:34"));
	CHECK(!strcmp(units_format_seconds(text, 10921), "3:02:01"));
	CHECK(!strcmp(units_format_seconds(text, 86400 * 4 + 3 * 3600), "4 d 03 h"));
}

int main(void)
{
	RUN(sizes_have_binary_and_decimal_suffixes);
	RUN(bad_sizes_are_refused_and_named);
	RUN(durations_are_in_microseconds);
	RUN(ranges_are_resolved_against_a_size);
	RUN(bad_ranges_are_refused);
	RUN(sizes_are_printed_with_three_figures);
	RUN(times_are_printed_like_clocks);
	return 0;
}
