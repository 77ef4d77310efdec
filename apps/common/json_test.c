/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "check.h"

#include <math.h>
#include <string.h>

static void check_text(const struct json *j, const char *expected)
{
	if (strcmp(j->text, expected)) {
		fprintf(stderr, "%s\nnot\n%s\n", j->text, expected);
		CHECK(false);
	}
}

static void values_are_separated_by_commas(void)
{
	AUTO_JSON struct json j = {0};
	json_object(&j, NULL);
	json_array(&j, "list");
	json_uint(&j, NULL, 1);
	json_object(&j, NULL);
	json_end_object(&j);
	json_uint(&j, NULL, UINT64_MAX);
	json_end_array(&j);
	json_bool(&j, "yes", true);
	json_int(&j, "low", INT64_MIN);
	json_string(&j, "none", NULL);
	json_raw(&j, "raw", "[]");
	json_end_object(&j);
	check_text(&j, "{\"list\":[1,{},18446744073709551615],\"yes\":true,"
	               "\"low\":-9223372036854775808,\"none\":null,\"raw\":[]}");
}

static void strings_are_escaped(void)
{
	AUTO_JSON struct json j = {0};
	json_string(&j, NULL, "a\"b\\c\nd\te\x7f é €𝄞");
	check_text(&j, "\"a\\\"b\\\\c\\nd\\u0009e\\u007f é €𝄞\"");
}

static void what_is_not_utf8_is_replaced(void)
{
	/* A stray byte, a cut sequence, an overlong slash, a surrogate, one beyond the last code.
	 */
	static const char *const bad[] = {"\xff", "\xe2\x82", "\xc0\xaf", "\xed\xa0\x80",
	                                  "\xf4\x90\x80\x80"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		AUTO_JSON struct json j = {0};
		json_string(&j, NULL, bad[i]);
		CHECK(strstr(j.text, "\xef\xbf\xbd"));
		CHECK(!strstr(j.text, bad[i]));
	}
}

static void what_is_written_is_read_back(void)
{
	static const char text[] = "a \"quoted\" \\ name,\n}{:\x01 é";
	char out[64], tight[5];
	AUTO_JSON struct json j = {0};
	json_object(&j, NULL);
	json_string(&j, "dirty_bytes", "not this, \"n\":5}");
	json_string(&j, "text", text);
	json_uint(&j, "n", UINT64_MAX);
	json_int(&j, "minus", -110);
	json_bool(&j, "on", true);
	json_end_object(&j);
	CHECK(json_get_string(j.text, "text", out, sizeof out));
	CHECK(!strcmp(out, text));
	CHECK(json_get_uint(j.text, "n") == UINT64_MAX);
	CHECK_EQ(json_get_int(j.text, "minus"), -110);
	CHECK(json_get_bool(j.text, "on"));
	CHECK(!json_get_bool(j.text, "n"));
	CHECK_EQ(json_get_uint(j.text, "absent"), 0);
	CHECK(json_get_double("{\"at\":-1.25}", "at") == -1.25);
	CHECK(isnan(json_get_double("{\"at\":null}", "at")));
	CHECK(!json_get_string(j.text, "absent", out, sizeof out));
	CHECK(!json_get_string(j.text, "text", tight, sizeof tight));
}

/* Every cut of a good object must be survived, whatever is found in it. */
static void torn_objects_are_survived(void)
{
	static const char whole[] =
	        " {\"a\" : \"x\\u0041\\\\\" , \"b\":12,\"c\":true,\"d\":\"\\u00\"}";
	char cut[sizeof whole], out[16];
	for (size_t len = 0; len < sizeof whole; len++) {
		memcpy(cut, whole, len);
		cut[len] = 0;
		json_get_string(cut, "a", out, sizeof out);
		json_get_string(cut, "d", out, sizeof out);
		json_get_uint(cut, "b");
		json_get_bool(cut, "c");
	}
	CHECK(json_get_string(whole, "a", out, sizeof out));
	CHECK(!strcmp(out, "xA\\"));
	CHECK_EQ(json_get_uint(whole, "b"), 12);
}

int main(void)
{
	RUN(values_are_separated_by_commas);
	RUN(strings_are_escaped);
	RUN(what_is_not_utf8_is_replaced);
	RUN(what_is_written_is_read_back);
	RUN(torn_objects_are_survived);
	return 0;
}
