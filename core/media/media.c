/* SPDX-License-Identifier: Apache-2.0 */
/* Which container is it, and finding pieces by time and by offset. */
#include "base/cleanup.h"
#include "media/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEAD_BYTES = 64,
	MOST_BACK = 64, /* pieces between two key frames, half a minute */
};

static const struct media_format *const formats[] = {
        &media_mp4, &media_matroska, &media_avi, &media_wav, &media_flac, &media_ogg,
};
#define FORMATS (sizeof formats / sizeof *formats)

static const struct media_format *format_of(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < FORMATS; i++)
		if (formats[i]->recognise(head, len))
			return formats[i];
	return NULL;
}

bool hither_media_recognise(const uint8_t *head, size_t len)
{
	return format_of(head, len) != NULL;
}

const char *hither_media_recognise_format(const uint8_t *head, size_t len)
{
	const struct media_format *format = format_of(head, len);
	return format ? format->name : NULL;
}

/* --- pieces --- */

static int by_offset(const void *a, const void *b)
{
	const struct hither_media_piece *x = a, *y = b;
	return x->offset != y->offset ? (x->offset < y->offset ? -1 : 1)
	                              : (x->len > y->len) - (x->len < y->len);
}

static int by_time(const void *a, const void *b)
{
	const struct hither_media_piece *x = a, *y = b;
	return x->time_us != y->time_us ? (x->time_us < y->time_us ? -1 : 1) : by_offset(a, b);
}

/* Do two neighbours in the file belong together in time as well? */
static bool joins(const struct hither_media_piece *a, const struct hither_media_piece *b)
{
	uint64_t begin = a->time_us < b->time_us ? a->time_us : b->time_us;
	uint64_t end = a->end_us > b->end_us ? a->end_us : b->end_us;
	return a->offset + a->len >= b->offset && end - begin <= MEDIA_PIECE_US &&
	       (!(b->flags & HITHER_MEDIA_KEY) || a->flags & HITHER_MEDIA_KEY);
}

/* Runs of tracks that take turns become one. */
static size_t join_neighbours(struct hither_media_piece *raw, size_t count)
{
	size_t kept = 0;
	for (size_t i = 1; i < count; i++) {
		struct hither_media_piece *a = &raw[kept], *b = &raw[i];
		if (!joins(a, b)) {
			raw[++kept] = *b;
			continue;
		}
		uint64_t end = a->offset + a->len > b->offset + b->len ? a->offset + a->len
		                                                       : b->offset + b->len;
		a->len = end - a->offset;
		a->time_us = a->time_us < b->time_us ? a->time_us : b->time_us;
		a->end_us = a->end_us > b->end_us ? a->end_us : b->end_us;
		a->flags |= b->flags;
	}
	return count ? kept + 1 : 0;
}

static int number_by_offset(const void *a, const void *b, void *user)
{
	const struct hither_media_piece *pieces = user;
	return by_offset(&pieces[*(const uint32_t *)a], &pieces[*(const uint32_t *)b]);
}

static int settle_pieces(struct media_parse *p)
{
	struct hither_media *m = p->out;
	if (p->raw_count > 0)
		qsort(p->raw, p->raw_count, sizeof *p->raw, by_offset);
	m->piece_count = join_neighbours(p->raw, p->raw_count);
	if (m->piece_count > MEDIA_MOST_PIECES)
		return hither_fail(p->err, -E2BIG, "media: more than %u pieces", MEDIA_MOST_PIECES);
	if (m->piece_count == 0)
		return hither_fail(p->err, -ENOTSUP, "media: %s without an index of its samples",
		                   m->format);
	m->by_offset = calloc(m->piece_count, sizeof *m->by_offset);
	if (!m->by_offset)
		return hither_fail(p->err, -ENOMEM, "media: no memory");
	m->pieces = HITHER_TAKE(p->raw, NULL);
	qsort(m->pieces, m->piece_count, sizeof *m->pieces, by_time);
	for (size_t i = 0; i < m->piece_count; i++) {
		m->by_offset[i] = (uint32_t)i;
		if (m->pieces[i].end_us > m->duration_us)
			m->duration_us = m->pieces[i].end_us;
	}
	qsort_r(m->by_offset, m->piece_count, sizeof *m->by_offset, number_by_offset, m->pieces);
	return 0;
}

/* --- public --- */

int hither_media_parse(const struct hither_media_source *source, struct hither_media *out,
                       struct hither_range *wanted, struct hither_error *err)
{
	struct hither_media m = {0};
	struct media_parse p = {.source = source, .out = &m, .err = err};
	uint8_t head[HEAD_BYTES];
	size_t len = source->size_bytes < HEAD_BYTES ? (size_t)source->size_bytes : HEAD_BYTES;
	int r = media_read(&p, head, len, 0);
	const struct media_format *format = r ? NULL : format_of(head, len);
	if (!r && !format)
		r = hither_fail(err, -ENOTSUP, "media: none of MP4, Matroska, AVI, WAV, FLAC, Ogg");
	if (format) {
		m.format = format->name;
		r = format->parse(&p);
	}
	if (!r)
		r = settle_pieces(&p);
	free(p.raw);
	*wanted = p.wanted;
	if (r)
		hither_media_finish(&m);
	else
		*out = m;
	return r;
}

void hither_media_finish(struct hither_media *m)
{
	if (!m)
		return;
	free(m->pieces);
	free(m->by_offset);
	*m = (struct hither_media){0};
}

/* The first piece that begins after time_us. */
static size_t after(const struct hither_media *m, uint64_t time_us)
{
	size_t low = 0, high = m->piece_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (m->pieces[middle].time_us <= time_us)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Pieces that overlap in time are about as long as each other, so that the first that begins after
 * time_us, less the overlap, is found by looking back a little. */
size_t hither_media_at_time(const struct hither_media *m, uint64_t time_us)
{
	size_t low = after(m, time_us), first = low;
	for (size_t back = 0; back < 64 && back < low; back++)
		if (m->pieces[low - 1 - back].end_us > time_us)
			first = low - 1 - back;
	return first;
}

size_t hither_media_key_at(const struct hither_media *m, uint64_t time_us)
{
	size_t low = after(m, time_us);
	for (size_t back = 0; back < MOST_BACK && back < low; back++)
		if (m->pieces[low - 1 - back].flags & HITHER_MEDIA_KEY)
			return low - 1 - back;
	return hither_media_at_time(m, time_us);
}

bool hither_media_time_of(const struct hither_media *m, uint64_t offset, uint64_t *time_us)
{
	size_t low = 0, high = m->piece_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (m->pieces[m->by_offset[middle]].offset <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return false;
	const struct hither_media_piece *p = &m->pieces[m->by_offset[low - 1]];
	if (offset - p->offset >= p->len)
		return false;
	*time_us = p->time_us + media_scale(p->end_us - p->time_us, offset - p->offset, p->len);
	return true;
}
