/* SPDX-License-Identifier: Apache-2.0 */
#include "url.h"

#include "check.h"
#include "util.h"

#include <string.h>

static void check_is(char *got, const char *expected)
{
	AUTO_FREE char *text = got;
	CHECK(text);
	if (strcmp(text, expected)) {
		fprintf(stderr, "%s, not %s\n", text, expected);
		CHECK(false);
	}
}

static void a_file_is_named_by_the_end_of_its_url(void)
{
	check_is(url_file_name("http://host/a/b.img"), "b.img");
	check_is(url_file_name("http://host/a/b%20c.img?x=/y#z"), "b c.img");
	check_is(url_file_name("http://host/a/b/"), "b");
	check_is(url_file_name("http://user:pw@host:80/"), "host");
	check_is(url_file_name("http://host"), "host");
	check_is(url_file_name("http://[::1]:8080/"), "::1");
	check_is(url_file_name("http://me:pw@[fe80::1%25eth0]"), "fe80::1%eth0");
	check_is(url_file_name("http://["), "http");
	check_is(url_file_name("nbd+unix:///?socket=/tmp/s"), "nbd+unix");
	check_is(url_file_name("nbd://host/export"), "export");
	check_is(url_file_name("memory:1G"), "1G");
	check_is(url_file_name("/data/disk?.img"), "disk?.img");
	check_is(url_file_name("disk%20.img"), "disk%20.img");
	check_is(url_file_name("file:/data/disk"), "disk");
}

static void a_name_is_never_a_way_out(void)
{
	check_is(url_file_name("http://host/a/%2e%2e"), "hither");
	check_is(url_file_name("http://host/..%2f..%2fetc"), ".._.._etc");
	check_is(url_file_name("http://host/a%00b"), "a_b");
	check_is(url_file_name("/"), "hither");
	check_is(url_file_name(".."), "hither");
}

static void secrets_are_not_shown(void)
{
	check_is(url_redact("http://me:p@ss@host/a"), "http://me:***@host/a");
	check_is(url_redact("h://a?sig=&key=k"), "h://a?sig=***&key=***");
	check_is(url_redact("nbd+unix:///?socket=/tmp/s"), "nbd+unix:///?socket=/tmp/s");
	check_is(url_redact("/path?key=1"), "/path?key=1");
}

static void paths_become_absolute(void)
{
	CHECK(!chdir("/usr"));
	check_is(url_absolute("lib"), "/usr/lib");
	check_is(url_absolute("./lib"), "/usr/lib");
	check_is(url_absolute("/lib"), "/lib");
	check_is(url_absolute("file:lib"), "file:/usr/lib");
	check_is(url_absolute("file:a%20b"), "file:/usr/a%20b");
	check_is(url_absolute("file:///lib"), "file:///lib");
	check_is(url_absolute("http://host/x"), "http://host/x");
	check_is(url_absolute("memory:1G"), "memory:1G");
	check_is(url_absolute("nbd+unix:///q?socket=t.sock"), "nbd+unix:///q?socket=/usr/t.sock");
	check_is(url_absolute("nbds+unix://me@/?tls=x&socket=./t"),
	         "nbds+unix://me@/?tls=x&socket=/usr/t");
	check_is(url_absolute("nbd+unix:///?socket=/t"), "nbd+unix:///?socket=/t");
	check_is(url_absolute("nbd+unix:///?socket=%2Ft"), "nbd+unix:///?socket=%2Ft");
	check_is(url_absolute("nbd+unix:///?xsocket=t"), "nbd+unix:///?xsocket=t");
	CHECK(!chdir("/"));
	check_is(url_absolute("lib"), "/lib");
}

int main(void)
{
	RUN(a_file_is_named_by_the_end_of_its_url);
	RUN(a_name_is_never_a_way_out);
	RUN(secrets_are_not_shown);
	RUN(paths_become_absolute);
	return 0;
}
