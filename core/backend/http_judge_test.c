/* SPDX-License-Identifier: Apache-2.0 */
/* What header lines mean, and which answers fit which questions; no network. */
#include "backend/http_answer.h"
#include "check.h"

#include <errno.h>
#include <string.h>

static struct hither_error err;

/* Lines separated by \n. */
static struct hither_http_answer parse(const char *text)
{
	struct hither_http_answer a = {0};
	while (*text) {
		size_t len = strcspn(text, "\n") + 1;
		hither_http_answer_line(&a, text, len);
		text += len;
	}
	hither_http_answer_line(&a, "\r\n", 2);
	return a;
}

static struct hither_http_question opening(void)
{
	return (struct hither_http_question){
	        .url = "http://host/x", .opening = true, .len = HITHER_HTTP_FIRST_BYTES};
}

/* Bytes 1000-1099 of 5000, of version "v". */
static struct hither_http_question range(void)
{
	return (struct hither_http_question){.url = "http://host/x",
	                                     .offset = 1000,
	                                     .len = 100,
	                                     .size_bytes = 5000,
	                                     .version = {.etag = "\"v\"", .modified = "then"}};
}

static int judge(struct hither_http_question q, const char *text)
{
	struct hither_http_answer a = parse(text);
	err = (struct hither_error){0};
	CHECK(a.ended);
	int r = hither_http_judge(&a, &q, &err);
	CHECK_EQ(r < 0 ? r : 0, err.code);
	CHECK_EQ(hither_http_judge(&a, &q, NULL), r);
	if (r < 0)
		CHECK(strstr(err.message, "http://host/x"));
	return r;
}

static void lines_are_read_as_the_standard_says(void)
{
	struct hither_http_answer a = parse("HTTP/1.1 206 Partial Content\r\n"
	                                    "content-LENGTH:  100 \r\n"
	                                    "Content-Range: bytes 1000-1099/5000\r\n"
	                                    "ETag:\t\"v\"\t\r\n"
	                                    "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	                                    "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	                                    "no colon here\r\n"
	                                    ": no name\r\n"
	                                    "X-Else: whatever\r\n");
	CHECK_EQ(a.status, 206);
	CHECK(a.has_length && a.has_range && a.has_total && !a.bad_range && !a.chunked);
	CHECK_EQ(a.length, 100);
	CHECK_EQ(a.first, 1000);
	CHECK_EQ(a.last, 1099);
	CHECK_EQ(a.total, 5000);
	CHECK_EQ(a.date, 784111777);
	CHECK_EQ(hither_http_date(a.version.modified), 784111777);
	CHECK_EQ(hither_http_date("yesterday"), 0);
	CHECK(strcmp(a.version.etag, "\"v\"") == 0);
	CHECK(strcmp(a.version.modified, "Sun, 06 Nov 1994 08:49:37 GMT") == 0);
	/* After the headers come trailers, which say nothing; a status line starts anew. */
	hither_http_answer_line(&a, "ETag: \"w\"\r\n", 11);
	CHECK(strcmp(a.version.etag, "\"v\"") == 0);
	hither_http_answer_line(&a, "HTTP/2 200\r\n", 12);
	CHECK_EQ(a.status, 200);
	CHECK(!a.ended && !a.has_length && !a.version.etag[0] && a.chunked);
	CHECK_EQ(parse("HTTP/1.1 2x6 What\r\n").status, 0);
	CHECK_EQ(parse("ICY 200 OK\r\n").status, 0);
}

static void content_range_must_make_sense(void)
{
	static const char *const bad[] = {"bytes 5-4/10",
	                                  "bytes 0-10/10",
	                                  "bytes 0-9",
	                                  "bytes -9/10",
	                                  "bytes 0-/10",
	                                  "bytes 0-9/",
	                                  "bytes 0-9/10x",
	                                  "bytes0-9/10",
	                                  "lines 0-9/10",
	                                  "bytes",
	                                  "",
	                                  "bytes */*",
	                                  "bytes * /10",
	                                  "bytes 0-9/-1",
	                                  "bytes 0x0-9/10",
	                                  "bytes 5-4/*",
	                                  "bytes 0-9/99999999999999999999999"};
	char text[200];
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(text, sizeof text, "HTTP/1.1 206 P\r\nContent-Range: %s\r\n", bad[i]);
		CHECK(parse(text).bad_range);
	}
	CHECK(!parse("HTTP/1.1 206 P\nContent-Range: BYTES 0-9/*\n").bad_range);
	CHECK(!parse("HTTP/1.1 206 P\nContent-Range: bytes   0-0/18446744073709551615\n")
	               .bad_range);
	CHECK(!parse("HTTP/1.1 206 P\nContent-Range: bytes 0-9/10\nContent-Range: bytes 0-9/10\n")
	               .bad_range);
	CHECK(parse("HTTP/1.1 206 P\nContent-Range: bytes 0-9/10\nContent-Range: bytes 0-8/10\n")
	              .bad_range);
	CHECK(parse("HTTP/1.1 206 P\nContent-Range: bad\nContent-Range: bytes 0-8/10\n").bad_range);
}

