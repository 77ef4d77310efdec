/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/http_test_server.h"

#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
	struct http_server *server;
	int fd;
	int phase;
	char text[4096];
	char path[256];
	uint64_t first, last; /* of the range, cut to the resource */
	bool is_last;         /* the last bytes were asked for, however many there are */
};

/* --- sending; false: the client is gone --- */

static bool send_all(int fd, const void *buf, size_t len)
{
	for (const char *at = buf; len;) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

__attribute__((format(printf, 2, 3))) static bool say(const struct request *r, const char *fmt, ...)
{
	char text[1024];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	CHECK(n > 0 && (size_t)n < sizeof text);
	return send_all(r->fd, text, (size_t)n);
}

static bool send_bytes(const struct request *r, uint64_t first, uint64_t count)
{
	unsigned char buf[65536];
	while (count) {
		size_t n = count < sizeof buf ? (size_t)count : sizeof buf;
		for (size_t i = 0; i < n; i++)
			buf[i] = served_byte(first + i);
		if (!send_all(r->fd, buf, n))
			return false;
		first += n;
		count -= n;
	}
	return true;
}

/* Until the client hangs up. */
static bool stall(const struct request *r)
{
	struct pollfd p = {.fd = r->fd, .events = POLLIN};
	atomic_fetch_add(&r->server->stalled, 1);
	poll(&p, 1, -1);
	return false;
}

static uint64_t count(const struct request *r)
{
	return r->last - r->first + 1;
}

static bool bare(const struct request *r);
static bool cut(const struct request *r);
static bool whole_large(const struct request *r);

/* Status line and headers of a good 206; extra: whole lines. */
static bool head_206(const struct request *r, const char *extra)
{
	return say(r,
	           "HTTP/1.1 206 Partial Content\r\nContent-Length: %llu\r\n"
	           "Content-Range: bytes %llu-%llu/%d\r\n%s\r\n",
	           (unsigned long long)count(r), (unsigned long long)r->first,
	           (unsigned long long)r->last, SERVED_BYTES, extra);
}

static bool range_206(const struct request *r, const char *extra)
{
	return head_206(r, extra) && send_bytes(r, r->first, count(r));
}

static bool status(const struct request *r, const char *line, const char *extra)
{
	return say(r, "HTTP/1.1 %s\r\nContent-Length: 4\r\n%s\r\nwhy\n", line, extra);
}

/* --- ways to answer; false: hang up --- */

static const char date_1[] = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
static const char date_2[] = "Last-Modified: Sun, 06 Nov 1994 08:49:38 GMT\r\n";

/* Is it one of those that go out before the resource is known, and not the first? */
static bool is_early(const struct request *r)
{
	return (r->is_last || r->first > 0) && !strstr(r->text, "If-Match:");
}

/* A server as it should be; phase is its version. */
static bool good(const struct request *r)
{
	char etag[64], match[64], none_match[64];
	snprintf(etag, sizeof etag, "ETag: \"v%d\"\r\n", r->phase);
	snprintf(match, sizeof match, "If-Match: \"v%d\"\r\n", r->phase);
	snprintf(none_match, sizeof none_match, "If-None-Match: \"v%d\"\r\n", r->phase);
	if (strstr(r->text, "If-Match:") && !strstr(r->text, match))
		return status(r, "412 Precondition Failed", "");
	if (strstr(r->text, none_match))
		return say(r, "HTTP/1.1 304 Not Modified\r\n%s\r\n", etag);
	return range_206(r, etag);
}

/* Answers those beside the first with other bytes, of another version or, in phase 1, size. */
static bool early_other(const struct request *r)
{
	static const char other[] = "other bytes";
	if (!is_early(r))
		return range_206(r, "ETag: \"v0\"\r\n");
	say(r,
	    "HTTP/1.1 206 Partial Content\r\nContent-Length: %llu\r\n"
	    "Content-Range: bytes %llu-%llu/%d\r\nETag: \"%s\"\r\n\r\n",
	    (unsigned long long)count(r), (unsigned long long)r->first, (unsigned long long)r->last,
	    r->phase ? SERVED_BYTES + 1 : SERVED_BYTES, r->phase ? "v0" : "other");
	for (uint64_t at = 0; at < count(r); at += sizeof other)
		if (!send_all(r->fd, other,
		              count(r) - at < sizeof other ? count(r) - at : sizeof other))
			return false;
	return true;
}
/* The same in other ways; phase 0: silent, 1: cut, 2: the whole, 3: a refusal, 4: none at all. */
static bool early_bad(const struct request *r)
{
	if (!is_early(r))
		return range_206(r, "ETag: \"v0\"\r\n");
	switch (r->phase) {
	case 0:
		return stall(r);
	case 1:
		return cut(r);
	case 2:
		return whole_large(r);
	case 3:
		return status(r, "416 Range Not Satisfiable", "Content-Range: bytes */300000\r\n");
	default:
		return false;
	}
}
/* Takes a range of the last bytes for one from the front, as servers once did. */
static bool early_front(const struct request *r)
{
	struct request front = *r;
	if (r->is_last) {
		front.last = r->last - r->first;
		front.first = 0;
	}
	return range_206(&front, "");
}

/* The ranges that were asked for, if they are several; else NULL. */
static const char *ranges_of(const struct request *r)
{
	const char *at = strstr(r->text, "\r\nRange: bytes=") + 2;
	const char *comma = strchr(at, ',');
	return comma && comma < strstr(at, "\r\n") ? strchr(at, '=') + 1 : NULL;
}

/*
 * Several ranges in one answer; phase 1: hangs up after the first; phase 2: as phase 0, but in an
 * order of its own; phase 3: the parts lack their last byte; phase 4: silent after the first; phase
 * 5: the last part lacks its last byte.
 */
static bool several(const struct request *r)
{
	unsigned long long first, last;
	const char *at = ranges_of(r);
	int used;
	if (!at)
		return range_206(r, "");
	/* What it sends ends with the connection. */
	say(r, "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n"
	       "Content-Type: multipart/byteranges; boundary=XYZ\r\n\r\n");
	if (r->phase == 2)
		at = strchr(at, ',') + 1;
	for (; sscanf(at, "%llu-%llu%n", &first, &last, &used) == 2;) {
		bool is_short = r->phase == 3 || (r->phase == 5 && at[used] != ',');
		say(r,
		    "\r\n--XYZ\r\nContent-Type: x/y\r\nContent-Range: bytes %llu-%llu/%d\r\n\r\n",
		    first, last, SERVED_BYTES);
		send_bytes(r, first, last - first + !is_short);
		if (r->phase == 1)
			return false;
		if (r->phase == 4)
			return stall(r);
		at += used;
		if (*at++ != ',')
			break;
	}
	say(r, "\r\n--XYZ--\r\n");
	return false;
}

/* /refuses/STATUS answers so when several ranges are asked for. */
static bool refuses(const struct request *r)
{
	char line[64], total[64];
	snprintf(line, sizeof line, "%d No", atoi(r->path + strlen("/refuses/")));
	snprintf(total, sizeof total, "Content-Range: bytes */%d\r\n", SERVED_BYTES);
	return ranges_of(r) ? status(r, line, total) : bare(r);
}

/* Knows no conditions. */
static bool ignorant(const struct request *r)
{
	return range_206(r, r->phase ? "ETag: \"v1\"\r\n" : "ETag: \"v0\"\r\n");
}
static bool weak(const struct request *r)
{
	return range_206(r, r->phase ? "ETag: W/\"v1\"\r\n" : "ETag: W/\"v0\"\r\n");
}
static bool dated(const struct request *r)
{
	if (strstr(r->text, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"))
		return say(r, "HTTP/1.1 304 Not Modified\r\n%s\r\n", r->phase ? date_2 : date_1);
	return range_206(r, r->phase ? date_2 : date_1);
}
static bool bare(const struct request *r)
{
	return range_206(r, "");
}
static bool gone(const struct request *r)
{
	return r->phase ? status(r, "410 Gone", "") : bare(r);
}
static bool shrinks(const struct request *r)
{
	return r->phase ? status(r, "416 No", "Content-Range: bytes */100\r\n") : bare(r);
}

static bool whole_small(const struct request *r)
{
	if (strstr(r->text, "If-None-Match: \"w\""))
		return say(r, "HTTP/1.1 304 Not Modified\r\nETag: \"w\"\r\n\r\n");
	return say(r, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: \"w\"\r\n\r\n",
	           SERVED_BYTES) &&
	       send_bytes(r, 0, SERVED_BYTES);
}
static bool whole_chunked(const struct request *r)
{
	return say(r, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
	           SERVED_BYTES) &&
	       send_bytes(r, 0, SERVED_BYTES) && say(r, "\r\n0\r\n\r\n");
}
static bool whole_cut(const struct request *r)
{
	say(r, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", SERVED_BYTES);
	send_bytes(r, 0, SERVED_BYTES / 2);
	return false;
}
static bool whole_large(const struct request *r)
{
	return say(r, "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n") &&
	       send_bytes(r, 0, 2000000);
}
static bool whole_large_chunked(const struct request *r)
{
	return say(r, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", 2000000) &&
	       send_bytes(r, 0, 2000000) && say(r, "\r\n0\r\n\r\n");
}
/* Where its body ends cannot be told from a lost connection. */
static bool whole_unframed(const struct request *r)
{
	say(r, "HTTP/1.1 200 OK\r\n\r\n");
	send_bytes(r, 0, 1000);
	return false;
}
static bool forgets_ranges(const struct request *r)
{
	if (!r->phase)
		return range_206(r, "ETag: \"w\"\r\n");
	return say(r,
	           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"w\"\r\n\r\n5\r\n") &&
	       stall(r);
}

static bool empty_416(const struct request *r)
{
	return status(r, "416 Range Not Satisfiable",
	              "Content-Range: bytes */0\r\nETag: \"e\"\r\n");
}
static bool empty_200(const struct request *r)
{
	return say(r, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

static bool cut(const struct request *r)
{
	head_206(r, "");
	send_bytes(r, r->first, count(r) / 2);
	return false;
}
static bool stalls(const struct request *r)
{
	return head_206(r, "") && send_bytes(r, r->first, count(r) / 2) && stall(r);
}
static bool silent(const struct request *r)
{
	return r->phase ? stall(r) : bare(r);
}
/* Slower than anybody's patience as a whole, but never silent for long. */
static bool trickle(const struct request *r)
{
	struct pollfd p = {.fd = r->fd, .events = POLLIN};
	bool alive = head_206(r, "");
	uint64_t piece = count(r) / 8 + 1;
	for (uint64_t at = r->first; alive && at <= r->last; at += piece) {
		uint64_t left = r->last - at + 1;
		poll(&p, 1, 60);
		alive = send_bytes(r, at, left < piece ? left : piece);
	}
	return alive;
}

static bool wrong_range(const struct request *r)
{
	unsigned long long shift = r->phase ? 1 : 0;
	return say(r,
	           "HTTP/1.1 206 Partial Content\r\nContent-Length: %llu\r\n"
	           "Content-Range: bytes %llu-%llu/%d\r\n\r\n",
	           (unsigned long long)count(r), (unsigned long long)r->first + shift,
	           (unsigned long long)r->last + shift, SERVED_BYTES) &&
	       send_bytes(r, r->first, count(r));
}
static bool wrong_total(const struct request *r)
{
	return say(r,
	           "HTTP/1.1 206 Partial Content\r\nContent-Length: %llu\r\n"
	           "Content-Range: bytes %llu-%llu/%d\r\n\r\n",
	           (unsigned long long)count(r), (unsigned long long)r->first,
	           (unsigned long long)r->last, SERVED_BYTES + r->phase) &&
	       send_bytes(r, r->first, count(r));
}
static bool no_total(const struct request *r)
{
	return say(r,
	           "HTTP/1.1 206 Partial Content\r\nContent-Length: %llu\r\n"
	           "Content-Range: bytes %llu-%llu/*\r\n\r\n",
	           (unsigned long long)count(r), (unsigned long long)r->first,
	           (unsigned long long)r->last) &&
	       send_bytes(r, r->first, count(r));
}
static bool encoded(const struct request *r)
{
	return range_206(r, "Content-Encoding: gzip\r\n");
}
static bool multipart(const struct request *r)
{
	return range_206(r, "Content-Type: multipart/byteranges; boundary=x\r\n");
}
/* Chunked, more than was asked for, and never ends. */
static bool babbles(const struct request *r)
{
	return say(r,
	           "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n"
	           "Content-Range: bytes %llu-%llu/%d\r\n\r\n%llx\r\n",
	           (unsigned long long)r->first, (unsigned long long)r->last, SERVED_BYTES,
	           (unsigned long long)count(r) + 1000) &&
	       send_bytes(r, r->first, count(r) + 1000) && stall(r);
}
static bool garbage(const struct request *r)
{
	say(r, "%s", "220 smtp.example.org ESMTP ready\r\n");
	return false;
}
static bool hangs_up(const struct request *r)
{
	return r->phase ? false : bare(r);
}

static bool busy(const struct request *r)
{
	return status(r, "503 Service Unavailable", "Retry-After: 7\r\n");
}
static bool busy_once(const struct request *r)
{
	return atomic_exchange(&r->server->phase, 0)
	               ? status(r, "503 Service Unavailable", "Retry-After: 1\r\n")
	               : bare(r);
}
static bool busy_until(const struct request *r)
{
	return status(r, "429 Too Many Requests",
	              "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	              "Retry-After: Sun, 06 Nov 1994 08:50:07 GMT\r\n");
}
static bool private(const struct request *r)
{
	/* me:secret */
	return strstr(r->text, "Authorization: Basic bWU6c2VjcmV0\r\n")
	               ? bare(r)
	               : status(r, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n");
}

static bool redirect(const struct request *r, const char *to)
{
	char header[300];
	snprintf(header, sizeof header, "Location: %s\r\n", to);
	return status(r, "302 Found", header);
}
static bool moved(const struct request *r)
{
	return redirect(r, "/good");
}
static bool endless(const struct request *r)
{
	return redirect(r, "/endless?and=on");
}
static bool nowhere(const struct request *r)
{
	return status(r, "302 Found", "");
}
static bool to_file(const struct request *r)
{
	return redirect(r, "file:///etc/hostname");
}
static bool away(const struct request *r)
{
	char to[64];
	snprintf(to, sizeof to, "http://127.0.0.1:%d/good", atomic_load(&r->server->peer_port));
	return redirect(r, to);
}
/* Leads to a ticket that is good in this phase only. */
static bool signed_url(const struct request *r)
{
	char to[64];
	snprintf(to, sizeof to, "/ticket/%d", r->phase);
	return redirect(r, to);
}
static bool ticket(const struct request *r)
{
	return atoi(r->path + strlen("/ticket/")) == r->phase ? bare(r)
	                                                      : status(r, "403 Forbidden", "");
}

static const struct {
	const char *path;
	bool (*answer)(const struct request *r);
} paths[] = {
        {"/good", good},
        {"/early-other", early_other},
        {"/early-bad", early_bad},
        {"/early-front", early_front},
        {"/several", several},
        {"/refuses", refuses},
        {"/ignorant", ignorant},
        {"/weak", weak},
        {"/dated", dated},
        {"/bare", bare},
        {"/gone", gone},
        {"/shrinks", shrinks},
        {"/whole-small", whole_small},
        {"/whole-chunked", whole_chunked},
        {"/whole-cut", whole_cut},
        {"/whole-large", whole_large},
        {"/whole-large-chunked", whole_large_chunked},
        {"/whole-unframed", whole_unframed},
        {"/forgets-ranges", forgets_ranges},
        {"/empty-416", empty_416},
        {"/empty-200", empty_200},
        {"/cut", cut},
        {"/stalls", stalls},
        {"/silent", silent},
        {"/trickle", trickle},
        {"/wrong-range", wrong_range},
        {"/wrong-total", wrong_total},
        {"/no-total", no_total},
        {"/encoded", encoded},
        {"/multipart", multipart},
        {"/babbles", babbles},
        {"/garbage", garbage},
        {"/hangs-up", hangs_up},
        {"/busy", busy},
        {"/busy-once", busy_once},
        {"/busy-until", busy_until},
        {"/private", private},
        {"/moved", moved},
        {"/endless", endless},
        {"/nowhere", nowhere},
        {"/to-file", to_file},
        {"/away", away},
        {"/signed", signed_url},
        {"/ticket", ticket},
};

/* --- the server --- */

static bool answer(struct request *r)
{
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		size_t len = strlen(paths[i].path);
		if (strncmp(r->path, paths[i].path, len) == 0 && strchr("/?", r->path[len]))
			return paths[i].answer(r);
	}
	return status(r, "404 Not Found", "");
}

/* One whole request into r->text; false: the client is gone. */
static bool receive(struct request *r)
{
	size_t used = 0;
	r->text[0] = 0;
	while (!strstr(r->text, "\r\n\r\n")) {
		ssize_t n = recv(r->fd, r->text + used, sizeof r->text - 1 - used, 0);
		if (n <= 0)
			return false;
		used += (size_t)n;
		r->text[used] = 0;
		CHECK(used < sizeof r->text - 1);
	}
	return true;
}

static void parse(struct request *r)
{
	unsigned long long first, last;
	CHECK(sscanf(r->text, "GET %255s HTTP/1.1\r\n", r->path) == 1);
	const char *range = strstr(r->text, "\r\nRange: bytes=");
	CHECK(range);
	r->is_last = sscanf(range, "\r\nRange: bytes=-%llu\r\n", &last) == 1;
	if (r->is_last)
		first = last < SERVED_BYTES ? SERVED_BYTES - last : 0, last = SERVED_BYTES - 1;
	else
		CHECK(sscanf(range, "\r\nRange: bytes=%llu-%llu\r\n", &first, &last) == 2);
	r->first = first;
	r->last = last < SERVED_BYTES ? last : SERVED_BYTES - 1;
	r->phase = atomic_load(&r->server->phase);
}

struct connection {
	struct http_server *server;
	int fd;
};

static void *serve(void *user)
{
	struct connection c = *(struct connection *)user;
	struct request *r = calloc(1, sizeof *r);
	free(user);
	CHECK(r);
	*r = (struct request){.server = c.server, .fd = c.fd};
	do {
		if (!receive(r))
			break;
		atomic_fetch_add(&c.server->requests, 1);
		pthread_mutex_lock(&c.server->lock);
		memcpy(c.server->last_request, r->text, sizeof r->text);
		pthread_mutex_unlock(&c.server->lock);
		parse(r);
	} while (answer(r));
	shutdown(
	        c.fd,
	        SHUT_RDWR); /* closed when the server stops, so that its number is not used again */
	free(r);
	return NULL;
}

static void *accept_all(void *user)
{
	struct http_server *s = user;
	int fd, one = 1;
	while ((fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct connection *c = malloc(sizeof *c);
		CHECK(c);
		*c = (struct connection){s, fd};
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		atomic_fetch_add(&s->connections, 1);
		pthread_mutex_lock(&s->lock);
		CHECK(s->thread_count < SERVER_MOST_CONNECTIONS);
		s->fds[s->thread_count] = fd;
		CHECK_EQ(pthread_create(&s->threads[s->thread_count++], NULL, serve, c), 0);
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

void http_server_start(struct http_server *s)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	*s = (struct http_server){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	pthread_mutex_init(&s->lock, NULL);
	CHECK(s->listener >= 0);
	CHECK_EQ(bind(s->listener, (struct sockaddr *)&address, len), 0);
	CHECK_EQ(listen(s->listener, 128), 0);
	CHECK_EQ(getsockname(s->listener, (struct sockaddr *)&address, &len), 0);
	s->port = ntohs(address.sin_port);
	CHECK_EQ(pthread_create(&s->acceptor, NULL, accept_all, s), 0);
}

void http_server_stop(struct http_server *s)
{
	shutdown(s->listener, SHUT_RDWR);
	pthread_join(s->acceptor, NULL);
	close(s->listener);
	for (int i = 0; i < s->thread_count; i++)
		shutdown(s->fds[i], SHUT_RDWR);
	for (int i = 0; i < s->thread_count; i++) {
		pthread_join(s->threads[i], NULL);
		close(s->fds[i]);
	}
	pthread_mutex_destroy(&s->lock);
}

void http_server_hang_up(struct http_server *s)
{
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < s->thread_count; i++)
		shutdown(s->fds[i], SHUT_RDWR);
	pthread_mutex_unlock(&s->lock);
}

bool http_server_saw(struct http_server *s, const char *text)
{
	pthread_mutex_lock(&s->lock);
	bool saw = strstr(s->last_request, text) != NULL;
	pthread_mutex_unlock(&s->lock);
	return saw;
}
