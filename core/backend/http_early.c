/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that are connected before libcurl asks for one. A handshake takes a round trip and
 * nothing else, so nobody waits for it here: connect() is begun, and the first request that needs a
 * new connection gets the socket. libcurl takes one that is not connected yet for one that failed,
 * so such a request waits for it first.
 */
#include "backend/http_beside.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Servers give up on connections without a request: nginx after 60 s, others sooner, and say so.
 * What lies between may forget them without a word, but not so soon. */
#define KEPT_NS (55 * HITHER_NS_PER_S)
/* When it would send its SYN again (RFC 6298, 2.1) a new socket is as quick. */
#define LOST_NS HITHER_NS_PER_S

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

bool http_early_is_open(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};
	return fd >= 0 && poll(&p, 1, 0) == 0;
}

enum state { CONNECTING, CONNECTED, GONE };

/* Gone: it has failed, or the server hung up. */
static enum state state_of(const struct http_early *e)
{
	struct pollfd p = {.fd = e->fd, .events = POLLIN | POLLOUT | POLLRDHUP};
	uint64_t age = hither_now_ns() - e->since_ns;
	int r = poll(&p, 1, 0);
	if (r == 0)
		return age < LOST_NS ? CONNECTING : GONE;
	return p.revents == POLLOUT && age < KEPT_NS ? CONNECTED : GONE;
}

uint32_t http_early_count_locked(const struct http_backend *b)
{
	uint32_t count = 0;
	for (size_t i = 0; i < b->early_count; i++)
		count += state_of(&b->early[i]) != GONE;
	return count;
}

/* The one that has been at it for longest; fd -1: there is none (connected: that is so far). */
static struct http_early take(struct http_backend *b, bool connected)
{
	HITHER_LOCK_SCOPE(&b->lock);
	while (b->early_count > 0) {
		struct http_early e = b->early[0];
		enum state state = state_of(&e);
		if (connected && state == CONNECTING)
			break;
		b->early_count--;
		memmove(b->early, b->early + 1, b->early_count * sizeof *b->early);
		if (state != GONE)
			return e;
		close(e.fd);
	}
	return (struct http_early){.fd = -1};
}

static bool is_to_peer(struct http_backend *b, const struct curl_sockaddr *to)
{
	HITHER_LOCK_SCOPE(&b->lock);
	return to->addrlen == b->peer_len && !memcmp(&to->addr, &b->peer, b->peer_len);
}

void http_early_await(struct http_request *x)
{
	struct http_slot *slot = x->slot;
	struct http_early e = {.fd = -1};
	if (!slot->used)
		e = take(x->b, false);
	while (e.fd >= 0 && state_of(&e) == CONNECTING && !http_request_is_unwanted(x)) {
		uint64_t age_ns = hither_now_ns() - e.since_ns;
		struct curl_waitfd wait = {.fd = e.fd, .events = CURL_WAIT_POLLOUT};
		if (age_ns < LOST_NS)
			curl_multi_poll(slot->multi, &wait, 1,
			                (int)((LOST_NS - age_ns) / HITHER_NS_PER_MS) + 1, NULL);
	}
	if (e.fd >= 0 && state_of(&e) != CONNECTED) {
		close(e.fd);
		e.fd = -1;
	}
	slot->early_fd = e.fd;
}

void http_early_drop(struct http_slot *slot)
{
	if (slot->early_fd >= 0)
		close(slot->early_fd);
	slot->early_fd = -1;
}

curl_socket_t http_early_open(void *user, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct http_slot *slot = user;
	if (slot->beside) /* the server's name has been looked up */
		http_beside_start(slot->beside);
	bool suits = is_to_peer(slot->b, to);
	if (suits && slot->early_fd < 0) /* its connection was closed meanwhile */
		slot->early_fd = take(slot->b, true).fd;
	slot->fd = suits && slot->early_fd >= 0
	                   ? slot->early_fd
	                   : socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
	return slot->fd;
}

int http_early_settled(void *user, curl_socket_t fd, curlsocktype purpose)
{
	struct http_slot *slot = user;
	bool early = slot->early_fd >= 0 && fd == slot->early_fd;
	if (early)
		slot->early_fd = -1;
	return early ? CURL_SOCKOPT_ALREADY_CONNECTED : CURL_SOCKOPT_OK;
}

/*
 * What nobody wants any more shall not take the line from what is asked for instead: without this
 * the kernel would go on with a request that was lost, and the server answer it.
 */
int http_early_closed(void *user, curl_socket_t fd)
{
	struct http_slot *slot = user;
	const struct linger at_once = {.l_onoff = 1};
	if (slot->aborts)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	if (slot->fd == fd)
		slot->fd = -1;
	return close(fd);
}

void http_early_finish(struct http_backend *b)
{
	while (b->early_count > 0)
		close(b->early[--b->early_count].fd);
}
