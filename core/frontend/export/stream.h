/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection's bytes go through: a socket, or TLS over one. One thread receives; one thread
 * at a time sends; the two may be different.
 */
#ifndef HITHER_EXPORT_STREAM_H
#define HITHER_EXPORT_STREAM_H

#include <hither/error.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum export_wait {
	EXPORT_WAIT_NOT,
	EXPORT_WAIT,     /* for the first byte */
	EXPORT_WAIT_ALL, /* for all of them; fewer may come in the end, or through TLS */
};

struct export_stream;
struct export_tls;
struct export_tls_server;

/* Below TLS. A table, so that a test can be the network. */
struct export_stream_ops {
	/* At least a byte; 0: the end; -EAGAIN: nothing now; -errno. */
	ssize_t (*recv)(struct export_stream *s, void *buf, size_t len, enum export_wait wait);
	/* How much was taken, never waiting; -EAGAIN; -errno. */
	ssize_t (*send)(struct export_stream *s, const struct iovec *parts, int count);
};

struct export_stream {
	const struct export_stream_ops *ops;
	int fd;                 /* -1: none, the ops know */
	uint64_t poll_ns;       /* how long to look for input before sleeping; the receiver's own */
	struct export_tls *tls; /* NULL: plain */
};

/* fd becomes the stream's. */
void export_stream_init(struct export_stream *s, int fd);
/* Says goodbye in TLS, as far as that needs no waiting, and closes fd. */
void export_stream_finish(struct export_stream *s);

/* As the ops do. wait: at most as long as the socket's SO_RCVTIMEO, -EAGAIN after it. */
ssize_t export_stream_recv(struct export_stream *s, void *buf, size_t len, enum export_wait wait);
/* Through TLS some of what was taken may be unsent still: export_stream_flush() sends it. */
ssize_t export_stream_send(struct export_stream *s, const struct iovec *parts, int count);
/* 0: all is with the kernel; -EAGAIN; -errno. */
int export_stream_flush(struct export_stream *s);

/* --- TLS (tls.c, or tls_none.c in a build without GnuTLS) --- */

struct hither_export_options;
/* Load certificates and keys. -ENOTSUP: built without TLS. */
int export_tls_server_create(const struct hither_export_options *options,
                             struct export_tls_server **out, struct hither_error *err);
void export_tls_server_destroy(struct export_tls_server *server); /* NULL is fine */

/* Put TLS on a plain stream. It is to be shaken hands on before anything else. */
int export_tls_start(struct export_stream *s, struct export_tls_server *server,
                     struct hither_error *err);
/* 0; -EAGAIN: wait until the socket can be read, then call again; else it failed. Never waits. */
int export_tls_handshake(struct export_stream *s, struct hither_error *err);
void export_tls_finish(struct export_stream *s);

ssize_t export_tls_recv(struct export_stream *s, void *buf, size_t len, enum export_wait wait);
ssize_t export_tls_send(struct export_stream *s, const struct iovec *parts, int count);
int export_tls_flush(struct export_stream *s);

#endif
