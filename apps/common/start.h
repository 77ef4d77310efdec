/* SPDX-License-Identifier: Apache-2.0 */
/* What every program of ours does before anything else. */
#ifndef HITHER_APPS_START_H
#define HITHER_APPS_START_H

#include <stdbool.h>

/*
 * Make the process fit to work in: SIGPIPE ignored, so that a server that hangs up does not end us;
 * descriptors 0 to 2 taken, so that no file of ours becomes the standard output that somebody
 * closed; room for open files. False: there is no room, said to stderr; exit with EXIT_FAILED.
 */
bool start_process(const char *name);

#endif
