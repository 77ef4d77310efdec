/* SPDX-License-Identifier: Apache-2.0 */
/* tapisk: a tape as a disk. */
#include "tapisk.h"

#include "start.h"
#include "stumble.h"
#include "typo.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
        "Usage: tapisk COMMAND TAPE [...]      TAPE: /dev/nst0, or a tape file\n"
        "\n"
        "Commands:\n"
        "  format TAPE         write an empty volume; make a tape file\n"
        "  mount TAPE PATH     the volume as a file\n"
        "  umount PATH         write all to the tape, and unmount\n"
        "  block TAPE          the volume as a block device; block detach DEVICE\n"
        "  export TAPE         the volume for NBD clients\n"
        "  status              what is mounted, and how much is not on the tape yet\n"
        "  info TAPE           what is on it, and how much of it is garbage\n"
        "  verify TAPE         read all, check every checksum\n"
        "  reindex TAPE        rebuild the index from all records; write a checkpoint\n"
        "  compact TAPE TO     copy what is in use to another tape\n"
        "\n"
        "tapisk COMMAND --help has the options. A tape file keeps the time that an\n"
        "LTO-9 drive would have taken; with HITHER_TAPE_PACE=1 it takes that time,\n"
        "with =60 a sixtieth of it.\n"
        "\n"
        "  --help              this\n"
        "  --version           the version\n";

static const char help_format[] =
        "Usage: tapisk format TAPE --size=SIZE [--capacity=SIZE] [--force]\n"
        "\n"
        "Write an empty volume to TAPE: /dev/nst0, or a tape file, which is made if there\n"
        "is none. A tape with records on it is left alone.\n"
        "\n"
        "  --size=SIZE         of the volume, in bytes or as 32M, 10T: at most what the\n"
        "                      tape holds; less leaves room for what is written again\n"
        "  --capacity=SIZE     of a tape file that is made (18TB)\n"
        "  --force             drop what is on the tape\n";

#define HABITS                                                                                     \
	"An fsync waits for the cache's disk. The tape is written every 5 minutes, when\n"         \
	"there is 1 GiB to write, and at the end: see --sync, --push-interval and\n"               \
	"the like.\n"

static const char help_mount[] = "Usage: tapisk mount TAPE PATH [options of hither mount]\n"
                                 "\n"
                                 "The volume as the file PATH, until tapisk umount PATH.\n" HABITS
                                 "All options: hither mount --help.\n";

static const char help_umount[] =
        "Usage: tapisk umount PATH [--lazy] [--force]\n"
        "\n"
        "Write to the tape what is not there yet, unmount, and return when that is done.\n"
        "\n"
        "  -l, --lazy          even if somebody has the file open\n"
        "      --force         write nothing: what has changed stays in the cache for the\n"
        "                      next mount\n";

static const char help_status[] =
        "Usage: tapisk status [PATH]\n"
        "\n"
        "What is mounted, and how much of it is not on the tape yet (dirty).\n";

static const char help_block[] =
        "Usage: tapisk block TAPE [options of hither block]\n"
        "       tapisk block detach DEVICE\n"
        "\n"
        "The volume as a block device, whose name is printed: mkfs, mount, and at the\n"
        "end umount, and tapisk block detach DEVICE. Discards (fstrim) make garbage of\n"
        "what was deleted.\n" HABITS "All options: hither block --help.\n";

static const char help_export[] =
        "Usage: tapisk export TAPE [options of hither export]\n"
        "\n"
        "The volume for NBD clients.\n" HABITS "All options: hither export --help.\n";

static const char help_info[] =
        "Usage: tapisk info TAPE\n"
        "\n"
        "What is on it: reads the end of the tape, with a drive a minute or two.\n";

static const char help_verify[] =
        "Usage: tapisk verify TAPE\n"
        "\n"
        "Read every record and check it: hours, where a drive's tape is full.\n";

