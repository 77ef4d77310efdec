/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hither block: make a URL a block device.
 *
 *     main thread     open, attach, wait until asked -> detach -> push the rest, close
 *     signal thread   asks; a second signal while the device is in use removes it nevertheless, one
 *                     while pushing gives up pushing
 */
#include "block.h"

#include "apart.h"
#include "command.h"
#include "service.h"
#include "source.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define FIELD(member) offsetof(struct settings, member)

/* So much later than the mount's own deadline the kernel stops waiting for us. */
enum { KERNEL_GRACE_MS = 30000, DEADLINE_DEFAULT_MS = 300000 };

static const struct option_spec specs[] = {
        {"kind", 'k', "KIND",
         "ublk, nbd (the kernel's client) or loop (over FUSE); auto: the first of them that this "
         "kernel has (auto).",
         set_string, FIELD(block_kind)},
        {"block-size", 0, "SIZE", "Logical block size, 512 to 4096 bytes (512).", set_size32,
         FIELD(block.block_bytes)},
        {"queues", 0, "N", "Queues of ublk, connections of nbd (2).", set_count,
         FIELD(block.queues)},
        {"recover", 0, NULL,
         "With ublk: should this process be killed, the device waits until the same URL is given "
         "again, with --recover.",
         set_true, FIELD(block.recover)},
        {"foreground", 'f', NULL, "Stay; ^C removes the device.", set_true, FIELD(foreground)},
        {"pid-file", 0, "FILE", "Write the process id to FILE once it is ready.", set_path,
         FIELD(pid_file)},
        {"log", 0, "FILE", "Add what goes wrong later to FILE.", set_path, FIELD(log)},
        {"direct", 'd', NULL, "Keep nothing here: each read and write goes to the resource.",
         set_true, FIELD(mount.direct)},
};
static const struct option_group group = {"Block device", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {
        &group,           &options_cache, &options_pull, &options_write,
        &options_network, &options_test,  NULL};

enum phase { OPENING, SERVING, PUSHING };

struct device {
	struct settings *settings;
	char *shown; /* the URL, without secrets */
	int report_fd;
	struct hither_mount *mount;
	struct hither_block *block;
	pthread_t signals;
	bool has_signals;
	char trouble[1024]; /* what could not be done at the end */

	pthread_mutex_t lock; /* guards the rest, and closing the mount */
	pthread_cond_t changed;
	enum phase phase;
	unsigned asked; /* signals while serving */
};

/* --- signals --- */

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

static void *signal_main(void *arg)
{
	struct device *d = arg;
	sigset_t set;
	int number;
	signal_set(&set);
	while (!sigwait(&set, &number)) {
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		pthread_mutex_lock(&d->lock);
		if (d->phase == OPENING)
			_exit(EXIT_FAILED); /* what is half made the next start cleans up */
		if (d->phase == PUSHING && d->mount)
			hither_mount_cancel(d->mount);
		d->asked++;
		pthread_cond_signal(&d->changed);
		pthread_mutex_unlock(&d->lock);
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	}
	return NULL;
}

static int start_signals(struct device *d, struct hither_error *err)
{
	sigset_t set;
	signal_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL); /* for all threads that come */
	int r = pthread_create(&d->signals, NULL, signal_main, d);
	d->has_signals = !r;
	return r ? hither_fail(err, -r, "start a thread: %s", strerror(r)) : 0;
}

static void end_signals(struct device *d)
{
	if (!d->has_signals)
		return;
	pthread_cancel(d->signals);
	pthread_join(d->signals, NULL);
}

static void set_phase(struct device *d, enum phase phase)
{
	pthread_mutex_lock(&d->lock);
	d->phase = phase;
	pthread_mutex_unlock(&d->lock);
}

/* Returns how often it was asked for by now. */
static unsigned wait_asked(struct device *d, unsigned seen)
{
	pthread_mutex_lock(&d->lock);
	while (d->asked == seen)
		pthread_cond_wait(&d->changed, &d->lock);
	unsigned asked = d->asked;
	pthread_mutex_unlock(&d->lock);
	return asked;
}

