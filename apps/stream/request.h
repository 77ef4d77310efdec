/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request to the endpoint gets. The endpoint is for this machine's programs and for its own
 * page: a page of another origin that a browser has open gets nothing, under whatever name it
 * reaches us (DNS rebinding).
 *
 *     /               the page with a player
 *     /status         what is local, where the playhead is, as JSON; ?at=SECONDS tells the latter
 *     /media[/NAME]   the media, with Range; any NAME
 */
#ifndef HITHER_STREAM_REQUEST_H
#define HITHER_STREAM_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

/* As it came; NULL where there is no such header. */
struct request {
	const char *method, *path; /* the path without query */
	const char *host, *origin, *range, *if_range;
	const char *site;    /* Sec-Fetch-Site */
	unsigned host_count; /* Host headers */
};

enum request_what { REQUEST_NOTHING, REQUEST_PAGE, REQUEST_STATUS, REQUEST_MEDIA };

struct answer {
	unsigned status; /* 200, 206; 400, 403, 404, 405, 416: what is REQUEST_NOTHING */
	enum request_what what;
	uint64_t first, len; /* of the media: the bytes of the body (of HEAD: those of GET) */
};

/* port: we listen on; size_bytes: of the media; etag: its, with quotes. */
void request_judge(const struct request *r, uint16_t port, uint64_t size_bytes, const char *etag,
                   struct answer *out);

/* "12.5" seconds in microseconds; false: no such number, or beyond a year. */
bool request_seconds(const char *text, uint64_t *us);

#endif
