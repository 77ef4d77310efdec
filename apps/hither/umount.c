/* SPDX-License-Identifier: Apache-2.0 */
/* hither umount: push everything, unmount or end the export, and return when the daemon is gone. */
#include "command.h"

#include "mountpoint.h"
#include "progress.h"
#include "runtime.h"
#include "settings.h"
#include "talk.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/fuse.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

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

/* --- finding the daemon --- */

struct search {
	const char *path; /* or an export's address */
	bool inside;      /* take a mount right inside the folder `path` */
	unsigned count;
	pid_t pid;
	int socket, pidfd;
	bool export, on_disk; /* what is not pushed stays in a cache */
	char found[PATH_MAX], url[4096];
};

/* Of an address, what can be compared: where one listens and where one connects look different. */
static void plain_address(const char *text, size_t len, char *out, size_t size)
{
	static const char *const here[] = {"localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::]"};
	const char *host = memmem(text, len, "://", 3);
	size_t used = 0, host_len = 0;
	while (len && text[len - 1] == '/')
		len--;
	for (size_t i = 0; host && i < COUNT_OF(here); i++) {
		size_t n = strlen(here[i]);
		const char *end = host + 3 + n;
		if (end <= text + len && !strncmp(host + 3, here[i], n) &&
		    (end == text + len || *end == ':' || *end == '/'))
			host_len = n;
	}
	if (host_len) {
		const char *rest = host + 3 + host_len;
		used = (size_t)snprintf(out, size, "%.*s*%s", (int)(host + 3 - text), text,
		                        rest < text + len && *rest == ':' ? "" : ":10809");
		len -= (size_t)(rest - text);
		text = rest;
	}
	if (used < size)
		snprintf(out + used, size - used, "%.*s", (int)len, text);
	if (!strncmp(out, "nbds", 4)) /* one place has one of both */
		memmove(out + 3, out + 4, strlen(out + 4) + 1);
}

/* Where the export's name begins: behind the host; "" if there is none. */
static char *name_in(char *address)
{
	char *host = strstr(address, "://");
	char *path = host ? host + 3 + strcspn(host + 3, "/") : address + strlen(address);
	return *path ? path + 1 : path;
}

/* "nbd://HOST:PORT", "nbd+unix:///?socket=PATH". */
static void drop_name(char *address)
{
	char *name = name_in(address), *query = strchr(name, '?');
	if (query)
		memmove(name, query, strlen(query) + 1);
	else if (*name)
		name[-1] = 0;
}

/* One of an export's addresses, a line each? Without a name any that is there will do. */
static bool is_address(const char *lines, const char *wanted)
{
	char want[512], has[512];
	bool found = false;
	plain_address(wanted, strlen(wanted), want, sizeof want);
	bool named = *name_in(want) && *name_in(want) != '?';
	for (const char *at = lines; !found && *at; at += *at == '\n') {
		size_t len = strcspn(at, "\n");
		plain_address(at, len, has, sizeof has);
		if (!named)
			drop_name(has);
		found = !strcmp(want, has);
		at += len;
	}
	return found;
}

static bool matches(const struct search *s, const char *info, const char *path)
{
	char addresses[8192];
	size_t len = strlen(s->path);
	if (json_get_string(info, "addresses", addresses, sizeof addresses))
		return !s->inside && is_address(addresses, s->path);
	if (!s->inside)
		return !strcmp(path, s->path);
	return !strncmp(path, s->path, len) && path[len] == '/' && !strchr(path + len + 1, '/');
}

static int consider(void *user, struct runtime_daemon *d)
{
	struct search *s = user;
	char path[PATH_MAX], text[PATH_MAX];
	if (!d->alive || !json_get_string(d->info, "path", path, sizeof path) ||
	    !matches(s, d->info, path))
		return 0;
	if (s->count++)
		return 0;
	strcpy(s->found, path);
	if (!json_get_string(d->info, "url", s->url, sizeof s->url))
		strcpy(s->url, "its resource");
	s->export = json_get_string(d->info, "addresses", text, sizeof text);
	s->on_disk = json_get_string(d->info, "cache", text, sizeof text) && *text == '/';
	s->pid = d->pid;
	s->socket = runtime_connect(d);
	s->pidfd = TAKE(d->pidfd, -1);
	return 0;
}

