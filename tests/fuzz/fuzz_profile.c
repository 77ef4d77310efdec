/* SPDX-License-Identifier: Apache-2.0 */
/* A profile: what is accepted keeps its promises, and is the same when printed and read again. */
#include "check.h"
#include "fuzz.h"

#include <errno.h>
#include <hither/profile.h>
#include <string.h>

static void check_entries(const struct hither_profile *p)
{
	CHECK(p->count <= HITHER_PROFILE_MOST_ENTRIES);
	for (size_t i = 0; i < p->count; i++) {
		const struct hither_profile_entry *e = &p->entries[i];
		CHECK(e->len > 0 && e->len <= UINT64_MAX - e->offset);
		CHECK(i == 0 || e[-1].offset + e[-1].len != e->offset);
	}
}

static void check_round_trip(const struct hither_profile *p)
{
	/* The head needs one line's room, an entry at most 64 bytes. */
	char *text = malloc((p->count + 1) * 64 + 2 * HITHER_PROFILE_LINE_BYTES);
	CHECK(text);
	size_t len = hither_profile_print_head(text, p->size_bytes, p->version);
	for (size_t i = 0; i < p->count; i++) {
		size_t n = hither_profile_print_entry(text + len, &p->entries[i]);
		CHECK(n <= 64);
		len += n;
	}
	struct hither_profile again = {0};
	struct hither_error err = {0};
	CHECK_OK(hither_profile_parse(text, len, &again, &err));
	free(text);
	CHECK_EQ(again.size_bytes, p->size_bytes);
	CHECK(strcmp(again.version, p->version) == 0);
	CHECK_EQ(again.count, p->count);
	for (size_t i = 0; i < p->count; i++) {
		const struct hither_profile_entry *a = &p->entries[i], *b = &again.entries[i];
		CHECK(a->offset == b->offset && a->len == b->len && a->at_ms == b->at_ms &&
		      a->waited == b->waited);
	}
	hither_profile_finish(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hither_profile p = {0};
	struct hither_error err = {0};
	int r = hither_profile_parse((const char *)data, size, &p, &err);
	if (r) {
		CHECK(r == -EINVAL || r == -E2BIG || r == -ENOMEM);
		CHECK(err.code == r && strstr(err.message, "line "));
		CHECK(p.count == 0 && !p.entries);
		return 0;
	}
	check_entries(&p);
	check_round_trip(&p);
	hither_profile_finish(&p);
	return 0;
}
