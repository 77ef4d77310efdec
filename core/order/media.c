/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Media: the container's index first, wherever it is, then the bytes of each second from the
 * playheads on.
 *
 * A playhead is a place in time that somebody plays at: reads move it, and a read that fits none
 * makes a new one (a seek, or one more viewer). The one that has the least ahead of it is served
 * first, so that a seek makes what was wanted for the old place yield at once; one that is not
 * heard of for long gets nothing more. When all have what they should, the places that a viewer is
 * likely to seek to come, then, if the mount wants everything, the rest from the latest playhead
 * on.
 */
#include "order/format.h"
#include "order/piece.h"

#include <errno.h>
#include <hither/media.h>
#include <stdlib.h>
#include <string.h>

enum {
	PLAYHEADS = 16,
	IDLE_ACCESSES = 256, /* of others, until a playhead gets no more guesses */
	TARGETS = 16,
	NEAR_PIECES = 64, /* of one time, in several tracks */
	HOLD_CALLS = 64,  /* what does not come in so long may have failed */
};
#define AHEAD_US UINT64_C(30000000)
#define BACK_US UINT64_C(3000000)   /* so far back is no seek: tracks lie apart a little */
#define BEYOND_US UINT64_C(2000000) /* nor is so far beyond what was guessed */
#define TAIL_BYTES (UINT64_C(256) << 10)
#define LOOK_BYTES (UINT64_C(16) << 10)
#define URGENT_BYTES (UINT64_C(384) << 10) /* a key frame, and some */
#define HEAD_BYTES (UINT64_C(64) << 10)
/* Where the first samples are most likely, while the index is on its way: a key frame and some. */
#define FIRST_BYTES (UINT64_C(512) << 10)

struct playhead {
	uint64_t time_us;
	uint64_t used; /* when it was heard of, on the order's clock; 0: free */
	size_t cursor; /* number of the piece to guess next */
	size_t target; /* seek targets that are done */
};

