/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "tape/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/tape.h>
#include <string.h>

enum { WINDOW_BYTES = 64 << 20 };

static void tell(const struct hither_tape_progress *p, uint64_t done, uint64_t total)
{
	if (p && p->at)
		p->at(p->user, done, total);
}

static int open_volume(const char *path, bool writable, bool scan, struct tape_volume **out,
                       struct hither_error *err)
{
	struct tape_drive *d;
	int e = tape_drive_open(path, writable, 0, &d, err);
	return e ? e : tape_volume_open(d, scan, out, err);
}

static void describe(const struct tape_volume *v, struct hither_tape_info *out)
{
	*out = (struct hither_tape_info){
	        .size_bytes = v->size_bytes,
	        .capacity_bytes = v->drive->capacity_bytes,
	        .records = v->end,
	        .live_bytes = v->index.live * TAPE_BLOCK_BYTES,
	        .checkpoint = v->checkpoint,
	        .scanned = v->scanned,
	        .torn = v->torn,
	        .damaged = v->damaged,
	        .drive_ns = v->drive->busy_ns,
	};
}

int hither_tape_format(const char *path, uint64_t size_bytes, uint64_t capacity_bytes, bool force,
                       struct hither_error *err)
{
	struct tape_drive *d;
	if (!size_bytes || size_bytes % TAPE_BLOCK_BYTES)
		return hither_fail(err, -EINVAL, "tape: a size is a multiple of %d bytes",
		                   TAPE_BLOCK_BYTES);
	bool create = access(path, F_OK) && errno == ENOENT;
	int e = tape_drive_open(path, true, create ? capacity_bytes : 0, &d, err);
	if (e)
		return e;
	e = tape_volume_format(d, size_bytes, force, err);
	d->ops->close(d);
	return e;
}

int hither_tape_info(const char *path, bool reindex, struct hither_tape_info *out,
                     struct hither_error *err)
{
	struct tape_volume *v;
	int e = open_volume(path, false, reindex, &v, err);
	if (e)
		return e;
	describe(v, out);
	return tape_volume_close(v, err);
}

int hither_tape_checkpoint(const char *path, bool reindex, struct hither_tape_info *out,
                           struct hither_error *err)
{
	struct tape_volume *v;
	int e = open_volume(path, true, reindex, &v, err);
	if (e)
		return e;
	if (v->unexplained)
		e = hither_fail(err, -EIO,
		                "tape: %llu unreadable records had unknown blocks; "
		                "tapisk compact saves the rest",
		                (unsigned long long)v->unexplained);
	else
		e = tape_volume_checkpoint(v, err);
	describe(v, out);
	int closed = tape_volume_close(v, e ? NULL : err);
	return e ? e : closed;
}

int hither_tape_verify(const char *path, const struct hither_tape_progress *progress,
                       struct hither_tape_info *out, struct hither_error *err)
{
	struct tape_volume *v;
	int e = open_volume(path, false, false, &v, err);
	if (e)
		return e;
	describe(v, out);
	out->damaged = 0;
	for (uint64_t n = 0; n < v->end; n++) {
		struct tape_record r;
		size_t len;
		e = v->drive->ops->locate(v->drive, n, err);
		if (e)
			break;
		e = v->drive->ops->read(v->drive, v->buf, TAPE_RECORD_BYTES, &len, NULL);
		if (e || tape_record_parse(v->buf, len, &r) || memcmp(r.id, v->id, sizeof v->id))
			out->damaged++;
		e = 0;
		tell(progress, n + 1, v->end);
	}
	out->drive_ns = v->drive->busy_ns;
	if (!e && out->damaged)
		e = hither_fail(err, -EIO, "tape: %s: %llu of %llu records are damaged", path,
		                (unsigned long long)out->damaged, (unsigned long long)v->end);
	tape_volume_close(v, NULL);
	return e;
}

/* One block at a time, where a window as a whole could not be read. */
static int copy_singly(struct tape_volume *from, struct tape_volume *to, uint64_t block,
                       uint64_t count, uint8_t *buf, uint64_t *lost, struct hither_error *err)
{
	int e = 0;
	for (uint64_t b = block; b < block + count && !e; b++) {
		uint64_t offset = b * TAPE_BLOCK_BYTES;
		e = tape_volume_read(from, buf, TAPE_BLOCK_BYTES, offset, err);
		if (e == -EIO) {
			*lost += TAPE_BLOCK_BYTES; /* and stays so: not zeros on the new tape */
			e = tape_index_set(&to->index, b, 0, TAPE_INDEX_LOST);
			continue;
		}
		if (!e)
			e = tape_volume_write(to, buf, TAPE_BLOCK_BYTES, offset, err);
	}
	return e;
}

/* What is in use of blocks [at, end). */
static int copy_runs(struct tape_volume *from, struct tape_volume *to, uint64_t at, uint64_t end,
                     uint8_t *buf, uint64_t *lost, struct hither_error *err)
{
	uint64_t block = at, first = at;
	struct tape_run run;
	int e = tape_volume_read(from, buf, (end - at) * TAPE_BLOCK_BYTES, at * TAPE_BLOCK_BYTES,
	                         NULL);
	bool whole = !e;
	e = 0;
	while (!e && block < end && tape_index_run(&from->index, &block, &run) && run.block < end) {
		if (run.block + run.count > end)
			run.count = (uint32_t)(end - run.block);
		e = whole ? tape_volume_write(to, buf + (run.block - first) * TAPE_BLOCK_BYTES,
		                              (size_t)run.count * TAPE_BLOCK_BYTES,
		                              run.block * TAPE_BLOCK_BYTES, err)
		          : copy_singly(from, to, run.block, run.count, buf, lost, err);
	}
	return e;
}

static int copy(struct tape_volume *from, struct tape_volume *to,
                const struct hither_tape_progress *progress, uint64_t *lost,
                struct hither_error *err)
{
	HITHER_FREE uint8_t *buf = malloc(WINDOW_BYTES);
	if (!buf)
		return hither_fail(err, -ENOMEM, "tape: no memory to copy");
	uint64_t total = from->index.block_count, step = WINDOW_BYTES / TAPE_BLOCK_BYTES;
	for (uint64_t at = 0; at < total; at += step) {
		uint64_t end = total - at < step ? total : at + step;
		int e = copy_runs(from, to, at, end, buf, lost, err);
		if (e)
			return e;
		tell(progress, end, total);
	}
	return tape_volume_checkpoint(to, err);
}

int hither_tape_compact(const char *from, const char *to, bool force,
                        const struct hither_tape_progress *progress, uint64_t *lost_bytes,
                        struct hither_error *err)
{
	struct tape_volume *source, *target;
	*lost_bytes = 0;
	int e = open_volume(from, false, false, &source, err);
	if (e)
		return e;
	uint64_t capacity = source->drive->capacity_bytes; /* a drive does not tell */
	e = hither_tape_format(to, source->size_bytes,
	                       capacity ? capacity : tape_model_lto9.capacity_bytes, force, err);
	if (!e)
		e = open_volume(to, true, false, &target, err);
	if (!e) {
		e = copy(source, target, progress, lost_bytes, err);
		int closed = tape_volume_close(target, e ? NULL : err);
		e = e ? e : closed;
	}
	tape_volume_close(source, NULL);
	return e;
}
