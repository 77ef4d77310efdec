/* SPDX-License-Identifier: Apache-2.0 */
/* Listening, and accepting. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "export_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { BACKLOG = 128, PAUSE_MS = 100, FIRST_ACTIVATED_FD = 3 };

/* --- the list --- */

/* "127.0.0.1:10809", "[::1]:10809", "unix:/path"; of other kinds (vsock) "fd:3" */
static char *describe(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof address;
	char host[NI_MAXHOST], port[NI_MAXSERV], *text = NULL;
	int n = -1;
	if (getsockname(fd, (struct sockaddr *)&address, &len))
		return NULL;
	if (address.ss_family == AF_UNIX) {
		const struct sockaddr_un *un = (const void *)&address;
		n = asprintf(&text, "unix:%.*s", (int)sizeof un->sun_path, un->sun_path);
	} else if (!getnameinfo((struct sockaddr *)&address, len, host, sizeof host, port,
	                        sizeof port, NI_NUMERICHOST | NI_NUMERICSERV)) {
		bool v6 = address.ss_family == AF_INET6;
		n = asprintf(&text, "%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
	} else {
		n = asprintf(&text, "fd:%d", fd);
	}
	return n < 0 ? NULL : text;
}

/* Takes fd over, and path. */
static int add(struct hither_export *e, int fd, char *path, struct hither_error *err)
{
	if (e->listener_count == EXPORT_LISTENERS_MAX) {
		close(fd);
		free(path);
		return hither_fail(err, -ENOSPC, "export: at most %d places to listen at",
		                   EXPORT_LISTENERS_MAX);
	}
	struct export_listener *l = &e->listeners[e->listener_count++];
	*l = (struct export_listener){.fd = fd, .address = describe(fd), .path = path};
	return l->address ? 0 : hither_fail(err, -ENOMEM, "export: no memory");
}

void export_close_listeners(struct hither_export *e)
{
	for (size_t i = 0; i < e->listener_count; i++) {
		struct export_listener *l = &e->listeners[i];
		if (l->path)
			unlink(l->path);
		if (l->fd >= 0)
			close(l->fd);
		free(l->path);
		free(l->address);
	}
	e->listener_count = 0;
}

const char *hither_export_address(const struct hither_export *e, size_t number)
{
	return number < e->listener_count ? e->listeners[number].address : NULL;
}

/* --- UNIX sockets --- */

/* Is it a socket that nobody listens on any more? */
static bool is_dead(const struct sockaddr_un *address)
{
	struct stat st;
	if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	HITHER_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) &&
	       errno == ECONNREFUSED;
}

static int listen_unix(struct hither_export *e, const char *path, struct hither_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (!*path || strlen(path) >= sizeof address.sun_path)
		return hither_fail(err, -ENAMETOOLONG,
		                   "export: the path of a UNIX socket has 1 to %zu bytes: %s",
		                   sizeof address.sun_path - 1, path);
	memcpy(address.sun_path, path, strlen(path));
	HITHER_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return hither_fail(err, -errno, "export: socket: %s", strerror(errno));
	int r = bind(fd, (struct sockaddr *)&address, sizeof address) ? -errno : 0;
	if (r == -EADDRINUSE && is_dead(&address) && !unlink(path))
		r = bind(fd, (struct sockaddr *)&address, sizeof address) ? -errno : 0;
	if (!r && listen(fd, BACKLOG))
		r = -errno;
	if (r)
		return hither_fail(err, r, "export: listen at unix:%s: %s", path, strerror(-r));
	char *copy = strdup(path);
	if (!copy) {
		unlink(path);
		return hither_fail(err, -ENOMEM, "export: no memory");
	}
	return add(e, HITHER_TAKE(fd, -1), copy, err);
}

/* --- TCP --- */

