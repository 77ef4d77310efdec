/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of an FTS5 index: a header, then terms each with its rows, then where the terms begin. */
#include "order/sqlite_fts.h"

#include <string.h>

/* A term shares its beginning with the one before it, but the first of a block. */
static size_t read_term(const uint8_t *at, const uint8_t *end, bool first, struct fts_term *term)
{
	const uint8_t *from = at;
	uint64_t prefix = 0, size;
	size_t n;
	if (!first) {
		if (!(n = sq_varint(at, end, &prefix)))
			return 0;
		at += n;
	}
	if (!(n = sq_varint(at, end, &size)) || size >= (uint64_t)(end - at) - n)
		return 0;
	at += n;
	uint64_t keep = prefix < term->len ? prefix : term->len;
	uint64_t more = size < FTS_TERM_BYTES - keep ? size : FTS_TERM_BYTES - keep;
	memcpy(term->bytes + keep, at, more);
	term->len = (uint8_t)(keep + more);
	return (size_t)(at - from) + (size_t)size;
}

unsigned fts_lists(const uint8_t *b, uint32_t len, struct fts_list out[FTS_LISTS])
{
	if (len < 4)
		return 0;
	uint32_t first_row = sq_be16(b), end = sq_be16(b + 2), at = 0;
	if (end > len || end < 4)
		return 0;
	unsigned count = 0;
	const uint8_t *index = b + end, *stop = b + len;
	struct fts_list open = {.from = first_row >= 4 && first_row < end ? first_row : 0,
	                        .continued = true};
	struct fts_term term = {0};
	for (bool first = true; count < FTS_LISTS; first = false) {
		uint64_t delta = 0;
		size_t n = index < stop ? sq_varint(index, stop, &delta) : 0;
		uint32_t next = n && delta < end && at + delta < end ? at + (uint32_t)delta : end;
		open.to = next;
		if (open.from && open.from < next)
			out[count++] = open;
		if (next == end || next <= at)
			break;
		index += n;
		at = next;
		if (!(n = read_term(b + at, b + end, first, &term)))
			break;
		open = (struct fts_list){.from = at + (uint32_t)n, .term = term};
	}
	return count;
}

void fts_rows(const uint8_t *b, const struct fts_list *l, bool (*each)(void *user, int64_t rowid),
              void *user)
{
	const uint8_t *at = b + l->from, *end = b + l->to;
	uint64_t row = 0, delta, size;
	while (at < end) {
		size_t n = sq_varint(at, end, &delta);
		if (!n)
			return;
		row += delta;
		at += n;
		if (!each(user, (int64_t)row) || !(n = sq_varint(at, end, &size)))
			return;
		at += n;
		if (size / 2 >= (uint64_t)(end - at))
			return;
		at += size / 2;
	}
}
