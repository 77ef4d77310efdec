/* SPDX-License-Identifier: Apache-2.0 */
/* An ELF file: what is wanted of it lies in it, and looking ends. The first byte of the input says
 * which pages are here at first. */
#include "check.h"
#include "fuzz.h"
#include "order/elf_look.h"

#include <errno.h>
#include <string.h>

enum { PAGE = 4096, PAGES = 8 };

static const uint8_t *bytes;
static bool here[PAGES];

static int peek(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset)
{
	CHECK(len > 0 && offset <= view->size_bytes && len <= view->size_bytes - offset);
	for (uint64_t p = offset / PAGE; p <= (offset + len - 1) / PAGE; p++)
		if (!here[p])
			return -EAGAIN;
	memcpy(buf, bytes + offset, len);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hither_order_view view = {.peek = peek};
	struct elf_look look, before = {.count = 0};
	if (size < 2 || size > PAGE * PAGES)
		return 0;
	bytes = data + 1;
	view.size_bytes = size - 1;
	for (unsigned i = 0; i < PAGES; i++)
		here[i] = data[0] >> i & 1;
	int r = -EAGAIN;
	for (unsigned round = 0; r == -EAGAIN; round++) {
		CHECK(round <= PAGES);
		r = elf_look(&view, 0, &look);
		CHECK(r == 0 || r == -EAGAIN || r == -EINVAL);
		CHECK(look.count <= ELF_RANGES && look.count >= before.count);
		CHECK(!memcmp(before.ranges, look.ranges, before.count * sizeof look.ranges[0]));
		for (unsigned i = 0; i < look.count; i++) {
			const struct hither_range *w = &look.ranges[i];
			CHECK(w->len && w->offset < view.size_bytes &&
			      w->len <= view.size_bytes - w->offset);
			for (uint64_t p = w->offset / PAGE; p <= (w->offset + w->len - 1) / PAGE;
			     p++)
				here[p] = true;
		}
		before = look;
	}
	return 0;
}
