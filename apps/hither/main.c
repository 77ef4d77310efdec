/* SPDX-License-Identifier: Apache-2.0 */
/* The command `hither`: a table of sub-commands. */
#include "command.h"

#include "settings.h"
#include "util.h"

#include <string.h>

static const struct command *const commands[] = {
        &command_mount, &command_umount, &command_status,  &command_pull,
        &command_cat,   &command_cache,  &command_export,  &command_block,
        &command_index, &command_exec,   &command_profile,
};

static struct program program = {
        .name = "hither",
        .summary = "Makes bytes that live elsewhere usable here, before they have been downloaded.",
        .commands = commands,
        .count = COUNT_OF(commands),
};

int main(int argc, char **argv)
{
	struct settings s;
	/* What `sqlite-remote mount` becomes, whose user does not care how it is done. */
	if (argc > 0 && !strcmp(argv[0], "sqlite-remote"))
		program.name = "sqlite-remote";
	settings_init(&s);
	int code = program_run(&program, &s, argc, argv);
	settings_finish(&s);
	return code;
}
