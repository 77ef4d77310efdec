/* SPDX-License-Identifier: Apache-2.0 */
/* hither index: write the manifest of a folder or file. */
#include "command.h"

#include "settings.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/tree.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define FIELD(member) offsetof(struct settings, member)

static const struct option_spec specs[] = {
        {"output", 'o', "NAME.hither", "The manifest (default: PATH.hither).", set_string,
         FIELD(output)},
        {"base", 0, "FOLDER",
         "Where the files will be on the server, seen from the manifest: \"\" beside it, or game/ "
         "(default: as they are now).",
         set_string, FIELD(base)},
        {"chunk", 0, "SIZE", "Hash pieces of this size (default 64K).", set_size32, FIELD(chunk)},
        {"rehash", 0, NULL,
         "Read every file, those too whose size and time are as in the manifest that is there.",
         set_true, FIELD(rehash)},
        {"quiet", 'q', NULL, "Print the root hash and nothing else.", set_true, FIELD(quiet)},
};
static const struct option_group group = {"Indexing", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group, NULL};

struct shower {
	bool terminal;
	uint64_t shown_ns;
};

/* ^C ends it, as it would anyway; what the shell prints next begins a line. */
static void interrupted(int signal)
{
	if (write(STDERR_FILENO, "\n", 1) < 0) {
		/* nobody sees it: what matters is the end */
	}
	raise(signal); /* the handler was for once */
}

static void end_line_on_interrupt(void)
{
	const struct sigaction action = {.sa_handler = interrupted, .sa_flags = SA_RESETHAND};
	sigaction(SIGINT, &action, NULL);
}

static void left_out(void *user, const char *path, const char *why)
{
	const struct shower *s = user;
	fprintf(stderr, "%s%s: index: %s is left out: %s\n", s->terminal ? "\r\033[K" : "",
	        program_name, path, why);
}

static void progress(void *user, uint64_t done, uint64_t total)
{
	struct shower *s = user;
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES];
	uint64_t now = now_ns();
	if (!s->terminal || now - s->shown_ns < NS_PER_S / 5)
		return;
	if (!s->shown_ns)
		end_line_on_interrupt();
	s->shown_ns = now;
	fprintf(stderr, "\r\033[K%s of %s", units_format_size(a, done),
	        units_format_size(b, total));
}

/* "1 file", "2 files". */
static void tell_count(uint64_t count, const char *of_what)
{
	fprintf(stderr, "%llu %s%s, ", (unsigned long long)count, of_what, count == 1 ? "" : "s");
}

static void tell(const struct hither_tree_index_result *r, const char *out)
{
	char files[UNITS_TEXT_BYTES], hashed[UNITS_TEXT_BYTES], size[UNITS_TEXT_BYTES];
	fprintf(stderr, "%s: ", out);
	tell_count(r->files, "file");
	tell_count(r->folders, "folder");
	tell_count(r->links, "link");
	fprintf(stderr, "%s (%s read); manifest %s; root hash:\n",
	        units_format_size(files, r->file_bytes), units_format_size(hashed, r->hashed_bytes),
	        units_format_size(size, r->manifest_bytes));
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct hither_tree_index_result result;
	struct shower shower = {.terminal = !s->quiet && isatty(STDERR_FILENO)};
	AUTO_FREE char *path = path_named(args[0]);
	if (!path)
		return fail_with(EXIT_FAILED, "index: %s: %s", args[0], strerror(errno));
	if (!s->output && !strcmp(path, "/"))
		return fail_with(EXIT_MISUSED, "index: / has no name: give --output NAME.hither");
	AUTO_FREE char *own = NULL;
	if (!s->output && asprintf(&own, "%s.hither", path) < 0)
		return fail_with(EXIT_FAILED, "no memory");
	const char *out = s->output ? s->output : own;
	if (!hither_tree_is_url(out))
		return fail_with(EXIT_MISUSED,
		                 "index: %s should end in .hither, which tells a manifest", out);
	const struct hither_tree_index_options options = {.base = s->base,
	                                                  .chunk_bytes = s->chunk,
	                                                  .rehash = s->rehash,
	                                                  .left_out = left_out,
	                                                  .progress = progress,
	                                                  .user = &shower};
	int r = hither_tree_index(path, out, &options, &result, &err);
	if (shower.terminal && shower.shown_ns)
		fputs("\r\033[K", stderr);
	if (r) /* -EINVAL: nothing was begun */
		return fail_with(r == -EINVAL ? EXIT_MISUSED : EXIT_FAILED, "%s", err.message);
	if (!s->quiet)
		tell(&result, out);
	puts(result.hash);
	return fflush(stdout) ? EXIT_FAILED : EXIT_DONE;
}

const struct command command_index = {
        .name = "index",
        .usage = "[OPTIONS] PATH",
        .summary = "write the manifest of a folder, to be mounted from a web server",
        .text = "Write a manifest of the folder or file at PATH: what is there, and what its\n"
                "bytes hash to. Put both on any web server; hither mount of the manifest's URL\n"
                "then shows the folder, and every byte is checked before a program sees it.\n"
                "Prints the root hash, which stands for all of it (see --root-hash of mount).",
        .groups = groups,
        .min_args = 1,
        .max_args = 1,
        .run = run,
};
