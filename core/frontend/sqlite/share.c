/* SPDX-License-Identifier: Apache-2.0 */
/* One mount for each URL in this process, shared by its connections; the last one closes it. */
#include "base/cleanup.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <errno.h>
#include <hither/url.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER; /* guards the list, refs and states */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;    /* some share's state */
static struct hsq_share *shares;
static unsigned process; /* fork()s between the program's start and this process */

/* --- fork() --- */

static void before_fork(void)
{
	pthread_mutex_lock(&registry);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&registry);
}

/* What the parent has open stays its own: here are neither its threads nor its locks. */
static void in_child(void)
{
	shares = NULL;
	process++;
	changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	pthread_mutex_unlock(&registry);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, in_child);
}

bool hsq_share_here(const struct hsq_share *s)
{
	return s->process == process;
}

int hsq_share_check(const struct hsq_share *s)
{
	return hsq_share_here(s) ? SQLITE_OK
	                         : hsq_failf(SQLITE_IOERR,
	                                     "%s: was opened before fork(): open it in this "
	                                     "process, too",
	                                     s->url);
}

/* --- one share --- */

static struct hsq_share *find_locked(const char *url)
{
	struct hsq_share *s = shares;
	while (s && strcmp(s->url, url) != 0)
		s = s->next;
	return s;
}

static void unlink_locked(struct hsq_share *s)
{
	struct hsq_share **at = &shares;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
}

static void share_free(struct hsq_share *s)
{
	hsq_names_free(s->names);
	hsq_shm_free(&s->shm);
	hsq_follow_finish(s);
	pthread_rwlock_destroy(&s->mount_lock);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->guard_lock);
	free(s->url);
	free(s);
}

static struct hsq_share *share_create(const char *url, const struct hsq_params *params)
{
	struct hsq_share *s = calloc(1, sizeof *s);
	if (!s || !(s->url = strdup(url))) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->guard_lock, NULL);
	pthread_rwlock_init(&s->mount_lock, NULL);
	s->owner.lock_fd = -1;
	s->local_fd = -1;
	s->process = process;
	s->state = HSQ_OPENING;
	s->refs = 1;
	s->recording = params->mount.record != NULL;
	s->sync = params->mount.sync;
	s->deadline_ms = params->mount.deadline_ms;
	return s;
}

/* --- opening and closing, without the registry's lock --- */

static void close_mounts(struct hsq_share *s)
{
	struct hither_error err = {0};
	hsq_beside_destroy(s->beside);
	s->beside = NULL;
	if (s->mount && hither_mount_close(s->mount, &err))
		hsq_fail(SQLITE_IOERR_CLOSE, &err);
	hither_mount_close(s->guard, NULL);
	s->mount = s->guard = NULL;
	hsq_owner_release(&s->owner);
}

static bool never_writable(const char *url)
{
	size_t n = hither_url_scheme(url);
	return (n == 4 && !strncmp(url, "http", 4)) || (n == 5 && !strncmp(url, "https", 5));
}

static int code_of(int r)
{
	return r == -ENOMEM ? SQLITE_NOMEM : r == -EBUSY ? SQLITE_BUSY : SQLITE_CANTOPEN;
}

int hsq_open_mount(struct hsq_share *s, const struct hsq_params *params, bool write,
                   struct hither_error *err)
{
	struct hither_mount_options o = params->mount;
	struct hither_push_watch watch = hsq_guard_watch(s);
	o.backend.writable = write;
	o.push_watch = write ? &watch : NULL;
	int r = hither_mount_open(s->url, &o, &s->mount, err);
	if (r == -EBUSY && !write) { /* another process has this cache: do without */
		o.cache_dir = NULL;
		r = hither_mount_open(s->url, &o, &s->mount, err);
	}
	return r;
}

