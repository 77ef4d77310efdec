/* SPDX-License-Identifier: Apache-2.0 */
/* What was read and what has arrived goes in, ranges come out; sqlite_order.h has the picture. */
#include "order/format.h"
#include "order/sqlite_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES UINT64_C(4096) /* what the mount moves at least */

enum {
	ROOTS_MOST_BYTES = 48 << 10,  /* all roots are asked for if they are no more than this */
	READ_MOST_PAGES = 64,         /* of one read that are looked at */
	WIDEN_TOUCHED = 6,            /* pages read of a tree before its interior pages are taken */
	WIDEN_MOST_BYTES = 512 << 10, /* and if they are no more than this */
	WIDEN_INDEX_BYTES = 256 << 10, /* and so many before the first row is looked for */
	MERGE_MOST_PAGES = 64,
	POINT_READS = 5, /* of a query for one row, or so */
	/* What an index names lies all over its table, three pages a connection (batch.c); there
	 * may be fewer (warm.c). */
	BURST_CONNECTIONS = 48,
};

/* --- pages --- */

bool sq_is_page(const struct sq_order *o, uint32_t number)
{
	return number >= 1 && number <= o->shape.page_count;
}

static uint64_t offset_of(const struct sq_order *o, uint32_t number)
{
	return (uint64_t)(number - 1) * o->shape.page_bytes;
}

bool sq_bytes(struct sq_order *o, uint8_t *buf, uint32_t number)
{
	uint32_t *held = buf == o->page ? &o->page_held : buf == o->other ? &o->other_held : NULL;
	if (held && *held == number)
		return number != 0;
	bool here = sq_is_page(o, number) &&
	            !o->view->peek(o->view, buf, o->shape.page_bytes, offset_of(o, number));
	if (held)
		*held = here ? number : 0;
	return here;
}

/* A database may be written: what was read is good for one call. */
static void look_anew(struct sq_order *o)
{
	o->page_held = o->other_held = 0;
}

bool sq_get(struct sq_order *o, uint8_t *buf, uint32_t number, struct sq_page *out)
{
	return sq_bytes(o, buf, number) && sq_page_open(out, &o->shape, buf, number);
}

/* --- queues --- */

static void push(struct sq_queue *q, uint32_t page)
{
	if (q->tail - q->head == SQ_QUEUE)
		q->head++; /* the oldest wish has had its time */
	q->pages[q->tail++ % SQ_QUEUE] = page;
}

static bool is_new(struct sq_order *o, uint32_t number)
{
	return sq_is_page(o, number) && seen_mark(&o->asked, offset_of(o, number) / BLOCK_BYTES);
}

void sq_want(struct sq_order *o, uint32_t number)
{
	if (is_new(o, number))
		push(&o->soon, number);
}

void sq_want_later(struct sq_order *o, uint32_t number)
{
	if (is_new(o, number))
		push(&o->later, number);
}

/* The first page, with those that lie behind it and come next. */
static bool pop(struct sq_order *o, struct sq_queue *q, struct hither_range *out)
{
	if (q->head == q->tail)
		return false;
	uint32_t first = q->pages[q->head++ % SQ_QUEUE], count = 1;
	while (q->head != q->tail && q->pages[q->head % SQ_QUEUE] == first + count &&
	       count < MERGE_MOST_PAGES)
		q->head++, count++;
	*out = (struct hither_range){offset_of(o, first), (uint64_t)count * o->shape.page_bytes};
	return true;
}

/* --- what was read --- */

/* Pages from the root to this one; 0: not known. */
static unsigned depth_of(const struct sq_order *o, const struct sq_place *place)
{
	unsigned depth = 1;
	while (place && place->parent && depth < SQ_DEPTH_MOST) {
		place = sq_map_find(&o->map, place->parent);
		depth++;
	}
	return place ? depth : 0;
}

/* Which rowids lie under a page of a table, by the pages above it. */
static struct sq_rowids rowids_under(struct sq_order *o, uint32_t number)
{
	struct sq_rowids r = {INT64_MIN, INT64_MAX};
	for (unsigned depth = 0; depth < SQ_DEPTH_MOST; depth++) {
		const struct sq_place *place = sq_map_find(&o->map, number);
		struct sq_page p;
		if (!place || !place->parent || !sq_get(o, o->page, place->parent, &p))
			break;
		uint32_t i = sq_map_child(place, &p);
		if (i <= p.count)
			r = sq_page_rowids(&p, i, r);
		number = place->parent;
	}
	return r;
}

