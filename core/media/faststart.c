/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual faststart: the index (moov) of an MP4 written anew for a layout with it in front.
 *
 *     file:    [ftyp] [A: mdat ...] [moov] [B: what is left]
 *     layout:  [ftyp] [moov'] [A] [B]
 *
 * Everything in A moves back by the new moov's size, B by the difference of the sizes. Chunk
 * offsets (stco, co64) are the only absolute ones of a file that is not fragmented; those of
 * encrypted samples' data (saio) would be others, such files are left as they are.
 */
#include "base/cleanup.h"
#include "media/box.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rewrite {
	uint64_t insert_at; /* where moov' goes, in the file */
	uint64_t moov_at, moov_len;
	uint64_t new_len;
	bool wide;    /* write co64 */
	bool fits;    /* the new offsets found so far fit into 32 bits */
	bool foreign; /* something refers to the file that is not understood */
	uint8_t *out; /* NULL: only count */
	uint64_t len; /* written, or counted */
};

static void put(struct rewrite *w, const void *data, size_t len)
{
	if (w->out && len)
		memcpy(w->out + w->len, data, len);
	w->len += len;
}

static void put_be32(struct rewrite *w, uint64_t v)
{
	const uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8),
	                      (uint8_t)v};
	put(w, b, sizeof b);
}

static uint64_t moved(const struct rewrite *w, uint64_t offset)
{
	if (offset >= w->moov_at + w->moov_len)
		return offset - w->moov_len + w->new_len;
	return offset >= w->insert_at ? offset + w->new_len : offset;
}

static void put_offsets(struct rewrite *w, struct box_bytes b)
{
	size_t each = b.type == BOX('c', 'o', '6', '4') ? 8 : 4;
	uint64_t count = media_be32(b.data + 4), room = (b.len - 8) / each;
	if (count > room)
		count = room;
	put_be32(w, 16 + count * (w->wide ? 8 : 4));
	put_be32(w, w->wide ? BOX('c', 'o', '6', '4') : BOX('s', 't', 'c', 'o'));
	put(w, b.data, 4);
	put_be32(w, count);
	for (uint64_t i = 0; i < count; i++) {
		const uint8_t *e = b.data + 8 + i * each;
		uint64_t to = moved(w, each == 8 ? media_be64(e) : media_be32(e));
		w->fits = w->fits && to <= UINT32_MAX;
		if (w->wide)
			put_be32(w, to >> 32);
		put_be32(w, to & UINT32_MAX);
	}
}

/* The boxes on the way to the chunk offsets, one inside the other. */
static const uint32_t path[] = {BOX('m', 'o', 'o', 'v'), BOX('t', 'r', 'a', 'k'),
                                BOX('m', 'd', 'i', 'a'), BOX('m', 'i', 'n', 'f'),
                                BOX('s', 't', 'b', 'l')};
enum { PATH_LENGTH = sizeof path / sizeof *path };

static void put_box(struct rewrite *w, struct box_bytes b, unsigned depth);

static void put_children(struct rewrite *w, struct box_bytes b, unsigned depth)
{
	uint64_t header = w->len;
	put_be32(w, 0);
	put_be32(w, b.type);
	struct box_bytes child;
	while (box_next(&b, &child))
		put_box(w, child, depth + 1);
	/* What is no box; QuickTime ends lists with four zeros. A longer rest is a box that lies
	 * about its size: players may follow it all the same, to offsets that are not corrected. */
	w->foreign = w->foreign || b.len >= 8;
	put(w, b.data, b.len);
	if (w->out) {
		struct rewrite size = {.out = w->out, .len = header};
		put_be32(&size, w->len - header);
	}
}

/* Of a type that leads to offsets, or has them: in its place it has been dealt with. */
static bool leads_to_offsets(uint32_t type)
{
	for (size_t i = 0; i < PATH_LENGTH; i++)
		if (type == path[i])
			return true;
	return type == BOX('s', 't', 'c', 'o') || type == BOX('c', 'o', '6', '4');
}

