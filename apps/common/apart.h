/* SPDX-License-Identifier: Apache-2.0 */
/* Going on in a process of its own, while the command waits until that one is ready. */
#ifndef HITHER_APP_APART_H
#define HITHER_APP_APART_H

/*
 * Fork. In the child -1, and *report_fd is where it says, "+what to print" once it is
 * ready, perhaps with another line "!what to look at" for stderr, or "-what went wrong"; until it
 * has closed that, it dies with its parent. In the parent, once it has printed this, the exit code.
 * No thread has been started before.
 */
int apart_begin(int *report_fd);

#endif
