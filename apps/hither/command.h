/* SPDX-License-Identifier: Apache-2.0 */
/* The sub-commands, one file each. */
#ifndef HITHER_APP_COMMAND_H
#define HITHER_APP_COMMAND_H

#include "program.h"

extern const struct command command_mount;
extern const struct command command_umount;
extern const struct command command_status;
extern const struct command command_pull;
extern const struct command command_cat;
extern const struct command command_cache;
extern const struct command command_index;
extern const struct command command_export;
extern const struct command command_block;
extern const struct command command_exec;
extern const struct command command_profile;

#endif