/* depth: of path, that b may be at. Never deeper than the path. */
static void put_box(struct rewrite *w, struct box_bytes b, unsigned depth)
{
	bool offsets = b.type == BOX('s', 't', 'c', 'o') || b.type == BOX('c', 'o', '6', '4');
	if (depth < PATH_LENGTH && b.type == path[depth]) {
		put_children(w, b, depth);
	} else if (depth == PATH_LENGTH && offsets && b.len >= 8) {
		put_offsets(w, b);
	} else {
		w->foreign = w->foreign || b.type == BOX('s', 'a', 'i', 'o') ||
		             b.type == BOX('c', 'm', 'o', 'v') || leads_to_offsets(b.type);
		put_be32(w, b.len + 8);
		put_be32(w, b.type);
		put(w, b.data, b.len);
	}
}

/* What moov' takes: its size depends on itself only through the width of the offsets. */
static void measure(struct rewrite *w, struct box_bytes moov)
{
	for (int pass = 0; pass < 3; pass++) {
		w->len = 0;
		w->fits = true;
		put_box(w, moov, 0);
		bool settled = w->len == w->new_len && (w->wide || w->fits);
		w->new_len = w->len;
		if (settled)
			return;
		w->wide = w->wide || !w->fits;
	}
}

static void add_segment(struct hither_media_layout *l, struct hither_media_segment s)
{
	if (s.len == 0)
		return;
	l->segments[l->count++] = s;
	l->size_bytes += s.len;
}

static int lay_out(struct media_parse *p, struct box_bytes moov, struct rewrite *w,
                   struct hither_media_layout *out)
{
	uint64_t size = p->source->size_bytes, moov_end = w->moov_at + w->moov_len;
	measure(w, moov);
	if (w->foreign)
		return 0;
	w->out = malloc(w->new_len);
	if (!w->out)
		return hither_fail(p->err, -ENOMEM, "media: no memory for an index");
	w->len = 0;
	put_box(w, moov, 0);
	*out = (struct hither_media_layout){.index = w->out};
	add_segment(out, (struct hither_media_segment){.len = w->insert_at});
	add_segment(out, (struct hither_media_segment){.data = w->out, .len = w->new_len});
	add_segment(out, (struct hither_media_segment){.offset = w->insert_at,
	                                               .len = w->moov_at - w->insert_at});
	add_segment(out, (struct hither_media_segment){.offset = moov_end, .len = size - moov_end});
	return 0;
}

static int faststart(struct media_parse *p, struct hither_media_layout *out)
{
	struct mp4_top top;
	struct box_bytes moov, b;
	HITHER_FREE uint8_t *owned = NULL;
	int r = mp4_walk(p, &top);
	if (r == -ENOTSUP || (!r && top.moov.offset < top.first_mdat))
		return 0;
	if (!r)
		r = mp4_load_moov(p, &top, &owned, &moov);
	if (r || box_find(moov, BOX('m', 'v', 'e', 'x'), &b))
		return r;
	struct rewrite w = {.moov_at = top.moov.offset, .moov_len = top.moov.len};
	/* Behind the file type, which players look at first; without one, at the very front. */
	uint64_t ftyp_end;
	if (!__builtin_add_overflow(top.ftyp.offset, top.ftyp.len, &ftyp_end) &&
	    ftyp_end <= top.moov.offset)
		w.insert_at = ftyp_end;
	return lay_out(p, moov, &w, out);
}

int hither_media_faststart(const struct hither_media_source *source,
                           struct hither_media_layout *out, struct hither_range *wanted,
                           struct hither_error *err)
{
	struct hither_media ignored = {.format = "mp4"};
	struct media_parse p = {.source = source, .out = &ignored, .err = err};
	uint8_t head[16];
	*out = (struct hither_media_layout){0};
	*wanted = (struct hither_range){0};
	if (source->size_bytes < sizeof head)
		return 0;
	int r = media_read(&p, head, sizeof head, 0);
	if (!r && media_mp4.recognise(head, sizeof head))
		r = faststart(&p, out);
	*wanted = p.wanted;
	return r;
}

void hither_media_layout_finish(struct hither_media_layout *l)
{
	free(l->index);
	*l = (struct hither_media_layout){0};
}
