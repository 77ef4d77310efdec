/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tape:PATH, a volume on a tape drive (/dev/nst0) or in a tape file. Many may ask at a time: who
 * has the drive next is decided by what the seek costs (tape/gate.h).
 */
#include "backend/tape.h"
#include "backend/registry.h"
#include "backend/url.h"
#include "base/cleanup.h"
#include "tape/gate.h"
#include "tape/volume.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION_BEGINS "tape-"

enum {
	VERSION_NAME_BYTES = sizeof VERSION_BEGINS - 1 + 2 * 16, /* and the tape's id */
	WAITING_MOST = 64,
	REQUEST_BYTES = 16 << 20,
	LAYOUT_MOST = 4 << 20, /* runs; where there are more, the gate's order has to do */
};

struct tape_backend {
	struct hither_backend base;
	struct tape_gate gate;
	struct tape_volume *volume; /* whoever went through the gate; but its index: any thread */
	_Atomic uint64_t end;       /* record that is written next */
	atomic_bool cancelled;
};

static struct tape_backend *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct tape_backend, base);
}

/* About where on the medium a record is: all are nearly full. */
static uint64_t byte_of(uint64_t record)
{
	return record * TAPE_RECORD_BYTES;
}

static uint64_t byte_of_drive(const struct tape_backend *t)
{
	/* Not known after an error: as if at the beginning. */
	uint64_t at = t->volume->drive->record;
	return at == UINT64_MAX ? 0 : byte_of(at);
}

static int is_cancelled(struct tape_backend *t, struct hither_error *err)
{
	return atomic_load(&t->cancelled) ? hither_fail(err, -ECANCELED, "tape: cancelled") : 0;
}

static int enter(struct tape_backend *t, struct tape_waiter *w, uint64_t record,
                 struct hither_error *err)
{
	tape_gate_enter(&t->gate, w, byte_of(record));
	return is_cancelled(t, err);
}

/* For what is done in memory. */
static int enter_here(struct tape_backend *t, struct tape_waiter *w, struct hither_error *err)
{
	tape_gate_enter_anywhere(&t->gate, w);
	return is_cancelled(t, err);
}

static void leave(struct tape_backend *t)
{
	atomic_store(&t->end, t->volume->end);
	tape_gate_leave(&t->gate, byte_of_drive(t));
}

/* The first block of a range that is on the tape is in which record? False: all are holes. */
static bool first_record(struct tape_backend *t, uint64_t offset, uint64_t len, uint64_t *record)
{
	uint64_t block = offset / TAPE_BLOCK_BYTES,
	         end = (offset + len + TAPE_BLOCK_BYTES - 1) / TAPE_BLOCK_BYTES;
	struct tape_run run;
	if (!tape_index_run(&t->volume->index, &block, &run) || run.block >= end)
		return false;
	*record = tape_record_of(run.place);
	return true;
}

/*
 * Who asks for neighbours gets them one after another, whoever came between: the gate takes them in
 * the tape's order, where going on costs nothing, and a record that both need is read once.
 */
static int tape_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	struct tape_backend *t = self(b);
	struct tape_waiter w;
	uint64_t record;
	HITHER_FREE uint8_t *buf = calloc(1, len ? len : 1);
	if (!buf)
		return hither_fail(err, -ENOMEM, "tape: no memory to read");
	if (!first_record(t, offset, len, &record))
		return sink->take(sink, buf, len); /* the drive is not needed */
	int r = tape_volume_in_memory(t->volume, record) ? enter_here(t, &w, err)
	                                                 : enter(t, &w, record, err);
	if (!r)
		r = tape_volume_read(t->volume, buf, len, offset, err);
	leave(t);
	return r ? r : sink->take(sink, buf, len);
}

/* Its place in the line is at the end of the log, where what it fills will go. */
static int tape_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                         struct hither_error *err)
{
	struct tape_backend *t = self(b);
	struct tape_waiter w;
	int r = enter(t, &w, atomic_load(&t->end), err);
	if (!r)
		r = tape_volume_write(t->volume, buf, len, offset, err);
	leave(t);
	return r;
}

static int tape_flush(struct hither_backend *b, struct hither_error *err)
{
	struct tape_backend *t = self(b);
	struct tape_waiter w;
	int r = enter(t, &w, atomic_load(&t->end), err);
	if (!r)
		r = tape_volume_flush(t->volume, err);
	leave(t);
	return r;
}

/* What was written last tells one state of the tape from another. */
static int tape_version(struct hither_backend *b, char *version, size_t size,
                        struct hither_error *err)
{
	struct tape_backend *t = self(b);
	struct tape_waiter w;
	char id[2 * sizeof t->volume->id + 1];
	int r = enter_here(t, &w, err);
	for (size_t i = 0; i < sizeof t->volume->id; i++)
		snprintf(id + 2 * i, 3, "%02x", t->volume->id[i]);
	snprintf(version, size, VERSION_BEGINS "%s-%llu", id,
	         (unsigned long long)t->volume->previous);
	leave(t);
	return r;
}

static uint64_t tape_extent(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole)
{
	uint64_t block = offset / TAPE_BLOCK_BYTES, in = offset % TAPE_BLOCK_BYTES;
	uint64_t blocks = (in + max + TAPE_BLOCK_BYTES - 1) / TAPE_BLOCK_BYTES;
	uint64_t run =
	        tape_index_extent(&self(b)->volume->index, block, blocks, hole) * TAPE_BLOCK_BYTES -
	        in;
	return run < max ? run : max;
}

