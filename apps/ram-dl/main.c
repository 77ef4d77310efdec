/* SPDX-License-Identifier: Apache-2.0 */
/* ram-dl: more memory than this machine has. A table of sub-commands. */
#include "command.h"

#include "start.h"
#include "util.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
} commands[] = {
        {"run", "run a program with a server's memory, as any user", command_run},
        {"swap", "attach a server's memory as swap, until ^C", command_swap},
        {"status", "show what is paged out, and how long paging takes", command_status},
};

static void print_help(void)
{
	puts("Usage: ram-dl COMMAND [OPTIONS] ...\n\n"
	     "Gives this machine the memory of another one, which runs ram-ul (or any NBD\n"
	     "server).\n\nCommands:");
	for (size_t i = 0; i < COUNT_OF(commands); i++)
		printf("  %-8s %s\n", commands[i].name, commands[i].summary);
	puts("\nram-dl COMMAND --help tells more.\n\n"
	     "  -h, --help     Show this help.\n"
	     "  -V, --version  Show the version.");
}

int main(int argc, char **argv)
{
	if (!start_process("ram-dl"))
		return EXIT_FAILED;
	if (argc < 2)
		return fail_with(EXIT_MISUSED, "a command is missing; see ram-dl --help");
	const char *word = argv[1];
	if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
		print_help();
		return EXIT_DONE;
	}
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		puts("ram-dl " HITHER_VERSION);
		return EXIT_DONE;
	}
	for (size_t i = 0; i < COUNT_OF(commands); i++)
		if (!strcmp(word, commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	return fail_with(EXIT_MISUSED, "unknown %s %s; see ram-dl --help",
	                 *word == '-' ? "option" : "command", word);
}
