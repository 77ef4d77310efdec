/* SPDX-License-Identifier: Apache-2.0 */
/* The tape backend over a drive of one's own, for who measures one. */
#ifndef HITHER_BACKEND_TAPE_H
#define HITHER_BACKEND_TAPE_H

#include "tape/drive.h"

#include <hither/backend.h>

/* Takes the drive, on failure too. name: of the tape, in messages. */
int tape_backend_over(struct tape_drive *drive, const char *name, bool writable,
                      struct hither_backend **out, struct hither_error *err);

#endif
