/* SPDX-License-Identifier: Apache-2.0 */
#include "ender.h"

#include "control.h"
#include "mountpoint.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

struct wishes {
	bool lazy, signal, forced;
};

static struct wishes wishes(struct daemon *d)
{
	pthread_mutex_lock(&d->lock);
	struct wishes w = {d->lazy, d->signal, d->forced};
	pthread_mutex_unlock(&d->lock);
	return w;
}

/* --- while it is mounted --- */

/*
 * The kernel holds written pages back; they must be here before a push can mean "everything". Asked
 * for by a process of its own: who waits for the mount that it serves itself cannot even be killed.
 */
static void write_pages_back(const struct daemon *d)
{
	pid_t pid = fork();
	if (pid == 0) {
		close_range(0, ~0u, 0);
		int fd = open(d->at.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		_exit(fd < 0 || syncfs(fd));
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Push, unless told not to. 0: unmount now. */
static int push_first(struct daemon *d, struct hither_error *err)
{
	if (wishes(d).forced || !d->settings->mount.backend.writable)
		return 0;
	write_pages_back(d);
	int r = wishes(d).forced ? 0 : hither_mount_push(d->mount, err);
	struct wishes w = wishes(d);
	/* A signal means that we have to go, and may, if nothing is lost by it. */
	return w.forced || (w.signal && d->on_disk) ? 0 : r;
}

/* --- who uses it --- */

enum { USERS_BYTES = 256, AGAIN_MS = 250 };

/* Until the next try; no event tells that the last file was closed. */
static void wait_a_little(struct daemon *d)
{
	struct timespec until = in_ms(AGAIN_MS);
	pthread_mutex_lock(&d->lock);
	d->in_use = true;
	if (!d->lazy && !d->forced && d->state == DAEMON_UNMOUNTING)
		pthread_cond_timedwait(&d->changed, &d->lock, &until);
	pthread_mutex_unlock(&d->lock);
}

static void set_in_use(struct daemon *d, bool in_use)
{
	pthread_mutex_lock(&d->lock);
	d->in_use = in_use;
	pthread_mutex_unlock(&d->lock);
}

static void tell_users(struct daemon *d, const char *users)
{
	daemon_log(d,
	           "%s is in use by %s: it ends once they have closed it; ^C again takes it away",
	           d->at.path, *users ? users : "others");
}

/* 0: it is not mounted any more. Asked by a ^C it waits for those who use it. */
static int unmount(struct daemon *d, struct hither_error *err)
{
	char users[USERS_BYTES] = "";
	bool told = false;
	for (;;) {
		struct hither_error why = {0};
		struct wishes w = wishes(d);
		int r = hither_fuse_stop(d->fuse, w.lazy || w.forced, &why);
		if (r == -EBUSY && !told)
			mountpoint_users(d->at.path, 0, users, sizeof users);
		if (r == -EBUSY && w.signal) {
			if (!told)
				tell_users(d, users);
			told = true;
			wait_a_little(d);
			continue;
		}
		set_in_use(d, false);
		if (r == -EBUSY && *users)
			return hither_fail(err, r,
			                   "%s is in use by %s: close it there, or unmount it with "
			                   "--lazy",
			                   d->at.path, users);
		return r ? hither_fail(err, r, "%s", why.message) : 0;
	}
}

/* 0: it is unmounted. */
static int try_to_end(struct daemon *d, char *text, size_t size)
{
	struct hither_error err = {0};
	struct hither_mount_stats stats = {0};
	char bytes[UNITS_TEXT_BYTES];
	int r = push_first(d, &err);
	if (r) {
		daemon_stats(d, &stats);
		snprintf(text, size, "%.*s; %s not pushed, so it stays mounted (--force %s them)",
		         hither_error_fact_len(err.message), err.message,
		         units_format_size(bytes, stats.dirty_bytes),
		         d->on_disk ? "leaves" : "drops");
		return r;
	}
	r = unmount(d, &err);
	snprintf(text, size, "%s", err.message);
	return r;
}

/* In DAEMON_UNMOUNTING, which it leaves again if it failed. */
static bool end_once(struct daemon *d)
{
	char text[1024];
	int r = try_to_end(d, text, sizeof text);
	if (!r)
		return true;
	pthread_mutex_lock(&d->lock);
	if (d->state == DAEMON_UNMOUNTING) {
		d->state = DAEMON_MOUNTED;
		d->lazy = d->signal = false;
	}
	pthread_mutex_unlock(&d->lock);
	daemon_log(d, "%s", text);
	control_failed(d->control, text);
	return false;
}

static void *ender(void *arg)
{
	struct daemon *d = arg;
	bool over = false;
	while (!over) {
		pthread_mutex_lock(&d->lock);
		while (d->state < DAEMON_UNMOUNTING)
			pthread_cond_wait(&d->changed, &d->lock);
		over = d->state > DAEMON_UNMOUNTING;
		pthread_mutex_unlock(&d->lock);
		if (!over)
			over = end_once(d);
	}
	return NULL;
}

void daemon_end(struct daemon *d, bool lazy, bool force, bool signal)
{
	pthread_mutex_lock(&d->lock);
	d->lazy |= lazy;
	d->forced |= force;
	d->signal |= signal;
	if (force && d->mount)
		hither_mount_cancel(d->mount);
	if (d->state == DAEMON_MOUNTED)
		d->state = DAEMON_UNMOUNTING;
	pthread_cond_signal(&d->changed); /* also to who waits for those who use it */
	pthread_mutex_unlock(&d->lock);
}

int ender_start(struct daemon *d, struct hither_error *err)
{
	int r = -pthread_create(&d->ender, NULL, ender, d);
	d->has_ender = !r;
	return r ? hither_fail(err, r, "start a thread to unmount with: %s", strerror(-r)) : 0;
}

void ender_stop(struct daemon *d)
{
	if (!d->has_ender)
		return;
	pthread_mutex_lock(&d->lock);
	if (d->state < DAEMON_CLOSING)
		d->state = DAEMON_CLOSING;
	pthread_cond_signal(&d->changed);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->ender, NULL);
	d->has_ender = false;
}

/* --- after that --- */

/* What is not pushed, and why: `why`, or "" where somebody wanted it so. */
static void tell_dirty(struct daemon *d, const char *why, struct ending *out)
{
	struct hither_mount_stats stats = {0};
	char bytes[UNITS_TEXT_BYTES];
	daemon_stats(d, &stats);
	out->kept_bytes = d->on_disk ? stats.dirty_bytes : 0;
	snprintf(out->text, sizeof out->text, "%.*s%s%s not pushed are %s%s%s",
	         hither_error_fact_len(why), why, *why ? "; " : "",
	         units_format_size(bytes, stats.dirty_bytes), d->on_disk ? "kept in " : "lost",
	         d->on_disk ? d->settings->mount.cache_dir : ": there was no cache on disk",
	         d->on_disk ? "; mount the same URL again to push them" : "");
}

static int push_rest(struct daemon *d, struct ending *out)
{
	struct hither_error err = {0};
	struct hither_mount_stats stats = {0};
	int r = 0;
	if (wishes(d).forced) {
		daemon_stats(d, &stats);
		r = stats.dirty_bytes ? -ECANCELED : 0;
		out->forced = r;
	} else if (d->settings->mount.backend.writable) {
		r = hither_mount_push(d->mount, &err);
		out->forced = r && wishes(d).forced; /* meanwhile */
	}
	if (r)
		tell_dirty(d, out->forced ? "" : err.message, out);
	return r;
}

void ender_close_mount(struct daemon *d, struct ending *out)
{
	struct hither_error err = {0};
	struct hither_mount *mount = d->mount;
	out->result = push_rest(d, out);
	pthread_mutex_lock(&d->lock);
	d->mount = NULL;
	d->state = DAEMON_ENDED;
	pthread_mutex_unlock(&d->lock);
	/* Closing would try for as long again; and nobody waits for a pull that is cut short. */
	if (out->result || puller_runs(&d->puller))
		hither_mount_cancel(mount);
	puller_stop(&d->puller);
	int closed = hither_mount_close(mount, &err);
	if (!out->result && closed) {
		out->result = closed;
		snprintf(out->text, sizeof out->text, "%s", err.message);
	}
}
