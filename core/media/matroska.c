/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matroska and WebM (RFC 9559, over EBML, RFC 8794): the seek head in front says where the cues
 * are, the cues say at which time which cluster begins. A cluster has all tracks of its time.
 */
#include "base/cleanup.h"
#include "media/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	ID_EBML = 0x1a45dfa3,
	ID_SEGMENT = 0x18538067,
	ID_SEEK_HEAD = 0x114d9b74,
	ID_SEEK = 0x4dbb,
	ID_SEEK_ID = 0x53ab,
	ID_SEEK_POSITION = 0x53ac,
	ID_INFO = 0x1549a966,
	ID_TIMESTAMP_SCALE = 0x2ad7b1,
	ID_DURATION = 0x4489,
	ID_CLUSTER = 0x1f43b675,
	ID_CUES = 0x1c53bb6b,
	ID_CUE_POINT = 0xbb,
	ID_CUE_TIME = 0xb3,
	ID_CUE_TRACK_POSITIONS = 0xb7,
	ID_CUE_CLUSTER_POSITION = 0xf1,
	MOST_ELEMENTS = 1024, /* before the first cluster */
	HEADER_BYTES = 12,
};

#define UNKNOWN UINT64_MAX
#define SMALL_BYTES (UINT64_C(1) << 20)

struct element {
	uint32_t id;
	uint64_t data; /* offset of its contents */
	uint64_t len;  /* of its contents; UNKNOWN */
};

struct bytes {
	const uint8_t *data;
	size_t len;
};

struct mkv {
	uint64_t segment; /* where positions count from */
	uint64_t cues_at; /* offset in the file; 0: not told */
	uint64_t scale_ns, duration_us;
	struct element cues; /* len 0: not found yet */
	uint64_t first_cluster;
};

/* A number of 1 to 8 bytes, whose leading zeros tell how many. 0: damaged. */
static unsigned vint(const uint8_t *b, size_t room, bool keep_mark, uint64_t *out)
{
	unsigned len = 1;
	if (room == 0 || b[0] == 0)
		return 0;
	while (!(b[0] & (0x80 >> (len - 1))))
		len++;
	if (len > room)
		return 0;
	uint64_t v = keep_mark ? b[0] : b[0] & ((0x80 >> (len - 1)) - 1);
	bool ones = v == (uint64_t)((0x80 >> (len - 1)) - 1);
	for (unsigned i = 1; i < len; i++) {
		v = v << 8 | b[i];
		ones = ones && b[i] == 0xff;
	}
	*out = ones && !keep_mark ? UNKNOWN : v;
	return len;
}

static unsigned header(const uint8_t *b, size_t room, uint32_t *id, uint64_t *len)
{
	uint64_t v;
	unsigned n = vint(b, room, true, &v);
	if (!n || n > 4)
		return 0;
	*id = (uint32_t)v;
	unsigned m = vint(b + n, room - n, false, len);
	return m ? n + m : 0;
}

static int read_element(struct media_parse *p, uint64_t offset, struct element *out)
{
	uint8_t h[HEADER_BYTES];
	uint64_t left = offset < p->source->size_bytes ? p->source->size_bytes - offset : 0;
	size_t room = left < sizeof h ? (size_t)left : sizeof h;
	int r = media_read(p, h, room, offset);
	if (r)
		return r;
	unsigned n = header(h, room, &out->id, &out->len);
	out->data = offset + n;
	return n ? 0 : media_damaged(p, "an element is damaged");
}

static bool next(struct bytes *rest, uint32_t *id, struct bytes *out)
{
	uint64_t len;
	unsigned n = header(rest->data, rest->len, id, &len);
	if (!n || len > rest->len - n)
		return false;
	*out = (struct bytes){rest->data + n, (size_t)len};
	rest->data += n + len;
	rest->len -= n + len;
	return true;
}

static uint64_t number(struct bytes b)
{
	uint64_t v = 0;
	for (size_t i = 0; i < b.len && i < 8; i++)
		v = v << 8 | b.data[i];
	return v;
}

static double real(struct bytes b)
{
	uint64_t bits = number(b);
	uint32_t small = (uint32_t)bits;
	double d = 0;
	float f;
	if (b.len == 8)
		memcpy(&d, &bits, sizeof d);
	else if (b.len == 4)
		memcpy(&f, &small, sizeof f), d = f;
	return d > 0 && d < 1e15 ? d : 0; /* not NaN either */
}

/* --- before the first cluster --- */

static void take_seek_head(struct mkv *m, struct bytes b)
{
	struct bytes seek, field;
	uint32_t id;
	while (next(&b, &id, &seek)) {
		uint64_t of = 0, at = UNKNOWN;
		while (id == ID_SEEK && next(&seek, &id, &field)) {
			if (id == ID_SEEK_ID)
				of = number(field);
			if (id == ID_SEEK_POSITION)
				at = number(field);
			id = ID_SEEK;
		}
		if (of == ID_CUES && __builtin_add_overflow(m->segment, at, &m->cues_at))
			m->cues_at = 0;
	}
}

static void take_info(struct mkv *m, struct bytes b)
{
	struct bytes field;
	uint32_t id;
	double duration = 0;
	while (next(&b, &id, &field)) {
		if (id == ID_TIMESTAMP_SCALE)
			m->scale_ns = number(field);
		if (id == ID_DURATION)
			duration = real(field);
	}
	duration = duration * (double)m->scale_ns / 1000;
	m->duration_us = duration < 1e18 ? (uint64_t)duration : 0;
}

