/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order that knows SQLite, over a database that is anything: what it asks for lies inside, it
 * comes to an end, and it does not ask again and again for the same.
 */
#include "check.h"
#include "fuzz.h"
#include "order/format.h"

#include <errno.h>
#include <string.h>

enum { BLOCK = 512, MOST_BYTES = 1 << 18, READS = 64, ASKS_MOST = 4096 };

struct database {
	struct hither_order_view view;
	const uint8_t *bytes;
	uint8_t local[MOST_BYTES / BLOCK + 1];
};

static int peek(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset)
{
	const struct database *d = (const struct database *)view;
	if (offset > view->size_bytes || len > view->size_bytes - offset)
		return -EINVAL;
	for (uint64_t at = offset; at < offset + len; at++)
		if (!d->local[at / BLOCK])
			return -EAGAIN;
	memcpy(buf, d->bytes + offset, len);
	return 0;
}

static void arrive(struct database *d, struct hither_order *o, uint64_t offset, uint64_t len)
{
	for (uint64_t at = offset; at < offset + len; at++)
		d->local[at / BLOCK] = 1;
	o->ops->arrived(o, offset, len);
}

/* What it asks for comes at once, or (odd times) only after all was asked. */
static void ask_all(struct database *d, struct hither_order *o, bool late, uint64_t *asked)
{
	struct hither_range got[16], r;
	size_t count = 0;
	unsigned n = 0;
	while (o->ops->next(o, 64 << 10, &r)) {
		CHECK(r.len > 0 && r.offset <= d->view.size_bytes &&
		      r.len <= d->view.size_bytes - r.offset);
		CHECK(++n < ASKS_MOST);
		*asked += r.len;
		if (late && count < sizeof got / sizeof *got)
			got[count++] = r;
		else
			arrive(d, o, r.offset, r.len);
	}
	while (count > 0) {
		count--;
		arrive(d, o, got[count].offset, got[count].len);
	}
}

/* The last bytes say which pages are read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > MOST_BYTES || size < 100)
		return 0;
	struct database *d = calloc(1, sizeof *d);
	struct hither_error err = {0};
	struct hither_order *o;
	uint64_t asked = 0;
	CHECK(d);
	d->view = (struct hither_order_view){.size_bytes = size, .peek = peek};
	d->bytes = data;
	CHECK_OK(hither_order_sqlite.create(&d->view, &o, &err));
	ask_all(d, o, false, &asked);
	uint32_t page = (uint32_t)data[16] << 8 | data[17];
	page = page == 1 ? 65536 : page < 512 ? 512 : page;
	for (size_t i = 0; i < READS && i + 2 <= size; i += 2) {
		const uint8_t *at = data + size - READS / 2 + i / 2;
		uint64_t offset = (uint64_t)*at % (size / page + 1) * page;
		uint64_t len = offset + page > size ? size - offset : page;
		if (!len)
			continue;
		bool here = d->local[offset / BLOCK];
		o->ops->saw(o, offset, len, !here);
		if (!here)
			arrive(d, o, offset, len);
		ask_all(d, o, i & 2, &asked);
	}
	/* Extents may overlap what was asked for by pages, and scans begin anew; not without end.
	 */
	CHECK(asked <= (size + page) * READS);
	hither_order_destroy(o);
	free(d);
	return 0;
}
