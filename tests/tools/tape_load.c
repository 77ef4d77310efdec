/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures tapes in the virtual time of the drive's model (core/tape/model.c).
 *
 * usage: tape_load stream FOLDER GB  write so much through a volume on a tape file, read it back
 *        tape_load random            128 reads of 1 MiB all over a full tape: order of service
 *        tape_load life FOLDER       a file system's life, see below
 *        tape_load reindex FOLDER    find the index of a volume of 1 TB whose last checkpoint is as
 *                                    old as can be
 * Prints name=value: seconds of drive time, and of this machine's CPU.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"
#include "tape/gate.h"
#include "tape/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/tape.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BLOCK = TAPE_BLOCK_BYTES, MIB = 1 << 20, READS = 128 };

static struct hither_error err;
static char path[PATH_MAX];
static const struct tape_model *const model = &tape_model_lto9;

static void tell(const char *name, uint64_t ns)
{
	printf("%s=%.3f\n", name, (double)ns / 1e9);
}

static uint64_t cpu_ns(void)
{
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	return ((uint64_t)use.ru_utime.tv_sec + (uint64_t)use.ru_stime.tv_sec) * HITHER_NS_PER_S +
	       ((uint64_t)use.ru_utime.tv_usec + (uint64_t)use.ru_stime.tv_usec) * 1000;
}

static struct tape_volume *make(const char *folder, uint64_t size)
{
	struct tape_drive *d;
	struct tape_volume *v;
	snprintf(path, sizeof path, "%s/load.tape", folder);
	unlink(path);
	CHECK_OK(hither_tape_format(path, size, model->capacity_bytes, false, &err));
	CHECK_OK(tape_drive_open(path, true, 0, &d, &err));
	CHECK_OK(tape_volume_open(d, false, &v, &err));
	return v;
}

/* --- streaming --- */

static void fill(uint64_t *buf, uint64_t at)
{
	for (size_t i = 0; i < MIB / 8; i += 64)
		buf[i] = at + i;
}

static void stream(const char *folder, uint64_t gigabytes)
{
	uint64_t size = gigabytes * 1000 * 1000 * 1000 / MIB * MIB;
	uint64_t *buf = calloc(1, MIB), *want = calloc(1, MIB);
	struct tape_volume *v = make(folder, size);
	uint64_t begin = v->drive->busy_ns, cpu = cpu_ns();
	for (uint64_t at = 0; at < size; at += MIB) {
		fill(buf, at);
		CHECK_OK(tape_volume_write(v, buf, MIB, at, &err));
	}
	CHECK_OK(tape_volume_flush(v, &err));
	tell("write", v->drive->busy_ns - begin);
	tell("write_cpu", cpu_ns() - cpu);
	CHECK_OK(tape_volume_read(v, buf, BLOCK, 0, &err)); /* to where it begins */
	begin = v->drive->busy_ns;
	cpu = cpu_ns();
	for (uint64_t at = 0; at < size; at += MIB) {
		fill(want, at);
		CHECK_OK(tape_volume_read(v, buf, MIB, at, &err));
		CHECK(!memcmp(buf, want, MIB));
	}
	tell("read", v->drive->busy_ns - begin);
	tell("read_cpu", cpu_ns() - cpu);
	printf("bytes=%llu\nrate=%llu\nbackhitch=%.1f\n", (unsigned long long)size,
	       (unsigned long long)model->rate_bytes, (double)model->backhitch_ns / 1e9);
	CHECK_OK(tape_volume_close(v, &err));
	unlink(path);
	free(buf);
	free(want);
}

/* --- random reads --- */

static uint64_t random_state;
static uint64_t random_byte(void)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (random_state >> 8) % (model->capacity_bytes - MIB);
}

static uint64_t serve(struct tape_waiter *list, bool by_cost)
{
	uint64_t at = 0, ns = 0;
	while (list) {
		struct tape_waiter **best = by_cost ? tape_gate_choose(&list, at) : &list;
		struct tape_waiter *w = *best;
		*best = w->next;
		for (struct tape_waiter *o = list; o; o = o->next)
			o->passed++;
		ns += tape_model_seek_ns(model, at, w->byte) +
		      MIB * HITHER_NS_PER_S / model->rate_bytes;
		at = w->byte + MIB;
	}
	return ns;
}

static int by_byte(const void *a, const void *b)
{
	uint64_t x = ((const struct tape_waiter *)a)->byte,
	         y = ((const struct tape_waiter *)b)->byte;
	return x < y ? -1 : x > y;
}

