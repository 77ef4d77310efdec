/* SPDX-License-Identifier: Apache-2.0 */
#include "pages.h"

#include <stdbool.h>

enum {
	INTERIOR_INDEX = 2,
	INTERIOR_TABLE = 5,
	LEAF_INDEX = 10,
	LEAF_TABLE = 13,
	DATABASE_HEADER_BYTES = 100, /* before page 1's own */
};

static uint32_t be16(const unsigned char *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const unsigned char *p)
{
	return be16(p) << 16 | be16(p + 2);
}

/* A varint at *at; false: it does not lie within the page. */
static bool varint(const struct page *p, uint32_t *at, uint64_t *out)
{
	*out = 0;
	for (int i = 0; i < 9 && *at < p->usable; i++) {
		unsigned char c = p->bytes[(*at)++];
		if (i == 8) {
			*out = *out << 8 | c;
			return true;
		}
		*out = *out << 7 | (c & 0x7f);
		if (!(c & 0x80))
			return true;
	}
	return false;
}

/* Bytes of a payload that are in the cell itself; fewer than `payload`: it overflows. */
static uint64_t local_bytes(const struct page *p, int type, uint64_t payload)
{
	uint64_t usable = p->usable;
	uint64_t most = type == LEAF_TABLE ? usable - 35 : (usable - 12) * 64 / 255 - 23;
	uint64_t least = (usable - 12) * 32 / 255 - 23;
	if (payload <= most)
		return payload;
	uint64_t local = least + (payload - least) % (usable - 4);
	return local <= most ? local : least;
}

static void overflow_of(const struct page *p, int type, uint32_t at,
                        void (*each)(void *user, uint32_t number, int is_overflow), void *user)
{
	uint64_t payload, rowid;
	if (!varint(p, &at, &payload) || (type == LEAF_TABLE && !varint(p, &at, &rowid)))
		return;
	uint64_t local = local_bytes(p, type, payload);
	if (local < payload && at + local + 4 <= p->usable)
		each(user, be32(p->bytes + at + local), 1);
}

void pages_children(const struct page *p,
                    void (*each)(void *user, uint32_t number, int is_overflow), void *user)
{
	uint32_t head = p->number == 1 ? DATABASE_HEADER_BYTES : 0;
	int type = p->bytes[head];
	bool interior = type == INTERIOR_INDEX || type == INTERIOR_TABLE;
	if (!interior && type != LEAF_INDEX && type != LEAF_TABLE)
		return;
	uint32_t count = be16(p->bytes + head + 3), cells = head + (interior ? 12 : 8);
	for (uint32_t i = 0; i < count && cells + 2 * i + 2 <= p->usable; i++) {
		uint32_t at = be16(p->bytes + cells + 2 * i);
		if (at + 4 > p->usable)
			continue;
		if (interior)
			each(user, be32(p->bytes + at), 0);
		if (type != INTERIOR_TABLE)
			overflow_of(p, type, at + (interior ? 4 : 0), each, user);
	}
	if (interior)
		each(user, be32(p->bytes + head + 8), 0);
}

uint32_t pages_next(const struct page *p)
{
	return be32(p->bytes);
}
