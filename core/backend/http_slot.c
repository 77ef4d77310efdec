/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of connections of the http backend. Last used first, so that what is open is used again.
 */
#include "backend/http_private.h"
#include "base/cleanup.h"

#include <stdlib.h>

enum { MOST_REDIRECTS = 10 };

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

static void set_up(struct http_slot *slot, const struct http_backend *b)
{
	CURL *easy = slot->easy;
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

static struct http_slot *create(const struct http_backend *b)
{
	struct http_slot *slot = calloc(1, sizeof *slot);
	if (!slot)
		return NULL;
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

static struct http_slot *take_idle(struct http_backend *b)
{
	HITHER_LOCK_SCOPE(&b->lock);
	struct http_slot *slot = b->idle;
	if (slot)
		b->idle = slot->next_idle;
	return slot;
}

struct http_slot *http_slot_take(struct http_backend *b)
{
	struct http_slot *slot = take_idle(b);
	if (slot)
		return slot;
	slot = create(b);
	if (!slot)
		return NULL;
	HITHER_LOCK_SCOPE(&b->lock);
	slot->next = b->slots;
	b->slots = slot;
	return slot;
}

void http_slot_give(struct http_backend *b, struct http_slot *slot)
{
	HITHER_LOCK_SCOPE(&b->lock);
	slot->next_idle = b->idle;
	b->idle = slot;
}
