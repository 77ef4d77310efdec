/* SPDX-License-Identifier: Apache-2.0 */
/* hither umount: push everything, unmount, and return when the daemon is gone. */
#include "command.h"

#include "mountpoint.h"
#include "progress.h"
#include "runtime.h"
#include "settings.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <hither/fuse.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const struct option_spec specs[] = {
        {"lazy", 'l', NULL, "Unmount even if somebody has the file open.", set_true,
         offsetof(struct settings, lazy)},
        {"force", 0, NULL,
         "Do not push: leave what has changed in the cache for the next mount, or drop it if there "
         "is none on disk. Means --lazy too.",
         set_true, offsetof(struct settings, force)},
};
static const struct option_group group = {"Unmounting", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group, NULL};

enum { SILENCE_S = 8 }; /* a daemon tells of its progress four times a second */

/* --- finding the daemon --- */

struct search {
	const char *path;
	bool inside; /* take a mount right inside the folder `path` */
	unsigned count;
	pid_t pid;
	int socket, pidfd;
	char found[PATH_MAX];
};

static bool matches(const struct search *s, const char *path)
{
	size_t len = strlen(s->path);
	if (!s->inside)
		return !strcmp(path, s->path);
	return !strncmp(path, s->path, len) && path[len] == '/' && !strchr(path + len + 1, '/');
}

static int consider(void *user, struct runtime_daemon *d)
{
	struct search *s = user;
	char path[PATH_MAX];
	if (!d->alive || !json_get_string(d->info, "path", path, sizeof path) || !matches(s, path))
		return 0;
	if (s->count++)
		return 0;
	strcpy(s->found, path);
	s->pid = d->pid;
	s->socket = TAKE(d->socket, -1);
	s->pidfd = TAKE(d->pidfd, -1);
	return 0;
}

static void search(struct search *s, const char *path, bool inside)
{
	*s = (struct search){.path = path, .inside = inside, .socket = -1, .pidfd = -1};
	runtime_each(true, consider, s);
}

/* --- talking to it --- */

/* An object of progress becomes a line on the terminal; it takes a while only if there is much to
 * push. */
static void show(struct progress *p, const char *line)
{
	struct hither_mount_stats stats = {
	        .size_bytes = json_get_uint(line, "size_bytes"),
	        .local_bytes = json_get_uint(line, "local_bytes"),
	        .dirty_bytes = json_get_uint(line, "dirty_bytes"),
	        .pulled_bytes = json_get_uint(line, "pulled_bytes"),
	        .pushed_bytes = json_get_uint(line, "pushed_bytes"),
	        .error = (int)json_get_int(line, "error"),
	};
	json_get_string(line, "message", stats.message, sizeof stats.message);
	if (progress_wanted(p))
		progress_update(p, &stats);
}

/* Until the daemon has nothing more to say. -1: done, else the exit code. */
static int listen_to(FILE *stream, const char *path, pid_t pid, bool force)
{
	AUTO_FREE char *line = NULL;
	size_t size = 0;
	struct progress p;
	char event[16], message[1200];
	int code = -1;
	progress_init(&p, PROGRESS_MOUNT, -1);
	const struct timeval patience = {.tv_sec = SILENCE_S};
	setsockopt(fileno(stream), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	while (code < 0 && getline(&line, &size, stream) > 0) {
		json_get_string(line, "event", event, sizeof event);
		if (!strcmp(event, "progress"))
			show(&p, line);
		else if (json_get_string(line, "message", message, sizeof message)) {
			progress_clear(&p);
			/* Who forces it wants to know what was left, and has what they wanted. */
			code = fail_with(force && json_get_bool(line, "forced") ? EXIT_DONE
			                                                        : EXIT_FAILED,
			                 "umount %s: %s", path, message);
		}
	}
	progress_clear(&p);
	if (code < 0 && ferror(stream))
		code = fail_with(
		        EXIT_FAILED,
		        "umount %s: process %ld is silent; if it is stopped, kill -CONT %ld", path,
		        (long)pid, (long)pid);
	return code;
}

static int ask(const struct settings *s, const struct search *daemon)
{
	char request[32];
	snprintf(request, sizeof request, "umount%s%s\n", s->lazy ? " lazy" : "",
	         s->force ? " force" : "");
	FILE *stream = daemon->socket < 0 ? NULL : fdopen(daemon->socket, "r");
	if (!stream || send(daemon->socket, request, strlen(request), MSG_NOSIGNAL) < 0)
		return fail_with(EXIT_FAILED, "umount %s: process %ld does not answer",
		                 daemon->found, (long)daemon->pid);
	int code = listen_to(stream, daemon->found, daemon->pid, s->force);
	bool still = code == EXIT_FAILED && hither_fuse_at(daemon->found) == HITHER_FUSE_HITHER;
	fclose(stream);
	if (still)
		return code;
	struct pollfd end = {.fd = daemon->pidfd, .events = POLLIN};
	while (end.fd >= 0 && poll(&end, 1, -1) < 0 && errno == EINTR)
		;
	return code < 0 ? EXIT_DONE : code;
}

/* --- without a daemon --- */

static int unmount_alone(const char *path, bool lazy, enum hither_fuse_found before)
{
	struct hither_error err = {0};
	enum hither_fuse_found now = hither_fuse_at(path);
	if (now == HITHER_FUSE_NOTHING && before == HITHER_FUSE_HITHER) {
		program_tell("%s: its daemon was gone; unmounted", path);
		return EXIT_DONE;
	}
	if (now != HITHER_FUSE_HITHER)
		return fail_with(EXIT_FAILED, "umount: %s is not a mount of hither; %s", path,
		                 now == HITHER_FUSE_NOTHING ? "hither status shows them"
		                                            : "use umount");
	if (hither_fuse_unmount(path, lazy, &err))
		return fail_with(EXIT_FAILED, "umount: %s", err.message);
	program_tell("%s: found no daemon of yours for it, told the kernel to unmount it", path);
	return EXIT_DONE;
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct search daemon;
	AUTO_FREE char *path = mountpoint_canonical(args[0], &err);
	if (!path)
		return fail_with(EXIT_FAILED, "umount: %s", err.message);
	enum hither_fuse_found before = hither_fuse_at(path);
	search(&daemon, path, false);
	if (!daemon.count && before != HITHER_FUSE_HITHER)
		search(&daemon, path, true);
	if (daemon.count == 1)
		return ask(s, &daemon);
	if (daemon.count > 1)
		return fail_with(EXIT_FAILED, "umount: %u mounts are in %s; name one of them",
		                 daemon.count, path);
	return unmount_alone(path, s->lazy || s->force, before);
}

const struct command command_umount = {
        .name = "umount",
        .usage = "[OPTIONS] PATH",
        .summary = "push what has changed, and unmount",
        .text = "Push everything that was written, unmount PATH, and return when its daemon has\n"
                "ended. If the push fails, PATH stays mounted and nothing is lost.",
        .groups = groups,
        .min_args = 1,
        .max_args = 1,
        .run = run,
};