/* --- life --- */

static int choose_kind(struct settings *s, struct hither_error *err)
{
	if (!s->block_kind)
		return 0;
	for (int i = 0; i < HITHER_BLOCK_KINDS; i++)
		if (!strcmp(s->block_kind, hither_block_kind_name((enum hither_block_kind)i))) {
			s->block.kind = (enum hither_block_kind)i;
			return 0;
		}
	return hither_fail(err, -EINVAL, "--kind: %s is none of auto, ublk, nbd, loop",
	                   s->block_kind);
}

static int attach(struct device *d, struct hither_error *err)
{
	struct settings *s = d->settings;
	uint32_t deadline = s->mount.deadline_ms ? s->mount.deadline_ms : DEADLINE_DEFAULT_MS;
	s->block.timeout_ms = deadline + KERNEL_GRACE_MS;
	s->block.read_only = s->read_only;
	s->block.name = s->url;
	int r = hither_block_attach(d->mount, &s->block, &d->block, err);
	uint64_t size = hither_mount_size(d->mount),
	         rest = r ? 0 : size - hither_block_size(d->block);
	if (rest && rest < size)
		fprintf(stderr,
		        "hither: a device has whole sectors only: the last %llu bytes of %s are "
		        "not in "
		        "it\n",
		        (unsigned long long)rest, d->shown);
	return r;
}

/* "/dev/ublkb0: 1.0 GB from URL, ublk, read-only" */
static int report_ready(struct device *d, struct hither_error *err)
{
	char size[UNITS_TEXT_BYTES];
	FILE *out = d->report_fd < 0 ? stdout : fdopen(d->report_fd, "w");
	if (!out)
		return hither_fail(err, -errno, "no memory");
	units_format_size(size, hither_block_size(d->block));
	bool written = hither_mount_writable(d->mount) && !d->settings->read_only;
	fprintf(out, "%s%s: %s from %s, %s%s\n", d->report_fd < 0 ? "" : "+",
	        hither_block_path(d->block), size, d->shown,
	        hither_block_kind_name(hither_block_kind(d->block)), written ? "" : ", read-only");
	if (d->report_fd < 0)
		return fflush(out);
	prctl(PR_SET_PDEATHSIG, 0); /* the parent may end now */
	return fclose(out);
}

static int fail(struct device *d, const struct hither_error *err)
{
	if (d->report_fd < 0)
		return fail_with(EXIT_FAILED, "%s", err->message);
	dprintf(d->report_fd, "-%s\n", err->message);
	close(d->report_fd);
	return EXIT_FAILED;
}

/* Until it could be removed: while it is mounted, one request is not enough. */
static int serve(struct device *d)
{
	unsigned asked = 0;
	for (;;) {
		struct hither_error err = {0};
		unsigned now = wait_asked(d, asked);
		bool force = asked > 0;
		asked = now;
		int r = hither_block_detach(d->block, force, &err);
		if (!r)
			return EXIT_DONE;
		if (r != -EBUSY) {
			snprintf(d->trouble, sizeof d->trouble, "%s", err.message);
			return fail_with(EXIT_FAILED, "%s", d->trouble);
		}
		fail_with(EXIT_FAILED, "%s; a second signal removes it nevertheless", err.message);
	}
}

/* For `hither block detach`. */
static void tell_trouble(const struct device *d)
{
	char path[64];
	snprintf(path, sizeof path, BLOCK_FAILED, (int)getpid());
	unlink(path); /* of an earlier process of this number */
	if (!*d->trouble)
		return;
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		dprintf(fd, "%s\n", d->trouble);
}

