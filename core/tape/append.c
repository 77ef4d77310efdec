/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing: blocks are collected into records, which go to the end of the log. Checkpoints are part
 * of the stream: often enough that the newest is near the end, seldom enough that they take a
 * sixtieth of the tape at most.
 */
#include "tape/volume.h"

#include <errno.h>
#include <string.h>

enum {
	INTERVAL_RECORDS = 56, /* data records for each record of a checkpoint; so that both are
	                          among the last 64, which open reads (recover.c) */
	WORTH = 8, /* times the bytes of data that a checkpoint has, and a flush adds it; */
	SMALL_BYTES = 256 << 10, /* or if it is no longer than this: a stop costs like a GB */
};

uint64_t tape_volume_interval(const struct tape_volume *v)
{
	return (uint64_t)INTERVAL_RECORDS * (v->parts ? v->parts : 1);
}

static int write_record(struct tape_volume *v, struct tape_record *r, struct hither_error *err)
{
	struct tape_drive *d = v->drive;
	bool early = false;
	if (v->broken)
		return hither_fail(err, -EIO,
		                   "tape: record %llu could not be written; mount it again to go "
		                   "on: what was flushed is safe",
		                   (unsigned long long)v->end);
	memcpy(r->id, v->id, sizeof r->id);
	/* What cannot be read has its place in a checkpoint only: the last record ends the copy. */
	r->copying =
	        v->copying && !(v->ending && r->kind == TAPE_CHECKPOINT && r->part + 1 == r->parts);
	r->sequence = v->end;
	r->checkpoint = v->checkpoint;
	r->size_bytes = v->size_bytes;
	r->previous = v->previous;
	for (uint32_t i = 0; i < r->before_count; i++)
		tape_put64(v->buf + tape_record_before_at(r), i, v->before[i]);
	size_t len = tape_record_len(r);
	tape_record_seal(v->buf, len, r);
	int e = tape_volume_go(v, v->end, err);
	if (e)
		return e;
	e = d->ops->write(d, v->buf, len, &early, err);
	if (e) { /* where the medium stands now, only another open can tell */
		v->full |= e == -ENOSPC;
		v->broken = e != -ENOSPC;
		return e;
	}
	v->full |= early;
	v->unsynced = v->changed = true;
	v->end++;
	return 0;
}

static bool collects(const struct tape_volume *v)
{
	return v->pending_count || v->hole_count;
}

static int write_pending(struct tape_volume *v, struct hither_error *err)
{
	if (!collects(v))
		return 0;
	struct tape_record r = {.kind = TAPE_DATA,
	                        .count = v->pending_count + v->hole_count,
	                        .holes = v->hole_count,
	                        .before_count = v->before_count};
	memcpy(v->pending + v->pending_count, v->holes, v->hole_count * sizeof *v->holes);
	for (uint32_t i = 0; i < r.count; i++)
		tape_put64(v->buf + TAPE_HEAD_BYTES, i, v->pending[i]);
	memcpy(v->buf + tape_record_payload_at(&r), v->pending_data,
	       (size_t)v->pending_count * TAPE_BLOCK_BYTES);
	uint64_t number = v->end;
	int e = write_record(v, &r, err);
	if (e)
		return e;
	memcpy(v->before, v->pending, sizeof v->before);
	v->previous = number;
	v->before_count = r.count;
	v->pending_count = v->hole_count = 0;
	v->since++;
	v->since_bytes += tape_record_len(&r);
	return 0;
}

static uint64_t count_runs(struct tape_volume *v)
{
	uint64_t block = 0, runs = 0;
	struct tape_run run;
	while (tape_index_run(&v->index, &block, &run))
		runs++;
	return runs;
}

/* Not synced: what is behind it on the tape is no safer than it, and the drive goes on streaming.
 */
static int write_checkpoint(struct tape_volume *v, struct hither_error *err)
{
	uint64_t block = 0, first = v->end;
	struct tape_run run;
	uint32_t parts = (uint32_t)(count_runs(v) / TAPE_RECORD_RUNS + 1);
	for (uint32_t part = 0; part < parts; part++) {
		struct tape_record r = {.kind = TAPE_CHECKPOINT,
		                        .part = part,
		                        .parts = parts,
		                        .before_count = v->before_count};
		uint8_t *at = v->buf + tape_record_payload_at(&r);
		while (r.count < TAPE_RECORD_RUNS && tape_index_run(&v->index, &block, &run))
			tape_run_put(at, r.count++, &run);
		int e = write_record(v, &r, err);
		if (e)
			return e;
	}
	v->checkpoint = first;
	v->parts = parts;
	v->since = v->since_bytes = 0;
	return 0;
}