/* A tree that is in use: what belongs to it will be. */
static void use_tree(struct sq_order *o, struct sq_tree *t)
{
	if (t->kind == SQ_INDEX && t->table != SQ_NONE)
		sq_want(o, o->trees[t->table].root);
	for (unsigned i = 0; i < t->edge_count; i++)
		sq_want_later(o, o->trees[t->edges[i].to].root);
}

/* More rowids lie under each of its pages than a leaf has room for. */
static bool has_grandchildren(const struct sq_order *o, const struct sq_page *p)
{
	struct sq_cell first, last;
	return p->type == SQ_TABLE_INTERIOR && p->count > 1 && sq_page_cell(p, 0, &first) &&
	       sq_page_cell(p, p->count - 1, &last) && last.rowid > first.rowid &&
	       ((uint64_t)last.rowid - (uint64_t)first.rowid) / (p->count - 1) >
	               o->shape.page_bytes / 8;
}

/*
 * An index is gone down: its table's rows are looked for next, all over the table as a rule. The
 * pages above them come while the line waits for the index.
 */
static void widen_table(struct sq_order *o, struct sq_tree *t)
{
	struct sq_page p;
	if (t->widened) {
		o->widening = NULL;
		return;
	}
	o->widening = t; /* until its root is here */
	if (!sq_get(o, o->page, t->root, &p))
		return;
	o->widening = NULL;
	t->widened = true;
	uint64_t bytes = (uint64_t)p.count * o->shape.page_bytes;
	if (bytes > WIDEN_INDEX_BYTES || bytes > o->window || !has_grandchildren(o, &p))
		return;
	sq_map_children(o, t->root, &p, (uint16_t)(t - o->trees));
	for (uint32_t i = 0; i <= p.count; i++)
		if (sq_is_page(o, sq_page_child(&p, i)))
			sq_want(o, sq_page_child(&p, i));
}

/* Several rows were looked for in it: the pages between its root and its leaves pay. */
static void widen(struct sq_order *o, struct sq_tree *t)
{
	struct sq_page p;
	if (t->widened || t->touched < WIDEN_TOUCHED || t->run > 0 || !t->height ||
	    !sq_get(o, o->page, t->root, &p))
		return;
	t->widened = true;
	if (t->height < 3 || (uint64_t)p.count * o->shape.page_bytes > WIDEN_MOST_BYTES)
		return;
	for (uint32_t i = 0; i <= p.count; i++) {
		uint32_t page = sq_page_child(&p, i);
		if (sq_is_page(o, page))
			sq_want_later(o, page);
	}
}

static void dispatch(struct sq_order *o, uint16_t tree, uint32_t number, bool leaf)
{
	struct sq_tree *t = &o->trees[tree];
	struct sq_rowids r = {INT64_MIN, INT64_MAX};
	if (t->kind == SQ_TABLE)
		r = rowids_under(o, number);
	if (leaf)
		sq_scan_leaf(o, tree, number);
	if (t->kind == SQ_TABLE) {
		sq_range_touch(o, tree, leaf, r);
		sq_lookup_touch(o, tree, number, leaf, r);
	}
	sq_fts_touch(o, tree, number, leaf, r);
	widen(o, t);
}

static void add_overflow(struct sq_order *o, uint32_t page, uint32_t parent, uint16_t tree)
{
	sq_map_add(
	        &o->map,
	        &(struct sq_place){.page = page, .parent = parent, .tree = tree, .overflow = true});
}

/* A page that was read, and is local. `told`: as a leaf, when it was not. */
static void content(struct sq_order *o, uint32_t number, bool told)
{
	const struct sq_place *found = sq_map_find(&o->map, number);
	struct sq_page p;
	if (!found)
		return;
	struct sq_place place = *found;
	if (place.overflow) {
		uint32_t next = sq_bytes(o, o->page, number) ? sq_be32(o->page) : 0;
		if (sq_is_page(o, next)) {
			add_overflow(o, next, number, place.tree);
			sq_want(o, next);
		}
		return;
	}
	if (!sq_get(o, o->other, number, &p))
		return;
	if (sq_page_is_interior(&p)) {
		sq_map_children(o, number, &p, place.tree);
		return;
	}
	struct sq_tree *t = &o->trees[place.tree];
	if (!t->height)
		t->height = (uint8_t)depth_of(o, &place);
	if (p.type == SQ_INDEX_LEAF && t->kind == SQ_INDEX)
		sq_range_leaf(o, place.tree, number);
	if (!told)
		dispatch(o, place.tree, number, true);
	struct sq_cell c;
	if (p.type != SQ_TABLE_LEAF || t->overflows || !sq_get(o, o->other, number, &p))
		return;
	for (uint32_t i = 0; i < p.count; i++)
		if (sq_page_cell(&p, i, &c) && sq_is_page(o, c.overflow))
			add_overflow(o, c.overflow, number, place.tree);
}

