/* SPDX-License-Identifier: Apache-2.0 */
/* Whose page is it, and under which page does it hang: a hash table, open addressing. */
#include "order/sqlite_order.h"

#include <errno.h>
#include <stdlib.h>

enum { ROOM_FIRST = 1 << 10, ROOM_MOST = 1 << 21 };

int sq_map_init(struct sq_map *m)
{
	*m = (struct sq_map){.room = ROOM_FIRST};
	m->places = calloc(m->room, sizeof *m->places);
	return m->places ? 0 : -ENOMEM;
}

void sq_map_finish(struct sq_map *m)
{
	free(m->places);
}

/* Where a page is, or would be. */
static struct sq_place *slot(const struct sq_map *m, uint32_t page)
{
	uint32_t at = page * 2654435761u;
	for (at ^= at >> 15;; at++) {
		struct sq_place *p = &m->places[at & (m->room - 1)];
		if (p->page == page || !p->page)
			return p;
	}
}

struct sq_place *sq_map_find(const struct sq_map *m, uint32_t page)
{
	struct sq_place *p = page ? slot(m, page) : NULL;
	return p && p->page ? p : NULL;
}

static bool grow(struct sq_map *m)
{
	struct sq_map bigger = {.room = m->room * 2, .count = m->count};
	if (bigger.room > ROOM_MOST)
		return false;
	bigger.places = calloc(bigger.room, sizeof *bigger.places);
	if (!bigger.places)
		return false;
	for (uint32_t i = 0; i < m->room; i++)
		if (m->places[i].page)
			*slot(&bigger, m->places[i].page) = m->places[i];
	free(m->places);
	*m = bigger;
	return true;
}

void sq_map_add(struct sq_map *m, const struct sq_place *place)
{
	if (!place->page || (m->count >= m->room / 2 && !grow(m)))
		return;
	struct sq_place *p = slot(m, place->page);
	if (p->page)
		return;
	*p = *place;
	m->count++;
}

uint32_t sq_map_child(const struct sq_place *place, const struct sq_page *parent)
{
	return sq_page_child(parent, place->at) == place->page
	               ? place->at
	               : sq_page_find_child(parent, place->page);
}

void sq_map_children(struct sq_order *o, uint32_t number, const struct sq_page *p, uint16_t tree)
{
	for (uint32_t i = 0; sq_page_is_interior(p) && i <= p->count; i++) {
		uint32_t child = sq_page_child(p, i);
		if (sq_is_page(o, child))
			sq_map_add(&o->map, &(struct sq_place){.page = child,
			                                       .parent = number,
			                                       .tree = tree,
			                                       .at = (uint16_t)(i & 0x7fff)});
	}
}
