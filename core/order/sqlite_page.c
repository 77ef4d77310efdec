/* SPDX-License-Identifier: Apache-2.0 */
#include "order/sqlite_page.h"

#include <string.h>

enum { MOST_COLUMNS = 32767 };

uint16_t sq_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t sq_be32(const uint8_t *p)
{
	return (uint32_t)sq_be16(p) << 16 | sq_be16(p + 2);
}

size_t sq_varint(const uint8_t *at, const uint8_t *end, uint64_t *out)
{
	*out = 0;
	for (size_t i = 0; i < 9 && at + i < end; i++) {
		if (i == 8) {
			*out = *out << 8 | at[i];
			return 9;
		}
		*out = *out << 7 | (at[i] & 0x7f);
		if (!(at[i] & 0x80))
			return i + 1;
	}
	return 0;
}

bool sq_shape_read(const uint8_t *head, size_t len, uint64_t size_bytes, struct sq_shape *out)
{
	if (len < SQ_HEADER_BYTES || memcmp(head, "SQLite format 3", 16) != 0)
		return false;
	uint32_t bytes = sq_be16(head + 16);
	if (bytes == 1)
		bytes = SQ_PAGE_MOST_BYTES;
	/* The fractions that 1.3.5 prescribes, and at least 480 usable bytes. */
	if (bytes < 512 || (bytes & (bytes - 1)) || head[21] != 64 || head[22] != 32 ||
	    head[23] != 32 || bytes - head[20] < 480)
		return false;
	uint64_t count = size_bytes / bytes;
	*out = (struct sq_shape){.page_bytes = bytes,
	                         .usable = bytes - head[20],
	                         .page_count =
	                                 count < UINT32_MAX ? (uint32_t)count : UINT32_MAX - 1};
	return true;
}

bool sq_page_open(struct sq_page *p, const struct sq_shape *shape, const uint8_t *bytes,
                  uint32_t number)
{
	uint32_t head = number == 1 ? SQ_HEADER_BYTES : 0;
	*p = (struct sq_page){.bytes = bytes, .usable = shape->usable, .type = bytes[head]};
	bool interior = sq_page_is_interior(p);
	if (!interior && p->type != SQ_INDEX_LEAF && p->type != SQ_TABLE_LEAF)
		return false;
	p->count = sq_be16(bytes + head + 3);
	p->cells = head + (interior ? 12 : 8);
	p->right = interior ? sq_be32(bytes + head + 8) : 0;
	return p->cells + 2 * p->count <= p->usable;
}

/* Bytes of a payload in the cell itself; fewer than `payload`: it overflows. 1.6 */
static uint64_t local_bytes(const struct sq_page *p, uint64_t payload)
{
	uint64_t usable = p->usable;
	uint64_t most = p->type == SQ_TABLE_LEAF ? usable - 35 : (usable - 12) * 64 / 255 - 23;
	uint64_t least = (usable - 12) * 32 / 255 - 23;
	if (payload <= most)
		return payload;
	uint64_t local = least + (payload - least) % (usable - 4);
	return local <= most ? local : least;
}

bool sq_page_cell(const struct sq_page *p, uint32_t i, struct sq_cell *out)
{
	*out = (struct sq_cell){0};
	if (i >= p->count)
		return false;
	uint32_t offset = sq_be16(p->bytes + p->cells + 2 * i);
	if (offset < p->cells + 2 * p->count || offset + 4 > p->usable)
		return false;
	const uint8_t *at = p->bytes + offset, *end = p->bytes + p->usable;
	uint64_t value = 0;
	size_t n;
	if (sq_page_is_interior(p)) {
		out->child = sq_be32(at);
		at += 4;
	}
	if (p->type != SQ_TABLE_INTERIOR) {
		if (!(n = sq_varint(at, end, &out->payload)))
			return false;
		at += n;
	}
	if (sq_page_is_table(p)) {
		if (!(n = sq_varint(at, end, &value)))
			return false;
		out->rowid = (int64_t)value;
		at += n;
	}
	if (p->type == SQ_TABLE_INTERIOR)
		return true;
	uint64_t local = local_bytes(p, out->payload);
	if (local > (uint64_t)(end - at))
		return false;
	out->record = at;
	out->local = (uint32_t)local;
	if (local < out->payload && (uint64_t)(end - at) >= local + 4)
		out->overflow = sq_be32(at + local);
	return true;
}

