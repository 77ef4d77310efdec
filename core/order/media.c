/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Media: the container's index first, wherever it is, the bytes that are most likely played first
 * beside it, then the bytes of each second from the playheads on (media_heads.h).
 */
#include "order/format.h"
#include "order/media_heads.h"

#include <errno.h>
#include <stdlib.h>

#define TAIL_BYTES (UINT64_C(256) << 10)
#define HEAD_BYTES (UINT64_C(64) << 10)
/*
 * Where the first samples are most likely, while the index is on its way: what a player reads to
 * find out what it has, and its first second. Step by step: once the index is here it knows better.
 */
#define FIRST_BYTES (UINT64_C(2) << 20)
#define FIRST_STEP (UINT64_C(64) << 10)
#define SEEK_CONNECTIONS 47

struct media_order {
	struct hither_order base;
	struct hither_media_source source;
	const struct hither_order_view *view;
	struct hither_media media; /* piece_count 0: not known yet, or never */
	bool settled;              /* it is known, or known to be of no use */
	bool asked_ends;
	uint64_t first;                /* up to here was asked for beside the index */
	struct hither_range asked;     /* of the index, last */
	struct hither_range rest;      /* of it, not yet handed out */
	struct hither_range last_seen; /* before the index was known */
	struct media_heads heads;      /* once it is */
};

static struct media_order *of(struct hither_order *o)
{
	return (struct media_order *)o;
}

static int read_local(const struct hither_media_source *s, void *buf, size_t len, uint64_t offset)
{
	const struct media_order *m =
	        (const struct media_order *)(const void *)((const char *)s -
	                                                   offsetof(struct media_order, source));
	return m->view->peek(m->view, buf, len, offset);
}

/* --- the index --- */

static void settle(struct media_order *m)
{
	struct hither_range wanted;
	int r = hither_media_parse(&m->source, &m->media, &wanted, NULL);
	if (r == -EAGAIN) {
		if (wanted.offset != m->asked.offset || wanted.len != m->asked.len)
			m->asked = m->rest = wanted;
		return;
	}
	m->settled = true;
	if (r)
		return;
	/* It will be played from the start, unless somebody reads elsewhere already. */
	media_heads_begin(&m->heads, m->view, &m->media);
	if (m->view->warm) /* for a seek, which takes all that there are */
		m->view->warm(m->view, SEEK_CONNECTIONS);
	if (m->last_seen.len)
		media_heads_hear(&m->heads, m->last_seen, false);
}

/* Where nothing is local yet, the head and the tail go in one round trip: one of them has it. */
static bool ask_ends(struct media_order *m, struct hither_range *out)
{
	uint8_t first;
	uint64_t size = m->view->size_bytes;
	if (m->asked_ends || size <= HEAD_BYTES + TAIL_BYTES ||
	    m->view->peek(m->view, &first, 1, 0) == 0)
		return false;
	if (m->asked.len == 0) {
		m->asked = (struct hither_range){.len = HEAD_BYTES};
		*out = m->asked;
		return true;
	}
	m->asked_ends = true;
	*out = (struct hither_range){size - TAIL_BYTES, TAIL_BYTES};
	return true;
}

static bool ask_first(struct media_order *m, struct hither_range *out)
{
	uint64_t most = m->view->size_bytes < FIRST_BYTES ? m->view->size_bytes : FIRST_BYTES;
	uint64_t left = most > m->first ? most - m->first : 0;
	*out = (struct hither_range){m->first, left < FIRST_STEP ? left : FIRST_STEP};
	m->first += out->len;
	return out->len > 0;
}

static bool media_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct media_order *m = of(o);
	if (!m->settled && ask_ends(m, out))
		return true;
	if (!m->settled)
		settle(m);
	if (!m->settled) {
		*out = m->rest;
		m->rest = (struct hither_range){0};
		return out->len > 0 || ask_first(m, out);
	}
	return m->media.piece_count > 0 && media_heads_next(&m->heads, window_bytes, out);
}

static void media_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct media_order *m = of(o);
	if (m->media.piece_count)
		media_heads_hear(&m->heads, (struct hither_range){offset, len}, waited);
	else
		m->last_seen = (struct hither_range){offset, len};
}

static void media_arrived(struct hither_order *o, uint64_t offset, uint64_t len)
{
	/* The mount asks next() again after this; that is when the index is looked at. */
	if (of(o)->media.piece_count)
		media_heads_came(&of(o)->heads, len);
}

static void media_destroy(struct hither_order *o)
{
	hither_media_finish(&of(o)->media);
	free(o);
}

static const struct hither_order_ops media_ops = {
        .name = "media",
        .next = media_next,
        .saw = media_saw,
        .arrived = media_arrived,
        .destroy = media_destroy,
};

static int create(const struct hither_order_view *view, struct hither_order **out,
                  struct hither_error *err)
{
	struct media_order *m = calloc(1, sizeof *m);
	if (!m)
		return hither_fail(err, -ENOMEM, "order media: no memory");
	m->base.ops = &media_ops;
	m->view = view;
	m->source =
	        (struct hither_media_source){.size_bytes = view->size_bytes, .read = read_local};
	*out = &m->base;
	return 0;
}

static bool recognise(const uint8_t *head, size_t len, uint64_t size_bytes)
{
	return hither_media_recognise(head, len);
}

const struct hither_order_format hither_order_media = {"media", recognise, create};
