/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD handshake on sockets that the kernel's client is then given. Only fixed newstyle, only
 * NBD_OPT_GO: proto.md of the NetworkBlockDevice project; servers have had both since 2017. Simple
 * replies, as the kernel wants them. No TLS: the kernel has none.
 */
#include "base/cleanup.h"
#include "frontend/block/block_internal.h"

#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define REPLY_MAGIC UINT64_C(0x3e889045565a9)

enum {
	FIXED_NEWSTYLE = 1 << 0,
	NO_ZEROES = 1 << 1,
	OPT_GO = 7,
	REP_ACK = 1,
	REP_INFO = 3,
	INFO_EXPORT = 0,
	FLAG_MULTI_CONN = 1 << 8,
	NAME_MAX_BYTES = 4096,
	REPLY_MAX_BYTES = 64 << 10,
	HANDSHAKE_S = 10,
};

struct target {
	char host[256], port[32], name[NAME_MAX_BYTES + 1], path[108];
};

/* "name" of NBD's URIs: percent-encoded. */
static bool decode(char *out, size_t size, const char *in, size_t len)
{
	size_t at = 0;
	for (size_t i = 0; i < len; i++, at++) {
		unsigned byte = (unsigned char)in[i];
		if (byte == '%') {
			if (len - i < 3 || sscanf(in + i + 1, "%2x", &byte) != 1 || !byte)
				return false;
			i += 2;
		}
		if (at + 1 >= size)
			return false;
		out[at] = (char)byte;
	}
	out[at] = 0;
	return true;
}

static bool split_authority(struct target *t, const char *text, size_t len)
{
	const char *end = text + len, *port = end;
	if (len && *text == '[') {
		const char *close = memchr(text, ']', len);
		if (!close)
			return false;
		port = close + 1;
		text++;
		end = close;
	} else {
		const char *colon = memchr(text, ':', len);
		port = end = colon ? colon : end;
	}
	const char *stop = port + (len ? strcspn(port, "/?") : 0);
	snprintf(t->port, sizeof t->port, "10809");
	if (port < stop && *port == ':')
		snprintf(t->port, sizeof t->port, "%.*s", (int)(stop - port - 1), port + 1);
	if (end == text || (size_t)(end - text) >= sizeof t->host)
		return false;
	snprintf(t->host, sizeof t->host, "%.*s", (int)(end - text), text);
	return true;
}

static int parse(struct target *t, const char *url, struct hither_error *err)
{
	bool is_unix = !strncmp(url, "nbd+unix://", 11);
	bool ok = is_unix || !strncmp(url, "nbd://", 6);
	const char *authority = url + (is_unix ? 11 : 6);
	if (ok) {
		size_t len = strcspn(authority, "/?");
		const char *path = authority + len;
		path += *path == '/';
		size_t path_len = strcspn(path, "?");
		const char *query = path + path_len;
		ok = decode(t->name, sizeof t->name, path, path_len);
		if (is_unix)
			ok = ok && !strncmp(query, "?socket=", 8) &&
			     decode(t->path, sizeof t->path, query + 8, strcspn(query + 8, "&"));
		else
			ok = ok && split_authority(t, authority, len);
	}
	return ok ? 0
	          : hither_fail(err, -EINVAL,
	                        "block: the kernel can be given nbd://HOST[:PORT]/NAME and "
	                        "nbd+unix:///NAME?socket=PATH, nothing else");
}

/* --- connecting --- */

static int connect_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, path, strlen(path) + 1);
	HITHER_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
		return -errno;
	return HITHER_TAKE(fd, -1);
}

static int connect_tcp(const struct target *t)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
	struct timeval limit = {.tv_sec = HANDSHAKE_S};
	int r = getaddrinfo(t->host, t->port, &hints, &list), one = 1;
	if (r)
		return r == EAI_SYSTEM ? -errno : -EHOSTUNREACH;
	int out = -ECONNREFUSED;
	for (const struct addrinfo *at = list; at && out < 0; at = at->ai_next) {
		HITHER_CLOSE int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		/* Linux bounds connect(2) by the time-out for sending. */
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
		if (connect(fd, at->ai_addr, at->ai_addrlen)) {
			out = errno == EINPROGRESS ? -ETIMEDOUT : -errno;
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
		out = HITHER_TAKE(fd, -1);
	}
	freeaddrinfo(list);
	return out;
}

/* --- the handshake --- */

static int put(int fd, const void *buf, size_t len)
{
	ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);
	return n < 0 ? -errno : (size_t)n == len ? 0 : -ETIMEDOUT;
}

