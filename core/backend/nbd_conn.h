/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the NBD backend: many callers, requests pipelined, answers in any order.
 *
 * There is no thread of its own. Of the callers that wait, one drives the connection (it polls the
 * socket and takes answers, its own and the others'); when its own answer has come, it hands over
 * to the next. So a lone caller sends and receives in its own thread, which is what makes small
 * reads quick. `wake_fd` interrupts the one that polls.
 *
 *      down --connect--> up --broken--> down          every request in flight fails, -ECONNRESET,
 *        ^                |                           -ETIMEDOUT or -ECANCELED; the next caller
 *        +--- failed      +--- submit, wait           connects again
 */
#ifndef HITHER_BACKEND_NBD_CONN_H
#define HITHER_BACKEND_NBD_CONN_H

#include <hither/backend.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* What the server said about the export. */
struct nbd_limits {
	uint64_t size_bytes;
	uint32_t min_bytes; /* requests are multiples of this; a power of two */
	uint32_t max_bytes; /* longest request; a multiple of min_bytes */
	bool read_only;
	bool can_flush;
	bool can_fua;
	bool multi_conn; /* a flush covers all connections, and they see each other's writes */
};

/* Whom to connect to, and how. Fixed once open has returned, but for the atomics. */
struct nbd_target {
	char *url;
	char name[256]; /* url as it may be printed */
	bool writable;
	bool insecure;
	char *ca_file; /* absolute paths; NULL: libnbd's own choice */
	char *cert_file;
	char *key_file;
	uint32_t connect_timeout_ms;
	uint32_t idle_timeout_ms;
	unsigned char witness[64]; /* see hither_backend_options */
	uint32_t witness_bytes;    /* 0: none */
	uint64_t witness_offset;
	bool agreed; /* `limits` are what was opened: connecting again must find the same */
	struct nbd_limits limits;
	atomic_bool cancelled;
	atomic_bool closing; /* no call is under way, and none will come: connect no more */
	/*
	 * Connections lost while they had writes that were answered but not flushed. If it was the
	 * server that died, those writes may be gone, though their callers were told that all is
	 * well.
	 */
	_Atomic uint64_t losses;
};

/* libnbd, when it is first needed. Before any other call to it. 0 or -errno. */
int nbd_load_library(struct hither_error *err);

/*
 * Connect and shake hands. Blocks up to the connect time-out; a byte in wake_fd together with
 * target->cancelled or ->closing ends it. 0 and *out, *limits, or -errno.
 */
int hither_nbd_connect(const struct nbd_target *target, int wake_fd, struct nbd_handle **out,
                       struct nbd_limits *limits, struct hither_error *err);

/* What poll() should wait for on the handle's socket; and telling the handle what it answered. */
short hither_nbd_events(struct nbd_handle *handle);
/* 0, or -1 with libnbd's error set. */
int hither_nbd_notify(struct nbd_handle *handle, short events, short revents);

enum nbd_kind { NBD_READ, NBD_WRITE, NBD_FLUSH };

struct nbd_conn;
struct nbd_request;

/* One for each call; it waits for one request at a time. */
struct nbd_waiter {
	pthread_cond_t woken; /* `wanted` is done, or the connection needs a driver */
	struct nbd_request *wanted;
	struct nbd_waiter *next, *prev;
};

/*
 * A request. The caller fills the first group and keeps the struct and the data alive until it is
 * done. All is guarded by the connection's lock once submitted.
 */
struct nbd_request {
	enum nbd_kind kind;
	bool fua;
	void *data;
	size_t len;
	uint64_t offset;
	struct nbd_waiter *waiter;

	bool done;
	bool dropped;  /* failed with the connection, not by an answer */
	int code;      /* 0 or -errno */
	uint64_t mark; /* flush: what had been written when it was sent */
	void (*orphan)(
	        struct nbd_request *r); /* nobody waits any more: call this when it is done */
	struct nbd_conn *conn;
	struct nbd_request *next, *prev;
};

struct nbd_conn {
	struct nbd_target *target;
	int wake_fd;
	atomic_bool up; /* a hint for who chooses a connection */

	pthread_mutex_t lock;   /* guards everything below */
	pthread_cond_t settled; /* an attempt to connect has ended */
	bool connecting;
	bool driven;               /* somebody polls */
	short polled;              /* for these events */
	int broken;                /* -errno: the driver must drop the handle */
	struct nbd_handle *handle; /* NULL: down */
	struct nbd_limits limits;
	bool tcp;                    /* fixed while up */
	uint64_t attempts;           /* to connect, that have ended */
	struct hither_error failure; /* how the last one ended */
	char reason[160];            /* why the connection was lost last */
	struct nbd_request *in_flight;
	struct nbd_waiter *waiters;
	uint64_t progress_ns; /* when the socket was last seen to move, or something sent after
	                         idling */
	unsigned flushing;    /* flushes in flight */
	uint64_t written;     /* writes answered, without FUA */
	uint64_t flushed; /* of these, covered by a flush on this connection, or given up as lost */
};

int hither_nbd_conn_init(struct nbd_conn *conn, struct nbd_target *target,
                         struct hither_error *err);
/* No call is under way. Says goodbye to the server, which may take up to a second. */
void hither_nbd_conn_finish(struct nbd_conn *conn);

/*
 * See that it is up. If it is down: with `connect`, connect, or wait for who does so already and
 * share the result; without, -ENOTCONN. It may be lost again by the time this returns 0.
 */
int hither_nbd_conn_ready(struct nbd_conn *conn, bool connect, struct hither_error *err);
/* Has the server hung up while nobody used the connection? Then it is down now. */
void hither_nbd_look_locked(struct nbd_conn *conn);

/* Send r, without waiting. Where that fails, r is done at once or soon, with the reason. */
void hither_nbd_submit_locked(struct nbd_conn *conn, struct nbd_request *r);
/* Until r, which was submitted with a waiter, is done. */
void hither_nbd_wait_locked(struct nbd_conn *conn, struct nbd_request *r);
/* Fill err with what went wrong with r, which is done and failed. Returns its code. */
int hither_nbd_explain_locked(const struct nbd_conn *conn, const struct nbd_request *r,
                              struct hither_error *err);
/* Interrupt whoever polls. Any thread, never blocks. */
void hither_nbd_wake(const struct nbd_conn *conn);

#endif
