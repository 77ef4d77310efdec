/* SPDX-License-Identifier: Apache-2.0 */
/* hither mount: make a URL a file. */
#include "command.h"

#include "apart.h"
#include "daemon.h"
#include "mountpoint.h"
#include "runtime.h"
#include "source.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/fuse.h>

#define FIELD(member) offsetof(struct settings, member)

static const struct option_spec specs[] = {
        {"foreground", 'f', NULL, "Stay, and show progress; ^C unmounts.", set_true,
         FIELD(foreground)},
        {"progress", 0, "FD", "With --foreground: write lines of JSON to this file descriptor.",
         set_fd, FIELD(progress_fd)},
        {"log", 0, "FILE", "Add what goes wrong later to FILE.", set_path, FIELD(log)},
        {"allow-other", 0, NULL, "Let other users open the file.", set_true, FIELD(allow_other)},
        {"direct", 'd', NULL,
         "Keep nothing here: each read and write goes to the resource (what a file of this machine "
         "has, unless an option is about cache or order).",
         set_true, FIELD(mount.direct)},
        {"offline", 0, NULL, "Use only what the cache has.", set_true, FIELD(mount.offline)},
        {"root-hash", 0, "HASH",
         "Mount NAME.hither only if this is its root hash, as hither index printed it.", set_string,
         FIELD(root_hash)},
};
static const struct option_group group = {"Mounting", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {
        &group,           &options_cache, &options_pull, &options_write,
        &options_network, &options_test,  NULL};

/* Everything that starts a thread comes after this fork. */
static int run_apart(struct daemon *d)
{
	int code = apart_begin(&d->report_fd);
	return code < 0 ? daemon_run(d) : code;
}

static int check(struct settings *s, char **args, struct hither_error *err)
{
	int r = s->wrap ? source_check_layers(s->wrap, err) : 0;
	if (!r && s->progress_fd >= 0 && !s->foreground)
		r = hither_fail(err, -EINVAL, "--progress needs --foreground");
	return r ? r : settings_apply(s, args[0], err);
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct daemon d = {.settings = s, .report_fd = -1};
	if (check(s, args, &err))
		return fail_with(EXIT_MISUSED, "mount: %s", err.message);
	s->takes_tree = s->has_offline = true;
	s->mount.direct |= source_is_near(s);
	options_hide(args[0]);
	d.entry = (struct runtime_entry){.folder_fd = -1, .info_fd = -1, .log_fd = -1};
	d.shown_url = url_redact(s->url);
	AUTO_FREE char *name = url_file_name(s->url);
	if (!d.shown_url || !name)
		return fail_with(EXIT_FAILED, "no memory");
	runtime_each(false, NULL, NULL); /* clears away what the dead left, perhaps right there */
	int r = hither_fuse_probe(&err);
	AUTO_FREE char *late = NULL;
	if (!r && hither_tree_is_url(s->url)) {
		d.late = late = path_absolute(args[1]);
		d.at.path = late ? mountpoint_canonical(late, &err) : NULL;
		r = d.at.path ? 0 : err.code ? err.code : hither_fail(&err, -ENOMEM, "no memory");
	} else if (!r) {
		r = mountpoint_resolve(&d.at, args[1], name, &err);
	}
	int code = r               ? fail_with(EXIT_FAILED, "%s", err.message)
	           : s->foreground ? daemon_run(&d)
	                           : run_apart(&d);
	mountpoint_finish(&d.at);
	free(d.shown_url);
	return code;
}

const struct command command_mount = {
        .name = "mount",
        .usage = "[OPTIONS] URL PATH",
        .summary = "make a URL a file",
        .text = "Make URL usable as a file at PATH: an existing file, a folder (the file gets\n"
                "the URL's name in it), or a new name. What is read comes first, the rest\n"
                "follows in the background, and what is written is pushed back. Returns when the\n"
                "file can be used.\n\n"
                "A URL that ends in .hither is a manifest: the folder that it describes is shown\n"
                "at PATH, an empty folder or a new one, and every byte is checked.",
        .groups = groups,
        .min_args = 2,
        .max_args = 2,
        .run = run,
};
