/* SPDX-License-Identifier: Apache-2.0 */
/* The command `hither`: a table of sub-commands. */
#include "command.h"

#include "settings.h"
#include "util.h"

#include <hither/backend.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct command *const commands[] = {
        &command_mount, &command_umount, &command_status, &command_pull,
        &command_cat,   &command_cache,  &command_export, &command_block,
};

enum { MAX_ARGS = 32 };

int fail_with(int code, const char *fmt, ...)
{
	va_list ap;
	fputs("hither: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

static void print_help(void)
{
	puts("Usage: hither COMMAND [OPTIONS] ...\n\n"
	     "Makes bytes that live elsewhere usable here, before they have been downloaded.\n\n"
	     "Commands:");
	for (size_t i = 0; i < COUNT_OF(commands); i++)
		printf("  %-8s %s\n", commands[i]->name, commands[i]->summary);
	puts("\nhither COMMAND --help tells more. Sizes: 64K, 64KiB (65536) or 64kB (64000).\n\n"
	     "  -h, --help     Show this help.\n"
	     "  -V, --version  Show the version, and the kinds of URL this build knows.");
}

static void print_version(void)
{
	printf("hither %s\nURLs:", HITHER_VERSION);
	for (const struct hither_backend_ops *const *ops = hither_backend_list(); *ops; ops++)
		for (const char *const *scheme = (*ops)->schemes; scheme && *scheme; scheme++)
			printf(" %s:", *scheme);
	putchar('\n');
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COUNT_OF(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static int run(const struct command *command, int argc, char **argv)
{
	struct settings settings;
	char *args[MAX_ARGS + 1] = {0};
	settings_init(&settings);
	int code = options_parse(command, argc, argv, &settings, args);
	if (code < 0)
		code = command->run(&settings, args);
	settings_finish(&settings);
	if (fflush(stdout) || ferror(stdout))
		code = code ? code : fail_with(EXIT_FAILED, "write to stdout: %m");
	return code;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN); /* a server that hangs up must not end us */
	if (argc < 2)
		return fail_with(EXIT_MISUSED, "a command is missing; see hither --help");
	const char *word = argv[1];
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
		const struct command *about = argc > 2 ? find(argv[2]) : NULL;
		char help[] = "--help";
		if (about)
			return run(about, 2, (char *[]){argv[2], help, NULL});
		print_help();
		return EXIT_DONE;
	}
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		print_version();
		return EXIT_DONE;
	}
	const struct command *command = find(word);
	if (!command)
		return fail_with(EXIT_MISUSED, "unknown %s %s; see hither --help",
		                 *word == '-' ? "option" : "command", word);
	return run(command, argc - 1, argv + 1);
}
