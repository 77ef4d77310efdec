/* SPDX-License-Identifier: Apache-2.0 */
#include "endpoint.h"

#include "guests.h"
#include "listen.h"
#include "page.h"
#include "picture.h"
#include "request.h"
#include "start.h"
#include "util.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum {
	GUESTS = 64,
	GUESTS_FEW_FILES = 12,
	REQUEST_BYTES = 16 << 10, /* its line and headers */
	STACK_BYTES = 256 << 10,  /* of a connection's thread */
	SEND_BYTES = 256 << 10,   /* at a time */
	IDLE_S = 30,              /* for a request to come, and to be taken */
	HOLD_MS = 1100,           /* an answer for its cushion */
	PAUSED_S = 4 * 3600,      /* a player that is paused takes no bytes */
	MOST_STALLS = 1000000,
};

struct endpoint {
	struct endpoint_media media;
	struct MHD_Daemon *daemon;
	uint16_t port;
	const char *type;
	char url[LISTEN_TEXT_BYTES + 16];
	char etag[2 * 8 + 3]; /* of this run: another one may serve another version */
	struct guests guests;
	unsigned most_guests;
	atomic_uint viewers;
};

/* The body of one answer. */
struct flow {
	struct endpoint *endpoint;
	struct guest *guest;
	uint64_t first;
	bool began; /* bytes of the media have been sent */
};

/* --- who is connected --- */

static struct guest *guest_of(struct MHD_Connection *c)
{
	return MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* The library calls before it closes the connection: until then its descriptor is nobody else's. */
static void guest_comes_or_goes(void *user, struct MHD_Connection *c, void **context,
                                enum MHD_ConnectionNotificationCode what)
{
	struct endpoint *e = user;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		guests_leave(&e->guests, *context);
		free(*context);
	} else if ((*context = calloc(1, sizeof(struct guest)))) {
		guests_enter(
		        &e->guests, *context,
		        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
		        e->most_guests);
	}
}

/* --- answers --- */

static void add_header(struct MHD_Response *r, const char *name, const char *value)
{
	MHD_add_response_header(r, name, value); /* fails without memory; the answer is then bare */
}

static enum MHD_Result send_answer(struct MHD_Connection *c, unsigned status,
                                   struct MHD_Response *r)
{
	if (!r)
		return MHD_NO;
	add_header(r, "X-Content-Type-Options", "nosniff");
	add_header(r, "Cross-Origin-Resource-Policy", "same-origin");
	add_header(r, "Referrer-Policy", "no-referrer");
	/* What is here is here already: a browser need not keep it once more. */
	add_header(r, "Cache-Control", "no-store");
	enum MHD_Result result = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return result;
}

static enum MHD_Result send_text(struct MHD_Connection *c, unsigned status, const char *type,
                                 const char *text, size_t len)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(len, (void *)(uintptr_t)text,
	                                                         MHD_RESPMEM_MUST_COPY);
	if (r)
		add_header(r, "Content-Type", type);
	return send_answer(c, status, r);
}

static enum MHD_Result refuse(const struct endpoint *e, struct MHD_Connection *c, unsigned status)
{
	char text[64], all[48];
	int len = snprintf(text, sizeof text, "%u %s\n", status, MHD_get_reason_phrase_for(status));
	struct MHD_Response *r =
	        MHD_create_response_from_buffer((size_t)len, text, MHD_RESPMEM_MUST_COPY);
	if (r && status == MHD_HTTP_METHOD_NOT_ALLOWED)
		add_header(r, "Allow", "GET, HEAD");
	if (r && status == MHD_HTTP_RANGE_NOT_SATISFIABLE) {
		snprintf(all, sizeof all, "bytes */%llu",
		         (unsigned long long)e->media.body->size_bytes);
		add_header(r, "Content-Range", all);
	}
	return send_answer(c, status, r);
}

static enum MHD_Result send_page(struct MHD_Connection *c)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(
	        page_html_len, (void *)(uintptr_t)page_html, MHD_RESPMEM_PERSISTENT);
	if (r) {
		add_header(r, "Content-Type", "text/html; charset=utf-8");
		add_header(r, "Content-Security-Policy",
		           "default-src 'none'; media-src 'self'; connect-src 'self'; style-src "
		           "'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'");
	}
	return send_answer(c, MHD_HTTP_OK, r);
}

/* --- the media --- */