static void versions_go_to_text_and_back(void)
{
	struct hither_http_version v = {.etag = "W/\"a\"", .modified = "then"};
	char text[HITHER_HTTP_ETAG_BYTES + 16];
	hither_http_version_print(&v, text, sizeof text);
	CHECK(strcmp(text, "etag:W/\"a\"") == 0);
	CHECK(!hither_http_version_is_strong(&v));
	hither_http_version_parse(&v, text);
	CHECK(strcmp(v.etag, "W/\"a\"") == 0 && !v.modified[0]);
	hither_http_version_parse(&v, "modified:then");
	CHECK(!v.etag[0] && strcmp(v.modified, "then") == 0);
	hither_http_version_print(&v, text, sizeof text);
	CHECK(strcmp(text, "modified:then") == 0);
	hither_http_version_parse(&v, "mtime:12");
	hither_http_version_print(&v, text, sizeof text);
	CHECK(strcmp(text, "") == 0);
	hither_http_version_parse(&v, "etag:\"a\"\r\nX: y");
	CHECK(!v.etag[0]);
	hither_http_version_parse(&v, "etag:\"a\"");
	CHECK(hither_http_version_is_strong(&v));
	hither_http_version_parse(&v, "etag:\"");
	CHECK(!hither_http_version_is_strong(&v));
}

static void a_version_that_does_not_fit_is_left_out(void)
{
	char text[400], etag[HITHER_HTTP_ETAG_BYTES + 1];
	memset(etag, 'e', sizeof etag);
	etag[HITHER_HTTP_ETAG_BYTES] = 0;
	snprintf(text, sizeof text, "HTTP/1.1 206 P\nETag: %s\nLast-Modified: a\tb\n", etag);
	CHECK(!parse(text).version.etag[0]);
	CHECK(!parse(text).version.modified[0]);
	etag[HITHER_HTTP_ETAG_BYTES - 1] = 0;
	snprintf(text, sizeof text, "HTTP/1.1 206 P\nETag: %s\n", etag);
	CHECK(strcmp(parse(text).version.etag, etag) == 0);
}

static void opening_takes_a_good_range(void)
{
	CHECK_EQ(judge(opening(), "HTTP/1.1 206 P\nContent-Range: bytes 0-8191/9000\n"),
	         HITHER_HTTP_RANGE);
	CHECK_EQ(
	        judge(opening(), "HTTP/1.1 206 P\nContent-Range: bytes 0-0/1\nContent-Length: 1\n"),
	        HITHER_HTTP_RANGE);
	CHECK_EQ(judge(opening(), "HTTP/1.1 206 P\nContent-Range: bytes "
	                          "0-8191/8192\nContent-Encoding: identity\n"),
	         HITHER_HTTP_RANGE);
}

static void opening_refuses_a_bad_one(void)
{
	struct hither_http_question q = opening();
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\n"), -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 0-8190/9000\n"), -EPROTO);
	CHECK(strstr(err.message, "bytes 0-8190 when 0-8191"));
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 1-8191/9000\n"), -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 0-99/200\n"), -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 0-8191/*\n"), -EPROTO);
	CHECK(strstr(err.message, "how large"));
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes */9000\n"), -EPROTO);
	CHECK_EQ(judge(q,
	               "HTTP/1.1 206 P\nContent-Range: bytes 0-8191/9000\nContent-Length: 8191\n"),
	         -EPROTO);
	CHECK(strstr(err.message, "announced 8191"));
	CHECK_EQ(judge(q,
	               "HTTP/1.1 206 P\nContent-Range: bytes 0-8191/9000\nContent-Encoding: br\n"),
	         -EPROTO);
	CHECK(strstr(err.message, "br"));
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 0-8191/9000\nContent-Encoding: "
	                  "a-very-long-name-for-"
	                  "an-encoding-that-nobody-knows\n"),
	         -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 0-8191/9000\nContent-Type: "
	                  "Multipart/Byteranges; x\n"),
	         -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 0-8191/9223372036854775808\n"),
	         -EFBIG);
}