static struct tape_waiter *link_up(struct tape_waiter *w)
{
	for (int i = 0; i < READS; i++)
		w[i] = (struct tape_waiter){.byte = w[i].byte,
		                            .next = i + 1 < READS ? &w[i + 1] : NULL};
	return w;
}

static void random_reads(void)
{
	enum { ROUNDS = 20 };
	uint64_t fifo = 0, sorted = 0, cost = 0, single = 0;
	for (random_state = 1; random_state <= ROUNDS; random_state++) {
		uint64_t seed = random_state;
		struct tape_waiter w[READS] = {0};
		for (int i = 0; i < READS; i++)
			w[i].byte = random_byte();
		struct tape_waiter alone = {.byte = w[0].byte};
		single += serve(&alone, true);
		fifo += serve(link_up(w), false);
		cost += serve(link_up(w), true);
		qsort(w, READS, sizeof *w, by_byte);
		sorted += serve(link_up(w), false);
		random_state = seed;
	}
	tell("fifo", fifo / ROUNDS);
	tell("sorted", sorted / ROUNDS);
	tell("cost", cost / ROUNDS);
	tell("single", single / ROUNDS);
}

/* --- a file system's life --- */

/*
 * 20,000 files of 12 KiB in 1,000 folders on a file system like ext4: a block of inodes has 16
 * files, a folder's block its 20; both lie in front of the data. An untar makes them in order;
 * every 2,500 files (5 s) a journal commit writes the data, then the journal, and flushes. At the
 * end metadata go to their places. Then all is read back cold in folder order, then every second
 * file is deleted (one commit), then the tape is compacted (or, where that cannot be done, read and
 * written anew).
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
	uint64_t (*ns)(const struct keeper *k);
};

static uint64_t journal_next;

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

static void live(const char *name, struct keeper *k)
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
	for (uint64_t f = 0; f < FILES; f++) {
		if (f % FOLDER_FILES == 0)
			k->read(k, FOLDER_AT + f / FOLDER_FILES, 1);
		if (f % INODES == 0)
			k->read(k, INODE_AT + f / INODES, 1);
		k->read(k, DATA_AT + f * FILE_BLOCKS, FILE_BLOCKS);
	}
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
	k->compact(k);
	snprintf(text, sizeof text, "%s_compact", name);
	tell(text, k->ns(k) - phase);
	snprintf(text, sizeof text, "%s_all", name);
	tell(text, k->ns(k) - begin);
}

/* Ours: the volume itself, behind a cache as the managed mount is one: a flush pushes what is dirty
 * in block order; a cold read takes its chunk first, then the sweep brings all, front to back. */
struct ours {
	struct keeper k;
	struct tape_volume *v;
	const char *folder;
	uint64_t before_ns;
	uint8_t *dirty; /* a byte a block */
	bool swept;
	char *buf;
};
enum { PIECE_BLOCKS = 256, CHUNK_BLOCKS = 16 };

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

