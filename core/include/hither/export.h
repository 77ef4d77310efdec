/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD export: mounts offered by name to any NBD client, over TCP, UNIX sockets, sockets that
 * systemd hands over, and descriptors that are connected already.
 */
#ifndef HITHER_EXPORT_H
#define HITHER_EXPORT_H

#include <hither/mount.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hither_export;

/** What is offered. Strings are copied; the mount stays the caller's and outlives the export. */
struct hither_export_volume {
	const char *name;        /* at most 4096 bytes; "" or NULL: the unnamed one */
	const char *description; /* for who asks; NULL: none */
	struct hither_mount *mount;
	bool read_only; /* refuse writes though the mount could */
};

enum hither_export_tls {
	HITHER_EXPORT_TLS_OFF,
	HITHER_EXPORT_TLS_ON,      /* for clients that ask for it */
	HITHER_EXPORT_TLS_REQUIRE, /* nothing is told to others, not even names */
};

struct hither_export_options {
	enum hither_export_tls tls;
	/* Folder with server-cert.pem, server-key.pem, ca-cert.pem, and perhaps ca-crl.pem. */
	const char *tls_certificates;
	bool tls_verify_peer;      /* only clients whose certificate ca-cert.pem vouches for */
	const char *tls_psk_file;  /* lines of NAME:KEY, the key in hexadecimal digits (psktool) */
	uint32_t max_connections;  /* more are turned away; 0: 128 */
	uint32_t handshake_ms;     /* a client that is not through by then is dropped; 0: 10 s */
	uint32_t idle_ms;          /* and one that neither sends nor takes anything; 0: never */
	uint32_t connection_bytes; /* most bytes of a connection's requests under way, roughly; a
	                              longer single request is taken by itself; 0: 16 MiB */
	uint32_t drain_ms; /* on stop, how long clients have to take their last replies; 0: 5 s */
	/*
	 * May this client, whose connected socket is fd, come in? Asked for each one that was
	 * accepted at a listening socket, before a byte is read or sent; on serve()'s thread. NULL:
	 * all may.
	 */
	bool (*admit)(void *user, int fd);
	void *admit_user;
	/* Troubles with clients, one line each; any thread. NULL: not wanted. */
	void (*log)(void *user, const char *message);
	void *log_user;
};

struct hither_export_stats {
	uint64_t connections; /* since the start */
	uint64_t refused;     /* of these: too many, or no handshake */
	uint32_t connected;   /* now */
	uint64_t requests;
	uint64_t read_bytes;    /* answered with data */
	uint64_t written_bytes; /* taken */
};

/** Copies what it is given; opens nothing but TLS' files. */
int hither_export_create(const struct hither_export_volume *volumes, size_t count,
                         const struct hither_export_options *options, struct hither_export **out,
                         struct hither_error *err);
/**
 * Listen at "HOST:PORT", "[V6]:PORT", ":PORT" (all addresses; port 0: any free one) or "unix:PATH",
 * which is made, and removed in the end. What is left of a dead server at PATH is replaced.
 */
int hither_export_listen(struct hither_export *e, const char *address, struct hither_error *err);
/** Listen on fd, a listening stream socket, which becomes the export's. */
int hither_export_listen_fd(struct hither_export *e, int fd, struct hither_error *err);
/**
 * Listen on the sockets that systemd passed to this process (LISTEN_PID, LISTEN_FDS; cleared).
 * Returns how many there are, or -errno.
 */
int hither_export_listen_activated(struct hither_export *e, struct hither_error *err);
/** The number'th place, as a URL's authority or "unix:PATH" ("fd:N" of a socket of another kind
 * that was handed over); NULL: there are not so many. Borrowed. */
const char *hither_export_address(const struct hither_export *e, size_t number);

/**
 * Serve fd, a connected stream socket, on a thread of its own; it becomes the export's, and is
 * closed at its end. volume NULL: the client shakes hands. Else transmission of that volume begins
 * at once, with simple replies: the other side (a kernel's client, say) knows
 * hither_export_flags() and the mount's size. -ENOTSOCK: another kind of descriptor. Any thread.
 */
int hither_export_connect(struct hither_export *e, int fd, const char *volume,
                          struct hither_error *err);
/** NBD's transmission flags of a volume; 0: there is none of that name. */
uint16_t hither_export_flags(const struct hither_export *e, const char *volume);

/** Accept clients until stopped, and return when the last one is served. Blocks. */
int hither_export_serve(struct hither_export *e, struct hither_error *err);
/**
 * Take no more connections and requests; what is under way is answered. Safe in a signal handler.
 * Requests that wait for a network do so until their mount is cancelled.
 */
void hither_export_stop(struct hither_export *e);
void hither_export_stats(struct hither_export *e, struct hither_export_stats *out);
/** Stop if need be, wait for the last connection, free. serve has returned or was never called.
 * NULL is fine. */
void hither_export_destroy(struct hither_export *e);

#ifdef __cplusplus
}
#endif
#endif
