/* SPDX-License-Identifier: Apache-2.0 */
#include "talk.h"

#include "json.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
	LOOK_MS = 500, /* how often a silent one is looked at */
	SILENT_S = 2,  /* a daemon that can tells of its progress four times a second */
	LIFELESS_S =
	        30, /* so long without a word, and without a moment of processor time: it hangs */
	LINE_BYTES = 4096,
};

/* --- evidence --- */

struct life {
	uint64_t heard_ns;         /* when it last said something */
	uint64_t cpu, cpu_seen_ns; /* what it had used, and when that had last grown */
	bool told;
};

/* The state of a process, '?' if it cannot be told, and its ticks of processor time: proc(5). */
static char look_at(pid_t pid, uint64_t *cpu)
{
	char path[64], text[1024], state = '?';
	unsigned long user = 0, system = 0;
	snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	text[len > 0 ? len : 0] = 0;
	const char *rest = strrchr(text, ')'); /* behind a name that may be anything */
	if (rest)
		sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &state,
		       &user, &system);
	*cpu = (uint64_t)user + system;
	return state;
}

static bool is_stopped(struct talk *t, char state)
{
	if (state != 'T' && state != 't')
		return false;
	snprintf(t->message, sizeof t->message,
	         "process %ld is stopped; kill -CONT %ld lets it go on", (long)t->pid,
	         (long)t->pid);
	return true;
}

bool talk_stopped(struct talk *t)
{
	uint64_t cpu;
	return is_stopped(t, look_at(t->pid, &cpu));
}

/* Of one that is silent: may it still be waited for? */
static bool lives(struct talk *t, struct life *life)
{
	uint64_t cpu, now = now_ns();
	char state = look_at(t->pid, &cpu);
	if (cpu != life->cpu || !life->cpu_seen_ns) {
		life->cpu = cpu;
		life->cpu_seen_ns = now;
	}
	if (now - life->heard_ns < SILENT_S * NS_PER_S)
		return true;
	if (is_stopped(t, state))
		return false;
	uint64_t since = life->cpu_seen_ns > life->heard_ns ? life->cpu_seen_ns : life->heard_ns;
	if (now - since > LIFELESS_S * NS_PER_S) {
		snprintf(
		        t->message, sizeof t->message,
		        "process %ld has neither said nor done anything for %d s; kill %ld ends it",
		        (long)t->pid, LIFELESS_S, (long)t->pid);
		return false;
	}
	if (!life->told && t->waiting) {
		char why[64];
		snprintf(why, sizeof why, "waiting for process %ld, which is busy", (long)t->pid);
		t->waiting(t->user, why);
	}
	life->told = true;
	return true;
}

static bool has_ended(const struct talk *t)
{
	struct pollfd end = {.fd = t->pidfd, .events = POLLIN};
	return t->pidfd >= 0 && poll(&end, 1, 0) > 0;
}

/* --- its words --- */

static void show(const struct talk *t, const char *line)
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
	if (t->progress)
		t->progress(t->user, &stats);
}

/* True: that was its last word, *out. */
static bool hear(struct talk *t, const char *line, enum talk_result *out)
{
	char event[16];
	if (!json_get_string(line, "event", event, sizeof event))
		return false;
	if (!strcmp(event, "progress")) {
		show(t, line);
		return false;
	}
	if (!json_get_string(line, "message", t->message, sizeof t->message))
		*t->message = 0;
	t->forced = json_get_bool(line, "forced");
	*out = strcmp(event, "done") || (*t->message && !t->forced) ? TALK_FAILED : TALK_DONE;
	return true;
}

struct words {
	char text[LINE_BYTES];
	size_t len;
};

/* What has come. 1: there may be more; 0: the end of the stream. */
static int take_words(int fd, struct words *w)
{
	ssize_t n = recv(fd, w->text + w->len, sizeof w->text - 1 - w->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n <= 0)
		return 0;
	w->len += (size_t)n;
	return 1;
}

/* Whole lines of them. True: the last word was among them. */
static bool hear_lines(struct talk *t, struct words *w, enum talk_result *out)
{
	char *start = w->text, *end;
	bool over = false;
	while (!over && (end = memchr(start, '\n', w->len - (size_t)(start - w->text)))) {
		*end = 0;
		over = hear(t, start, out);
		start = end + 1;
	}
	w->len -= (size_t)(start - w->text);
	memmove(w->text, start, w->len);
	if (w->len == sizeof w->text - 1)
		w->len = 0; /* no line of ours is so long */
	return over;
}

enum talk_result talk(struct talk *t)
{
	enum talk_result result;
	struct words words = {.len = 0};
	struct life life = {.heard_ns = now_ns()};
	*t->message = 0;
	t->forced = false;
	if (t->socket < 0)
		return talk_end(t);
	if (send(t->socket, t->request, strlen(t->request), MSG_NOSIGNAL) < 0)
		return has_ended(t) ? TALK_GONE : TALK_AGAIN;
	for (;;) {
		struct pollfd in = {.fd = t->socket, .events = POLLIN};
		if (poll(&in, 1, LOOK_MS) <= 0) {
			if (has_ended(t))
				return TALK_GONE;
			if (!lives(t, &life))
				return TALK_FAILED;
			continue;
		}
		life.heard_ns = now_ns();
		bool more = take_words(t->socket, &words);
		if (hear_lines(t, &words, &result))
			return result;
		if (!more)
			return has_ended(t) ? TALK_GONE : TALK_AGAIN;
	}
}

enum talk_result talk_end(struct talk *t)
{
	struct life life = {.heard_ns = now_ns()};
	struct pollfd end = {.fd = t->pidfd, .events = POLLIN};
	while (t->pidfd >= 0 && poll(&end, 1, LOOK_MS) <= 0)
		if (!lives(t, &life))
			return TALK_FAILED;
	return TALK_GONE;
}
