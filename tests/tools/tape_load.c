/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures tapes in the virtual time of the drive's model (core/tape/model.c).
 *
 * usage: tape_load stream FOLDER GB  write so much through a volume on a tape file, read it back
 *        tape_load random            128 reads of 1 MiB all over a full tape: order of service
 *        tape_load life FOLDER [named|half|mounted]  a file system's life (tape_life.c)
 *        tape_load reindex FOLDER    find the index of a volume of 1 TB whose last checkpoint is as
 *                                    old as can be
 * Prints name=value: seconds of drive time, and of this machine's CPU.
 */
#include "tape_load.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"
#include "tape/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/tape.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MIB = 1 << 20, READS = 128 };

struct hither_error err;
char path[PATH_MAX];
const struct tape_model *const model = &tape_model_lto9;

void tell(const char *name, uint64_t ns)
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

struct tape_volume *make(const char *folder, uint64_t size)
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
		buf[i] = at + i + 1;
}

static void stream(const char *folder, uint64_t gigabytes)
{
	uint64_t size = gigabytes * 1000 * 1000 * 1000 / MIB * MIB;
	uint64_t *buf = calloc(1, MIB), *want = calloc(1, MIB);
	struct tape_volume *v = make(folder, size);
	fill(buf, 0);
	CHECK_OK(tape_volume_write(v, buf, MIB, 0, &err)); /* from the label to where it begins */
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
		uint64_t used = tape_gate_use_ns(w, at, w->byte + MIB);
		for (struct tape_waiter *o = list; o; o = o->next)
			o->waited_ns += used;
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
	uint8_t *buf = malloc((size_t)TAPE_RECORD_BLOCKS * BLOCK);
	memset(buf, 1, (size_t)TAPE_RECORD_BLOCKS * BLOCK); /* zeros would take no room */
	snprintf(path, sizeof path, "%s/load.tape", folder);
	f.fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(f.fd >= 0);
	CHECK_OK(tape_volume_format(&f.base, size, false, &err));
	CHECK_OK(tape_volume_open(&f.base, false, &v, &err));
	/* A terabyte that was written in pieces of 32 MiB here and there: so many runs. */
	enum { PIECE = 8192 };
	uint64_t pieces = blocks / PIECE + 1;
	for (uint64_t piece = 0; piece < pieces; piece++) {
		uint64_t away = (piece * 7919 + 13) % pieces, left = blocks - piece * PIECE;
		struct tape_run run = {.block = piece * PIECE,
		                       .place = TAPE_RECORD_BLOCKS + away * PIECE,
		                       .count = left < PIECE ? (uint32_t)left : PIECE};
		CHECK(!tape_index_put(&v->index, &run));
	}
	v->end = 1 + pieces * PIECE / TAPE_RECORD_BLOCKS + 1;
	CHECK_OK(tape_volume_checkpoint(v, &err));
	/* Just not yet so much that the next one is due. */
	for (uint64_t n = 0; n + 1 < tape_volume_interval(v); n++)
		CHECK_OK(tape_volume_write(v, buf, TAPE_RECORD_BLOCKS * BLOCK,
		                           n * TAPE_RECORD_BLOCKS * BLOCK, &err));
	for (uint64_t n = v->pending_count; n < TAPE_RECORD_BLOCKS; n++)
		CHECK_OK(tape_volume_write(v, buf, BLOCK, n * BLOCK, &err));
	/* As killed: neither a flush nor a checkpoint at the end. */
	uint64_t all = v->end * TAPE_RECORD_BYTES * 10 / (model->rate_bytes / 100000000);
	uint64_t end = v->end;
	v->pending_count = 0;
	v->since = 0;
	v->unsynced = false;
	CHECK_OK(tape_volume_close(v, &err));
	/* With the tape where its writing ended, and as it was loaded. */
	const uint64_t places[] = {end, 0};
	const char *const names[] = {"here", "loaded"};
	for (int i = 0; i < 2; i++) {
		f.base.busy_ns = f.moved = 0;
		f.base.record = places[i];
		CHECK_OK(tape_volume_open(&f.base, false, &v, &err));
		CHECK_EQ(v->index.live, blocks);
		tell(names[i], f.base.busy_ns);
		v->changed = false;
		CHECK_OK(tape_volume_close(v, &err));
	}
	tell("all", all);
	tell("to_end", tape_model_seek_ns(model, TAPE_RECORD_BYTES, end * TAPE_RECORD_BYTES));
	printf("moved=%llu\nrecords=%llu\n", (unsigned long long)f.moved, (unsigned long long)end);
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
	else if (!strcmp(argv[1], "life") && argc > 3 && !strcmp(argv[3], "mounted"))
		life_mounted(argv[2]);
	else if (!strcmp(argv[1], "life") && argc > 2)
		life(argv[2], argc > 3 && !strcmp(argv[3], "named"),
		     argc > 3 && !strcmp(argv[3], "half"));
	else if (!strcmp(argv[1], "reindex") && argc > 2)
		reindex(argv[2]);
	else
		return 2;
	return 0;
}
