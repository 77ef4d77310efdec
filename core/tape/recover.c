/* SPDX-License-Identifier: Apache-2.0 */
/* Open a volume: from the newest checkpoint, then what came behind it, or else from all records. */
#include "tape/volume.h"

#include <errno.h>
#include <string.h>

/* Record `number` into v->buf. -EBADMSG: not ours, damaged or unreadable. */
static int read_record(struct tape_volume *v, uint64_t number, struct tape_record *r,
                       struct hither_error *err)
{
	struct tape_drive *d = v->drive;
	size_t len;
	int e = d->ops->locate(d, number, err);
	if (e)
		return e;
	v->scanned++;
	e = d->ops->read(d, v->buf, TAPE_RECORD_BYTES, &len, err);
	if (e == -ENODATA)
		return e;
	v->unreadable = e != 0;
	if (e || tape_record_parse(v->buf, len, r) || memcmp(r->id, v->id, sizeof v->id) ||
	    r->size_bytes != v->size_bytes)
		return -EBADMSG;
	return 0;
}

static int no_memory(struct hither_error *err)
{
	return hither_fail(err, -ENOMEM, "tape: no memory for the index");
}

static int apply_runs(struct tape_volume *v, const struct tape_record *r, struct hither_error *err)
{
	struct tape_run run;
	for (uint32_t i = 0; i < r->count; i++) {
		if (!tape_run_get(r, i, &run))
			return -EBADMSG;
		for (uint32_t k = 0; k < run.count; k++)
			if (tape_index_set(&v->index, run.block + k, run.record,
			                   run.index == TAPE_INDEX_LOST ? run.index
			                                                : run.index + k))
				return no_memory(err);
	}
	return 0;
}

/* *behind: record number behind it. */
static int load_checkpoint(struct tape_volume *v, uint64_t first, uint64_t *behind,
                           struct hither_error *err)
{
	struct tape_record r;
	uint32_t part = 0;
	do {
		int e = read_record(v, first + part, &r, err);
		if (!e && (r.kind != TAPE_CHECKPOINT || r.part != part))
			e = -EBADMSG;
		if (!e)
			e = apply_runs(v, &r, err);
		if (e)
			return e;
	} while (++part < r.parts);
	*behind = first + part;
	return 0;
}

/* The last whole record: its number is v->end - 1. What is behind it is cut off. */
static int find_end(struct tape_volume *v, struct tape_record *last, struct hither_error *err)
{
	uint64_t end;
	int e = v->drive->ops->locate_end(v->drive, &end, err);
	for (v->end = end; !e && v->end > 1; v->end--) {
		e = read_record(v, v->end - 1, last, err);
		if (!e)
			return 0;
		if (e != -EBADMSG && e != -ENODATA)
			return e;
		/* A drive that lost power tells of the end of data, not of a bad medium. */
		if (e == -EBADMSG && v->unreadable) {
			v->damaged++;
			v->unexplained++;
		} else if (e == -EBADMSG) {
			v->torn++;
		}
		e = 0;
	}
	v->end = 1;
	*last = (struct tape_record){.kind = TAPE_LABEL};
	return e;
}

/*
 * Records [bad, number) could not be read; r, behind them, tells of the last data record before it.
 * Those behind that had no data; those before it, who knows.
 */
static int apply_before(struct tape_volume *v, const struct tape_record *r, uint64_t bad,
                        struct hither_error *err)
{
	if (!bad || r->previous < bad)
		return 0;
	v->unexplained += r->previous - bad;
	for (uint32_t i = 0; i < r->before_count; i++)
		if (tape_index_set(&v->index, tape_get64(r->before, i), r->previous,
		                   TAPE_INDEX_LOST))
			return no_memory(err);
	return 0;
}

static int apply_data(struct tape_volume *v, const struct tape_record *r, uint64_t number,
                      struct hither_error *err)
{
	for (uint32_t i = 0; i < r->count; i++) {
		v->pending[i] = tape_get64(r->blocks, i);
		if (tape_index_set(&v->index, v->pending[i], number, i))
			return no_memory(err);
	}
	memcpy(v->before, v->pending, sizeof v->before);
	v->before_count = r->count;
	v->previous = number;
	v->since_checkpoint++;
	return 0;
}

static int replay(struct tape_volume *v, uint64_t from, struct hither_error *err)
{
	struct tape_record r;
	uint64_t bad = 0;
	for (uint64_t n = from; n < v->end; n++) {
		int e = read_record(v, n, &r, err);
		if (e == -EBADMSG) {
			v->damaged++;
			bad = bad ? bad : n;
			continue;
		}
		if (e == -ENODATA)
			break;
		if (!e)
			e = apply_before(v, &r, bad, err);
		if (!e && r.kind == TAPE_DATA)
			e = apply_data(v, &r, n, err);
		bad = 0;
		if (e)
			return e;
	}
	return 0;
}

int tape_volume_recover(struct tape_volume *v, bool full_scan, struct hither_error *err)
{
	struct tape_record last;
	uint64_t from = 1;
	int e = find_end(v, &last, err);
	if (e)
		return e;
	v->sequence = last.sequence + 1;
	v->checkpoint = last.checkpoint;
	v->previous = last.previous;
	const uint8_t *before = last.before;
	v->before_count = last.before_count;
	if (last.kind == TAPE_DATA) {
		v->previous = v->end - 1;
		before = last.blocks;
		v->before_count = last.count;
	}
	for (uint32_t i = 0; i < v->before_count; i++)
		v->before[i] = tape_get64(before, i);
	if (last.kind == TAPE_CHECKPOINT && last.part + 1 == last.parts && v->end > last.parts)
		v->checkpoint = v->end - last.parts;
	if (v->checkpoint && !full_scan) {
		e = load_checkpoint(v, v->checkpoint, &from, err);
		if (e && e != -EBADMSG && e != -ENODATA)
			return e;
		if (e) { /* it cannot be read: all the others can */
			tape_index_clear(&v->index);
			v->checkpoint = 0;
			v->damaged++;
			from = 1;
		}
	}
	return replay(v, from, err);
}
