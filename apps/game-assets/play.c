/* SPDX-License-Identifier: Apache-2.0 */
/*
 * game-assets play, learn: a game in a mounted tree.
 *
 *     main thread   mount at a folder of its own -> serve ................. -> unmount, close
 *     game thread               wait until it is ready, start the game, wait -> asks for the end
 *
 * Whoever ends first ends the other: the game, ^C, or hither umount.
 */
#include "game.h"

#include "child.h"
#include "daemon.h"
#include "mountpoint.h"
#include "runtime.h"
#include "source.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/fuse.h>
#include <hither/profile.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { END_MS = 5000 }; /* a game that was asked to end has so long */

#define FIELD(member) offsetof(struct game_settings, member)

static const struct option_spec specs[] = {
        {"ready", 0, "SHARE",
         "Start the game once this much is here: \"20%\" of everything, or \"profile\", what the "
         "profile has (default: at once).",
         set_string, FIELD(ready)},
        {"overlay", 0, "DIR", "What the game writes in its folder goes to DIR/files.", set_path,
         FIELD(overlay)},
        {"offline", 0, NULL, "Use only what the cache has.", set_true, FIELD(base.mount.offline)},
        {"root-hash", 0, "HASH", "Play only if this is the manifest's root hash.", set_string,
         FIELD(base.root_hash)},
};
static const struct option_group group = {"Playing", specs, COUNT_OF(specs)};
static const struct option_spec learn_specs[] = {
        {"output", 0, "FILE", "The profile (default: NAME.hither-profile, here).", set_path,
         FIELD(profile_out)},
};
static const struct option_group learn_group = {"Learning", learn_specs, COUNT_OF(learn_specs)};
static const struct option_group *const groups[] = {&group,           &options_cache, &options_pull,
                                                    &options_network, &options_test,  NULL};
static const struct option_group *const learn_groups[] = {
        &learn_group, &group, &options_cache, &options_pull, &options_network, &options_test, NULL};

struct play {
	struct daemon daemon;
	struct game_settings *settings;
	char **command;
	uint64_t start_ns, launch_ns, end_ns;
	struct hither_mount_stats at_launch;
	struct ready ready;
	pthread_t thread;
	bool has_thread;
	int result;
	struct hither_error err;

	pthread_mutex_t lock; /* guards the rest */
	struct child child;
	bool plays, ending; /* the game runs; it shall end */
};

static int play_game(struct play *p)
{
	p->ready.offline = p->settings->base.mount.offline;
	int r = ready_parse(&p->ready, p->settings->ready, p->settings->base.profile,
	                    p->daemon.mount, hither_tree_file_bytes(p->settings->base.tree),
	                    &p->err);
	if (!r && !ready_wait(&p->ready, &p->err))
		r = p->err.code;
	if (r)
		return r;
	hither_mount_stats(p->daemon.mount, &p->at_launch);
	pthread_mutex_lock(&p->lock);
	const struct child_wish wish = {.program = p->command[0],
	                                .argv = p->command,
	                                .folder = p->daemon.at.path,
	                                .overlay = p->settings->overlay,
	                                .name = "GAME_ASSETS",
	                                .value = p->daemon.at.path};
	r = child_start(&wish, &p->child, &p->err);
	p->plays = !r;
	p->launch_ns = now_ns();
	if (p->plays && p->ending)
		child_signal(&p->child, SIGTERM);
	pthread_mutex_unlock(&p->lock);
	if (r) {
		hither_error_prefix(&p->err, "start the game");
		return r;
	}
	daemon_show_progress(&p->daemon, true);
	int code = child_wait(&p->child);
	daemon_show_progress(&p->daemon, false);
	p->end_ns = now_ns();
	pthread_mutex_lock(&p->lock);
	p->plays = false;
	child_finish(&p->child);
	bool wanted = p->ending;
	pthread_mutex_unlock(&p->lock);
	if (wanted || !code)
		return 0;
	return p->child.signal ? hither_fail(&p->err, -ECHILD, "%s: %s", p->command[0],
	                                     strsignal(p->child.signal))
	                       : hither_fail(&p->err, -ECHILD, "%s ended with exit code %d",
	                                     p->command[0], code);
}

