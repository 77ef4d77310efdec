/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the export's files share.
 *
 *     export.c      volumes, options, the list of connections      listen.c   sockets, accepting
 *     connection.c  a connection's life: its thread, its waiting   handshake.c, meta.c  options
 *     request.c     requests into accesses of the mount            reply.c   answers, and sending
 *     extents.c     block status                                   memory.c  buffers
 *     stream.c, tls.c  what bytes go through                spin.c  a look before going to sleep
 *
 * One thread a connection reads requests and submits them. What is local is answered before
 * submit() returns, and many such answers leave in one system call. Long reads are begun as the
 * client takes their bytes, which go from the mount's store to the socket without a copy in between
 * where it is in memory for good, else by few buffers that stay warm. What is not local is answered
 * by the mount's worker that brought it: it sends the reply itself if nobody else is sending, but
 * never waits: what the socket does not take is left to the connection's thread. So a client that
 * stops reading holds up nobody, and holds no more than connection_bytes: its requests are not read
 * then.
 *
 * Lock order: the export's lock, then a connection's. Neither is held while anything waits.
 */
#ifndef HITHER_EXPORT_INTERNAL_H
#define HITHER_EXPORT_INTERNAL_H

#include "protocol.h"
#include "stream.h"

#include <hither/export.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
	EXPORT_REQUEST_MAX = 32 << 20,  /* longest payload, as clients expect it */
	EXPORT_PIECE_BYTES = 256 << 10, /* longer requests are worked on in pieces of this size */
	EXPORT_SMALL_BYTES = 16 << 10,  /* buffers come in two sizes, this and the above */
	EXPORT_TURN_BYTES = 1 << 20,    /* of a long request, before the next one's turn */
	EXPORT_REQUESTS_MAX = 1024,     /* under way on a connection */
	EXPORT_INPUT_BYTES = 64 << 10,
	EXPORT_OPTION_BYTES = 8 << 10,    /* longest option data that is looked at */
	EXPORT_OPTION_SKIPPED = 64 << 10, /* longest that is skipped; else the peer is dropped */
	EXPORT_OPTIONS_MAX = 1024,        /* options of one handshake */
	EXPORT_LISTENERS_MAX = 16,
	EXPORT_PARALLEL_PIECES = 16, /* of one request, under way */
};

enum export_context {
	EXPORT_BASE_ALLOCATION, /* as the protocol defines it */
	EXPORT_DIRTY,           /* "hither:dirty", flag 1: not yet safe in the backend */
	EXPORT_LOCAL,           /* "hither:local", flag 1: in the local store */
	EXPORT_CONTEXTS,
};
extern const char *const export_context_names[EXPORT_CONTEXTS];

struct export_volume {
	char *name, *description;
	struct hither_mount *mount;
	const uint8_t
	        *view; /* the store's bytes where they can be sent from there; NULL: copy them */
	uint64_t size_bytes;
	bool read_only;
	uint16_t flags; /* of transmission */
};

/* A request under way. Guarded by its connection's lock, but for what is fixed. */
struct export_request {
	struct export_connection *connection;
	uint64_t cookie, offset, len;
	uint16_t flags;
	enum nbd_command command;
	bool structured; /* a read whose reply goes in chunks, each when its bytes have come */
	uint64_t at;     /* bytes that were given to the mount */
	uint64_t left;   /* bytes not yet answered */
	unsigned pieces; /* under way */
	bool flushed;    /* FUA: the flush has been asked for */
	uint32_t error;  /* the first one; 0: none */
	char message[160];
	struct export_request *next; /* in connection->work, or free */
};

/* A part of a request, and its reply. */
struct export_piece {
	struct hither_io io; /* first */
	struct export_request *request;
	struct export_piece *next; /* in a queue, or free */
	size_t room;               /* of bytes[] */
	size_t header_len, data_len;
	const void *data; /* what follows the header; in bytes[], or in the volume's view */
	uint8_t header[64];
	uint8_t bytes[];
};

struct export_pieces {
	struct export_piece *head, **tail;
};

enum export_receiving { EXPORT_HEADER, EXPORT_PAYLOAD, EXPORT_SKIP };

struct export_connection {
	struct hither_export *server;
	struct export_connection *next, *prev; /* guarded by the server's lock */
	pthread_t thread;
	struct export_stream stream;
	struct export_volume *volume; /* NULL: none chosen yet */
	bool structured_replies;
	bool contexts[EXPORT_CONTEXTS]; /* chosen for context_volume */
	const struct export_volume *context_volume;
	int wake_fd; /* eventfd */

	/* The connection's thread only. */
	uint8_t *input; /* [EXPORT_INPUT_BYTES], from input_first to input_end not looked at yet */
	size_t input_first, input_end;
	enum export_receiving receiving;
	struct export_request *receives; /* the write whose payload comes */
	struct export_piece *payload;    /* its piece that is being filled; NULL: no room for it */
	size_t payload_at;
	bool bulk;     /* the last request was a long write: no more than a header is in front */
	uint64_t skip; /* EXPORT_SKIP: bytes of a refused write's payload still to come */
	struct export_request *refused;
	bool starved;           /* work waits for memory: read no more */
	bool hung_up;           /* no more requests will come */
	uint64_t requests_seen; /* when it last waited for input */

