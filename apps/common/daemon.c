/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon.h"

#include "control.h"
#include "program.h"
#include "source.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum { FAILURE_AGAIN_S = 60 }; /* the same failure is logged once in so long */

/* --- what others see --- */

void daemon_log(struct daemon *d, const char *fmt, ...)
{
	char when[32], text[1024];
	time_t now = time(NULL);
	struct tm local;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (d->settings->foreground) {
		fprintf(stderr, "%s: %s\n", program_name, text);
		return;
	}
	localtime_r(&now, &local);
	strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &local);
	dprintf(d->entry.log_fd, "%s %s: %s\n", when, d->at.path, text);
	if (d->settings->log)
		fprintf(stderr, "%s %s: %s\n", when, d->at.path, text); /* stderr is that file */
}

enum daemon_state daemon_state(struct daemon *d)
{
	pthread_mutex_lock(&d->lock);
	enum daemon_state state = d->state;
	pthread_mutex_unlock(&d->lock);
	return state;
}

bool daemon_stats(struct daemon *d, struct hither_mount_stats *out)
{
	pthread_mutex_lock(&d->lock);
	bool has = d->mount;
	if (has)
		hither_mount_stats(d->mount, out);
	pthread_mutex_unlock(&d->lock);
	return has;
}

static void describe_place(const struct daemon *d, struct json *j)
{
	json_int(j, "pid", d->entry.pid);
	json_string(j, "path", d->at.path);
	json_string(j, "url", d->shown_url);
	json_string(j, "cache",
	            d->settings->mount.direct      ? "direct"
	            : d->settings->mount.cache_dir ? d->settings->mount.cache_dir
	                                           : "memory");
	json_bool(j, "writable", d->settings->mount.backend.writable);
	json_int(j, "started_at", d->started_at);
}

void daemon_describe(struct daemon *d, struct json *j)
{
	static const char *const states[] = {"opening",    "opening", "mounted",
	                                     "unmounting", "closing", "ended"};
	struct hither_mount_stats stats = {0};
	daemon_stats(d, &stats);
	json_object(j, NULL);
	describe_place(d, j);
	json_string(j, "state", states[daemon_state(d)]);
	progress_stats(j, &stats);
	json_end_object(j);
}

/* What can be read of it when it is dead, and what is then needed to clear its path. */
static int publish(struct daemon *d, struct hither_error *err)
{
	AUTO_JSON struct json j = {0};
	json_object(&j, NULL);
	describe_place(d, &j);
	json_bool(&j, "made", d->at.made);
	json_uint(&j, "made_dev", d->at.dev);
	json_uint(&j, "made_ino", d->at.ino);
	json_end_object(&j);
	json_text(&j, "\n");
	if (j.failed)
		return hither_fail(err, -ENOMEM, "no memory");
	return runtime_publish(&d->entry, j.text, err);
}

void daemon_show_progress(struct daemon *d, bool on)
{
	atomic_store(&d->shows, on);
	control_show_progress(d->control);
}

static void set_state(struct daemon *d, enum daemon_state state)
{
	pthread_mutex_lock(&d->lock);
	d->state = state;
	pthread_mutex_unlock(&d->lock);
}

/* --- the ender --- */

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

