/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: one request for the first bytes, whose answer tells size, version and whether ranges are
 * supported. The bytes are kept, so that whoever looks at the head of the resource waits no more.
 */
#include "backend/http_beside.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int http_location_adopt(struct http_request *x)
{
	const char *url = NULL;
	curl_easy_getinfo(x->slot->easy, CURLINFO_EFFECTIVE_URL, &url);
	char *copy = url ? strdup(url) : NULL;
	if (!copy)
		return hither_fail(x->err, -ENOMEM, "http: %s: no memory", x->question.url);
	HITHER_LOCK_SCOPE(&x->b->lock);
	free(x->b->location);
	x->b->location = copy;
	x->b->location_serial++;
	return 0;
}

/* --- headers to send --- */

/* Goes to the origin that it was meant for only, as curl's own rule for redirects is. */
static bool is_secret(const char *header)
{
	return strncasecmp(header, "authorization:", 14) == 0 ||
	       strncasecmp(header, "cookie:", 7) == 0;
}

static bool append(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);
	if (longer)
		*list = longer;
	return longer != NULL;
}

/* The user's headers and `condition`, a whole line; "": none. NULL: no memory. */
static struct curl_slist *make_headers(const char *const *user, bool foreign, const char *condition)
{
	struct curl_slist *list = NULL;
	bool good = append(&list, "Accept-Encoding: identity");
	for (size_t i = 0; user && user[i]; i++)
		if (good && !(foreign && is_secret(user[i])))
			good = append(&list, user[i]);
	if (good && condition[0])
		good = append(&list, condition);
	if (good)
		return list;
	curl_slist_free_all(list);
	return NULL;
}

static void open_condition(const struct hither_http_version *known, char *out, size_t size)
{
	if (known->etag[0])
		snprintf(out, size, "If-None-Match: %s", known->etag);
	else if (known->modified[0])
		snprintf(out, size, "If-Modified-Since: %s", known->modified);
	else
		out[0] = 0;
}

/*
 * If-Match rather than If-Range: a resource that has changed costs one short answer (412), not a
 * whole body that has to be cut off. The answer is checked in any case; weak ETags cannot be sent
 * this way.
 */
static int make_range_headers(struct http_backend *b, const char *const *user,
                              struct hither_error *err)
{
	char condition[HITHER_HTTP_ETAG_BYTES + 16] = "";
	if (hither_http_version_is_strong(&b->version))
		snprintf(condition, sizeof condition, "If-Match: %s", b->version.etag);
	b->headers = make_headers(user, false, condition);
	b->other_headers = make_headers(user, true, condition);
	if (!b->headers || !b->other_headers)
		return hither_fail(err, -ENOMEM, "http: %s: no memory", b->shown);
	return 0;
}

/* --- the first bytes --- */

struct first_sink {
	struct hither_sink sink;
	struct http_backend *b;
	size_t room, wanted;
};

static int take_first(struct hither_sink *sink, const void *buf, size_t len)
{
	struct first_sink *first = HITHER_CONTAINER(sink, struct first_sink, sink);
	struct http_backend *b = first->b;
	if (b->first_bytes + len > HITHER_HTTP_WHOLE_BYTES)
		return -EFBIG;
	if (b->first_bytes + len > first->room) {
		size_t room = b->first_bytes + len > first->wanted ? HITHER_HTTP_WHOLE_BYTES
		                                                   : first->wanted;
		unsigned char *more = realloc(b->first, room);
		if (!more)
			return -ENOMEM;
		b->first = more;
		first->room = room;
	}
	memcpy(b->first + b->first_bytes, buf, len);
	b->first_bytes += len;
	return 0;
}

/* x was judged well. */
static void note_answer(struct http_backend *b, const struct http_request *x, uint64_t known_size)
{
	const char *modified = x->answer.version.modified;
	b->version = x->verdict == HITHER_HTTP_UNCHANGED ? x->question.version : x->answer.version;
	b->base.modified_ns = hither_http_date(*modified ? modified : b->version.modified) *
	                      (int64_t)HITHER_NS_PER_S;
	switch (x->verdict) {
	case HITHER_HTTP_UNCHANGED:
		b->base.size_bytes = known_size;
		break;
	case HITHER_HTTP_RANGE:
		b->base.size_bytes = x->answer.total;
		break;
	case HITHER_HTTP_WHOLE:
		b->base.size_bytes = b->first_bytes;
		b->base.wholes = true;
		break;
	default:
		b->base.size_bytes = 0;
	}
}

