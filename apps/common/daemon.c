/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon.h"

#include "control.h"
#include "ender.h"
#include "program.h"
#include "service.h"
#include "source.h"
#include "start.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
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
	localtime_r(&now, &local);
	strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &local);
	if (d->settings->foreground)
		fprintf(stderr, "%s: %s\n", program_name, text);
	else
		dprintf(d->entry.log_fd, "%s %s: %s\n", when, d->at.path, text);
	AUTO_CLOSE int file = d->settings->log ? service_open_log(d->settings->log) : -1;
	if (file >= 0)
		dprintf(file, "%s %s: %s\n", when, d->at.path, text);
}

static enum daemon_state state_of(struct daemon *d)
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
		source_stats(d->settings, d->mount, out);
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

static void describe(void *user, struct json *j)
{
	struct daemon *d = user;
	static const char *const states[] = {"opening",    "opening", "mounted",
	                                     "unmounting", "closing", "ended"};
	struct hither_mount_stats stats = {0};
	daemon_stats(d, &stats);
	json_object(j, NULL);
	describe_place(d, j);
	json_string(j, "state", states[state_of(d)]);
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

/* --- what the control thread wants --- */

static bool stats(void *user, struct hither_mount_stats *out)
{
	return daemon_stats(user, out);
}

static void end(void *user, bool lazy, bool force, bool signal)
{
	daemon_end(user, lazy, force, signal);
}

static bool abandon(void *user)
{
	struct daemon *d = user;
	if (state_of(d) != DAEMON_OPENING)
		return false;
	runtime_leave(&d->entry, false);
	return true;
}

static bool shows(void *user)
{
	struct daemon *d = user;
	return !d->quiet || atomic_load(&d->shows);
}

static bool in_use(void *user)
{
	struct daemon *d = user;
	pthread_mutex_lock(&d->lock);
	bool waits = d->in_use;
	pthread_mutex_unlock(&d->lock);
	return waits;
}

static bool signalled(void *user, const struct signalfd_siginfo *info)
{
	struct daemon *d = user;
	return d->hooks && d->hooks->signalled && d->hooks->signalled(d, info);
}

static void pulled(void *user, const char *message)
{
	struct daemon *d = user;
	control_pulled(d->control, message);
}

static int pull(void *user, struct hither_error *err)
{
	struct daemon *d = user;
	pthread_mutex_lock(&d->lock);
	int r = d->mount ? puller_begin(&d->puller, err)
	                 : hither_fail(err, -ENOTCONN, "it is being unmounted");
	pthread_mutex_unlock(&d->lock);
	return r;
}

static int start_control(struct daemon *d, struct hither_error *err)
{
	static const struct control_ops ops = {.describe = describe,
	                                       .stats = stats,
	                                       .end = end,
	                                       .abandon = abandon,
	                                       .shows = shows,
	                                       .in_use = in_use,
	                                       .signalled = signalled,
	                                       .pull = pull};
	const struct control_owner owner = {.ops = &ops,
	                                    .user = d,
	                                    .foreground = d->settings->foreground,
	                                    .progress_fd = d->settings->progress_fd,
	                                    .ending = "unmounting",
	                                    /* A program of ours ends with the mount. */
	                                    .waits_for_users =
	                                            d->settings->foreground && !d->hooks};
	d->puller = (struct puller){.mounts = &d->pulls, .count = 1, .over = pulled, .user = d};
	return control_start(&owner, &d->control, err);
}

static void set_state(struct daemon *d, enum daemon_state state)
{
	pthread_mutex_lock(&d->lock);
	d->state = state;
	pthread_mutex_unlock(&d->lock);
}

/* --- the beginning --- */

/*
 * The parent waits for one line: "+what to print" or "-what went wrong"; and perhaps another,
 * "!what to look at". warning: NULL: none.
 */
static int report(struct daemon *d, char sign, const char *text, const char *warning)
{
	if (d->report_fd < 0) {
		if (sign != '+')
			return fail_with(0, "%s", text);
		program_tell("%s", text);
		return warning ? fail_with(0, "%s", warning) : 0;
	}
	int r = dprintf(d->report_fd, warning ? "%c%s\n!%s\n" : "%c%s\n", sign, text, warning) < 0
	                ? -errno
	                : 0;
	close(d->report_fd);
	d->report_fd = -1;
	return r;
}

/* A URL as of a folder, of which web servers send a page with a list. */
static bool is_folder_url(const char *url)
{
	size_t end = strcspn(url, "?#");
	const char *host = strstr(url, "://");
	if (strncmp(url, "http", 4) != 0 || !host)
		return false;
	AUTO_FREE char *name = url_file_name(url);
	return url[end - 1] == '/' || !strchr(host + 3, '/') || (name && !strchr(name, '.'));
}

/* Whoever wanted a folder has got a file with HTML in it. */
static bool is_page_of_folder(const struct daemon *d)
{
	static const char *const begins[] = {"<!doctype html", "<html"};
	char head[15] = "";
	if (d->settings->tree || !is_folder_url(d->settings->url) ||
	    hither_mount_size(d->mount) < sizeof head ||
	    hither_mount_peek(d->mount, head, sizeof head, 0))
		return false;
	for (size_t i = 0; i < COUNT_OF(begins); i++)
		if (!strncasecmp(head, begins[i], strlen(begins[i])))
			return true;
	return false;
}

static int report_ready(struct daemon *d)
{
	char size[UNITS_TEXT_BYTES], text[9000], warning[400];
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
	snprintf(warning, sizeof warning,
	         "%.200s is a web page, and was mounted as a file; for a folder: hither index, "
	         "there",
	         d->shown_url);
	bool page = is_page_of_folder(d), noted = d->report_fd >= 0 && *d->settings->note;
	return report(d, '+', text, page ? warning : noted ? d->settings->note : NULL);
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
	return folder ? mountpoint_resolve_folder(&d->at, d->late, err)
	              : mountpoint_resolve(&d->at, d->late, name, err);
}

static int attach(struct daemon *d, struct hither_error *err)
{
	const struct hither_fuse_options options = {.allow_other = d->settings->allow_other,
	                                            .readahead_bytes = d->readahead_bytes,
	                                            /* What passes by us is not recorded. */
	                                            .no_passthrough = d->settings->mount.record,
	                                            .failed = access_failed,
	                                            .failed_user = d};
	const struct hither_tree *t = d->settings->tree;
	bool folder = t && !hither_tree_is_file(t);
	uint32_t count;
	AUTO_FREE char *name =
	        t ? strdup(hither_tree_nodes(t, &count)->name) : url_file_name(d->settings->url);
	const struct hither_fuse_file file = {
	        .mount = d->mount,
	        .name = name,
	        .executable = d->executable,
	        .modified_ns = t ? hither_tree_nodes(t, &count)->mtime_ns : 0};
	int listen_fd = -1;
	set_state(d, DAEMON_ATTACHING);
	int r = d->late ? resolve_late(d, name, folder, err) : 0;
	if (!r)
		r = d->scratch ? mountpoint_adopt(&d->at, err) : mountpoint_make(&d->at, err);
	/* Before it is mounted: who finds us killed in between has something to clear it by. */
	if (!r)
		r = runtime_listen(&d->entry, &listen_fd, err);
	if (!r)
		r = publish(d, err);
	if (!r && folder)
		r = hither_fuse_attach_tree(t, d->mount, d->at.path, &options, &d->fuse, err);
	else if (!r)
		r = hither_fuse_attach(&file, 1, d->at.path, &options, &d->fuse, err);
	if (r) {
		if (listen_fd >= 0)
			close(listen_fd);
		return r;
	}
	runtime_supersede(&d->entry);
	set_state(d, DAEMON_MOUNTED);
	control_serve(d->control, listen_fd);
	return 0;
}

static int begin(struct daemon *d, struct hither_error *err)
{
	struct hither_mount *mount = NULL;
	int r = runtime_enter(&d->entry, err);
	if (!r)
		r = d->settings->foreground
		            ? 0
		            : service_leave_terminal(d->settings, d->entry.log_fd, err);
	if (!r)
		r = start_control(d, err);
	if (!r)
		r = ender_start(d, err);
	if (!r)
		r = start_fit_space(&d->settings->mount.workers, err);
	if (!r)
		r = source_open(d->settings, true, &mount, err);
	if (r)
		return r;
	pthread_mutex_lock(&d->lock);
	d->mount = d->pulls = mount;
	pthread_mutex_unlock(&d->lock);
	return attach(d, err);
}

/* --- the end --- */

static int finish(struct daemon *d, const struct ending *e)
{
	mountpoint_remove(&d->at);
	if (*e->text)
		daemon_log(d, "%s", e->text);
	bool heard = control_finish(d->control, e->text, e->forced);
	/* Whoever looks for what is kept must find it here. */
	bool told = heard || d->settings->foreground;
	runtime_leave(&d->entry, e->kept_bytes || (e->result && !told));
	return e->result || d->hook_failed ? EXIT_FAILED : EXIT_DONE;
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
	ender_stop(d);
	control_finish(d->control, "", false);
	runtime_leave(&d->entry, false);
	report(d, '-', err->message, NULL);
	d->never = err->code;
	return EXIT_FAILED;
}

int daemon_run(struct daemon *d)
{
	struct hither_error err = {0};
	struct ending ending = {0};
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->changed, NULL);
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
	set_state(d, DAEMON_CLOSING); /* from here on the ender begins nothing new */
	ender_stop(d);
	hither_fuse_detach(d->fuse);
	d->fuse = NULL;
	if (d->hooks && d->hooks->unmounted(d))
		d->hook_failed = true;
	ender_close_mount(d, &ending);
	if (!ending.result && r) {
		ending.result = r;
		snprintf(ending.text, sizeof ending.text, "%s", err.message);
	}
	return finish(d, &ending);
}
