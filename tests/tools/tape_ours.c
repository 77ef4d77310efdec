/* SPDX-License-Identifier: Apache-2.0 */
/* A file system's life on tapisk. */
#include "backend/tape.h"
#include "check.h"
#include "chunk/store.h"
#include "tape_life.h"

#include <hither/mount.h>
#include <hither/tape.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Ours: the volume itself, behind a cache as `tapisk mount` is one. A flush is answered by the
 * cache's disk (--sync=local), or, for `remote`, when what is dirty was pushed in block order and
 * the drive synced; unmounting pushes. A cold mount brings at once all that the tape has, in its
 * order; who reads finds it there or waits a little.
 */
struct ours {
	struct keeper k;
	struct tape_volume *v;
	uint64_t before_ns;
	uint8_t *dirty; /* a byte a block: CLEAN, WRITTEN, ZEROS */
	bool remote, swept;
	uint64_t origin;
	char *buf, *zeros;
};
enum { PIECE_BLOCKS = 256 };
enum { CLEAN, WRITTEN, ZEROS };

static struct ours *ours_of(struct keeper *k)
{
	return (struct ours *)k;
}

static uint64_t ours_ns(const struct keeper *k)
{
	const struct ours *o = (const struct ours *)k;
	return o->before_ns + o->v->drive->busy_ns;
}

static void ours_write(struct keeper *k, uint64_t block, uint64_t count)
{
	memset(ours_of(k)->dirty + block, WRITTEN, count);
}

static void ours_discard(struct keeper *k, uint64_t block, uint64_t count)
{
	memset(ours_of(k)->dirty + block, ZEROS, count);
}

static void push(struct ours *o)
{
	for (uint64_t b = 0; b < VOLUME_BLOCKS;) {
		uint64_t n = 0;
		uint8_t kind = o->dirty[b];
		while (b + n < VOLUME_BLOCKS && n < PIECE_BLOCKS && o->dirty[b + n] == kind)
			o->dirty[b + n++] = CLEAN;
		if (kind)
			CHECK_OK(tape_volume_write(o->v, kind == ZEROS ? o->zeros : o->buf,
			                           n * BLOCK, b * BLOCK, &err));
		b += n;
	}
	CHECK_OK(tape_volume_flush(o->v, &err));
}

static void ours_flush(struct keeper *k)
{
	if (ours_of(k)->remote)
		push(ours_of(k));
}

static void ours_unmount(struct keeper *k)
{
	push(ours_of(k));
	CHECK_OK(tape_volume_finish(ours_of(k)->v, &err));
	CHECK_OK(tape_volume_flush(ours_of(k)->v, &err));
}

/* Unmount, drop the cache, mount; the tape stays where it is. */
static void mount_again(struct ours *o)
{
	struct tape_drive *d;
	ours_unmount(&o->k);
	uint64_t at = o->v->drive->record;
	o->before_ns += o->v->drive->busy_ns;
	CHECK_OK(tape_volume_close(o->v, &err));
	CHECK_OK(tape_drive_open(path, true, 0, &d, &err));
	d->record = at;
	d->origin_bytes = o->origin;
	CHECK_OK(tape_volume_open(d, false, &o->v, &err));
	o->swept = false;
}

static void ours_cold(struct keeper *k)
{
	mount_again(ours_of(k));
}

static int run_by_place(const void *a, const void *b)
{
	const struct tape_run *x = a, *y = b;
	return x->place < y->place ? -1 : x->place > y->place;
}

static void sweep(struct ours *o)
{
	struct tape_run *runs = calloc(VOLUME_BLOCKS, sizeof *runs);
	uint64_t block = 0;
	size_t count = 0;
	while (tape_index_run(&o->v->index, &block, &runs[count]))
		count++;
	qsort(runs, count, sizeof *runs, run_by_place);
	for (size_t i = 0; i < count; i++)
		for (uint64_t at = 0; at < runs[i].count; at += PIECE_BLOCKS) {
			uint64_t n = runs[i].count - at;
			n = n < PIECE_BLOCKS ? n : PIECE_BLOCKS;
			CHECK_OK(tape_volume_read(o->v, o->buf, n * BLOCK,
			                          (runs[i].block + at) * BLOCK, &err));
		}
	free(runs);
	o->swept = true;
}

static void ours_read(struct keeper *k, uint64_t block, uint64_t count)
{
	if (!ours_of(k)->swept)
		sweep(ours_of(k));
}