/* What a database that can be written must be like. */
static int check_writable(struct hsq_share *s, const struct hsq_params *params)
{
	unsigned char header[HSQ_HEADER_BYTES];
	struct hither_error err = {0};
	if (s->sync == HITHER_SYNC_LOCAL && !params->mount.cache_dir)
		return hsq_failf(SQLITE_CANTOPEN,
		                 "%s: sync=local wants a store on disk: name one with store=DIR",
		                 s->url);
	if (hither_mount_size(s->mount) < sizeof header)
		return SQLITE_OK;
	if (hsq_read(s, header, sizeof header, 0, NULL, &err))
		return hsq_fail(SQLITE_CANTOPEN, &err);
	if (s->sync == HITHER_SYNC_REMOTE && header[18] == 2)
		return hsq_failf(SQLITE_CANTOPEN,
		                 "%s is in WAL mode, in which a commit is only in the local WAL: "
		                 "open it with sync=local, or read-only",
		                 s->url);
	return hsq_beside_wait(s->beside);
}

static int try_open(struct hsq_share *s, const struct hsq_params *params, bool write, bool *again)
{
	struct hither_error err = {0};
	*again = false;
	int code = never_writable(s->url) ? SQLITE_OK
	                                  : hsq_owner_take(s->url, params, write, &s->owner);
	if (code)
		return code;
	if (!s->beside)
		s->beside = hsq_beside_start(s->url, params);
	if (write)
		hsq_guard_recall(s);
	int r = hsq_open_mount(s, params, write, &err);
	if (r == -EROFS && write) {
		*again = true;
		hsq_owner_release(&s->owner);
		return SQLITE_OK;
	}
	if (r)
		return hsq_fail(code_of(r), &err);
	s->writable = hither_mount_writable(s->mount);
	s->follow = s->follow && !s->writable; /* who writes must not miss a change */
	hsq_beside_mount(s->beside, s->mount);
	if (s->writable)
		hsq_guard_opened(s);
	return s->writable ? check_writable(s, params) : SQLITE_OK;
}

static int share_open(struct hsq_share *s, const struct hsq_params *params, bool write)
{
	bool again = false;
	int code = hsq_follow_init(s, params);
	if (!code)
		code = try_open(s, params, write && !never_writable(s->url), &again);
	if (again)
		code = try_open(s, params, false, &again);
	if (code)
		close_mounts(s);
	return code;
}

/* --- the registry --- */

static void leave_locked(struct hsq_share *s)
{
	if (--s->refs > 0)
		return;
	if (s->state == HSQ_OPEN) {
		s->state = HSQ_CLOSING;
		pthread_mutex_unlock(&registry);
		close_mounts(s);
		pthread_mutex_lock(&registry);
	}
	unlink_locked(s);
	share_free(s);
	pthread_cond_broadcast(&changed);
}

/* A share that somebody else opened, or is opening. False: none, or one that is being closed. */
static bool join_locked(const char *url, struct hsq_share **out, int *code)
{
	struct hsq_share *s;
	while ((s = find_locked(url)) && s->state == HSQ_CLOSING)
		pthread_cond_wait(&changed, &registry);
	if (!s)
		return false;
	s->refs++;
	while (s->state == HSQ_OPENING)
		pthread_cond_wait(&changed, &registry);
	*code = s->state == HSQ_OPEN ? SQLITE_OK : s->code;
	*out = s;
	if (*code)
		leave_locked(s);
	return true;
}

int hsq_share_get(const char *url, const struct hsq_params *params, bool write,
                  struct hsq_share **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, watch_forks);
	HITHER_LOCK_SCOPE(&registry);
	int code;
	if (join_locked(url, out, &code))
		return code;
	struct hsq_share *s = share_create(url, params);
	if (!s)
		return SQLITE_NOMEM;
	s->next = shares;
	shares = s;
	pthread_mutex_unlock(&registry);
	code = share_open(s, params, write);
	pthread_mutex_lock(&registry);
	s->state = code ? HSQ_FAILED : HSQ_OPEN;
	s->code = code;
	pthread_cond_broadcast(&changed);
	*out = s;
	if (code)
		leave_locked(s);
	return code;
}

void hsq_share_put(struct hsq_share *s)
{
	HITHER_LOCK_SCOPE(&registry);
	leave_locked(s);
}

void hsq_share_each(bool (*visit)(struct hsq_share *s, void *user), void *user)
{
	HITHER_LOCK_SCOPE(&registry);
	for (struct hsq_share *s = shares; s; s = s->next)
		if (s->state == HSQ_OPEN && s->writable && visit(s, user))
			return;
}
