/* SPDX-License-Identifier: Apache-2.0 */
#include "remote.h"
#include "start.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int run_queries(const struct settings *settings)
{
	struct session s;
	int code = session_open(&s, settings);
	if (!code)
		code = query_run(&s);
	return session_close(&s, code);
}

/* SQL for the stock sqlite3: none at all, or its own commands. */
static bool wants_shell(const struct settings *s)
{
	for (char *const *sql = s->sql; *sql; sql++)
		if (**sql == '.')
			return true;
	return !*s->sql;
}

static int open_shell(const struct settings *settings)
{
	struct session s; /* it fails here, where the reason can be told, or not at all */
	int code = session_open(&s, settings);
	code = session_close(&s, code);
	return code ? code : shell_exec(settings);
}

/* "https://host/shop.db?token=1": "shop.db.hither-profile", in this folder. */
static char *profile_name(const char *url)
{
	size_t end = strcspn(url, "?#"), begin = end;
	char *out;
	while (begin > 0 && url[begin - 1] != '/')
		begin--;
	if (begin == end)
		return strdup("database.hither-profile");
	return asprintf(&out, "%.*s.hither-profile", (int)(end - begin), url + begin) < 0 ? NULL
	                                                                                  : out;
}

static int warm(struct settings *settings)
{
	char *name = settings->output ? strdup(settings->output) : profile_name(settings->url);
	if (!name)
		return fail_with(EXIT_FAILED, "no memory");
	options_add(settings, "record", name);
	options_add(settings, "profile", "none");
	int code = run_queries(settings);
	if (!code)
		fprintf(stderr,
		        "sqlite-remote: %s is written; put it beside the database as "
		        "NAME.hither-profile\n",
		        name);
	free(name);
	return code;
}

int main(int argc, char **argv)
{
	struct settings settings;
	const char *command = argc > 1 ? argv[1] : "";
	if (!start_process("sqlite-remote"))
		return EXIT_FAILED;
	if (!strcmp(command, "mount"))
		return mount_exec(argc - 2, argv + 2);
	if (!strcmp(command, "umount"))
		return fail_with(EXIT_MISUSED, "umount: hither umount %s ends it",
		                 argc > 2 ? argv[2] : "PATH");
	bool warming = !strcmp(command, "warm");
	int code =
	        options_parse(argc - warming, argv + warming, warming ? "warm" : NULL, &settings);
	if (code < 0)
		code = warming                  ? warm(&settings)
		       : wants_shell(&settings) ? open_shell(&settings)
		                                : run_queries(&settings);
	if (!fflush(stdout) && !ferror(stdout))
		return code;
	const char *why = strerror(errno);
	start_end_by_pipe();
	return code ? code : fail_with(EXIT_FAILED, "write to stdout: %s", why);
}
