/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays a profile, and follows the run when that is faster than the link:
 *
 *     entries:  0 1 2 3 4 5 6 7 8 9        read by the run: 6, 7   (two in a row, beyond `ahead`)
 *                   ^behind  ^ahead
 *     before: 2 3 4 5 6 ...   then: 6 7 8 9, and after them 2 3 4 5, which the run has passed
 *
 * A profile has what was read, page by page, and lines carry few small requests: entries are made
 * as long as what comes in any case (see whole in hither/order.h), and what is read soon after one
 * and lies beside it, or behind a gap that costs less than a request, goes with it.
 *
 * Connections share the line alike. What others would have next (the mount's sweep) waits until
 * most of what was handed out has come: else the end of a profile, which a run waits for, comes at
 * half the line's rate.
 */
#include "base/cleanup.h"
#include "order/piece.h"
#include "order/seen.h"

#include <errno.h>
#include <hither/profile.h>
#include <string.h>

enum {
	SOON = 256, /* entries that may go with the first of them */
	ROUNDS = 8, /* of looking for such: each may bring others in reach */
	GAP_PART =
	        32, /* of the window: about as many requests share it, so a gap of that costs one */
	SHORT_PART = 16, /* of the window: a request, if whole pieces are not longer */
	JOINED_PART = 16,
	KEPT = 64,     /* ranges that were handed out last: as many as there may be requests */
	HELD_PART = 4, /* of the window: who else asks then has its bytes after the last of ours */
};
#define GAP_MOST (UINT64_C(256) << 10)
#define SHORT_LEAST (UINT64_C(64) << 10)
/* A profile may be anybody's: entries longer than any that is recorded, and pages beyond these, are
 * not looked at one by one. */
#define ENTRY_PAGES_MOST (UINT64_C(1) << 13)
#define PAGES_MOST (UINT64_C(1) << 24)

struct replay_order {
	struct hither_order base;
	struct hither_profile
	        profile;  /* of each entry what was not handed out; its end never moves */
	size_t ahead;     /* entries from here on come first */
	size_t behind;    /* no entry before this has anything left */
	size_t suspect;   /* the entry beyond `ahead` that was read last */
	uint32_t *by_end; /* entries sorted by where they end */
	const struct hither_order_view *view;
	struct hither_range kept[KEPT]; /* handed out last, and not come yet: their rest */
	unsigned kept_count;
	bool looked; /* for what of them was here before */
};

static uint64_t end_of(const struct replay_order *r, size_t k)
{
	return r->profile.entries[k].offset + r->profile.entries[k].len;
}

/* --- handing out --- */

/* Does [offset, end) go with the range, over gaps up to `gap`, into one of at most `most`? */
static bool goes_with(const struct hither_range *range, uint64_t offset, uint64_t end, uint64_t gap,
                      uint64_t most)
{
	uint64_t range_end = range->offset + range->len;
	uint64_t low = offset < range->offset ? offset : range->offset;
	uint64_t high = end > range_end ? end : range_end;
	bool near = (offset <= range_end || offset - range_end <= gap) &&
	            (range->offset <= end || range->offset - end <= gap);
	return near && high - low <= most;
}

static bool join_once(struct replay_order *r, size_t from, uint64_t window_bytes,
                      struct hither_range *out)
{
	uint64_t gap = window_bytes / GAP_PART, most = window_bytes / JOINED_PART;
	size_t end = r->profile.count - from < SOON ? r->profile.count : from + SOON;
	bool joined = false;
	for (size_t k = from; k < end; k++) {
		struct hither_profile_entry *e = &r->profile.entries[k];
		uint64_t stop = e->offset + e->len, out_end = out->offset + out->len;
		if (!e->len ||
		    !goes_with(out, e->offset, stop, gap < GAP_MOST ? gap : GAP_MOST, most))
			continue;
		uint64_t low = e->offset < out->offset ? e->offset : out->offset;
		*out = (struct hither_range){low, (stop > out_end ? stop : out_end) - low};
		e->offset = stop;
		e->len = 0;
		joined = true;
	}
	return joined;
}

/* The front of an entry, as one request: the many that share the line come side by side, and the
 * shorter they are the less of what is read later comes before what is read first. */
static bool cut_front(struct replay_order *r, struct hither_range *rest, uint64_t window_bytes,
                      struct hither_range *out)
{
	if (!hither_order_cut(rest, window_bytes, out))
		return false;
	uint64_t end = out->offset + out->len, from = out->offset;
	uint64_t most = window_bytes / SHORT_PART;
	uint64_t stop = from + (most > SHORT_LEAST ? most : SHORT_LEAST) + SHORT_LEAST / 2;
	stop &= ~(SHORT_LEAST - 1);
	if (stop < end && r->view->whole)
		r->view->whole(r->view, &from, &stop);
	if (stop >= end)
		return true;
	rest->len += end - stop;
	rest->offset = stop;
	out->len = stop - out->offset;
	return true;
}

/* The first entry of [*at, count) that has something left; false: none. */
static bool take_from(struct replay_order *r, size_t *at, uint64_t window_bytes,
                      struct hither_range *out)
{
	for (; *at < r->profile.count; ++*at) {
		struct hither_profile_entry *e = &r->profile.entries[*at];
		struct hither_range rest = {e->offset, e->len};
		if (!cut_front(r, &rest, window_bytes, out))
			continue;
		e->offset = rest.offset;
		e->len = rest.len;
		for (int i = 0; !e->len && i < ROUNDS; i++)
			if (!join_once(r, *at + 1, window_bytes, out))
				break;
		return true;
	}
	return false;
}

/* --- what is on its way --- */

static void keep(struct replay_order *r, const struct hither_range *range)
{
	if (r->kept_count == KEPT)
		memmove(r->kept, r->kept + 1, --r->kept_count * sizeof *r->kept);
	r->kept[r->kept_count++] = *range;
	r->looked = false;
}

/* [offset, end) is here. A range comes in one or several requests, each from its front. */
static void drop(struct replay_order *r, uint64_t offset, uint64_t end)
{
	unsigned left = 0;
	for (unsigned i = 0; i < r->kept_count; i++) {
		struct hither_range *k = &r->kept[i];
		uint64_t from = offset > k->offset ? offset : k->offset;
		uint64_t stop = k->offset + k->len, until = end < stop ? end : stop;
		if (from < until)
			k->len -= until - from;
		if (from < until && from == k->offset)
			k->offset = until;
		if (k->len)
			r->kept[left++] = *k;
	}
	r->kept_count = left;
}

/* What was here before it was handed out does not come. */
static void drop_local(struct replay_order *r)
{
	char byte;
	for (unsigned i = r->kept_count; i-- > 0;) {
		struct hither_range k = r->kept[i];
		if (!r->view->peek(r->view, &byte, 1, k.offset) &&
		    !r->view->peek(r->view, &byte, 1, k.offset + k.len - 1))
			drop(r, k.offset, k.offset + k.len);
	}
}

static bool is_on_its_way(struct replay_order *r, uint64_t window_bytes)
{
	uint64_t sum = 0;
	if (!r->looked && r->view->peek)
		drop_local(r);
	r->looked = true;
	for (unsigned i = 0; i < r->kept_count; i++)
		sum += r->kept[i].len;
	return sum > window_bytes / HELD_PART;
}

static void replay_arrived(struct hither_order *o, uint64_t offset, uint64_t len)
{
	drop((struct replay_order *)o, offset, offset + len);
}

static bool replay_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct replay_order *r = (struct replay_order *)o;
	if (take_from(r, &r->ahead, window_bytes, out) ||
	    take_from(r, &r->behind, window_bytes, out)) {
		keep(r, out);
		return true;
	}
	*out = (struct hither_range){0};
	return is_on_its_way(r, window_bytes);
}

