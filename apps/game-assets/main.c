/* SPDX-License-Identifier: Apache-2.0 */
/* The command `game-assets`: games that start before their download ends. */
#include "game.h"

#include "util.h"

static const struct command *const commands[] = {&command_publish, &command_play, &command_learn};

static const struct program program = {
        .name = "game-assets",
        .summary = "Starts a game before its files have been downloaded.",
        .commands = commands,
        .count = COUNT_OF(commands),
};

int main(int argc, char **argv)
{
	struct game_settings s = {0};
	settings_init(&s.base);
	int code = program_run(&program, &s.base, argc, argv);
	settings_finish(&s.base);
	free(s.overlay);
	free(s.ready);
	free(s.profile_out);
	return code;
}
