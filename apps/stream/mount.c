/* SPDX-License-Identifier: Apache-2.0 */
/* hither-stream mount: a medium as a file, for any player. */
#include "attend.h"

#include "options.h"
#include "util.h"

#define FIELD(member) offsetof(struct stream_settings, member)

static const struct option_spec specs[] = {
        {"foreground", 'f', NULL, "Stay, and show progress; ^C unmounts.", set_true,
         FIELD(base.foreground)},
        {"log", 0, "FILE", "Add what goes wrong later to FILE.", set_path, FIELD(base.log)},
        {"allow-other", 0, NULL, "Let other users open the file.", set_true,
         FIELD(base.allow_other)},
};
static const struct option_group group = {"Mounting", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {
        &group, &stream_options, &options_cache, &options_network, &options_test, NULL};

static int mounted(struct daemon *d, struct hither_error *err)
{
	return attend_begin(d->hooks_user, err);
}

static int unmounted(struct daemon *d)
{
	return attend_end(d->hooks_user);
}

static const struct daemon_hooks hooks = {mounted, unmounted};

static int run(struct settings *base, char **args)
{
	struct attendant a = {.settings = stream_of(base)};
	int code = stream_apply("mount", a.settings, args[0]);
	if (code >= 0)
		return code;
	options_hide(args[0]);
	a.daemon.hooks = &hooks;
	a.daemon.hooks_user = &a;
	return attend(&a, args[1], !base->foreground);
}

const struct command command_stream_mount = {
        .name = "mount",
        .usage = "[OPTIONS] URL PATH",
        .summary = "make it a file, for any player",
        .text = "Make URL usable as a file at PATH, as hither mount does. Its index is pulled\n"
                "first, wherever it is, then what is played next; the rest only with --all.\n"
                "hither umount PATH ends it, hither status tells how it fares.",
        .groups = groups,
        .min_args = 2,
        .max_args = 2,
        .run = run,
};
