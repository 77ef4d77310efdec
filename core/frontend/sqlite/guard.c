/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second writer elsewhere. NBD has no locks between hosts, but every transaction changes the
 * counter in the database's header: if the backend's header is not the one that we sent last, or
 * found when we began, somebody else was there, and nothing is written any more. Looked at before a
 * change and before a push, unless it was well a moment ago: one round trip a second at most, where
 * no lock could make it less than best effort.
 *
 * Before a change that takes a second connection: a server that has room for one client only keeps
 * others out by itself, and is not asked again soon.
 *
 * With sync=local what was committed may be sent by another process, days later: what the backend
 * had is kept in a file beside the journal.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "frontend/sqlite/guard_testing.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BLIND_NS (600 * HITHER_NS_PER_S)

enum { CONNECT_MS = 2000, LOOK_BYTES = 4096 };

uint64_t hsq_guard_ns = HITHER_NS_PER_S;

/* --- the file --- */

static char *kept_path(const struct hsq_share *s)
{
	char *path;
	return asprintf(&path, "%s/pushed", s->owner.dir) < 0 ? NULL : path;
}

static int open_kept(const struct hsq_share *s, int flags)
{
	HITHER_FREE char *path = kept_path(s);
	return path ? open(path, flags | O_CLOEXEC, 0600) : -1;
}

/* 0 or -errno. */
static int keep_locked(const struct hsq_share *s)
{
	if (s->sync != HITHER_SYNC_LOCAL)
		return 0;
	HITHER_CLOSE int fd = open_kept(s, O_WRONLY | O_CREAT);
	int r = fd < 0 ? -errno : hither_pwrite_all(fd, &s->there, sizeof s->there, 0);
	return r ? r : fdatasync(fd) ? -errno : 0;
}

/* With sync=remote it is not kept, for it would cost each commit: so it must not be found later. */
static void forget_kept(const struct hsq_share *s)
{
	HITHER_FREE char *path = kept_path(s);
	if (!path || unlink(path))
		return;
	HITHER_CLOSE int folder = open(s->owner.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder >= 0)
		fsync(folder);
}

void hsq_guard_recall(struct hsq_share *s)
{
	if (s->sync != HITHER_SYNC_LOCAL) {
		forget_kept(s);
		return;
	}
	HITHER_CLOSE int fd = open_kept(s, O_RDONLY);
	if (fd < 0 || hither_pread_all(fd, &s->there, sizeof s->there, 0))
		s->there.known = false;
}

void hsq_guard_opened(struct hsq_share *s)
{
	struct hither_mount_stats stats;
	hither_mount_stats(s->mount, &stats);
	HITHER_LOCK_SCOPE(&s->guard_lock);
	if (!stats.dirty_bytes && !stats.push_requests)
		s->there.known = false;
}

/* --- looking --- */

static bool is(const unsigned char *a, const unsigned char *b)
{
	return !memcmp(a, b, HSQ_HEADER_BYTES);
}

static void set(unsigned char *to, const unsigned char *header)
{
	memcpy(to, header, HSQ_HEADER_BYTES);
}

/* The backend's header is ours, or the first that we see of it. False: somebody else's. */
static bool is_ours_locked(struct hsq_share *s, const unsigned char *header)
{
	struct hsq_there *t = &s->there;
	if (!t->known) {
		set(t->flushed, header);
		set(t->taken, header);
		set(t->sent, header);
		return true;
	}
	if (is(header, t->sent))
		set(t->taken, header);
	return is(header, t->taken) || is(header, t->flushed);
}

static int look_locked(struct hsq_share *s, const unsigned char *header)
{
	bool first = !s->there.known;
	s->foreign = !is_ours_locked(s, header);
	s->there.known = true;
	s->guard_again_ns = hither_now_ns() + hsq_guard_ns;
	return first ? keep_locked(s) : 0;
}

static bool is_due_locked(const struct hsq_share *s)
{
	return !s->foreign && hither_now_ns() >= s->guard_again_ns;
}

static int not_kept(const struct hsq_share *s, int r, struct hither_error *err)
{
	return r ? hither_fail(err, r, "%s/pushed: %s", s->owner.dir, strerror(-r)) : 0;
}

