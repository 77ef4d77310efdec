/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/url.h"

#include "check.h"

#include <errno.h>
#include <string.h>

static void schemes(void)
{
	CHECK_EQ(hither_url_scheme("http://host/"), 4);
	CHECK_EQ(hither_url_scheme("nbd+unix:///x?socket=y"), 8);
	CHECK_EQ(hither_url_scheme("memory:1G"), 6);
	CHECK_EQ(hither_url_scheme("s3:x"), 2);
	CHECK_EQ(hither_url_scheme("file"), 0);
	CHECK_EQ(hither_url_scheme(""), 0);
	CHECK_EQ(hither_url_scheme(":x"), 0);
	CHECK_EQ(hither_url_scheme("/a:b"), 0);
	CHECK_EQ(hither_url_scheme("./a:b"), 0);
	CHECK_EQ(hither_url_scheme("a b:c"), 0);
	CHECK_EQ(hither_url_scheme("3s:x"), 0);
	CHECK_EQ(hither_url_scheme("HTTP://host/"), 0);
}

static void secrets_are_not_shown(void)
{
	static const char *const cases[][2] = {
	        {"http://host/path?a=b", "http://host/path?a=b"},
	        {"http://user:password@host/p", "http://user:***@host/p"},
	        {"http://user@host/p", "http://user@host/p"},
	        {"http://user:@host/p", "http://user:***@host/p"},
	        {"http://:password@host", "http://:***@host"},
	        {"http://user:p@ss@host/p@q", "http://user:***@host/p@q"},
	        {"http://user:pa:ss@host:80/", "http://user:***@host:80/"},
	        {"http://user:pa/ss@host/p", "http://user:***@host/p"},
	        {"http://user:pa?ss@host/p", "http://user:***@host/p"},
	        {"http://host:80/p@q", "http://host:80/p@q"},
	        {"http://host/p:q@r", "http://host/p:q@r"},
	        {"http://[::1]:8080/a@b", "http://[::1]:8080/a@b"},
	        {"http://[::1]/a@b", "http://[::1]/a@b"},
	        {"http://[fe80::1]/", "http://[fe80::1]/"},
	        {"http://u:p@[::1]:8080/a", "http://u:***@[::1]:8080/a"},
	        {"HTTP://user:password@host/p", "HTTP://user:***@host/p"},
	        {"redis://:password@host:6379/0", "redis://:***@host:6379/0"},
	        {"http://h/p?token=abc", "http://h/p?token=***"},
	        {"http://h/p?a=1&sig=abc&b=2", "http://h/p?a=1&sig=***&b=2"},
	        {"http://h/p?X-Amz-Signature=abc&X-Amz-Date=d",
	         "http://h/p?X-Amz-Signature=***&X-Amz-Date=d"},
	        {"http://h/p?X-Amz-Security-Token=abc", "http://h/p?X-Amz-Security-Token=***"},
	        {"http://h/p?ACCESS_TOKEN=abc", "http://h/p?ACCESS_TOKEN=***"},
	        {"http://h/p?password=a=b&c", "http://h/p?password=***&c"},
	        {"http://h/p?signature", "http://h/p?signature"},
	        {"http://h/p?signed=1&design=2", "http://h/p?signed=1&design=2"},
	        {"http://h/p?a=b#token=abc", "http://h/p?a=b#token=***"},
	        {"http://u:p@h/p?sig=x", "http://u:***@h/p?sig=***"},
	        {"file:/a/b?c", "file:/a/b?c"},
	        {"/plain/user:password@x?token=y", "/plain/user:password@x?token=y"},
	        {"", ""},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char out[256];
		hither_url_redact(cases[i][0], out, sizeof out);
		if (strcmp(out, cases[i][1]) != 0)
			fprintf(stderr, "%s: %s\n", cases[i][0], out);
		CHECK(strcmp(out, cases[i][1]) == 0);
	}
}

static void a_redaction_is_cut_to_fit(void)
{
	static const char url[] = "http://user:password@host/path?token=abc";
	char whole[64];
	hither_url_redact(url, whole, sizeof whole);
	for (size_t size = 0; size < sizeof whole; size++) {
		char out[sizeof whole + 1];
		memset(out, '#', sizeof out);
		hither_url_redact(url, out, size);
		CHECK(out[size] == '#');
		if (size == 0)
			continue;
		size_t len = strlen(whole) < size - 1 ? strlen(whole) : size - 1;
		CHECK(strlen(out) == len && memcmp(out, whole, len) == 0);
	}
}

