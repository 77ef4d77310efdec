/* SPDX-License-Identifier: Apache-2.0 */
#include "listen.h"

#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { BACKLOG = 64 };

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int parse_port(const char *text, uint16_t *out)
{
	char *end;
	if (*text < '0' || *text > '9')
		return -EINVAL;
	unsigned long port = strtoul(text, &end, 10);
	*out = (uint16_t)port;
	return *end || port > UINT16_MAX ? -EINVAL : 0;
}

static int parse(const char *where, union address *a, socklen_t *len, struct hither_error *err)
{
	const char *colon = strrchr(where, ':');
	size_t host = colon ? (size_t)(colon - where) : 0;
	uint16_t port;
	*a = (union address){0};
	if (!colon || parse_port(colon + 1, &port))
		return hither_fail(err, -EINVAL, "%s is not HOST:PORT", where);
	if (host == 5 && !strncmp(where, "[::1]", 5)) {
		a->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
		                              .sin6_port = htons(port),
		                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		*len = sizeof a->v6;
		return 0;
	}
	bool v4 = !host || (host == 9 &&
	                    (!strncmp(where, "127.0.0.1", 9) || !strncmp(where, "localhost", 9)));
	if (!v4)
		return hither_fail(err, -EINVAL,
		                   "%s: the endpoint is for this machine only: 127.0.0.1:PORT or "
		                   "[::1]:PORT",
		                   where);
	a->v4 = (struct sockaddr_in){.sin_family = AF_INET,
	                             .sin_port = htons(port),
	                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	*len = sizeof a->v4;
	return 0;
}

int listen_loopback(const char *where, int *out, uint16_t *port, char text[LISTEN_TEXT_BYTES],
                    struct hither_error *err)
{
	union address a;
	socklen_t len;
	int r = parse(where, &a, &len, err), one = 1;
	if (r)
		return r;
	AUTO_CLOSE int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
	    bind(fd, &a.any, len) || listen(fd, BACKLOG) || getsockname(fd, &a.any, &len))
		return hither_fail(err, -errno, "listen at %s: %s", where, strerror(errno));
	bool v6 = a.any.sa_family == AF_INET6;
	*port = ntohs(v6 ? a.v6.sin6_port : a.v4.sin_port);
	snprintf(text, LISTEN_TEXT_BYTES, "%s:%u", v6 ? "[::1]" : "127.0.0.1", *port);
	*out = TAKE(fd, -1);
	return 0;
}
