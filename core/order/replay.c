/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays a profile, and follows the run when that is faster than the link:
 *
 *     entries:  0 1 2 3 4 5 6 7 8 9        read by the run: 6, 7   (two in a row, beyond `ahead`)
 *                   ^behind  ^ahead
 *     before: 2 3 4 5 6 ...   then: 6 7 8 9, and after them 2 3 4 5, which the run has passed
 */
#include "base/cleanup.h"
#include "order/piece.h"

#include <errno.h>
#include <hither/profile.h>
#include <string.h>

struct replay_order {
	struct hither_order base;
	struct hither_profile
	        profile;  /* of each entry what was not handed out; its end never moves */
	size_t ahead;     /* entries from here on come first */
	size_t behind;    /* no entry before this has anything left */
	size_t suspect;   /* the entry beyond `ahead` that was read last */
	uint32_t *by_end; /* entries sorted by where they end */
};

static uint64_t end_of(const struct replay_order *r, size_t k)
{
	return r->profile.entries[k].offset + r->profile.entries[k].len;
}

/* The first entry of [*at, count) that has something left; false: none. */
static bool take_from(struct replay_order *r, size_t *at, uint64_t window_bytes,
                      struct hither_range *out)
{
	for (; *at < r->profile.count; ++*at) {
		struct hither_profile_entry *e = &r->profile.entries[*at];
		struct hither_range rest = {e->offset, e->len};
		if (!hither_order_cut(&rest, window_bytes, out))
			continue;
		e->offset = rest.offset;
		e->len = rest.len;
		return true;
	}
	return false;
}

static bool replay_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct replay_order *r = (struct replay_order *)o;
	return take_from(r, &r->ahead, window_bytes, out) ||
	       take_from(r, &r->behind, window_bytes, out);
}

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
        .destroy = replay_destroy,
};

/* The profile may be of another size: what lies in this mount is kept. */
static void clip_entries(struct hither_profile *p, uint64_t size)
{
	size_t kept = 0;
	for (size_t i = 0; i < p->count; i++) {
		struct hither_range range = {p->entries[i].offset, p->entries[i].len};
		if (!hither_order_clip(&range, size))
			continue;
		p->entries[kept] = p->entries[i];
		p->entries[kept++].len = range.len;
	}
	p->count = kept;
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
	clip_entries(&profile, view->size_bytes);
	struct replay_order *r = calloc(1, sizeof *r);
	uint32_t *by_end = malloc((profile.count ? profile.count : 1) * sizeof *by_end);
	if (!r || !by_end) {
		hither_profile_finish(&profile);
		free(r);
		free(by_end);
		return hither_fail(err, -ENOMEM, "replay %s: no memory", path);
	}
	*r = (struct replay_order){.base.ops = &replay_ops, .profile = profile, .by_end = by_end};
	for (size_t i = 0; i < profile.count; i++)
		by_end[i] = (uint32_t)i;
	qsort_r(by_end, profile.count, sizeof *by_end, compare_ends, r);
	*out = &r->base;
	return 0;
}
