/* SPDX-License-Identifier: Apache-2.0 */
/* What ram-dl's and ram-ul's files share. A sub-command is a file, and a line in main.c. */
#ifndef HITHER_APP_RAM_DL_COMMAND_H
#define HITHER_APP_RAM_DL_COMMAND_H

#include <hither/error.h>
#include <stddef.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSED = 2 };

/* argv[0] is the sub-command's name. Each returns the exit code. */
int command_run(int argc, char **argv);
int command_swap(int argc, char **argv);
int command_status(int argc, char **argv);
int command_inspect(int argc, char **argv); /* of ram-ul */

/* "ram-dl: message" to stderr, one line. Returns code. */
int fail_with(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