static void explain_dirty(struct daemon *d, const struct hither_error *why, bool mounted, char *out,
                          size_t size)
{
	struct hither_mount_stats stats = {0};
	char bytes[UNITS_TEXT_BYTES];
	daemon_stats(d, &stats);
	units_format_size(bytes, stats.dirty_bytes);
	if (mounted)
		snprintf(out, size,
		         "%s; still mounted, %s not pushed: try again, or hither umount --force %s",
		         why->message, bytes,
		         d->on_disk ? "leaves them in the cache for the next mount" : "drops them");
	else if (d->on_disk)
		snprintf(out, size,
		         "%s; %s not pushed are kept in %s: mount the same URL again to push them",
		         why->message, bytes, d->settings->mount.cache_dir);
	else
		snprintf(out, size, "%s; %s not pushed are lost, there was no cache on disk",
		         why->message, bytes);
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

static void *ender(void *arg)
{
	struct daemon *d = arg;
	struct hither_error err = {0};
	char text[1024] = "";
	int r = push_first(d, &err);
	if (r)
		explain_dirty(d, &err, true, text, sizeof text);
	else
		r = hither_fuse_stop(d->fuse, wishes(d).lazy || wishes(d).forced, &err);
	if (r && !*text)
		snprintf(text, sizeof text, "%s%s", err.message, r == -EBUSY ? " (--lazy)" : "");
	pthread_mutex_lock(&d->lock);
	d->ender_ended = true;
	if (r && d->state == DAEMON_UNMOUNTING) {
		d->state = DAEMON_MOUNTED;
		d->lazy = d->signal = false;
	}
	pthread_mutex_unlock(&d->lock);
	if (r) {
		daemon_log(d, "%s", text);
		control_failed(d->control, text);
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
	if (d->state == DAEMON_MOUNTED && d->ender_runs && d->ender_ended) { /* it failed earlier */
		pthread_join(d->ender, NULL);
		d->ender_runs = false;
	}
	if (d->state == DAEMON_MOUNTED && !d->ender_runs) {
		d->ender_ended = false;
		d->ender_runs = !pthread_create(&d->ender, NULL, ender, d);
		if (d->ender_runs)
			d->state = DAEMON_UNMOUNTING;
	}
	bool started = d->ender_runs || d->state != DAEMON_MOUNTED;
	pthread_mutex_unlock(&d->lock);
	if (!started)
		control_failed(d->control, "no memory for a thread to unmount with; try again");
}

/* --- the beginning --- */

/* The parent waits for one line: "+what to print" or "-what went wrong". */
static int report(struct daemon *d, char sign, const char *text)
{
	if (d->report_fd < 0) {
		if (sign != '+')
			return fail_with(0, "%s", text);
		puts(text);
		fflush(stdout);
		return 0;
	}
	int r = dprintf(d->report_fd, "%c%s\n", sign, text) < 0 ? -errno : 0;
	close(d->report_fd);
	d->report_fd = -1;
	return r;
}

static int report_ready(struct daemon *d)
{
	char size[UNITS_TEXT_BYTES], text[9000];
	const struct hither_mount_options *o = &d->settings->mount;
	const struct hither_tree *t = d->settings->tree;
	if (d->quiet)
		return 0;
	snprintf(text, sizeof text, "%s: %s from %s, %s%s%s", d->at.path,
	         units_format_size(size,
	                           t ? hither_tree_file_bytes(t) : hither_mount_size(d->mount)),
	         d->shown_url,
	         o->direct      ? "no cache"
	         : o->cache_dir ? "cache "
	                        : "cache in memory",
	         !o->direct && o->cache_dir ? o->cache_dir : "",
	         hither_mount_writable(d->mount) ? "" : ", read-only");
	return report(d, '+', text);
}

/* Leave the terminal and the folder we were started in. Paths are absolute by now. */
static int detach_process(struct daemon *d, struct hither_error *err)
{
	if (d->settings->foreground)
		return 0;
	AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	AUTO_CLOSE int log =
	        !d->settings->log
	                ? -1
	                : open(d->settings->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (null < 0 || (d->settings->log && log < 0))
		return hither_fail(err, -errno, "open %s: %s",
		                   null < 0 ? "/dev/null" : d->settings->log, strerror(errno));
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(log >= 0 ? log : d->entry.log_fd, STDERR_FILENO) < 0 || chdir("/"))
		return hither_fail(err, -errno, "leave the terminal: %s", strerror(errno));
	return 0;
}

/* A program got an error number: here is why. */
static void access_failed(void *user, const struct hither_error *err)
{
	struct daemon *d = user;
	uint64_t now = (uint64_t)time(NULL);
	pthread_mutex_lock(&d->failure_lock);
	bool news = strcmp(d->failure, err->message) || now - d->failure_at >= FAILURE_AGAIN_S;
	if (news) {
		snprintf(d->failure, sizeof d->failure, "%s", err->message);
		d->failure_at = now;
	}
	pthread_mutex_unlock(&d->failure_lock);
	if (news)
		daemon_log(d, "%s", err->message);
}

static int resolve_late(struct daemon *d, const char *name, bool folder, struct hither_error *err)
{
	mountpoint_finish(&d->at);
	folder |= d->scratch;
	int r = folder ? mountpoint_resolve_folder(&d->at, d->late, err)
	               : mountpoint_resolve(&d->at, d->late, name, err);
	if (!r)
		runtime_forget(d->at.path);
	return r;
}

static int attach(struct daemon *d, struct hither_error *err)
{
	const struct hither_fuse_options options = {.allow_other = d->settings->allow_other,
	                                            .readahead_bytes = d->readahead_bytes,
	                                            .failed = access_failed,
	                                            .failed_user = d};
	const struct hither_tree *t = d->settings->tree;
	bool folder = t && !hither_tree_is_file(t);
	uint32_t count;
	AUTO_FREE char *name =
	        t ? strdup(hither_tree_nodes(t, &count)->name) : url_file_name(d->settings->url);
	const struct hither_fuse_file file = {
	        .mount = d->mount, .name = name, .executable = d->executable};
	int listen_fd = -1;
	set_state(d, DAEMON_ATTACHING);
	int r = d->late ? resolve_late(d, name, folder, err) : 0;
	if (!r)
		r = d->scratch ? mountpoint_adopt(&d->at, err) : mountpoint_make(&d->at, err);
	if (!r && folder)
		r = hither_fuse_attach_tree(t, d->mount, d->at.path, &options, &d->fuse, err);
	else if (!r)
		r = hither_fuse_attach(&file, 1, d->at.path, &options, &d->fuse, err);
	if (!r)
		r = runtime_listen(&d->entry, &listen_fd, err);
	if (!r)
		r = publish(d, err);
	if (r) {
		if (listen_fd >= 0)
			close(listen_fd);
		return r;
	}
	set_state(d, DAEMON_MOUNTED);
	control_serve(d->control, listen_fd);
	return 0;
}

static int begin(struct daemon *d, struct hither_error *err)
{
	struct hither_mount *mount = NULL;
	int r = runtime_enter(&d->entry, err);
	if (!r)
		r = detach_process(d, err);
	if (!r)
		r = control_start(d, &d->control, err);
	if (!r)
		r = source_open(d->settings, true, &mount, err);
	if (r)
		return r;
	pthread_mutex_lock(&d->lock);
	d->mount = mount;
	pthread_mutex_unlock(&d->lock);
	return attach(d, err);
}

/* --- the end --- */

/* Push what came in since the last push and close. 0, or -errno and in text what is amiss. */
static int close_mount(struct daemon *d, char *text, size_t size)
{
	struct hither_error err = {0};
	struct hither_mount_stats stats = {0};
	struct hither_mount *mount = d->mount;
	bool pushes = !wishes(d).forced && d->settings->mount.backend.writable;
	int r = pushes ? hither_mount_push(mount, &err) : 0;
	if (wishes(d).forced) {
		daemon_stats(d, &stats);
		r = stats.dirty_bytes
		            ? hither_fail(&err, -ECANCELED, "stopped before all was pushed")
		            : 0;
	}
	if (r) {
		explain_dirty(d, &err, false, text, size);
		hither_mount_cancel(mount); /* or closing would try for as long again */
	}
	pthread_mutex_lock(&d->lock);
	d->mount = NULL;
	d->state = DAEMON_ENDED;
	pthread_mutex_unlock(&d->lock);
	int closed = hither_mount_close(mount, &err);
	if (!r && closed) {
		r = closed;
		snprintf(text, size, "%s", err.message);
	}
	return r;
}

static int finish(struct daemon *d, int r, const char *text)
{
	mountpoint_remove(&d->at);
	if (r)
		daemon_log(d, "%s", text);
	bool heard = control_finish(d->control, r ? text : "");
	runtime_leave(&d->entry, r && !heard && !d->settings->foreground);
	return r || d->hook_failed ? EXIT_FAILED : EXIT_DONE;
}

/* It never came to be: report, undo. */
static int give_up(struct daemon *d, const struct hither_error *err)
{
	hither_fuse_detach(d->fuse);
	if (d->mount)
		hither_mount_cancel(d->mount);
	struct hither_mount *mount = d->mount;
	pthread_mutex_lock(&d->lock);
	d->mount = NULL;
	pthread_mutex_unlock(&d->lock);
	hither_mount_close(mount, NULL);
	mountpoint_remove(&d->at);
	control_finish(d->control, "");
	runtime_leave(&d->entry, false);
	report(d, '-', err->message);
	return EXIT_FAILED;
}

int daemon_run(struct daemon *d)
{
	struct hither_error err = {0};
	char text[1024] = "";
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->failure_lock, NULL);
	d->started_at = (int64_t)time(NULL);
	d->on_disk = !d->settings->mount.direct && d->settings->mount.cache_dir;
	int r = begin(d, &err);
	if (r)
		return give_up(d, &err);
	if (!d->settings->foreground)
		prctl(PR_SET_PDEATHSIG, 0); /* the parent may end now */
	/* Who would use it, if nobody waits any more? */
	if (report_ready(d))
		daemon_end(d, true, false, true);
	if (d->hooks && d->hooks->mounted(d, &err)) {
		daemon_log(d, "%s", err.message);
		d->hook_failed = true;
		daemon_end(d, true, false, true);
	}
	r = hither_fuse_serve(d->fuse, &err);
	set_state(d, DAEMON_CLOSING); /* from here on no ender is started or joined by others */
	if (d->ender_runs)
		pthread_join(d->ender, NULL);
	hither_fuse_detach(d->fuse);
	d->fuse = NULL;
	if (d->hooks && d->hooks->unmounted(d))
		d->hook_failed = true;
	int pushed = close_mount(d, text, sizeof text);
	if (!pushed && r)
		snprintf(text, sizeof text, "%s", err.message);
	return finish(d, pushed ? pushed : r, text);
}
