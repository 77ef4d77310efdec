/* SPDX-License-Identifier: Apache-2.0 */
/* A file system's life on a tape: ours, and others' designs on the same model. */
#include "check.h"
#include "tape_load.h"

#include <hither/tape.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * 20,000 files of 12 KiB in 1,000 folders on a file system like ext4: a block of inodes has 16
 * files, a folder's block its 20; both lie in front of the data. An untar makes them in order;
 * every 2,500 files (5 s) a journal commit writes the data, then the journal, and flushes. At the
 * end metadata go to their places. Then all is read back cold, folder after folder: in the order of
 * the archive, or (`named`) in another, as where tar found the folders in the order of their hashes
 * and the reader takes them by name. Then every second file is deleted (one commit), then the tape
 * is compacted (or, where that cannot be done, read and written anew). Nobody rewinds between: the
 * drive goes on from where it was.
 *
 * `half`: on a tape half full of other things, in the middle of its length, from where a locate to
 * the beginning takes the average time; it begins mounted, and is unmounted at the end instead of
 * being compacted.
 */
enum {
	FILES = 20000,
	FILE_BLOCKS = 3,
	COMMIT_FILES = 2500,
	INODES = 16,
	FOLDER_FILES = 20,
	JOURNAL = 16384, /* blocks: 64 MiB */
	INODE_BLOCKS = FILES / INODES,
	FOLDERS = FILES / FOLDER_FILES,
	INODE_AT = JOURNAL,
	FOLDER_AT = INODE_AT + INODE_BLOCKS,
	DATA_AT = FOLDER_AT + FOLDERS,
	VOLUME_BLOCKS = DATA_AT + FILES * FILE_BLOCKS,
};

/* Whoever keeps blocks on a tape. */
struct keeper {
	void (*write)(struct keeper *k, uint64_t block, uint64_t count);
	void (*flush)(struct keeper *k);
	void (*cold)(struct keeper *k); /* every cache is dropped */
	void (*read)(struct keeper *k, uint64_t block, uint64_t count);
	void (*compact)(struct keeper *k);
	void (*unmount)(struct keeper *k);
	uint64_t (*ns)(const struct keeper *k);
};

static uint64_t journal_next;
static uint32_t read_order[FOLDERS]; /* folders */

static void shuffle_order(bool named)
{
	uint64_t random_state = 5;
	for (uint32_t i = 0; i < FOLDERS; i++)
		read_order[i] = i;
	for (uint32_t i = FOLDERS - 1; named && i > 0; i--) {
		random_state = random_state * 6364136223846793005u + 1442695040888963407u;
		uint32_t k = (uint32_t)((random_state >> 33) % (i + 1)), at = read_order[i];
		read_order[i] = read_order[k];
		read_order[k] = at;
	}
}

static void read_folder(struct keeper *k, uint32_t folder)
{
	k->read(k, FOLDER_AT + folder, 1);
	for (uint64_t f = folder * FOLDER_FILES; f < (folder + 1) * FOLDER_FILES; f++) {
		if (f % INODES == 0 || f % FOLDER_FILES == 0)
			k->read(k, INODE_AT + f / INODES, 1);
		k->read(k, DATA_AT + f * FILE_BLOCKS, FILE_BLOCKS);
	}
}

/* The metadata of files [first, end), every step'th, to the journal; `home`: to their places. */
static void metadata(struct keeper *k, uint64_t first, uint64_t end, bool home)
{
	uint64_t inodes = (end - 1) / INODES - first / INODES + 1,
	         folders = (end - 1) / FOLDER_FILES - first / FOLDER_FILES + 1;
	if (home) {
		k->write(k, INODE_AT + first / INODES, inodes);
		k->write(k, FOLDER_AT + first / FOLDER_FILES, folders);
		return;
	}
	uint64_t count = inodes + folders + 2;
	if (journal_next + count > JOURNAL)
		journal_next = 0;
	k->write(k, journal_next, count);
	journal_next += count;
}