/* tapisk compact; both drives' time counts. */
static void ours_compact(struct keeper *k)
{
	struct ours *o = ours_of(k);
	char to[PATH_MAX + 8];
	uint64_t lost, ns;
	mount_again(o);
	snprintf(to, sizeof to, "%s.2", path);
	unlink(to);
	CHECK_OK(tape_volume_compact(o->v, to, false, NULL, &lost, &ns, &err));
	CHECK_EQ(lost, 0);
	o->before_ns += ns;
	unlink(to);
}

void live_ours(const char *name, const char *folder, bool remote, uint64_t origin)
{
	struct ours ours = {.k = {ours_write, ours_discard, ours_flush, ours_cold, ours_read,
	                          ours_compact, ours_unmount, ours_ns},
	                    .v = make(folder, (uint64_t)VOLUME_BLOCKS * BLOCK),
	                    .dirty = calloc(1, VOLUME_BLOCKS),
	                    .remote = remote,
	                    .origin = origin,
	                    .buf = malloc((size_t)PIECE_BLOCKS * BLOCK),
	                    .zeros = calloc(PIECE_BLOCKS, BLOCK)};
	memset(ours.buf, 1, (size_t)PIECE_BLOCKS * BLOCK);
	ours.v->drive->origin_bytes = origin;
	live(name, &ours.k, origin);
	CHECK_OK(tape_volume_close(ours.v, &err));
	unlink(path);
	free(ours.dirty);
	free(ours.buf);
	free(ours.zeros);
}

/* --- by a managed mount --- */

/* A drive that stays, with its tape where it is, when who uses it closes it. */
struct stay {
	struct tape_drive base;
	struct tape_drive *inner;
	uint64_t *ns, *at;
};

static struct stay *stay_of(struct tape_drive *d)
{
	return (struct stay *)d;
}

/* What a call of the drive inside has changed. */
static int told(struct tape_drive *d, int r)
{
	d->record = stay_of(d)->inner->record;
	d->busy_ns = stay_of(d)->inner->busy_ns;
	return r;
}

static int stay_read(struct tape_drive *d, void *buf, size_t size, size_t *len,
                     struct hither_error *e)
{
	struct tape_drive *in = stay_of(d)->inner;
	return told(d, in->ops->read(in, buf, size, len, e));
}

static int stay_write(struct tape_drive *d, const void *buf, size_t len, bool *early,
                      struct hither_error *e)
{
	struct tape_drive *in = stay_of(d)->inner;
	return told(d, in->ops->write(in, buf, len, early, e));
}

static int stay_sync(struct tape_drive *d, struct hither_error *e)
{
	struct tape_drive *in = stay_of(d)->inner;
	return told(d, in->ops->sync(in, e));
}

static int stay_locate(struct tape_drive *d, uint64_t record, struct hither_error *e)
{
	struct tape_drive *in = stay_of(d)->inner;
	return told(d, in->ops->locate(in, record, e));
}

static int stay_locate_end(struct tape_drive *d, uint64_t *record, struct hither_error *e)
{
	struct tape_drive *in = stay_of(d)->inner;
	return told(d, in->ops->locate_end(in, record, e));
}

static void stay_close(struct tape_drive *d)
{
	struct stay *s = stay_of(d);
	*s->ns += s->inner->busy_ns;
	*s->at = s->inner->record;
	s->inner->ops->close(s->inner);
	free(s);
}

static const struct tape_drive_ops stay_ops = {stay_read,   stay_write,      stay_sync,
                                               stay_locate, stay_locate_end, stay_close};

struct mounted {
	struct keeper k;
	struct hither_mount *m;
	struct tape_drive *drive; /* while it is mounted */
	uint64_t ns, at;          /* of the uses before */
	uint64_t origin;
	char cache[PATH_MAX];
	uint64_t *buf;
};
#define MOUNT_NAME "tape:life"

static struct mounted *mounted_of(struct keeper *k)
{
	return (struct mounted *)k;
}

static struct tape_drive *stay_open(struct mounted *o)
{
	struct stay *s = calloc(1, sizeof *s);
	CHECK_OK(tape_drive_open(path, true, 0, &s->inner, &err));
	s->inner->record = o->at;
	s->inner->origin_bytes = o->origin;
	s->ns = &o->ns;
	s->at = &o->at;
	s->base = *s->inner;
	s->base.ops = &stay_ops;
	return o->drive = &s->base;
}

