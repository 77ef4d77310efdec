/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t socket_recv_by(struct export_stream *s, void *buf, size_t len, int flags)
{
	for (;;) {
		ssize_t n = recv(s->fd, buf, len, flags);
		if (n >= 0)
			return n;
		if (errno != EINTR)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
}

static ssize_t socket_recv(struct export_stream *s, void *buf, size_t len, enum export_wait wait)
{
	if (wait == EXPORT_WAIT_NOT)
		return socket_recv_by(s, buf, len, MSG_DONTWAIT);
	ssize_t n = wait == EXPORT_WAIT ? export_spin(s, buf, len) : -EAGAIN;
	if (n != -EAGAIN)
		return n;
	export_stream_sleeps(s);
	n = socket_recv_by(s, buf, len, wait == EXPORT_WAIT_ALL ? MSG_WAITALL : 0);
	export_stream_wakes(s);
	return n;
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
