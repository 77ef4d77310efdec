/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Profiles in hashed pieces. One that was recorded has pages, in the order of thousands of reads;
 * what is fetched is a whole piece in any case, and whoever plays has to have the profile before
 * the first byte: an answer of one round trip rather than of three.
 */
#include "order/seen.h"
#include "tree/tree_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct widen {
	struct hither_profile out;
	size_t room;
	struct seen seen; /* by the page that a piece begins with: no two share one */
};

/* Pieces that follow each other, but for a gap that no file has, are one step. */
static int add(struct widen *w, const struct hither_verify_unit *unit,
               const struct hither_profile_entry *e)
{
	struct hither_profile *out = &w->out;
	struct hither_profile_entry *last = out->count ? &out->entries[out->count - 1] : NULL;
	uint64_t end = last ? last->offset + last->len : 0;
	if (last && unit->offset >= end && unit->offset - end < TREE_BLOCK_BYTES) {
		last->len = unit->offset + unit->len - last->offset;
		last->waited |= e->waited;
		return 0;
	}
	if (out->count == HITHER_PROFILE_MOST_ENTRIES)
		return 0;
	if (out->count == w->room) {
		size_t room = w->room ? 2 * w->room : 256;
		void *entries = realloc(out->entries, room * sizeof *out->entries);
		if (!entries)
			return -ENOMEM;
		out->entries = entries;
		w->room = room;
	}
	out->entries[out->count++] =
	        (struct hither_profile_entry){unit->offset, unit->len, e->at_ms, e->waited};
	return 0;
}

static int widen_entry(struct widen *w, const struct hither_tree *t,
                       const struct hither_profile_entry *e)
{
	uint64_t end =
	        e->offset < t->size && e->len < t->size - e->offset ? e->offset + e->len : t->size;
	int r = 0;
	for (uint64_t at = e->offset; at < end && !r;) {
		struct hither_verify_unit unit;
		tree_unit_at(t, at, &unit);
		if (unit.hash && seen_mark(&w->seen, unit.offset / SEEN_PAGE))
			r = add(w, &unit, e);
		at = unit.offset + unit.len;
	}
	return r;
}

bool hither_tree_fits(const struct hither_tree *t, const struct hither_profile *p)
{
	return p->size_bytes == t->size && (!*p->version || !strcmp(p->version, t->hash));
}

int hither_tree_widen(const struct hither_tree *t, const struct hither_profile *p,
                      struct hither_profile *out, struct hither_error *err)
{
	struct widen w = {.out = {.size_bytes = p->size_bytes}};
	memcpy(w.out.version, p->version, sizeof w.out.version);
	int r = seen_init(&w.seen, t->size);
	for (size_t i = 0; i < p->count && !r; i++)
		r = widen_entry(&w, t, &p->entries[i]);
	seen_finish(&w.seen);
	if (!r) {
		*out = w.out;
		return 0;
	}
	hither_profile_finish(&w.out);
	return hither_fail(err, r, "tree: no memory for a profile");
}
