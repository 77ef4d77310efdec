/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One track's sample table (ISO/IEC 14496-12, 8.6 and 8.7): stts has durations, stsz or stz2 sizes,
 * stsc samples a chunk, stco or co64 the chunks' offsets, stss which samples decoding can begin at.
 * All in runs, so that the work is bounded by the tables' bytes, whatever counts they claim.
 */
#include "media/box.h"

#include <errno.h>

#define MOST_STEPS (UINT64_C(8) << 20)

/* Entries of equal size behind a version, flags and a count. */
struct table {
	const uint8_t *data;
	uint64_t count;
	size_t entry_bytes;
};

struct track {
	uint64_t timescale;
	bool video;
	struct table stts, stsc, chunks, stss;
	const uint8_t *sizes; /* NULL: all are of size_each bytes */
	unsigned size_bits;   /* of an entry of sizes: 4, 8, 16, 32 */
	uint32_t size_each;
	uint64_t samples;
	/* where we are */
	uint64_t sample, tick;
	uint64_t stts_entry, stts_used;
	uint64_t stsc_entry, stss_entry;
	uint64_t steps;
};

static struct table table_of(struct box_bytes parent, uint32_t type, size_t header,
                             size_t entry_bytes)
{
	struct box_bytes b;
	struct table t = {.entry_bytes = entry_bytes};
	if (!box_find(parent, type, &b) || b.len < header)
		return t;
	uint64_t room = (b.len - header) / entry_bytes;
	t.data = b.data + header;
	t.count = media_be32(b.data + header - 4);
	if (t.count > room)
		t.count = room;
	return t;
}

static const uint8_t *entry(const struct table *t, uint64_t n)
{
	return t->data + n * t->entry_bytes;
}

static bool read_sizes(struct track *t, struct box_bytes stbl)
{
	struct box_bytes b;
	t->size_bits = 32;
	if (!box_find(stbl, BOX('s', 't', 's', 'z'), &b)) {
		if (!box_find(stbl, BOX('s', 't', 'z', '2'), &b) || b.len < 12)
			return false;
		t->size_bits = b.data[7];
		if (t->size_bits != 4 && t->size_bits != 8 && t->size_bits != 16)
			return false;
	} else if (b.len < 12) {
		return false;
	} else {
		t->size_each = media_be32(b.data + 4);
	}
	t->samples = media_be32(b.data + 8);
	if (t->size_each)
		return true;
	t->sizes = b.data + 12;
	uint64_t room = (b.len - 12) * UINT64_C(8) / t->size_bits;
	if (t->samples > room)
		t->samples = room;
	return true;
}

static uint32_t size_of(const struct track *t, uint64_t sample)
{
	switch (t->sizes ? t->size_bits : 0) {
	case 4:
		return sample % 2 ? t->sizes[sample / 2] & 15 : t->sizes[sample / 2] >> 4;
	case 8:
		return t->sizes[sample];
	case 16:
		return media_be16(t->sizes + sample * 2);
	case 32:
		return media_be32(t->sizes + sample * 4);
	default:
		return t->size_each;
	}
}

static bool read_header(struct track *t, struct box_bytes mdia)
{
	struct box_bytes b;
	if (!box_find(mdia, BOX('m', 'd', 'h', 'd'), &b) || b.len < 24)
		return false;
	t->timescale = media_be32(b.data + (b.data[0] == 1 ? 20 : 12));
	t->video = box_find(mdia, BOX('h', 'd', 'l', 'r'), &b) && b.len >= 12 &&
	           media_be32(b.data + 8) == BOX('v', 'i', 'd', 'e');
	return t->timescale > 0;
}

static bool read_track(struct track *t, struct box_bytes trak)
{
	struct box_bytes mdia, minf, stbl;
	if (!box_find(trak, BOX('m', 'd', 'i', 'a'), &mdia) || !read_header(t, mdia) ||
	    !box_find(mdia, BOX('m', 'i', 'n', 'f'), &minf) ||
	    !box_find(minf, BOX('s', 't', 'b', 'l'), &stbl) || !read_sizes(t, stbl))
		return false;
	t->stts = table_of(stbl, BOX('s', 't', 't', 's'), 8, 8);
	t->stsc = table_of(stbl, BOX('s', 't', 's', 'c'), 8, 12);
	t->stss = table_of(stbl, BOX('s', 't', 's', 's'), 8, 4);
	t->chunks = table_of(stbl, BOX('s', 't', 'c', 'o'), 8, 4);
	if (!t->chunks.count)
		t->chunks = table_of(stbl, BOX('c', 'o', '6', '4'), 8, 8);
	return t->stts.count && t->stsc.count && t->chunks.count;
}

