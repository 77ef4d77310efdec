/* SPDX-License-Identifier: Apache-2.0 */
/* game-assets publish: the manifest, and a profile that fits it. */
#include "game.h"

#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/profile.h>
#include <hither/tree.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FIELD(member) offsetof(struct game_settings, member)

static const struct option_spec specs[] = {
        {"output", 'o', "NAME.hither", "The manifest (default: DIR.hither).", set_string,
         FIELD(base.output)},
        {"profile", 0, "FILE", "A profile that game-assets learn made of this very tree.", set_path,
         FIELD(base.profile)},
};
static const struct option_group group = {"Publishing", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group, NULL};

/*
 * A profile of another tree would fetch the wrong bytes first, which nobody would notice. What is
 * published has whole pieces: every player has to wait for it.
 */
static int put_profile(const char *from, const char *manifest, const char *to,
                       struct hither_error *err)
{
	struct hither_profile p = {0}, wide = {0};
	struct hither_tree *t = NULL;
	const struct hither_mount_options direct = {.direct = true};
	int r = hither_tree_fetch(manifest, &direct, NULL, &t, err);
	if (!r)
		r = hither_profile_load(from, &p, err);
	if (!r && !hither_tree_fits(t, &p))
		r = hither_fail(err, -EINVAL, "%s is a profile of another tree: learn it again",
		                from);
	if (!r)
		r = hither_tree_widen(t, &p, &wide, err);
	if (!r)
		r = hither_profile_save(to, &wide, err);
	hither_profile_finish(&wide);
	hither_profile_finish(&p);
	hither_tree_destroy(t);
	return r;
}

/* A profile from before would be passed over by everybody, and nobody would know why. */
static void check_old_profile(const char *path, const char *hash)
{
	struct hither_profile p = {0};
	if (!hither_profile_load(path, &p, NULL) && *p.version && strcmp(p.version, hash) != 0)
		fail_with(
		        0,
		        "note: %s is of another version of the tree, and nobody will use it: learn "
		        "it again",
		        path);
	hither_profile_finish(&p);
}

static void left_out(void *user, const char *path, const char *why)
{
	fprintf(stderr, "%s: %s is left out: %s\n", program_name, path, why);
}

static bool is_folder(const char *path)
{
	struct stat st;
	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct hither_tree_index_result result;
	const struct hither_tree_index_options options = {.left_out = left_out};
	char size[UNITS_TEXT_BYTES];
	AUTO_FREE char *path = path_named(args[0]);
	AUTO_FREE char *own = NULL;
	AUTO_FREE char *profile = NULL;
	if (!path)
		return fail_with(EXIT_FAILED, "%s: %s", args[0], strerror(errno));
	if (!access(path, F_OK) && !is_folder(path))
		return fail_with(EXIT_MISUSED,
		                 "publish: %s is no folder; hither index makes a file's manifest",
		                 path);
	if ((!s->output && asprintf(&own, "%s.hither", path) < 0) ||
	    asprintf(&profile, "%s-profile", s->output ? s->output : own) < 0)
		return fail_with(EXIT_FAILED, "no memory");
	const char *out = s->output ? s->output : own;
	if (!hither_tree_is_url(out))
		return fail_with(EXIT_MISUSED, "publish: %s should end in .hither", out);
	if (hither_tree_index(path, out, &options, &result, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
	int r = s->profile ? put_profile(s->profile, out, profile, &err) : 0;
	bool put = s->profile && !r;
	if (!put)
		check_old_profile(profile, result.hash);
	fprintf(stderr,
	        "%s: %llu file%s, %s; put %s%s%s and the folder on a web server; root hash:\n",
	        program_name, (unsigned long long)result.files, result.files == 1 ? "" : "s",
	        units_format_size(size, result.file_bytes), out, put ? ", " : "",
	        put ? profile : "");
	puts(result.hash);
	if (fflush(stdout))
		return EXIT_FAILED;
	return r ? fail_with(EXIT_FAILED, "%s; the manifest is there, without it", err.message)
	         : EXIT_DONE;
}

const struct command command_publish = {
        .name = "publish",
        .usage = "[OPTIONS] DIR",
        .summary = "make a folder ready for a web server",
        .text = "Write the manifest of the game in DIR, and put a profile beside it. What is on\n"
                "the server then is the folder, the manifest and the profile: plain files.",
        .groups = groups,
        .min_args = 1,
        .max_args = 1,
        .run = run,
};
