/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection's bytes go through: a socket, or TLS over one. One thread receives; one thread
 * at a time sends; the two may be different.
 */
#ifndef HITHER_EXPORT_STREAM_H
#define HITHER_EXPORT_STREAM_H

#include <hither/error.h>
#include <stdatomic.h>
#include <stdbool.h>
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

/* Of all connections of an export: how many threads do not sleep. */
struct export_awake {
	atomic_uint count;
	unsigned spinners_max; /* where more are awake, none looks for input without sleeping */
};

/* The receiver's own. */
struct export_spin {
	bool single;         /* since the last wait one request came */
	bool looks, chosen;  /* before sleeping: now, and when there is no trial */
	unsigned waits;      /* in this trial */
	unsigned misses;     /* of them, looks in vain */
	uint64_t sum_ns;     /* from one wait to the next */
	uint64_t mean_ns[2]; /* without looking, and with it; 0: not tried yet */
	uint64_t last_ns;    /* the last wait began; 0: not one of these */
	unsigned kept_trials, kept_max;
};

struct export_stream {
	const struct export_stream_ops *ops;
	int fd;                     /* -1: none, the ops know */
	struct export_tls *tls;     /* NULL: plain */
	struct export_awake *awake; /* NULL: whoever waits sleeps at once */
	struct export_spin spin;
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

/* --- looking for input before sleeping (spin.c) --- */

/* Half of the processors that we may use. */
unsigned export_spinners_max(void);
/* As recv of the ops; -EAGAIN: go to sleep. The receiver only. */
ssize_t export_spin(struct export_stream *s, void *buf, size_t len);
/* A single request was answered, and the wait for the next one begins: p->looks says how. */
void export_spin_note(struct export_spin *p, uint64_t now_ns);
/* The receiver goes to sleep, and has woken. */
static inline void export_stream_sleeps(struct export_stream *s)
{
	if (s->awake)
		atomic_fetch_sub_explicit(&s->awake->count, 1, memory_order_relaxed);
}
static inline void export_stream_wakes(struct export_stream *s)
{
	if (s->awake)
		atomic_fetch_add_explicit(&s->awake->count, 1, memory_order_relaxed);
}

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
