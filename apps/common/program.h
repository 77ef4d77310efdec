/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is a table of commands: `hither mount`, `hither-stream serve`. */
#ifndef HITHER_APPS_PROGRAM_H
#define HITHER_APPS_PROGRAM_H

#include "options.h"

struct program {
	const char *name;
	const char *summary; /* one sentence, for --help */
	const struct command *const *commands;
	size_t count;
};

/* The one that runs: what messages begin with. */
extern const char *program_name;

/*
 * Run the command that argv names, with settings that the caller has initialised and finishes;
 * options of the program's own may lie behind them. The exit code.
 */
int program_run(const struct program *p, struct settings *s, int argc, char **argv);

/*
 * A line to stdout that is good to know but no result: whoever has closed stdout does not want it,
 * and the command has done its work all the same.
 */
void program_tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "PROGRAM: message" to stderr, one line. Returns code. */
int fail_with(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