/*
 * How the request ended, made milder or plainer: a good answer whose body was cut is good enough
 * (the reads that follow will see), and too long a body without ranges means that ranges are
 * missing.
 */
static int settle(struct http_request *x, int r)
{
	bool range = x->judged && x->verdict == HITHER_HTTP_RANGE;
	if (range && hither_error_is_transient(r)) {
		if (x->err)
			*x->err = (struct hither_error){0};
		return 0;
	}
	if (r == -EFBIG && x->judged && x->verdict == HITHER_HTTP_WHOLE)
		return hither_http_no_ranges(&x->question, x->err);
	return r;
}

/* Some servers speak nothing but HTTP/2, and say so in one of these ways. */
static bool wants_http2(const struct http_request *x)
{
	if (strncasecmp(x->url, "https:", 6) != 0 || x->b->http_version != CURL_HTTP_VERSION_1_1)
		return false;
	switch (x->curl_code) {
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
		return x->answer.status == 0;
	default:
		return x->answer.status == 505 || x->answer.status == 426;
	}
}

/* One request for the first bytes. *verdict: HITHER_HTTP_*, set with 0. */
static int ask(struct http_backend *b, const struct hither_backend_options *options,
               const struct hither_http_version *known, bool *again_http2, int *verdict,
               struct hither_error *err)
{
	char condition[HITHER_HTTP_ETAG_BYTES + 32];
	open_condition(known, condition, sizeof condition);
	size_t wanted = options->first_bytes ? options->first_bytes : HITHER_HTTP_FIRST_BYTES;
	if (wanted > HITHER_HTTP_WHOLE_BYTES)
		wanted = HITHER_HTTP_WHOLE_BYTES;
	struct first_sink first = {.sink.take = take_first, .b = b, .wanted = wanted};
	struct http_request x = {
	        .b = b,
	        .slot = http_slot_take(b, HTTP_PICK_WARMEST),
	        .url = b->url,
	        .headers = make_headers(options->headers, false, condition),
	        .question = {.url = b->shown,
	                     .opening = true,
	                     .conditional = condition[0] != 0,
	                     .len = wanted,
	                     .version = *known},
	        .sink = &first.sink,
	        .err = err,
	};
	b->first_bytes = 0;
	http_beside_prepare(b, options, wanted, x.headers);
	x.beside = b->beside;
	if (x.slot)
		x.slot->beside = b->beside;
	int r = x.slot && x.headers ? settle(&x, http_request_run(&x))
	                            : hither_fail(err, -ENOMEM, "http: %s: no memory", b->shown);
	if (r == 0 && x.moved)
		r = http_location_adopt(&x);
	if (r == 0)
		note_answer(b, &x, options->known_size_bytes);
	*verdict = x.verdict;
	*again_http2 = r != 0 && wants_http2(&x);
	curl_slist_free_all(x.headers);
	if (x.slot)
		x.slot->beside = NULL;
	if (r == 0 && x.verdict == HITHER_HTTP_RANGE)
		http_beside_settle(b);
	else
		http_beside_drop(b);
	if (x.slot) {
		curl_easy_setopt(x.slot->easy, CURLOPT_HTTPHEADER, NULL);
		http_slot_give(b, x.slot);
	}
	return r;
}

/* Some server turned out to speak HTTP/2 only, which but an opening finds out. */
static atomic_bool met_http2;

int http_open(struct http_backend *b, const struct hither_backend_options *options,
              struct hither_error *err)
{
	struct hither_http_version known = {0};
	bool again;
	int verdict;
	if (options->known_version)
		hither_http_version_parse(&known, options->known_version);
	int r = ask(b, options, &known, &again, &verdict, err);
	if (again) {
		struct hither_error second = {0};
		b->http_version = CURL_HTTP_VERSION_2TLS;
		r = ask(b, options, &known, &again, &verdict, &second) ? r : 0;
		if (r == 0 && err)
			*err = second;
		if (r == 0)
			atomic_store(&met_http2, true);
	}
	if (r == 0 && verdict == HITHER_HTTP_RENEW) {
		known = (struct hither_http_version){0};
		r = ask(b, options, &known, &again, &verdict, err);
	}
	return r ? r : make_range_headers(b, options->headers, err);
}

int http_open_unseen(struct http_backend *b, const struct hither_backend_options *options,
                     struct hither_error *err)
{
	if (atomic_load(&met_http2))
		return http_open(b, options, err);
	b->base.size_bytes = options->known_size_bytes;
	return make_range_headers(b, options->headers, err);
}
