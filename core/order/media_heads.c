/* SPDX-License-Identifier: Apache-2.0 */
#include "order/media_heads.h"

#include <string.h>

enum {
	IDLE_ACCESSES = 256, /* of others, until a playhead gets no more guesses */
	TARGETS = 16,
	NEAR_PIECES = 64, /* of one time, in several tracks */
	SURELY = 3,       /* so often heard of after another has appeared, it has not gone there */
	HOLD_CALLS = 256, /* what does not come in so long may have failed */
};
#define AHEAD_US UINT64_C(30000000)
#define BACK_US UINT64_C(3000000)   /* so far back is no seek: tracks lie apart a little */
#define BEYOND_US UINT64_C(2000000) /* nor is so far beyond what was guessed */
#define EASE_US UINT64_C(2000000)   /* who has so much ahead of him can wait */
#define LOOK_BYTES (UINT64_C(16) << 10)
#define URGENT_BYTES (UINT64_C(1) << 20)          /* a key frame, and some */
#define URGENT_BESIDE_BYTES (UINT64_C(128) << 10) /* of each other track */
/*
 * What was said is not taken back, and whoever has to wait meanwhile has his said first: a little
 * at a time. Where all of the line is needed a request's worth, so that nothing of what is played
 * next comes behind what is played after it.
 */
#define STEP_BYTES (UINT64_C(128) << 10)
#define STEP_NARROW_BYTES (UINT64_C(32) << 10)
#define BEFORE_BYTES (UINT64_C(16) << 10) /* times within a piece are estimates: so much sooner */

static uint64_t cursor_us(const struct media_heads *hs, const struct media_head *h)
{
	return h->cursor < hs->media->piece_count ? hs->media->pieces[h->cursor].time_us
	                                          : UINT64_MAX;
}

/* Since a new one has appeared, the others must be heard of again: one may have jumped there. */
static bool active(const struct media_heads *hs, const struct media_head *h)
{
	return h->used && h->born == hs->born && h->heard >= SURELY &&
	       hs->clock - h->used <= IDLE_ACCESSES;
}

static bool is_local(const struct media_heads *hs, struct hither_range r)
{
	uint8_t byte;
	for (uint64_t at = 0; at < r.len; at += LOOK_BYTES)
		if (hs->view->peek(hs->view, &byte, 1, r.offset + at))
			return false;
	return !r.len || hs->view->peek(hs->view, &byte, 1, r.offset + r.len - 1) == 0;
}

static struct hither_range range_of(const struct media_heads *hs, size_t number)
{
	const struct hither_media_piece *p = &hs->media->pieces[number];
	return (struct hither_range){p->offset, p->len};
}

/* Does the line carry hardly more than what is played? All of it is needed then, all the time. */
static bool is_narrow(const struct media_heads *hs)
{
	uint64_t rate = hs->view->rate_bytes;
	return rate && rate / 4 < hs->rate;
}

static uint64_t step_bytes(const struct media_heads *hs, uint64_t window_bytes)
{
	if (is_narrow(hs))
		return STEP_NARROW_BYTES;
	return window_bytes / 12 > STEP_BYTES ? window_bytes / 12 : STEP_BYTES;
}

static void hand_out(struct media_heads *hs, struct hither_range r, struct hither_range *out)
{
	uint8_t byte;
	for (uint64_t at = 0; at < r.len; at += LOOK_BYTES)
		if (hs->view->peek(hs->view, &byte, 1, r.offset + at))
			hs->under_way += r.len - at < LOOK_BYTES ? r.len - at : LOOK_BYTES;
	*out = r;
}

void media_heads_came(struct media_heads *hs, uint64_t len)
{
	hs->under_way -= len < hs->under_way ? len : hs->under_way;
	hs->calls = 0;
}

/* --- hearing --- */

static struct media_head *nearest(struct media_heads *hs, uint64_t time_us)
{
	struct media_head *best = NULL;
	for (int i = 0; i < MEDIA_HEADS; i++) {
		struct media_head *h = &hs->heads[i];
		uint64_t end = cursor_us(hs, h);
		if (h->used && time_us + BACK_US >= h->time_us &&
		    (end > UINT64_MAX - BEYOND_US || time_us <= end + BEYOND_US) &&
		    time_us <= h->time_us + 4 * AHEAD_US && (!best || h->time_us > best->time_us))
			best = h;
	}
	return best;
}

static struct media_head *least_used(struct media_heads *hs)
{
	struct media_head *least = &hs->heads[0];
	for (int i = 1; i < MEDIA_HEADS; i++)
		if (hs->heads[i].used < least->used)
			least = &hs->heads[i];
	return least;
}

