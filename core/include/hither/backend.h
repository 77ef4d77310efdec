/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends: where bytes live. A backend is a const table of functions and a struct that begins with
 * struct hither_backend. A layer is a backend that wraps another one.
 *
 * Nobody calls the table directly: hither_backend_read() and its siblings check ranges, flags and
 * alignment once, for all backends.
 */
#ifndef HITHER_BACKEND_H
#define HITHER_BACKEND_H

#include <hither/error.h>
#include <hither/range.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	HITHER_BACKEND_WRITABLE = 1u << 0,
	HITHER_BACKEND_ORDERED = 1u << 1, /* seeks cost seconds (tape): one request, by offset */
	/* Bytes come at memory or disk speed, no network between: pulling ahead is no use. */
	HITHER_BACKEND_LOCAL = 1u << 2,
	/* Zeros that are written cost it next to nothing, neither room nor time, and extent() tells
	 * of holes as they are now. */
	HITHER_BACKEND_SPARSE = 1u << 3,
	/* Its reads call sink->asked(). */
	HITHER_BACKEND_TELLS_ASKED = 1u << 4,
};

struct hither_backend_ops;

/** First member of each backend's own struct. All fields are fixed once open has returned. */
struct hither_backend {
	const struct hither_backend_ops *ops;
	uint64_t size_bytes;
	uint32_t flags;       /* HITHER_BACKEND_* */
	uint32_t align_bytes; /* offsets and lengths must be multiples (but at the end); power of
	                         two, 1: any */
	uint32_t parallel;    /* most calls of read and write_at at a time; callers keep to it */
	uint64_t max_request_bytes; /* longest read or write_at; 0: any */
	uint64_t piece_bytes; /* reads deliver up to so many at once, and nothing before; 0: as they
	                         come */
	uint64_t head_bytes;  /* so many bytes from offset 0 came with open: reading them costs
	                         nothing */
	/* On their way since open, so that reading them costs less than a round trip: once, and
	 * beside head_bytes. len 0: none. */
	struct hither_range early[2];
	/* A read of more than the sink's flight_bytes goes over several connections, of so many in
	 * all; 0: each read over one. */
	uint32_t spread;
	/* The server is known to send nothing but wholes: a longer resource there cannot be read.
	 */
	bool wholes;
	int64_t modified_ns; /* when its bytes were last changed, since 1970; 0: not known */
	/* So many bytes at the beginning of its version name the resource, and stay as they are
	 * whatever is written to it; 0: none do. */
	uint32_t version_name_bytes;
};

/**
 * Where a read delivers its bytes: consecutive pieces, in order, each byte once, from the thread
 * that called the read. buf is the backend's and valid during the call only. Returns 0 to go on; a
 * negative errno ends the read, which then returns that very code. It must not use the same
 * backend: a write may wait for the read to end.
 */
struct hither_sink {
	int (*take)(struct hither_sink *sink, const void *buf, size_t len);
	/* A hint: somebody waits for so many bytes at the beginning, for the rest nobody does.
	 * 0: all are alike. */
	uint32_t first_bytes;
	/* A hint, see hither_backend.spread: the read may go out in parts, each over a connection
	 * of its own, of so many bytes at most and less while connections are new. 0: as one. */
	uint32_t flight_bytes;
	/*
	 * len bytes have come that are held until others have: whoever measures the line counts
	 * them now, and not again when take() is given them. NULL: not interested.
	 */
	void (*held)(struct hither_sink *sink, size_t len);
	/*
	 * Called before the read waits for the first time, as a rule when its request has just gone
	 * out: what need not be done before that is done here, while the answer is on its way. By
	 * the thread that called the read, with no lock held; not again once it has been called,
	 * but for reads that begin anew elsewhere; not at all where nothing is waited for, and by
	 * backends without HITHER_BACKEND_TELLS_ASKED. NULL: not interested.
	 */
	void (*asked)(struct hither_sink *sink);
	/* Nobody wants any more of it: see hither_backend_drop(). Any thread asks, at any time
	 * until the read returns. NULL: somebody always does. */
	bool (*dropped)(const struct hither_sink *sink);
};