static void gather_cushion(const struct flow *f, uint64_t at, uint64_t place, char *buf, size_t max)
{
	const struct endpoint_media *m = &f->endpoint->media;
	uint64_t left = playback_cushion(m->playback, place),
	         end = now_ns() + HOLD_MS * NS_PER_S / 1000;
	while (left && at < m->body->size_bytes && now_ns() < end) {
		ssize_t n = body_read(m->body, buf, left < max ? left : max, at, NULL);
		if (n <= 0)
			return; /* who reads the same next is told why */
		at += (uint64_t)n;
		left -= (uint64_t)n;
	}
}

static ssize_t read_flow(void *user, uint64_t at, char *buf, size_t max)
{
	struct flow *f = user;
	struct hither_error err = {0};
	uint64_t place;
	guests_heard(&f->endpoint->guests, f->guest);
	if (!f->began && body_place(f->endpoint->media.body, f->first + at, &place)) {
		f->began = true;
		gather_cushion(f, f->first + at, place, buf, max);
	}
	ssize_t n = body_read(f->endpoint->media.body, buf, max, f->first + at, &err);
	if (n < 0) {
		f->endpoint->media.failed(f->endpoint->media.failed_user, &err);
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (body_place(f->endpoint->media.body, f->first + at, &place))
		playback_read(f->endpoint->media.playback, place);
	return n;
}

static void free_flow(void *user)
{
	struct flow *f = user;
	atomic_fetch_sub(&f->endpoint->viewers, 1);
	free(f);
}

static void describe_range(struct MHD_Response *r, const struct answer *a, uint64_t size)
{
	char text[80];
	snprintf(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)a->first,
	         (unsigned long long)(a->first + a->len - 1), (unsigned long long)size);
	add_header(r, "Content-Range", text);
}

static enum MHD_Result send_media(struct endpoint *e, struct MHD_Connection *c,
                                  const struct answer *a)
{
	struct flow *f = calloc(1, sizeof *f);
	if (!f)
		return MHD_NO;
	*f = (struct flow){.endpoint = e, .guest = guest_of(c), .first = a->first};
	struct MHD_Response *r =
	        MHD_create_response_from_callback(a->len, SEND_BYTES, read_flow, f, free_flow);
	if (!r) {
		free(f);
		return MHD_NO;
	}
	atomic_fetch_add(&e->viewers, 1);
	add_header(r, "Content-Type", e->type);
	add_header(r, "Accept-Ranges", "bytes");
	add_header(r, "ETag", e->etag);
	if (a->status == MHD_HTTP_PARTIAL_CONTENT)
		describe_range(r, a, e->media.body->size_bytes);
	MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)PAUSED_S);
	return send_answer(c, a->status, r);
}

/* --- status --- */

static const char *argument(struct MHD_Connection *c, const char *name)
{
	return MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, name);
}

/* The page tells where it is with each question. */
static void hear_page(struct endpoint *e, struct MHD_Connection *c)
{
	const char *at = argument(c, "at"), *stalls = argument(c, "stalls");
	const char *stalled = argument(c, "stalled");
	uint64_t us, count;
	if (at && request_seconds(at, &us))
		playback_told(e->media.playback, us);
	if (stalls && stalled && request_seconds(stalls, &count) &&
	    count / 1000000 <= MOST_STALLS && request_seconds(stalled, &us))
		playback_stalls(e->media.playback, (uint32_t)(count / 1000000), us);
}

static enum MHD_Result send_status(struct endpoint *e, struct MHD_Connection *c)
{
	AUTO_JSON struct json j = {0};
	hear_page(e, c);
	struct picture_about about = {
	        .mount = e->media.mount,
	        .playback = e->media.playback,
	        .name = e->media.name,
	        .shown_url = e->media.shown_url,
	        .faststart = e->media.body->layout.count > 0,
	        .viewers = atomic_load(&e->viewers),
	};
	picture_json(&j, &about);
	if (j.failed)
		return MHD_NO;
	return send_text(c, MHD_HTTP_OK, "application/json", j.text, j.len);
}

/* --- requests --- */

static enum MHD_Result count_host(void *user, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
	if (!strcasecmp(key, MHD_HTTP_HEADER_HOST))
		++*(unsigned *)user;
	return MHD_YES;
}