static void *game_main(void *arg)
{
	struct play *p = arg;
	p->result = play_game(p);
	daemon_end(&p->daemon, true, false, false);
	return NULL;
}

static int mounted(struct daemon *d, struct hither_error *err)
{
	struct play *p = d->hooks_user;
	int r = -pthread_create(&p->thread, NULL, game_main, p);
	p->has_thread = !r;
	return r ? hither_fail(err, r, "start a thread: %s", strerror(-r)) : 0;
}

static void tell(const struct play *p)
{
	struct hither_mount_stats s;
	char pulled[UNITS_TEXT_BYTES], all[UNITS_TEXT_BYTES], saved[UNITS_TEXT_BYTES];
	const struct hither_tree *t = p->settings->base.tree;
	uint64_t size = hither_tree_file_bytes(t);
	hither_mount_stats(p->daemon.mount, &s);
	/* The gaps between files come, too, from nowhere. */
	uint64_t fetched = s.pulled_bytes < size ? s.pulled_bytes : size;
	fprintf(stderr,
	        "%s: started after %.2f s, ran for %.1f s; %llu reads stalled over 50 ms (all "
	        "waits, of all threads together: %.2f s); fetched %s of %s, %s saved\n",
	        program_name, (double)(p->launch_ns - p->start_ns) / 1e9,
	        (double)(p->end_ns - p->launch_ns) / 1e9,
	        (unsigned long long)(s.reads_stalled - p->at_launch.reads_stalled),
	        (double)(s.wait_ns - p->at_launch.wait_ns) / 1e9,
	        units_format_size(pulled, fetched), units_format_size(all, size),
	        units_format_size(saved, size - fetched));
}

/* The game, asked or made to end: has it? Whose files are gone may hang while it tidies up. */
static bool end_game(struct play *p, bool kill)
{
	pthread_mutex_lock(&p->lock);
	p->ending = true;
	if (p->plays)
		child_signal(&p->child, kill ? SIGKILL : SIGTERM);
	pthread_mutex_unlock(&p->lock);
	ready_stop(&p->ready);
	struct timespec until = in_ms(END_MS);
	if (kill)
		return !pthread_join(p->thread, NULL);
	return !pthread_timedjoin_np(p->thread, NULL, &until);
}

static int unmounted(struct daemon *d)
{
	struct play *p = d->hooks_user;
	if (p->has_thread && !end_game(p, false))
		end_game(p, true);
	if (p->end_ns)
		tell(p);
	if (p->result)
		fail_with(EXIT_FAILED, "%s", p->err.message);
	hither_mount_cancel(d->mount); /* nothing is written: closing need not wait for a pull */
	return p->result;
}

static const struct daemon_hooks hooks = {mounted, unmounted};

static int check(struct game_settings *g, char **args, struct hither_error *err)
{
	struct settings *s = &g->base;
	int r = s->wrap ? source_check_layers(s->wrap, err) : 0;
	if (!r && !hither_tree_is_url(args[0]))
		r = hither_fail(err, -EINVAL,
		                "%s is no manifest: its name should end in .hither; game-assets "
		                "publish makes one",
		                args[0]);
	if (!r && !args[1])
		r = hither_fail(err, -EINVAL, "which command starts the game? -- COMMAND");
	if (!r)
		r = ready_check(g->ready, err);
	return r ? r : settings_apply(s, args[0], err);
}

static int run_at(struct play *p, const char *folder)
{
	struct hither_error err = {0};
	struct daemon *d = &p->daemon;
	d->settings = &p->settings->base;
	d->report_fd = -1;
	d->quiet = true;
	d->hooks = &hooks;
	d->hooks_user = p;
	d->late = folder;
	d->scratch = true;
	d->entry = (struct runtime_entry){.folder_fd = -1, .info_fd = -1, .log_fd = -1};
	d->shown_url = url_redact(d->settings->url);
	d->at.path = mountpoint_canonical(folder, &err);
	runtime_each(false, NULL, NULL);
	int r = d->shown_url && d->at.path ? hither_fuse_probe(&err)
	                                   : hither_fail(&err, -ENOMEM, "no memory");
	int code = r ? fail_with(EXIT_FAILED, "%s", err.message) : daemon_run(d);
	mountpoint_finish(&d->at);
	free(d->shown_url);
	return code;
}