static void put_unread(struct sq_order *o, uint32_t number, bool told)
{
	struct sq_unread *at = &o->unread[o->unread_at++ % SQ_LATER];
	o->unread_count += !at->page;
	*at = (struct sq_unread){.page = number, .told = told};
}

/* Many pages at a time will be asked for in a few round trips: an index is gone down, or a scan
 * begins. */
static void foretell(struct sq_order *o, const struct sq_tree *t, uint32_t number)
{
	if (o->view->warm && (t->kind == SQ_INDEX || t->fts || sq_scan_begins(o, t, number)))
		o->view->warm(o->view, BURST_CONNECTIONS);
}

/* A page that has not come yet. Of a tree that nobody has gone down, what lies under its left edge.
 */
static bool is_leaf_unread(struct sq_order *o, const struct sq_place *place)
{
	const struct sq_tree *t = &o->trees[place->tree];
	struct sq_page parent;
	if (t->height)
		return depth_of(o, place) == t->height;
	return t->kind == SQ_TABLE && sq_scan_begins(o, t, place->page) &&
	       sq_get(o, o->page, place->parent, &parent) && !has_grandchildren(o, &parent);
}

static void touch(struct sq_order *o, uint32_t number)
{
	const struct sq_place *place = sq_map_find(&o->map, number);
	o->clock++;
	if (!place)
		return;
	uint16_t tree = place->tree;
	struct sq_tree *t = &o->trees[tree];
	bool overflow = place->overflow;
	if (!t->touched++)
		use_tree(o, t);
	t->touched_at = o->clock;
	foretell(o, t, number);
	if (t->kind == SQ_INDEX && t->table != SQ_NONE && number != t->root)
		widen_table(o, &o->trees[t->table]);
	t->overflows = t->overflows || overflow;
	place = sq_map_find(&o->map, number); /* what was noted above may have moved it */
	struct sq_page p;
	bool here = sq_bytes(o, o->other, number);
	bool leaf = here ? sq_page_open(&p, &o->shape, o->other, number) && !sq_page_is_interior(&p)
	                 : is_leaf_unread(o, place);
	if (!overflow)
		dispatch(o, tree, number, leaf);
	if (here)
		content(o, number, true);
	else
		put_unread(o, number, leaf || overflow);
}

/* Pages that were read and have come. */
static void settle_unread(struct sq_order *o)
{
	for (unsigned i = 0; o->unread_count > 0 && i < SQ_LATER; i++) {
		struct sq_unread *at = &o->unread[(o->unread_at + i) % SQ_LATER], u = *at;
		if (!u.page || !sq_bytes(o, o->other, u.page))
			continue;
		at->page = 0;
		o->unread_count--;
		content(o, u.page, u.told);
	}
}

static bool sqlite_ready(struct sq_order *o);

static void want_roots(struct sq_order *o)
{
	if ((uint64_t)o->tree_count * o->shape.page_bytes > ROOTS_MOST_BYTES)
		return;
	for (uint32_t i = 0; i < o->tree_count; i++)
		sq_want_later(o, o->trees[i].root);
}

static bool know_schema(struct sq_order *o)
{
	if (!o->schema_known && o->news) {
		o->news = false;
		sq_schema_read(o);
	}
	return o->schema_known;
}

static void sqlite_saw(struct hither_order *base, uint64_t offset, uint64_t len, bool waited)
{
	struct sq_order *o = (struct sq_order *)base;
	look_anew(o);
	if (!sqlite_ready(o) || !know_schema(o) || !len)
		return;
	/* A reader may be told of a page before we are: what it read first comes first. */
	settle_unread(o);
	uint64_t first = offset / o->shape.page_bytes,
	         last = (offset + len - 1) / o->shape.page_bytes;
	if (last - first >= READ_MOST_PAGES)
		last = first + READ_MOST_PAGES - 1;
	for (uint64_t i = first; i <= last && i < o->shape.page_count; i++) {
		seen_mark(&o->asked, i * o->shape.page_bytes / BLOCK_BYTES);
		touch(o, (uint32_t)i + 1);
	}
}

