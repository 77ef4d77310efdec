/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hither-stream serve: a medium for browsers and other programs that know HTTP.
 *
 *     main thread     open, lay out, listen -> waits for the end -> cancel, close
 *     signal thread   asks for the end; the second signal ends at once
 */
#include "stream.h"

#include "endpoint.h"
#include "record.h"
#include "service.h"
#include "source.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define FIELD(member) offsetof(struct stream_settings, member)
#define DEFAULT_ADDRESS "127.0.0.1:8484"
#define FAILURE_AGAIN_NS (60 * NS_PER_S) /* the same failure is told once in so long */
#define OUTAGE_NS (3 * NS_PER_S)         /* that is worth a word */

enum { LOOK_MS = 1000 };

static const struct option_spec specs[] = {
        {"listen", 'l', "HOST:PORT",
         "An address of this machine only: 127.0.0.1:PORT or [::1]:PORT; port 0: a free one "
         "(" DEFAULT_ADDRESS ").",
         set_string, FIELD(listen)},
        {"pid-file", 0, "FILE", "Write the process id to FILE once it is ready.", set_path,
         FIELD(base.pid_file)},
};
static const struct option_group group = {"Serving", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {
        &group, &stream_options, &options_cache, &options_network, &options_test, NULL};

struct server {
	struct stream_settings *settings;
	char *shown_url, *name;
	struct hither_mount *mount;
	struct body body;
	struct playback *playback;
	struct endpoint *endpoint;
	struct recorder *recorder;
	pthread_t signals;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	bool serving, ends;
	char failure[sizeof((struct hither_error *)NULL)->message];
	uint64_t failure_ns;
};

/* --- signals --- */

static void ask_for_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

static void *signal_main(void *arg)
{
	struct server *s = arg;
	sigset_t set;
	int number;
	ask_for_signals(&set);
	while (!sigwait(&set, &number)) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		pthread_mutex_lock(&s->lock);
		/* Nothing can be lost: it only reads. */
		if (!s->serving || s->ends)
			_exit(EXIT_FAILED);
		s->ends = true;
		pthread_cond_signal(&s->changed);
		pthread_mutex_unlock(&s->lock);
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	}
	return NULL;
}

/* Threads that are started later do not get signals. */
static int start_signals(struct server *s, struct hither_error *err)
{
	sigset_t set;
	ask_for_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	int r = pthread_create(&s->signals, NULL, signal_main, s);
	return r ? hither_fail(err, -r, "start a thread: %s", strerror(r)) : 0;
}

/* From here on a signal ends it in order; before anybody is told that it serves. */
static void begin_serving(struct server *s)
{
	pthread_mutex_lock(&s->lock);
	s->serving = true;
	pthread_mutex_unlock(&s->lock);
}

/* --- what is told --- */

static void say(void *user, const char *message)
{
	fprintf(stderr, "%s: %s\n", program_name, message);
}

struct outage {
	uint64_t since_ns; /* 0: there is none */
	bool said;
};

/* Viewers wait as long as --deadline says, and see nothing but that it stops. */
static void watch_outage(const struct server *s, struct outage *o)
{
	struct hither_mount_stats stats;
	hither_mount_stats(s->mount, &stats);
	uint64_t now = now_ns();
	bool out = hither_error_is_transient(stats.error) && stats.waiting;
	if (out && !o->since_ns)
		o->since_ns = now;
	if (out && !o->said && now - o->since_ns >= OUTAGE_NS) {
		fprintf(stderr, "%s: viewers wait: %s\n", program_name, stats.message);
		o->said = true;
	}
	if (out || stats.error)
		return;
	if (o->said)
		say(NULL, "it goes on");
	*o = (struct outage){0};
}

