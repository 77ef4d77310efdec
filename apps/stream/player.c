/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mpv's JSON IPC (its manual, "JSON IPC"): lines of JSON over a socket pair, one end of which it
 * gets as --input-ipc-client=fd://N. We ask it to tell of two properties as they change:
 *
 *     {"command":["observe_property",1,"time-pos"]}
 *     {"event":"property-change","id":1,"name":"time-pos","data":12.345}
 */
#include "player.h"

#include "json.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { MOST_ARGS = 64, LINE_BYTES = 4096, MOST_SECONDS = 366 * 86400 };

struct player {
	const char *name;
	struct playback *playback;
	pid_t pid;
	int pidfd, ipc; /* ipc: -1: it is no mpv, or has closed it */
	char line[LINE_BYTES];
	size_t len;
	bool skips;        /* the rest of a line that was too long */
	bool plays;        /* it has told of a time */
	unsigned moves;    /* times that it has told of since a seek */
	uint64_t hurry_ns; /* it shall play on then with whatever it has; 0: it plays */
	bool hurried;      /* it was told so */
};

/*
 * Before it begins, and goes on, mpv gathers so many seconds: over a line that brings hardly more
 * than is played they are all that it has to ride through a hiccup with. But nobody shall look at a
 * still picture for longer than HURRY_NS because of that.
 */
#define GATHERED "0.9"
#define GATHERED_HURRY "0.1"
#define HURRY_NS (NS_PER_S * 4 / 3)
enum { PLAYING_MOVES = 4 };

static const struct {
	const char *name;
	const char *options[8]; /* before those of the user */
} known[] = {
        {"mpv",
         {"--force-seekable=yes", "--cache=yes", "--cache-secs=10", "--cache-pause-initial=yes",
          "--cache-pause-wait=" GATHERED}},
        {"ffplay", {"-autoexit", "-loglevel", "warning"}},
        {"vlc", {"--play-and-exit", "--quiet"}},
};

static bool is_there(const char *name)
{
	const char *path = getenv("PATH");
	AUTO_FREE char *copy = strdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *rest = copy, *folder, file[4096];
	if (strchr(name, '/'))
		return !access(name, X_OK);
	while (rest && (folder = strsep(&rest, ":")))
		if (snprintf(file, sizeof file, "%s/%s", *folder ? folder : ".", name) <
		            (int)sizeof file &&
		    !access(file, X_OK))
			return true;
	return false;
}

static const char *choose(const char *name)
{
	for (size_t i = 0; !name && i < COUNT_OF(known); i++)
		if (is_there(known[i].name))
			return known[i].name;
	return name && is_there(name) ? name : NULL;
}

static const char *base_name(const char *name)
{
	const char *slash = strrchr(name, '/');
	return slash ? slash + 1 : name;
}

struct arguments {
	const char *list[MOST_ARGS + 1];
	size_t count;
};

static void add(struct arguments *a, const char *text)
{
	if (a->count < MOST_ARGS)
		a->list[a->count++] = text;
}

static void collect(struct arguments *a, const char *name, const char *path, char *const *extra,
                    const char *ipc)
{
	add(a, name);
	for (size_t i = 0; i < COUNT_OF(known); i++)
		for (size_t k = 0; !strcmp(base_name(name), known[i].name) && known[i].options[k];
		     k++)
			add(a, known[i].options[k]);
	if (ipc)
		add(a, ipc);
	for (; extra && *extra; extra++)
		add(a, *extra);
	add(a, path); /* absolute: never an option */
}

/* In the child: with the signals that a thread of ours has blocked, and its end of the IPC. */
static void become(const struct arguments *a, int ipc, int report)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	if (ipc >= 0)
		fcntl(ipc, F_SETFD, 0);
	execvp(a->list[0], (char *const *)a->list);
	int why = errno;
	if (write(report, &why, sizeof why) < 0)
		_exit(126);
	_exit(127);
}

static int spawn(struct player *p, const struct arguments *a, int ipc, struct hither_error *err)
{
	int fds[2], why = 0;
	if (pipe2(fds, O_CLOEXEC))
		return hither_fail(err, -errno, "pipe: %s", strerror(errno));
	p->pid = fork();
	if (p->pid == 0)
		become(a, ipc, fds[1]);
	int failed = p->pid < 0 ? errno : 0;
	close(fds[1]);
	if (!failed && read(fds[0], &why, sizeof why) == sizeof why) {
		failed = why;
		waitpid(p->pid, NULL, 0);
	}
	close(fds[0]);
	if (failed)
		return hither_fail(err, -failed, "start %s: %s", a->list[0], strerror(failed));
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	return p->pidfd < 0 ? hither_fail(err, -errno, "pidfd_open: %s", strerror(errno)) : 0;
}

static void ask_mpv(struct player *p)
{
	static const char ask[] = "{\"command\":[\"observe_property\",1,\"time-pos\"]}\n"
	                          "{\"command\":[\"observe_property\",2,\"paused-for-cache\"]}\n";
	if (send(p->ipc, ask, sizeof ask - 1, MSG_NOSIGNAL) < 0) {
		close(p->ipc);
		p->ipc = -1;
	}
}

