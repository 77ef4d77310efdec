/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, in the tape's order. */
#include "base/cleanup.h"
#include "tape/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NO_RECORD UINT64_MAX

/* The next record, kept: who comes for another part of it, or was passed over, need not go back. */
static int read_next(struct tape_volume *v, struct hither_error *err)
{
	struct tape_drive *d = v->drive;
	uint64_t number = d->record;
	struct tape_kept *k = &v->kept[number % TAPE_KEPT];
	if (!k->bytes)
		k->bytes = malloc(TAPE_RECORD_BYTES);
	if (!k->bytes)
		return hither_fail(err, -ENOMEM, "tape: no memory to read");
	if (v->cached + 1 == atomic_load(&k->number))
		v->cached = NO_RECORD;
	atomic_store(&k->number, 0);
	int e = d->ops->read(d, k->bytes, TAPE_RECORD_BYTES, &k->len, err);
	if (!e)
		atomic_store(&k->number, number + 1);
	return e;
}

static const struct tape_kept *find_kept(const struct tape_volume *v, uint64_t record)
{
	const struct tape_kept *k = &v->kept[record % TAPE_KEPT];
	return atomic_load(&k->number) == record + 1 ? k : NULL;
}

bool tape_volume_in_memory(const struct tape_volume *v, uint64_t record)
{
	size_t len;
	return find_kept(v, record) || tape_volume_in_tail(v, record, &len);
}

static const uint8_t *in_memory(const struct tape_volume *v, uint64_t record, size_t *len)
{
	const struct tape_kept *k = find_kept(v, record);
	if (!k)
		return tape_volume_in_tail(v, record, len);
	*len = k->len;
	return k->bytes;
}

int tape_volume_go(struct tape_volume *v, uint64_t record, struct hither_error *err)
{
	struct tape_drive *d = v->drive;
	if (d->record < record &&
	    tape_model_reads_on(&tape_model_lto9, d->record * TAPE_RECORD_BYTES,
	                        record * TAPE_RECORD_BYTES))
		while (d->record < record && !read_next(v, NULL))
			; /* whatever is wrong there, nobody has asked for it */
	return d->ops->locate(d, record, err);
}

static int load(struct tape_volume *v, uint64_t record, struct hither_error *err)
{
	size_t len;
	int e = 0;
	if (v->cached == record)
		return 0;
	v->cached = NO_RECORD;
	const uint8_t *bytes = in_memory(v, record, &len);
	if (!bytes) {
		e = tape_volume_go(v, record, err);
		if (!e)
			e = read_next(v, err);
		bytes = e ? NULL : in_memory(v, record, &len);
	}
	if (!e && (!bytes || tape_record_parse(bytes, len, &v->cached_record) ||
	           memcmp(v->cached_record.id, v->id, sizeof v->id) ||
	           v->cached_record.sequence != record))
		e = hither_fail(err, -EIO, "tape: record %llu is damaged: its checksum differs",
		                (unsigned long long)record);
	if (e)
		return e == -ENOMEM ? e : -EIO;
	v->cached = record;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct tape_want *x = a, *y = b;
	return x->place < y->place ? -1 : x->place > y->place;
}

static int take(struct tape_volume *v, const struct tape_want *w, uint8_t *to,
                struct hither_error *err)
{
	uint64_t record = tape_record_of(w->place);
	uint32_t index = (uint32_t)(w->place % TAPE_RECORD_BLOCKS);
	if (w->lost)
		return hither_fail(err, -EIO,
		                   "tape: block %llu was in record %llu, which cannot be read",
		                   (unsigned long long)w->block, (unsigned long long)record);
	if (record == v->end && v->pending_count) {
		memcpy(to, v->pending_data + (size_t)index * TAPE_BLOCK_BYTES, TAPE_BLOCK_BYTES);
		return 0;
	}
	int e = load(v, record, err);
	if (e)
		return e;
	const struct tape_record *r = &v->cached_record;
	if (r->kind != TAPE_DATA || index >= r->count - r->holes ||
	    tape_get64(r->blocks, index) != w->block)
		return hither_fail(err, -EIO, "tape: record %llu does not have block %llu",
		                   (unsigned long long)record, (unsigned long long)w->block);
	memcpy(to, r->payload + (size_t)index * TAPE_BLOCK_BYTES, TAPE_BLOCK_BYTES);
	return 0;
}

int tape_volume_fetch(struct tape_volume *v, struct tape_want *wants, size_t count, uint8_t *buf,
                      bool tolerant, void (*at)(void *user, size_t done), void *user,
                      struct hither_error *err)
{
	uint64_t bad = NO_RECORD; /* not asked for again by each of its blocks */
	qsort(wants, count, sizeof *wants, by_place);
	for (size_t i = 0; i < count; i++) {
		struct tape_want *w = &wants[i];
		w->lost |= tape_record_of(w->place) == bad;
		int e = take(v, w, buf + (size_t)w->at * TAPE_BLOCK_BYTES, err);
		if (e && (e != -EIO || !tolerant))
			return e;
		if (e) {
			bad = tape_record_of(w->place);
			w->lost = true;
		}
		if (at)
			at(user, i + 1);
	}
	return 0;
}

int tape_volume_read(struct tape_volume *v, void *buf, size_t len, uint64_t offset,
                     struct hither_error *err)
{
	size_t count = len / TAPE_BLOCK_BYTES, found = 0, i = 0;
	HITHER_FREE struct tape_want *wants = malloc((count ? count : 1) * sizeof *wants);
	if (!wants)
		return hither_fail(err, -ENOMEM, "tape: no memory to read %zu bytes", len);
	while (i < count) {
		uint64_t block = offset / TAPE_BLOCK_BYTES + i;
		struct tape_run run;
		if (!tape_index_get(&v->index, block, &run)) {
			memset((uint8_t *)buf + i++ * TAPE_BLOCK_BYTES, 0, TAPE_BLOCK_BYTES);
			continue;
		}
		for (uint32_t k = 0; k < run.count && i < count; k++, i++)
			wants[found++] = (struct tape_want){.block = block + k,
			                                    .place = run.place + (run.lost ? 0 : k),
			                                    .at = (uint32_t)i,
			                                    .lost = run.lost};
	}
	return tape_volume_fetch(v, wants, found, buf, false, NULL, NULL, err);
}
