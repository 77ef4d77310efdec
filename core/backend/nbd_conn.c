/* SPDX-License-Identifier: Apache-2.0 */
/* See nbd_conn.h for the picture. */
#include "backend/nbd_conn.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum {
	/* A server may write everything it has cached before it answers a flush. */
	FLUSH_PATIENCE = 4,
	/* After so long without traffic a connection is looked at before it is used again. */
	STALE_MS = 100,
	/* A server whose client vanishes amid its answers may die of it (nbdkit 1.32 does). */
	GOODBYE_MS = 1000,
};

void hither_nbd_wake(const struct nbd_conn *conn)
{
	uint64_t one = 1;
	/* The only failure is a full counter, and then it is readable already. */
	ssize_t n = write(conn->wake_fd, &one, sizeof one);
	(void)n;
}

static void drain_wake(const struct nbd_conn *conn)
{
	uint64_t drained;
	ssize_t n = read(conn->wake_fd, &drained, sizeof drained); /* it does not block */
	(void)n;
}

/* ---- requests ---- */

static void link_locked(struct nbd_conn *conn, struct nbd_request *r)
{
	r->next = conn->in_flight;
	r->prev = NULL;
	if (conn->in_flight)
		conn->in_flight->prev = r;
	conn->in_flight = r;
	if (r->kind == NBD_FLUSH)
		conn->flushing++;
}

static void unlink_locked(struct nbd_conn *conn, struct nbd_request *r)
{
	if (r->prev)
		r->prev->next = r->next;
	else
		conn->in_flight = r->next;
	if (r->next)
		r->next->prev = r->prev;
	if (r->kind == NBD_FLUSH)
		conn->flushing--;
}

static void done_locked(struct nbd_conn *conn, struct nbd_request *r, int code)
{
	unlink_locked(conn, r);
	r->done = true;
	r->code = code;
	if (!code && r->kind == NBD_WRITE && !r->fua)
		conn->written++;
	if (!code && r->kind == NBD_FLUSH && conn->flushed < r->mark)
		conn->flushed = r->mark;
	if (r->orphan)
		r->orphan(r);
	else if (r->waiter && r->waiter->wanted == r)
		pthread_cond_signal(&r->waiter->woken);
}

/* libnbd calls this while we hold the lock, from nbd_aio_* and nbd_aio_notify_*. */
static int answered(void *user, int *error)
{
	struct nbd_request *r = user;
	/* Of these the first is libnbd's word for a lost connection: the drop that follows tells.
	 */
	if (*error == ESHUTDOWN)
		done_locked(r->conn, r, -ECONNRESET);
	else if (*error != ENOTCONN)
		done_locked(r->conn, r, -*error);
	return 1; /* libnbd may forget the command */
}

/* ---- losing the connection ---- */

static void drop_locked(struct nbd_conn *conn, int code)
{
	atomic_store(&conn->up, false);
	nbd_close(conn->handle); /* from here on nobody touches the requests' data */
	conn->handle = NULL;
	conn->broken = 0;
	if (conn->written != conn->flushed) {
		conn->flushed = conn->written;
		atomic_fetch_add(&conn->target->losses, 1);
	}
	while (conn->in_flight) {
		conn->in_flight->dropped = true;
		done_locked(conn, conn->in_flight, code);
	}
}

static void break_locked(struct nbd_conn *conn, int code, const char *why)
{
	if (conn->broken)
		return;
	conn->broken = code;
	snprintf(conn->reason, sizeof conn->reason, "%s", why);
}

static bool gone(struct nbd_handle *handle)
{
	return nbd_aio_is_dead(handle) > 0 || nbd_aio_is_closed(handle) > 0;
}

static void break_if_gone_locked(struct nbd_conn *conn, bool failed)
{
	if (!gone(conn->handle))
		return;
	const char *why = failed ? nbd_get_error() : NULL;
	break_locked(conn, -ECONNRESET, why ? why : "the server closed the connection");
}

/* ---- submitting ---- */

static int64_t send_locked(struct nbd_conn *conn, struct nbd_request *r)
{
	nbd_completion_callback callback = {.callback = answered, .user_data = r};
	switch (r->kind) {
	case NBD_READ:
		return nbd_aio_pread(conn->handle, r->data, r->len, r->offset, callback, 0);
	case NBD_WRITE:
		return nbd_aio_pwrite(conn->handle, r->data, r->len, r->offset, callback,
		                      r->fua ? LIBNBD_CMD_FLAG_FUA : 0);
	case NBD_FLUSH:
		break;
	}
	r->mark = conn->written;
	return nbd_aio_flush(conn->handle, callback, 0);
}

