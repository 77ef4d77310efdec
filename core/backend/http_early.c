/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that are connected before libcurl asks for one. A handshake takes a round trip and
 * nothing else, so nobody waits for it here: connect() is begun, and the first request that needs a
 * new connection gets the socket, done or not; what it sends then goes out when it is.
 */
#include "backend/http_beside.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Servers give up on connections without a request: nginx after 60 s, others sooner. */
#define KEPT_NS (10 * HITHER_NS_PER_S)

void http_early_note_peer(struct http_backend *b, CURL *easy)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd);
	HITHER_LOCK_SCOPE(&b->lock);
	b->peer_len = sizeof b->peer;
	if (fd == CURL_SOCKET_BAD || getpeername(fd, (struct sockaddr *)&b->peer, &b->peer_len))
		b->peer_len = 0;
}

static int begin_connect(const struct http_backend *b)
{
	int fd = socket(b->peer.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (!connect(fd, (const struct sockaddr *)&b->peer, b->peer_len) || errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

bool http_early_connect(struct http_backend *b)
{
	HITHER_LOCK_SCOPE(&b->lock);
	if (!b->peer_len || b->early_count == HTTP_EARLY_MOST)
		return false;
	int fd = begin_connect(b);
	if (fd >= 0)
		b->early[b->early_count++] = (struct http_early){fd, hither_now_ns()};
	return fd >= 0;
}

/* Neither failed nor hung up by the server. */
static bool is_alive(const struct http_early *e)
{
	struct pollfd p = {.fd = e->fd, .events = POLLIN | POLLRDHUP};
	return hither_now_ns() - e->since_ns < KEPT_NS && poll(&p, 1, 0) == 0;
}

static int take(struct http_backend *b, const struct curl_sockaddr *to)
{
	HITHER_LOCK_SCOPE(&b->lock);
	if (to->addrlen != b->peer_len || memcmp(&to->addr, &b->peer, b->peer_len) != 0)
		return -1;
	while (b->early_count > 0) {
		struct http_early e = b->early[0]; /* the one that has been at it for longest */
		b->early_count--;
		memmove(b->early, b->early + 1, b->early_count * sizeof *b->early);
		if (is_alive(&e))
			return e.fd;
		close(e.fd);
	}
	return -1;
}

curl_socket_t http_early_open(void *user, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct http_slot *slot = user;
	if (slot->beside) /* the server's name has been looked up */
		http_beside_start(slot->beside);
	slot->early_fd = take(slot->b, to);
	return slot->early_fd >= 0 ? slot->early_fd
	                           : socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

int http_early_settled(void *user, curl_socket_t fd, curlsocktype purpose)
{
	struct http_slot *slot = user;
	bool early = slot->early_fd >= 0 && fd == slot->early_fd;
	slot->early_fd = -1;
	return early ? CURL_SOCKOPT_ALREADY_CONNECTED : CURL_SOCKOPT_OK;
}

void http_early_finish(struct http_backend *b)
{
	while (b->early_count > 0)
		close(b->early[--b->early_count].fd);
}