/** How to open. Zero-initialise; strings are borrowed for the duration of the open call. */
struct hither_backend_options {
	bool writable; /* ask for writing; -EROFS if this resource cannot */
	/* 0: 10 s. A server that answers "busy, come back in so many seconds" to the opening is
	 * asked again within this time, too. */
	uint32_t connect_timeout_ms;
	uint32_t idle_timeout_ms; /* no byte for so long: -ETIMEDOUT; 0: 30 s */
	uint32_t parallel;        /* most requests at a time; 0: the backend's own choice */
	uint64_t
	        create_bytes; /* file, directory, memory: make it, this large, if it is not there */
	const char *user;     /* "name:password"; NULL: from the URL, else netrc */
	const char *const *headers; /* HTTP: extra "Name: value" lines, NULL-terminated */
	const char *ca_file;        /* TLS: trust these certificates instead of the system's */
	const char *cert_file;      /* TLS: client certificate, PEM */
	const char *key_file;       /* TLS: its key, PEM */
	const char *proxy;          /* NULL: from the environment */
	bool insecure;              /* TLS: do not verify the server */
	uint32_t first_bytes; /* http: ask for so many when opening; 0: 8 KiB; at most 1 MiB */
	/*
	 * http: send so many requests beside the first one, each on a connection of its own, which
	 * stays open: one for the last last_bytes, if that is not 0, the others for what follows
	 * first_bytes. See hither_backend.early. At most 48; 0: none. Not with known_version.
	 */
	uint32_t beside;
	uint32_t last_bytes; /* at most 192 KiB */
	/* http: a connection is anybody's between two requests. For many backends of one server. */
	bool pooled;
	bool prompt; /* a busy server ends the opening at once: the caller asks again by itself */
	/*
	 * http: take it that the resource is there, has known_size_bytes, and is of whatever
	 * version it is: open asks nothing, reads that find another size are -ESTALE. For who knows
	 * what should come, and checks it.
	 */
	bool unseen;
	/*
	 * The version and size a cached copy was made from (see ops->version). If they still hold,
	 * open succeeds after one small exchange, without fetching data. Not holding is no error:
	 * compare hither_backend_version() and size_bytes afterwards.
	 */
	const char *known_version;
	uint64_t known_size_bytes;
	/*
	 * nbd: so many bytes, at most 64 and within one 4096 byte page, that each connection must
	 * find at witness_offset before it is used, else -ESTALE: a server of memory that was
	 * restarted has forgotten everything, and looks the same. NULL: nothing is looked at.
	 */
	const void *witness;
	uint32_t witness_bytes;
	uint64_t witness_offset;
};

/** What a backend can do. Entries are required unless said otherwise. Any thread unless said
 * otherwise. */
struct hither_backend_ops {
	const char *name;           /* as in messages and --help: "http" */
	const char *const *schemes; /* {"http", "https", NULL}; NULL for a layer */

