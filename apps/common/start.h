/* SPDX-License-Identifier: Apache-2.0 */
/* What every program of ours does before anything else. */
#ifndef HITHER_APPS_START_H
#define HITHER_APPS_START_H

#include <hither/error.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Make the process fit to work in: SIGPIPE and SIGXFSZ ignored, so that a server that hangs up or a
 * limit on files does not end us; descriptors 0 to 2 taken, so that no file of ours becomes the
 * standard output that somebody closed; room for open files; threads that make do with little
 * address space where that is limited. False: there is no room, said to stderr; exit with
 * EXIT_FAILED.
 */
bool start_process(const char *name);

/* Are there so few descriptors that connections must not take most of them? */
bool start_has_few_files(void);

/*
 * Where address space is limited (ulimit -v): have no more workers (0: the usual number) than fit.
 * -ENOMEM: there is not room for a mount at all.
 */
int start_fit_space(uint32_t *workers, struct hither_error *err);

/*
 * Whoever reads our output has enough: end as other commands do, by SIGPIPE, without a word. For a
 * write to stdout that failed; returns where the reader is still there, or stdout is no pipe.
 */
void start_end_by_pipe(void);

#endif