/* --- interior pages --- */

uint32_t sq_page_child(const struct sq_page *p, uint32_t i)
{
	struct sq_cell c;
	if (!sq_page_is_interior(p) || i > p->count)
		return 0;
	if (i == p->count)
		return p->right;
	return sq_page_cell(p, i, &c) ? c.child : 0;
}

uint32_t sq_page_find_child(const struct sq_page *p, uint32_t child)
{
	for (uint32_t i = 0; child && i <= p->count; i++)
		if (sq_page_child(p, i) == child)
			return i;
	return UINT32_MAX;
}

struct sq_rowids sq_page_rowids(const struct sq_page *p, uint32_t i, struct sq_rowids within)
{
	struct sq_cell c;
	if (i > 0 && sq_page_cell(p, i - 1, &c) && c.rowid > within.low)
		within.low = c.rowid;
	if (i < p->count && sq_page_cell(p, i, &c) && c.rowid < within.high)
		within.high = c.rowid;
	return within;
}

/* The first cell whose rowid is not less. */
static uint32_t lower_bound(const struct sq_page *p, int64_t rowid)
{
	uint32_t low = 0, high = p->count;
	struct sq_cell c;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (sq_page_cell(p, middle, &c) && c.rowid < rowid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t sq_page_child_of(const struct sq_page *p, int64_t rowid)
{
	return p->type == SQ_TABLE_INTERIOR ? sq_page_child(p, lower_bound(p, rowid)) : 0;
}

bool sq_page_row(const struct sq_page *p, int64_t rowid, struct sq_cell *out)
{
	return p->type == SQ_TABLE_LEAF && sq_page_cell(p, lower_bound(p, rowid), out) &&
	       out->rowid == rowid;
}

/* --- records --- */

static uint64_t bytes_of(uint64_t type)
{
	static const uint8_t small[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0};
	return type < 10 ? small[type] : type < 12 ? 0 : (type - 12) / 2;
}

static bool value_at(const struct sq_cell *c, uint64_t type, uint64_t offset, struct sq_value *out)
{
	uint64_t len = bytes_of(type);
	if (offset > c->local || len > c->local - offset)
		return false;
	*out = (struct sq_value){type, c->record + offset, len};
	return true;
}

/* Column `wanted`, or the last one where there are not so many. */
static bool find_value(const struct sq_cell *c, uint32_t wanted, struct sq_value *out)
{
	const uint8_t *at = c->record, *end = at + c->local;
	uint64_t head, type = 0, offset;
	size_t n = at ? sq_varint(at, end, &head) : 0;
	if (!n || head > c->local)
		return false;
	end = c->record + head;
	at += n;
	offset = head;
	uint32_t i = 0;
	for (; at < end && i < MOST_COLUMNS; i++, at += n) {
		offset += i ? bytes_of(type) : 0;
		n = sq_varint(at, end, &type);
		if (!n || offset > c->local)
			return false;
		if (i == wanted)
			return value_at(c, type, offset, out);
	}
	return wanted == UINT32_MAX && i > 0 && value_at(c, type, offset, out);
}

bool sq_cell_value(const struct sq_cell *c, uint32_t i, struct sq_value *out)
{
	return i < MOST_COLUMNS && find_value(c, i, out);
}

bool sq_cell_last(const struct sq_cell *c, struct sq_value *out)
{
	return find_value(c, UINT32_MAX, out);
}

bool sq_value_int(const struct sq_value *v, int64_t *out)
{
	if (v->type == 0 || v->type > 9 || v->type == 7)
		return false;
	if (v->type >= 8) {
		*out = (int64_t)v->type - 8;
		return true;
	}
	uint64_t value = v->bytes[0] & 0x80 ? UINT64_MAX : 0;
	for (uint64_t i = 0; i < v->len; i++)
		value = value << 8 | v->bytes[i];
	*out = (int64_t)value;
	return true;
}

bool sq_value_is_text(const struct sq_value *v)
{
	return v->type >= 13 && v->type % 2;
}
