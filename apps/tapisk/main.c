/* SPDX-License-Identifier: Apache-2.0 */
/* tapisk: a tape as a disk. Mounts and exports are hither's own, of the URL tape:TAPE. */
#include "start.h"
#include "units.h"
#include "util.h"

#include <getopt.h>
#include <hither/tape.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { FAILED = 1, MISUSED = 2, MOST_ARGS = 64 };

static const char help[] =
        "Usage: tapisk COMMAND TAPE [...]      TAPE: /dev/nst0, or a tape file\n"
        "\n"
        "  format TAPE --size=SIZE [--capacity=SIZE] [--force]\n"
        "                      write an empty volume; makes a tape file of that\n"
        "                      capacity (18TB) if there is none\n"
        "  mount TAPE PATH     the volume as a file; with the options of hither mount\n"
        "  block TAPE          the volume as a block device; those of hither block\n"
        "  export TAPE         the volume for NBD clients; those of hither export\n"
        "                      fsync waits for the cache's disk, and the tape is written\n"
        "                      every 5 minutes, or when there is 1 GiB to write, unless\n"
        "                      --sync, --push-interval or --push-dirty say otherwise\n"
        "  info TAPE           what is on it, and how much of it is garbage\n"
        "  verify TAPE         read all, check every checksum\n"
        "  reindex TAPE        rebuild the index from all records; write a checkpoint\n"
        "  compact TAPE TO     copy what is in use to another tape\n"
        "\n"
        "  --force             drop what the tape has (format, compact)\n"
        "  --help\n";

struct settings {
	uint64_t size, capacity;
	bool force;
	const char *tape, *to;
};

static int fail(const struct hither_error *err)
{
	fprintf(stderr, "tapisk: %s\n", err->message);
	return FAILED;
}

static int misused(const char *why)
{
	fprintf(stderr, "tapisk: %s; see tapisk --help\n", why);
	return MISUSED;
}

struct meter {
	uint64_t started_ns, shown_ns;
};

static void show_progress(void *user, uint64_t done, uint64_t total)
{
	struct meter *m = user;
	uint64_t now = now_ns();
	if (now - m->shown_ns < NS_PER_S / 5 && done < total)
		return;
	m->shown_ns = now;
	double left = (double)(now - m->started_ns) / 1e9 * (double)(total - done) / (double)done;
	fprintf(stderr, "\rposition %" PRIu64 " of %" PRIu64 "; about %.0f s left \033[K%s", done,
	        total, left, done == total ? "\n" : "");
}

static struct hither_tape_progress progress_to(struct meter *m)
{
	*m = (struct meter){.started_ns = now_ns()};
	return (struct hither_tape_progress){isatty(2) ? show_progress : NULL, m};
}

static void print_info(const struct hither_tape_info *i)
{
	char size[UNITS_TEXT_BYTES], live[UNITS_TEXT_BYTES], all[UNITS_TEXT_BYTES];
	uint64_t full = (i->live_bytes + 127 * 4096 - 1) / (127 * UINT64_C(4096)) + 1;
	printf("volume      %s\n", units_format_size(size, i->size_bytes));
	if (i->capacity_bytes)
		printf("tape        %s\n", units_format_size(all, i->capacity_bytes));
	printf("in use      %s\n", units_format_size(live, i->live_bytes));
	printf("records     %" PRIu64 "; compacted about %" PRIu64 "\n", i->records, full);
	printf("checkpoint  %" PRIu64 "\n", i->checkpoint);
	printf("read        %" PRIu64 " records to find this out\n", i->scanned);
	printf("damaged     %" PRIu64 "; cut off at the end %" PRIu64 "\n", i->damaged, i->torn);
	if (i->drive_ns)
		printf("drive time  %.1f s (model of an LTO-9 drive)\n", (double)i->drive_ns / 1e9);
}

static int run_format(const struct settings *s)
{
	struct hither_error err = {0};
	if (!s->size)
		return misused("format: --size is missing");
	uint64_t capacity = s->capacity ? s->capacity : UINT64_C(18000000000000);
	return hither_tape_format(s->tape, s->size / 4096 * 4096, capacity, s->force, &err)
	               ? fail(&err)
	               : 0;
}

static int run_info(const struct settings *s)
{
	struct hither_error err = {0};
	struct hither_tape_info info;
	if (hither_tape_info(s->tape, false, &info, &err))
		return fail(&err);
	print_info(&info);
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
	print_info(&info);
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
	print_info(&info);
	return 0;
}

