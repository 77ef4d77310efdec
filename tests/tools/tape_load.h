/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of tape_load share. */
#ifndef HITHER_TOOLS_TAPE_LOAD_H
#define HITHER_TOOLS_TAPE_LOAD_H

#include "tape/volume.h"

#include <limits.h>

enum { BLOCK = TAPE_BLOCK_BYTES };

extern struct hither_error err;
extern char path[PATH_MAX]; /* of the tape file */
extern const struct tape_model *const model;

/* Print name=seconds. */
void tell(const char *name, uint64_t ns);
/* An empty volume on a new tape file. */
struct tape_volume *make(const char *folder, uint64_t size);
/* By a mount with its threads alone; with HITHER_TAPE_PACE=1 in the time that it takes. */
void life_mounted(const char *folder);
/* named: the reader takes the folders in another order than they were written in. half: on a tape
 * half full. */
void life(const char *folder, bool named, bool half);

#endif
