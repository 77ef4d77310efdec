/* SPDX-License-Identifier: Apache-2.0 */
#include "tape/volume.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

enum {
	CHECKPOINT_RECORDS = 8192, /* 4 GiB of data between checkpoints */
	READ_ON_RECORDS = 64,      /* 33 MB, a ninth of a second */
};
#define NO_RECORD UINT64_MAX

static void free_volume(struct tape_volume *v)
{
	tape_index_finish(&v->index);
	free(v->pending_data);
	free(v->buf);
	free(v->cache);
	v->drive->ops->close(v->drive);
	free(v);
}

/* --- write --- */

static int write_record(struct tape_volume *v, struct tape_record *r, struct hither_error *err)
{
	struct tape_drive *d = v->drive;
	bool early = false;
	memcpy(r->id, v->id, sizeof r->id);
	r->sequence = v->sequence;
	r->checkpoint = v->checkpoint;
	r->size_bytes = v->size_bytes;
	r->previous = v->previous;
	for (uint32_t i = 0; i < r->before_count; i++)
		tape_put64(v->buf + tape_record_before_at(r), i, v->before[i]);
	size_t len = tape_record_len(r);
	tape_record_seal(v->buf, len, r);
	int e = d->ops->locate(d, v->end, err);
	if (!e)
		e = d->ops->write(d, v->buf, len, &early, err);
	if (e) { /* where the medium stands now, only another open can tell */
		v->full = true;
		return e;
	}
	v->full |= early;
	v->end++;
	v->sequence++;
	return 0;
}

static int write_pending(struct tape_volume *v, struct hither_error *err)
{
	if (!v->pending_count)
		return 0;
	struct tape_record r = {
	        .kind = TAPE_DATA, .count = v->pending_count, .before_count = v->before_count};
	for (uint32_t i = 0; i < r.count; i++)
		tape_put64(v->buf + TAPE_HEAD_BYTES, i, v->pending[i]);
	memcpy(v->buf + tape_record_payload_at(&r), v->pending_data,
	       (size_t)r.count * TAPE_BLOCK_BYTES);
	uint64_t number = v->end;
	int e = write_record(v, &r, err);
	if (e)
		return e;
	memcpy(v->before, v->pending, sizeof v->before);
	v->previous = number;
	v->before_count = r.count;
	v->written_blocks += r.count;
	v->pending_count = 0;
	v->since_checkpoint++;
	return 0;
}

static int write_checkpoint(struct tape_volume *v, struct hither_error *err);