/* How many samples chunk number n (from 0) has; calls go up. */
static uint64_t samples_of_chunk(struct track *t, uint64_t n)
{
	while (t->stsc_entry + 1 < t->stsc.count &&
	       media_be32(entry(&t->stsc, t->stsc_entry + 1)) <= n + 1)
		t->stsc_entry++;
	return media_be32(entry(&t->stsc, t->stsc_entry) + 4);
}

/* Does decoding begin at one of the next count samples? Without stss, at every one. */
static bool has_key(struct track *t, uint64_t count)
{
	if (!t->stss.data)
		return true;
	while (t->stss_entry < t->stss.count &&
	       media_be32(entry(&t->stss, t->stss_entry)) <= t->sample)
		t->stss_entry++; /* they count from 1 */
	return t->stss_entry < t->stss.count &&
	       media_be32(entry(&t->stss, t->stss_entry)) <= t->sample + count;
}

/* Time goes on by count samples, or fewer, which are the answer: up to a change of duration. */
static uint64_t pass(struct track *t, uint64_t count)
{
	const uint8_t *e = entry(&t->stts, t->stts_entry);
	uint64_t left = media_be32(e) - t->stts_used, each = media_be32(e + 4);
	bool last = t->stts_entry + 1 == t->stts.count;
	if (left < count && !last)
		count = left;
	if (each > t->timescale * 3600)
		each = 0; /* a negative difference, or nonsense */
	uint64_t most = each ? t->timescale * MEDIA_PIECE_US / 1000000 / each + 1 : count;
	if (most < count)
		count = most;
	t->tick += count * each;
	t->stts_used += count;
	if (!last && t->stts_used >= media_be32(e)) {
		t->stts_entry++;
		t->stts_used = 0;
	}
	return count;
}

/* The next samples of a chunk, as one piece; how many they were goes off *left. */
static int add_run(struct media_parse *p, struct track *t, uint64_t *offset, uint64_t *left)
{
	uint64_t begin = t->tick, len = 0, end = *offset;
	struct hither_media_piece piece = {.offset = *offset};
	uint64_t count = 0;
	while (count < *left &&
	       media_scale(t->tick - begin, 1000000, t->timescale) < MEDIA_PIECE_US) {
		uint64_t n = pass(t, *left - count);
		if (++t->steps > MOST_STEPS)
			return hither_fail(p->err, -E2BIG, "media: mp4: an endless sample table");
		count += n;
	}
	if (t->sizes)
		for (uint64_t i = 0; i < count; i++)
			len += size_of(t, t->sample + i);
	else
		len = count * t->size_each;
	if (__builtin_add_overflow(end, len, &end))
		return media_damaged(p, "a sample lies beyond any file");
	piece.len = len;
	piece.time_us = media_scale(begin, 1000000, t->timescale);
	piece.end_us = media_scale(t->tick, 1000000, t->timescale);
	piece.flags = t->video && has_key(t, count) ? HITHER_MEDIA_KEY : 0;
	t->sample += count;
	*left -= count;
	*offset = end;
	return media_add(p, piece);
}

int mp4_track(struct media_parse *p, struct box_bytes trak)
{
	struct track t = {0};
	if (!read_track(&t, trak))
		return 0; /* one track less to guess for */
	int r = 0;
	for (uint64_t n = 0; !r && n < t.chunks.count && t.sample < t.samples; n++) {
		const uint8_t *e = entry(&t.chunks, n);
		uint64_t offset = t.chunks.entry_bytes == 8 ? media_be64(e) : media_be32(e);
		uint64_t left = samples_of_chunk(&t, n);
		if (left > t.samples - t.sample)
			left = t.samples - t.sample;
		while (!r && left > 0)
			r = add_run(p, &t, &offset, &left);
	}
	return r;
}