static void search_finish(struct search *s)
{
	if (s->socket >= 0)
		close(s->socket);
	if (s->pidfd >= 0)
		close(s->pidfd);
	s->socket = s->pidfd = -1;
}

static void search(struct search *s, const char *path, bool inside)
{
	*s = (struct search){.path = path, .inside = inside, .socket = -1, .pidfd = -1};
	runtime_each(true, consider, s);
}

/* --- waiting for it --- */

enum { PATIENCE_S = 2, AGAIN_S = 15, RETRY_MS = 250 };

/* What is shown of a wait that takes long: the line of progress, and what is waited for. */
struct wait {
	const struct search *daemon;
	struct progress progress;
	uint64_t began_ns, told_ns; /* when it was last said what is waited for; 0: not yet */
	uint64_t pushed, moved_ns;  /* so much had been pushed, and when that had last grown */
	bool stuck;                 /* nothing had moved for a while */
};

static void tell(struct wait *w, const struct hither_mount_stats *stats, unsigned stuck_s)
{
	char bytes[UNITS_TEXT_BYTES], since[64] = "";
	const char *end =
	        w->daemon->on_disk ? "leaves them in the cache, for the next mount" : "drops them";
	progress_clear(&w->progress);
	if (stuck_s)
		snprintf(since, sizeof since, ", which has taken nothing for %u s", stuck_s);
	if (!stats->dirty_bytes)
		fail_with(0,
		          "umount %s: waiting for process %ld to write back and unmount; ^C "
		          "leaves it to go on",
		          w->daemon->found, (long)w->daemon->pid);
	else
		fail_with(0,
		          "umount %s: waiting for %s to be pushed to %.200s%s%s%.*s%s; --force %s, "
		          "^C "
		          "leaves it to go on",
		          w->daemon->found, units_format_size(bytes, stats->dirty_bytes),
		          w->daemon->url, since, stats->error ? " (" : "",
		          stats->error ? hither_error_fact_len(stats->message) : 0, stats->message,
		          stats->error ? ")" : "", end);
}

/* It takes a while only if there is much to push, or nobody takes it. */
static void show(void *user, const struct hither_mount_stats *stats)
{
	struct wait *w = user;
	uint64_t now = now_ns();
	if (stats->pushed_bytes != w->pushed) {
		w->pushed = stats->pushed_bytes;
		w->moved_ns = now;
	}
	uint64_t still_s = (now - w->moved_ns) / NS_PER_S;
	bool stuck = still_s >= PATIENCE_S && stats->dirty_bytes;
	bool news = w->told_ns ? stuck && !w->stuck : now - w->began_ns >= PATIENCE_S * NS_PER_S;
	bool again = w->told_ns && !w->progress.terminal && now - w->told_ns >= AGAIN_S * NS_PER_S;
	if (news || again) {
		tell(w, stats, stuck ? (unsigned)still_s : 0);
		w->told_ns = now;
	}
	w->stuck = stuck;
	if (progress_wanted(&w->progress))
		progress_update(&w->progress, stats);
}

static void say(void *user, const char *why)
{
	struct wait *w = user;
	progress_clear(&w->progress);
	fail_with(0, "umount %s: %s", w->daemon->found, why);
}