/* --- following --- */

/* The entry that has the byte at offset; count: none. One that is handed out in part may be missed.
 */
static size_t find(const struct replay_order *r, uint64_t offset)
{
	size_t low = 0, high = r->profile.count;
	while (low < high) { /* the first that ends after offset */
		size_t middle = low + (high - low) / 2;
		if (end_of(r, r->by_end[middle]) > offset)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == r->profile.count || r->profile.entries[r->by_end[low]].offset > offset)
		return r->profile.count;
	return r->by_end[low];
}

/*
 * The run is where two reads in a row say so: a single one may be a stray, and passing over what
 * lies between costs the run waits.
 */
static void replay_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct replay_order *r = (struct replay_order *)o;
	size_t k = find(r, offset);
	if (k == r->profile.count || k <= r->ahead)
		return;
	if (r->suspect > r->ahead && r->suspect <= k)
		r->ahead = r->suspect;
	r->suspect = k;
}

static void replay_destroy(struct hither_order *o)
{
	struct replay_order *r = (struct replay_order *)o;
	hither_profile_finish(&r->profile);
	free(r->by_end);
	free(r);
}

static const struct hither_order_ops replay_ops = {
        .name = "replay",
        .next = replay_next,
        .saw = replay_saw,
        .arrived = replay_arrived,
        .destroy = replay_destroy,
};