static void wait_for_end(struct server *s)
{
	struct outage outage = {0};
	pthread_mutex_lock(&s->lock);
	while (!s->ends) {
		struct timespec until = in_ms(LOOK_MS);
		pthread_cond_timedwait(&s->changed, &s->lock, &until);
		pthread_mutex_unlock(&s->lock);
		watch_outage(s, &outage);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
}

static void read_failed(void *user, const struct hither_error *err)
{
	struct server *s = user;
	pthread_mutex_lock(&s->lock);
	uint64_t now = now_ns();
	bool news = !s->ends &&
	            (strcmp(s->failure, err->message) || now - s->failure_ns >= FAILURE_AGAIN_NS);
	if (news) {
		memcpy(s->failure, err->message, sizeof s->failure);
		s->failure_ns = now;
	}
	pthread_mutex_unlock(&s->lock);
	if (news)
		say(NULL, err->message);
}

static void announce(const struct server *s)
{
	char size[UNITS_TEXT_BYTES];
	printf("%s: %s from %s%s\n", endpoint_url(s->endpoint),
	       units_format_size(size, hither_mount_size(s->mount)), s->shown_url,
	       s->body.layout.count ? ", its index in front" : "");
	fflush(stdout);
}

/* --- life --- */

static int start(struct server *s, struct hither_error *err)
{
	const char *listen = s->settings->listen ? s->settings->listen : DEFAULT_ADDRESS;
	int r = source_open(&s->settings->base, false, &s->mount, err);
	if (!r && !hither_mount_size(s->mount))
		r = hither_fail(err, -ENODATA, "%s is empty", s->shown_url);
	if (!r)
		r = stream_check_room(s->settings, s->mount, err);
	if (!r)
		r = stream_check_media(s->mount, s->name, err);
	if (!r)
		r = body_open(&s->body, s->mount, err);
	if (!r && s->body.damage.code)
		fprintf(stderr, "%s: %s: %s; it is served as it is\n", program_name, s->name,
		        s->body.damage.message);
	if (!r)
		r = playback_create(s->mount, &s->playback, err);
	if (!r && s->settings->copy)
		r = recorder_start(s->mount, s->settings->copy, s->settings->all, say, NULL,
		                   &s->recorder, err);
	const struct endpoint_media media = {.mount = s->mount,
	                                     .body = &s->body,
	                                     .playback = s->playback,
	                                     .name = s->name,
	                                     .shown_url = s->shown_url,
	                                     .failed = read_failed,
	                                     .failed_user = s};
	if (!r)
		r = endpoint_open(&media, listen, &s->endpoint, err);
	return r ? r : service_write_pid(&s->settings->base, err);
}

/* Recording may have all it needs by now, and then ends its work before the mount is cancelled. */
static int finish(struct server *s)
{
	int r = recorder_stop(s->recorder);
	if (s->mount)
		hither_mount_cancel(s->mount);
	endpoint_close(s->endpoint);
	playback_destroy(s->playback);
	body_close(&s->body);
	hither_mount_close(s->mount, NULL);
	if (s->settings->base.pid_file)
		unlink(s->settings->base.pid_file);
	return r;
}

static int serve(struct server *s)
{
	struct hither_error err = {0};
	int code = EXIT_DONE;
	if (start_signals(s, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
	if (start(s, &err)) {
		code = fail_with(EXIT_FAILED, "%s", err.message);
	} else {
		begin_serving(s);
		announce(s);
		wait_for_end(s);
	}
	if (finish(s))
		code = EXIT_FAILED;
	pthread_cancel(s->signals); /* which waits for a signal */
	pthread_join(s->signals, NULL);
	return code;
}

static int run(struct settings *base, char **args)
{
	struct server s = {.settings = stream_of(base),
	                   .lock = PTHREAD_MUTEX_INITIALIZER,
	                   .changed = PTHREAD_COND_INITIALIZER};
	int code = stream_apply("serve", s.settings, args[0]);
	if (code >= 0)
		return code;
	options_hide(args[0]);
	s.shown_url = url_redact(base->url);
	s.name = url_file_name(base->url);
	code = s.shown_url && s.name ? serve(&s) : fail_with(EXIT_FAILED, "no memory");
	free(s.shown_url);
	free(s.name);
	return code;
}

const struct command command_serve = {
        .name = "serve",
        .usage = "[OPTIONS] URL",
        .summary = "serve it on this machine by HTTP, with a page that plays it",
        .text = "Serve URL at http://HOST:PORT/media, and a page with a player at\n"
                "http://HOST:PORT/, to programs of this machine, until ^C. An MP4 whose index\n"
                "is at its end is served with the index in front. /status tells what is local\n"
                "and where it is played, as JSON.",
        .groups = groups,
        .min_args = 1,
        .max_args = 1,
        .run = run,
};
