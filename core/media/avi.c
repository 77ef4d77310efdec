/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AVI (Microsoft, AVI RIFF File Reference): RIFF chunks of four letters and a 32-bit size, padded
 * to even; the index idx1 lies behind the media (movi) and has 16 bytes for each of its chunks.
 * What OpenDML adds beyond the first gigabyte is left to readahead.
 */
#include "base/cleanup.h"
#include "media/parse.h"

#include <errno.h>
#include <string.h>

enum { MOST_CHUNKS = 4096, MOST_STREAMS = 100, HEADER_BYTES = 12 };
#define HEADERS_MOST_BYTES (UINT64_C(4) << 20)

struct stream {
	uint32_t scale, rate, sample_bytes;
	bool video;
	uint64_t samples;
	uint64_t run_us; /* end of what was passed */
};

struct avi {
	uint64_t movi; /* offset of the four letters behind the LIST header */
	uint64_t idx1, idx1_len;
	size_t stream_count;
	struct stream streams[MOST_STREAMS];
};

static uint64_t padded(uint32_t len)
{
	return (uint64_t)len + (len & 1);
}

static void take_stream(struct avi *a, const uint8_t *strh, size_t len)
{
	if (len < 48 || a->stream_count == MOST_STREAMS)
		return;
	a->streams[a->stream_count++] = (struct stream){.video = !memcmp(strh, "vids", 4),
	                                                .scale = media_le32(strh + 20),
	                                                .rate = media_le32(strh + 24),
	                                                .sample_bytes = media_le32(strh + 44)};
}

/* hdrl: strl lists, each with a strh. */
static void take_headers(struct avi *a, const uint8_t *b, size_t len)
{
	for (size_t at = 0; at + 8 <= len;) {
		uint64_t size = media_le32(b + at + 4), next = at + 8 + padded((uint32_t)size);
		if (!memcmp(b + at, "strh", 4) && size <= len - at - 8)
			take_stream(a, b + at + 8, (size_t)size);
		/* Into a list; past anything else. */
		if (!memcmp(b + at, "LIST", 4))
			next = at + 12;
		if (next > len)
			return;
		at = (size_t)next;
	}
}

static int read_top(struct media_parse *p, struct avi *a)
{
	uint64_t size = p->source->size_bytes, at = 12;
	for (int i = 0; i < MOST_CHUNKS && at + HEADER_BYTES <= size; i++) {
		uint8_t h[HEADER_BYTES];
		HITHER_FREE uint8_t *owned = NULL;
		int r = media_read(p, h, sizeof h, at);
		if (r == -EAGAIN && a->movi && size - at <= HEADERS_MOST_BYTES)
			p->wanted.len = size - at;
		if (r)
			return r;
		uint32_t len = media_le32(h + 4);
		bool list = !memcmp(h, "LIST", 4);
		if (list && !memcmp(h + 8, "hdrl", 4) && len <= HEADERS_MOST_BYTES && len >= 4) {
			r = media_load(p, at + 12, len - 4, &owned);
			if (r)
				return r;
			take_headers(a, owned, len - 4);
		} else if (list && !memcmp(h + 8, "movi", 4)) {
			a->movi = at + 8;
		} else if (!memcmp(h, "idx1", 4)) {
			a->idx1 = at + 8;
			a->idx1_len = len;
			return 0;
		}
		at += 8 + padded(len);
	}
	return 0;
}

/* Pass n samples of a stream: the time of the first and of what comes after. */
static void pass(struct stream *s, uint32_t chunk_bytes, struct hither_media_piece *piece)
{
	uint64_t n = s->sample_bytes ? chunk_bytes / s->sample_bytes : 1;
	uint64_t each = s->rate ? media_scale(s->scale, 1000000, s->rate) : 0;
	piece->time_us = s->run_us;
	s->samples += n;
	if (each <= UINT64_C(3600000000) && s->rate)
		s->run_us = media_scale(s->samples, (uint64_t)s->scale * 1000000, s->rate);
	if (s->run_us < piece->time_us)
		s->run_us = piece->time_us;
	piece->end_us = s->run_us;
}

static int add_entries(struct media_parse *p, struct avi *a, const uint8_t *b, size_t count)
{
	/* Offsets count from the list's letters, or from the file's start in some writers' files.
	 */
	uint64_t base = count && media_le32(b + 8) >= a->movi ? 0 : a->movi;
	int r = 0;
	for (size_t i = 0; !r && i < count; i++) {
		const uint8_t *e = b + i * 16;
		unsigned number = (unsigned)(e[0] - '0') * 10 + (unsigned)(e[1] - '0');
		if (e[0] < '0' || e[0] > '9' || e[1] < '0' || e[1] > '9' ||
		    number >= a->stream_count)
			continue;
		struct stream *s = &a->streams[number];
		uint32_t len = media_le32(e + 12);
		struct hither_media_piece piece = {
		        .offset = base + media_le32(e + 8),
		        .len = 8 + padded(len),
		        .flags = s->video && media_le32(e + 4) & 0x10 ? HITHER_MEDIA_KEY : 0};
		pass(s, len, &piece);
		r = media_add(p, piece);
	}
	return r;
}

static int parse(struct media_parse *p)
{
	struct avi a = {0};
	HITHER_FREE uint8_t *owned = NULL;
	int r = read_top(p, &a);
	if (!r && (!a.idx1 || !a.movi))
		r = hither_fail(p->err, -ENOTSUP, "media: avi without an index (idx1)");
	if (!r)
		r = media_load(p, a.idx1, a.idx1_len, &owned);
	if (r)
		return r;
	media_note_index(p, a.idx1, a.idx1_len);
	return add_entries(p, &a, owned, (size_t)(a.idx1_len / 16));
}

static bool recognise(const uint8_t *head, size_t len)
{
	return len >= 12 && !memcmp(head, "RIFF", 4) && !memcmp(head + 8, "AVI ", 4);
}

const struct media_format media_avi = {"avi", recognise, parse};
