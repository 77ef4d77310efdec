/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open a volume: from the newest checkpoint, then what came behind it, or else from all records.
 *
 * A locate costs like a gigabyte of reading. So from the end of data it goes back once, by so many
 * records that the newest checkpoint is among them unless the index is large, and reads these on:
 * what is asked for afterwards is in memory. There it stays: what was written last, a file system's
 * own blocks, is what is read first.
 */
#include "tape/volume.h"

#include <errno.h>
#include <hither/tape.h>
#include <stdlib.h>
#include <string.h>

enum { TAIL_RECORDS = 64, TAIL_TRIES = 3 };

struct tape_tail {
	uint64_t end;   /* of data, as the drive says */
	uint64_t whole; /* records behind this one are cut off, and written anew */
	uint64_t first;
	uint32_t count; /* records [first, first + count) */
	int code[TAIL_RECORDS];
	size_t len[TAIL_RECORDS];
	uint8_t *bytes; /* TAPE_RECORD_BYTES each */
};

const uint8_t *tape_volume_in_tail(const struct tape_volume *v, uint64_t record, size_t *len)
{
	const struct tape_tail *t = v->tail;
	if (!t || record < t->first || record - t->first >= t->count || record >= t->whole ||
	    t->code[record - t->first])
		return NULL;
	*len = t->len[record - t->first];
	return t->bytes + (record - t->first) * TAPE_RECORD_BYTES;
}

void tape_volume_drop_tail(struct tape_volume *v)
{
	if (v->tail)
		free(v->tail->bytes);
	free(v->tail);
	v->tail = NULL;
}

static int no_memory(struct hither_error *err)
{
	return hither_fail(err, -ENOMEM, "tape: no memory for the index");
}

/* One record is damaged, or not there: others are not. Else the drive is of no use. */
static bool of_record(int e)
{
	return e == -EIO || e == -EMSGSIZE || e == -ENODATA;
}

/* Find the end of data, and read the last records before it. */
static int read_tail(struct tape_volume *v, struct hither_error *err)
{
	struct tape_drive *d = v->drive;
	struct tape_tail *t = v->tail = calloc(1, sizeof *t);
	if (!t)
		return no_memory(err);
	int e = d->ops->locate_end(d, &t->end, err);
	if (e)
		return e;
	t->first = t->end > TAIL_RECORDS ? t->end - TAIL_RECORDS : 1;
	uint64_t count = t->end > t->first ? t->end - t->first : 0;
	t->bytes = malloc((count ? count : 1) * TAPE_RECORD_BYTES);
	if (!t->bytes)
		return no_memory(err);
	for (; t->count < count; t->count++) {
		uint32_t i = t->count;
		e = d->ops->locate(d, t->first + i, err);
		if (e)
			return e;
		v->scanned++;
		t->code[i] = d->ops->read(d, t->bytes + (size_t)i * TAPE_RECORD_BYTES,
		                          TAPE_RECORD_BYTES, &t->len[i], err);
		if (t->code[i] && !of_record(t->code[i]))
			return t->code[i];
	}
	return 0;
}

static bool in_tail(const struct tape_volume *v, uint64_t number)
{
	const struct tape_tail *t = v->tail;
	return t && number >= t->first && number - t->first < t->count;
}

/* *code: what the drive says. */
static const uint8_t *bytes_of(struct tape_volume *v, uint64_t number, size_t *len, int *code,
                               struct hither_error *err)
{
	const struct tape_tail *t = v->tail;
	if (in_tail(v, number)) {
		*len = t->len[number - t->first];
		*code = t->code[number - t->first];
		return t->bytes + (number - t->first) * TAPE_RECORD_BYTES;
	}
	v->scanned++;
	*code = v->drive->ops->read(v->drive, v->buf, TAPE_RECORD_BYTES, len, err);
	return v->buf;
}

/* Record `number`, valid until the next one. -EBADMSG: not ours, damaged or unreadable. */
static int read_record(struct tape_volume *v, uint64_t number, struct tape_record *r,
                       struct hither_error *err)
{
	size_t len;
	int e = in_tail(v, number) ? 0 : tape_volume_go(v, number, err);
	if (e)
		return e;
	const uint8_t *bytes = bytes_of(v, number, &len, &e, err);
	if (e == -ENODATA || (e && !of_record(e)))
		return e;
	v->unreadable = e != 0;
	if (e || tape_record_parse(bytes, len, r) || memcmp(r->id, v->id, sizeof v->id) ||
	    r->size_bytes != v->size_bytes || r->sequence != number)
		return -EBADMSG;
	return 0;
}

bool tape_volume_know_by_tail(struct tape_volume *v)
{
	struct tape_record r;
	const struct tape_tail *t;
	int e = read_tail(v, NULL);
	t = v->tail;
	for (uint32_t i = e ? 0 : t->count; i-- > 0 && t->count - i <= TAIL_TRIES;) {
		if (t->code[i] ||
		    tape_record_parse(t->bytes + (size_t)i * TAPE_RECORD_BYTES, t->len[i], &r) ||
		    r.sequence != t->first + i)
			continue;
		memcpy(v->id, r.id, sizeof v->id);
		v->size_bytes = r.size_bytes;
		return true;
	}
	tape_volume_drop_tail(v);
	v->scanned = 0;
	return false;
}