static int take_small(struct media_parse *p, struct mkv *m, const struct element *e)
{
	HITHER_FREE uint8_t *owned = NULL;
	int r = e->len > SMALL_BYTES ? 0 : media_load(p, e->data, e->len, &owned);
	if (r || !owned)
		return r;
	struct bytes b = {owned, (size_t)e->len};
	if (e->id == ID_SEEK_HEAD)
		take_seek_head(m, b);
	else
		take_info(m, b);
	return 0;
}

static int read_front(struct media_parse *p, struct mkv *m)
{
	struct element e;
	int r = read_element(p, 0, &e);
	if (!r && e.len == UNKNOWN)
		r = media_damaged(p, "a header of unknown length");
	uint64_t at = r ? 0 : e.data + e.len;
	if (!r)
		r = read_element(p, at, &e);
	if (!r && e.id != ID_SEGMENT)
		r = media_damaged(p, "there is no segment");
	if (r)
		return r;
	at = m->segment = e.data;
	for (int i = 0; i < MOST_ELEMENTS && at < p->source->size_bytes; i++) {
		r = read_element(p, at, &e);
		if (!r && (e.id == ID_SEEK_HEAD || e.id == ID_INFO))
			r = take_small(p, m, &e);
		if (r)
			return r;
		if (e.id == ID_CUES)
			m->cues = e;
		if (e.id == ID_CLUSTER) {
			m->first_cluster = at;
			return 0;
		}
		if (e.len == UNKNOWN || __builtin_add_overflow(e.data, e.len, &at))
			return media_damaged(p, "an element has an impossible size");
	}
	return 0;
}

/* --- cues --- */

struct cue {
	uint64_t time_us, offset;
};

static int by_cluster(const void *a, const void *b)
{
	const struct cue *x = a, *y = b;
	return x->offset != y->offset ? (x->offset < y->offset ? -1 : 1)
	                              : (x->time_us > y->time_us) - (x->time_us < y->time_us);
}

static struct cue read_cue(const struct mkv *m, struct bytes point)
{
	struct cue cue = {.offset = UNKNOWN};
	struct bytes field, inner;
	uint32_t id;
	while (next(&point, &id, &field)) {
		if (id == ID_CUE_TIME)
			cue.time_us = media_scale(number(field), m->scale_ns, 1000);
		while (id == ID_CUE_TRACK_POSITIONS && next(&field, &id, &inner)) {
			if (id == ID_CUE_CLUSTER_POSITION &&
			    __builtin_add_overflow(m->segment, number(inner), &cue.offset))
				cue.offset = UNKNOWN;
			id = ID_CUE_TRACK_POSITIONS;
		}
	}
	return cue;
}

static int add_cues(struct media_parse *p, const struct mkv *m, const struct cue *cues,
                    size_t count)
{
	uint64_t size = p->source->size_bytes,
	         end = m->cues.data > m->first_cluster ? m->cues.data : size;
	int r = 0;
	for (size_t i = 0; !r && i < count; i++) {
		if (i > 0 && cues[i].offset == cues[i - 1].offset)
			continue;
		size_t n = i + 1;
		while (n < count && cues[n].offset == cues[i].offset)
			n++;
		uint64_t stop = n < count ? cues[n].offset : end;
		uint64_t time = n < count ? cues[n].time_us : m->duration_us;
		if (stop > cues[i].offset)
			r = media_add_even(p,
			                   (struct hither_media_piece){.time_us = cues[i].time_us,
			                                               .end_us = time,
			                                               .offset = cues[i].offset,
			                                               .len = stop - cues[i].offset,
			                                               .flags = HITHER_MEDIA_KEY});
	}
	return r;
}

static int read_cues(struct media_parse *p, const struct mkv *m)
{
	HITHER_FREE uint8_t *owned = NULL;
	HITHER_FREE struct cue *cues = NULL;
	size_t count = 0, most = (size_t)(m->cues.len / 4) + 1; /* none is smaller */
	int r = media_load(p, m->cues.data, m->cues.len, &owned);
	if (r)
		return r;
	if (most > MEDIA_MOST_PIECES)
		most = MEDIA_MOST_PIECES;
	cues = calloc(most, sizeof *cues);
	if (!cues)
		return hither_fail(p->err, -ENOMEM, "media: no memory");
	struct bytes rest = {owned, (size_t)m->cues.len}, point;
	uint32_t id;
	while (count < most && next(&rest, &id, &point))
		if (id == ID_CUE_POINT) {
			cues[count] = read_cue(m, point);
			count += cues[count].offset < p->source->size_bytes;
		}
	qsort(cues, count, sizeof *cues, by_cluster);
	return add_cues(p, m, cues, count);
}

static int parse(struct media_parse *p)
{
	struct mkv m = {.scale_ns = 1000000};
	int r = read_front(p, &m);
	if (!r && !m.cues.len && m.cues_at) {
		r = read_element(p, m.cues_at, &m.cues);
		if (r == -EAGAIN) { /* what is behind the cues is little: all in one go */
			uint64_t left = p->source->size_bytes - m.cues_at;
			if (left <= SMALL_BYTES * 4)
				p->wanted.len = left;
		}
		if (!r && m.cues.id != ID_CUES)
			m.cues.len = 0;
	}
	if (r)
		return r;
	if (!m.cues.len || m.cues.len == UNKNOWN)
		return hither_fail(p->err, -ENOTSUP, "media: matroska without an index (cues)");
	p->out->duration_us = m.duration_us;
	media_note_index(p, m.cues.data, m.cues.len);
	return read_cues(p, &m);
}

static bool recognise(const uint8_t *head, size_t len)
{
	return len >= 4 && media_be32(head) == ID_EBML;
}

const struct media_format media_matroska = {"matroska", recognise, parse};