static int play(struct game_settings *g, char **args)
{
	struct hither_error err = {0};
	struct play p = {.settings = g,
	                 .command = args + 1,
	                 .start_ns = now_ns(),
	                 .lock = PTHREAD_MUTEX_INITIALIZER};
	char folder[512];
	options_hide(args[0]);
	ready_init(&p.ready);
	if (mountpoint_scratch("game-assets", folder, sizeof folder, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
	g->base.foreground = true;
	g->base.own_copy = true;
	g->base.takes_tree = true;
	g->base.has_offline = true;
	int code = run_at(&p, folder);
	ready_finish(&p.ready);
	rmdir(folder);
	return code;
}

static int run_play(struct settings *s, char **args)
{
	struct hither_error err = {0};
	if (check(game_of(s), args, &err))
		return fail_with(EXIT_MISUSED, "play: %s", err.message);
	return play(game_of(s), args);
}

/* --- learn --- */

/* Say in the profile which tree it is of. */
static int stamp(const char *path, const struct hither_tree *t, size_t *count,
                 struct hither_error *err)
{
	struct hither_profile p = {0};
	int r = hither_profile_load(path, &p, err);
	if (r)
		return r;
	snprintf(p.version, sizeof p.version, "%s", hither_tree_hash(t));
	r = hither_profile_save(path, &p, err);
	*count = p.count;
	hither_profile_finish(&p);
	return r;
}

static int run_learn(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct game_settings *g = game_of(s);
	size_t count;
	if (check(g, args, &err))
		return fail_with(EXIT_MISUSED, "learn: %s", err.message);
	AUTO_FREE char *name = url_file_name(s->url);
	AUTO_FREE char *own = NULL;
	if (!name || asprintf(&own, "%s-profile", name) < 0)
		return fail_with(EXIT_FAILED, "no memory");
	const char *path = g->profile_out ? g->profile_out : s->record ? s->record : own;
	s->mount.record = path;
	int code = play(g, args);
	if (!s->tree || access(path, R_OK))
		return code ? code : EXIT_FAILED;
	if (stamp(path, s->tree, &count, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
	if (!count)
		return fail_with(
		        EXIT_FAILED,
		        "learn: nothing of the tree was read, so there is nothing to learn");
	fprintf(stderr,
	        "%s: %s: %zu step%s; game-assets publish --profile %s puts them beside the "
	        "manifest, and who plays then has them ahead of time\n",
	        program_name, path, count, count == 1 ? "" : "s", path);
	return code;
}

const struct command command_play = {
        .name = "play",
        .usage = "[OPTIONS] URL -- COMMAND...",
        .summary = "start a game in a tree that is being fetched",
        .text = "Mount the tree of the manifest at URL and start COMMAND in it, at once or as\n"
                "--ready says. A profile beside the manifest tells what the game will read, and\n"
                "is fetched ahead of it. When the game ends, so does the mount; what came stays\n"
                "in the cache, and once all is there --offline needs no network.",
        .groups = groups,
        .min_args = 1,
        .max_args = 255,
        .digits_after_dash = true,
        .run = run_play,
};

const struct command command_learn = {
        .name = "learn",
        .usage = "[OPTIONS] URL -- COMMAND...",
        .summary = "play, and record what the game reads first",
        .text = "Play, and write down what the game reads, in which order and when: a profile.\n"
                "Beside the manifest on the server, as NAME.hither-profile, it makes the next\n"
                "start quicker for everybody.",
        .groups = learn_groups,
        .min_args = 1,
        .max_args = 255,
        .digits_after_dash = true,
        .run = run_learn,
};