static int refuse(const struct hsq_share *s, struct hither_error *err)
{
	return hither_fail(err, -ESTALE,
	                   "%s: somebody else has written it since it was read here: nothing more "
	                   "is written%s; close it, and open it again",
	                   s->url,
	                   s->sync == HITHER_SYNC_LOCAL
	                           ? ", and what was not sent yet stays in the store"
	                           : "");
}

/* --- before a change --- */

static int open_guard(struct hsq_share *s)
{
	struct hither_mount_options options = {
	        .direct = true,
	        .deadline_ms = s->deadline_ms,
	        .backend = {.connect_timeout_ms = CONNECT_MS},
	};
	return s->guard ? 0 : hither_mount_open(s->url, &options, &s->guard, NULL);
}

static int look_from_aside_locked(struct hsq_share *s, struct hither_error *err)
{
	unsigned char header[HSQ_HEADER_BYTES];
	if (open_guard(s)) {
		s->guard_blind_ns = hither_now_ns() + BLIND_NS;
		return 0;
	}
	int r = hither_mount_read_at(s->guard, header, sizeof header, 0, err);
	return r ? r : not_kept(s, look_locked(s, header), err);
}

int hsq_guard(struct hsq_share *s)
{
	struct hither_error err = {0};
	HITHER_LOCK_SCOPE(&s->guard_lock);
	bool sees = hither_now_ns() >= s->guard_blind_ns;
	int r = sees && is_due_locked(s) ? look_from_aside_locked(s, &err) : 0;
	if (!r && s->foreign)
		r = refuse(s, &err);
	return r ? hsq_fail(SQLITE_IOERR_WRITE, &err) : SQLITE_OK;
}

/* --- before a push --- */

static int look_past_locked(struct hsq_share *s, struct hither_backend *backend,
                            struct hither_error *err)
{
	unsigned char bytes[LOOK_BYTES];
	size_t len =
	        backend->size_bytes < sizeof bytes ? (size_t)backend->size_bytes : sizeof bytes;
	int r = len < HSQ_HEADER_BYTES ? 0 : hither_backend_read_at(backend, bytes, len, 0, err);
	return r || len < HSQ_HEADER_BYTES ? r : not_kept(s, look_locked(s, bytes), err);
}

/* The header is about to be sent. Where it is not known what became of the last one: look. */
static int send_locked(struct hsq_share *s, struct hither_backend *backend, const void *header,
                       struct hither_error *err)
{
	struct hsq_there *t = &s->there;
	int r = is(t->sent, t->taken) ? 0 : look_past_locked(s, backend, err);
	if (r || s->foreign)
		return r;
	set(t->sent, header);
	return not_kept(s, keep_locked(s), err);
}

static int before_push(void *user, struct hither_backend *backend, const void *buf, size_t len,
                       uint64_t offset, struct hither_error *err)
{
	struct hsq_share *s = user;
	HITHER_LOCK_SCOPE(&s->guard_lock);
	int r = is_due_locked(s) ? look_past_locked(s, backend, err) : 0;
	if (!r && !s->foreign && !offset && len >= HSQ_HEADER_BYTES)
		r = send_locked(s, backend, buf, err);
	return r ? r : s->foreign ? refuse(s, err) : 0;
}

static void after_push(void *user, uint64_t offset, int result)
{
	struct hsq_share *s = user;
	HITHER_LOCK_SCOPE(&s->guard_lock);
	if (!offset && !result)
		set(s->there.taken, s->there.sent); /* the file says that it may have been taken */
}

static void flushed(void *user)
{
	struct hsq_share *s = user;
	HITHER_LOCK_SCOPE(&s->guard_lock);
	bool news = !is(s->there.flushed, s->there.taken);
	set(s->there.flushed, s->there.taken);
	if (news)
		keep_locked(s); /* where that fails it says that an older one may be there */
}

struct hither_push_watch hsq_guard_watch(struct hsq_share *s)
{
	return (struct hither_push_watch){
	        .before = before_push, .after = after_push, .flushed = flushed, .user = s};
}
