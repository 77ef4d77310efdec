/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves in their order. A tree of whose leaves three in a row were read is being scanned, and one
 * whose very first leaf was read probably is: those
 * that follow, as far as the interior pages are here, are asked for in extents, and the interior
 * pages that come next with them.
 */
#include "order/sqlite_order.h"

enum {
	SCAN_RUN = 2,         /* leaves that followed another before it is a scan */
	SCAN_FIRST_SHARE = 4, /* after a table's first leaf: of the window; then twice that ... */
	SCAN_CHANCE = 8,      /* among so many children the first one is read for a scan */
	SCAN_RUN_FTS = 32,    /* FTS5 goes along its blocks for a while without scanning them */
	SCAN_GAP_PAGES = 8,   /* pages of others in between are taken along */
	SCAN_PARENTS = 4,     /* interior pages asked for ahead */
	SCAN_STEPS = 1024,    /* pages of one extent */
	SCAN_WINDOWS = 3,     /* how far ahead of the reader, in windows of the link */
};

/* The interior pages after this one will be needed: ask for some of them. */
static void want_following(struct sq_order *o, const struct sq_page *parent, uint32_t i)
{
	for (uint32_t k = i; k <= parent->count && k < i + SCAN_PARENTS; k++) {
		uint32_t page = sq_page_child(parent, k);
		if (sq_is_page(o, page))
			sq_want(o, page);
	}
}

/* The next page on the same level; `up` levels below the one where the search began. */
static uint32_t next_on_level(struct sq_order *o, uint32_t number, unsigned up)
{
	const struct sq_place *place = sq_map_find(&o->map, number);
	struct sq_page p;
	if (!place || up > SQ_DEPTH_MOST || !sq_get(o, o->page, place->parent, &p))
		return 0;
	uint16_t tree = place->tree;
	uint32_t parent = place->parent, i = sq_map_child(place, &p), next;
	if (i < p.count) {
		next = sq_page_child(&p, i + 1);
		if (up > 0)
			want_following(o, &p, i + 1);
		return sq_is_page(o, next) ? next : 0;
	}
	next = i == p.count ? next_on_level(o, parent, up + 1) : 0;
	if (!next || !sq_get(o, o->page, next, &p) || !sq_page_is_interior(&p))
		return 0;
	sq_map_children(o, next, &p, tree);
	next = sq_page_child(&p, 0);
	return sq_is_page(o, next) ? next : 0;
}

uint32_t sq_scan_next(struct sq_order *o, uint32_t number)
{
	return next_on_level(o, number, 0);
}

/* Have the interior pages come early enough? Look when a new one begins. */
static void look_ahead(struct sq_order *o, uint32_t leaf)
{
	const struct sq_place *place = sq_map_find(&o->map, leaf);
	if (place && place->parent)
		next_on_level(o, place->parent, 1);
}

/* Nothing in its tree comes before it, as far as the pages above it are known. */
static bool is_first(struct sq_order *o, uint32_t leaf)
{
	const struct sq_place *place = sq_map_find(&o->map, leaf);
	struct sq_page p;
	for (unsigned depth = 0; depth < SQ_DEPTH_MOST; depth++) {
		if (!place || !place->parent)
			return place && depth > 0;
		if (!sq_get(o, o->page, place->parent, &p) || sq_page_child(&p, 0) != leaf)
			return false;
		leaf = place->parent;
		place = sq_map_find(&o->map, leaf);
	}
	return false;
}

bool sq_scan_begins(struct sq_order *o, const struct sq_tree *t, uint32_t number)
{
	const struct sq_place *place = sq_map_find(&o->map, number);
	struct sq_page p;
	return t->touched <= SQ_DEPTH_MOST && place && place->parent && is_first(o, number) &&
	       sq_get(o, o->page, place->parent, &p) && p.count >= SCAN_CHANCE;
}

void sq_scan_leaf(struct sq_order *o, uint16_t tree, uint32_t leaf)
{
	struct sq_tree *t = &o->trees[tree];
	if (leaf == t->last_leaf)
		return;
	bool follows = t->last_leaf && sq_scan_next(o, t->last_leaf) == leaf;
	t->last_leaf = leaf;
	t->run = follows ? t->run + 1 : 0;
	if (!follows) {
		t->ahead_leaf = 0;
		t->ahead_bytes = 0;
		t->scanned = !t->fts && is_first(o, leaf);
		if (t->scanned)
			t->ahead_leaf = leaf;
		return;
	}
	t->scanned = t->scanned || t->run >= (t->fts ? SCAN_RUN_FTS : SCAN_RUN);
	if (t->run == SCAN_RUN || t->run % 128 == 0)
		look_ahead(o, leaf);
	uint64_t bytes = o->shape.page_bytes;
	t->ahead_bytes -= t->ahead_bytes < bytes ? t->ahead_bytes : bytes;
	if (!t->ahead_bytes)
		t->ahead_leaf = leaf;
}

/* From the page after t->ahead_leaf on: leaves that lie together, or nearly. */
static bool extent_of(struct sq_order *o, struct sq_tree *t, uint64_t most,
                      struct hither_range *out)
{
	uint64_t bytes = o->shape.page_bytes;
	uint32_t first = 0, last = 0;
	for (unsigned n = 0; n < SCAN_STEPS; n++) {
		uint32_t next = sq_scan_next(o, t->ahead_leaf);
		if (!next || (first && (next <= last || next - last > SCAN_GAP_PAGES)) ||
		    (first && (next - first + 1) * bytes > most))
			break;
		first = first ? first : next;
		last = t->ahead_leaf = next;
		t->ahead_bytes += bytes;
	}
	if (!first)
		return false;
	*out = (struct hither_range){(uint64_t)(first - 1) * bytes,
	                             ((uint64_t)(last - first) + 1) * bytes};
	return true;
}

/* Who looks at the first rows only shall not pay for many. */
static uint64_t most_ahead(const struct sq_order *o, const struct sq_tree *t)
{
	uint64_t most = o->window / SCAN_FIRST_SHARE;
	for (uint32_t i = 0; i < t->run && most < SCAN_WINDOWS * o->window; i++)
		most *= 2;
	return most < SCAN_WINDOWS * o->window ? most : SCAN_WINDOWS * o->window;
}

bool sq_scan_extent(struct sq_order *o, struct hither_range *out)
{
	for (uint32_t i = 0; i < o->tree_count; i++) {
		struct sq_tree *t = &o->trees[i];
		if (!t->scanned || !t->ahead_leaf)
			continue;
		uint64_t most = most_ahead(o, t);
		if (t->ahead_bytes < most && extent_of(o, t, most - t->ahead_bytes, out))
			return true;
	}
	return false;
}