static void live(const char *name, struct keeper *k, bool half)
{
	uint64_t begin = k->ns(k), phase = begin;
	char text[64];
	journal_next = 0;
	for (uint64_t f = 0; f < FILES; f += COMMIT_FILES) {
		k->write(k, DATA_AT + f * FILE_BLOCKS, COMMIT_FILES * FILE_BLOCKS);
		metadata(k, f, f + COMMIT_FILES, false);
		k->flush(k);
	}
	metadata(k, 0, FILES, true);
	k->flush(k);
	snprintf(text, sizeof text, "%s_untar", name);
	tell(text, k->ns(k) - phase);
	phase = k->ns(k);
	k->cold(k);
	for (uint32_t i = 0; i < FOLDERS; i++)
		read_folder(k, read_order[i]);
	snprintf(text, sizeof text, "%s_read", name);
	tell(text, k->ns(k) - phase);
	phase = k->ns(k);
	metadata(k, 0, FILES, false);
	k->flush(k);
	metadata(k, 0, FILES, true);
	k->flush(k);
	snprintf(text, sizeof text, "%s_delete", name);
	tell(text, k->ns(k) - phase);
	phase = k->ns(k);
	if (half)
		k->unmount(k);
	else
		k->compact(k);
	snprintf(text, sizeof text, "%s_compact", name);
	tell(text, k->ns(k) - phase);
	snprintf(text, sizeof text, "%s_all", name);
	tell(text, k->ns(k) - begin);
}

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
	uint8_t *dirty; /* a byte a block */
	bool remote, swept;
	uint64_t origin;
	char *buf;
};
enum { PIECE_BLOCKS = 256 };

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
	memset(ours_of(k)->dirty + block, 1, count);
}