void hither_nbd_submit_locked(struct nbd_conn *conn, struct nbd_request *r)
{
	r->conn = conn;
	r->done = r->dropped = false;
	r->code = 0;
	r->orphan = NULL;
	if (!conn->in_flight)
		conn->progress_ns = hither_now_ns();
	link_locked(conn, r);
	if (!conn->handle) {
		r->dropped = true;
		done_locked(conn, r, -ECONNRESET);
		return;
	}
	if (conn->broken)
		return; /* whoever drives drops it */
	bool failed = send_locked(conn, r) < 0;
	break_if_gone_locked(conn, failed);
	if (failed && !conn->broken && !r->done)
		done_locked(conn, r, nbd_get_errno() ? -nbd_get_errno() : -EIO);
	if (conn->driven && (conn->broken || hither_nbd_events(conn->handle) & ~conn->polled))
		hither_nbd_wake(conn);
}

/* ---- driving and waiting ---- */

static uint64_t deadline_locked(const struct nbd_conn *conn)
{
	uint64_t patience = conn->target->idle_timeout_ms * HITHER_NS_PER_MS;
	return conn->progress_ns + (conn->flushing ? FLUSH_PATIENCE : 1) * patience;
}

/*
 * Some servers (qemu-nbd 7.2) leave Nagle's algorithm on: the last segment of a long answer then
 * waits until we acknowledge the one before, which our kernel puts off by 40 ms, in the hope of
 * data to go along with it. The setting does not last, so it is made again before each wait.
 */
static void acknowledge_now(const struct nbd_conn *conn, int fd)
{
	int on = 1;
	if (conn->tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

static bool is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof protocol;
	return !getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) && protocol == IPPROTO_TCP;
}

/* Wait for the socket without the lock, then let libnbd do what can be done. */
static void poll_locked(struct nbd_conn *conn, int timeout_ms)
{
	conn->polled = hither_nbd_events(conn->handle);
	struct pollfd fds[2] = {
	        {.fd = nbd_aio_get_fd(conn->handle), .events = conn->polled},
	        {.fd = conn->wake_fd, .events = POLLIN},
	};
	pthread_mutex_unlock(&conn->lock);
	acknowledge_now(conn, fds[0].fd);
	int n = poll(fds, 2, timeout_ms);
	pthread_mutex_lock(&conn->lock);
	if (n <= 0)
		return; /* time is judged by the caller */
	if (fds[1].revents)
		drain_wake(conn);
	if (!fds[0].revents || conn->broken)
		return;
	conn->progress_ns = hither_now_ns();
	/* Ask for the direction again: somebody may have submitted meanwhile. */
	bool failed = hither_nbd_notify(conn->handle, hither_nbd_events(conn->handle),
	                                fds[0].revents) < 0;
	break_if_gone_locked(conn, failed);
}

static void drive_step_locked(struct nbd_conn *conn)
{
	if (atomic_load(&conn->target->cancelled))
		break_locked(conn, -ECANCELED, "cancelled");
	uint64_t now = hither_now_ns(), deadline = deadline_locked(conn);
	if (now >= deadline)
		break_locked(conn, -ETIMEDOUT, "the server has stopped answering");
	if (!conn->broken)
		poll_locked(conn, (int)((deadline - now) / HITHER_NS_PER_MS) + 1);
	if (conn->broken)
		drop_locked(conn, conn->broken);
}

static void drive_locked(struct nbd_conn *conn, const struct nbd_request *r)
{
	conn->driven = true;
	conn->progress_ns = hither_now_ns(); /* while nobody looked, nobody could see it move */
	while (!r->done)
		drive_step_locked(conn);
	conn->driven = false;
}

static void sleep_locked(struct nbd_conn *conn, struct nbd_request *r)
{
	struct nbd_waiter *w = r->waiter;
	w->wanted = r;
	w->prev = NULL;
	w->next = conn->waiters;
	if (w->next)
		w->next->prev = w;
	conn->waiters = w;
	pthread_cond_wait(&w->woken, &conn->lock);
	if (w->prev)
		w->prev->next = w->next;
	else
		conn->waiters = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->wanted = NULL;
}

void hither_nbd_wait_locked(struct nbd_conn *conn, struct nbd_request *r)
{
	bool waited = false;
	while (!r->done) {
		waited = true;
		if (conn->driven)
			sleep_locked(conn, r);
		else
			drive_locked(conn, r);
	}
	/* Whoever drove, or was woken in order to, sees to it that somebody does. */
	if (waited && !conn->driven && conn->waiters)
		pthread_cond_signal(&conn->waiters->woken);
}

