/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hither-stream play: a player on a mounted path.
 *
 *     main thread     mount at a path of its own -> serve ............ -> unmount, close
 *     player thread                starts the player, waits for its end -> asks for the end
 *
 * Whoever ends first ends the other: the player, ^C, or hither umount.
 */
#include "attend.h"
#include "player.h"

#include "options.h"
#include "url.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "hither-play-" /* and the process that made it */
#define FIELD(member) offsetof(struct stream_settings, member)

static const struct option_spec specs[] = {
        {"player", 0, "PROGRAM", "The player (mpv, ffplay or vlc, the first that is there).",
         set_string, FIELD(player)},
};
static const struct option_group group = {"Playing", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {
        &group, &stream_options, &options_cache, &options_network, &options_test, NULL};

struct play {
	struct attendant a; /* first */
	char *const *extra;
	struct player *player;
	pthread_t thread;
	bool has_thread;
	int result;
	struct hither_error err;

	pthread_mutex_t lock; /* guards these */
	bool over, ending;    /* the player has ended; we want it to */
};

static void *attend_player(void *arg)
{
	struct play *p = arg;
	int r = player_wait(p->player, &p->err);
	pthread_mutex_lock(&p->lock);
	p->over = true;
	bool wanted = p->ending;
	pthread_mutex_unlock(&p->lock);
	p->result = wanted ? 0 : r;
	daemon_end(&p->a.daemon, true, false, false);
	return NULL;
}

static int mounted(struct daemon *d, struct hither_error *err)
{
	struct play *p = d->hooks_user;
	int r = attend_begin(&p->a, err);
	if (!r)
		r = player_start(p->a.settings->player, d->at.path, p->extra, p->a.playback,
		                 &p->player, err);
	if (r)
		return r;
	r = -pthread_create(&p->thread, NULL, attend_player, p);
	p->has_thread = !r;
	if (!r)
		return 0;
	player_end(p->player);
	player_wait(p->player, NULL);
	return hither_fail(err, r, "start a thread: %s", strerror(-r));
}

static void tell(const struct play *p)
{
	struct playback_picture picture;
	struct hither_mount_stats stats;
	char size[UNITS_TEXT_BYTES], pulled[UNITS_TEXT_BYTES];
	playback_picture(p->a.playback, &picture);
	hither_mount_stats(p->a.daemon.mount, &stats);
	fprintf(stderr, "%s: %s of %s are here", program_name,
	        units_format_size(pulled, stats.local_bytes),
	        units_format_size(size, stats.size_bytes));
	if (picture.told)
		fprintf(stderr, "; %u stalls, %.1f s", picture.stalls,
		        (double)picture.stalled_us / 1e6);
	fputc('\n', stderr);
}

/* A player says little of a page that came instead of a film. Nothing is waited for: what is not
 * all here is left to the player's own words. */
static void tell_failure(struct play *p)
{
	struct hither_error err;
	struct hither_mount *m = p->a.daemon.mount;
	AUTO_FREE char *name = url_file_name(p->a.settings->base.url);
	uint64_t size = hither_mount_size(m);
	uint32_t kind;
	fail_with(EXIT_FAILED, "%s", p->err.message);
	if (name && size && hither_mount_extent(m, 0, size, &kind) == size &&
	    kind & HITHER_EXTENT_LOCAL && stream_check_media(m, name, &err) == -EMEDIUMTYPE)
		fail_with(EXIT_FAILED, "%s", err.message);
}

static int unmounted(struct daemon *d)
{
	struct play *p = d->hooks_user;
	pthread_mutex_lock(&p->lock);
	p->ending = true;
	if (p->has_thread && !p->over)
		player_end(p->player);
	pthread_mutex_unlock(&p->lock);
	if (p->has_thread)
		pthread_join(p->thread, NULL);
	if (p->a.playback && p->has_thread)
		tell(p);
	player_finish(p->player);
	if (p->result)
		tell_failure(p);
	int r = attend_end(&p->a);
	return p->result ? p->result : r;
}

static const struct daemon_hooks hooks = {mounted, unmounted};

/* A folder of our own, so that the file has the resource's name. */
static int make_folder(const char *base, char *out, size_t size, struct hither_error *err)
{
	if (snprintf(out, size, "%s/" FOLDER "%ld-XXXXXX", base, (long)getpid()) >= (int)size) {
		*out = 0;
		errno = ENAMETOOLONG;
	}
	if (!*out || !mkdtemp(out))
		return hither_fail(err, -errno, "make a folder in %s: %s", base, strerror(errno));
	return 0;
}

/* What processes left that were killed. Their mounts have been cleared away when we mounted; what
 * is not empty, or another user's, stays. */
static void clear_folders(const char *base)
{
	DIR *d = opendir(base);
	const struct dirent *e;
	long pid;
	while (d && (e = readdir(d)))
		if (sscanf(e->d_name, FOLDER "%ld-", &pid) == 1 && pid > 0 && kill((pid_t)pid, 0) &&
		    errno == ESRCH)
			unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	if (d)
		closedir(d);
}

static int run(struct settings *base, char **args)
{
	struct hither_error err = {0};
	struct play p = {.a = {.settings = stream_of(base)},
	                 .extra = args + 1,
	                 .lock = PTHREAD_MUTEX_INITIALIZER};
	char folder[512];
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	if (!runtime || *runtime != '/' || access(runtime, W_OK))
		runtime = "/tmp";
	int code = stream_apply("play", p.a.settings, args[0]);
	if (code >= 0)
		return code;
	options_hide(args[0]);
	if (make_folder(runtime, folder, sizeof folder, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
	base->foreground = base->own_copy = true;
	p.a.daemon.quiet = true;
	p.a.daemon.hooks = &hooks;
	p.a.daemon.hooks_user = &p;
	code = attend(&p.a, folder, false);
	rmdir(folder);
	clear_folders(runtime);
	return code;
}

const struct command command_play = {
        .name = "play",
        .usage = "[OPTIONS] URL [-- PLAYER-ARGUMENT...]",
        .summary = "start a player on it",
        .text = "Mount URL at a path of its own and start a player there: mpv, ffplay or vlc,\n"
                "whichever is there. When the player ends, so does the mount; what was pulled\n"
                "stays in the cache.",
        .groups = groups,
        .min_args = 1,
        .max_args = 31,
        .run = run,
};