	atomic_bool ending; /* the server stops */

	pthread_mutex_t lock;        /* guards all below */
	struct export_pieces output; /* replies, in order */
	size_t output_bytes;
	size_t sent;        /* bytes of output.head that have gone already */
	bool sending;       /* somebody is taking from output */
	bool unsent;        /* the stream took no more: its thread waits for room */
	bool broken;        /* the stream is no use any more */
	bool asleep;        /* its thread polls, and is to be woken by what it waits for: */
	bool eager;         /* the end of anything, not only a stream that takes no more */
	uint64_t ends;      /* accesses ended and replies sent so far: what it looked at is old */
	unsigned in_flight; /* pieces with the mount, whose done() has not come to its end */
	unsigned requests;  /* under way */
	size_t bytes;       /* of buffers in use */
	struct export_request *work, **work_tail; /* with pieces not yet begun; round robin */
	struct export_request *free_requests;
	struct export_piece *free_small, *free_large;
	unsigned free_large_count;
	uint64_t request_count, read_bytes, written_bytes;
};

struct export_listener {
	int fd;
	char *address;
	char *path; /* of a UNIX socket that is ours to remove; NULL: none */
};

struct hither_export {
	struct hither_export_options options; /* defaults filled in, strings gone */
	struct export_volume *volumes;
	size_t volume_count;
	struct export_tls_server *tls;
	struct export_listener listeners[EXPORT_LISTENERS_MAX];
	size_t listener_count;
	int stop_fd; /* eventfd */
	atomic_bool stopping;
	struct export_awake awake; /* connections in transmission */

	pthread_mutex_t lock;   /* guards all below */
	pthread_cond_t changed; /* a connection has ended */
	struct export_connection *connections;
	struct hither_export_stats stats; /* of the connections that have ended */
	uint64_t logged_ns;               /* when one was last turned away with a message */
};

/* export.c */
struct export_volume *export_find(const struct hither_export *e, const void *name, size_t len);
void export_log(struct hither_export *e, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

/* Ask all connections to end, and wait until they have. */
void export_finish_connections(struct hither_export *e);
/* listen.c */
void export_close_listeners(struct hither_export *e);

/* connection.c */
/* Add to *s what c has done. The export's lock is held. */
void export_connection_count(struct export_connection *c, struct hither_export_stats *s);
/* Serve fd on a new thread. fd is taken over, in any case. */
int export_connection_start(struct hither_export *e, int fd, struct export_volume *volume,
                            struct hither_error *err);
/*
 * For tests: all of a connection's life on the calling thread. ops: its network, stream.fd is -1;
 * recv never answers -EAGAIN. volume: as of hither_export_connect(); structured: with structured
 * replies and all contexts negotiated.
 */
void export_connection_run(struct hither_export *e, const struct export_stream_ops *ops,
                           struct export_volume *volume, bool structured);

/* handshake.c: 0: c->volume is set, and transmission begins; -ECONNRESET: the client took its
 * leave; else what was wrong. */
int export_handshake(struct export_connection *c, struct hither_error *err);
/* Whole parts of the handshake, until deadline_ns. -errno, with err. */
struct export_talk {
	struct export_connection *c;
	uint64_t deadline_ns;
	struct hither_error *err;
	uint32_t option;
	uint8_t data[EXPORT_OPTION_BYTES];
};
int export_talk_reply(struct export_talk *t, uint32_t type, const void *data, size_t len);
int export_talk_error(struct export_talk *t, enum nbd_option_error error, const char *message);
/* meta.c: the option's data is in t->data. */
int export_meta_context(struct export_talk *t, size_t len);

/* memory.c. All but finish expect c->lock held. */
struct export_request *export_request_take_locked(struct export_connection *c);
void export_request_release_locked(struct export_connection *c, struct export_request *r);
/* A piece with room for len bytes; NULL: no memory. */
struct export_piece *export_piece_take_locked(struct export_connection *c, struct export_request *r,
                                              size_t len);
void export_piece_release_locked(struct export_connection *c, struct export_piece *p);
void export_memory_finish(struct export_connection *c);

/* request.c: the connection's thread only. */
/* Work on what is in c->input. -EPROTO: garbage. */
int export_take_requests(struct export_connection *c, struct hither_error *err);
/* Where the next bytes of a payload go; 0: nowhere but to c->input. */
size_t export_payload_room(struct export_connection *c, void **at);
void export_payload_arrived(struct export_connection *c, size_t len);
/* May more be read? False: too much is under way. */
bool export_has_room(struct export_connection *c);
/* Begin pieces of long requests, as many as are worth sending. False: there is none, or no room. */
bool export_step(struct export_connection *c);
uint32_t export_error_code(int code);

/* reply.c */
/* The piece's bytes have come, or not: make its reply. */
void export_reply_read_locked(struct export_piece *p, uint32_t error, const char *message);
/* The request has ended; p becomes its reply. */
void export_reply_end_locked(struct export_piece *p, struct export_request *r);
void export_reply_append_locked(struct export_connection *c, struct export_piece *p);
/* Send what can be sent without waiting. */
void export_send(struct export_connection *c);
void export_send_locked(struct export_connection *c);
void export_kick_locked(struct export_connection *c);

/* extents.c: fill p with the reply to a block status request. */
void export_block_status(struct export_piece *p);

#endif
