/* SPDX-License-Identifier: Apache-2.0 */
#include "body.h"

#include "util.h"

#include <errno.h>
#include <string.h>

#define STEP_BYTES (UINT64_C(64) << 10) /* what is waited for at a time: a chunk */

struct waiting_source {
	struct hither_media_source base;
	struct hither_mount *mount;
	struct hither_error *err;
};

static int read_waiting(const struct hither_media_source *s, void *buf, size_t len, uint64_t offset)
{
	const struct waiting_source *w = (const struct waiting_source *)s;
	return hither_mount_read_at(w->mount, buf, len, offset, w->err);
}

int body_open(struct body *b, struct hither_mount *mount, struct hither_error *err)
{
	struct hither_error failed = {0};
	struct hither_range wanted;
	*b = (struct body){.mount = mount, .size_bytes = hither_mount_size(mount)};
	struct waiting_source source = {.base = {b->size_bytes, read_waiting}, mount, &failed};
	int r = hither_media_faststart(&source.base, &b->layout, &wanted, &b->damage);
	if (r && failed.code) {
		*err = failed;
		return r;
	}
	if (r)
		b->layout = (struct hither_media_layout){0};
	if (!r || r == -ENOTSUP)
		b->damage = (struct hither_error){0};
	if (b->layout.count)
		b->size_bytes = b->layout.size_bytes;
	return 0;
}

void body_close(struct body *b)
{
	hither_media_layout_finish(&b->layout);
}

/* The segment that has the byte at offset, and where in it; offset < size_bytes. */
static struct hither_media_segment segment_at(const struct body *b, uint64_t offset, uint64_t *in)
{
	for (size_t i = 0; i < b->layout.count; i++) {
		const struct hither_media_segment *s = &b->layout.segments[i];
		*in = offset;
		if (offset < s->len)
			return *s;
		offset -= s->len;
	}
	*in = offset;
	return (struct hither_media_segment){.len = b->size_bytes};
}

static ssize_t read_file(const struct body *b, void *buf, uint64_t max, uint64_t offset,
                         struct hither_error *err)
{
	uint32_t kind;
	uint64_t here = hither_mount_extent(b->mount, offset, max, &kind);
	if (!(kind & HITHER_EXTENT_LOCAL)) {
		uint64_t step = STEP_BYTES - offset % STEP_BYTES;
		here = max < step ? max : step;
	}
	int r = hither_mount_read_at(b->mount, buf, here, offset, err);
	return r ? r : (ssize_t)here;
}

ssize_t body_read(const struct body *b, void *buf, size_t max, uint64_t offset,
                  struct hither_error *err)
{
	uint64_t in;
	struct hither_media_segment s = segment_at(b, offset, &in);
	uint64_t len = max < s.len - in ? max : s.len - in;
	if (!s.data)
		return read_file(b, buf, len, s.offset + in, err);
	memcpy(buf, s.data + in, len);
	return (ssize_t)len;
}

bool body_place(const struct body *b, uint64_t offset, uint64_t *out)
{
	uint64_t in;
	if (offset >= b->size_bytes)
		return false;
	struct hither_media_segment s = segment_at(b, offset, &in);
	*out = s.offset + in;
	return !s.data;
}