/* Is this block in the record that is being collected? */
static bool collected(struct tape_volume *v, uint64_t block, uint32_t *index)
{
	struct tape_run run;
	if (!v->pending_count || !tape_index_get(&v->index, block, &run) || run.lost ||
	    tape_record_of(run.place) != v->end)
		return false;
	*index = (uint32_t)(run.place % TAPE_RECORD_BLOCKS);
	return *index < v->pending_count;
}

/* Room for one entry more in the record that is collected. */
static int make_room(struct tape_volume *v, struct hither_error *err)
{
	int e = 0;
	if (v->pending_count + v->hole_count == TAPE_RECORD_BLOCKS)
		e = write_pending(v, err);
	if (!e && !collects(v) && v->since >= tape_volume_interval(v) && !v->full)
		e = write_checkpoint(v, err);
	if (!e && v->full)
		e = hither_fail(err, -ENOSPC,
		                "tape: the tape is full; tapisk compact copies what is in use to "
		                "another");
	return e;
}

static bool is_zeros(const uint8_t *data)
{
	uint64_t first;
	memcpy(&first, data, sizeof first);
	return !first && !memcmp(data, data + sizeof first, TAPE_BLOCK_BYTES - sizeof first);
}

/* One that goes on from the last makes that longer. */
static int write_hole(struct tape_volume *v, uint64_t block, struct hither_error *err)
{
	struct tape_run run;
	if (!tape_index_get(&v->index, block, &run))
		return 0;
	uint64_t *last = v->hole_count ? &v->holes[v->hole_count - 1] : NULL;
	uint32_t count = last ? tape_entry_count(*last) : 0;
	if (last && tape_entry_block(*last) + count == block && count < TAPE_HOLE_BLOCKS) {
		*last = tape_hole(block - count, count + 1);
	} else {
		int e = make_room(v, err);
		if (e)
			return e;
		v->holes[v->hole_count++] = tape_hole(block, 1);
	}
	return tape_index_drop(&v->index, block, 1)
	               ? hither_fail(err, -ENOMEM, "tape: no memory for the index")
	               : 0;
}

static int write_block(struct tape_volume *v, const uint8_t *data, uint64_t block,
                       struct hither_error *err)
{
	uint32_t index;
	bool again = collected(v, block, &index);
	if (!again && is_zeros(data))
		return write_hole(v, block, err);
	if (!again) {
		int e = make_room(v, err);
		if (e)
			return e;
		index = v->pending_count;
		struct tape_run run = {
		        .block = block, .place = v->end * TAPE_RECORD_BLOCKS + index, .count = 1};
		if (tape_index_put(&v->index, &run))
			return hither_fail(err, -ENOMEM, "tape: no memory for the index");
		v->pending[v->pending_count++] = block;
	}
	memcpy(v->pending_data + (size_t)index * TAPE_BLOCK_BYTES, data, TAPE_BLOCK_BYTES);
	return 0;
}

int tape_volume_write(struct tape_volume *v, const void *buf, size_t len, uint64_t offset,
                      struct hither_error *err)
{
	for (size_t done = 0; done < len; done += TAPE_BLOCK_BYTES) {
		int e = write_block(v, (const uint8_t *)buf + done,
		                    (offset + done) / TAPE_BLOCK_BYTES, err);
		if (e)
			return e;
	}
	return 0;
}

static int sync_drive(struct tape_volume *v, struct hither_error *err)
{
	int e = v->unsynced ? v->drive->ops->sync(v->drive, err) : 0;
	/* A write that it had deferred has failed: nobody knows which. */
	v->broken |= e != 0;
	v->unsynced &= e != 0;
	return e;
}

static bool worth_a_checkpoint(struct tape_volume *v)
{
	uint64_t bytes = count_runs(v) * TAPE_RUN_BYTES;
	return bytes <= SMALL_BYTES || v->since_bytes >= WORTH * bytes;
}

/*
 * With the data it acknowledges goes a checkpoint, if it is small beside them: the drive stops once
 * for both. That there was no room for it is no failure: it only makes the next open quick.
 */
int tape_volume_flush(struct tape_volume *v, struct hither_error *err)
{
	int e = write_pending(v, err);
	if (!e && v->since && worth_a_checkpoint(v))
		e = write_checkpoint(v, err);
	if (e == -ENOSPC && !collects(v))
		e = 0;
	return e ? e : sync_drive(v, err);
}

int tape_volume_checkpoint(struct tape_volume *v, struct hither_error *err)
{
	int e = write_pending(v, err);
	if (!e)
		e = write_checkpoint(v, err);
	return e ? e : sync_drive(v, err);
}

int tape_volume_finish(struct tape_volume *v, struct hither_error *err)
{
	int e = write_pending(v, err);
	if (!e && v->since && v->changed)
		e = write_checkpoint(v, err);
	return e == -ENOSPC && !collects(v) ? 0 : e;
}
