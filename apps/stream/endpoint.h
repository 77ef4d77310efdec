/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 server on loopback for one medium; request.h says what it answers. libmicrohttpd does
 * the protocol, with a thread a connection: a player that waits for the network holds up nobody
 * else.
 */
#ifndef HITHER_STREAM_ENDPOINT_H
#define HITHER_STREAM_ENDPOINT_H

#include "body.h"
#include "playback.h"

struct endpoint;

/* What is served. Borrowed; outlives the endpoint. */
struct endpoint_media {
	struct hither_mount *mount;
	const struct body *body;
	struct playback *playback;
	const char *name;      /* file name, for the page and the path */
	const char *shown_url; /* without secrets */
	/* A read failed, after which the client was cut off. Any thread. */
	void (*failed)(void *user, const struct hither_error *err);
	void *failed_user;
};

/*
 * Listen at "127.0.0.1:PORT", "[::1]:PORT" or "localhost:PORT"; port 0: any free one. It answers
 * when this returns. -EINVAL: no such address, or not one of this machine only; -EADDRINUSE.
 */
int endpoint_open(const struct endpoint_media *media, const char *listen, struct endpoint **out,
                  struct hither_error *err);
/* "http://127.0.0.1:8080/". Borrowed. */
const char *endpoint_url(const struct endpoint *e);
/* Ends connections. Waits for reads under way: cancel the mount first. NULL is fine. */
void endpoint_close(struct endpoint *e);

#endif
