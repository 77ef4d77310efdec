/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts and exports are hither's own, of the URL tape:TAPE. */
#include "tapisk.h"

#include "util.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ARGS = 64, OURS = 5 };

/* The program hither, beside us where we are installed or built, else from PATH. */
static int execute(char **args)
{
	char self[PATH_MAX - 32], path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n < 0 ? 0 : n] = 0;
	char *slash = strrchr(self, '/');
	const char *const places[] = {"hither", "../hither/hither"};
	for (size_t i = 0; slash && i < COUNT_OF(places); i++) {
		snprintf(path, sizeof path, "%.*s/%s", (int)(slash - self), self, places[i]);
		execv(path, args);
	}
	execvp("hither", args);
	fprintf(stderr, "tapisk: the program hither: %m\n");
	return FAILED;
}

/*
 * A tape that is flushed stops, and takes seconds to go on: so an fsync is answered by the cache's
 * disk, and the tape is written rarely, much at a time. What is given behind these counts. A cache
 * in memory answers no fsync.
 */
static int add_habits(int argc, char **argv, char **args, int count)
{
	static char interval[] = "--push-interval=5min", dirty[] = "--push-dirty=1G",
	            sync[] = "--sync=local";
	bool in_memory = false;
	for (int i = 2; i < argc; i++)
		in_memory |= !strcmp(argv[i], "none") || !strcmp(argv[i], "--cache=none") ||
		             !strcmp(argv[i], "-cnone");
	args[count++] = interval;
	args[count++] = dirty;
	if (!in_memory)
		args[count++] = sync;
	return count;
}

static char program[] = "hither";

/* As a URL: no % of its name begins an escape. False: too long. */
static bool url_of(const char *tape, char *url, size_t size)
{
	size_t n = (size_t)snprintf(url, size, "tape:");
	for (; *tape && n + 4 < size; tape++)
		n += (size_t)snprintf(url + n, size - n, *tape == '%' ? "%%25" : "%c", *tape);
	return !*tape;
}

/*
 * The first word that is no option, or 0: none. Whether what follows an option is its value, only
 * hither knows: -1. Were a value taken for the tape, the tape file itself would be mounted instead
 * of the volume, and written to.
 */
static int find_tape(int argc, char **argv)
{
	int i = 2;
	while (i < argc && argv[i][0] == '-')
		i++;
	if (i == argc)
		return 0;
	return i > 2 && !strchr(argv[i - 1], '=') ? -1 : i;
}

/* Is there a word behind the tape that may be a path? An option's value may be one, to hither. */
static bool has_path(int argc, char **argv, int tape)
{
	for (int i = tape + 1; i < argc; i++)
		if (argv[i][0] != '-')
			return true;
	return false;
}

int run_mount(int argc, char **argv)
{
	char url[3 * PATH_MAX], *args[MOST_ARGS] = {program};
	int count = 1, tape = find_tape(argc, argv);
	if (argc > MOST_ARGS - OURS)
		return misused("too many arguments");
	if (tape < 0)
		return misused("name the tape first, and options behind it");
	if (argc == 2)
		return misused("name a tape");
	if (tape && !strcmp(argv[1], "mount") && !has_path(argc, argv, tape))
		return misused(
		        "mount: name the path where the volume is to be seen, behind the tape");
	if (tape && !url_of(argv[tape], url, sizeof url))
		return misused("the name of the tape is too long");
	args[count++] = argv[1];
	count = add_habits(argc, argv, args, count);
	for (int i = 2; i < argc; i++)
		args[count++] = i == tape ? url : argv[i];
	return execute(args);
}

int run_as_is(int argc, char **argv)
{
	char *args[MOST_ARGS] = {program};
	if (argc >= MOST_ARGS)
		return misused("too many arguments");
	for (int i = 1; i < argc; i++)
		args[i] = argv[i];
	return execute(args);
}
