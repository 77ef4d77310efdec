/* SPDX-License-Identifier: Apache-2.0 */
/* ~/.netrc is looked for when something is opened, not before each request. */
#include "backend/http_test_server.h"
#include "check.h"

#include <errno.h>
#include <hither/backend.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct http_server server;
static char home[] = "/tmp/http_netrc_test.XXXXXX";
static atomic_int looks;

/* In the place of libc's, for libcurl too. */
__attribute__((visibility("default"))) int getpwuid_r(uid_t uid, struct passwd *entry, char *text,
                                                      size_t size, struct passwd **found)
{
	atomic_fetch_add(&looks, 1);
	*entry = (struct passwd){.pw_dir = home};
	*found = entry;
	return 0;
}

static int ignore(struct hither_sink *sink, const void *buf, size_t len)
{
	return 0;
}

static int open_and_read(const char *path)
{
	struct hither_backend *b;
	struct hither_error err = {0};
	struct hither_backend_options options = {0};
	struct hither_sink sink = {ignore};
	char url[100];
	snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path);
	int r = hither_backend_open(url, &options, &b, &err);
	if (r)
		return r;
	for (int i = 0; i < 5; i++)
		CHECK_OK(hither_backend_read(b, 100000, 10, &sink, &err));
	hither_backend_close(b);
	return 0;
}

int main(void)
{
	char file[100];
	CHECK(mkdtemp(home));
	snprintf(file, sizeof file, "%s/.netrc", home);
	unsetenv("HOME");
	http_server_start(&server);

	CHECK_EQ(open_and_read("/bare"), 0);
	CHECK_EQ(open_and_read("/private"), -EACCES);
	CHECK_EQ(atomic_load(&looks), 1);

	FILE *f = fopen(file, "w");
	CHECK(f && fputs("machine 127.0.0.1 login me password secret\n", f) >= 0 && !fclose(f));
	CHECK_EQ(open_and_read("/private"), 0);
	CHECK_EQ(atomic_load(&looks), 1);
	CHECK_EQ(setenv("HOME", "/nonexistent", 1), 0); /* goes before the table of users */
	CHECK_EQ(open_and_read("/private"), -EACCES);
	CHECK_EQ(setenv("HOME", home, 1), 0);
	CHECK_EQ(open_and_read("/private"), 0);

	http_server_stop(&server);
	CHECK_EQ(unlink(file), 0);
	CHECK_EQ(rmdir(home), 0);
	return 0;
}