static const char help_reindex[] =
        "Usage: tapisk reindex TAPE\n"
        "\n"
        "Rebuild the index from all records, instead of the newest checkpoint, and write\n"
        "a checkpoint: hours, where a drive's tape is full. A mount does it by itself\n"
        "where no checkpoint can be read.\n";

static const char help_compact[] =
        "Usage: tapisk compact TAPE TO [--force]\n"
        "\n"
        "Copy the newest version of every block to another tape, in block order, and say\n"
        "how much was garbage. A copy that was cut short is no volume: repeat it with\n"
        "--force. TAPE stays as it is.\n"
        "\n"
        "  --force             drop what is on TO\n";

struct settings {
	uint64_t size, capacity;
	bool force;
	const char *tape, *to;
};

int fail(const struct hither_error *err)
{
	fprintf(stderr, "tapisk: %s%s\n", err->message,
	        err->code == -EBUSY ? "; tapisk status shows what is mounted, tapisk umount PATH "
	                              "ends a mount"
	                            : "");
	return FAILED;
}

int misused(const char *why)
{
	fprintf(stderr, "tapisk: %s; see tapisk --help\n", why);
	return MISUSED;
}

static int run_format(const struct settings *s)
{
	char size[UNITS_TEXT_BYTES];
	struct hither_error err = {0};
	if (!s->size)
		return misused("format: --size is missing, say --size=10T");
	uint64_t capacity = s->capacity ? s->capacity : UINT64_C(18000000000000);
	uint64_t bytes = s->size / 4096 * 4096;
	if (hither_tape_format(s->tape, bytes, capacity, s->force, &err))
		return fail(&err);
	printf("%s: an empty volume of %s; tapisk mount %s PATH makes it a file\n", s->tape,
	       units_format_size(size, bytes), s->tape);
	if (s->capacity && bytes > s->capacity)
		fprintf(stderr,
		        "tapisk: %s holds %s, less than its volume: what is written beyond that "
		        "cannot go to it; format with a smaller --size to be safe\n",
		        s->tape, units_format_size(size, s->capacity));
	return 0;
}

static int run_info(const struct settings *s)
{
	struct hither_error err = {0};
	struct hither_tape_info info;
	if (hither_tape_info(s->tape, false, &info, &err))
		return fail(&err);
	print_info(s->tape, &info);
	return 0;
}

static int run_reindex(const struct settings *s)
{
	struct hither_error err = {0};
	struct hither_tape_info info;
	struct meter meter;
	struct hither_tape_progress p = progress_to(&meter);
	if (hither_tape_checkpoint(s->tape, true, &p, &info, &err))
		return fail(&err);
	print_info(s->tape, &info);
	return 0;
}

static int run_verify(const struct settings *s)
{
	struct hither_error err = {0};
	struct hither_tape_info info;
	struct meter meter;
	struct hither_tape_progress p = progress_to(&meter);
	if (hither_tape_verify(s->tape, &p, &info, &err))
		return fail(&err);
	print_info(s->tape, &info);
	printf("all records are whole\n");
	return 0;
}

static void print_garbage(const char *tape, const struct hither_tape_info *i)
{
	printf("%s: %" PRIu64 " record%s, %u %% garbage\n", tape, i->records,
	       i->records == 1 ? "" : "s", garbage_percent(i));
}

static int run_compact(const struct settings *s)
{
	struct hither_error err = {0};
	struct hither_tape_info before, after;
	struct meter meter;
	struct hither_tape_progress p = progress_to(&meter);
	char size[UNITS_TEXT_BYTES];
	uint64_t lost, behind;
	if (!s->to)
		return misused("compact: name the tape to copy to");
	if (hither_tape_info(s->tape, false, &before, &err) ||
	    hither_tape_compact(s->tape, s->to, s->force, &p, &lost, &err) ||
	    hither_tape_info(s->to, false, &after, &err))
		return fail(&err);
	behind = bytes_behind(s->tape);
	print_garbage(s->tape, &before);
	print_garbage(s->to, &after);
	if (lost)
		fprintf(stderr, "tapisk: %s: %" PRIu64 " bytes cannot be read; all else is on %s\n",
		        s->tape, lost, s->to);
	if (behind)
		fprintf(stderr,
		        "tapisk: %s: %s that were written to it are in the cache, not on it, nor "
		        "on "
		        "%s: tapisk mount %s PATH has them\n",
		        s->tape, units_format_size(size, behind), s->to, s->tape);
	return lost || behind ? FAILED : 0;
}

