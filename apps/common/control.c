/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include "client.h"
#include "json.h"
#include "program.h"
#include "progress.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

enum {
	MAX_CLIENTS = 16,
	CLIENT_TIMEOUT_S = 10, /* to send its line, and to take its answer */
	TICK_MS = 250,
};

struct control {
	struct control_owner owner;
	pthread_t thread;
	int signal_fd, wake_fd, timer_fd;
	pthread_mutex_t draw_lock; /* guards progress; nothing is taken under it */
	struct progress progress;
	/* The control thread's own. */
	int listen_fd;
	/*
	 * Kept for one client more than the process has descriptors for, as downloads may have
	 * taken all others: umount must still be heard. -1: in use; nobody is listened to
	 * meanwhile.
	 */
	int spare_fd;
	struct client clients[MAX_CLIENTS];
	bool serving, timer_on;
	bool signal_early; /* one came while the mount was being attached */
	struct signalfd_siginfo early;
	unsigned signal_count;
	bool heard;

	pthread_mutex_t lock; /* guards what other threads hand over, below */
	int new_listen_fd;    /* -1: none */
	char *failure;
	bool pulled;
	char *pull_failure; /* pulled, but not all */
	bool ends;
	char *end; /* the last message, or NULL */
	bool forced;
};

/* --- clients --- */

static void answer_pull(struct control *c, struct client *cl)
{
	struct hither_error err = {0};
	cl->waits = CLIENT_PULL;
	if (c->owner.ops->pull && !c->owner.ops->pull(c->owner.user, &err))
		return;
	cl->closes = true;
	client_say_event(cl, "failed", *err.message ? err.message : "it cannot pull everything",
	                 false);
}

static void answer(struct control *c, struct client *cl)
{
	char *rest = cl->line, *word = strsep(&rest, " ");
	bool lazy = false, force = false;
	if (!strcmp(word, "status")) {
		AUTO_JSON struct json j = {0};
		c->owner.ops->describe(c->owner.user, &j);
		cl->closes = true;
		client_say(cl, &j);
		return;
	}
	if (!strcmp(word, "pull")) {
		answer_pull(c, cl);
		return;
	}
	bool known = !strcmp(word, "umount");
	while (known && (word = strsep(&rest, " "))) {
		lazy |= !strcmp(word, "lazy");
		force |= !strcmp(word, "force");
		known = !strcmp(word, "lazy") || !strcmp(word, "force");
	}
	if (!known) {
		cl->closes = true;
		client_say_event(cl, "failed", "the daemon does not know this request", false);
		return;
	}
	cl->waits = CLIENT_END;
	c->owner.ops->end(c->owner.user, lazy, force, false);
}

