/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The http backend: a resource on a web server, read by range requests.
 *
 *   http.c          this: the table, the backend's life, read()
 *   http_open.c     the first request
 *   http_beside.c    what goes out beside it
 *   http_url.c      the URL and the secrets in it
 *   http_slot.c     connections, one for each request under way
 *   http_early.c    sockets that are connected before they are needed
 *   http_request.c  one request
 *   http_headers.c, http_judge.c, http_parts.c   what was answered, and is it what was asked for?
 * (no network) http_error.c    what libcurl's failures mean
 */
#include "backend/http_beside.h"
#include "backend/registry.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	MOST_PARALLEL = 64,
	USUAL_PARALLEL = 32,
};

static void share_lock(CURL *easy, curl_lock_data data, curl_lock_access access, void *user)
{
	struct http_backend *b = user;
	pthread_mutex_lock(&b->share_locks[data]);
}

static void share_unlock(CURL *easy, curl_lock_data data, void *user)
{
	struct http_backend *b = user;
	pthread_mutex_unlock(&b->share_locks[data]);
}

static void http_close(struct hither_backend *base)
{
	struct http_backend *b = (struct http_backend *)base;
	http_beside_drop(b);
	while (b->slots) {
		struct http_slot *slot = b->slots;
		b->slots = slot->next;
		if (b->url && !atomic_load(&b->cancelled))
			http_slot_leave(b, slot);
		else
			http_slot_destroy(slot);
	}
	http_early_finish(b);
	if (b->share)
		curl_share_cleanup(b->share);
	curl_slist_free_all(b->headers);
	curl_slist_free_all(b->other_headers);
	for (int i = 0; i < CURL_LOCK_DATA_LAST; i++)
		pthread_mutex_destroy(&b->share_locks[i]);
	pthread_mutex_destroy(&b->lock);
	if (b->password)
		explicit_bzero(b->password, strlen(b->password));
	free(b->url);
	free(b->user);
	free(b->password);
	free(b->netrc);
	free(b->ca_file);
	free(b->cert_file);
	free(b->key_file);
	free(b->proxy);
	free(b->first);
	free(b->location);
	free(b);
}

