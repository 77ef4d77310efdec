/* SPDX-License-Identifier: Apache-2.0 */
#include "base/library.h"

#include "check.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static int starts;
static double (*real_cos)(double);

static void start(void)
{
	starts++;
}

static const char *const libm[] = {"libnot-there.so.9", "libm.so.6", NULL};

static void one_is_found_under_its_second_name_and_started_once(void)
{
	static const struct hither_library_symbol symbols[] = {{"cos", &real_cos}};
	struct hither_library library = {
	        .files = libm, .symbols = symbols, .symbol_count = 1, .start = start};
	struct hither_error err = {0};
	CHECK_OK(hither_library_load(&library, &err));
	CHECK_OK(hither_library_load(&library, &err));
	CHECK(real_cos(0) == 1);
	CHECK_EQ(starts, 1);
}

static void one_that_is_not_there_is_named_with_its_package(void)
{
	static const char *const files[] = {"libnot-there.so.9", NULL};
	struct hither_library library = {.files = files, .package = "libnot-there9"};
	struct hither_error err = {0};
	CHECK_EQ(hither_library_load(&library, &err), -ELIBACC);
	CHECK(strstr(err.message, "libnot-there.so.9") &&
	      strstr(err.message, "install libnot-there9"));
}

static void one_without_a_function_is_refused(void)
{
	static void *nothing;
	static const struct hither_library_symbol symbols[] = {{"no_such_function", &nothing}};
	struct hither_library library = {
	        .files = libm + 1, .symbols = symbols, .symbol_count = 1, .start = start};
	struct hither_error err = {0};
	starts = 0;
	CHECK_EQ(hither_library_load(&library, &err), -ELIBACC);
	CHECK(strstr(err.message, "no_such_function"));
	CHECK_EQ(starts, 0);
}

/* Whatever is the matter with the first one, the second may do; else the first is complained of. */
static void one_that_is_too_old_is_passed_over(void)
{
	static const char *const files[] = {"libdl.so.2", "libm.so.6", NULL};
	static const char *const neither[] = {"libdl.so.2", "libnot-there.so.9", NULL};
	static const struct hither_library_symbol symbols[] = {{"cos", &real_cos}};
	struct hither_library library = {.files = files, .symbols = symbols, .symbol_count = 1};
	struct hither_error err = {0};
	real_cos = NULL;
	CHECK_OK(hither_library_load(&library, &err));
	CHECK(real_cos(0) == 1);
	CHECK_EQ(err.code, 0);
	library = (struct hither_library){
	        .files = neither, .package = "dl", .symbols = symbols, .symbol_count = 1};
	CHECK_EQ(hither_library_load(&library, &err), -ELIBACC);
	CHECK(strstr(err.message, "libdl.so.2 is too old"));
}

int main(void)
{
	RUN(one_is_found_under_its_second_name_and_started_once);
	RUN(one_that_is_not_there_is_named_with_its_package);
	RUN(one_without_a_function_is_refused);
	RUN(one_that_is_too_old_is_passed_over);
	return 0;
}
