/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structure record of an FTS5 index, row 10 of _data: which segments there are, and which of
 * their blocks are left. Merging goes in steps: what of a segment has gone into the merged one is
 * deleted at once, and whoever looks for a term there is sent to the first block that is left.
 */
#include "order/sqlite_fts.h"

#include <stdlib.h>
#include <string.h>

enum { ROW_STRUCTURE = 10, COOKIE_BYTES = 4, V2_VARINTS = 5 };

static const uint8_t v2_mark[4] = {0xff, 0, 0, 1}; /* FTS5_STRUCTURE_V2 */

struct reader {
	const uint8_t *at, *end;
	bool failed;
};

static uint64_t take(struct reader *r)
{
	uint64_t value = 0;
	size_t n = r->failed ? 0 : sq_varint(r->at, r->end, &value);
	r->failed = !n;
	r->at += n;
	return r->failed ? 0 : value;
}

static void take_segment(struct reader *r, struct sq_fts *f, bool v2)
{
	uint64_t id = take(r), first = take(r);
	take(r); /* the last block */
	for (unsigned i = 0; v2 && i < V2_VARINTS; i++)
		take(r);
	if (!r->failed && id <= UINT16_MAX && first <= INT32_MAX && f->segment_count < FTS_SEGMENTS)
		f->segments[f->segment_count++] =
		        (struct fts_segment){(uint32_t)id, (uint32_t)first};
}

static void read_record(struct sq_fts *f, const struct sq_value *v)
{
	struct reader r = {v->bytes + COOKIE_BYTES, v->bytes + v->len, v->len < COOKIE_BYTES};
	bool v2 = v->len >= COOKIE_BYTES + sizeof v2_mark && !memcmp(r.at, v2_mark, sizeof v2_mark);
	r.at += v2 ? sizeof v2_mark : 0;
	uint64_t levels = take(&r);
	take(&r); /* segments in all */
	take(&r); /* a counter of writes */
	for (uint64_t level = 0; !r.failed && level < levels; level++) {
		take(&r); /* of them being merged */
		uint64_t count = take(&r);
		for (uint64_t i = 0; !r.failed && i < count; i++)
			take_segment(&r, f, v2);
	}
	if (r.failed)
		f->segment_count = 0;
}

bool fts_segments_read(struct sq_order *o, struct sq_fts *f)
{
	struct sq_value v;
	if (f->segments_read)
		return true;
	if (!fts_data(o, f, ROW_STRUCTURE, &v))
		return false;
	f->segments_read = true;
	f->segments = malloc(FTS_SEGMENTS * sizeof *f->segments);
	if (f->segments)
		read_record(f, &v);
	if (f->segment_count)
		return true;
	free(f->segments);
	f->segments = NULL;
	return true;
}

const struct fts_segment *fts_segment_of(const struct sq_fts *f, uint32_t id)
{
	for (uint32_t i = 0; i < f->segment_count; i++)
		if (f->segments[i].id == id)
			return &f->segments[i];
	return NULL;
}