static void paths(void)
{
	char out[64];
	CHECK_EQ(hither_url_path("file:///a/b", false, out, sizeof out), 0);
	CHECK(strcmp(out, "/a/b") == 0);
	CHECK_EQ(hither_url_path("file://localhost/a", false, out, sizeof out), 0);
	CHECK(strcmp(out, "/a") == 0);
	CHECK_EQ(hither_url_path("file:a%20b%2fC", false, out, sizeof out), 0);
	CHECK(strcmp(out, "a b/C") == 0);
	CHECK_EQ(hither_url_path("a%20b", false, out, sizeof out), 0);
	CHECK(strcmp(out, "a%20b") == 0);
	CHECK_EQ(hither_url_path("directory:///d?chunk=1", true, out, sizeof out), 0);
	CHECK(strcmp(out, "/d") == 0);
	CHECK_EQ(hither_url_path("file:///d?x", false, out, sizeof out), 0);
	CHECK(strcmp(out, "/d?x") == 0);
	static const char *const bad[] = {
	        "",         "file:",     "file://",    "file://host/a",    "file:a%",
	        "file:a%2", "file:a%zz", "file:a%00b", "directory:?size=1"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK_EQ(hither_url_path(bad[i], true, out, sizeof out), -EINVAL);
	CHECK_EQ(hither_url_path("file:abcd", false, out, 4), -ENAMETOOLONG);
	CHECK_EQ(hither_url_path("abcd", false, out, 4), -ENAMETOOLONG);
	CHECK_EQ(hither_url_path("file:abc", false, out, 4), 0);
	CHECK_EQ(hither_url_path("file:%41", false, out, 2), 0);
	CHECK(strcmp(out, "A") == 0);
}

static void options(void)
{
	static const char url[] = "x:///p?chunk=4096&size=1%47&empty=&chunk=5";
	char out[16];
	CHECK_EQ(hither_url_option(url, "chunk", out, sizeof out), 0);
	CHECK(strcmp(out, "4096") == 0);
	CHECK_EQ(hither_url_option(url, "size", out, sizeof out), 0);
	CHECK(strcmp(out, "1G") == 0);
	CHECK_EQ(hither_url_option(url, "empty", out, sizeof out), 0);
	CHECK(strcmp(out, "") == 0);
	CHECK_EQ(hither_url_option(url, "siz", out, sizeof out), -ENOENT);
	CHECK_EQ(hither_url_option("x:///p", "size", out, sizeof out), -ENOENT);
	CHECK_EQ(hither_url_option(url, "chunk", out, 4), -ENAMETOOLONG);
}

static void sizes(void)
{
	uint64_t n = 7;
	CHECK_EQ(hither_parse_bytes("0", &n), 0);
	CHECK(n == 0);
	CHECK_EQ(hither_parse_bytes("300001", &n), 0);
	CHECK(n == 300001);
	CHECK_EQ(hither_parse_bytes("64k", &n), 0);
	CHECK(n == 65536);
	CHECK_EQ(hither_parse_bytes("3M", &n), 0);
	CHECK(n == 3u << 20);
	CHECK_EQ(hither_parse_bytes("1G", &n), 0);
	CHECK(n == 1u << 30);
	CHECK_EQ(hither_parse_bytes("1T", &n), 0);
	CHECK(n == UINT64_C(1) << 40);
	CHECK_EQ(hither_parse_bytes("9223372036854775807", &n), 0);
	CHECK(n == INT64_MAX);
	n = 7;
	CHECK_EQ(hither_parse_bytes("9223372036854775808", &n), -ERANGE);
	CHECK_EQ(hither_parse_bytes("99999999999999999999999", &n), -ERANGE);
	CHECK_EQ(hither_parse_bytes("8388608T", &n), -ERANGE);
	static const char *const bad[] = {"", "k", "-1", " 1", "1 ", "1kk", "1x", "0x10", "1.5G"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK_EQ(hither_parse_bytes(bad[i], &n), -EINVAL);
	CHECK(n == 7);
}

int main(void)
{
	RUN(schemes);
	RUN(secrets_are_not_shown);
	RUN(a_redaction_is_cut_to_fit);
	RUN(paths);
	RUN(options);
	RUN(sizes);
	return 0;
}
