/* SPDX-License-Identifier: Apache-2.0 */
#include "media/parse.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int media_damaged(struct media_parse *p, const char *what)
{
	return hither_fail(p->err, -EINVAL, "media: %s: %s", p->out->format ? p->out->format : "",
	                   what);
}

int media_read(struct media_parse *p, void *buf, size_t len, uint64_t offset)
{
	uint64_t size = p->source->size_bytes;
	if (offset > size || len > size - offset)
		return media_damaged(p, "it ends too early");
	if (len == 0)
		return 0;
	int r = p->source->read(p->source, buf, len, offset);
	if (r == -EAGAIN) {
		uint64_t ask = len > MEDIA_ASK_BYTES ? len : MEDIA_ASK_BYTES;
		p->wanted =
		        (struct hither_range){offset, ask < size - offset ? ask : size - offset};
	}
	return r ? hither_fail(p->err, r, "media: reading %zu bytes at %" PRIu64, len, offset) : 0;
}

int media_load(struct media_parse *p, uint64_t offset, uint64_t len, uint8_t **out)
{
	if (len > MEDIA_INDEX_MOST_BYTES)
		return hither_fail(p->err, -E2BIG, "media: an index of %" PRIu64 " bytes", len);
	if (offset > p->source->size_bytes || len > p->source->size_bytes - offset)
		return media_damaged(p, "its index ends beyond the file");
	HITHER_FREE uint8_t *buf = malloc(len ? len : 1);
	if (!buf)
		return hither_fail(p->err, -ENOMEM,
		                   "media: no memory for an index of %" PRIu64 " bytes", len);
	int r = media_read(p, buf, len, offset);
	if (!r)
		*out = HITHER_TAKE(buf, NULL);
	return r;
}

void media_note_index(struct media_parse *p, uint64_t offset, uint64_t len)
{
	if (p->out->index_count < HITHER_MEDIA_INDEXES)
		p->out->index[p->out->index_count++] = (struct hither_range){offset, len};
}

int media_add(struct media_parse *p, struct hither_media_piece piece)
{
	struct hither_range range = {piece.offset, piece.len};
	uint64_t size = p->source->size_bytes;
	if (range.offset >= size || range.len == 0)
		return 0;
	if (range.len > size - range.offset)
		range.len = size - range.offset;
	if (p->raw_count == p->raw_room) {
		/* Joined later; four tracks that take turns give four times as many at first. */
		size_t room = p->raw_room ? p->raw_room * 2 : 1024;
		if (room > 4 * (size_t)MEDIA_MOST_PIECES)
			return hither_fail(p->err, -E2BIG, "media: too many runs of samples");
		struct hither_media_piece *more = realloc(p->raw, room * sizeof *more);
		if (!more)
			return hither_fail(p->err, -ENOMEM, "media: no memory");
		p->raw = more;
		p->raw_room = room;
	}
	piece.len = range.len;
	if (piece.end_us < piece.time_us)
		piece.end_us = piece.time_us;
	p->raw[p->raw_count++] = piece;
	return 0;
}

int media_add_even(struct media_parse *p, struct hither_media_piece whole)
{
	uint64_t time = whole.end_us > whole.time_us ? whole.end_us - whole.time_us : 0;
	uint64_t steps = time / MEDIA_PIECE_US + 1;
	if (steps > 1 << 16)
		steps = 1 << 16;
	int r = 0;
	for (uint64_t i = 0; !r && i < steps; i++) {
		uint64_t from = media_scale(whole.len, i, steps),
		         to = media_scale(whole.len, i + 1, steps);
		struct hither_media_piece piece = {
		        .time_us = whole.time_us + media_scale(time, i, steps),
		        .end_us = whole.time_us + media_scale(time, i + 1, steps),
		        .len = to - from,
		        .flags = whole.flags};
		if (__builtin_add_overflow(whole.offset, from, &piece.offset))
			return 0;
		r = media_add(p, piece);
	}
	return r;
}

uint64_t media_scale(uint64_t a, uint64_t b, uint64_t c)
{
	if (c == 0)
		return UINT64_MAX;
	unsigned __int128 scaled = (unsigned __int128)a * b / c;
	return scaled > UINT64_MAX ? UINT64_MAX : (uint64_t)scaled;
}