static const struct command {
	const char *name, *help;
	int (*run)(const struct settings *s);
	int (*through)(int argc, char **argv);
} commands[] = {
        {"format", help_format, run_format, NULL},    {"mount", help_mount, NULL, run_mount},
        {"umount", help_umount, NULL, run_as_is},     {"block", help_block, NULL, run_mount},
        {"export", help_export, NULL, run_mount},     {"status", help_status, NULL, run_as_is},
        {"info", help_info, run_info, NULL},          {"verify", help_verify, run_verify, NULL},
        {"reindex", help_reindex, run_reindex, NULL}, {"compact", help_compact, run_compact, NULL},
};

static int parse(int argc, char **argv, const struct command *command, struct settings *s)
{
	static const struct option options[] = {{"size", required_argument, NULL, 's'},
	                                        {"capacity", required_argument, NULL, 'c'},
	                                        {"force", no_argument, NULL, 'f'},
	                                        {"help", no_argument, NULL, 'h'},
	                                        {0}};
	struct hither_error err = {0};
	char why[STUMBLE_BYTES];
	int c, r = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1 && !r) {
		bool known = c == 'h' || !strcmp(command->name, "format") ||
		             (c == 'f' && !strcmp(command->name, "compact"));
		if (c == '?' || c == ':') {
			fprintf(stderr, "tapisk: %s: %s; see tapisk %s --help\n", command->name,
			        stumble(c, argv, options, why), command->name);
			return MISUSED;
		}
		if (!known)
			return misused("this command has no such option");
		if (c == 's')
			r = units_parse_size(optarg, &s->size, &err);
		else if (c == 'c')
			r = units_parse_size(optarg, &s->capacity, &err);
		else if (c == 'f')
			s->force = true;
		else
			return fputs(command->help, stdout), -1;
	}
	if (r)
		return misused(err.message);
	int most = command->run == run_compact ? 2 : 1;
	if (optind >= argc)
		return misused("name a tape");
	if (argc - optind > most)
		return misused("too many arguments");
	s->tape = argv[optind];
	s->to = argc - optind > 1 ? argv[optind + 1] : NULL;
	return 0;
}

static bool asks_for_help(int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct settings s = {0};
	if (c->run) {
		int r = parse(argc - 1, argv + 1, c, &s);
		return r < 0 ? 0 : r ? r : c->run(&s);
	}
	if (asks_for_help(argc, argv))
		return fputs(c->help, stdout) < 0;
	/* These are words of hither block, and no tapes. */
	bool verb = !strcmp(c->name, "block") && argc > 2 &&
	            (!strcmp(argv[2], "detach") || !strcmp(argv[2], "list") ||
	             !strcmp(argv[2], "cleanup"));
	return verb ? run_as_is(argc, argv) : c->through(argc, argv);
}

static int unknown(const char *name)
{
	struct typo t = {.typed = name};
	for (size_t i = 0; i < COUNT_OF(commands); i++)
		typo_consider(&t, commands[i].name);
	fprintf(stderr, "tapisk: unknown command %s%s%s; see tapisk --help\n", name,
	        t.meant ? "; did you mean " : "", t.meant ? t.meant : "");
	return MISUSED;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	if (!start_process("tapisk"))
		return EXIT_FAILURE;
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		return fputs(help, stdout) < 0;
	if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		return puts("tapisk " HITHER_VERSION) < 0;
	for (size_t i = 0; i < COUNT_OF(commands); i++)
		if (!strcmp(name, commands[i].name))
			return run(&commands[i], argc, argv);
	return *name ? unknown(name) : misused("name a command");
}
