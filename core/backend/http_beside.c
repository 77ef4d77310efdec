/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/http_beside.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE_BYTES = HITHER_TCP_FIRST_BLOCK_BYTES,
	MOST_PIECES = 48,
	PAGE_SHIFT = 12,
	STACK_BYTES = 256 << 10,
};

/* One request, and its bytes. */
struct piece {
	struct http_beside *early;
	pthread_t thread;
	bool started;
	bool last;            /* the last len bytes; offset is known once the size is */
	unsigned char *bytes; /* [len], as it was asked for; NULL: given away */

	/* Guarded by the lock. */
	uint64_t offset, len;   /* len: 0 where it turns out to be beyond the end */
	struct http_slot *slot; /* NULL: it is not under way */
	struct hither_http_version version;
	uint64_t total; /* the resource's size by the answer; 0: no answer yet */
	size_t got;
	bool over;
	unsigned readers;
	uint64_t given; /* pages that some read has got, or waits for, a bit each */
};

struct http_beside {
	struct http_backend *b;
	struct curl_slist *headers;
	bool started;
	atomic_bool dropped;
	pthread_mutex_t lock; /* taken before http_backend.lock, guards what is said */
	pthread_cond_t news;
	size_t count;
	struct piece pieces[];
};

/* --- the requests --- */

struct piece_sink {
	struct hither_sink sink;
	struct piece *p;
	const struct http_request *x;
};

static int take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct piece_sink *s = HITHER_CONTAINER(sink, struct piece_sink, sink);
	struct piece *p = s->p;
	HITHER_LOCK_SCOPE(&p->early->lock);
	if (s->x->verdict != HITHER_HTTP_RANGE || len > p->len - p->got)
		return -ECANCELED;
	memcpy(p->bytes + p->got, buf, len);
	p->version = s->x->answer.version;
	p->total = s->x->answer.total;
	p->got += len;
	pthread_cond_broadcast(&p->early->news);
	return 0;
}

static void release_locked(struct piece *p)
{
	if (p->over && !p->readers && p->given == UINT64_MAX)
		free(HITHER_TAKE(p->bytes, NULL));
}

static void *piece_main(void *arg)
{
	struct piece *p = arg;
	struct http_beside *e = p->early;
	struct http_backend *b = e->b;
	struct http_slot *slot = http_slot_take(b, HTTP_PICK_WARMEST);
	struct http_request x = {
	        .b = b,
	        .slot = slot,
	        .url = b->url,
	        .headers = e->headers,
	        .dropped = &e->dropped,
	        .question = {.url = b->shown, .opening = true, .last = p->last},
	};
	struct piece_sink sink = {{take}, p, &x};
	x.sink = &sink.sink;
	pthread_mutex_lock(&e->lock);
	x.question.offset = p->offset;
	x.question.len = p->len;
	p->slot = slot;
	pthread_mutex_unlock(&e->lock);
	if (slot && x.question.len)
		http_request_run(&x); /* what became of it, the bytes tell */
	pthread_mutex_lock(&e->lock);
	p->slot = NULL;
	p->over = true;
	release_locked(p);
	pthread_cond_broadcast(&e->news);
	pthread_mutex_unlock(&e->lock);
	if (slot) {
		curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, NULL);
		http_slot_give(b, slot);
	}
	return NULL;
}

static void start(struct piece *p)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	p->started = !pthread_create(&p->thread, &attr, piece_main, p);
	pthread_attr_destroy(&attr);
	HITHER_LOCK_SCOPE(&p->early->lock);
	p->over = p->over || !p->started;
}

void http_beside_start(struct http_beside *e)
{
	if (e->started)
		return;
	e->started = true;
	for (size_t i = 0; i < e->count; i++)
		start(&e->pieces[i]);
}

/* --- life --- */

static bool prepare(struct http_beside *e, bool last, uint64_t offset, uint64_t len)
{
	struct piece *p = &e->pieces[e->count];
	*p = (struct piece){.early = e, .last = last, .offset = offset, .len = len};
	p->bytes = malloc(len);
	e->count += p->bytes != NULL;
	return p->bytes;
}

static struct curl_slist *copy_headers(const struct curl_slist *from)
{
	struct curl_slist *list = NULL;
	for (; from; from = from->next) {
		struct curl_slist *longer = curl_slist_append(list, from->data);
		if (!longer) {
			curl_slist_free_all(list);
			return NULL;
		}
		list = longer;
	}
	return list;
}

void http_beside_prepare(struct http_backend *b, const struct hither_backend_options *options,
                         uint64_t first_bytes, struct curl_slist *headers)
{
	uint32_t count = options->beside < MOST_PIECES ? options->beside : MOST_PIECES;
	/* The answer to a condition has no bytes. */
	if (!count || options->known_version || hither_has_few_files())
		return;
	struct http_beside *e = calloc(1, sizeof *e + count * sizeof e->pieces[0]);
	if (!e)
		return;
	e->b = b;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->news, NULL);
	b->beside = e;
	e->headers = copy_headers(headers);
	uint64_t last = options->last_bytes;
	bool good = e->headers;
	if (good && last)
		good = prepare(e, true, 0,
		               last < HTTP_BESIDE_LAST_BYTES ? last : HTTP_BESIDE_LAST_BYTES);
	for (uint64_t at = first_bytes; good && e->count < count; at += PIECE_BYTES)
		good = prepare(e, false, at, PIECE_BYTES);
	if (!good)
		http_beside_drop(b);
}

