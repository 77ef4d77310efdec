/* SPDX-License-Identifier: Apache-2.0 */
#include "pass.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for as many descriptors as anybody of ours sends. */
union control {
	char bytes[CMSG_SPACE(PASS_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int pass_send(int socket, const void *msg, size_t len, const int *fds, size_t count)
{
	union control control = {0};
	struct iovec part = {(void *)msg, len};
	struct msghdr m = {.msg_iov = &part,
	                   .msg_iovlen = 1,
	                   .msg_control = control.bytes,
	                   .msg_controllen = CMSG_SPACE(count * sizeof *fds)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof *fds);
	memcpy(CMSG_DATA(c), fds, count * sizeof *fds);
	ssize_t n;
	while ((n = sendmsg(socket, &m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
		;
	return n < 0 ? -errno : (size_t)n == len ? 0 : -EPROTO;
}

/* Descriptors that came; more than fds has room for are closed. */
static size_t take_fds(struct msghdr *m, int *fds, size_t count)
{
	size_t came = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t here = (c->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
		for (size_t i = 0; i < here; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (came < count)
				fds[came] = fd;
			else
				close(fd);
			came++;
		}
	}
	return came;
}

int pass_receive(int socket, void *msg, size_t len, int *fds, size_t count)
{
	union control control;
	struct iovec part = {msg, len};
	struct msghdr m = {.msg_iov = &part,
	                   .msg_iovlen = 1,
	                   .msg_control = control.bytes,
	                   .msg_controllen = sizeof control.bytes};
	ssize_t n;
	for (size_t i = 0; i < count; i++)
		fds[i] = -1;
	while ((n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC | MSG_WAITALL)) < 0 && errno == EINTR)
		;
	if (n < 0)
		return -errno;
	bool whole = take_fds(&m, fds, count) == count && !(m.msg_flags & MSG_CTRUNC);
	if (whole && (size_t)n == len)
		return 0;
	for (size_t i = 0; i < count; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
	return -EPROTO;
}
