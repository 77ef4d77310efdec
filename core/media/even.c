/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Audio whose time goes evenly through the file, or nearly so: WAV (RIFF, RF64), FLAC (RFC 9639,
 * with its seek table where there is one), Ogg (RFC 3533; the last page tells the duration).
 */
#include "base/cleanup.h"
#include "media/parse.h"

#include <errno.h>
#include <string.h>

enum { MOST_BLOCKS = 256, TAIL_BYTES = 65536 };

static int add_whole(struct media_parse *p, uint64_t from, uint64_t len, uint64_t duration_us)
{
	uint64_t size = p->source->size_bytes;
	if (from >= size)
		return media_damaged(p, "its data begin beyond the file");
	if (len > size - from)
		len = size - from;
	p->out->duration_us = duration_us;
	return media_add_even(p, (struct hither_media_piece){.end_us = duration_us,
	                                                     .offset = from,
	                                                     .len = len,
	                                                     .flags = HITHER_MEDIA_KEY});
}

/* --- WAV --- */

static bool is_wav(const uint8_t *head, size_t len)
{
	return len >= 12 && (!memcmp(head, "RIFF", 4) || !memcmp(head, "RF64", 4)) &&
	       !memcmp(head + 8, "WAVE", 4);
}

static int parse_wav(struct media_parse *p)
{
	uint64_t size = p->source->size_bytes, at = 12, rate = 0;
	for (int i = 0; i < MOST_BLOCKS && at + 8 <= size; i++) {
		uint8_t h[20] = {0};
		int r = media_read(p, h, size - at < sizeof h ? 8 : sizeof h, at);
		if (r)
			return r;
		uint64_t len = media_le32(h + 4);
		if (!memcmp(h, "fmt ", 4))
			rate = media_le32(h + 16); /* bytes per second */
		if (!memcmp(h, "data", 4)) {
			if (len == 0 || len == UINT32_MAX || len > size - at - 8)
				len = size - at - 8;
			if (!rate || !len)
				return media_damaged(p, "no format, or no data");
			return add_whole(p, at + 8, len, media_scale(len, 1000000, rate));
		}
		at += 8 + len + (len & 1);
	}
	return hither_fail(p->err, -ENOTSUP, "media: wav without data");
}

const struct media_format media_wav = {"wav", is_wav, parse_wav};

/* --- FLAC --- */

static bool is_flac(const uint8_t *head, size_t len)
{
	return len >= 4 && !memcmp(head, "fLaC", 4);
}

/* Seek points: first sample, offset from the first frame, samples. */
static int add_seek_table(struct media_parse *p, const uint8_t *b, size_t count, uint64_t first,
                          uint32_t rate)
{
	struct hither_media_piece piece = {.flags = HITHER_MEDIA_KEY, .offset = first};
	int r = 0;
	for (size_t i = 0; !r && i <= count; i++) {
		uint64_t next = p->source->size_bytes, end = p->out->duration_us;
		if (i < count) {
			end = media_scale(media_be64(b + i * 18), 1000000, rate);
			if (media_be64(b + i * 18) == UINT64_MAX ||
			    __builtin_add_overflow(first, media_be64(b + i * 18 + 8), &next))
				continue; /* a seek point that FLAC leaves empty */
		}
		if (next <= piece.offset || end < piece.time_us)
			continue;
		piece.len = next - piece.offset;
		piece.end_us = end;
		r = media_add_even(p, piece);
		piece.offset = next;
		piece.time_us = end;
	}
	return r;
}

static int parse_flac(struct media_parse *p)
{
	uint64_t at = 4, samples = 0;
	uint32_t rate = 0;
	HITHER_FREE uint8_t *table = NULL;
	size_t points = 0;
	for (int i = 0; i < MOST_BLOCKS; i++) {
		uint8_t h[22] = {0};
		uint64_t left = at < p->source->size_bytes ? p->source->size_bytes - at : 0;
		int r = media_read(p, h, left < sizeof h ? 4 : sizeof h, at);
		uint32_t len = media_be32(h) & 0xffffff;
		if (!r && (h[0] & 0x7f) == 0) {
			rate = media_be32(h + 14) >> 12;
			samples = (uint64_t)(h[17] & 15) << 32 | media_be32(h + 18);
		}
		if (!r && (h[0] & 0x7f) == 3 && !table) {
			media_note_index(p, at + 4, len);
			r = media_load(p, at + 4, len, &table);
			points = len / 18;
		}
		if (r)
			return r;
		at += 4 + (uint64_t)len;
		if (h[0] & 0x80)
			break;
	}
	if (!rate || !samples || at >= p->source->size_bytes)
		return hither_fail(p->err, -ENOTSUP, "media: flac of unknown length");
	p->out->duration_us = media_scale(samples, 1000000, rate);
	return points ? add_seek_table(p, table, points, at, rate)
	              : add_whole(p, at, UINT64_MAX, p->out->duration_us);
}

const struct media_format media_flac = {"flac", is_flac, parse_flac};

/* --- Ogg --- */

static bool is_ogg(const uint8_t *head, size_t len)
{
	return len >= 27 && !memcmp(head, "OggS", 4) && head[4] == 0;
}

/* Granules a second of the codec that the first page begins; 0: not known. */
static uint32_t ogg_rate(const uint8_t *b, size_t len)
{
	if (len >= 16 && !memcmp(b, "\x01vorbis", 7))
		return media_le32(b + 12);
	if (len >= 8 && !memcmp(b, "OpusHead", 8))
		return 48000;
	if (len >= 31 && !memcmp(b,
	                         "\x7f"
	                         "FLAC",
	                         5))
		return media_be32(b + 27) >> 12;
	return 0;
}

static int parse_ogg(struct media_parse *p)
{
	uint8_t head[128] = {0};
	uint64_t size = p->source->size_bytes, granule = 0;
	size_t len = size < sizeof head ? (size_t)size : sizeof head;
	int r = media_read(p, head, len, 0);
	size_t packet = 27 + (size_t)head[26]; /* behind the segment table */
	uint32_t rate = !r && packet < len ? ogg_rate(head + packet, len - packet) : 0;
	if (!r && !rate)
		r = hither_fail(p->err, -ENOTSUP, "media: ogg of a codec that is not known here");
	HITHER_FREE uint8_t *tail = NULL;
	size_t tail_len = size < TAIL_BYTES ? (size_t)size : TAIL_BYTES;
	if (!r)
		r = media_load(p, size - tail_len, tail_len, &tail);
	if (r)
		return r;
	for (size_t at = tail_len; at-- > 0 && !granule;)
		if (tail_len - at >= 27 && !memcmp(tail + at, "OggS", 4) &&
		    media_le64(tail + at + 6) != UINT64_MAX)
			granule = media_le64(tail + at + 6);
	if (!granule || granule > UINT64_C(1) << 48)
		return hither_fail(p->err, -ENOTSUP, "media: ogg of unknown length");
	return add_whole(p, 0, size, media_scale(granule, 1000000, rate));
}

const struct media_format media_ogg = {"ogg", is_ogg, parse_ogg};