struct media_order {
	struct hither_order base;
	struct hither_media_source source;
	const struct hither_order_view *view;
	struct hither_media media; /* piece_count 0: not known yet, or never */
	bool settled;              /* it is known, or known to be of no use */
	bool asked_ends, asked_first;
	struct hither_range asked;     /* of the index, last */
	struct hither_range rest;      /* of it, not yet handed out */
	struct hither_range last_seen; /* before the index was known */
	struct hither_range urgent;    /* where somebody waits after a seek; len 0: nowhere */
	struct hither_range hold;      /* was given, and has the line for itself */
	unsigned hold_calls;           /* so often it was not there yet */
	uint64_t clock;
	struct playhead heads[PLAYHEADS];
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

/* --- playheads --- */

static uint64_t cursor_us(const struct media_order *m, const struct playhead *h)
{
	return h->cursor < m->media.piece_count ? m->media.pieces[h->cursor].time_us : UINT64_MAX;
}

static bool active(const struct media_order *m, const struct playhead *h)
{
	return h->used && m->clock - h->used <= IDLE_ACCESSES;
}

static struct playhead *nearest(struct media_order *m, uint64_t time_us)
{
	struct playhead *best = NULL;
	for (int i = 0; i < PLAYHEADS; i++) {
		struct playhead *h = &m->heads[i];
		uint64_t end = cursor_us(m, h);
		if (h->used && time_us + BACK_US >= h->time_us &&
		    (end > UINT64_MAX - BEYOND_US || time_us <= end + BEYOND_US) &&
		    time_us <= h->time_us + 4 * AHEAD_US && (!best || h->time_us > best->time_us))
			best = h;
	}
	return best;
}

static struct playhead *least_used(struct media_order *m)
{
	struct playhead *least = &m->heads[0];
	for (int i = 1; i < PLAYHEADS; i++)
		if (m->heads[i].used < least->used)
			least = &m->heads[i];
	return least;
}

/* From `from` up to the end of the piece that offset is in. */
static void hurry(struct media_order *m, size_t number, uint64_t from, uint64_t offset)
{
	for (size_t i = 0; i < NEAR_PIECES && number + i < m->media.piece_count; i++) {
		const struct hither_media_piece *p = &m->media.pieces[number + i];
		if (offset < p->offset || offset - p->offset >= p->len)
			continue;
		uint64_t left = p->offset + p->len - from;
		m->urgent = (struct hither_range){from, left < URGENT_BYTES ? left : URGENT_BYTES};
		return;
	}
}

/*
 * What a read is for is at its end: players read from the page on in which a key frame begins, and
 * so first the end of what is played before it.
 */
static void heard_of(struct media_order *m, struct hither_range r, bool waited)
{
	uint64_t time_us, last = r.offset + (r.len ? r.len - 1 : 0);
	if (!hither_media_time_of(&m->media, last, &time_us))
		return;
	m->clock++;
	struct playhead *h = nearest(m, time_us);
	if (!h) {
		h = least_used(m);
		*h = (struct playhead){.time_us = time_us,
		                       .cursor = hither_media_at_time(&m->media, time_us)};
		if (waited)
			hurry(m, h->cursor, r.offset, last);
	}
	h->used = m->clock;
	if (time_us > h->time_us)
		h->time_us = time_us;
	if (cursor_us(m, h) < h->time_us) /* it is faster than we are */
		h->cursor = hither_media_at_time(&m->media, h->time_us);
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
	m->clock++;
	m->heads[0] = (struct playhead){.used = m->clock};
	if (m->last_seen.len)
		heard_of(m, m->last_seen, false);
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
	uint64_t size = m->view->size_bytes;
	if (m->asked_first)
		return false;
	m->asked_first = true;
	*out = (struct hither_range){0, size < FIRST_BYTES ? size : FIRST_BYTES};
	return true;
}

/* --- guesses --- */

static uint64_t ahead_us(const struct media_order *m)
{
	return m->view->ahead_ms ? m->view->ahead_ms * UINT64_C(1000) : AHEAD_US;
}

/* How much time h has ahead of it that was guessed. */
static uint64_t buffered_us(const struct media_order *m, const struct playhead *h)
{
	uint64_t end = cursor_us(m, h);
	return end > h->time_us ? end - h->time_us : 0;
}

static struct playhead *hungriest(struct media_order *m, uint64_t most_us)
{
	struct playhead *best = NULL;
	for (int i = 0; i < PLAYHEADS; i++) {
		struct playhead *h = &m->heads[i];
		if (!active(m, h) || h->cursor >= m->media.piece_count ||
		    buffered_us(m, h) >= most_us)
			continue;
		if (!best || buffered_us(m, h) < buffered_us(m, best) ||
		    (buffered_us(m, h) == buffered_us(m, best) && h->used > best->used))
			best = h;
	}
	return best;
}

/* The next piece of h, with those that follow it in the file as well. */
static bool feed(struct media_order *m, struct playhead *h, uint64_t window_bytes,
                 struct hither_range *out)
{
	const struct hither_media_piece *p = &m->media.pieces[h->cursor++];
	*out = (struct hither_range){p->offset, p->len};
	while (h->cursor < m->media.piece_count && out->len < window_bytes / 4) {
		p = &m->media.pieces[h->cursor];
		if (p->offset != out->offset + out->len)
			break;
		out->len += p->len;
		h->cursor++;
	}
	return true;
}

/* Where viewers go: players' keys, and the tenths of the bar. */
static bool target_us(const struct media_order *m, const struct playhead *h, size_t number,
                      uint64_t *out)
{
	static const int32_t steps_s[] = {10, -10, 5, 60, -5, 30};
	size_t steps = sizeof steps_s / sizeof *steps_s;
	if (number < steps) {
		int64_t us = steps_s[number] * INT64_C(1000000);
		if (us < 0 && h->time_us < (uint64_t)-us)
			return false;
		*out = h->time_us + (uint64_t)us;
	} else {
		*out = m->media.duration_us / 10 * (number - steps + 1);
	}
	return *out < m->media.duration_us;
}

/* The piece before time that decoding can begin at, so that the picture is there at once. */
static size_t key_before(const struct media_order *m, uint64_t time_us)
{
	size_t at = hither_media_at_time(&m->media, time_us);
	for (size_t back = 0; back < 64 && back <= at; back++)
		if (at - back < m->media.piece_count &&
		    m->media.pieces[at - back].flags & HITHER_MEDIA_KEY)
			return at - back;
	return at;
}

static struct playhead *latest(struct media_order *m)
{
	struct playhead *best = &m->heads[0];
	for (int i = 1; i < PLAYHEADS; i++)
		if (m->heads[i].used > best->used)
			best = &m->heads[i];
	return best;
}

static bool guess_target(struct media_order *m, struct hither_range *out)
{
	struct playhead *h = latest(m);
	uint64_t time_us;
	while (h->target < TARGETS) {
		if (!target_us(m, h, h->target++, &time_us))
			continue;
		size_t n = key_before(m, time_us);
		if (n >= m->media.piece_count)
			continue;
		*out = (struct hither_range){m->media.pieces[n].offset, m->media.pieces[n].len};
		return true;
	}
	return false;
}

static bool is_local(const struct media_order *m, struct hither_range r)
{
	uint8_t byte;
	for (uint64_t at = 0; at < r.len; at += LOOK_BYTES)
		if (m->view->peek(m->view, &byte, 1, r.offset + at))
			return false;
	return m->view->peek(m->view, &byte, 1, r.offset + r.len - 1) == 0;
}

/* After a seek: what is waited for, and nothing beside it until it is here. */
static bool serve_seek(struct media_order *m, struct hither_range *out)
{
	if (m->urgent.len) {
		*out = m->hold = m->urgent;
		m->hold_calls = 0;
		m->urgent.len = 0;
		return true;
	}
	if (m->hold.len && (m->hold_calls++ == HOLD_CALLS || is_local(m, m->hold)))
		m->hold.len = 0;
	*out = (struct hither_range){m->hold.offset, 0};
	return m->hold.len > 0;
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
	if (m->media.piece_count == 0)
		return false;
	if (serve_seek(m, out))
		return true;
	struct playhead *h = hungriest(m, ahead_us(m));
	if (h)
		return feed(m, h, window_bytes, out);
	if (guess_target(m, out))
		return true;
	h = m->view->background ? hungriest(m, UINT64_MAX) : NULL;
	return h && feed(m, h, window_bytes, out);
}

static void media_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct media_order *m = of(o);
	if (m->media.piece_count)
		heard_of(m, (struct hither_range){offset, len}, waited);
	else
		m->last_seen = (struct hither_range){offset, len};
}

static void media_arrived(struct hither_order *o, uint64_t offset, uint64_t len)
{
	/* The mount asks next() again after this; that is when the index is looked at. */
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
