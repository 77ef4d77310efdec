/* SPDX-License-Identifier: Apache-2.0 */
/* Becoming the stock sqlite3, with the VFS loaded and the database open, or hither mount. */
#include "remote.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ARGS = 64 };

/* Beside this program's file: "BASE/below". False: not there. */
static bool beside_us(const char *below, char path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n <= 0)
		return false;
	self[n] = 0;
	char *slash = strrchr(self, '/');
	if (!slash)
		return false;
	*slash = 0;
	return snprintf(path, PATH_MAX, "%s/%s", self, below) < PATH_MAX && !access(path, R_OK);
}

/* Where the extension is: as installed, or in the folder that it was built in. */
static bool find_extension(char path[PATH_MAX])
{
	const char *named = getenv("HITHER_VFS");
	if (named)
		return snprintf(path, PATH_MAX, "%s", named) < PATH_MAX && !access(path, R_OK);
	if (beside_us("../../core/frontend/sqlite/hither_vfs.so", path) ||
	    beside_us("../lib/hither/hither_vfs.so", path))
		return true;
	return snprintf(path, PATH_MAX, "%s/hither_vfs.so", EXTENSION_DIR) < PATH_MAX &&
	       !access(path, R_OK);
}

/* A dot-command's argument: in double quotes the shell reads backslashes as C does. */
static char *command_of(const char *command, const char *argument)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		return NULL;
	fprintf(out, "%s \"", command);
	for (; *argument; argument++)
		fprintf(out, strchr("\"\\", *argument) ? "\\%c" : "%c", *argument);
	fputc('"', out);
	return fclose(out) ? NULL : text;
}

static int add_options(const struct settings *s, char **args, int n)
{
	static char readonly[] = "-readonly", header[] = "-header", separator[] = "-separator";
	static char memory[] = ":memory:"; /* until .open */
	if (s->readonly)
		args[n++] = readonly;
	if (s->header)
		args[n++] = header;
	if (strcmp(s->separator, "|") != 0) {
		args[n++] = separator;
		args[n] = strdup(s->separator);
		n += args[n] != NULL;
	}
	args[n++] = memory;
	for (char *const *sql = s->sql; *sql && n < MOST_ARGS - 1; sql++)
		args[n++] = *sql;
	return n;
}

int shell_exec(const struct settings *s)
{
	static char program[] = "sqlite3", command[] = "-cmd";
	char path[PATH_MAX], *args[MOST_ARGS] = {program};
	if (!find_extension(path))
		return fail_with(EXIT_FAILED,
		                 "hither_vfs.so is not where it was installed (%s); "
		                 "HITHER_VFS can name it",
		                 EXTENSION_DIR);
	/* The shell itself can say no more than "disk I/O error". */
	struct settings telling = *s;
	options_add(&telling, "tell", "stderr");
	char *uri = uri_of(&telling);
	char *load = command_of(".load", path), *open = uri ? command_of(".open", uri) : NULL;
	if (!load || !open)
		return fail_with(EXIT_FAILED, "no memory");
	int n = 1;
	args[n++] = command;
	args[n++] = load;
	args[n++] = command;
	args[n++] = open;
	add_options(s, args, n);
	fflush(stdout);
	execvp(program, args);
	return fail_with(EXIT_FAILED, errno == ENOENT ? "sqlite3, which a shell needs, is not "
	                                                "installed"
	                                              : "sqlite3: %m");
}

int mount_exec(int argc, char **argv)
{
	static char program[] = "hither", name[] = "sqlite-remote", command[] = "mount";
	char path[PATH_MAX], *args[MOST_ARGS] = {name, command};
	if (argc > MOST_ARGS - 3)
		return fail_with(EXIT_MISUSED, "mount: too many arguments");
	for (int i = 0; i < argc; i++)
		args[2 + i] = argv[i];
	if (beside_us("hither", path) || beside_us("../hither/hither", path))
		execv(path, args);
	execvp(program, args);
	return fail_with(EXIT_FAILED, "the program hither: %m");
}
