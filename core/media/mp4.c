/* SPDX-License-Identifier: Apache-2.0 */
/* MP4 and QuickTime: the boxes at the top of the file, and what the movie header says. */
#include "base/cleanup.h"
#include "media/box.h"

#include <errno.h>
#include <string.h>

enum {
	MOST_BOXES = 4096, /* at the top of a file */
	MOST_TRACKS = 256,
	HEADER_BYTES = 16,
};
/* If no more than this is left behind the media, it is asked for in one go: it is the index. */
#define REST_BYTES (UINT64_C(16) << 20)

int box_read(struct media_parse *p, uint64_t offset, struct box *out)
{
	uint8_t h[HEADER_BYTES];
	uint64_t left = p->source->size_bytes - offset;
	int r = media_read(p, h, left < HEADER_BYTES ? (size_t)left : HEADER_BYTES, offset);
	if (r == -EAGAIN && left <= REST_BYTES)
		p->wanted = (struct hither_range){offset, left};
	if (r)
		return r;
	if (left < 8)
		return media_damaged(p, "a box is cut short");
	*out = (struct box){.type = media_be32(h + 4),
	                    .header_bytes = 8,
	                    .offset = offset,
	                    .len = media_be32(h)};
	if (out->len == 0)
		out->len = left;
	if (out->len == 1) {
		if (left < HEADER_BYTES)
			return media_damaged(p, "a box is cut short");
		out->len = media_be64(h + 8);
		out->header_bytes = HEADER_BYTES;
	}
	return out->len < out->header_bytes ? media_damaged(p, "a box is smaller than its header")
	                                    : 0;
}

bool box_next(struct box_bytes *rest, struct box_bytes *out)
{
	if (rest->len < 8)
		return false;
	uint64_t len = media_be32(rest->data), header = 8;
	if (len == 0)
		len = rest->len;
	if (len == 1 && rest->len >= HEADER_BYTES) {
		len = media_be64(rest->data + 8);
		header = HEADER_BYTES;
	}
	if (len < header || len > rest->len)
		return false;
	*out = (struct box_bytes){media_be32(rest->data + 4), rest->data + header,
	                          (size_t)(len - header)};
	rest->data += len;
	rest->len -= len;
	return true;
}

bool box_find(struct box_bytes parent, uint32_t type, struct box_bytes *out)
{
	while (box_next(&parent, out))
		if (out->type == type)
			return true;
	return false;
}

/* Note what is of interest. True: all is known. */
static bool note_box(struct mp4_top *top, const struct box *b)
{
	switch (b->type) {
	case BOX('f', 't', 'y', 'p'):
		if (!top->ftyp.len && top->first_mdat == UINT64_MAX)
			top->ftyp = *b;
		break;
	case BOX('m', 'o', 'o', 'v'):
		top->moov = *b;
		return top->first_mdat != UINT64_MAX;
	case BOX('s', 'i', 'd', 'x'):
		if (!top->sidx.len)
			top->sidx = *b;
		break;
	case BOX('m', 'd', 'a', 't'):
	case BOX('m', 'o', 'o', 'f'):
		if (top->first_mdat == UINT64_MAX)
			top->first_mdat = b->offset;
		return top->moov.len > 0;
	default:
		break;
	}
	return false;
}

/* An index in front: in the same round trip as what comes behind it. */
static void want_moov_too(struct media_parse *p, const struct mp4_top *top)
{
	uint64_t end = p->wanted.offset + p->wanted.len;
	if (top->moov.len && top->moov.len <= MEDIA_INDEX_MOST_BYTES &&
	    top->moov.offset < p->wanted.offset)
		p->wanted = (struct hither_range){top->moov.offset, end - top->moov.offset};
}

int mp4_walk(struct media_parse *p, struct mp4_top *out)
{
	uint64_t at = 0;
	*out = (struct mp4_top){.first_mdat = UINT64_MAX};
	for (int i = 0; i < MOST_BOXES && at < p->source->size_bytes; i++) {
		struct box b;
		int r = box_read(p, at, &b);
		if (r == -EAGAIN)
			want_moov_too(p, out);
		if (r)
			return r;
		if (note_box(out, &b))
			return 0;
		if (__builtin_add_overflow(at, b.len, &at))
			return media_damaged(p, "a box has an impossible size");
	}
	if (out->moov.len)
		return 0;
	return hither_fail(p->err, -ENOTSUP, "media: mp4 without an index (moov)");
}

int mp4_load_moov(struct media_parse *p, const struct mp4_top *top, uint8_t **owned,
                  struct box_bytes *moov)
{
	int r = media_load(p, top->moov.offset, top->moov.len, owned);
	if (r)
		return r;
	*moov = (struct box_bytes){top->moov.type, *owned + top->moov.header_bytes,
	                           (size_t)(top->moov.len - top->moov.header_bytes)};
	return 0;
}

static void read_duration(struct media_parse *p, struct box_bytes moov)
{
	struct box_bytes b;
	if (!box_find(moov, BOX('m', 'v', 'h', 'd'), &b) || b.len < 20)
		return;
	bool wide = b.data[0] == 1;
	if (wide && b.len < 32)
		return;
	uint32_t scale = media_be32(b.data + (wide ? 20 : 12));
	uint64_t ticks = wide ? media_be64(b.data + 24) : media_be32(b.data + 16);
	if (scale)
		p->out->duration_us = media_scale(ticks, 1000000, scale);
}

static int parse(struct media_parse *p)
{
	struct mp4_top top;
	struct box_bytes moov, b;
	HITHER_FREE uint8_t *owned = NULL;
	int r = mp4_walk(p, &top), tracks = 0;
	if (!r)
		r = mp4_load_moov(p, &top, &owned, &moov);
	if (r)
		return r;
	media_note_index(p, top.moov.offset, top.moov.len);
	read_duration(p, moov);
	p->out->fragmented = box_find(moov, BOX('m', 'v', 'e', 'x'), &b);
	for (struct box_bytes rest = moov; !r && box_next(&rest, &b);)
		if (b.type == BOX('t', 'r', 'a', 'k') && tracks++ < MOST_TRACKS)
			r = mp4_track(p, b);
	return !r && p->out->fragmented ? mp4_fragments(p, &top, moov) : r;
}

static bool recognise(const uint8_t *head, size_t len)
{
	static const char *const first[] = {"ftyp", "moov", "mdat", "wide", "styp",
	                                    "skip", "free", "pnot", "uuid"};
	if (len < 16 || (media_be32(head) < 8 && media_be32(head) > 1))
		return false;
	for (size_t i = 0; i < sizeof first / sizeof *first; i++)
		if (memcmp(head + 4, first[i], 4) == 0)
			return true;
	return false;
}

const struct media_format media_mp4 = {"mp4", recognise, parse};