void http_beside_wake(struct http_backend *b)
{
	if (!b->beside)
		return;
	HITHER_LOCK_SCOPE(&b->beside->lock);
	pthread_cond_broadcast(&b->beside->news);
}

static void stop(struct http_beside *e)
{
	atomic_store(&e->dropped, true);
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->count; i++)
		if (e->pieces[i].slot)
			curl_multi_wakeup(e->pieces[i].slot->multi);
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < e->count; i++)
		if (e->pieces[i].started)
			pthread_join(e->pieces[i].thread, NULL);
}

void http_beside_drop(struct http_backend *b)
{
	struct http_beside *e = HITHER_TAKE(b->beside, NULL);
	if (!e)
		return;
	stop(e);
	for (size_t i = 0; i < e->count; i++)
		free(e->pieces[i].bytes);
	curl_slist_free_all(e->headers);
	pthread_cond_destroy(&e->news);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* --- what they brought --- */

static uint64_t pages(const struct piece *p, uint64_t offset, uint64_t end)
{
	uint64_t from = (offset >> PAGE_SHIFT) - (p->offset >> PAGE_SHIFT);
	uint64_t to = ((end - 1) >> PAGE_SHIFT) - (p->offset >> PAGE_SHIFT) + 1;
	return (to < 64 ? (UINT64_C(1) << to) - 1 : UINT64_MAX) & ~((UINT64_C(1) << from) - 1);
}

void http_beside_settle(struct http_backend *b)
{
	struct http_beside *e = b->beside;
	uint64_t size = b->base.size_bytes, from = UINT64_MAX, end = 0;
	if (!e)
		return;
	http_beside_start(e); /* who waits for a piece waits for a thread's word */
	HITHER_LOCK_SCOPE(&e->lock);
	for (size_t i = 0; i < e->count; i++) {
		struct piece *p = &e->pieces[i];
		if (p->last) {
			p->offset = size > p->len ? size - p->len : 0;
			p->len = size - p->offset;
			b->base.early[1] = (struct hither_range){p->offset, p->len};
		} else {
			uint64_t left = size > p->offset ? size - p->offset : 0;
			p->len = p->len < left ? p->len : left;
			from = p->offset < from ? p->offset : from;
			end = p->offset + p->len > end ? p->offset + p->len : end;
		}
		/* Bits of pages that it has not are as good as given. */
		p->given = p->len ? ~pages(p, p->offset, p->offset + p->len) : UINT64_MAX;
	}
	if (from < size && end > from)
		b->base.early[0] = (struct hither_range){from, end - from};
}

static bool fits(const struct http_backend *b, const struct piece *p)
{
	return p->total == b->base.size_bytes &&
	       !hither_http_versions_differ(&p->version, &b->version);
}

/* The piece with the byte at offset, which nobody has got; claims up to *end of it. */
static struct piece *claim_locked(struct http_beside *e, uint64_t offset, uint64_t *end)
{
	for (size_t i = 0; i < e->count; i++) {
		struct piece *p = &e->pieces[i];
		if (offset < p->offset || offset - p->offset >= p->len ||
		    p->given & pages(p, offset, offset + 1))
			continue;
		uint64_t stop = p->offset + p->len;
		*end = *end < stop ? *end : stop;
		while (p->given & pages(p, offset, *end))
			*end = (*end - 1) >> PAGE_SHIFT << PAGE_SHIFT;
		p->given |= pages(p, offset, *end);
		p->readers++;
		return p;
	}
	return NULL;
}

/* What p has brought from offset on, up to end; 0: there will be no more. */
static size_t wait_locked(struct piece *p, uint64_t offset, uint64_t end)
{
	struct http_beside *e = p->early;
	size_t at = (size_t)(offset - p->offset);
	while (p->got <= at && !p->over && !atomic_load(&e->b->cancelled))
		pthread_cond_wait(&e->news, &e->lock);
	if (p->got <= at || !fits(e->b, p))
		return 0;
	return p->got - at < end - offset ? p->got - at : (size_t)(end - offset);
}

/* Up to end. *more: all of that was had. */
static int give(struct piece *p, uint64_t *offset, uint64_t end, struct hither_sink *sink,
                bool *more)
{
	struct http_beside *e = p->early;
	size_t n;
	int r = 0;
	pthread_mutex_lock(&e->lock);
	while (!r && *offset < end && (n = wait_locked(p, *offset, end))) {
		pthread_mutex_unlock(&e->lock);
		r = sink->take(sink, p->bytes + (*offset - p->offset), n);
		*offset += n;
		pthread_mutex_lock(&e->lock);
	}
	*more = *offset == end;
	p->readers--;
	release_locked(p);
	pthread_mutex_unlock(&e->lock);
	return r;
}

int http_beside_read(struct http_backend *b, uint64_t *offset, uint64_t *len,
                     struct hither_sink *sink, struct hither_error *err)
{
	struct http_beside *e = b->beside;
	bool more = e != NULL;
	while (more && *len) {
		uint64_t was = *offset, end = *offset + *len;
		pthread_mutex_lock(&e->lock);
		struct piece *p = claim_locked(e, *offset, &end);
		pthread_mutex_unlock(&e->lock);
		if (!p)
			return 0;
		int r = give(p, offset, end, sink, &more);
		*len -= *offset - was;
		if (r < 0)
			return hither_fail(err, r, "http: %s: the receiver gave up: %s", b->shown,
			                   strerror(-r));
		if (atomic_load(&b->cancelled))
			return hither_fail(err, -ECANCELED, "http: %s: cancelled", b->shown);
	}
	return 0;
}
