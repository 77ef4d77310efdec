/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include "check.h"

#include <string.h>

static struct answer judge(struct request r)
{
	struct answer a;
	if (!r.method)
		r.method = "GET";
	if (!r.path)
		r.path = "/media";
	if (!r.host_count && !r.host) {
		r.host = "127.0.0.1:8080";
		r.host_count = 1;
	}
	request_judge(&r, 8080, 1000, "\"v\"", &a);
	return a;
}

static struct answer of_range(const char *range)
{
	return judge((struct request){.range = range});
}

static void paths_and_methods(void)
{
	CHECK_EQ(judge((struct request){.path = "/"}).what, REQUEST_PAGE);
	CHECK_EQ(judge((struct request){.path = "/status"}).what, REQUEST_STATUS);
	CHECK_EQ(judge((struct request){.path = "/media/a%20film.mp4"}).what, REQUEST_MEDIA);
	CHECK_EQ(judge((struct request){.path = "/media", .method = "HEAD"}).len, 1000);
	CHECK_EQ(judge((struct request){.path = "/mediathek"}).status, 404);
	CHECK_EQ(judge((struct request){.path = "/../etc/passwd"}).status, 404);
	CHECK_EQ(judge((struct request){.path = ""}).status, 404);
	CHECK_EQ(judge((struct request){.method = "PUT"}).status, 405);
	CHECK_EQ(judge((struct request){.method = "get"}).status, 405);
}

static unsigned from_host(const char *host)
{
	return judge((struct request){.host = host, .host_count = 1}).status;
}

static void names_of_others_are_refused(void)
{
	CHECK_EQ(from_host("LocalHost:8080"), 200);
	CHECK_EQ(from_host("[::1]:8080"), 200);
	CHECK_EQ(from_host("127.0.0.1"), 403);
	CHECK_EQ(from_host("127.0.0.1:80"), 403);
	CHECK_EQ(from_host("127.0.0.1.example.org:8080"), 403);
	CHECK_EQ(from_host("localhost.example.org:8080"), 403);
	CHECK_EQ(from_host("example.org"), 403);
	CHECK_EQ(from_host(""), 403);
	CHECK_EQ(judge((struct request){.host_count = 2, .host = "127.0.0.1:8080"}).status, 400);
	struct answer a;
	request_judge(&(struct request){.method = "GET", .path = "/"}, 80, 0, "\"v\"", &a);
	CHECK_EQ(a.status, 400);
	request_judge(&(struct request){"GET", "/", "localhost", .host_count = 1}, 80, 0, "", &a);
	CHECK_EQ(a.status, 200);
}

static void pages_of_others_are_refused(void)
{
	CHECK_EQ(judge((struct request){.origin = "http://localhost:8080"}).status, 200);
	CHECK_EQ(judge((struct request){.origin = "https://localhost:8080"}).status, 403);
	CHECK_EQ(judge((struct request){.origin = "http://example.org"}).status, 403);
	CHECK_EQ(judge((struct request){.origin = "null"}).status, 403);
	CHECK_EQ(judge((struct request){.site = "same-origin"}).status, 200);
	CHECK_EQ(judge((struct request){.site = "none"}).status, 200);
	CHECK_EQ(judge((struct request){.site = "cross-site"}).status, 403);
	CHECK_EQ(judge((struct request){.site = "same-site"}).status, 403);
}

static void check_range(const char *range, uint64_t first, uint64_t len)
{
	struct answer a = of_range(range);
	CHECK_EQ(a.status, 206);
	CHECK_EQ(a.first, first);
	CHECK_EQ(a.len, len);
}

static void good_ranges(void)
{
	check_range("bytes=0-0", 0, 1);
	check_range("Bytes=10-19", 10, 10);
	check_range("bytes=990-", 990, 10);
	check_range("bytes=-1", 999, 1);
	check_range("bytes=-5000", 0, 1000);
	check_range("bytes=500-99999999999999999999999999", 500, 500);
	check_range("bytes= 1-2 ", 1, 2);
}

static void absurd_ranges(void)
{
	const char *const refused[] = {"bytes=1000-",  "bytes=99999999999999999999999-",
	                               "bytes=-0",     "bytes=0-1,2-3",
	                               "bytes=-1,0-0", "bytes=18446744073709551615-"};
	const char *const ignored[] = {"bytes=",     "bytes=-",   "bytes=5-4", "bytes=a-b",
	                               "bytes=1-2x", "items=0-1", "bytes 0-1", "",
	                               "bytes=--1",  "bytes=1--1"};
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		CHECK_EQ(of_range(refused[i]).status, 416);
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) {
		CHECK_EQ(of_range(ignored[i]).status, 200);
		CHECK_EQ(of_range(ignored[i]).len, 1000);
	}
	struct answer a;
	request_judge(&(struct request){"GET", "/media", "localhost:1", .range = "bytes=0-",
	                                .host_count = 1},
	              1, 0, "\"v\"", &a);
	CHECK_EQ(a.status, 416);
}

static struct answer of_target(const char *path)
{
	struct answer a;
	request_judge(&(struct request){"GET", path, "localhost:8080", .host_count = 1}, 8080, 1000,
	              "\"v\"", &a);
	return a;
}

/* RFC 9112, 3.2.2: a server accepts it, whoever sends it. */
static void whole_addresses(void)
{
	CHECK_EQ(of_target("http://127.0.0.1:8080/media").what, REQUEST_MEDIA);
	CHECK_EQ(of_target("HTTP://localhost:8080").what, REQUEST_PAGE);
	CHECK_EQ(of_target("http://[::1]:8080/status").what, REQUEST_STATUS);
	CHECK_EQ(of_target("http://evil.example:8080/media").status, 403);
	CHECK_EQ(of_target("http://127.0.0.1:81/media").status, 403);
	CHECK_EQ(of_target("http://a.name.that.is.longer.than.any.of.ours:8080/").status, 403);
	CHECK_EQ(of_target("http:///media").status, 403);
	CHECK_EQ(of_target("ftp://localhost:8080/media").status, 404);
}

static void ranges_of_another_version_are_ignored(void)
{
	CHECK_EQ(judge((struct request){.range = "bytes=1-2", .if_range = "\"v\""}).status, 206);
	CHECK_EQ(judge((struct request){.range = "bytes=1-2", .if_range = "\"w\""}).status, 200);
}

static void seconds(void)
{
	uint64_t us;
	CHECK(request_seconds("12", &us) && us == 12000000);
	CHECK(request_seconds("0.0000019", &us) && us == 1);
	CHECK(request_seconds("3.25", &us) && us == 3250000);
	CHECK(!request_seconds("", &us) && !request_seconds("-1", &us));
	CHECK(!request_seconds("1e9", &us) && !request_seconds("NaN", &us));
	CHECK(!request_seconds("99999999999999999999", &us));
}

int main(void)
{
	RUN(paths_and_methods);
	RUN(names_of_others_are_refused);
	RUN(pages_of_others_are_refused);
	RUN(good_ranges);
	RUN(absurd_ranges);
	RUN(whole_addresses);
	RUN(ranges_of_another_version_are_ignored);
	RUN(seconds);
	return 0;
}