static void add_urgent(struct media_heads *hs, uint64_t offset, uint64_t len, uint64_t most)
{
	if (hs->wave_count == MEDIA_URGENT)
		return;
	struct hither_range r = {offset, len < most ? len : most};
	hs->urgent[hs->wave_count] = hs->wave[hs->wave_count] = r;
	hs->wave_count++;
}

/* What is before a time in a piece, of which several tracks' may be one. */
static uint64_t skipped(const struct hither_media_piece *p, uint64_t time_us)
{
	uint64_t part = (uint64_t)((unsigned __int128)p->len * (time_us - p->time_us) /
	                           (p->end_us - p->time_us));
	return part > BEFORE_BYTES ? part - BEFORE_BYTES : 0;
}

/*
 * All that the first picture takes, in one wave: from `from` up to the end of the piece that the
 * last byte of the read is in, and what the other tracks have for that time.
 */
static void hurry(struct media_heads *hs, size_t number, uint64_t time_us, uint64_t from,
                  uint64_t last)
{
	const struct hither_media *m = hs->media;
	memset(hs->urgent, 0, sizeof hs->urgent);
	hs->wave_count = hs->wave_calls = 0;
	for (size_t i = 0; i < NEAR_PIECES && number + i < m->piece_count; i++) {
		const struct hither_media_piece *p = &m->pieces[number + i];
		if (last >= p->offset && last - p->offset < p->len) {
			add_urgent(hs, from, p->offset + p->len - from, URGENT_BYTES);
			break;
		}
	}
	for (size_t i = 0; i < NEAR_PIECES && number + i < m->piece_count; i++) {
		const struct hither_media_piece *p = &m->pieces[number + i];
		if (p->time_us <= time_us && p->end_us > time_us &&
		    (last < p->offset || last - p->offset >= p->len)) {
			uint64_t skip = skipped(p, time_us);
			add_urgent(hs, p->offset + skip, p->len - skip, URGENT_BESIDE_BYTES);
		}
	}
	uint64_t bytes = 0;
	for (size_t i = 0; i < hs->wave_count; i++)
		bytes += hs->wave[i].len;
	if (hs->view->hurry)
		hs->view->hurry(hs->view, bytes);
}

static void place(struct media_heads *hs, struct media_head *h)
{
	h->cursor = hither_media_at_time(hs->media, h->time_us);
	h->cursor_bytes = 0;
}

/*
 * What a read is for is at its end: players read from the page on in which a key frame begins, and
 * so first the end of what is played before it.
 */
void media_heads_hear(struct media_heads *hs, struct hither_range r, bool waited)
{
	uint64_t time_us, last = r.offset + (r.len ? r.len - 1 : 0);
	if (!hither_media_time_of(hs->media, last, &time_us))
		return;
	hs->clock++;
	struct media_head *h = nearest(hs, time_us);
	if (!h) {
		h = least_used(hs);
		*h = (struct media_head){.time_us = time_us};
		hs->born = h->born = hs->clock;
		h->heard = SURELY;
		place(hs, h);
		if (waited)
			hurry(hs, h->cursor, time_us, r.offset, last);
	}
	h->used = hs->clock;
	h->heard = h->born == hs->born ? h->heard + 1 : 1;
	h->born = hs->born;
	if (time_us > h->time_us)
		h->time_us = time_us;
	if (cursor_us(hs, h) < h->time_us) /* it is faster than we are */
		place(hs, h);
}

/* --- guesses --- */

static uint64_t ahead_us(const struct media_heads *hs)
{
	return hs->view->ahead_ms ? hs->view->ahead_ms * UINT64_C(1000) : AHEAD_US;
}

/* How much time h has ahead of it that was guessed. */
static uint64_t guessed_us(const struct media_heads *hs, const struct media_head *h)
{
	uint64_t end = cursor_us(hs, h);
	return end > h->time_us ? end - h->time_us : 0;
}

static struct media_head *hungriest(struct media_heads *hs, uint64_t most_us)
{
	struct media_head *best = NULL;
	for (int i = 0; i < MEDIA_HEADS; i++) {
		struct media_head *h = &hs->heads[i];
		if (!active(hs, h) || h->cursor >= hs->media->piece_count ||
		    guessed_us(hs, h) >= most_us)
			continue;
		if (!best || guessed_us(hs, h) < guessed_us(hs, best) ||
		    (guessed_us(hs, h) == guessed_us(hs, best) && h->used > best->used))
			best = h;
	}
	return best;
}

