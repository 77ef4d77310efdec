/* SPDX-License-Identifier: Apache-2.0 */
/* A media file: what its index is said to be lies in the file, and a new layout has all its bytes.
 */
#include "check.h"
#include "fuzz.h"

#include <errno.h>
#include <hither/media.h>
#include <string.h>

struct bytes {
	struct hither_media_source base;
	const uint8_t *data;
	uint64_t here; /* so many bytes from the front are local */
};

static int read_bytes(const struct hither_media_source *s, void *buf, size_t len, uint64_t offset)
{
	const struct bytes *b = (const struct bytes *)s;
	CHECK(offset <= s->size_bytes && len <= s->size_bytes - offset);
	if (offset + len > b->here)
		return -EAGAIN;
	memcpy(buf, b->data + offset, len);
	return 0;
}

static bool is_refusal(int r)
{
	return r == -ENOTSUP || r == -EINVAL || r == -E2BIG || r == -ENOMEM;
}

static void check_wanted(const struct bytes *b, const struct hither_range *wanted)
{
	CHECK(wanted->len > 0 && wanted->offset <= b->base.size_bytes);
	CHECK(wanted->len <= b->base.size_bytes - wanted->offset);
}

static void check_pieces(const struct hither_media *m, uint64_t size)
{
	CHECK(m->piece_count > 0 && m->format);
	for (size_t i = 0; i < m->piece_count; i++) {
		const struct hither_media_piece *p = &m->pieces[i];
		CHECK(p->len > 0 && p->offset <= size && p->len <= size - p->offset);
		CHECK(p->time_us <= p->end_us && p->end_us <= m->duration_us);
		CHECK(i == 0 || p[-1].time_us <= p->time_us);
		CHECK(m->by_offset[i] < m->piece_count);
		CHECK(i == 0 ||
		      m->pieces[m->by_offset[i - 1]].offset <= m->pieces[m->by_offset[i]].offset);
		uint64_t time_us;
		if (hither_media_time_of(m, p->offset, &time_us))
			CHECK(hither_media_at_time(m, time_us) <= m->piece_count);
	}
	for (size_t i = 0; i < m->index_count; i++)
		CHECK(m->index[i].offset <= size && m->index[i].len <= size - m->index[i].offset);
}

static void check_layout(const struct hither_media_layout *l, uint64_t size)
{
	uint64_t sum = 0;
	CHECK(l->count <= HITHER_MEDIA_SEGMENTS);
	for (size_t i = 0; i < l->count; i++) {
		const struct hither_media_segment *s = &l->segments[i];
		CHECK(s->data || (s->offset <= size && s->len <= size - s->offset));
		sum += s->len;
	}
	CHECK(l->count == 0 || sum == l->size_bytes);
}

static void look_at(const struct bytes *b)
{
	struct hither_media m = {0};
	struct hither_media_layout l = {0};
	struct hither_range wanted;
	struct hither_error err = {0};
	int r = hither_media_parse(&b->base, &m, &wanted, &err);
	if (r == -EAGAIN)
		check_wanted(b, &wanted);
	else if (r)
		CHECK(is_refusal(r));
	else
		check_pieces(&m, b->base.size_bytes);
	hither_media_finish(&m);
	r = hither_media_faststart(&b->base, &l, &wanted, &err);
	if (r == -EAGAIN)
		check_wanted(b, &wanted);
	else if (r)
		CHECK(is_refusal(r));
	else
		check_layout(&l, b->base.size_bytes);
	hither_media_layout_finish(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {{.size_bytes = size, .read = read_bytes}, data, size};
	look_at(&b);
	b.here = size / 2;
	look_at(&b);
	return 0;
}
