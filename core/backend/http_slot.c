/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of connections of the http backend. Last used first, so that what is open is used again.
 * What a backend leaves open when it is closed is kept for the next one of this process that speaks
 * to the same origin: whoever looks for several files beside each other pays one handshake each.
 */
#include "backend/http_private.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/tcp.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_REDIRECTS = 10, LEFT_MOST = 96 };
#define LEFT_NS (30 * HITHER_NS_PER_S)

/* Slots without a backend. Which connection suits a request is libcurl's to say, by host, proxy and
 * TLS settings; the origin only tells which slot may have one. */
struct left {
	struct http_slot *slot; /* NULL: free */
	char *url;
	uint64_t since_ns;
};
static pthread_mutex_t left_lock = PTHREAD_MUTEX_INITIALIZER; /* guards left */
static struct left left[LEFT_MOST];

static void set_up_tls(CURL *easy, const struct http_backend *b)
{
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, b->insecure ? 0L : 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, b->insecure ? 0L : 2L);
	if (b->ca_file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, b->ca_file);
	if (b->cert_file)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, b->cert_file);
	if (b->key_file)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, b->key_file);
}

static void set_up(struct http_slot *slot, struct http_backend *b)
{
	CURL *easy = slot->easy;
	slot->b = b;
	slot->early_fd = -1;
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, http_early_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, slot);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, http_early_settled);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, slot);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, http_early_closed);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, slot);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->curl_message);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, http_on_header);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, http_on_body);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, http_on_connected);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L); /* there are threads */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT,
	                 1L); /* cancel() does not wait for a name server */
	curl_easy_setopt(easy, CURLOPT_SHARE, b->share);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)MOST_REDIRECTS);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)b->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)HTTP_GATHER_BYTES);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "hither/" HITHER_VERSION);
	if (b->proxy)
		curl_easy_setopt(easy, CURLOPT_PROXY, b->proxy);
	/* A proxy's word on the tunnel to a TLS server is not that server's answer. */
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	set_up_tls(easy, b);
}

void http_slot_destroy(struct http_slot *slot)
{
	if (!slot)
		return;
	curl_easy_cleanup(slot->easy);
	curl_multi_cleanup(slot->multi);
	free(slot->gather);
	free(slot);
}

static struct http_slot *create(struct http_backend *b)
{
	struct http_slot *slot = calloc(1, sizeof *slot);
	if (!slot)
		return NULL;
	slot->fd = -1;
	slot->easy = curl_easy_init();
	slot->multi = curl_multi_init();
	slot->gather = malloc(HTTP_GATHER_BYTES);
	if (!slot->easy || !slot->multi || !slot->gather) {
		http_slot_destroy(slot);
		return NULL;
	}
	set_up(slot, b);
	/* Where redirects start and where they lead. */
	curl_multi_setopt(slot->multi, CURLMOPT_MAXCONNECTS, 2L);
	return slot;
}

static uint32_t count_locked(const struct http_backend *b)
{
	uint32_t count = 0;
	for (const struct http_slot *slot = b->slots; slot; slot = slot->next)
		count++;
	return count;
}

uint32_t http_slot_connections(struct http_backend *b)
{
	HITHER_LOCK_SCOPE(&b->lock);
	uint32_t count = count_locked(b) + http_early_count_locked(b);
	for (const struct http_slot *slot = b->idle; slot; slot = slot->next_idle)
		count -= !http_early_is_open(slot->fd);
	return count;
}

static struct http_slot *take_idle(struct http_backend *b, enum http_pick pick)
{
	HITHER_LOCK_SCOPE(&b->lock);
	struct http_slot **at = &b->idle, *slot = b->idle;
	if (!slot || (pick == HTTP_PICK_LEAVE_ONE && !slot->next_idle) ||
	    (pick == HTTP_PICK_COLD && count_locked(b) < b->base.parallel))
		return NULL;
	while (pick == HTTP_PICK_COLD && (*at)->next_idle)
		at = &(*at)->next_idle;
	slot = *at;
	*at = slot->next_idle;
	return slot;
}

static void forget(struct left *l)
{
	http_slot_destroy(l->slot);
	free(l->url);
	*l = (struct left){0};
}

static struct http_slot *take_left(const struct http_backend *b)
{
	struct left *last = NULL;
	uint64_t now = hither_now_ns();
	HITHER_LOCK_SCOPE(&left_lock);
	for (int i = 0; i < LEFT_MOST; i++) {
		struct left *l = &left[i];
		if (l->slot && now - l->since_ns > LEFT_NS)
			forget(l);
		if (l->slot && (!last || l->since_ns > last->since_ns) &&
		    http_same_origin(l->url, b->url))
			last = l;
	}
	struct http_slot *slot = last ? HITHER_TAKE(last->slot, NULL) : NULL;
	if (last)
		forget(last);
	return slot;
}

void http_slot_leave(const struct http_backend *b, struct http_slot *slot)
{
	char *url = slot->used ? strdup(b->url) : NULL;
	curl_easy_reset(slot->easy); /* and nothing points to b any more */
	curl_easy_setopt(slot->easy, CURLOPT_SHARE, NULL);
	HITHER_LOCK_SCOPE(&left_lock);
	int oldest = 0;
	for (int i = 0; i < LEFT_MOST; i++)
		if (left[i].since_ns < left[oldest].since_ns)
			oldest = i;
	if (!url) {
		http_slot_destroy(slot);
		return;
	}
	forget(&left[oldest]);
	left[oldest] = (struct left){slot, url, hither_now_ns()};
}

struct http_slot *http_slot_take(struct http_backend *b, enum http_pick pick)
{
	struct http_slot *slot = take_idle(b, pick);
	if (slot)
		return slot;
	slot = take_left(b);
	if (slot)
		set_up(slot, b);
	else
		slot = create(b);
	if (!slot)
		return NULL;
	HITHER_LOCK_SCOPE(&b->lock);
	slot->next = b->slots;
	b->slots = slot;
	return slot;
}

uint64_t http_slot_brought(const struct http_slot *slot)
{
	return slot->used && hither_now_ns() - slot->rests_ns < HITHER_TCP_RTO_MIN_NS
	               ? slot->brought
	               : 0;
}

uint64_t http_slot_next_brought(struct http_backend *b, uint32_t begun)
{
	HITHER_LOCK_SCOPE(&b->lock);
	uint32_t idle = 0, all = count_locked(b);
	for (const struct http_slot *s = b->idle; s; s = s->next_idle)
		idle++;
	const struct http_slot *slot = b->idle;
	for (uint32_t busy = all - idle; slot && busy < begun; busy++)
		slot = slot->next_idle;
	return slot ? http_slot_brought(slot) : 0;
}

static void unlink_slot(struct http_backend *b, struct http_slot *slot)
{
	HITHER_LOCK_SCOPE(&b->lock);
	struct http_slot **at = &b->slots;
	while (*at != slot)
		at = &(*at)->next;
	*at = slot->next;
}

void http_slot_give(struct http_backend *b, struct http_slot *slot)
{
	if (b->pooled) {
		unlink_slot(b, slot);
		http_slot_leave(b, slot);
		return;
	}
	HITHER_LOCK_SCOPE(&b->lock);
	struct http_slot **at = &b->idle;
	while (!slot->used && *at) /* those that have a connection are used before */
		at = &(*at)->next_idle;
	slot->next_idle = *at;
	*at = slot;
}