static int listen_at(struct hither_export *e, const struct addrinfo *at, uint16_t *port,
                     struct hither_error *err)
{
	struct sockaddr_storage address;
	int one = 1, off = 0;
	memcpy(&address, at->ai_addr, at->ai_addrlen);
	in_port_t *own = at->ai_family == AF_INET6 ? &((struct sockaddr_in6 *)&address)->sin6_port
	                                           : &((struct sockaddr_in *)&address)->sin_port;
	if (!*own)
		*own = *port; /* any free one, but the same at all addresses */
	HITHER_CLOSE int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return hither_fail(err, -errno, "socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (at->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	socklen_t len = at->ai_addrlen;
	if (bind(fd, (struct sockaddr *)&address, len) || listen(fd, BACKLOG) ||
	    getsockname(fd, (struct sockaddr *)&address, &len))
		return hither_fail(err, -errno, "%s", strerror(errno));
	*port = *own;
	return add(e, HITHER_TAKE(fd, -1), NULL, err);
}

/* "HOST:PORT" into its parts; host "" is NULL. */
static bool split(char *text, char **host, char **port)
{
	char *colon = strrchr(text, ':');
	if (!colon || !colon[1])
		return false;
	*colon = 0;
	*port = colon + 1;
	size_t len = strlen(text);
	if (*text == '[' && text[len - 1] == ']') {
		text[len - 1] = 0;
		text++;
	}
	*host = *text ? text : NULL;
	return true;
}

static int listen_tcp(struct hither_export *e, const char *address, struct hither_error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
	HITHER_FREE char *text = strdup(address);
	char *host, *port;
	if (!text || !split(text, &host, &port))
		return hither_fail(err, -EINVAL,
		                   "export: %s: write HOST:PORT, [V6]:PORT, :PORT or unix:PATH",
		                   address);
	/* getaddrinfo() takes a number modulo 65536. */
	if (strspn(port, "0123456789") == strlen(port) && strtoul(port, NULL, 10) > UINT16_MAX)
		return hither_fail(err, -EINVAL, "export: %s: a port is at most %d", address,
		                   UINT16_MAX);
	int r = getaddrinfo(host, port, &hints, &list);
	if (r)
		return hither_fail(err, -EADDRNOTAVAIL, "export: listen at %s: %s", address,
		                   gai_strerror(r));
	size_t before = e->listener_count;
	uint16_t number = 0;
	for (const struct addrinfo *at = list; at; at = at->ai_next) {
		/* Where one address serves both families, the other is taken already. */
		int one = listen_at(e, at, &number, err);
		r = e->listener_count > before ? 0 : one;
	}
	freeaddrinfo(list);
	if (r)
		return hither_error_prefix(err, "export: listen at %s", address), r;
	return 0;
}

int hither_export_listen(struct hither_export *e, const char *address, struct hither_error *err)
{
	return strncmp(address, "unix:", 5) ? listen_tcp(e, address, err)
	                                    : listen_unix(e, address + 5, err);
}

/* --- sockets of others --- */

int hither_export_listen_fd(struct hither_export *e, int fd, struct hither_error *err)
{
	int listens = 0, type = 0;
	socklen_t len = sizeof listens;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) || !listens || type != SOCK_STREAM)
		return hither_fail(err, -EINVAL, "export: fd %d is no listening stream socket", fd);
	int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return add(e, fd, NULL, err);
}

/* sd_listen_fds(3) describes it. */
int hither_export_listen_activated(struct hither_export *e, struct hither_error *err)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	if (!pid || !fds || strtol(pid, NULL, 10) != getpid())
		return 0;
	long count = strtol(fds, NULL, 10);
	if (count < 1 || count > EXPORT_LISTENERS_MAX)
		return hither_fail(err, -EINVAL, "export: LISTEN_FDS is %s, not 1 to %d", fds,
		                   EXPORT_LISTENERS_MAX);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	for (int i = 0; i < count; i++) {
		int r = hither_export_listen_fd(e, FIRST_ACTIVATED_FD + i, err);
		if (r)
			return r;
	}
	return (int)count;
}

/* --- accepting --- */

/* At most one message a second: who connects in a loop must not fill a disk. */
static void log_refusal(struct hither_export *e, const char *why)
{
	uint64_t now = hither_now_ns();
	pthread_mutex_lock(&e->lock);
	bool quiet = e->logged_ns && now - e->logged_ns < HITHER_NS_PER_S;
	if (!quiet)
		e->logged_ns = now;
	pthread_mutex_unlock(&e->lock);
	if (!quiet)
		export_log(e, "a client is turned away: %s", why);
}

/* Is one more welcome? Else it is counted. */
static bool is_welcome(struct hither_export *e, bool admitted)
{
	HITHER_LOCK_SCOPE(&e->lock);
	if (admitted && e->stats.connected < e->options.max_connections)
		return true;
	e->stats.connections++;
	e->stats.refused++;
	return false;
}

/* False: out of descriptors or memory, so wait a little. */
static bool accept_from(struct hither_export *e, int listen_fd)
{
	struct hither_error err = {0};
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
		log_refusal(e, strerror(errno));
		return false;
	}
	if (fd < 0)
		return true; /* it has gone already */
	bool admitted = !e->options.admit || e->options.admit(e->options.admit_user, fd);
	if (!is_welcome(e, admitted)) {
		close(fd);
		log_refusal(e, admitted ? "there are too many" : "it is not on the list");
		return true;
	}
	if (!export_connection_start(e, fd, NULL, &err))
		return true;
	log_refusal(e, err.message);
	return false;
}

int hither_export_serve(struct hither_export *e, struct hither_error *err)
{
	struct pollfd fds[EXPORT_LISTENERS_MAX + 1];
	int pause_ms = -1;
	while (!atomic_load(&e->stopping)) {
		nfds_t count = pause_ms < 0 ? e->listener_count : 0;
		for (size_t i = 0; i < count; i++)
			fds[i] = (struct pollfd){.fd = e->listeners[i].fd, .events = POLLIN};
		fds[count] = (struct pollfd){.fd = e->stop_fd, .events = POLLIN};
		int n = poll(fds, count + 1, pause_ms);
		if (n < 0 && errno != EINTR)
			return hither_fail(err, -errno, "export: poll: %s", strerror(errno));
		pause_ms = -1;
		for (size_t i = 0; n > 0 && i < count; i++)
			if (fds[i].revents && !accept_from(e, fds[i].fd))
				pause_ms = PAUSE_MS;
	}
	export_close_listeners(e); /* so that who comes now is told at once */
	export_finish_connections(e);
	return 0;
}
