/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection's thread: shake hands, then
 *
 *     take requests from the input -> submit -> send what is answered -> receive, or wait
 *
 * Where nothing is under way it waits in recv() itself (after a short look, spin.c): a request that
 * comes alone costs one recv(), one access to the store and one send(). Else it polls, for input,
 * for room in the stream, and for what workers bring to an end.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "export_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STACK_BYTES = 1 << 20, SOCKET_BYTES = 2 << 20 };

void export_kick_locked(struct export_connection *c)
{
	if (!c->asleep || !(c->eager || c->unsent || c->broken))
		return;
	c->asleep = false;
	eventfd_write(c->wake_fd, 1);
}

/* --- waiting --- */

struct outlook {
	bool reads; /* input is wanted */
	bool idle;  /* nothing is under way: wait for input as long as it takes */
	bool over;  /* all that was begun has ended, and is sent */
	uint64_t ends;
};

/* ends: what it was before the last step. */
static struct outlook look(struct export_connection *c, uint64_t ends)
{
	bool room = export_has_room(c) || (c->receiving == EXPORT_PAYLOAD && c->payload) ||
	            c->receiving == EXPORT_SKIP;
	struct outlook o = {0};
	pthread_mutex_lock(&c->lock);
	/* A step that found no room has not seen what was sent after it. */
	o.ends = c->starved ? ends : c->ends;
	o.idle = !c->in_flight && !c->work && !c->output.head && !c->unsent && !c->sending;
	o.over = c->broken ? !c->in_flight && !c->sending : o.idle;
	o.reads = room && !c->hung_up && !c->broken;
	pthread_mutex_unlock(&c->lock);
	return o;
}

static uint64_t ends_of(struct export_connection *c)
{
	HITHER_LOCK_SCOPE(&c->lock);
	return c->ends;
}

/* Milliseconds to wait; -1: for ever. */
static int patience(const struct export_connection *c, uint64_t drain_until_ns)
{
	uint32_t idle = c->server->options.idle_ms;
	if (drain_until_ns) {
		uint64_t now = hither_now_ns();
		return now >= drain_until_ns ? 0
		                             : (int)((drain_until_ns - now) / HITHER_NS_PER_MS + 1);
	}
	return idle ? (int)idle : -1;
}

/* 0, or -ETIMEDOUT: the client neither sent nor took anything for too long. */
static int wait_for_events(struct export_connection *c, struct outlook o, int timeout_ms)
{
	struct pollfd fds[2] = {{.fd = c->wake_fd, .events = POLLIN}, {.fd = c->stream.fd}};
	uint64_t count;
	pthread_mutex_lock(&c->lock);
	if (c->ends != o.ends) { /* what o says is old */
		pthread_mutex_unlock(&c->lock);
		return 0;
	}
	bool stuck = c->unsent;
	fds[1].events = (short)((o.reads ? POLLIN : 0) | (stuck ? POLLOUT : 0));
	if (!fds[1].events)
		fds[1].fd = -1;                 /* it would tell of a hang-up again and again */
	bool mine = c->in_flight > 0 && !stuck; /* then it is us who is slow */
	c->asleep = true;
	c->eager = !o.reads || c->work || c->hung_up;
	pthread_mutex_unlock(&c->lock);
	export_stream_sleeps(&c->stream);
	int n = poll(fds, 2, mine ? -1 : timeout_ms);
	export_stream_wakes(&c->stream);
	pthread_mutex_lock(&c->lock);
	c->asleep = false;
	if (fds[1].revents & (POLLOUT | POLLERR | POLLHUP))
		c->unsent = false; /* try again */
	pthread_mutex_unlock(&c->lock);
	if (fds[0].revents)
		eventfd_read(c->wake_fd, &count);
	return n == 0 ? -ETIMEDOUT : 0;
}

/* --- receiving --- */