static int close_mount(struct device *d)
{
	struct hither_error err = {0};
	struct hither_mount_stats stats = {0};
	char bytes[UNITS_TEXT_BYTES];
	if (!d->mount)
		return EXIT_DONE;
	int r = hither_mount_writable(d->mount) ? hither_mount_push(d->mount, &err) : 0;
	pthread_mutex_lock(&d->lock);
	struct hither_mount *mount = TAKE(d->mount, NULL);
	pthread_mutex_unlock(&d->lock);
	hither_mount_stats(mount, &stats);
	if (r)
		hither_mount_cancel(mount); /* or closing would try for as long again */
	int closed = hither_mount_close(mount, r ? NULL : &err);
	if (!r && !closed)
		return EXIT_DONE;
	snprintf(d->trouble, sizeof d->trouble, "%s: %s; %s not pushed %s", d->shown, err.message,
	         units_format_size(bytes, stats.dirty_bytes),
	         d->settings->mount.cache_dir && !d->settings->mount.direct
	                 ? "are kept in the cache: use the same URL again to push them"
	                 : "are lost, there was no cache on disk");
	return fail_with(EXIT_FAILED, "%s", d->trouble);
}

static int run_device(struct device *d)
{
	struct hither_error err = {0};
	int r = start_signals(d, &err);
	if (!r)
		r = source_open(d->settings, true, &d->mount, &err);
	if (!r)
		r = attach(d, &err);
	if (!r)
		r = service_write_pid(d->settings, &err);
	if (!r)
		r = service_leave_terminal(d->settings, -1, &err);
	if (!r)
		set_phase(d, SERVING);
	if (!r)
		r = report_ready(d, &err);
	int code = EXIT_DONE;
	if (r) {
		hither_block_detach(d->block, true, NULL);
		code = fail(d, &err);
	} else {
		code = serve(d);
	}
	set_phase(d, PUSHING);
	int closed = close_mount(d);
	if (!r)
		tell_trouble(d);
	end_signals(d);
	if (!r && d->settings->pid_file)
		unlink(d->settings->pid_file);
	return code ? code : closed;
}

static int make(struct settings *s, const char *url)
{
	struct hither_error err = {0};
	struct device d = {.settings = s,
	                   .report_fd = -1,
	                   .lock = PTHREAD_MUTEX_INITIALIZER,
	                   .changed = PTHREAD_COND_INITIALIZER};
	int r = s->wrap ? source_check_layers(s->wrap, &err) : 0;
	if (!r)
		r = choose_kind(s, &err);
	if (!r)
		r = settings_apply(s, url, &err);
	if (!r)
		s->mount.direct |= source_is_near(s);
	if (r)
		return fail_with(EXIT_MISUSED, "block: %s", err.message);
	if (hither_block_probe(s->block.kind, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
	d.shown = url_redact(s->url);
	if (!d.shown)
		return fail_with(EXIT_FAILED, "no memory");
	int code = s->foreground ? -1 : apart_begin(&d.report_fd);
	if (code < 0)
		code = run_device(&d);
	free(d.shown);
	return code;
}

static int run(struct settings *s, char **args)
{
	if (!strcmp(args[0], "detach"))
		return args[1] ? block_detach(args[1])
		               : fail_with(EXIT_MISUSED, "block detach: which device?");
	if (args[1])
		return fail_with(EXIT_MISUSED, "block: one URL at a time");
	if (!strcmp(args[0], "list"))
		return block_list();
	if (!strcmp(args[0], "cleanup"))
		return block_cleanup();
	options_hide(args[0]);
	return make(s, args[0]);
}

const struct command command_block = {
        .name = "block",
        .usage = "[OPTIONS] URL | list | detach DEVICE | cleanup",
        .summary = "make a URL a block device",
        .text = "Make URL a block device of this machine (root only) and print its path: to be\n"
                "mounted, or used by whatever wants a disk. SIGTERM, or `detach`, removes it.\n"
                "What a killed process left the next start removes, or `cleanup`.",
        .groups = groups,
        .min_args = 1,
        .max_args = 2,
        .run = run,
};