int player_start(const char *name, const char *path, char *const *extra, struct playback *playback,
                 struct player **out, struct hither_error *err)
{
	const char *chosen = choose(name);
	struct arguments a = {0};
	char option[40];
	int pair[2] = {-1, -1};
	if (!chosen)
		return hither_fail(
		        err, -ENOENT,
		        name ? "%s: there is no such player: install it, or name another by "
		               "--player"
		             : "%snone of mpv, ffplay, vlc is there: install one, or name "
		               "another by --player",
		        name ? name : "");
	struct player *p = calloc(1, sizeof *p);
	if (!p)
		return hither_fail(err, -ENOMEM, "no memory");
	*p = (struct player){.name = chosen, .playback = playback, .pidfd = -1, .ipc = -1};
	if (!strcmp(base_name(chosen), "mpv") &&
	    !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		snprintf(option, sizeof option, "--input-ipc-client=fd://%d", pair[1]);
		p->ipc = pair[0];
	}
	collect(&a, chosen, path, extra, p->ipc >= 0 ? option : NULL);
	int r = spawn(p, &a, pair[1], err);
	if (pair[1] >= 0)
		close(pair[1]);
	if (r) {
		player_finish(p);
		return r;
	}
	if (p->ipc >= 0)
		ask_mpv(p);
	*out = p;
	return 0;
}

static void set_gathered(struct player *p, const char *seconds)
{
	char line[80];
	int len = snprintf(line, sizeof line,
	                   "{\"command\":[\"set_property\",\"cache-pause-wait\",%s]}\n", seconds);
	if (p->ipc >= 0 && send(p->ipc, line, (size_t)len, MSG_NOSIGNAL) < 0) {
		close(p->ipc);
		p->ipc = -1;
	}
}

static void seeks(struct player *p)
{
	p->plays = false;
	p->moves = 0;
	p->hurry_ns = now_ns() + HURRY_NS;
}

/* It tells of the place sought before it plays on. */
static void moves(struct player *p)
{
	if (++p->moves != PLAYING_MOVES)
		return;
	p->hurry_ns = 0;
	if (p->hurried)
		set_gathered(p, GATHERED);
	p->hurried = false;
}

/* Milliseconds until mpv shall wait no longer; -1: it does not wait. */
static int hurry_ms(const struct player *p)
{
	uint64_t now = now_ns();
	if (!p->hurry_ns)
		return -1;
	return now < p->hurry_ns ? (int)((p->hurry_ns - now) / 1000000 + 1) : 0;
}

static void hurry_when_late(struct player *p)
{
	if (hurry_ms(p) != 0)
		return;
	p->hurry_ns = 0;
	p->hurried = true;
	set_gathered(p, GATHERED_HURRY);
}

/* --- what mpv tells --- */

static void take_line(struct player *p)
{
	char event[32];
	if (!json_get_string(p->line, "event", event, sizeof event))
		return;
	/* After a seek it fills its buffers anew: that is no stall. */
	if (!strcmp(event, "seek"))
		seeks(p);
	if (strcmp(event, "property-change"))
		return;
	if (json_get_uint(p->line, "id") == 1) {
		double at = json_get_double(p->line, "data");
		if (at >= 0 && at < MOST_SECONDS) {
			playback_told(p->playback, (uint64_t)(at * 1e6));
			p->plays = true;
			moves(p);
		}
	} else {
		playback_stalled(p->playback, p->plays && json_get_bool(p->line, "data"));
	}
}

static void take_bytes(struct player *p, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != '\n') {
			p->skips = p->skips || p->len == sizeof p->line - 1;
			if (!p->skips)
				p->line[p->len++] = bytes[i];
			continue;
		}
		p->line[p->len] = 0;
		if (!p->skips)
			take_line(p);
		p->len = 0;
		p->skips = false;
	}
}

static void hear(struct player *p)
{
	char bytes[4096];
	ssize_t n = recv(p->ipc, bytes, sizeof bytes, MSG_DONTWAIT);
	if (n > 0) {
		take_bytes(p, bytes, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(p->ipc);
		p->ipc = -1;
	}
}

/* --- its life --- */

static int judge(const struct player *p, int status, struct hither_error *err)
{
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	if (WIFSIGNALED(status))
		return hither_fail(err, -ECHILD, "%s: %s", p->name, strsignal(WTERMSIG(status)));
	return hither_fail(err, -ECHILD, "%s ended with exit code %d", p->name,
	                   WEXITSTATUS(status));
}

int player_wait(struct player *p, struct hither_error *err)
{
	struct pollfd fds[2] = {{.fd = p->pidfd, .events = POLLIN}, {.events = POLLIN}};
	int status = 0;
	do {
		fds[0].revents = 0;
		fds[1] = (struct pollfd){.fd = p->ipc, .events = POLLIN};
		if (poll(fds, 2, hurry_ms(p)) > 0 && fds[1].revents)
			hear(p);
		hurry_when_late(p);
	} while (!fds[0].revents);
	while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
		;
	return judge(p, status, err);
}

void player_end(struct player *p)
{
	syscall(SYS_pidfd_send_signal, p->pidfd, SIGTERM, NULL, 0);
}

void player_finish(struct player *p)
{
	if (!p)
		return;
	if (p->pidfd >= 0)
		close(p->pidfd);
	if (p->ipc >= 0)
		close(p->ipc);
	free(p);
}