static void open_mount(struct mounted *o)
{
	const struct hither_mount_options options = {.sync = HITHER_SYNC_LOCAL,
	                                             .cache_dir = o->cache,
	                                             .push_interval_ms = 3600 * 1000,
	                                             .push_dirty_bytes = 1 << 30};
	struct hither_backend *b;
	CHECK_OK(tape_backend_over(stay_open(o), path, true, &b, &err));
	CHECK_OK(hither_mount_backend(b, MOUNT_NAME, &options, &o->m, &err));
}

static void close_mount(struct mounted *o)
{
	CHECK_OK(hither_mount_close(o->m, &err));
	o->m = NULL;
	o->drive = NULL;
}

/* Between two calls nobody has the drive, but for what the background brings. */
static uint64_t mounted_ns(const struct keeper *k)
{
	const struct mounted *o = (const struct mounted *)k;
	return o->ns + (o->drive ? o->drive->busy_ns : 0);
}

static void mounted_write(struct keeper *k, uint64_t block, uint64_t count)
{
	struct mounted *o = mounted_of(k);
	for (uint64_t done = 0, n; done < count; done += n) {
		n = count - done < PIECE_BLOCKS ? count - done : PIECE_BLOCKS;
		for (uint64_t i = 0; i < n * BLOCK / 8; i++)
			o->buf[i] = block + done + i * 8 / BLOCK + 1;
		CHECK_OK(hither_mount_write_at(o->m, o->buf, n * BLOCK, (block + done) * BLOCK,
		                               &err));
	}
}

static void discarded(struct hither_io *io, int result, const struct hither_error *e)
{
	CHECK_EQ(result, 0);
}

static void mounted_discard(struct keeper *k, uint64_t block, uint64_t count)
{
	struct hither_io io = {.op = HITHER_IO_DISCARD,
	                       .offset = block * BLOCK,
	                       .len = count * BLOCK,
	                       .done = discarded};
	hither_mount_submit(mounted_of(k)->m, &io);
}

static void mounted_flush(struct keeper *k)
{
	CHECK_OK(hither_mount_flush(mounted_of(k)->m, &err));
}

static void mounted_unmount(struct keeper *k)
{
	close_mount(mounted_of(k));
}

static void mounted_cold(struct keeper *k)
{
	struct mounted *o = mounted_of(k);
	close_mount(o);
	CHECK_OK(hither_store_delete(o->cache, MOUNT_NAME, false, &err));
	open_mount(o);
}

static void mounted_read(struct keeper *k, uint64_t block, uint64_t count)
{
	struct mounted *o = mounted_of(k);
	CHECK_OK(hither_mount_read_at(o->m, o->buf, count * BLOCK, block * BLOCK, &err));
	for (uint64_t i = 0; i < count; i++)
		CHECK_EQ(o->buf[i * BLOCK / 8], block + i + 1);
}

static void mounted_compact(struct keeper *k)
{
	struct mounted *o = mounted_of(k);
	struct tape_volume *v;
	char to[PATH_MAX + 8];
	uint64_t lost, ns;
	close_mount(o);
	CHECK_OK(tape_volume_open(stay_open(o), false, &v, &err));
	snprintf(to, sizeof to, "%s.2", path);
	unlink(to);
	CHECK_OK(tape_volume_compact(v, to, false, NULL, &lost, &ns, &err));
	CHECK_EQ(lost, 0);
	CHECK_OK(tape_volume_close(v, &err));
	o->drive = NULL;
	o->ns += ns;
	unlink(to);
}

void live_mounted(const char *name, const char *folder, uint64_t origin)
{
	struct mounted o = {.k = {mounted_write, mounted_discard, mounted_flush, mounted_cold,
	                          mounted_read, mounted_compact, mounted_unmount, mounted_ns},
	                    .origin = origin,
	                    .buf = malloc((size_t)PIECE_BLOCKS * BLOCK)};
	snprintf(o.cache, sizeof o.cache, "%s/cache", folder);
	CHECK_OK(tape_volume_close(make(folder, (uint64_t)VOLUME_BLOCKS * BLOCK), &err));
	open_mount(&o);
	live(name, &o.k, origin);
	hither_store_delete(o.cache, MOUNT_NAME, true, NULL);
	unlink(path);
	free(o.buf);
}