static const char *header(struct MHD_Connection *c, const char *name)
{
	return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

/* Of a request with a body nothing is taken: it is answered at once, and the connection closed. */
static bool has_body(struct MHD_Connection *c)
{
	const char *len = header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
	return (len && strcmp(len, "0")) || header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

static enum MHD_Result handle(void *user, struct MHD_Connection *c, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_len, void **state)
{
	static int seen;
	struct endpoint *e = user;
	struct answer a;
	guests_heard(&e->guests, guest_of(c));
	/* The library calls once with the headers, and again at the end of the request; answered
	 * then, the connection is kept. */
	if (!*state && !has_body(c)) {
		*state = &seen;
		return MHD_YES;
	}
	struct request r = {
	        .method = method,
	        .path = path,
	        .host = header(c, MHD_HTTP_HEADER_HOST),
	        .origin = header(c, MHD_HTTP_HEADER_ORIGIN),
	        .site = header(c, "Sec-Fetch-Site"),
	        .range = header(c, MHD_HTTP_HEADER_RANGE),
	        .if_range = header(c, MHD_HTTP_HEADER_IF_RANGE),
	};
	MHD_get_connection_values(c, MHD_HEADER_KIND, count_host, &r.host_count);
	request_judge(&r, e->port, e->media.body->size_bytes, e->etag, &a);
	switch (a.what) {
	case REQUEST_PAGE:
		return send_page(c);
	case REQUEST_STATUS:
		return send_status(e, c);
	case REQUEST_MEDIA:
		return send_media(e, c, &a);
	case REQUEST_NOTHING:
		break;
	}
	return refuse(e, c, a.status);
}

/* The library would log what clients do wrong to stderr. */
static void ignore_log(void *user, const char *fmt, va_list ap)
{
}

/* --- life --- */

static const char *type_of(struct hither_mount *m)
{
	static const struct {
		const char *format, *type;
	} types[] = {
	        {"mp4", "video/mp4"}, {"matroska", "video/webm"}, {"avi", "video/x-msvideo"},
	        {"wav", "audio/wav"}, {"flac", "audio/flac"},     {"ogg", "audio/ogg"},
	};
	uint8_t head[64];
	size_t len = hither_mount_size(m) < sizeof head ? hither_mount_size(m) : sizeof head;
	if (hither_mount_read_at(m, head, len, 0, NULL))
		return "application/octet-stream";
	const char *format = hither_media_recognise_format(head, len);
	for (size_t i = 0; format && i < COUNT_OF(types); i++)
		if (!strcmp(types[i].format, format))
			return types[i].type;
	return "application/octet-stream";
}

static void make_etag(struct endpoint *e)
{
	uint8_t random[8] = {0};
	char *at = e->etag;
	if (getrandom(random, sizeof random, 0) < 0)
		memcpy(random, &(uint64_t){now_ns()}, sizeof random);
	*at++ = '"';
	for (size_t i = 0; i < sizeof random; i++)
		at += sprintf(at, "%02x", random[i]);
	strcpy(at, "\"");
}

int endpoint_open(const struct endpoint_media *media, const char *listen, struct endpoint **out,
                  struct hither_error *err)
{
	char where[LISTEN_TEXT_BYTES];
	AUTO_CLOSE int fd = -1;
	AUTO_FREE struct endpoint *e = calloc(1, sizeof *e);
	if (!e)
		return hither_fail(err, -ENOMEM, "no memory");
	int r = listen_loopback(listen, &fd, &e->port, where, err);
	if (r)
		return r;
	e->media = *media;
	e->guests = (struct guests)GUESTS_INITIALIZER;
	e->most_guests = start_has_few_files() ? GUESTS_FEW_FILES : GUESTS;
	e->type = type_of(media->mount);
	snprintf(e->url, sizeof e->url, "http://%s/", where);
	make_etag(e);
	e->daemon = MHD_start_daemon(
	        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
	                MHD_USE_ITC | MHD_USE_ERROR_LOG,
	        e->port, NULL, NULL, handle, e, MHD_OPTION_EXTERNAL_LOGGER, ignore_log, NULL,
	        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
	        2 * e->most_guests, /* those that have been told to leave take a moment */
	        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	        (size_t)REQUEST_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
	        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_CONNECTION, guest_comes_or_goes,
	        e, MHD_OPTION_END);
	if (!e->daemon)
		return hither_fail(err, -ENOMEM, "start the HTTP server: %s", strerror(errno));
	fd = -1; /* the library's */
	*out = TAKE(e, NULL);
	return 0;
}

const char *endpoint_url(const struct endpoint *e)
{
	return e->url;
}

void endpoint_close(struct endpoint *e)
{
	if (!e)
		return;
	MHD_stop_daemon(e->daemon);
	free(e);
}