static void hear(struct control *c, struct client *cl)
{
	char sink[64];
	bool asked = cl->waits || cl->closes;
	char *to = asked ? sink : cl->line + cl->line_len;
	size_t room = asked ? sizeof sink : sizeof cl->line - cl->line_len;
	ssize_t n = recv(cl->fd, to, room, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Nothing is said after the line, and so an end of the stream means that it has gone. */
	if (n <= 0) {
		client_drop(cl);
		return;
	}
	if (asked)
		return;
	cl->line_len += (size_t)n;
	char *end = memchr(cl->line, '\n', cl->line_len);
	if (end) {
		*end = 0;
		answer(c, cl);
	} else if (cl->line_len == sizeof cl->line) {
		client_drop(cl);
	}
}

static int open_spare(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void welcome(struct control *c)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		close(TAKE(c->spare_fd, -1));
		fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	if (fd < 0)
		return;
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (c->clients[i].fd < 0) {
			c->clients[i] = (struct client){.fd = fd, .since_ns = now_ns()};
			return;
		}
	close(fd); /* it tries again */
}

/* --- signals, ticks --- */

/* Is there a line on the terminal, or may there be? */
static bool shows(const struct control *c)
{
	const struct control_owner *o = &c->owner;
	return c->serving && o->foreground && progress_wanted(&c->progress) &&
	       (!o->ops->shows || o->ops->shows(o->user));
}

static void clear_progress(struct control *c)
{
	pthread_mutex_lock(&c->draw_lock);
	progress_clear(&c->progress);
	pthread_mutex_unlock(&c->draw_lock);
}

static void announce(struct control *c)
{
	struct hither_mount_stats stats = {0};
	char size[UNITS_TEXT_BYTES];
	c->owner.ops->stats(c->owner.user, &stats);
	clear_progress(c);
	if (stats.dirty_bytes)
		fprintf(stderr, "%s: %s, waiting for %s to be pushed; once more to quit at once\n",
		        program_name, c->owner.ending, units_format_size(size, stats.dirty_bytes));
	else
		fprintf(stderr, "%s: %s\n", program_name, c->owner.ending);
}

/*
 * The first asks to end, the second to end without pushing, the third is obeyed here and now. A ^C
 * takes a mount away from programs that use it only where it comes again while they do; other
 * signals come from whoever shuts a machine or a session down, which does not wait.
 */
static void obey_signal(struct control *c, const struct signalfd_siginfo *info)
{
	const struct control_owner *o = &c->owner;
	if (o->ops->signalled && o->ops->signalled(o->user, info))
		return;
	if (c->signal_count && o->ops->in_use && o->ops->in_use(o->user)) {
		o->ops->end(o->user, true, false, true);
		return;
	}
	switch (c->signal_count++) {
	case 0:
		if (o->foreground)
			announce(c);
		o->ops->end(o->user, !(o->waits_for_users && info->ssi_signo == SIGINT), false,
		            true);
		break;
	case 1:
		o->ops->end(o->user, true, true, true);
		break;
	default:
		_exit(EXIT_FAILED); /* something hangs; what is dirty is in the cache, if it is on
		                       disk */
	}
}

static void on_signal(struct control *c)
{
	struct signalfd_siginfo info;
	if (read(c->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
		return;
	if (c->serving) {
		obey_signal(c, &info);
	} else if (c->owner.ops->abandon(c->owner.user)) {
		_exit(128 + (int)info.ssi_signo);
	} else {
		c->signal_early = true;
		c->early = info;
	}
}

static void tick(struct control *c)
{
	struct hither_mount_stats stats;
	if (!c->owner.ops->stats(c->owner.user, &stats))
		return;
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (c->clients[i].fd >= 0 && c->clients[i].waits)
			client_say_progress(&c->clients[i], &stats);
	pthread_mutex_lock(&c->draw_lock);
	if (shows(c))
		progress_update(&c->progress, &stats);
	pthread_mutex_unlock(&c->draw_lock);
}

/* The timer runs only while somebody looks: an idle daemon sleeps. */
static void set_timer(struct control *c)
{
	bool on = c->spare_fd < 0 || shows(c);
	for (int i = 0; i < MAX_CLIENTS; i++)
		on |= c->clients[i].fd >= 0;
	if (on == c->timer_on)
		return;
	struct itimerspec spec = {0};
	if (on)
		spec.it_interval.tv_nsec = spec.it_value.tv_nsec = TICK_MS * 1000000L;
	timerfd_settime(c->timer_fd, 0, &spec, NULL);
	c->timer_on = on;
}

static void drop_stalled(struct control *c)
{
	uint64_t now = now_ns();
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *cl = &c->clients[i];
		bool owes = cl->out_len || !cl->waits;
		if (cl->fd >= 0 && owes && now - cl->since_ns > CLIENT_TIMEOUT_S * NS_PER_S)
			client_drop(cl);
	}
}

/* --- the thread --- */

/* Tell those who wait for `what`, and let them go. */
static void tell_waiting(struct control *c, enum client_waits what, const char *event,
                         const char *message)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (c->clients[i].fd >= 0 && c->clients[i].waits == what) {
			c->clients[i].closes = true;
			client_say_event(&c->clients[i], event, message, false);
		}
}

/* Take what other threads handed over. False: that was all. */
static bool take_over(struct control *c)
{
	uint64_t count;
	if (read(c->wake_fd, &count, sizeof count) < 0)
		return true;
	pthread_mutex_lock(&c->lock);
	AUTO_FREE char *failure = TAKE(c->failure, NULL);
	AUTO_FREE char *pull_failure = TAKE(c->pull_failure, NULL);
	bool starts = c->new_listen_fd >= 0, ends = c->ends, pulled = TAKE(c->pulled, false);
	if (starts)
		c->listen_fd = TAKE(c->new_listen_fd, -1);
	pthread_mutex_unlock(&c->lock);
	c->serving |= starts;
	if (failure)
		c->signal_count = 0;
	if (c->serving && TAKE(c->signal_early, false))
		obey_signal(c, &c->early);
	if (failure)
		tell_waiting(c, CLIENT_END, "failed", failure);
	if (pulled) {
		tick(c); /* the last figures */
		tell_waiting(c, CLIENT_PULL, pull_failure ? "failed" : "done",
		             pull_failure ? pull_failure : "");
	}
	return !ends;
}

static void run_once(struct control *c, bool *goes_on)
{
	if (c->spare_fd < 0)
		c->spare_fd = open_spare();
	struct pollfd fds[4 + MAX_CLIENTS] = {
	        {.fd = c->signal_fd, .events = POLLIN},
	        {.fd = c->wake_fd, .events = POLLIN},
	        {.fd = c->timer_fd, .events = POLLIN},
	        {.fd = c->spare_fd < 0 ? -1 : c->listen_fd, .events = POLLIN},
	};
	for (int i = 0; i < MAX_CLIENTS; i++)
		fds[4 + i] = (struct pollfd){
		        .fd = c->clients[i].fd,
		        .events = (short)(POLLIN | (c->clients[i].out_len ? POLLOUT : 0))};
	set_timer(c);
	if (poll(fds, COUNT_OF(fds), -1) < 0)
		return;
	for (int i = 0; i < MAX_CLIENTS; i++) {
		if (fds[4 + i].revents & POLLOUT)
			client_flush(&c->clients[i]);
		if (c->clients[i].fd >= 0 && fds[4 + i].revents & ~POLLOUT)
			hear(c, &c->clients[i]);
	}
	uint64_t count;
	if (fds[2].revents && read(c->timer_fd, &count, sizeof count) > 0) {
		tick(c);
		drop_stalled(c);
	}
	if (fds[3].revents)
		welcome(c);
	if (fds[0].revents)
		on_signal(c);
	if (fds[1].revents)
		*goes_on = take_over(c);
}

static void *run(void *arg)
{
	struct control *c = arg;
	bool goes_on = true;
	while (goes_on)
		run_once(c, &goes_on);
	if (c->owner.foreground)
		clear_progress(c);
	tell_waiting(c, CLIENT_PULL, "failed", "it ended before everything was here");
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *cl = &c->clients[i];
		if (cl->fd >= 0 && cl->waits == CLIENT_END) {
			c->heard = true;
			/* Fits the socket's buffer, or nobody reads. */
			client_say_event(cl, "done", c->end ? c->end : "", c->forced);
		}
		client_drop(cl);
	}
	return NULL;
}

