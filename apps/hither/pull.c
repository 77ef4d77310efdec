/* SPDX-License-Identifier: Apache-2.0 */
/* hither pull: fill the cache. */
#include "command.h"

#include "holder.h"
#include "progress.h"
#include "source.h"
#include "talk.h"
#include "util.h"

#include <errno.h>
#include <hither/mount.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

enum { TICK_MS = 250 };

static const struct option_spec specs[] = {
        {"progress", 0, "FD", "Write lines of JSON to this file descriptor, a few a second.",
         set_fd, offsetof(struct settings, progress_fd)},
        {"quiet", 'q', NULL, "Show no progress.", set_true, offsetof(struct settings, quiet)},
};
static const struct option_group group = {"Showing", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group,           &options_cache, &options_pull,
                                                    &options_network, &options_test,  NULL};

struct job {
	struct hither_mount *mount;
	int done_fd;
	int result;
	struct hither_error err;
};

static void *pull(void *arg)
{
	struct job *job = arg;
	uint64_t one = 1;
	job->result = hither_mount_pull(job->mount, &job->err);
	if (write(job->done_fd, &one, sizeof one) < 0)
		abort(); /* an eventfd that nobody has written to takes a 1 */
	return NULL;
}

static void show_stats(const struct settings *s, struct progress *p,
                       const struct hither_mount_stats *stats)
{
	if (!s->quiet)
		progress_tell(p, stats);
	if (progress_wanted(p))
		progress_update(p, stats);
}

static void show(const struct settings *s, struct progress *p, struct hither_mount *m)
{
	struct hither_mount_stats stats;
	source_stats(s, m, &stats);
	show_stats(s, p, &stats);
}

/* Until it is done. True: somebody wants out. */
static bool watch(const struct settings *s, struct job *job, struct progress *p, int signal_fd)
{
	bool stopped = false;
	for (;;) {
		struct pollfd fds[] = {{.fd = job->done_fd, .events = POLLIN},
		                       {.fd = stopped ? -1 : signal_fd, .events = POLLIN}};
		int n = poll(fds, 2, s->quiet && !progress_wanted(p) ? -1 : TICK_MS);
		if (n > 0 && fds[0].revents)
			break;
		if (n > 0 && fds[1].revents) {
			stopped = true;
			hither_mount_cancel(job->mount);
		}
		show(s, p, job->mount);
	}
	if (progress_wanted(p))
		show(s, p, job->mount);
	return stopped;
}

static int finish_line(struct progress *p)
{
	if (p->drawn)
		fputc('\n', stderr);
	return 0;
}

static int pull_all(struct settings *s, int signal_fd, struct hither_mount *m,
                    struct hither_error *err)
{
	struct progress p;
	pthread_t thread;
	struct job job = {.mount = m, .done_fd = eventfd(0, EFD_CLOEXEC)};
	progress_init(&p, PROGRESS_PULL, s->progress_fd);
	p.terminal &= !s->quiet;
	int r = job.done_fd < 0 ? -errno : -pthread_create(&thread, NULL, pull, &job);
	if (r)
		return hither_fail(err, r, "start a thread: %s", strerror(-r));
	bool stopped = watch(s, &job, &p, signal_fd);
	pthread_join(thread, NULL);
	close(job.done_fd);
	finish_line(&p);
	*err = job.err;
	if (stopped && job.result)
		return hither_fail(err, -EINTR,
		                   "stopped; what has come is in the cache, pull again to go on");
	return job.result;
}

/* So that ^C leaves a cache that knows what it has. Before any thread starts. */
static int block_signals(void)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

/* --- where somebody else has the cache: that one pulls --- */

struct there {
	struct progress progress;
	const struct settings *settings;
};

static void show_there(void *user, const struct hither_mount_stats *stats)
{
	struct there *t = user;
	show_stats(t->settings, &t->progress, stats);
}

static void say_waiting(void *user, const char *why)
{
	struct there *t = user;
	progress_clear(&t->progress);
	fail_with(0, "pull: %s", why);
}

/* The exit code; -1: it has gone, so that we can do it; err tells who is in the way otherwise. */
static int pull_there(struct settings *s, const struct hither_error *err)
{
	struct holder h;
	struct there there = {.settings = s};
	sigset_t none, before;
	if (!holder_find(s, &h))
		return fail_with(EXIT_FAILED, "%s", err->message);
	if (!s->quiet)
		fail_with(
		        0,
		        "%s has the cache (process %ld), and pulls it there; ^C leaves it to that",
		        h.path, (long)h.pid);
	progress_init(&there.progress, PROGRESS_PULL, s->progress_fd);
	there.progress.terminal &= !s->quiet;
	struct talk t = {.socket = h.socket,
	                 .pidfd = h.pidfd,
	                 .pid = h.pid,
	                 .request = "pull\n",
	                 .progress = show_there,
	                 .waiting = say_waiting,
	                 .user = &there};
	sigemptyset(&none); /* nothing of ours is lost by ^C */
	sigprocmask(SIG_SETMASK, &none, &before);
	enum talk_result r = h.socket != -EAGAIN ? talk(&t)
	                     : talk_stopped(&t)  ? TALK_FAILED
	                                         : TALK_AGAIN; /* many wait for it */
	sigprocmask(SIG_SETMASK, &before, NULL);
	finish_line(&there.progress);
	if (r == TALK_AGAIN) /* it may be ending */
		poll(&(struct pollfd){.fd = h.pidfd, .events = POLLIN}, 1, TICK_MS);
	holder_finish(&h);
	return r == TALK_DONE     ? EXIT_DONE
	       : r == TALK_FAILED ? fail_with(EXIT_FAILED, "pull: %s", t.message)
	                          : -1;
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct hither_mount *m = NULL;
	s->read_only = s->takes_tree = true;
	if (s->cache_dir && !strcmp(s->cache_dir, "none"))
		return fail_with(EXIT_MISUSED,
		                 "pull: it fills a cache on disk, and --cache none is none");
	if (settings_apply(s, args[0], &err) || (s->wrap && source_check_layers(s->wrap, &err)))
		return fail_with(EXIT_MISUSED, "pull: %s", err.message);
	options_hide(args[0]);
	AUTO_CLOSE int signal_fd = block_signals();
	int code = -1, r;
	do {
		err = (struct hither_error){0};
		r = source_open(s, false, &m, &err);
		if (r == -EBUSY)
			code = pull_there(s, &err);
	} while (r == -EBUSY && code < 0);
	if (code >= 0)
		return code;
	if (!r)
		r = pull_all(s, signal_fd, m, &err);
	struct hither_error closing = {0};
	int closed = hither_mount_close(m, &closing);
	if (!r && closed) {
		r = closed;
		err = closing;
	}
	return r ? fail_with(EXIT_FAILED, "%s", err.message) : EXIT_DONE;
}

const struct command command_pull = {
        .name = "pull",
        .usage = "[OPTIONS] URL",
        .summary = "fill the cache",
        .text = "Pull all of URL into the cache, for a later mount, also an --offline one; of a\n"
                "manifest (NAME.hither), all of its tree. What the cache has already is not\n"
                "pulled again. Where the URL is mounted, that mount pulls it.",
        .groups = groups,
        .min_args = 1,
        .max_args = 1,
        .run = run,
};
