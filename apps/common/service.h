/* SPDX-License-Identifier: Apache-2.0 */
/* What commands that stay in the background have in common. */
#ifndef HITHER_APP_SERVICE_H
#define HITHER_APP_SERVICE_H

#include "settings.h"

/* A descriptor to append to --log's file with, or -1 and errno. */
int service_open_log(const char *path);
/* Write the process id to --pid-file, if that was asked for. */
int service_write_pid(const struct settings *s, struct hither_error *err);
/*
 * Unless in the foreground, leave the terminal and the folder we were started in. Errors go to
 * --log from now on, else to log_fd (-1: nowhere); in the foreground only if --log was given. Paths
 * are absolute by now.
 */
int service_leave_terminal(const struct settings *s, int log_fd, struct hither_error *err);

#endif