static void opening_without_ranges(void)
{
	struct hither_http_question q = opening();
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 1048576\n"), HITHER_HTTP_WHOLE);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 1048577\n"), -EOPNOTSUPP);
	CHECK(strstr(err.message, "download it first"));
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n"), HITHER_HTTP_WHOLE);
	CHECK_EQ(judge(q, "HTTP/2 200\n"), HITHER_HTTP_WHOLE);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\n"), -EOPNOTSUPP);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: -1\n"), -EOPNOTSUPP);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Encoding: gzip\n"), -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 0\n"), HITHER_HTTP_EMPTY);
	CHECK_EQ(judge(q, "HTTP/1.1 416 No\nContent-Range: bytes */0\n"), HITHER_HTTP_EMPTY);
	CHECK_EQ(judge(q, "HTTP/1.1 416 No\nContent-Range: bytes */7\n"), -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 416 No\n"), -EPROTO);
}

static void opening_a_known_version(void)
{
	struct hither_http_question q = opening();
	CHECK_EQ(judge(q, "HTTP/1.1 304 Same\n"), -EPROTO);
	q.conditional = true;
	strcpy(q.version.etag, "\"v\"");
	CHECK_EQ(judge(q, "HTTP/1.1 304 Same\n"), HITHER_HTTP_UNCHANGED);
	CHECK_EQ(judge(q, "HTTP/1.1 304 Same\nETag: \"v\"\nLast-Modified: x\n"),
	         HITHER_HTTP_UNCHANGED);
	CHECK_EQ(judge(q, "HTTP/1.1 304 Same\nETag: \"w\"\n"), HITHER_HTTP_RENEW);
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 0-8191/9000\nETag: \"w\"\n"),
	         HITHER_HTTP_RANGE);
	CHECK_EQ(judge(range(), "HTTP/1.1 304 Same\n"), -EPROTO);
}

#define RANGE "HTTP/1.1 206 P\nContent-Range: bytes 1000-1099/"

static void a_range_must_be_the_one_of_the_version_opened(void)
{
	struct hither_http_question q = range();
	CHECK_EQ(judge(q, RANGE "5000\n"), HITHER_HTTP_RANGE);
	CHECK_EQ(judge(q, RANGE "*\nETag: \"v\"\n"), HITHER_HTTP_RANGE);
	CHECK_EQ(judge(q, RANGE "5000\nETag: \"v\"\nLast-Modified: now\n"), HITHER_HTTP_RANGE);
	CHECK_EQ(judge(q, RANGE "5000\nLast-Modified: then\n"), HITHER_HTTP_RANGE);
	CHECK_EQ(judge(q, RANGE "5000\nETag: \"w\"\n"), -ESTALE);
	CHECK(strstr(err.message, "\"v\"") && strstr(err.message, "\"w\""));
	CHECK_EQ(judge(q, RANGE "5000\nETag: W/\"v\"\n"), -ESTALE);
	CHECK_EQ(judge(q, RANGE "5000\nLast-Modified: now\n"), -ESTALE);
	CHECK(strstr(err.message, "then") && strstr(err.message, "now"));
	CHECK_EQ(judge(q, RANGE "5001\n"), -ESTALE);
	CHECK(strstr(err.message, "5000") && strstr(err.message, "5001"));
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 1001-1100/5000\n"), -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 1000-1100/5000\n"), -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 206 P\nContent-Range: bytes 1000-1098/5000\n"), -EPROTO);
}

static void a_whole_resource_instead_of_a_range(void)
{
	struct hither_http_question q = range();
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 5000\nETag: \"v\"\n"),
	         HITHER_HTTP_WHOLE);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 5001\nETag: \"v\"\n"), -ESTALE);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 5000\nETag: \"w\"\n"), -ESTALE);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 99\nContent-Encoding: gzip\n"),
	         -EPROTO);
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n"), -EPROTO);
	q.size_bytes = 2000000;
	CHECK_EQ(judge(q, "HTTP/1.1 200 OK\nContent-Length: 2000000\n"), -EPROTO);
	CHECK(strstr(err.message, "whole resource"));
}

static void gone_shrunk_or_changed_is_stale(void)
{
	struct hither_http_question q = range();
	CHECK_EQ(judge(q, "HTTP/1.1 412 No\n"), -ESTALE);
	CHECK_EQ(judge(q, "HTTP/1.1 416 No\nContent-Range: bytes */10\n"), -ESTALE);
	CHECK(strstr(err.message, "has 10 now"));
	CHECK_EQ(judge(q, "HTTP/1.1 416 No\n"), -ESTALE);
	CHECK_EQ(judge(q, "HTTP/1.1 404 No\n"), -ESTALE);
	CHECK_EQ(judge(q, "HTTP/1.1 410 No\n"), -ESTALE);
	CHECK_EQ(judge(opening(), "HTTP/1.1 404 No\n"), -ENOENT);
	CHECK_EQ(judge(opening(), "HTTP/1.1 410 No\n"), -ENOENT);
	CHECK_EQ(judge(opening(), "HTTP/1.1 412 No\n"), -EIO);
}