static int run_compact(const struct settings *s)
{
	struct hither_error err = {0};
	struct hither_tape_info before, after;
	struct meter meter;
	struct hither_tape_progress p = progress_to(&meter);
	uint64_t lost;
	if (!s->to)
		return misused("compact: name the tape to copy to");
	if (hither_tape_info(s->tape, false, &before, &err) ||
	    hither_tape_compact(s->tape, s->to, s->force, &p, &lost, &err) ||
	    hither_tape_info(s->to, false, &after, &err))
		return fail(&err);
	printf("records     %" PRIu64 " before, %" PRIu64 " after\n", before.records,
	       after.records);
	if (!lost)
		return 0;
	fprintf(stderr, "tapisk: %s: %" PRIu64 " bytes cannot be read; all else is on %s\n",
	        s->tape, lost, s->to);
	return FAILED;
}

/*
 * A tape that is flushed stops, and takes seconds to go on: so an fsync is answered by the cache's
 * disk, and the tape is written rarely, much at a time. What is given behind these counts. A cache
 * in memory answers no fsync.
 */
static int add_habits(int argc, char **argv, char **args, int count)
{
	static char interval[] = "--push-interval=5min", dirty[] = "--push-dirty=1G",
	            sync[] = "--sync=local";
	bool in_memory = false;
	for (int i = 2; i < argc; i++)
		in_memory |= !strcmp(argv[i], "none") || !strcmp(argv[i], "--cache=none") ||
		             !strcmp(argv[i], "-cnone");
	args[count++] = interval;
	args[count++] = dirty;
	if (!in_memory)
		args[count++] = sync;
	return count;
}

/* The program hither, beside us where we are installed or built, else from PATH. */
static int run_hither(int argc, char **argv)
{
	static char program[] = "hither";
	char self[PATH_MAX - 32], path[PATH_MAX], url[PATH_MAX + 8], *args[MOST_ARGS] = {program};
	int count = 1;
	bool named = false;
	if (argc > MOST_ARGS - 5)
		return misused("too many arguments");
	args[count++] = argv[1];
	count = add_habits(argc, argv, args, count);
	for (int i = 2; i < argc; i++) {
		args[count++] = argv[i];
		if (argv[i][0] == '-' || named)
			continue;
		snprintf(url, sizeof url, "tape:%s", argv[i]);
		args[count - 1] = url;
		named = true;
	}
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n < 0 ? 0 : n] = 0;
	char *slash = strrchr(self, '/');
	const char *const places[] = {"hither", "../hither/hither"};
	for (size_t i = 0; slash && i < COUNT_OF(places); i++) {
		snprintf(path, sizeof path, "%.*s/%s", (int)(slash - self), self, places[i]);
		execv(path, args);
	}
	execvp(program, args);
	fprintf(stderr, "tapisk: the program hither: %m\n");
	return FAILED;
}

static const struct command {
	const char *name;
	int (*run)(const struct settings *s);
} commands[] = {
        {"format", run_format},   {"info", run_info},       {"verify", run_verify},
        {"reindex", run_reindex}, {"compact", run_compact},
};

static int parse(int argc, char **argv, struct settings *s)
{
	static const struct option options[] = {{"size", required_argument, NULL, 's'},
	                                        {"capacity", required_argument, NULL, 'c'},
	                                        {"force", no_argument, NULL, 'f'},
	                                        {"help", no_argument, NULL, 'h'},
	                                        {0}};
	struct hither_error err = {0};
	int c, r = 0;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1 && !r) {
		if (c == 's')
			r = units_parse_size(optarg, &s->size, &err);
		else if (c == 'c')
			r = units_parse_size(optarg, &s->capacity, &err);
		else if (c == 'f')
			s->force = true;
		else if (c == 'h')
			return fputs(help, stdout), -1;
		else
			return MISUSED;
	}
	if (r)
		return misused(err.message);
	if (optind >= argc || argc - optind > 2)
		return misused("name a tape");
	s->tape = argv[optind];
	s->to = argv[optind + 1];
	return 0;
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
	if (!strcmp(name, "mount") || !strcmp(name, "export") || !strcmp(name, "block"))
		return run_hither(argc, argv);
	for (size_t i = 0; i < COUNT_OF(commands); i++) {
		struct settings s = {0};
		if (strcmp(name, commands[i].name))
			continue;
		int r = parse(argc - 1, argv + 1, &s);
		return r < 0 ? 0 : r ? r : commands[i].run(&s);
	}
	if (!*name)
		return misused("name a command");
	fprintf(stderr, "tapisk: unknown command %s; see tapisk --help\n", name);
	return MISUSED;
}
