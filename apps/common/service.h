/* SPDX-License-Identifier: Apache-2.0 */
/* What commands that stay in the background have in common. */
#ifndef HITHER_APP_SERVICE_H
#define HITHER_APP_SERVICE_H

#include "settings.h"

/* Write the process id to --pid-file, if that was asked for. */
int service_write_pid(const struct settings *s, struct hither_error *err);
/*
 * Unless in the foreground, leave the terminal and the folder we were started in; errors go to
 * --log from now on. Paths are absolute by now.
 */
int service_leave_terminal(const struct settings *s, struct hither_error *err);

#endif
