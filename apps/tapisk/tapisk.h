/* SPDX-License-Identifier: Apache-2.0 */
/* What tapisk's files share. */
#ifndef HITHER_APPS_TAPISK_H
#define HITHER_APPS_TAPISK_H

#include <hither/tape.h>
#include <stdbool.h>

enum { FAILED = 1, MISUSED = 2 };

/* main.c */
int fail(const struct hither_error *err);
int misused(const char *why);

/* report.c */
struct meter {
	uint64_t started_ns, shown_ns;
};
/* A line on a terminal that is drawn over; nobody is told where standard error is none. */
struct hither_tape_progress progress_to(struct meter *m);
/* tape: its name. */
void print_info(const char *tape, const struct hither_tape_info *i);
/* How much of so many records is garbage, in percent. */
unsigned garbage_percent(const struct hither_tape_info *i);

/* behind.c: bytes that wait in the cache, if it is where it mostly is, to be written to this tape.
 */
uint64_t bytes_behind(const char *tape);

/* through.c: what hither does for us. Does not return but on failure. */
int run_mount(int argc, char **argv);
/* The same words, to hither as they are. */
int run_as_is(int argc, char **argv);

#endif