/* --- beginning --- */

/* What of the range earlier entries have not: its first and last page that is new. False: nothing.
 */
static bool trim_seen(struct seen *s, struct hither_range *range)
{
	uint64_t first = range->offset / SEEN_PAGE, end = range->offset + range->len;
	uint64_t last = (end - 1) / SEEN_PAGE, fresh = UINT64_MAX, fresh_last = 0;
	for (uint64_t page = first; page <= last; page++) {
		if (!seen_mark(s, page))
			continue;
		fresh = fresh == UINT64_MAX ? page : fresh;
		fresh_last = page;
	}
	if (fresh == UINT64_MAX)
		return false;
	if (fresh > first)
		range->offset = fresh * SEEN_PAGE;
	if (fresh_last < last)
		end = (fresh_last + 1) * SEEN_PAGE;
	range->len = end - range->offset;
	return true;
}

/* Make entries whole, and drop what earlier ones have. The profile may be of another size: what
 * lies in this mount is kept. */
static void prepare(struct hither_profile *p, const struct hither_order_view *view)
{
	struct seen seen;
	size_t kept = 0;
	/* Without memory for that many leaves nothing is dropped. */
	uint64_t pages = seen_init(&seen, view->size_bytes) ? PAGES_MOST : 0;
	for (size_t i = 0; i < p->count; i++) {
		struct hither_range range = {p->entries[i].offset, p->entries[i].len};
		if (!hither_order_clip(&range, view->size_bytes))
			continue;
		uint64_t end = range.offset + range.len;
		if (view->whole)
			view->whole(view, &range.offset, &end);
		range.len = end - range.offset;
		uint64_t count = range.len / SEEN_PAGE + 2;
		if (count <= ENTRY_PAGES_MOST && (pages += count) <= PAGES_MOST &&
		    !trim_seen(&seen, &range))
			continue;
		p->entries[kept] = p->entries[i];
		p->entries[kept].offset = range.offset;
		p->entries[kept++].len = range.len;
	}
	p->count = kept;
	seen_finish(&seen);
}

static int compare_ends(const void *a, const void *b, void *user)
{
	uint64_t x = end_of(user, *(const uint32_t *)a), y = end_of(user, *(const uint32_t *)b);
	return x < y ? -1 : x > y;
}

int hither_order_replay(const struct hither_order_view *view, const char *path,
                        struct hither_order **out, struct hither_error *err)
{
	struct hither_profile profile = {0};
	int code = hither_profile_load(path, &profile, err);
	if (code)
		return code;
	prepare(&profile, view);
	struct replay_order *r = calloc(1, sizeof *r);
	uint32_t *by_end = malloc((profile.count ? profile.count : 1) * sizeof *by_end);
	if (!r || !by_end) {
		hither_profile_finish(&profile);
		free(r);
		free(by_end);
		return hither_fail(err, -ENOMEM, "replay %s: no memory", path);
	}
	*r = (struct replay_order){
	        .base.ops = &replay_ops, .profile = profile, .by_end = by_end, .view = view};
	for (size_t i = 0; i < profile.count; i++)
		by_end[i] = (uint32_t)i;
	qsort_r(by_end, profile.count, sizeof *by_end, compare_ends, r);
	*out = &r->base;
	return 0;
}
