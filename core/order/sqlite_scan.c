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
	SCAN_FIRST_BYTES = 12288, /* in pieces that a new connection brings in one round trip */
	SCAN_CHANCE = 8,          /* among so many children the first one is read for a scan */
	SCAN_RUN_FTS = 32,        /* FTS5 goes along its blocks for a while without scanning them */
	SCAN_GAP_PAGES = 8,       /* pages of others in between are taken along */
	SCAN_PARENTS = 4,         /* interior pages asked for ahead */
	SCAN_STEPS = 1024,        /* pages of one extent */
	SCAN_WINDOWS = 3,         /* how far ahead of the reader, in windows of the link */
	SCAN_WINDOWS_LONG = 8,    /* the same, if half as much was read */
	SCAN_KNOWN = 2,           /* and how far ahead of that leaves are to be known */
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

/* Ask for the pages after this one on its level, so many, as far as those above lead. */
static void want_after(struct sq_order *o, uint32_t number, uint64_t count, unsigned up)
{
	const struct sq_place *place = sq_map_find(&o->map, number);
	struct sq_page p;
	if (!place || up > SQ_DEPTH_MOST || !sq_get(o, o->page, place->parent, &p))
		return;
	uint16_t tree = place->tree;
	uint32_t parent = place->parent, i = sq_map_child(place, &p);
	for (; i < p.count && count > 0; count--)
		if (sq_is_page(o, sq_page_child(&p, ++i)))
			sq_want(o, sq_page_child(&p, i));
	if (!count)
		return;
	want_after(o, parent, 1, up + 1);
	uint32_t next = next_on_level(o, parent, up + 1);
	if (!next || !sq_get(o, o->page, next, &p) || !sq_page_is_interior(&p))
		return;
	sq_map_children(o, next, &p, tree);
	for (i = 0; i <= p.count && count > 0; i++, count--)
		if (sq_is_page(o, sq_page_child(&p, i)))
			sq_want(o, sq_page_child(&p, i));
}

/*
 * The pages above the leaves that come next: a round trip before they are asked for, or the line
 * would run empty, and then be flooded.
 */
static void look_ahead(struct sq_order *o, uint32_t leaf)
{
	const struct sq_place *place = sq_map_find(&o->map, leaf);
	struct sq_page p;
	if (!place || !sq_get(o, o->page, place->parent, &p))
		return;
	uint64_t each = ((uint64_t)p.count + 1) * o->shape.page_bytes;
	uint64_t parents = SCAN_KNOWN * o->window / each + 1;
	want_after(o, place->parent, parents > SCAN_PARENTS ? parents : SCAN_PARENTS, 1);
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

/* How many leaves after `from` is `to`, if that is no more than `most`? 0: it is not. */
static uint64_t leaves_between(struct sq_order *o, uint32_t from, uint32_t to, uint64_t most)
{
	const struct sq_place *a = sq_map_find(&o->map, from), *b = sq_map_find(&o->map, to);
	struct sq_page p;
	if (!a || !b || !sq_get(o, o->page, a->parent, &p))
		return 0;
	uint32_t parent = a->parent, last = b->parent, first = sq_map_child(a, &p);
	uint64_t passed = 0; /* leaves of the parents before this one */
	for (unsigned n = 0; n < SCAN_STEPS && passed <= first + most; n++) {
		if (parent == last) {
			uint64_t at = passed + sq_map_child(b, &p);
			return at > first && at - first <= most ? at - first : 0;
		}
		passed += p.count + 1;
		parent = next_on_level(o, parent, 1);
		b = sq_map_find(&o->map, to); /* the map may have grown */
		if (!parent || !sq_get(o, o->page, parent, &p))
			break;
	}
	return 0;
}

/*
 * The leaf after the last one; of a scan that is under way, whose every leaf we need not have been
 * told of, one of those that it was foreseen to come by. How many it goes on by; 0: it is
 * elsewhere.
 */
static uint64_t steps_to(struct sq_order *o, const struct sq_tree *t, uint32_t leaf)
{
	uint64_t ahead = t->scanned ? t->ahead_bytes / o->shape.page_bytes : 0;
	return t->last_leaf ? leaves_between(o, t->last_leaf, leaf, ahead + 1) : 0;
}

void sq_scan_leaf(struct sq_order *o, uint16_t tree, uint32_t leaf)
{
	struct sq_tree *t = &o->trees[tree];
	if (leaf == t->last_leaf)
		return;
	uint64_t steps = steps_to(o, t, leaf);
	t->last_leaf = leaf;
	t->run = steps ? t->run + (uint32_t)steps : 0;
	if (!steps) {
		t->ahead_leaf = 0;
		t->ahead_bytes = 0;
		t->scanned = !t->fts && is_first(o, leaf);
		if (t->scanned)
			t->ahead_leaf = leaf;
		return;
	}
	t->scanned = t->scanned || t->run >= (t->fts ? SCAN_RUN_FTS : SCAN_RUN);
	if (t->run == SCAN_RUN)
		look_ahead(o, leaf);
	uint64_t bytes = steps * o->shape.page_bytes;
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
	if (t->run >= SCAN_RUN)
		look_ahead(o, t->ahead_leaf);
	if (!first)
		return false;
	*out = (struct hither_range){(uint64_t)(first - 1) * bytes,
	                             ((uint64_t)(last - first) + 1) * bytes};
	return true;
}

/*
 * Who looks at the first rows only shall not pay for many. Who has read for long will go on: far
 * enough ahead that the line stays full while one slow connection holds up what is read next. A
 * line that ran empty would be flooded when the reader gets on.
 */
static uint64_t most_ahead(const struct sq_order *o, const struct sq_tree *t)
{
	uint64_t most = o->window / SCAN_FIRST_SHARE, few = SCAN_WINDOWS * o->window;
	for (uint32_t i = 0; i < t->run && most < few; i++)
		most *= 2;
	most = most < few ? most : few;
	uint64_t twice = 2 * (uint64_t)t->run * o->shape.page_bytes;
	if (twice > SCAN_WINDOWS_LONG * o->window)
		twice = SCAN_WINDOWS_LONG * o->window;
	return most > twice ? most : twice;
}

bool sq_scan_extent(struct sq_order *o, struct hither_range *out)
{
	for (uint32_t i = 0; i < o->tree_count; i++) {
		struct sq_tree *t = &o->trees[i];
		if (!t->scanned || !t->ahead_leaf)
			continue;
		uint64_t most = most_ahead(o, t);
		uint64_t room = most > t->ahead_bytes ? most - t->ahead_bytes : 0;
		if (!t->run && room > SCAN_FIRST_BYTES)
			room = SCAN_FIRST_BYTES;
		if (room > 0 && extent_of(o, t, room, out))
			return true;
	}
	return false;
}