/* Bytes that have come; 0: none for now; -errno, -ECONNRESET at the end too. */
static ssize_t receive(struct export_connection *c, bool wait)
{
	void *at;
	size_t room = export_payload_room(c, &at);
	bool direct = room > 0;
	if (!direct) {
		if (c->input_first == c->input_end)
			c->input_first = c->input_end = 0;
		if (c->input_first) {
			memmove(c->input, c->input + c->input_first, c->input_end - c->input_first);
			c->input_end -= c->input_first;
			c->input_first = 0;
		}
		at = c->input + c->input_end;
		room = EXPORT_INPUT_BYTES - c->input_end;
		/* What follows a header like the last one goes straight to where it is wanted. */
		if (c->bulk && c->receiving == EXPORT_HEADER && c->input_end < NBD_REQUEST_BYTES)
			room = NBD_REQUEST_BYTES - c->input_end;
		if (!room)
			return 0;
	}
	if (wait) {
		c->stream.spin.single = c->request_count - c->requests_seen == 1;
		c->requests_seen = c->request_count; /* which this thread counts */
	}
	ssize_t n = export_stream_recv(&c->stream, at, room,
	                               !wait    ? EXPORT_WAIT_NOT
	                               : direct ? EXPORT_WAIT_ALL
	                                        : EXPORT_WAIT);
	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return n;
	if (direct)
		export_payload_arrived(c, (size_t)n);
	else
		c->input_end += (size_t)n;
	return n;
}

static void end_input(struct export_connection *c)
{
	c->hung_up = true;
}

/* Read some, or wait for something to change. -errno: log why, it is over. */
static int receive_or_wait(struct export_connection *c, bool stepped, struct outlook o,
                           uint64_t drain_until_ns)
{
	bool wait = o.idle && o.reads && !stepped;
	ssize_t n = -EAGAIN;
	if (o.reads) {
		n = receive(c, wait);
		if (n > 0)
			return 0;
		if (n < 0 && n != -EAGAIN) {
			end_input(c);
			return 0;
		}
		if (wait && !atomic_load(&c->ending))
			return -ETIMEDOUT;
	}
	if (stepped)
		return 0;
	return wait_for_events(c, o, patience(c, drain_until_ns));
}

/* --- transmission --- */

static void transmit(struct export_connection *c)
{
	struct hither_error err = {0};
	uint64_t drain_until_ns = 0;
	for (;;) {
		if (atomic_load(&c->ending) && !drain_until_ns) {
			end_input(c);
			drain_until_ns =
			        hither_now_ns() + c->server->options.drain_ms * HITHER_NS_PER_MS;
		}
		if (export_take_requests(c, &err)) {
			export_log(c->server, "a client is dropped: %s", err.message);
			end_input(c);
		}
		uint64_t ends = ends_of(c);
		bool stepped = export_step(c);
		export_send(c);
		struct outlook o = look(c, ends);
		if (o.over && (c->hung_up || c->broken))
			return;
		if (receive_or_wait(c, stepped, o, drain_until_ns) == -ETIMEDOUT) {
			export_log(c->server, "a client is dropped: it neither sends nor takes "
			                      "anything");
			pthread_mutex_lock(&c->lock);
			c->broken = true;
			c->unsent = false;
			pthread_mutex_unlock(&c->lock);
		}
	}
}

static void clean_up(struct export_connection *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->receives)
		export_request_release_locked(c, c->receives);
	if (c->refused)
		export_request_release_locked(c, c->refused);
	if (c->payload)
		export_piece_release_locked(c, c->payload);
	while (c->work) {
		struct export_request *r = c->work;
		c->work = r->next;
		export_request_release_locked(c, r);
	}
	pthread_mutex_unlock(&c->lock);
	export_memory_finish(c);
}

/* --- life --- */

static struct export_connection *connection_create(struct hither_export *e,
                                                   struct export_volume *volume)
{
	struct export_connection *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->input = malloc(EXPORT_INPUT_BYTES); /* pages that are not used cost nothing */
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!c->input || c->wake_fd < 0) {
		if (c->wake_fd >= 0)
			close(c->wake_fd);
		free(c->input);
		free(c);
		return NULL;
	}
	c->server = e;
	c->volume = volume;
	c->stream.fd = -1;
	c->output.tail = &c->output.head;
	c->work_tail = &c->work;
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

static void connection_destroy(struct export_connection *c)
{
	pthread_mutex_destroy(&c->lock);
	close(c->wake_fd);
	free(c->input);
	free(c);
}