	/* Open url. Blocks up to its time-outs. On success *out is owned by the caller (close).
	 * NULL for a layer. */
	int (*open)(const char *url, const struct hither_backend_options *options,
	            struct hither_backend **out, struct hither_error *err);
	/*
	 * Deliver all of [offset, offset + len) to sink, or fail; what was delivered before a
	 * failure is good. No lock of the caller's is held; may take seconds; ends by itself after
	 * idle_timeout_ms without a byte. -ESTALE: the resource is no longer the version that was
	 * opened.
	 */
	int (*read)(struct hither_backend *b, uint64_t offset, uint64_t len,
	            struct hither_sink *sink, struct hither_error *err);
	/*
	 * All of [offset, offset + len) into buf, if it is had without waiting for a disk; -EAGAIN:
	 * it is not, or not all of it (buf is undefined). Never blocks. -EOPNOTSUPP: it cannot be
	 * told here. NULL: what is LOCAL never waits.
	 */
	int (*read_now)(struct hither_backend *b, void *buf, size_t len, uint64_t offset);
	/*
	 * Deliver several ranges, none of them empty, no two of them touching, as read() would one
	 * after another, but in one exchange: several small pieces cost one round trip. NULL: there
	 * is no such exchange.
	 */
	int (*read_many)(struct hither_backend *b, const struct hither_range *ranges, size_t count,
	                 struct hither_sink *sink, struct hither_error *err);
	/*
	 * Most ranges of a read_many; 1: this server turned out not to know several at a time, so
	 * that they are read one after another. Required with read_many. Never blocks.
	 */
	uint32_t (*most_ranges)(struct hither_backend *b);
	/*
	 * Open one connection more, for a request that comes soon: its handshakes are over by then.
	 * Blocks as read does, and counts as one call of it. NULL: requests need no connections of
	 * their own.
	 */
	int (*warm)(struct hither_backend *b, struct hither_error *err);
	/*
	 * Bytes that the connection which the next request would have has brought lately: in one
	 * round trip it brings as many again, and those that a new one does (RFC 5681, slow start).
	 * begun: calls that are on their way, some of which may not have come to their connection
	 * yet. Any thread; never blocks. NULL: this is not known.
	 */
	uint64_t (*brought)(struct hither_backend *b, uint32_t begun);
	/*
	 * How many connections are open, in use or for a request that comes soon: servers close
	 * those that rest for long. Never blocks. NULL: not known; whoever counts on them guesses.
	 */
	uint32_t (*connections)(struct hither_backend *b);
	/*
	 * Reads whose sinks say that they are dropped shall end soon, with -ECANCELED, and what is
	 * still on its way to them shall not be sent again. Never blocks. NULL: they go on.
	 */
	void (*drop)(struct hither_backend *b);
	/* Required if WRITABLE. All or error; durable only once flush() has returned 0. */
	int (*write_at)(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
	                struct hither_error *err);
	/*
	 * As write_at, of bytes whose flush comes next, so that it finds nothing left to do: both
	 * in one exchange. Not longer than max_request_bytes. NULL: there is no such exchange.
	 */
	int (*write_through)(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
	                     struct hither_error *err);
	/*
	 * Zeros from now on, that take no room; as durable as a write. Whole blocks of align_bytes,
	 * of any number. -EOPNOTSUPP: these cannot be had so, and nothing has happened: they are to
	 * be written. NULL: none can.
	 */
	int (*zero)(struct hither_backend *b, uint64_t offset, uint64_t len,
	            struct hither_error *err);
	/*
	 * NULL: a write is durable when it has returned. Covers every write that has returned
	 * before. -EREMOTEIO: writes since the last good flush may be lost (their server was
	 * restarted, or failed to store them): write all of them again, then flush again. Told once
	 * for each loss.
	 */
	int (*flush)(struct hither_backend *b, struct hither_error *err);
	/*
	 * What tells this version of the resource from another (ETag, modification time), or ""
	 * where nothing does. May ask the resource again. At most `size` bytes with the final 0.
	 * NULL: always "".
	 */
	int (*version)(struct hither_backend *b, char *version, size_t size,
	               struct hither_error *err);
	/*
	 * Make calls under way return -ECANCELED soon, and later ones at once. Never blocks. NULL:
	 * all calls are short.
	 */
	void (*cancel)(struct hither_backend *b);
	/*
	 * How many bytes from offset on, at least 1 and at most max, are of one kind: *hole tells
	 * whether they are stored nowhere and read as zeros. Never waits for a network. NULL, or
	 * where it cannot be known: all is data.
	 */
	uint64_t (*extent)(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole);
	/*
	 * A file's descriptor that has the resource's bytes at their places, for as long as b is
	 * open; -1: there is none. NULL: never. Borrowed.
	 */
	int (*local_fd)(struct hither_backend *b);
	/*
	 * Some backends cannot give a part of a unit (a hashed piece) for less than all of it: move
	 * *offset and *end, where a range inside the resource begins and ends, apart to where whole
	 * units do. Never blocks. NULL: there are no units but those of align_bytes.
	 */
	void (*whole)(struct hither_backend *b, uint64_t *offset, uint64_t *end);
	/*
	 * Nobody wants these bytes any more (whole blocks of align_bytes): they read as zeros from
	 * now on. No read or write of them is under way. Never waits for a network. NULL: cannot.
	 */
	void (*discard)(struct hither_backend *b, uint64_t offset, uint64_t len);
	/*
	 * Where seeks cost seconds: what is stored, as ranges in the order in which reading all of
	 * it is quickest; *ranges is the caller's to free. Asked once, after open; never waits.
	 * NULL, or an error: front to back.
	 */
	int (*layout)(struct hither_backend *b, struct hither_range **ranges, size_t *count);
	/* Free b. No call is under way. */
	void (*close)(struct hither_backend *b);
};

enum { HITHER_VERSION_BYTES = 256 };

/**
 * Open url by its scheme; a bare path means file:. Returns 0 and *out; -EPROTONOSUPPORT for a
 * scheme that this build lacks; else the backend's -errno. Blocks. Any thread.
 */
