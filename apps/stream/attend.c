/* SPDX-License-Identifier: Apache-2.0 */
#include "attend.h"

#include "apart.h"
#include "mountpoint.h"
#include "runtime.h"
#include "url.h"
#include "util.h"

#include <hither/fuse.h>

/* The order reads ahead, and knows what: a player that seeks shall wait for little. */
enum { READAHEAD_BYTES = 128 << 10 };

static void say(void *user, const char *message)
{
	daemon_log(user, "%s", message);
}

int attend_begin(struct attendant *a, struct hither_error *err)
{
	int r = stream_check_room(a->settings, a->daemon.mount, err);
	if (!r)
		r = playback_create(a->daemon.mount, &a->playback, err);
	if (!r && a->settings->copy)
		r = recorder_start(a->daemon.mount, a->settings->copy, a->settings->all, say,
		                   &a->daemon, &a->recorder, err);
	return r;
}

int attend_end(struct attendant *a)
{
	int r = recorder_stop(TAKE(a->recorder, NULL));
	hither_mount_cancel(a->daemon.mount); /* it only reads: nothing is pushed by closing */
	playback_destroy(TAKE(a->playback, NULL));
	return r;
}

int attend(struct attendant *a, const char *path, bool apart)
{
	struct hither_error err = {0};
	struct daemon *d = &a->daemon;
	AUTO_FREE char *name = url_file_name(a->settings->base.url);
	d->settings = &a->settings->base;
	d->report_fd = -1;
	d->readahead_bytes = READAHEAD_BYTES;
	d->entry = (struct runtime_entry){.folder_fd = -1, .info_fd = -1, .log_fd = -1};
	d->shown_url = url_redact(a->settings->base.url);
	if (!name || !d->shown_url)
		return fail_with(EXIT_FAILED, "no memory");
	int r = hither_fuse_probe(&err);
	runtime_each(false, NULL, NULL); /* clears away what the dead left, perhaps right there */
	if (!r)
		r = mountpoint_resolve(&d->at, path, name, &err);
	int code = r ? fail_with(EXIT_FAILED, "%s", err.message) : -1;
	if (code < 0 && apart) /* everything that starts a thread comes after this fork */
		code = apart_begin(&d->report_fd);
	if (code < 0)
		code = daemon_run(d);
	mountpoint_finish(&d->at);
	free(d->shown_url);
	return code;
}
