/* SPDX-License-Identifier: Apache-2.0 */
/* A file system's life on a tape: ours, and others' designs on the same model. */
#include "tape_life.h"
#include "check.h"

#include <stdlib.h>
#include <string.h>

/*
 * 20,000 files of 12 KiB in 1,000 folders on a file system like ext4: a block of inodes has 16
 * files, a folder's block its 20; both lie in front of the data. An untar makes them in order;
 * every 2,500 files (5 s) a journal commit writes the data, then the journal, and flushes. At the
 * end metadata go to their places. Then all is read back cold, folder after folder: in the order of
 * the archive, or (`named`) in another, as where tar found the folders in the order of their hashes
 * and the reader takes them by name. Then every second file is deleted (one commit; where the file
 * system can, it discards their blocks), then the tape is compacted (or, where that cannot be done,
 * read and written anew). Nobody rewinds between: the drive goes on from where it was.
 *
 * `half`: on a tape half full of other things, in the middle of its length, from where a locate to
 * the beginning takes the average time; it begins mounted, and is unmounted at the end instead of
 * being compacted.
 */
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

void live(const char *name, struct keeper *k, bool half)
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
	for (uint64_t f = 1; k->discard && f < FILES; f += 2)
		k->discard(k, DATA_AT + f * FILE_BLOCKS, FILE_BLOCKS);
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

enum { LTFS_DATA_WRAP = 2 };

/*
 * LTFS (format specification 2.4, ltfs(8), and ltfs_start_mount() and ltfs_unmount() of its
 * reference implementation, github.com/LinearTapeFileSystem/ltfs): a file's data are records of
 * their own; metadata are an XML index, written behind the data at a sync (sync_type time@5: every
 * 5 minutes, so not within this untar, and the drive is taken not to stop in it) and at unmount,
 * then to the index partition too, and read from there at mount. So of the blocks above only data
 * are written and read; an entry takes about 1 KiB. The index partition is at the begin of the
 * tape, the data partition behind its two wraps; a mount reads both labels, then the index.
 * Deleting changes the index only.
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
		bare_seek(b, LTFS_DATA_WRAP * model->wrap_bytes);
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

/*
 * What no design is spared: each byte of a file once each way at the drive's rate, and the shortest
 * locate before each reading, as what was written last is behind the drive. Of metadata, none.
 */
static void tell_least(bool half)
{
	uint64_t bytes = (uint64_t)FILES * FILE_BLOCKS * BLOCK, moves = half ? 1 : 2;
	uint64_t passes = half ? 2 : 3; /* written, read; half of them read and half written */
	tell("least_all",
	     passes * bytes * 10 / (model->rate_bytes / 100000000) + moves * model->start_ns);
}

void life_mounted(const char *folder)
{
	shuffle_order(false);
	live_mounted("mounted", folder, 0);
}

void life(const char *folder, bool named, bool half)
{
	uint64_t origin = half ? model->capacity_bytes / 2 + model->wrap_bytes / 2 : 0;
	shuffle_order(named);
	live_ours("ours", folder, false, origin);
	live_ours("remote", folder, true, origin);
	live_mounted("mounted", folder, origin);
	tell_least(half);
	struct bare reference = {.k = {reference_write, NULL, bare_flush, bare_cold, reference_read,
	                               reference_compact, bare_flush, bare_ns},
	                         .place = calloc(VOLUME_BLOCKS, 8),
	                         .record_bytes = BLOCK,
	                         .at = origin,
	                         .end = origin + BLOCK};
	live("reference", &reference.k, half);
	struct bare ltfs = {.k = {ltfs_write, NULL, ltfs_flush, ltfs_cold, ltfs_read, ltfs_compact,
	                          ltfs_unmount, bare_ns},
	                    .place = calloc(VOLUME_BLOCKS, 8),
	                    .record_bytes = BLOCK,
	                    .index_bytes = FILES * 1024,
	                    .at = origin,
	                    .end = half ? origin : model->wrap_bytes * LTFS_DATA_WRAP};
	live("ltfs", &ltfs.k, half);
	free(reference.place);
	free(ltfs.place);
}