/* The next of h, with what follows it in the file as well. */
static void feed(struct media_heads *hs, struct media_head *h, uint64_t window_bytes,
                 struct hither_range *out)
{
	uint64_t step = step_bytes(hs, window_bytes);
	uint64_t join = window_bytes / 4 < step ? window_bytes / 4 : step;
	const struct hither_media_piece *p = &hs->media->pieces[h->cursor];
	struct hither_range r = {p->offset + h->cursor_bytes, p->len - h->cursor_bytes};
	if (r.len > step) {
		r.len = step;
		h->cursor_bytes += step;
		hand_out(hs, r, out);
		return;
	}
	h->cursor_bytes = 0;
	while (++h->cursor < hs->media->piece_count && r.len < join) {
		p = &hs->media->pieces[h->cursor];
		if (p->offset != r.offset + r.len || p->len > step)
			break;
		r.len += p->len;
	}
	hand_out(hs, r, out);
}

/*
 * May more be on its way? The window is what the line carries and some that queues; of two sevenths
 * of it, half the line, a seek hardly notices.
 */
static bool may_feed(struct media_heads *hs, struct media_head *h, uint64_t window_bytes)
{
	if (hs->view->background || is_narrow(hs) || guessed_us(hs, h) < EASE_US ||
	    hs->under_way < window_bytes / 7 * 2)
		return true;
	if (hs->calls++ < HOLD_CALLS)
		return false;
	hs->under_way = hs->calls = 0; /* some of it has failed, or was here */
	return true;
}

/* Where viewers go: players' keys, and the tenths of the bar. */
static bool target_us(const struct media_heads *hs, const struct media_head *h, size_t number,
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
		*out = hs->media->duration_us / 10 * (number - steps + 1);
	}
	return *out < hs->media->duration_us;
}

static struct media_head *latest(struct media_heads *hs)
{
	struct media_head *best = &hs->heads[0];
	for (int i = 1; i < MEDIA_HEADS; i++)
		if (hs->heads[i].used > best->used)
			best = &hs->heads[i];
	return best;
}

/* One after another, since nobody is there yet. */
static bool guess_target(struct media_heads *hs, struct hither_range *out)
{
	struct media_head *h = latest(hs);
	uint64_t time_us;
	if (hs->target.len && !is_local(hs, hs->target) && hs->target_calls++ < HOLD_CALLS) {
		*out = (struct hither_range){hs->target.offset, 0};
		return true;
	}
	hs->target.len = hs->target_calls = 0;
	while (h->target < TARGETS) {
		if (!target_us(hs, h, h->target++, &time_us))
			continue;
		size_t n = hither_media_key_at(hs->media, time_us);
		if (n >= hs->media->piece_count)
			continue;
		hs->target = range_of(hs, n);
		hand_out(hs, hs->target, out);
		return true;
	}
	return false;
}

/* After a seek: what is waited for, and nothing beside it until it is here. */
static bool serve_seek(struct media_heads *hs, uint64_t window_bytes, struct hither_range *out)
{
	uint64_t step = is_narrow(hs) ? step_bytes(hs, window_bytes) : URGENT_BYTES;
	bool all = true;
	for (size_t i = 0; i < hs->wave_count; i++) {
		struct hither_range *r = &hs->urgent[i];
		if (!r->len)
			continue;
		struct hither_range part = {r->offset, r->len < step ? r->len : step};
		hand_out(hs, part, out);
		r->offset += part.len;
		r->len -= part.len;
		return true;
	}
	for (size_t i = 0; all && i < hs->wave_count; i++)
		all = is_local(hs, hs->wave[i]);
	/* On a narrow line what follows must be on its way before this is here. */
	if (all || is_narrow(hs) || hs->wave_calls++ >= HOLD_CALLS)
		hs->wave_count = 0;
	*out = (struct hither_range){0};
	return hs->wave_count > 0;
}

bool media_heads_next(struct media_heads *hs, uint64_t window_bytes, struct hither_range *out)
{
	if (serve_seek(hs, window_bytes, out))
		return true;
	struct media_head *h = hungriest(hs, ahead_us(hs));
	if (!h && guess_target(hs, out))
		return true;
	if (!h && hs->view->background)
		h = hungriest(hs, UINT64_MAX);
	if (!h)
		return false;
	*out = (struct hither_range){0};
	if (may_feed(hs, h, window_bytes))
		feed(hs, h, window_bytes, out);
	return true;
}

/* --- life --- */

void media_heads_begin(struct media_heads *hs, const struct hither_order_view *view,
                       const struct hither_media *media)
{
	*hs = (struct media_heads){.view = view, .media = media, .clock = 1};
	unsigned __int128 bytes = 0;
	for (size_t i = 0; i < media->piece_count; i++)
		bytes += media->pieces[i].len;
	if (media->duration_us)
		hs->rate = (uint64_t)(bytes * 1000000 / media->duration_us);
	hs->heads[0] = (struct media_head){.used = hs->clock, .heard = SURELY};
}