static void push(struct ours *o)
{
	for (uint64_t b = 0; b < VOLUME_BLOCKS;) {
		uint64_t n = 0;
		while (b + n < VOLUME_BLOCKS && n < PIECE_BLOCKS && o->dirty[b + n])
			o->dirty[b + n++] = 0;
		if (n)
			CHECK_OK(tape_volume_write(o->v, o->buf, n * BLOCK, b * BLOCK, &err));
		b += n ? n : 1;
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

/* The others, on the model alone. */
struct bare {
	struct keeper k;
	uint64_t at, end, ns; /* bytes of the medium */
	bool stopped;
	uint64_t *place;       /* of each block */
	bool cached;           /* ltfs: the index is known */
	uint64_t record_bytes; /* reference: of a block */
	uint64_t index_bytes;  /* ltfs */
};

static struct bare *bare_of(struct keeper *k)
{
	return (struct bare *)k;
}

static uint64_t bare_ns(const struct keeper *k)
{
	return ((const struct bare *)k)->ns;
}

/* The others' best: what is ahead may be read over, however far, where that is quicker. */
static void bare_seek(struct bare *b, uint64_t to)
{
	uint64_t ns = tape_model_seek_ns(model, b->at, to);
	uint64_t over = to > b->at ? (to - b->at) * 10 / (model->rate_bytes / 100000000) : ns;
	if (over < ns) {
		b->ns += over + (b->stopped ? model->backhitch_ns : 0);
		b->stopped = false;
	} else if (ns) {
		b->ns += ns;
		b->stopped = false;
	}
	b->at = to;
}

static void bare_move(struct bare *b, uint64_t bytes)
{
	if (b->stopped)
		b->ns += model->backhitch_ns;
	b->stopped = false;
	b->ns += bytes * 10 / (model->rate_bytes / 100000000);
	b->at += bytes;
}

static void bare_flush(struct keeper *k)
{
	bare_of(k)->stopped = true;
}

/* The reference: each 4 KiB block is a record, as it comes; no cache but the kernel's. */
static void reference_write(struct keeper *k, uint64_t block, uint64_t count)
{
	struct bare *b = bare_of(k);
	bare_seek(b, b->end);
	for (uint64_t i = 0; i < count; i++)
		b->place[block + i] = b->end + i * b->record_bytes;
	bare_move(b, count * b->record_bytes);
	b->end = b->at;
}

static void reference_read(struct keeper *k, uint64_t block, uint64_t count)
{
	struct bare *b = bare_of(k);
	for (uint64_t i = 0; i < count; i++) {
		bare_seek(b, b->place[block + i]);
		bare_move(b, b->record_bytes);
	}
}

static void reference_compact(struct keeper *k)
{
	struct bare *b = bare_of(k);
	for (uint64_t block = 0; block < VOLUME_BLOCKS; block++)
		if (b->place[block])
			reference_read(k, block, 1);
	bare_move(b, VOLUME_BLOCKS * b->record_bytes); /* to the other tape */
}

static void bare_cold(struct keeper *k)
{
	bare_of(k)->cached = false;
}

/*
 * LTFS (format specification 2.4, and ltfs(8)): a file's data are records of their own; metadata
 * are an XML index, written behind the data at a sync (sync_type time@5: every 5 minutes, so not
 * within this untar, and the drive is taken not to stop in it) and at unmount, then to the index
 * partition too, and read from there at mount. So of the blocks above
 * only data are written and read; an entry takes about 1 KiB. The index partition is at the begin
 * of the tape.
 */
static void ltfs_write(struct keeper *k, uint64_t block, uint64_t count)
{
	if (block >= DATA_AT)
		reference_write(k, block, count);
}

static void ltfs_flush(struct keeper *k)
{
}

static void ltfs_index(struct bare *b)
{
	bare_seek(b, b->end);
	bare_move(b, b->index_bytes);
	b->end = b->at;
	bare_flush(&b->k);
	bare_seek(b, 0);
	bare_move(b, b->index_bytes);
	bare_flush(&b->k);
}

static void ltfs_unmount(struct keeper *k)
{
	ltfs_index(bare_of(k));
}

static void ltfs_cold(struct keeper *k)
{
	ltfs_unmount(k);
	bare_of(k)->cached = false;
}

static void ltfs_read(struct keeper *k, uint64_t block, uint64_t count)
{
	struct bare *b = bare_of(k);
	if (!b->cached) {
		bare_seek(b, 0);
		bare_move(b, b->index_bytes);
		b->cached = true;
	}
	if (block >= DATA_AT)
		reference_read(k, block, count);
}

/* It has no compaction: what is left is copied to another tape, file by file. */
static void ltfs_compact(struct keeper *k)
{
	struct bare *b = bare_of(k);
	ltfs_index(b); /* what the deletion left to write */
	for (uint64_t f = 0; f < FILES; f += 2)
		ltfs_read(k, DATA_AT + f * FILE_BLOCKS, FILE_BLOCKS);
	b->end = b->at;
	bare_move(b, FILES / 2 * FILE_BLOCKS * b->record_bytes);
	ltfs_index(b);
}

static void live_ours(const char *name, const char *folder, bool remote, uint64_t origin)
{
	struct ours ours = {.k = {ours_write, ours_flush, ours_cold, ours_read, ours_compact,
	                          ours_unmount, ours_ns},
	                    .v = make(folder, (uint64_t)VOLUME_BLOCKS * BLOCK),
	                    .dirty = calloc(1, VOLUME_BLOCKS),
	                    .remote = remote,
	                    .origin = origin,
	                    .buf = calloc(PIECE_BLOCKS, BLOCK)};
	ours.v->drive->origin_bytes = origin;
	live(name, &ours.k, origin);
	CHECK_OK(tape_volume_close(ours.v, &err));
	unlink(path);
	free(ours.dirty);
	free(ours.buf);
}

void life(const char *folder, bool named, bool half)
{
	uint64_t origin = half ? model->capacity_bytes / 2 + model->wrap_bytes / 2 : 0;
	shuffle_order(named);
	live_ours("ours", folder, false, origin);
	live_ours("remote", folder, true, origin);
	struct bare reference = {.k = {reference_write, bare_flush, bare_cold, reference_read,
	                               reference_compact, bare_flush, bare_ns},
	                         .place = calloc(VOLUME_BLOCKS, 8),
	                         .record_bytes = BLOCK,
	                         .at = origin,
	                         .end = origin + BLOCK};
	live("reference", &reference.k, half);
	struct bare ltfs = {.k = {ltfs_write, ltfs_flush, ltfs_cold, ltfs_read, ltfs_compact,
	                          ltfs_unmount, bare_ns},
	                    .place = calloc(VOLUME_BLOCKS, 8),
	                    .record_bytes = BLOCK,
	                    .index_bytes = FILES * 1024,
	                    .at = origin,
	                    .end = half ? origin : model->wrap_bytes * 2};
	live("ltfs", &ltfs.k, half);
	free(reference.place);
	free(ltfs.place);
}
