/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include "base/clock.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { POLL_FIRST_NS = 8000, POLL_MOST_NS = 64000 };

static ssize_t receive(int fd, void *buf, size_t len, int flags)
{
	for (;;) {
		ssize_t n = recv(fd, buf, len, flags);
		if (n >= 0)
			return n;
		if (errno != EINTR)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
}

/* With one the client could not go on meanwhile. */
static bool has_several_processors(void)
{
	static _Atomic long count;
	if (!count)
		count = sysconf(_SC_NPROCESSORS_ONLN);
	return count > 1;
}

/*
 * Who asks for one thing after the other is back sooner than a processor wakes up: such a one is
 * looked for a little while before this thread sleeps. For how long is learnt, as QEMU's event
 * loops do it: longer while that would have been enough, not at all where the wait was long.
 */
static ssize_t receive_patiently(struct export_stream *s, void *buf, size_t len)
{
	uint64_t begin = hither_now_ns(), now = begin;
	ssize_t n = -EAGAIN;
	while (s->poll_ns && n == -EAGAIN && now - begin < s->poll_ns) {
		n = receive(s->fd, buf, len, MSG_DONTWAIT);
		now = hither_now_ns();
	}
	if (n != -EAGAIN)
		return n;
	n = receive(s->fd, buf, len, 0);
	if (hither_now_ns() - begin > POLL_MOST_NS)
		s->poll_ns = 0;
	else if (s->poll_ns < POLL_MOST_NS && has_several_processors())
		s->poll_ns = s->poll_ns ? s->poll_ns * 2 : POLL_FIRST_NS;
	return n;
}

static ssize_t socket_recv(struct export_stream *s, void *buf, size_t len, enum export_wait wait)
{
	if (wait == EXPORT_WAIT)
		return receive_patiently(s, buf, len);
	return receive(s->fd, buf, len, wait == EXPORT_WAIT_ALL ? MSG_WAITALL : MSG_DONTWAIT);
}

static ssize_t socket_send(struct export_stream *s, const struct iovec *parts, int count)
{
	/* sendmsg only reads from them. */
	struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
	                         .msg_iovlen = (size_t)count};
	for (;;) {
		ssize_t n = sendmsg(s->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0)
			return n;
		if (errno != EINTR)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
}

static const struct export_stream_ops socket_ops = {.recv = socket_recv, .send = socket_send};

void export_stream_init(struct export_stream *s, int fd)
{
	*s = (struct export_stream){.ops = &socket_ops, .fd = fd};
}

void export_stream_finish(struct export_stream *s)
{
	if (s->tls)
		export_tls_finish(s);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

ssize_t export_stream_recv(struct export_stream *s, void *buf, size_t len, enum export_wait wait)
{
	return s->tls ? export_tls_recv(s, buf, len, wait) : s->ops->recv(s, buf, len, wait);
}

ssize_t export_stream_send(struct export_stream *s, const struct iovec *parts, int count)
{
	return s->tls ? export_tls_send(s, parts, count) : s->ops->send(s, parts, count);
}

int export_stream_flush(struct export_stream *s)
{
	return s->tls ? export_tls_flush(s) : 0;
}