static int write_block(struct tape_volume *v, const uint8_t *data, uint64_t block,
                       struct hither_error *err)
{
	uint64_t record;
	uint32_t index;
	bool again = tape_index_get(&v->index, block, &record, &index) && record == v->end &&
	             index < v->pending_count;
	if (!again && v->pending_count == TAPE_RECORD_BLOCKS) {
		int e = write_pending(v, err);
		if (!e && v->since_checkpoint >= CHECKPOINT_RECORDS)
			e = write_checkpoint(v, err);
		if (e)
			return e;
	}
	if (!again) {
		if (v->full)
			return hither_fail(err, -ENOSPC,
			                   "tape: the tape is full; tapisk compact copies what is "
			                   "in use to another");
		index = v->pending_count;
		if (tape_index_set(&v->index, block, v->end, index))
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

int tape_volume_flush(struct tape_volume *v, struct hither_error *err)
{
	int e = write_pending(v, err);
	return e ? e : v->drive->ops->sync(v->drive, err);
}

/* Not synced: what is behind it on the tape is no safer than it, and the drive goes on streaming.
 */
static int write_checkpoint(struct tape_volume *v, struct hither_error *err)
{
	int e = write_pending(v, err);
	uint64_t block = 0, runs = 0, first = v->end;
	struct tape_run run;
	while (tape_index_run(&v->index, &block, &run))
		runs++;
	uint32_t parts = (uint32_t)(runs / TAPE_RECORD_RUNS + 1);
	block = 0;
	for (uint32_t part = 0; part < parts && !e; part++) {
		struct tape_record r = {.kind = TAPE_CHECKPOINT,
		                        .part = part,
		                        .parts = parts,
		                        .before_count = v->before_count};
		uint8_t *at = v->buf + tape_record_payload_at(&r);
		while (r.count < TAPE_RECORD_RUNS && tape_index_run(&v->index, &block, &run))
			tape_run_put(at, r.count++, &run);
		e = write_record(v, &r, err);
	}
	if (e)
		return e;
	v->checkpoint = first;
	v->since_checkpoint = 0;
	return 0;
}

int tape_volume_checkpoint(struct tape_volume *v, struct hither_error *err)
{
	int e = write_checkpoint(v, err);
	return e ? e : v->drive->ops->sync(v->drive, err);
}

/* --- read --- */

/* A little ahead: reading on costs less than to stop, turn and start. */
static void read_on(struct tape_volume *v, uint64_t record)
{
	struct tape_drive *d = v->drive;
	size_t len;
	while (d->record < record && record - d->record <= READ_ON_RECORDS)
		if (d->ops->read(d, v->cache, TAPE_RECORD_BYTES, &len, NULL))
			return; /* whatever is wrong there, nobody has asked for it: locate */
}

static int load(struct tape_volume *v, uint64_t record, struct hither_error *err)
{
	size_t len;
	if (v->cached == record)
		return 0;
	v->cached = NO_RECORD;
	read_on(v, record);
	int e = v->drive->ops->locate(v->drive, record, err);
	if (!e)
		e = v->drive->ops->read(v->drive, v->cache, TAPE_RECORD_BYTES, &len, err);
	if (!e && (tape_record_parse(v->cache, len, &v->cached_record) ||
	           memcmp(v->cached_record.id, v->id, sizeof v->id)))
		e = hither_fail(err, -EIO, "tape: record %llu is damaged: its checksum differs",
		                (unsigned long long)record);
	if (e)
		return -EIO;
	v->cached = record;
	return 0;
}

struct want {
	uint64_t record, block;
	uint32_t index, at; /* at: block of the buffer */
};

static int by_record(const void *a, const void *b)
{
	const struct want *x = a, *y = b;
	return x->record < y->record ? -1 : x->record > y->record;
}

static int take(struct tape_volume *v, const struct want *w, uint8_t *to, struct hither_error *err)
{
	if (w->record == v->end && v->pending_count) {
		memcpy(to, v->pending_data + (size_t)w->index * TAPE_BLOCK_BYTES, TAPE_BLOCK_BYTES);
		return 0;
	}
	if (w->index == TAPE_INDEX_LOST)
		return hither_fail(err, -EIO,
		                   "tape: block %llu was in record %llu, which cannot be read",
		                   (unsigned long long)w->block, (unsigned long long)w->record);
	int e = load(v, w->record, err);
	if (e)
		return e;
	const struct tape_record *r = &v->cached_record;
	if (r->kind != TAPE_DATA || w->index >= r->count ||
	    tape_get64(r->blocks, w->index) != w->block)
		return hither_fail(err, -EIO, "tape: record %llu does not have block %llu",
		                   (unsigned long long)w->record, (unsigned long long)w->block);
	memcpy(to, r->payload + (size_t)w->index * TAPE_BLOCK_BYTES, TAPE_BLOCK_BYTES);
	return 0;
}

int tape_volume_read(struct tape_volume *v, void *buf, size_t len, uint64_t offset,
                     struct hither_error *err)
{
	size_t count = len / TAPE_BLOCK_BYTES, found = 0;
	HITHER_FREE struct want *wants = malloc((count ? count : 1) * sizeof *wants);
	if (!wants)
		return hither_fail(err, -ENOMEM, "tape: no memory to read %zu bytes", len);
	for (size_t i = 0; i < count; i++) {
		struct want *w = &wants[found];
		w->block = offset / TAPE_BLOCK_BYTES + i;
		w->at = (uint32_t)i;
		if (tape_index_get(&v->index, w->block, &w->record, &w->index))
			found++;
		else
			memset((uint8_t *)buf + i * TAPE_BLOCK_BYTES, 0, TAPE_BLOCK_BYTES);
	}
	qsort(wants, found, sizeof *wants, by_record);
	for (size_t i = 0; i < found; i++) {
		int e = take(v, &wants[i], (uint8_t *)buf + (size_t)wants[i].at * TAPE_BLOCK_BYTES,
		             err);
		if (e)
			return e;
	}
	return 0;
}

/* --- open --- */

int tape_volume_format(struct tape_drive *d, uint64_t size_bytes, bool force,
                       struct hither_error *err)
{
	uint64_t end;
	bool early;
	uint8_t buf[TAPE_HEAD_BYTES];
	struct tape_record r = {.kind = TAPE_LABEL, .size_bytes = size_bytes};
	if (d->read_only)
		return hither_fail(err, -EROFS, "tape: the tape is write-protected");
	int e = d->ops->locate_end(d, &end, err);
	if (!e && end && !force)
		return hither_fail(err, -EEXIST,
		                   "tape: there are %llu records on this tape; --force drops them",
		                   (unsigned long long)end);
	if (getrandom(r.id, sizeof r.id, 0) != sizeof r.id)
		return hither_fail(err, -EIO, "tape: no random numbers");
	tape_record_seal(buf, sizeof buf, &r);
	if (!e)
		e = d->ops->locate(d, 0, err);
	if (!e)
		e = d->ops->write(d, buf, sizeof buf, &early, err);
	return e ? e : d->ops->sync(d, err);
}

static int read_label(struct tape_volume *v, struct hither_error *err)
{
	struct tape_drive *d = v->drive;
	struct tape_record r;
	size_t len;
	int e = d->ops->locate(d, 0, err);
	if (!e)
		e = d->ops->read(d, v->buf, TAPE_RECORD_BYTES, &len, err);
	/* Drives differ in what they answer to a read of a blank tape; all know where its data end.
	 */
	uint64_t end = 1;
	if (e == -EIO && !d->ops->locate_end(d, &end, NULL) && end == 0)
		e = -ENODATA;
	if (e == -ENODATA)
		return hither_fail(err, -EINVAL,
		                   "tape: the tape is blank; tapisk format makes a volume");
	if (e == -EMSGSIZE || (!e && (tape_record_parse(v->buf, len, &r) || r.kind != TAPE_LABEL)))
		return hither_fail(err, -EINVAL,
		                   "tape: the tape has no hither label: it is of another format");
	if (e)
		return e;
	memcpy(v->id, r.id, sizeof v->id);
	v->size_bytes = r.size_bytes;
	return tape_index_init(&v->index, r.size_bytes / TAPE_BLOCK_BYTES)
	               ? hither_fail(err, -ENOMEM, "tape: no memory for the index")
	               : 0;
}

int tape_volume_open(struct tape_drive *d, bool full_scan, struct tape_volume **out,
                     struct hither_error *err)
{
	struct tape_volume *v = calloc(1, sizeof *v);
	if (!v) {
		d->ops->close(d);
		return hither_fail(err, -ENOMEM, "tape: no memory");
	}
	v->drive = d;
	v->cached = NO_RECORD;
	v->pending_data = malloc((size_t)TAPE_RECORD_BLOCKS * TAPE_BLOCK_BYTES);
	v->buf = malloc(TAPE_RECORD_BYTES);
	v->cache = malloc(TAPE_RECORD_BYTES);
	int e = v->pending_data && v->buf && v->cache
	                ? read_label(v, err)
	                : hither_fail(err, -ENOMEM, "tape: no memory");
	if (!e)
		e = tape_volume_recover(v, full_scan, err);
	if (e)
		free_volume(v);
	else
		*out = v;
	return e;
}

int tape_volume_close(struct tape_volume *v, struct hither_error *err)
{
	int e = 0;
	if (v->pending_count || v->since_checkpoint)
		e = v->drive->read_only ? 0 : tape_volume_flush(v, err);
	/* A checkpoint only makes the next open quick: that it found no room is no failure. */
	if (!e && v->since_checkpoint && !v->drive->read_only)
		tape_volume_checkpoint(v, NULL);
	free_volume(v);
	return e;
}