static void ours_flush(struct keeper *k)
{
	struct ours *o = ours_of(k);
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

static void ours_cold(struct keeper *k)
{
	struct ours *o = ours_of(k);
	struct tape_drive *d;
	uint64_t before = ours_ns(k);
	CHECK_OK(tape_volume_close(o->v,
	                           &err)); /* its checkpoint is not charged: too little to see */
	CHECK_OK(tape_drive_open(path, true, 0, &d, &err));
	CHECK_OK(tape_volume_open(d, false, &o->v, &err));
	o->before_ns = before;
	o->swept = false;
}

static void ours_read(struct keeper *k, uint64_t block, uint64_t count)
{
	struct ours *o = ours_of(k);
	uint64_t first = block / CHUNK_BLOCKS * CHUNK_BLOCKS;
	if (o->swept)
		return;
	CHECK_OK(tape_volume_read(o->v, o->buf, CHUNK_BLOCKS * BLOCK, first * BLOCK, &err));
	for (uint64_t b = 0; b < VOLUME_BLOCKS; b += PIECE_BLOCKS) {
		uint64_t n = VOLUME_BLOCKS - b < PIECE_BLOCKS ? VOLUME_BLOCKS - b : PIECE_BLOCKS;
		CHECK_OK(tape_volume_read(o->v, o->buf, n * BLOCK, b * BLOCK, &err));
	}
	o->swept = true;
}

/* As hither_tape_compact() does it, in its windows; both drives' time counts. */
static void ours_compact(struct keeper *k)
{
	enum { WINDOW = 16384 };
	struct ours *o = ours_of(k);
	char to[PATH_MAX + 8];
	struct tape_drive *d;
	struct tape_volume *v;
	char *window = calloc(WINDOW, BLOCK);
	snprintf(to, sizeof to, "%s.2", path);
	unlink(to);
	CHECK_OK(hither_tape_format(to, (uint64_t)VOLUME_BLOCKS * BLOCK, model->capacity_bytes,
	                            false, &err));
	CHECK_OK(tape_drive_open(to, true, 0, &d, &err));
	CHECK_OK(tape_volume_open(d, false, &v, &err));
	for (uint64_t b = 0; b < VOLUME_BLOCKS; b += WINDOW) {
		uint64_t n = VOLUME_BLOCKS - b < WINDOW ? VOLUME_BLOCKS - b : WINDOW, at = b;
		struct tape_run run;
		CHECK_OK(tape_volume_read(o->v, window, n * BLOCK, b * BLOCK, &err));
		while (tape_index_run(&o->v->index, &at, &run) && run.block < b + n) {
			uint64_t end =
			        run.block + run.count < b + n ? run.block + run.count : b + n;
			CHECK_OK(tape_volume_write(v, window + (run.block - b) * BLOCK,
			                           (end - run.block) * BLOCK, run.block * BLOCK,
			                           &err));
		}
	}
	CHECK_OK(tape_volume_checkpoint(v, &err));
	o->before_ns += d->busy_ns;
	CHECK_OK(tape_volume_close(v, &err));
	unlink(to);
	free(window);
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
 * are an XML index, written behind the data at a sync (sync_type time@5: every 5 minutes) and at
 * unmount, then to the index partition too, and read from there at mount. So of the blocks above
 * only data are written and read; an entry takes about 1 KiB. The index partition is at the begin
 * of the tape.
 */
static void ltfs_write(struct keeper *k, uint64_t block, uint64_t count)
{
	if (block >= DATA_AT)
		reference_write(k, block, count);
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

static void ltfs_cold(struct keeper *k)
{
	ltfs_index(bare_of(k));
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

static void life(const char *folder)
{
	struct ours ours = {
	        .k = {ours_write, ours_flush, ours_cold, ours_read, ours_compact, ours_ns},
	        .folder = folder,
	        .v = make(folder, (uint64_t)VOLUME_BLOCKS * BLOCK),
	        .dirty = calloc(1, VOLUME_BLOCKS),
	        .buf = calloc(PIECE_BLOCKS, BLOCK)};
	live("ours", &ours.k);
	CHECK_OK(tape_volume_close(ours.v, &err));
	unlink(path);
	struct bare reference = {.k = {reference_write, bare_flush, bare_cold, reference_read,
	                               reference_compact, bare_ns},
	                         .place = calloc(VOLUME_BLOCKS, 8),
	                         .record_bytes = BLOCK,
	                         .end = BLOCK};
	live("reference", &reference.k);
	struct bare ltfs = {
	        .k = {ltfs_write, bare_flush, ltfs_cold, ltfs_read, ltfs_compact, bare_ns},
	        .place = calloc(VOLUME_BLOCKS, 8),
	        .record_bytes = BLOCK,
	        .index_bytes = FILES * 1024,
	        .end = model->wrap_bytes * 2};
	live("ltfs", &ltfs.k);
	free(ours.dirty);
	free(ours.buf);
	free(reference.place);
	free(ltfs.place);
}

/* --- reindex --- */

/* A drive that keeps what it is given, at numbers that may be far apart: what lies between was
 * written long ago, and must not be needed. */
struct far_drive {
	struct tape_drive base;
	int fd;
	uint64_t *offset, *number;
	size_t *len;
	uint64_t count, end;
	uint64_t moved; /* bytes read */
};

static struct far_drive *far_of(struct tape_drive *d)
{
	return HITHER_CONTAINER(d, struct far_drive, base);
}

static int far_read(struct tape_drive *d, void *buf, size_t size, size_t *len,
                    struct hither_error *e)
{
	struct far_drive *f = far_of(d);
	size_t low = 0, high = f->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (f->number[middle] < d->record)
			low = middle + 1;
		else
			high = middle;
	}
	CHECK(low < f->count && f->number[low] == d->record && f->len[low] <= size);
	CHECK_EQ(pread(f->fd, buf, f->len[low], (off_t)f->offset[low]), (ssize_t)f->len[low]);
	*len = f->len[low];
	d->busy_ns += *len * HITHER_NS_PER_S / model->rate_bytes;
	f->moved += *len;
	d->record++;
	return 0;
}

static int far_write(struct tape_drive *d, const void *buf, size_t len, bool *early,
                     struct hither_error *e)
{
	struct far_drive *f = far_of(d);
	uint64_t at = f->count ? f->offset[f->count - 1] + f->len[f->count - 1] : 0;
	CHECK_EQ(pwrite(f->fd, buf, len, (off_t)at), (ssize_t)len);
	f->offset = realloc(f->offset, (f->count + 1) * sizeof *f->offset);
	f->number = realloc(f->number, (f->count + 1) * sizeof *f->number);
	f->len = realloc(f->len, (f->count + 1) * sizeof *f->len);
	f->offset[f->count] = at;
	f->number[f->count] = d->record;
	f->len[f->count++] = len;
	*early = false;
	f->end = ++d->record;
	return 0;
}

static int far_sync(struct tape_drive *d, struct hither_error *e)
{
	return 0;
}

static int far_locate(struct tape_drive *d, uint64_t record, struct hither_error *e)
{
	d->busy_ns += tape_model_seek_ns(model, d->record * TAPE_RECORD_BYTES,
	                                 record * TAPE_RECORD_BYTES);
	d->record = record;
	return 0;
}

static int far_locate_end(struct tape_drive *d, uint64_t *record, struct hither_error *e)
{
	*record = far_of(d)->end;
	return far_locate(d, *record, e);
}

static void far_close(struct tape_drive *d)
{
}

static const struct tape_drive_ops far_ops = {far_read,   far_write,      far_sync,
                                              far_locate, far_locate_end, far_close};

static void reindex(const char *folder)
{
	const uint64_t size = UINT64_C(1000000000000) / BLOCK * BLOCK, blocks = size / BLOCK;
	struct far_drive f = {.base = {.ops = &far_ops}};
	struct tape_volume *v;
	uint8_t *buf = calloc(TAPE_RECORD_BLOCKS, BLOCK);
	snprintf(path, sizeof path, "%s/load.tape", folder);
	f.fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(f.fd >= 0);
	CHECK_OK(tape_volume_format(&f.base, size, false, &err));
	CHECK_OK(tape_volume_open(&f.base, false, &v, &err));
	/* A terabyte that was written in pieces of 32 MiB here and there: so many runs. */
	for (uint64_t b = 0; b < blocks; b++) {
		uint64_t piece = b / 8192, away = (piece * 7919 + 13) % (blocks / 8192 + 1);
		CHECK(!tape_index_set(&v->index, b,
		                      1 + (away * 8192 + b % 8192) / TAPE_RECORD_BLOCKS,
		                      (uint32_t)((away * 8192 + b % 8192) % TAPE_RECORD_BLOCKS)));
	}
	uint64_t records = (blocks / 8192 + 1) * 8192 / TAPE_RECORD_BLOCKS + 1;
	v->end = 1 + records;
	v->sequence = v->end;
	CHECK_OK(tape_volume_checkpoint(v, &err));
	/* Just not yet so much that the next one is due. */
	for (uint64_t n = 0; n < 8191; n++)
		CHECK_OK(tape_volume_write(v, buf, TAPE_RECORD_BLOCKS * BLOCK,
		                           n * TAPE_RECORD_BLOCKS * BLOCK, &err));
	CHECK_OK(tape_volume_flush(v, &err));
	uint64_t all = v->end * TAPE_RECORD_BYTES * 10 / (model->rate_bytes / 100000000);
	uint64_t live = v->index.live;
	v->since_checkpoint = 0;
	CHECK_OK(tape_volume_close(v, &err));
	f.base.busy_ns = f.moved = 0;
	CHECK_OK(tape_volume_open(&f.base, false, &v, &err));
	CHECK_EQ(v->index.live, live);
	tell("open", f.base.busy_ns);
	tell("all", all);
	printf("moved=%llu\nrecords=%llu\n", (unsigned long long)f.moved,
	       (unsigned long long)v->end);
	v->since_checkpoint = 0;
	CHECK_OK(tape_volume_close(v, &err));
	unlink(path);
	free(buf);
}

int main(int argc, char **argv)
{
	CHECK(argc >= 2);
	if (!strcmp(argv[1], "stream") && argc > 3)
		stream(argv[2], strtoul(argv[3], NULL, 10));
	else if (!strcmp(argv[1], "random"))
		random_reads();
	else if (!strcmp(argv[1], "life") && argc > 2)
		life(argv[2]);
	else if (!strcmp(argv[1], "reindex") && argc > 2)
		reindex(argv[2]);
	else
		return 2;
	return 0;
}