int hither_nbd_explain_locked(const struct nbd_conn *conn, const struct nbd_request *r,
                              struct hither_error *err)
{
	static const char *const verbs[] = {
	        [NBD_READ] = "read", [NBD_WRITE] = "write", [NBD_FLUSH] = "flush"};
	const char *name = conn->target->name;
	if (r->dropped)
		return hither_fail(err, r->code, "nbd: %s: connection lost: %s", name,
		                   conn->reason);
	if (r->kind == NBD_FLUSH)
		return hither_fail(err, r->code, "nbd: flush %s: the server answers: %s", name,
		                   strerror(-r->code));
	return hither_fail(err, r->code,
	                   "nbd: %s %zu bytes at %" PRIu64 " of %s: the server answers: %s",
	                   verbs[r->kind], r->len, r->offset, name, strerror(-r->code));
}

/* ---- connecting ---- */

/*
 * A server that went away while nobody used the connection is noticed here rather than by a request
 * that fails. (Bytes that wait need not be bad news: TLS sends tickets.)
 */
void hither_nbd_look_locked(struct nbd_conn *conn)
{
	if (!conn->handle || conn->driven || conn->in_flight)
		return;
	struct pollfd fd = {.fd = nbd_aio_get_fd(conn->handle), .events = POLLIN};
	bool failed =
	        poll(&fd, 1, 0) > 0 &&
	        hither_nbd_notify(conn->handle, hither_nbd_events(conn->handle), fd.revents) < 0;
	break_if_gone_locked(conn, failed);
	if (conn->broken)
		drop_locked(conn, conn->broken);
}

static int connect_locked(struct nbd_conn *conn, struct hither_error *err)
{
	struct nbd_handle *handle = NULL;
	struct nbd_limits limits;
	struct hither_error failure = {0};
	conn->connecting = true;
	pthread_mutex_unlock(&conn->lock);
	int r = hither_nbd_connect(conn->target, conn->wake_fd, &handle, &limits, &failure);
	pthread_mutex_lock(&conn->lock);
	conn->connecting = false;
	conn->attempts++;
	conn->failure = failure;
	pthread_cond_broadcast(&conn->settled);
	if (r) {
		if (err)
			*err = failure;
		return r;
	}
	conn->handle = handle;
	conn->limits = limits;
	conn->tcp = is_tcp(nbd_aio_get_fd(handle));
	conn->progress_ns = hither_now_ns();
	atomic_store(&conn->up, true);
	return 0;
}

int hither_nbd_conn_ready(struct nbd_conn *conn, bool connect, struct hither_error *err)
{
	HITHER_LOCK_SCOPE(&conn->lock);
	if (atomic_load(&conn->target->cancelled))
		return hither_fail(err, -ECANCELED, "nbd: %s: cancelled", conn->target->name);
	if (hither_now_ns() - conn->progress_ns > STALE_MS * HITHER_NS_PER_MS)
		hither_nbd_look_locked(conn);
	if (conn->handle)
		return 0;
	if (!connect)
		return hither_fail(err, -ENOTCONN, "nbd: %s: connection lost: %s",
		                   conn->target->name, conn->reason);
	if (!conn->connecting)
		return connect_locked(conn, err);
	uint64_t attempts = conn->attempts;
	while (conn->attempts == attempts)
		pthread_cond_wait(&conn->settled, &conn->lock);
	if (err)
		*err = conn->failure;
	return conn->failure.code;
}

int hither_nbd_conn_init(struct nbd_conn *conn, struct nbd_target *target, struct hither_error *err)
{
	conn->target = target;
	atomic_init(&conn->up, false);
	pthread_mutex_init(&conn->lock, NULL);
	pthread_cond_init(&conn->settled, NULL);
	conn->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (conn->wake_fd < 0)
		return hither_fail(err, -errno, "nbd: eventfd: %s", strerror(errno));
	return 0;
}

/* Take the answers that nobody waits for any more, then say goodbye. */
static void disconnect_locked(struct nbd_conn *conn)
{
	uint64_t deadline = hither_now_ns() + GOODBYE_MS * HITHER_NS_PER_MS, now;
	while (conn->in_flight && !conn->broken && !atomic_load(&conn->target->cancelled) &&
	       (now = hither_now_ns()) < deadline)
		poll_locked(conn, (int)((deadline - now) / HITHER_NS_PER_MS) + 1);
	if (!conn->in_flight && !conn->broken)
		nbd_aio_disconnect(conn->handle, 0);
	drop_locked(conn, -ECANCELED);
}

void hither_nbd_conn_finish(struct nbd_conn *conn)
{
	pthread_mutex_lock(&conn->lock);
	if (conn->handle)
		disconnect_locked(conn);
	pthread_mutex_unlock(&conn->lock);
	if (conn->wake_fd >= 0)
		close(conn->wake_fd);
	pthread_cond_destroy(&conn->settled);
	pthread_mutex_destroy(&conn->lock);
}
