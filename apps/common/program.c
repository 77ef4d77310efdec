/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include "settings.h"
#include "start.h"
#include "typo.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <hither/backend.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>

enum { MAX_ARGS = 256 };

const char *program_name = "hither";

int fail_with(int code, const char *fmt, ...)
{
	va_list ap;
	fprintf(stderr, "%s: ", program_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

void program_tell(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	if (!fflush(stdout))
		return;
	__fpurge(stdout);
	clearerr(stdout);
}

static void print_help(const struct program *p)
{
	printf("Usage: %s COMMAND [OPTIONS] ...\n\n%s\n\nCommands:\n", p->name, p->summary);
	for (size_t i = 0; i < p->count; i++)
		printf("  %-8s %s\n", p->commands[i]->name, p->commands[i]->summary);
	printf("\n%s COMMAND --help tells more.\nSizes: 64K, 64KiB (65536) or 64kB (64000).\n\n"
	       "  -h, --help     Show this help.\n"
	       "  -V, --version  Show the version, and the kinds of URL this build knows.\n",
	       p->name);
}

static void print_version(const struct program *p)
{
	printf("%s %s\nURLs:", p->name, HITHER_VERSION);
	for (const struct hither_backend_ops *const *ops = hither_backend_list(); *ops; ops++)
		for (const char *const *scheme = (*ops)->schemes; scheme && *scheme; scheme++)
			printf(" %s:", *scheme);
	putchar('\n');
}

static const struct command *find(const struct program *p, const char *name)
{
	for (size_t i = 0; i < p->count; i++)
		if (!strcmp(p->commands[i]->name, name))
			return p->commands[i];
	return NULL;
}

static int unknown(const struct program *p, const char *word, const char *argument)
{
	struct typo typo = {.typed = word};
	if (!strcmp(word, "umount")) /* of what a program like this one mounts */
		return fail_with(EXIT_MISUSED, "umount: hither umount %s ends it",
		                 argument ? argument : "PATH");
	for (size_t i = 0; i < p->count; i++)
		typo_consider(&typo, p->commands[i]->name);
	if (typo.meant)
		return fail_with(EXIT_MISUSED, "unknown command %s; did you mean %s?", word,
		                 typo.meant);
	return fail_with(EXIT_MISUSED, "unknown %s %s; see %s --help",
	                 *word == '-' ? "option" : "command", word, p->name);
}

static int run(const struct command *command, struct settings *s, int argc, char **argv)
{
	char *args[MAX_ARGS + 1] = {0};
	assert(command->max_args <= MAX_ARGS);
	int code = options_parse(command, argc, argv, s, args);
	if (code < 0)
		code = command->run(s, args);
	if (!fflush(stdout) && !ferror(stdout))
		return code;
	int why = errno;
	start_end_by_pipe();
	return code ? code : fail_with(EXIT_FAILED, "write to stdout: %s", strerror(why));
}

int program_run(const struct program *p, struct settings *s, int argc, char **argv)
{
	program_name = p->name;
	if (!start_process(p->name))
		return EXIT_FAILED;
	if (argc < 2)
		return fail_with(EXIT_MISUSED, "a command is missing; see %s --help", p->name);
	const char *word = argv[1];
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
		const struct command *about = argc > 2 ? find(p, argv[2]) : NULL;
		char help[] = "--help";
		if (about)
			return run(about, s, 2, (char *[]){argv[2], help, NULL});
		print_help(p);
		return EXIT_DONE;
	}
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		print_version(p);
		return EXIT_DONE;
	}
	const struct command *command = find(p, word);
	if (!command)
		return unknown(p, word, argv[2]);
	return run(command, s, argc - 1, argv + 1);
}