static int apply_runs(struct tape_volume *v, const struct tape_record *r, struct hither_error *err)
{
	struct tape_run run;
	for (uint32_t i = 0; i < r->count; i++) {
		if (!tape_run_get(r, i, &run))
			return -EBADMSG;
		if (tape_index_put(&v->index, &run))
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
	v->parts = part;
	*behind = first + part;
	return 0;
}

/* The last whole record: its number is v->end - 1. What is behind it is cut off. */
static int find_end(struct tape_volume *v, struct tape_record *last, struct hither_error *err)
{
	int e = v->tail ? 0 : read_tail(v, err);
	for (v->end = v->tail ? v->tail->end : 0; !e && v->end > 1; v->end--) {
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

static int apply_holes(struct tape_volume *v, const uint8_t *list, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t e = tape_get64(list, i);
		if (e & TAPE_HOLE &&
		    tape_index_drop(&v->index, tape_entry_block(e), tape_entry_count(e)))
			return -ENOMEM;
	}
	return 0;
}

/*
 * Records [bad, number) could not be read; r, behind them, tells of the last data record before it.
 * Those behind that had no data; those before it, who knows. What it had made a hole is one.
 */
static int apply_before(struct tape_volume *v, const struct tape_record *r, uint64_t bad,
                        struct hither_error *err)
{
	if (!bad || r->previous < bad)
		return 0;
	v->unexplained += r->previous - bad;
	if (apply_holes(v, r->before, r->before_count))
		return no_memory(err);
	for (uint32_t i = 0; i < r->before_count; i++) {
		uint64_t entry = tape_get64(r->before, i);
		struct tape_run run = {.block = entry,
		                       .place = r->previous * TAPE_RECORD_BLOCKS,
		                       .count = 1,
		                       .lost = true};
		if (!(entry & TAPE_HOLE) && tape_index_put(&v->index, &run))
			return no_memory(err);
	}
	return 0;
}

static int apply_data(struct tape_volume *v, const struct tape_record *r, uint64_t number,
                      struct hither_error *err)
{
	for (uint32_t i = 0; i < r->count; i++)
		v->before[i] = tape_get64(r->blocks, i);
	uint32_t count = r->count - r->holes;
	if (apply_holes(v, r->blocks, r->count))
		return no_memory(err);
	for (uint32_t i = 0, n; i < count; i += n) {
		for (n = 1; i + n < count && v->before[i + n] == v->before[i] + n;)
			n++;
		struct tape_run run = {.block = v->before[i],
		                       .place = number * TAPE_RECORD_BLOCKS + i,
		                       .count = n};
		if (tape_index_put(&v->index, &run))
			return no_memory(err);
	}
	v->before_count = r->count;
	v->previous = number;
	v->since++;
	return 0;
}

/*
 * What a copy could not read is in no data record of its own: checkpoints alone tell, as lost with
 * the label, which has no blocks (tape.c). What else they call lost is found by reading on.
 */
static int apply_not_copied(struct tape_volume *v, const struct tape_record *r,
                            struct hither_error *err)
{
	struct tape_run run;
	for (uint32_t i = 0; i < r->count; i++)
		if (tape_run_get(r, i, &run) && run.lost && !tape_record_of(run.place) &&
		    tape_index_put(&v->index, &run))
			return no_memory(err);
	return 0;
}

static int replay(struct tape_volume *v, uint64_t from, struct hither_error *err)
{
	struct tape_record r;
	uint64_t bad = 0;
	for (uint64_t n = from; n < v->end; n++) {
		int e = read_record(v, n, &r, err);
		if (v->progress && v->progress->at)
			v->progress->at(v->progress->user, n + 1, v->end);
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
		if (!e && r.kind == TAPE_CHECKPOINT)
			e = apply_not_copied(v, &r, err);
		bad = 0;
		if (e)
			return e;
	}
	return 0;
}

/* What the last record says of those before it. */
static void take_last(struct tape_volume *v, const struct tape_record *last)
{
	v->checkpoint = last->checkpoint;
	v->previous = last->previous;
	const uint8_t *before = last->before;
	v->before_count = last->before_count;
	if (last->kind == TAPE_DATA) {
		v->previous = v->end - 1;
		before = last->blocks;
		v->before_count = last->count;
	}
	for (uint32_t i = 0; i < v->before_count; i++)
		v->before[i] = tape_get64(before, i);
	if (last->kind == TAPE_CHECKPOINT && last->part + 1 == last->parts && v->end > last->parts)
		v->checkpoint = v->end - last->parts;
}

int tape_volume_recover(struct tape_volume *v, bool full_scan, struct hither_error *err)
{
	struct tape_record last;
	uint64_t from = 1;
	int e = find_end(v, &last, err);
	if (e)
		return e;
	if (v->end > 1 ? last.copying : v->copying)
		return hither_fail(err, -EINVAL,
		                   "tape: a copy to this tape was cut short: what it has is not "
		                   "all; repeat tapisk compact with --force");
	v->copying = false;
	take_last(v, &last);
	if (v->tail)
		v->tail->whole = v->end;
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