/* A record is read as a whole in any case. */
static void tape_whole(struct hither_backend *b, uint64_t *offset, uint64_t *end)
{
	struct tape_index *x = &self(b)->volume->index;
	uint64_t first = *offset / TAPE_BLOCK_BYTES, last = (*end - 1) / TAPE_BLOCK_BYTES;
	struct tape_run run, before;
	if (tape_index_get(x, first, &run) && !run.lost) {
		uint64_t back = run.place % TAPE_RECORD_BLOCKS;
		if (back && back <= first && tape_index_get(x, first - back, &before) &&
		    before.place + back == run.place && before.count > back)
			*offset = (first - back) * TAPE_BLOCK_BYTES;
	}
	if (tape_index_get(x, last, &run) && !run.lost) {
		uint64_t more = TAPE_RECORD_BLOCKS - 1 - run.place % TAPE_RECORD_BLOCKS;
		*end = (last + 1 + (more < run.count ? more : run.count - 1)) * TAPE_BLOCK_BYTES;
	}
}

static int by_place(const void *a, const void *b)
{
	const struct tape_run *x = a, *y = b;
	return x->place < y->place ? -1 : x->place > y->place;
}

/* In the tape's order: what a mount brings when nobody waits then never seeks. */
static int tape_layout(struct hither_backend *b, struct hither_range **ranges, size_t *count)
{
	struct tape_index *x = &self(b)->volume->index;
	struct tape_run run;
	uint64_t block = 0;
	size_t n = 0, i = 0;
	while (tape_index_run(x, &block, &run))
		n++;
	if (n > LAYOUT_MOST)
		return -E2BIG;
	HITHER_FREE struct tape_run *runs = malloc((n + 1) * sizeof *runs);
	HITHER_FREE struct hither_range *list = malloc((n + 1) * sizeof *list);
	if (!runs || !list)
		return -ENOMEM;
	for (block = 0; i < n && tape_index_run(x, &block, &runs[i]);)
		i += !runs[i].lost;
	qsort(runs, i, sizeof *runs, by_place);
	for (n = 0; n < i; n++)
		list[n] = (struct hither_range){runs[n].block * TAPE_BLOCK_BYTES,
		                                (uint64_t)runs[n].count * TAPE_BLOCK_BYTES};
	*count = n;
	*ranges = HITHER_TAKE(list, NULL);
	return 0;
}

static void tape_cancel(struct hither_backend *b)
{
	atomic_store(&self(b)->cancelled, true);
}

static void tape_close(struct hither_backend *b)
{
	struct tape_backend *t = self(b);
	if (t->volume)
		tape_volume_close(t->volume, NULL); /* a flush before has told what failed */
	tape_gate_finish(&t->gate);
	free(t);
}

int tape_backend_over(struct tape_drive *drive, const char *name, bool writable,
                      struct hither_backend **out, struct hither_error *err)
{
	struct tape_backend *t = calloc(1, sizeof *t);
	if (!t) {
		drive->ops->close(drive);
		return hither_fail(err, -ENOMEM, "tape: no memory to open %s", name);
	}
	tape_gate_init(&t->gate);
	int r = tape_volume_open(drive, false, &t->volume, err);
	if (!r)
		t->gate.at = byte_of_drive(t);
	if (!r && t->volume->unexplained)
		r = hither_fail(err, -EIO,
		                "tape: %s: %llu records cannot be read, and which blocks they had "
		                "is not known; tapisk compact saves the rest to another tape",
		                name, (unsigned long long)t->volume->unexplained);
	if (r) {
		tape_close(&t->base);
		return r;
	}
	t->base = (struct hither_backend){
	        .ops = &hither_backend_tape,
	        .size_bytes = t->volume->size_bytes,
	        .flags = HITHER_BACKEND_ORDERED | HITHER_BACKEND_SPARSE |
	                 (writable ? HITHER_BACKEND_WRITABLE : 0),
	        .align_bytes = TAPE_BLOCK_BYTES,
	        .parallel = WAITING_MOST,
	        .max_request_bytes = REQUEST_BYTES,
	        .version_name_bytes = VERSION_NAME_BYTES,
	};
	atomic_store(&t->end, t->volume->end);
	*out = &t->base;
	return 0;
}

static int tape_open(const char *url, const struct hither_backend_options *options,
                     struct hither_backend **out, struct hither_error *err)
{
	char path[PATH_MAX];
	struct tape_drive *drive;
	int r = hither_url_path(url, false, path, sizeof path);
	if (r)
		return hither_fail(err, r, "tape: the URL has no usable path; write tape:PATH");
	r = tape_drive_open(path, options->writable, 0, &drive, err);
	return r ? r : tape_backend_over(drive, path, options->writable, out, err);
}

static const char *const tape_schemes[] = {"tape", NULL};

const struct hither_backend_ops hither_backend_tape = {
        .name = "tape",
        .schemes = tape_schemes,
        .open = tape_open,
        .read = tape_read,
        .write_at = tape_write_at,
        .flush = tape_flush,
        .version = tape_version,
        .extent = tape_extent,
        .whole = tape_whole,
        .layout = tape_layout,
        .cancel = tape_cancel,
        .close = tape_close,
};