/* --- from other threads --- */

static void wake(struct control *c)
{
	uint64_t one = 1;
	if (write(c->wake_fd, &one, sizeof one) < 0)
		return; /* it is awake already */
}

static void destroy(struct control *c)
{
	const int fds[] = {c->signal_fd, c->wake_fd,       c->timer_fd,
	                   c->listen_fd, c->new_listen_fd, c->spare_fd};
	for (size_t i = 0; i < COUNT_OF(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(c->failure);
	free(c->pull_failure);
	free(c->end);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->draw_lock);
	free(c);
}

int control_start(const struct control_owner *owner, struct control **out, struct hither_error *err)
{
	struct control *c = calloc(1, sizeof *c);
	sigset_t signals;
	if (!c)
		return hither_fail(err, -ENOMEM, "no memory");
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	c->owner = *owner;
	c->listen_fd = c->new_listen_fd = -1;
	c->spare_fd = open_spare();
	for (int i = 0; i < MAX_CLIENTS; i++)
		c->clients[i].fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->draw_lock, NULL);
	progress_init(&c->progress, PROGRESS_MOUNT, owner->progress_fd);
	c->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int r = c->signal_fd < 0 || c->wake_fd < 0 || c->timer_fd < 0
	                ? -errno
	                : -pthread_create(&c->thread, NULL, run, c);
	if (r) {
		destroy(c);
		return hither_fail(err, r, "start the control thread: %s", strerror(-r));
	}
	*out = c;
	return 0;
}

void control_serve(struct control *c, int listen_fd)
{
	pthread_mutex_lock(&c->lock);
	c->new_listen_fd = listen_fd;
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

void control_show_progress(struct control *c)
{
	clear_progress(c);
	wake(c); /* it looks whether it needs its timer */
}

void control_failed(struct control *c, const char *message)
{
	pthread_mutex_lock(&c->lock);
	free(c->failure);
	c->failure = strdup(message);
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

void control_pulled(struct control *c, const char *message)
{
	pthread_mutex_lock(&c->lock);
	c->pulled = true;
	free(c->pull_failure);
	c->pull_failure = message ? strdup(message) : NULL;
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

bool control_finish(struct control *c, const char *message, bool forced)
{
	if (!c)
		return false;
	pthread_mutex_lock(&c->lock);
	c->ends = true;
	c->end = strdup(message);
	c->forced = forced;
	pthread_mutex_unlock(&c->lock);
	wake(c);
	pthread_join(c->thread, NULL);
	bool heard = c->heard;
	destroy(c);
	return heard;
}