/* What was foreseen here is no stream that readahead should follow; the rest it may catch. */
static bool sqlite_knows(struct hither_order *base, uint64_t offset, uint64_t len)
{
	struct sq_order *o = (struct sq_order *)base;
	return o->schema_known && len <= o->shape.page_bytes && offset < o->view->size_bytes &&
	       seen_has(&o->asked, offset / BLOCK_BYTES);
}

static void sqlite_arrived(struct hither_order *base, uint64_t offset, uint64_t len)
{
	struct sq_order *o = (struct sq_order *)base;
	look_anew(o);
	o->news = o->lookups_news = true;
	sq_fts_arrived(o);
	if (o->schema_known)
		settle_unread(o);
}

/* --- what comes next --- */

static bool get_buffers(struct sq_order *o)
{
	o->page = malloc(o->shape.page_bytes);
	o->other = malloc(o->shape.page_bytes);
	o->soon.pages = malloc(SQ_QUEUE * sizeof *o->soon.pages);
	o->later.pages = malloc(SQ_QUEUE * sizeof *o->later.pages);
	o->lookups = malloc(SQ_LOOKUPS * sizeof *o->lookups);
	o->rows = malloc(SQ_ROWS * sizeof *o->rows);
	return o->page && o->other && o->soon.pages && o->later.pages && o->lookups && o->rows &&
	       !seen_init(&o->asked, o->view->size_bytes) && !sq_map_init(&o->map);
}

/* The header, once it is local. */
static bool sqlite_ready(struct sq_order *o)
{
	uint8_t head[SQ_HEADER_BYTES];
	if (o->ready || o->dead)
		return o->ready;
	if (o->view->size_bytes < sizeof head) {
		o->dead = true;
		return false;
	}
	if (o->view->peek(o->view, head, sizeof head, 0))
		return false;
	o->ready = sq_shape_read(head, sizeof head, o->view->size_bytes, &o->shape) &&
	           o->shape.page_count > 0 && get_buffers(o);
	o->dead = !o->ready;
	return o->ready;
}

static bool sqlite_next(struct hither_order *base, uint64_t window_bytes, struct hither_range *out)
{
	struct sq_order *o = (struct sq_order *)base;
	look_anew(o);
	o->window = window_bytes;
	if (!sqlite_ready(o)) {
		if (o->dead || o->head_asked)
			return false;
		o->head_asked = true;
		*out = (struct hither_range){.len = SQ_HEADER_BYTES};
		return true;
	}
	if (know_schema(o)) {
		if (o->widening)
			widen_table(o, o->widening);
		sq_fts_run(o);
		sq_ranges_run(o);
		sq_lookups_run(o);
	}
	if (pop(o, &o->soon, out))
		return true;
	if (sq_scan_extent(o, out)) {
		for (uint64_t at = out->offset; at < out->offset + out->len; at += BLOCK_BYTES)
			seen_mark(&o->asked, at / BLOCK_BYTES);
		return true;
	}
	/* A point query is over by then: open connections are for its pages, one after another. */
	if (o->clock <= POINT_READS)
		return false;
	if (o->schema_known && !o->roots_asked)
		want_roots(o);
	o->roots_asked = o->schema_known;
	return pop(o, &o->later, out);
}

static void sqlite_destroy(struct hither_order *base)
{
	struct sq_order *o = (struct sq_order *)base;
	seen_finish(&o->asked);
	sq_map_finish(&o->map);
	sq_fts_finish(o);
	free(o->page);
	free(o->other);
	free(o->soon.pages);
	free(o->later.pages);
	free(o->lookups);
	free(o->rows);
	free(o->trees);
	free(o);
}

static const struct hither_order_ops sqlite_ops = {
        .name = "sqlite",
        .next = sqlite_next,
        .saw = sqlite_saw,
        .knows = sqlite_knows,
        .arrived = sqlite_arrived,
        .destroy = sqlite_destroy,
};

static bool sqlite_recognise(const uint8_t *head, size_t len, uint64_t size_bytes)
{
	struct sq_shape shape;
	return sq_shape_read(head, len, size_bytes, &shape);
}

static int sqlite_create(const struct hither_order_view *view, struct hither_order **out,
                         struct hither_error *err)
{
	struct sq_order *o = calloc(1, sizeof *o);
	if (!o)
		return hither_fail(err, -ENOMEM, "order sqlite: no memory");
	o->base.ops = &sqlite_ops;
	o->view = view;
	o->news = true;
	*out = &o->base;
	return 0;
}

const struct hither_order_format hither_order_sqlite = {
        .name = "sqlite",
        .recognise = sqlite_recognise,
        .create = sqlite_create,
};
