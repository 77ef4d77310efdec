/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes out beside the first request, before the resource's size and version are known:
 * requests for the bytes that follow its first ones, and for its last ones, each on a connection of
 * its own.
 *
 *     first    connect | GET 0-8191 ........... size, version: open returns
 *     beside   connect | GET 8192-20479 ....... held until then
 *              connect | GET -32768 ........... held until then .......
 *
 * They cost no round trip, and the connections are there for the reads that follow. What comes is
 * given to the first read of it, if it is of the version and size that was opened; else, and
 * whatever else goes wrong with it, that read asks the server itself.
 */
#ifndef HITHER_BACKEND_HTTP_BESIDE_H
#define HITHER_BACKEND_HTTP_BESIDE_H

#include "backend/http_private.h"

/*
 * Prepare what options ask for, after so many first bytes; sends nothing. b->beside stays NULL
 * where it is nothing, or where there is no memory.
 */
void http_beside_prepare(struct http_backend *b, const struct hither_backend_options *options,
                         uint64_t first_bytes, struct curl_slist *headers);
/* Send them, once: when the server's name is known, so that it is looked up by one request only. */
void http_beside_start(struct http_beside *e);
/* b's size and version are known: note in b->base where the early bytes are. */
void http_beside_settle(struct http_backend *b);
/*
 * Give to sink what of [*offset, *offset + *len) is early, from *offset on, and move both. Waits
 * for what is on its way. 0, or what ended it: the sink, or cancel.
 */
int http_beside_read(struct http_backend *b, uint64_t *offset, uint64_t *len,
                     struct hither_sink *sink, struct hither_error *err);
/* b has been cancelled: whoever waits shall look. */
void http_beside_wake(struct http_backend *b);
/* End what is under way, and forget it all. b->beside is NULL then; it may have been before. */
void http_beside_drop(struct http_backend *b);

#endif
