/* SPDX-License-Identifier: Apache-2.0 */
/* The command `hither-stream`: videos that were not made for streaming, played at once. */
#include "stream.h"

#include "util.h"

static const struct command *const commands[] = {
        &command_play,
        &command_stream_mount,
#ifdef HITHER_HAVE_ENDPOINT
        &command_serve,
#endif
        &command_probe,
};

static const struct program program = {
        .name = "hither-stream",
        .summary = "Plays videos and music that lie elsewhere, at once, and seeks at once.",
        .commands = commands,
        .count = COUNT_OF(commands),
};

int main(int argc, char **argv)
{
	struct stream_settings s = {0};
	settings_init(&s.base);
	int code = program_run(&program, &s.base, argc, argv);
	settings_finish(&s.base);
	free(s.copy);
	free(s.listen);
	free(s.player);
	return code;
}