static int get(int fd, void *buf, size_t len)
{
	size_t at = 0;
	while (at < len) {
		ssize_t n = recv(fd, (char *)buf + at, len - at, MSG_WAITALL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
		at += (size_t)n;
	}
	return 0;
}

static int greet(int fd)
{
	struct __attribute__((packed)) {
		uint64_t magic, option_magic;
		uint16_t flags;
	} hello;
	uint32_t flags;
	int r = get(fd, &hello, sizeof hello);
	if (r)
		return r;
	if (be64toh(hello.magic) != MAGIC || be64toh(hello.option_magic) != OPTION_MAGIC ||
	    !(be16toh(hello.flags) & FIXED_NEWSTYLE))
		return -EPROTO;
	flags = htobe32(FIXED_NEWSTYLE | (be16toh(hello.flags) & NO_ZEROES));
	return put(fd, &flags, sizeof flags);
}

static int send_go(int fd, const char *name)
{
	uint8_t message[16 + 4 + NAME_MAX_BYTES + 2] = {0};
	uint32_t len = (uint32_t)strlen(name);
	uint64_t magic = htobe64(OPTION_MAGIC);
	uint32_t option = htobe32(OPT_GO), option_len = htobe32(4 + len + 2),
	         name_len = htobe32(len);
	memcpy(message, &magic, 8);
	memcpy(message + 8, &option, 4);
	memcpy(message + 12, &option_len, 4);
	memcpy(message + 16, &name_len, 4);
	memcpy(message + 20, name, len); /* and no wishes for more information */
	return put(fd, message, 20 + len + 2);
}

/* One reply: 1: there are more; 0: that was the end; -errno, with what the server said. */
static int take_reply(int fd, struct hither_block *b, char *said, size_t said_size)
{
	struct __attribute__((packed)) {
		uint64_t magic;
		uint32_t option, type, len;
	} head;
	int r = get(fd, &head, sizeof head);
	uint32_t len = r ? 0 : be32toh(head.len), type = r ? 0 : be32toh(head.type);
	if (!r && (be64toh(head.magic) != REPLY_MAGIC || be32toh(head.option) != OPT_GO ||
	           len > REPLY_MAX_BYTES))
		r = -EPROTO;
	HITHER_FREE uint8_t *data = r ? NULL : calloc(1, len + 1);
	if (!r && !data)
		r = -ENOMEM;
	if (!r)
		r = get(fd, data, len);
	if (r)
		return r;
	if (type >> 31) {
		snprintf(said, said_size, ": %.100s", (const char *)data);
		return -ENOENT;
	}
	uint16_t info = 0, flags = 0;
	memcpy(&info, data, len >= 2 ? 2 : 0);
	if (type == REP_INFO && len == 12 && be16toh(info) == INFO_EXPORT) {
		uint64_t size;
		memcpy(&size, data + 2, 8);
		memcpy(&flags, data + 10, 2);
		b->size_bytes = be64toh(size);
		b->server_flags = be16toh(flags);
	}
	return type != REP_ACK;
}

static int shake_hands(int fd, struct hither_block *b, const char *name, char *said,
                       size_t said_size)
{
	struct timeval limit = {.tv_sec = HANDSHAKE_S}, none = {0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	b->size_bytes = 0;
	int r = greet(fd);
	if (!r)
		r = send_go(fd, name);
	for (int count = 0; !r && (r = take_reply(fd, b, said, said_size)) == 1; count++)
		r = count < 32 ? 0 : -EPROTO;
	if (!r && !b->size_bytes)
		r = -EPROTO;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
	return r;
}

int block_remote_connect(struct hither_block *b, const char *url, struct hither_error *err)
{
	struct target t = {0};
	char said[128] = "", shown[128];
	int r = parse(&t, url, err);
	if (r)
		return r;
	snprintf(shown, sizeof shown, "%.100s", *t.path ? t.path : t.host);
	for (uint32_t i = 0; i < b->options.queues; i++) {
		uint64_t size = b->size_bytes;
		if (i && !(b->server_flags & FLAG_MULTI_CONN))
			break; /* its connections do not see each other's writes */
		int fd = *t.path ? connect_unix(t.path) : connect_tcp(&t);
		if (fd < 0)
			return hither_fail(err, fd, "connect to %s: %s", shown, strerror(-fd));
		b->sockets[i] = fd;
		r = shake_hands(fd, b, t.name, said, sizeof said);
		if (!r && i && b->size_bytes != size)
			r = -ESTALE;
		if (r)
			return hither_fail(err, r, "NBD server at %s: export \"%.60s\": %s%s",
			                   shown, t.name, strerror(-r), said);
	}
	if (b->server_flags & (1 << 1))
		b->options.read_only = true;
	return 0;
}
