/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fragmented MP4: pieces by the segment index in front (sidx, ISO/IEC 14496-12, 8.16.3) or by the
 * random access table at the end (mfra, 8.8.9). A file with neither has to be read to be known.
 */
#include "base/cleanup.h"
#include "media/box.h"

#include <errno.h>

#define MOST_SEGMENTS (1u << 16)

static int add_sidx(struct media_parse *p, const struct box *box, struct box_bytes b)
{
	bool wide = b.len > 0 && b.data[0] == 1;
	size_t header = wide ? 32 : 24;
	if (b.len < header)
		return media_damaged(p, "sidx is cut short");
	uint64_t scale = media_be32(b.data + 8), at = box->offset + box->len, tick;
	uint64_t first = wide ? media_be64(b.data + 20) : media_be32(b.data + 16);
	tick = wide ? media_be64(b.data + 12) : media_be32(b.data + 12);
	size_t count = media_be16(b.data + header - 2), room = (b.len - header) / 12;
	if (!scale || __builtin_add_overflow(at, first, &at))
		return media_damaged(p, "sidx has impossible numbers");
	int r = 0;
	for (size_t i = 0; !r && i < count && i < room; i++) {
		const uint8_t *e = b.data + header + i * 12;
		uint64_t len = media_be32(e) & 0x7fffffff, end, ticks = media_be32(e + 4);
		if (__builtin_add_overflow(at, len, &end) ||
		    __builtin_add_overflow(tick, ticks, &ticks))
			return media_damaged(p, "sidx lies beyond any file");
		/* A hierarchy of indexes (top bit) is as good for reading ahead. */
		r = media_add(
		        p, (struct hither_media_piece){.time_us = media_scale(tick, 1000000, scale),
		                                       .end_us = media_scale(ticks, 1000000, scale),
		                                       .offset = at,
		                                       .len = len,
		                                       .flags = HITHER_MEDIA_KEY});
		at = end;
		tick = ticks;
	}
	return r;
}

/* The timescale of a track, by its number. 0: there is no such track. */
static uint32_t timescale_of(struct box_bytes moov, uint32_t track)
{
	struct box_bytes trak, b, mdia;
	while (box_next(&moov, &trak)) {
		if (trak.type != BOX('t', 'r', 'a', 'k') ||
		    !box_find(trak, BOX('t', 'k', 'h', 'd'), &b) || b.len < 24)
			continue;
		if (media_be32(b.data + (b.data[0] == 1 ? 20 : 12)) == track &&
		    box_find(trak, BOX('m', 'd', 'i', 'a'), &mdia) &&
		    box_find(mdia, BOX('m', 'd', 'h', 'd'), &b) && b.len >= 24)
			return media_be32(b.data + (b.data[0] == 1 ? 20 : 12));
	}
	return 0;
}

/* One track's table: where its fragments begin. Ends: the next fragment's beginning. */
static int add_tfra(struct media_parse *p, struct box_bytes tfra, struct box_bytes moov,
                    uint64_t end)
{
	if (tfra.len < 16)
		return 0;
	bool wide = tfra.data[0] == 1;
	uint32_t sizes = media_be32(tfra.data + 8),
	         scale = timescale_of(moov, media_be32(tfra.data + 4));
	size_t each = (wide ? 16 : 8) + 3 + (sizes >> 4 & 3) + (sizes >> 2 & 3) + (sizes & 3);
	size_t count = media_be32(tfra.data + 12), room = (tfra.len - 16) / each;
	if (count > room)
		count = room;
	int r = 0;
	for (size_t i = 0; scale && !r && i < count && i < MOST_SEGMENTS; i++) {
		const uint8_t *e = tfra.data + 16 + i * each, *next = e + each;
		bool last = i + 1 == count;
		uint64_t tick = wide ? media_be64(e) : media_be32(e);
		uint64_t at = wide ? media_be64(e + 8) : media_be32(e + 4);
		uint64_t stop = last ? end : wide ? media_be64(next + 8) : media_be32(next + 4);
		struct hither_media_piece piece = {.time_us = media_scale(tick, 1000000, scale),
		                                   .offset = at,
		                                   .flags = HITHER_MEDIA_KEY};
		tick = last ? tick : wide ? media_be64(next) : media_be32(next);
		piece.end_us = last ? p->out->duration_us : media_scale(tick, 1000000, scale);
		if (stop <= at)
			continue; /* several samples of one fragment, or nonsense */
		piece.len = stop - at;
		r = media_add(p, piece);
	}
	return r;
}

static int add_mfra(struct media_parse *p, struct box_bytes moov)
{
	uint64_t size = p->source->size_bytes;
	uint8_t tail[16];
	int r = size < sizeof tail ? -ENOTSUP
	                           : media_read(p, tail, sizeof tail, size - sizeof tail);
	if (r == -EAGAIN) /* the table ends here, so it is wanted too */
		p->wanted = (struct hither_range){
		        size - (size < MEDIA_ASK_BYTES ? size : MEDIA_ASK_BYTES),
		        size < MEDIA_ASK_BYTES ? size : MEDIA_ASK_BYTES};
	if (r)
		return r;
	uint32_t len = media_be32(tail + 12);
	if (media_be32(tail + 4) != BOX('m', 'f', 'r', 'o') || len > size || len < 8)
		return 0;
	HITHER_FREE uint8_t *owned = NULL;
	r = media_load(p, size - len, len, &owned);
	if (r)
		return r;
	struct box_bytes all = {0, owned, len}, mfra, b;
	if (!box_next(&all, &mfra) || mfra.type != BOX('m', 'f', 'r', 'a'))
		return 0;
	media_note_index(p, size - len, len);
	while (!r && box_next(&mfra, &b))
		if (b.type == BOX('t', 'f', 'r', 'a'))
			r = add_tfra(p, b, moov, size - len);
	return r;
}

int mp4_fragments(struct media_parse *p, const struct mp4_top *top, struct box_bytes moov)
{
	if (!top->sidx.len)
		return add_mfra(p, moov);
	HITHER_FREE uint8_t *owned = NULL;
	int r = media_load(p, top->sidx.offset, top->sidx.len, &owned);
	if (r)
		return r;
	media_note_index(p, top->sidx.offset, top->sidx.len);
	size_t header = top->sidx.header_bytes;
	return add_sidx(
	        p, &top->sidx,
	        (struct box_bytes){top->sidx.type, owned + header, (size_t)top->sidx.len - header});
}