static void refusals_say_what_to_do(void)
{
	struct hither_http_question q = opening();
	CHECK_EQ(judge(q, "HTTP/1.1 401 No\n"), -EACCES);
	CHECK(strstr(err.message, "--user") && strstr(err.message, "netrc"));
	CHECK_EQ(judge(q, "HTTP/1.1 403 No\n"), -EACCES);
	CHECK_EQ(judge(q, "HTTP/1.1 407 No\n"), -EACCES);
	CHECK(strstr(err.message, "proxy"));
	q.signed_in = true;
	CHECK_EQ(judge(q, "HTTP/1.1 401 No\n"), -EACCES);
	CHECK(strstr(err.message, "refuses this name and password"));
}

static int retry_after(const char *text, int64_t now)
{
	struct hither_http_question q = range();
	char all[300];
	q.now = now;
	snprintf(all, sizeof all, "HTTP/1.1 503 Busy\n%s", text);
	CHECK_EQ(judge(q, all), -EAGAIN);
	return err.retry_after_ms;
}

static void a_busy_server_may_say_for_how_long(void)
{
	static const int codes[] = {408, 425, 429, 500, 502, 503, 504, 520, 599};
	char text[40];
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		snprintf(text, sizeof text, "HTTP/1.1 %d Busy\n", codes[i]);
		CHECK_EQ(judge(range(), text), -EAGAIN);
		CHECK_EQ(judge(opening(), text), -EAGAIN);
	}
	CHECK_EQ(retry_after("", 0), 0);
	CHECK_EQ(retry_after("Retry-After: 120\n", 0), 120000);
	CHECK_EQ(retry_after("Retry-After: 12x\n", 0), 0);
	CHECK_EQ(retry_after("Retry-After: -3\n", 0), 0);
	CHECK_EQ(retry_after("Retry-After: 99999999999\n", 0), 86400000);
	CHECK_EQ(retry_after("Retry-After: 99999999999999999999999\n", 0), 0);
	CHECK_EQ(retry_after("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\n", 784111777 - 10),
	         10000);
	CHECK_EQ(retry_after("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\n", 784111777 + 10), 0);
	CHECK_EQ(retry_after("Retry-After: Sun, 06 Nov 2094 08:49:37 GMT\n", 0), 86400000);
	CHECK_EQ(retry_after("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\nDate: Sun, 06 Nov 1994 "
	                     "08:49:30 GMT\n",
	                     5),
	         7000);
	CHECK_EQ(retry_after("Retry-After: Sun, 06 Nix 1994 08:49:37 GMT\n", 0), 0);
	CHECK_EQ(retry_after("Retry-After: Sun, 06 Nov 1994 08:49:37 CET\n", 0), 0);
	CHECK_EQ(retry_after("Retry-After: Sun, 06 Nov 1894 08:49:37 GMT\n", 0), 0);
}

static void everything_else_is_an_error(void)
{
	CHECK_EQ(judge(range(), "HTTP/1.1 400 No\n"), -EIO);
	CHECK_EQ(judge(range(), "HTTP/1.1 501 No\n"), -EIO);
	CHECK(strstr(err.message, "501"));
	CHECK_EQ(judge(range(), "HTTP/1.1 204 Nothing\n"), -EPROTO);
	CHECK_EQ(judge(range(), "HTTP/1.1 302 Elsewhere\n"), -EPROTO);
	CHECK_EQ(judge(range(), "HTTP/1.1 999 What\n"), -EPROTO);
	CHECK_EQ(judge(range(), "HTTP/1.1 x\n"), -EPROTO);
}

int main(void)
{
	RUN(lines_are_read_as_the_standard_says);
	RUN(content_range_must_make_sense);
	RUN(versions_go_to_text_and_back);
	RUN(a_version_that_does_not_fit_is_left_out);
	RUN(opening_takes_a_good_range);
	RUN(opening_refuses_a_bad_one);
	RUN(opening_without_ranges);
	RUN(opening_a_known_version);
	RUN(a_range_must_be_the_one_of_the_version_opened);
	RUN(a_whole_resource_instead_of_a_range);
	RUN(gone_shrunk_or_changed_is_stale);
	RUN(refusals_say_what_to_do);
	RUN(a_busy_server_may_say_for_how_long);
	RUN(everything_else_is_an_error);
	return 0;
}