int hither_backend_open(const char *url, const struct hither_backend_options *options,
                        struct hither_backend **out, struct hither_error *err);

/**
 * What can be said of a URL before anybody is asked: 0; -EPROTONOSUPPORT for a scheme that this
 * build lacks; -EROFS if it shall be writable and nothing of its kind is. Never blocks. Any thread.
 */
int hither_backend_check_url(const char *url, bool writable, struct hither_error *err);

/**
 * Deliver [offset, offset + len) to sink. Any alignment and length. -EINVAL beyond the end.
 * Blocks, from any thread, at most b->parallel at a time.
 */
int hither_backend_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                        struct hither_sink *sink, struct hither_error *err);

/** The same into a buffer of len bytes, which is undefined after an error. */
int hither_backend_read_at(struct hither_backend *b, void *buf, size_t len, uint64_t offset,
                           struct hither_error *err);

/** Most ranges that hither_backend_read_many() reads in one exchange now; 1: it has no use. */
uint32_t hither_backend_most_ranges(struct hither_backend *b);
/**
 * Deliver ranges to sink, their bytes one after another as if they were one run. Not empty, not
 * touching each other, multiples of align_bytes, none longer than max_request_bytes. What was
 * delivered before a failure is good. -EINVAL beyond the end. Blocks, counts as one call of read.
 */
int hither_backend_read_many(struct hither_backend *b, const struct hither_range *ranges,
                             size_t count, struct hither_sink *sink, struct hither_error *err);

/** See ops->warm. -EOPNOTSUPP: this backend has no use for it. */
int hither_backend_warm(struct hither_backend *b, struct hither_error *err);

/**
 * Some sinks' dropped() has begun to say so: end the reads that deliver to them, with -ECANCELED.
 * Never blocks. False: this backend cannot, and they go on.
 */
bool hither_backend_drop(struct hither_backend *b);

/**
 * Write all of buf. Any alignment: over a backend with align_bytes > 1 the edges are read, changed
 * and written back (two such writes at a time are safe only if their aligned ranges are disjoint).
 * -EROFS unless WRITABLE, -EINVAL beyond the end. Durable after hither_backend_flush().
 */
int hither_backend_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                            struct hither_error *err);
/** The same, of bytes that a flush follows: where the backend can, the flush costs nothing then. */
int hither_backend_write_through(struct hither_backend *b, const void *buf, size_t len,
                                 uint64_t offset, struct hither_error *err);
/**
 * Make [offset, offset + len) zeros: see ops->zero; where that cannot be they are written. Errors
 * as of hither_backend_write_at().
 */
int hither_backend_zero(struct hither_backend *b, uint64_t offset, uint64_t len,
                        struct hither_error *err);
int hither_backend_flush(struct hither_backend *b, struct hither_error *err);

/** See ops->version. version: HITHER_VERSION_BYTES. */
int hither_backend_version(struct hither_backend *b, char version[HITHER_VERSION_BYTES],
                           struct hither_error *err);
/** See ops->extent. 0 < max, offset + max not beyond the end. */
uint64_t hither_backend_extent(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole);
/** See ops->whole; to multiples of align_bytes, too. offset < end, which is not beyond the end. */
void hither_backend_whole(struct hither_backend *b, uint64_t *offset, uint64_t *end);
/**
 * See ops->discard: of the whole blocks of align_bytes in the range. -EOPNOTSUPP: this backend
 * cannot; -EINVAL beyond the end.
 */
int hither_backend_discard(struct hither_backend *b, uint64_t offset, uint64_t len,
                           struct hither_error *err);
void hither_backend_cancel(struct hither_backend *b);
/** NULL is fine. */
void hither_backend_close(struct hither_backend *b);

/** The backends in this build, NULL-terminated. */
const struct hither_backend_ops *const *hither_backend_list(void);

/** A memory backend of size_bytes zeros, writable; no URL needed (memory:SIZE has one). */
int hither_backend_memory_create(uint64_t size_bytes, struct hither_backend **out,
                                 struct hither_error *err);
/**
 * The same in huge pages of the machine's default size (hugetlbfs), which are set aside at once and
 * never paged out; what is discarded stays set aside. -ENOMEM: so many are not free, and err tells
 * how to have them.
 */
int hither_backend_memory_huge(uint64_t size_bytes, struct hither_backend **out,
                               struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