static struct http_backend *create(void)
{
	struct http_backend *b = calloc(1, sizeof *b);
	if (!b)
		return NULL;
	b->base = (struct hither_backend){.ops = &hither_backend_http, .align_bytes = 1};
	b->http_version = CURL_HTTP_VERSION_1_1; /* its connections are faster than one of HTTP/2 */
	pthread_mutex_init(&b->lock, NULL);
	for (int i = 0; i < CURL_LOCK_DATA_LAST; i++)
		pthread_mutex_init(&b->share_locks[i], NULL);
	b->share = curl_share_init();
	if (!b->share) {
		http_close(&b->base);
		return NULL;
	}
	curl_share_setopt(b->share, CURLSHOPT_USERDATA, b);
	curl_share_setopt(b->share, CURLSHOPT_LOCKFUNC, share_lock);
	curl_share_setopt(b->share, CURLSHOPT_UNLOCKFUNC, share_unlock);
	curl_share_setopt(b->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
	curl_share_setopt(b->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	return b;
}

/* false: no memory. */
static bool copy(char **out, const char *text)
{
	*out = text ? strdup(text) : NULL;
	return *out || !text;
}

static int configure(struct http_backend *b, const struct hither_backend_options *options,
                     struct hither_error *err)
{
	if (!copy(&b->ca_file, options->ca_file) || !copy(&b->cert_file, options->cert_file) ||
	    !copy(&b->key_file, options->key_file) || !copy(&b->proxy, options->proxy))
		return hither_fail(err, -ENOMEM, "http: no memory to open %s", b->shown);
	b->insecure = options->insecure;
	b->pooled = options->pooled;
	b->connect_timeout_ms = options->connect_timeout_ms ? options->connect_timeout_ms
	                                                    : HITHER_BACKEND_CONNECT_MS;
	b->idle_timeout_ms =
	        options->idle_timeout_ms ? options->idle_timeout_ms : HITHER_BACKEND_IDLE_MS;
	b->base.parallel = options->parallel ? options->parallel : USUAL_PARALLEL;
	if (b->base.parallel > MOST_PARALLEL)
		b->base.parallel = MOST_PARALLEL;
	for (size_t i = 0; options->headers && options->headers[i]; i++)
		if (!strpbrk(options->headers[i], ":;") || strpbrk(options->headers[i], "\r\n"))
			return hither_fail(err, -EINVAL,
			                   "http: header %zu is not of the form \"Name: value\"",
			                   i + 1);
	return 0;
}

static int http_backend_open(const char *url, const struct hither_backend_options *options,
                             struct hither_backend **out, struct hither_error *err)
{
	char shown[HTTP_SHOWN_BYTES];
	http_show_url(url, shown);
	int r = http_load_curl(err);
	if (r)
		return r;
	struct http_backend *b = create();
	if (!b)
		return hither_fail(err, -ENOMEM, "http: no memory to open %s", shown);
	memcpy(b->shown, shown, sizeof shown);
	r = configure(b, options, err);
	if (r == 0)
		r = http_url_split(b, url, options->user, err);
	if (r == 0)
		r = http_netrc_find(b, err);
	if (r == 0)
		r = options->unseen ? http_open_unseen(b, options, err)
		                    : http_open(b, options, err);
	if (r) {
		http_close(&b->base);
		return r;
	}
	b->base.head_bytes = b->first_bytes;
	*out = &b->base;
	return 0;
}

/* --- read --- */

/* Where to send the next request; NULL: no memory. *serial tells this location from later ones; 0:
 * b->url. */
static char *location(struct http_backend *b, uint64_t *serial)
{
	HITHER_LOCK_SCOPE(&b->lock);
	*serial = b->location ? b->location_serial : 0;
	return strdup(b->location ? b->location : b->url);
}

/* The place that redirects led to is no good any more: start from the front door next time. */
static void forget_location(struct http_backend *b, uint64_t serial)
{
	HITHER_LOCK_SCOPE(&b->lock);
	if (b->location && b->location_serial == serial)
		free(HITHER_TAKE(b->location, NULL));
}

/* As a signed URL answers once it has expired. */
static bool is_refusal(int status)
{
	return status == 401 || status == 403 || status == 404 || status == 410;
}

/* One request from one place. *again: it was refused there, but may be had elsewhere. */
static int read_once(struct http_backend *b, struct http_request *x, bool *again)
{
	uint64_t serial;
	HITHER_FREE char *url = location(b, &serial);
	x->slot = url ? http_slot_take(b, x->pick) : NULL;
	if (!x->slot)
		return hither_fail(x->err, -ENOMEM, "http: %s: no memory", b->shown);
	x->url = url;
	x->foreign = serial && !http_same_origin(url, b->url);
	x->headers = x->foreign ? b->other_headers : b->headers;
	int r = http_request_run(x);
	*again = r && serial && is_refusal(x->answer.status);
	if (*again || (serial && x->unreachable))
		forget_location(b, serial);
	if (r == 0 && x->moved)
		r = http_location_adopt(x);
	http_slot_give(b, x->slot);
	return r;
}

struct outcome {
	uint64_t delivered; /* bytes that the sink took */
	bool asked;         /* the server was reached */
};

/* One range, or several in one answer. */
static int read_ranges(struct http_backend *b, enum http_pick pick,
                       const struct hither_range *ranges, size_t count, struct hither_sink *sink,
                       struct outcome *out, struct hither_error *err)
{
	bool again = true;
	int r = 0;
	for (int tries = 0; again && tries < 2; tries++) {
		struct http_request x = {
		        .b = b,
		        .question = {.url = b->shown,
		                     .offset = ranges[0].offset,
		                     .len = ranges[0].len,
		                     .ranges = count > 1 ? ranges : NULL,
		                     .count = count,
		                     .size_bytes = b->base.size_bytes,
		                     .version = b->version},
		        .pick = pick,
		        .sink = sink,
		        .err = err,
		};
		r = read_once(b, &x, &again);
		*out = (struct outcome){x.delivered, x.connected};
	}
	if (r == 0 && err)
		*err = (struct hither_error){0}; /* of a place that is forgotten */
	return r;
}

static int http_read(struct hither_backend *base, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	struct http_backend *b = (struct http_backend *)base;
	int r;
	if (atomic_load(&b->cancelled))
		return hither_fail(err, -ECANCELED, "http: %s: cancelled", b->shown);
	if (offset < b->first_bytes && len) {
		uint64_t n = b->first_bytes - offset < len ? b->first_bytes - offset : len;
		r = sink->take(sink, b->first + offset, (size_t)n);
		if (r < 0)
			return hither_fail(err, r, "http: %s: the receiver gave up: %s", b->shown,
			                   strerror(-r));
		offset += n;
		len -= n;
	}
	r = http_beside_read(b, &offset, &len, sink, err);
	if (r)
		return r;
	return len ? read_ranges(b, HTTP_PICK_WARMEST, &(struct hither_range){offset, len}, 1, sink,
	                         &(struct outcome){0}, err)
	           : 0;
}

static int take_nothing(struct hither_sink *sink, const void *buf, size_t len)
{
	return 0;
}

/*
 * With TLS a socket that is connected saves one of two round trips. libcurl keeps a connection
 * whose handshakes are over only after a request: the least that any server which serves us
 * answers, one that knows signed URLs of GET alone, too, is a byte.
 */
static int warm_tls(struct http_backend *b, struct hither_error *err)
{
	struct hither_sink sink = {take_nothing};
	return read_ranges(b, HTTP_PICK_COLD, &(struct hither_range){0, 1}, 1, &sink,
	                   &(struct outcome){0}, err);
}

static int http_warm(struct hither_backend *base, struct hither_error *err)
{
	struct http_backend *b = (struct http_backend *)base;
	if (atomic_load(&b->cancelled))
		return hither_fail(err, -ECANCELED, "http: %s: cancelled", b->shown);
	if (b->first_bytes >= b->base.size_bytes)
		return 0; /* all is here */
	if (!strncasecmp(b->url, "https:", 6))
		return warm_tls(b, err);
	http_early_connect(b);
	return 0;
}

static uint64_t http_brought(struct hither_backend *base, uint32_t begun)
{
	return http_slot_next_brought((struct http_backend *)base, begun);
}

static uint32_t http_most_ranges(struct hither_backend *base)
{
	struct http_backend *b = (struct http_backend *)base;
	return atomic_load(&b->single) ? 1 : HTTP_MOST_RANGES;
}

/* The ranges without the first `done` bytes of them. */
static int read_singly(struct hither_backend *base, const struct hither_range *ranges, size_t count,
                       uint64_t done, struct hither_sink *sink, struct hither_error *err)
{
	int r = 0;
	for (size_t i = 0; !r && i < count; i++) {
		uint64_t skip = done < ranges[i].len ? done : ranges[i].len;
		done -= skip;
		if (skip < ranges[i].len)
			r = http_read(base, ranges[i].offset + skip, ranges[i].len - skip, sink,
			              err);
	}
	if (!r && err)
		*err = (struct hither_error){0};
	return r;
}

/*
 * An answer with several ranges broke off, and one range at a time went well. Once is an accident;
 * twice in a row it is how this server is. Those that were under way together are one accident.
 */
static void note_cut(struct http_backend *b, unsigned cuts)
{
	if (cuts > 0)
		atomic_store(&b->single, true);
	else
		atomic_compare_exchange_strong(&b->cuts, &cuts, 1);
}

/*
 * What the opening brought along is not looked at: few bytes, and rarely among these. Whatever the
 * server has against several ranges, what it has sent nevertheless is good, and the rest is had one
 * at a time: only if that fails, too, something is wrong.
 */
static int http_read_many(struct hither_backend *base, const struct hither_range *ranges,
                          size_t count, struct hither_sink *sink, struct hither_error *err)
{
	struct http_backend *b = (struct http_backend *)base;
	struct outcome out = {0};
	if (count < 2 || count > http_most_ranges(base))
		return read_singly(base, ranges, count, 0, sink, err);
	unsigned cuts = atomic_load(&b->cuts);
	int r = read_ranges(b, HTTP_PICK_LEAVE_ONE, ranges, count, sink, &out, err);
	bool cut = out.asked && (r == -ECONNRESET || r == -ETIMEDOUT);
	if (r == -EOPNOTSUPP || r == -EPROTO)
		atomic_store(&b->single, true);
	else if (!r)
		atomic_store(&b->cuts, 0);
	if (!cut && r != -EOPNOTSUPP && r != -EPROTO)
		return r;
	r = read_singly(base, ranges, count, out.delivered, sink, err);
	if (!r && cut)
		note_cut(b, cuts);
	return r;
}

static int http_version(struct hither_backend *base, char *version, size_t size,
                        struct hither_error *err)
{
	const struct http_backend *b = (const struct http_backend *)base;
	hither_http_version_print(&b->version, version, size);
	return 0;
}

static void wake_slots(struct http_backend *b)
{
	HITHER_LOCK_SCOPE(&b->lock);
	for (struct http_slot *slot = b->slots; slot; slot = slot->next)
		curl_multi_wakeup(slot->multi);
}

static void http_cancel(struct hither_backend *base)
{
	struct http_backend *b = (struct http_backend *)base;
	atomic_store(&b->cancelled, true);
	http_beside_wake(b);
	wake_slots(b);
}

static uint32_t http_connections(struct hither_backend *base)
{
	return http_slot_connections((struct http_backend *)base);
}

/* Each request looks whether it is meant. */
static void http_drop(struct hither_backend *base)
{
	wake_slots((struct http_backend *)base);
}

static const char *const schemes[] = {"http", "https", NULL};

const struct hither_backend_ops hither_backend_http = {
        .name = "http",
        .schemes = schemes,
        .open = http_backend_open,
        .read = http_read,
        .read_many = http_read_many,
        .most_ranges = http_most_ranges,
        .warm = http_warm,
        .brought = http_brought,
        .connections = http_connections,
        .drop = http_drop,
        .version = http_version,
        .cancel = http_cancel,
        .close = http_close,
};
