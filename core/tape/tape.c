/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "tape/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/tape.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* What compaction collects in memory before it writes: at most so much, and a quarter of what there
 * is, so that most tapes are read in a few passes. */
#define WINDOW_BYTES (UINT64_C(1) << 30)
enum { LEAST_BYTES = 64 << 20 };

static void tell(const struct hither_tape_progress *p, uint64_t done, uint64_t total)
{
	if (p && p->at)
		p->at(p->user, done, total);
}

static int open_volume(const char *path, bool writable, bool scan,
                       const struct hither_tape_progress *progress, struct tape_volume **out,
                       struct hither_error *err)
{
	struct tape_drive *d;
	int e = tape_drive_open(path, writable, 0, &d, err);
	return e ? e : tape_volume_open_told(d, scan, progress, out, err);
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

/* No tape file is there yet; an empty file, as power loss may leave one, is in the way of none. */
static bool must_be_made(const char *path)
{
	struct stat st;
	if (stat(path, &st))
		return errno == ENOENT;
	return S_ISREG(st.st_mode) && !st.st_size && !unlink(path);
}

int hither_tape_format(const char *path, uint64_t size_bytes, uint64_t capacity_bytes, bool force,
                       struct hither_error *err)
{
	struct tape_drive *d;
	if (!size_bytes || size_bytes % TAPE_BLOCK_BYTES || size_bytes > INT64_MAX / 8)
		return hither_fail(err, -EINVAL,
		                   "tape: a size is a multiple of %d bytes, up to 1 EiB",
		                   TAPE_BLOCK_BYTES);
	bool create = must_be_made(path);
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
	int e = open_volume(path, false, reindex, NULL, &v, err);
	if (e)
		return e;
	describe(v, out);
	return tape_volume_close(v, err);
}

int hither_tape_checkpoint(const char *path, bool reindex,
                           const struct hither_tape_progress *progress,
                           struct hither_tape_info *out, struct hither_error *err)
{
	struct tape_volume *v;
	int e = open_volume(path, true, reindex, progress, &v, err);
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
	int e = open_volume(path, false, false, NULL, &v, err);
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
		if (e || tape_record_parse(v->buf, len, &r) || memcmp(r.id, v->id, sizeof v->id) ||
		    r.sequence != n)
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

/* --- compaction --- */

struct compaction {
	struct tape_volume *from, *to;
	const struct hither_tape_progress *progress;
	uint64_t done, total; /* blocks read and blocks written */
	uint64_t block;       /* where the next window begins */
	size_t count, room;   /* of the window, blocks */
	struct tape_want *wants;
	uint8_t *buf;
};

static size_t window_blocks(const struct tape_volume *v)
{
	uint64_t most = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 4;
	if (most > WINDOW_BYTES)
		most = WINDOW_BYTES;
	if (most < LEAST_BYTES)
		most = LEAST_BYTES;
	most /= TAPE_BLOCK_BYTES;
	return v->index.live < most ? v->index.live + 1 : most;
}

/* The next blocks that are in use. */
static void collect(struct compaction *c)
{
	struct tape_run run;
	c->count = 0;
	while (c->count < c->room && tape_index_run(&c->from->index, &c->block, &run)) {
		uint32_t k = 0;
		for (; k < run.count && c->count < c->room; k++, c->count++)
			c->wants[c->count] =
			        (struct tape_want){.block = run.block + k,
			                           .place = run.place + (run.lost ? 0 : k),
			                           .at = (uint32_t)c->count,
			                           .lost = run.lost};
		c->block = run.block + k;
	}
}

static void one_done(void *user, size_t done)
{
	struct compaction *c = user;
	if (++c->done % 1024 == 0 || c->done == c->total)
		tell(c->progress, c->done, c->total);
}

static int by_block(const void *a, const void *b)
{
	const struct tape_want *x = a, *y = b;
	return x->block < y->block ? -1 : x->block > y->block;
}

static int copy_window(struct compaction *c, uint64_t *lost, struct hither_error *err)
{
	int e = tape_volume_fetch(c->from, c->wants, c->count, c->buf, true, one_done, c, err);
	qsort(c->wants, c->count, sizeof *c->wants, by_block);
	for (size_t i = 0; i < c->count && !e; i++, one_done(c, i)) {
		const struct tape_want *w = &c->wants[i];
		struct tape_run gone = {.block = w->block, .count = 1, .lost = true};
		if (!w->lost) {
			e = tape_volume_write(c->to, c->buf + (size_t)w->at * TAPE_BLOCK_BYTES,
			                      TAPE_BLOCK_BYTES, w->block * TAPE_BLOCK_BYTES, err);
			continue;
		}
		*lost += TAPE_BLOCK_BYTES; /* and stays so: not zeros on the new tape */
		if (tape_index_put(&c->to->index, &gone))
			e = hither_fail(err, -ENOMEM, "tape: no memory for the index");
	}
	return e;
}

static int copy(struct tape_volume *from, struct tape_volume *to,
                const struct hither_tape_progress *progress, uint64_t *lost,
                struct hither_error *err)
{
	size_t room = window_blocks(from);
	HITHER_FREE uint8_t *buf = malloc(room * TAPE_BLOCK_BYTES);
	HITHER_FREE struct tape_want *wants = malloc(room * sizeof *wants);
	struct compaction c = {.from = from,
	                       .to = to,
	                       .progress = progress,
	                       .total = 2 * from->index.live,
	                       .room = room,
	                       .wants = wants,
	                       .buf = buf};
	if (!buf || !wants)
		return hither_fail(err, -ENOMEM, "tape: no memory to copy");
	for (collect(&c); c.count; collect(&c)) {
		int e = copy_window(&c, lost, err);
		if (e)
			return e;
	}
	to->ending = true;
	return tape_volume_checkpoint(to, err);
}

int tape_volume_compact(struct tape_volume *source, const char *to, bool force,
                        const struct hither_tape_progress *progress, uint64_t *lost_bytes,
                        uint64_t *target_ns, struct hither_error *err)
{
	struct tape_volume *target;
	struct tape_drive *d;
	uint64_t capacity = source->drive->capacity_bytes; /* a drive does not tell */
	if (!capacity)
		capacity = tape_model_lto9.capacity_bytes;
	bool create = must_be_made(to);
	*lost_bytes = 0;
	int e = tape_drive_open(to, true, create ? capacity : 0, &d, err);
	if (!e)
		e = tape_volume_create(d, source->size_bytes, force, true, &target, err);
	if (e)
		return e;
	e = copy(source, target, progress, lost_bytes, err);
	*target_ns = target->drive->busy_ns;
	int closed = tape_volume_close(target, e ? NULL : err);
	return e ? e : closed;
}

/* Devices of st differ in their modes only: minor is drive & 31, modes in bits 5, 6 and 7. */
static bool same_tape(const char *a, const char *b)
{
	enum { ST_MODES = 0xe0 };
	struct stat x, y;
	if (stat(a, &x) || stat(b, &y))
		return false;
	if (S_ISCHR(x.st_mode) && S_ISCHR(y.st_mode))
		return major(x.st_rdev) == major(y.st_rdev) &&
		       (minor(x.st_rdev) & ~(unsigned)ST_MODES) ==
		               (minor(y.st_rdev) & ~(unsigned)ST_MODES);
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int hither_tape_compact(const char *from, const char *to, bool force,
                        const struct hither_tape_progress *progress, uint64_t *lost_bytes,
                        struct hither_error *err)
{
	struct tape_volume *source;
	uint64_t ns;
	*lost_bytes = 0;
	if (same_tape(from, to))
		return hither_fail(err, -EINVAL,
		                   "tape: %s and %s are the same tape: a copy needs another", from,
		                   to);
	int e = open_volume(from, false, false, NULL, &source, err);
	if (e)
		return e;
	e = tape_volume_compact(source, to, force, progress, lost_bytes, &ns, err);
	tape_volume_close(source, NULL);
	return e;
}
