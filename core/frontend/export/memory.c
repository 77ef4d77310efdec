/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's buffers: kept for the next request, last used first, as it is warm. */
#include "export_internal.h"

#include <stdlib.h>

enum { KEPT_LARGE = 8 };

struct export_request *export_request_take_locked(struct export_connection *c)
{
	struct export_request *r = c->free_requests;
	if (r)
		c->free_requests = r->next;
	else
		r = malloc(sizeof *r);
	if (!r)
		return NULL;
	/* Not message[]: only an error has one. */
	memset(r, 0, offsetof(struct export_request, message));
	r->message[0] = 0;
	r->next = NULL;
	r->connection = c;
	c->requests++;
	return r;
}

void export_request_release_locked(struct export_connection *c, struct export_request *r)
{
	c->requests--;
	r->next = c->free_requests;
	c->free_requests = r;
}

static struct export_piece *take_free(struct export_connection *c, size_t len)
{
	bool large = len > EXPORT_SMALL_BYTES;
	struct export_piece **list = large ? &c->free_large : &c->free_small, *p = *list;
	if (!p || len > p->room)
		return NULL;
	*list = p->next;
	c->free_large_count -= large;
	return p;
}

struct export_piece *export_piece_take_locked(struct export_connection *c, struct export_request *r,
                                              size_t len)
{
	struct export_piece *p = take_free(c, len);
	size_t room = len <= EXPORT_SMALL_BYTES   ? EXPORT_SMALL_BYTES
	              : len <= EXPORT_PIECE_BYTES ? EXPORT_PIECE_BYTES
	                                          : len;
	if (!p) {
		p = malloc(sizeof *p + room);
		if (!p)
			return NULL;
		p->room = room;
	}
	p->request = r;
	p->next = NULL;
	p->header_len = p->data_len = 0;
	p->data = p->bytes;
	c->bytes += p->room;
	return p;
}

void export_piece_release_locked(struct export_connection *c, struct export_piece *p)
{
	c->bytes -= p->room;
	bool large = p->room > EXPORT_SMALL_BYTES;
	if (p->room > EXPORT_PIECE_BYTES || (large && c->free_large_count >= KEPT_LARGE)) {
		free(p);
		return;
	}
	struct export_piece **list = large ? &c->free_large : &c->free_small;
	p->next = *list;
	*list = p;
	c->free_large_count += large;
}

static void free_pieces(struct export_piece *p)
{
	while (p) {
		struct export_piece *next = p->next;
		free(p);
		p = next;
	}
}

void export_memory_finish(struct export_connection *c)
{
	free_pieces(c->free_small);
	free_pieces(c->free_large);
	free_pieces(c->output.head);
	while (c->free_requests) {
		struct export_request *r = c->free_requests;
		c->free_requests = r->next;
		free(r);
	}
}