static void add_locked(struct hither_export *e, struct export_connection *c)
{
	c->next = e->connections;
	c->prev = NULL;
	if (c->next)
		c->next->prev = c;
	e->connections = c;
	e->stats.connections++;
	e->stats.connected++;
	if (atomic_load(&e->stopping))
		atomic_store(&c->ending, true);
}

void export_connection_count(struct export_connection *c, struct hither_export_stats *s)
{
	HITHER_LOCK_SCOPE(&c->lock);
	s->requests += c->request_count;
	s->read_bytes += c->read_bytes;
	s->written_bytes += c->written_bytes;
}

/* The export may be gone when this returns. */
static void leave(struct export_connection *c)
{
	struct hither_export *e = c->server;
	pthread_mutex_lock(&e->lock);
	export_stream_finish(&c->stream); /* not before: who stops us shuts this descriptor down */
	if (c->prev)
		c->prev->next = c->next;
	else
		e->connections = c->next;
	if (c->next)
		c->next->prev = c->prev;
	export_connection_count(c, &e->stats);
	e->stats.connected--;
	connection_destroy(c);
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

static void live(struct export_connection *c)
{
	struct hither_error err = {0};
	int r = c->volume ? 0 : export_handshake(c, &err);
	if (!r) {
		uint32_t idle = c->server->options.idle_ms;
		struct timeval limit = {.tv_sec = idle / 1000, .tv_usec = idle % 1000 * 1000};
		if (idle && c->stream.fd >= 0)
			setsockopt(c->stream.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		if (c->stream.fd >= 0)
			c->stream.awake = &c->server->awake;
		export_stream_wakes(&c->stream);
		transmit(c);
		export_stream_sleeps(&c->stream);
	} else if (r != -ECONNRESET) {
		export_log(c->server, "a client is dropped in its handshake: %s", err.message);
		pthread_mutex_lock(&c->server->lock);
		c->server->stats.refused++;
		pthread_mutex_unlock(&c->server->lock);
	}
	clean_up(c);
}

static void *connection_main(void *arg)
{
	struct export_connection *c = arg;
	/* Its creator holds this until c->thread is known. */
	pthread_mutex_lock(&c->server->lock);
	pthread_mutex_unlock(&c->server->lock);
	live(c);
	leave(c);
	return NULL;
}

/* Those that do not apply to this kind of socket fail, and that is all right. */
static void set_socket_options(int fd)
{
	int one = 1, bytes = SOCKET_BYTES;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK); /* who waits does so in recv() */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	/* TCP sizes its buffers itself, and better. */
	struct sockaddr_storage address;
	socklen_t len = sizeof address;
	if (!getsockname(fd, (struct sockaddr *)&address, &len) && address.ss_family == AF_UNIX &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static int start_thread_locked(struct export_connection *c)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int r = pthread_create(&c->thread, &attr, connection_main, c);
	pthread_attr_destroy(&attr);
	return r;
}

int export_connection_start(struct hither_export *e, int fd, struct export_volume *volume,
                            struct hither_error *err)
{
	struct export_connection *c = connection_create(e, volume);
	if (!c) {
		int r = -errno;
		close(fd);
		return hither_fail(err, r, "export: no room for a connection: %s", strerror(-r));
	}
	set_socket_options(fd);
	export_stream_init(&c->stream, fd);
	pthread_mutex_lock(&e->lock);
	int r = start_thread_locked(c);
	if (!r)
		add_locked(e, c);
	pthread_mutex_unlock(&e->lock);
	if (!r)
		return 0;
	export_stream_finish(&c->stream);
	connection_destroy(c);
	return hither_fail(err, -r, "export: start a thread: %s", strerror(r));
}

void export_connection_run(struct hither_export *e, const struct export_stream_ops *ops,
                           struct export_volume *volume, bool structured)
{
	struct export_connection *c = connection_create(e, volume);
	if (!c)
		return;
	c->structured_replies = structured && volume;
	memset(c->contexts, c->structured_replies, sizeof c->contexts);
	c->stream.ops = ops;
	c->thread = pthread_self();
	pthread_mutex_lock(&e->lock);
	add_locked(e, c);
	pthread_mutex_unlock(&e->lock);
	live(c);
	leave(c);
}