/* -1: it hung up without a word, and lives. */
static int ask(const struct settings *s, const struct search *daemon)
{
	char request[32];
	uint64_t now = now_ns();
	struct wait w = {.daemon = daemon, .began_ns = now, .moved_ns = now};
	snprintf(request, sizeof request, "umount%s%s\n", s->lazy ? " lazy" : "",
	         s->force ? " force" : "");
	progress_init(&w.progress, PROGRESS_MOUNT, -1);
	struct talk t = {.socket = daemon->socket,
	                 .pidfd = daemon->pidfd,
	                 .pid = daemon->pid,
	                 .request = request,
	                 .progress = show,
	                 .waiting = say,
	                 .user = &w};
	enum talk_result r = daemon->socket != -EAGAIN ? talk(&t)
	                     : talk_stopped(&t)        ? TALK_FAILED
	                                               : TALK_AGAIN; /* many wait for it */
	progress_clear(&w.progress);
	int code = EXIT_DONE;
	if (r == TALK_AGAIN)
		return -1;
	if (r == TALK_FAILED)
		code = fail_with(EXIT_FAILED, "umount %s: %s", daemon->found, t.message);
	else if (t.forced && *t.message) /* who forces it wants to know what was left */
		code = fail_with(s->force ? EXIT_DONE : EXIT_FAILED, "umount %s: %s", daemon->found,
		                 t.message);
	if (r == TALK_FAILED &&
	    (daemon->export || hither_fuse_at(daemon->found) == HITHER_FUSE_HITHER))
		return code;
	return talk_end(&t) == TALK_GONE
	               ? code
	               : fail_with(EXIT_FAILED, "umount %s: %s", daemon->found, t.message);
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
	if (now != HITHER_FUSE_HITHER && !strncmp(path, "/dev/", 5))
		return fail_with(
		        EXIT_FAILED,
		        "umount: %s is a device: umount what is mounted from it, and hither "
		        "block detach %s ends it",
		        path, path);
	if (now != HITHER_FUSE_HITHER)
		return fail_with(EXIT_FAILED, "umount: %s is not a mount of hither; %s", path,
		                 now == HITHER_FUSE_NOTHING ? "hither status shows them"
		                                            : "use umount");
	if (hither_fuse_unmount(path, lazy, &err))
		return fail_with(EXIT_FAILED, "umount: %s", err.message);
	program_tell("%s: found no daemon of yours for it, told the kernel to unmount it", path);
	return EXIT_DONE;
}

/* -1: ask again. asked: it was there before. */
static int try(const struct settings *s, const char *path, bool address, bool asked)
{
	struct search daemon;
	int code;
	enum hither_fuse_found before = address ? HITHER_FUSE_NOTHING : hither_fuse_at(path);
	search(&daemon, path, false);
	if (!daemon.count && !address && before != HITHER_FUSE_HITHER)
		search(&daemon, path, true);
	if (daemon.count == 1)
		code = ask(s, &daemon);
	else if (daemon.count > 1)
		code = fail_with(EXIT_FAILED, "umount: %u mounts are in %s; name one of them",
		                 daemon.count, path);
	else if (asked && before == HITHER_FUSE_NOTHING)
		code = EXIT_DONE;
	else if (address)
		code = fail_with(EXIT_FAILED,
		                 "umount: %s is not exported by hither; hither status "
		                 "shows what is",
		                 path);
	else
		code = unmount_alone(path, s->lazy || s->force, before);
	if (code < 0)
		poll(&(struct pollfd){.fd = daemon.pidfd, .events = POLLIN}, 1, RETRY_MS);
	search_finish(&daemon);
	return code;
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	AUTO_FREE char *url = NULL;
	const char *what = args[0];
	if (!strncmp(what, "unix:", 5)) { /* as --listen takes it */
		if (asprintf(&url, "nbd+unix:///?socket=%s", what + 5) < 0)
			return fail_with(EXIT_FAILED, "umount: no memory");
		what = url;
	}
	bool address = !strncmp(what, "nbd", 3) && strstr(what, "://");
	AUTO_FREE char *path = address ? url_absolute(what) : mountpoint_canonical(what, &err);
	int code = -1;
	if (!path)
		return fail_with(EXIT_FAILED, "umount: %s", err.message);
	/* Where we work in it, we would be one of those who use it. */
	if (chdir("/"))
		return fail_with(EXIT_FAILED, "umount: /: %s", strerror(errno));
	for (bool asked = false; code < 0; asked = true)
		code = try(s, path, address, asked);
	return code;
}

const struct command command_umount = {
        .name = "umount",
        .usage = "[OPTIONS] PATH | ADDRESS",
        .summary = "push what has changed, and unmount or end an export",
        .text = "Push everything that was written, unmount PATH, and return when its daemon has\n"
                "ended. If the push fails, PATH stays mounted and nothing is lost. While it waits\n"
                "it says what for. ADDRESS ends an export: nbd://HOST:PORT/NAME, as hither export\n"
                "and hither status print it.",
        .groups = groups,
        .min_args = 1,
        .max_args = 1,
        .run = run,
};
