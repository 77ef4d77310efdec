/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "check.h"
#include "scratch.h"
#include "tape/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/tape.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCKS = 700, BLOCK = TAPE_BLOCK_BYTES };
#define SIZE ((uint64_t)BLOCKS * BLOCK)

static char folder[PATH_MAX], tape[PATH_MAX + 8], other[PATH_MAX + 8];
static struct hither_error err;

static void make(uint64_t capacity)
{
	unlink(tape);
	CHECK_OK(hither_tape_format(tape, SIZE, capacity, false, &err));
}

static struct tape_volume *open_at(const char *path, bool writable, bool scan)
{
	struct tape_drive *d;
	struct tape_volume *v;
	CHECK_OK(tape_drive_open(path, writable, 0, &d, &err));
	CHECK_OK(tape_volume_open(d, scan, &v, &err));
	return v;
}

static void put(struct tape_volume *v, uint64_t block, uint32_t value)
{
	uint32_t data[BLOCK / 4];
	for (int i = 0; i < BLOCK / 4; i++)
		data[i] = value;
	CHECK_OK(tape_volume_write(v, data, BLOCK, block * BLOCK, &err));
}

static uint32_t get(struct tape_volume *v, uint64_t block)
{
	uint32_t data[BLOCK / 4];
	CHECK_OK(tape_volume_read(v, data, BLOCK, block * BLOCK, &err));
	for (int i = 1; i < BLOCK / 4; i++)
		CHECK_EQ(data[i], data[0]);
	return data[0];
}

static uint64_t file_size(const char *path)
{
	struct stat st;
	CHECK(!stat(path, &st));
	return (uint64_t)st.st_size;
}

/* Where the frame of record number n begins: behind all before it. *len: of the record. */
static uint64_t frame_at(uint64_t n, uint32_t *len)
{
	int fd = open(tape, O_RDONLY);
	uint64_t at = 16;
	uint32_t frame[2];
	for (;; n--) {
		CHECK_EQ(pread(fd, frame, 8, (off_t)at), 8);
		if (n == 0)
			break;
		at += 8 + frame[1];
	}
	close(fd);
	*len = frame[1];
	return at;
}

static void flip(uint64_t at, uint64_t count)
{
	int fd = open(tape, O_RDWR);
	for (char byte; count--; at++) {
		CHECK_EQ(pread(fd, &byte, 1, (off_t)at), 1);
		byte ^= 1;
		CHECK_EQ(pwrite(fd, &byte, 1, (off_t)at), 1);
	}
	close(fd);
}

/* Flip a byte of record number n. */
static void damage(uint64_t n)
{
	uint32_t len;
	uint64_t at = frame_at(n, &len);
	flip(at + 8 + len / 2, 1);
}

static uint64_t record_of(struct tape_volume *v, uint64_t block)
{
	struct tape_run run;
	CHECK(tape_index_get(&v->index, block, &run));
	return tape_record_of(run.place);
}

static void holes_are_zeros_and_the_newest_wins(void)
{
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	for (uint32_t round = 1; round < 4; round++)
		for (uint64_t b = round; b < BLOCKS; b += 2)
			put(v, b, 1000 * round + (uint32_t)b);
	CHECK_EQ(get(v, 0), 0);
	CHECK_EQ(get(v, 5), 3005);
	CHECK_OK(tape_volume_close(v, &err));
	for (int scan = 0; scan < 2; scan++) {
		v = open_at(tape, false, scan);
		CHECK_EQ(get(v, 0), 0);
		CHECK_EQ(get(v, 1), 1001);
		CHECK_EQ(get(v, 2), 2002);
		CHECK_EQ(get(v, 699), 3699);
		CHECK_OK(tape_volume_close(v, &err));
	}
}

/* What was acknowledged when the file had so many bytes. */
struct acknowledged {
	uint64_t bytes;
	uint32_t value[BLOCKS];
};
enum { STEPS = 28 };
static struct acknowledged acks[STEPS + 1];
static uint32_t newest[STEPS + 1][BLOCKS]; /* as written, flushed or not */

/* A script of writes, each followed by a flush; sometimes a checkpoint. */
static void run_script(void)
{
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	acks[0].bytes = file_size(tape);
	for (uint32_t step = 1; step <= STEPS; step++) {
		acks[step] = acks[step - 1];
		uint32_t count = step % 7 == 0 ? 280 : step % 5 + 1;
		for (uint32_t i = 0; i < count; i++) {
			uint32_t b = (step * 37 + i * 11) % BLOCKS;
			uint32_t value = step % 4 == 3 && i % 3 ? 0 : step * 1000 + i; /* a hole */
			put(v, b, value);
			acks[step].value[b] = value;
		}
		CHECK_OK(step % 9 ? tape_volume_flush(v, &err) : tape_volume_checkpoint(v, &err));
		acks[step].bytes = file_size(tape);
		memcpy(newest[step], acks[step].value, sizeof newest[step]);
	}
	CHECK_OK(tape_volume_close(v, &err));
}

static void copy_prefix(uint64_t bytes)
{
	static char buf[1 << 16];
	int in = open(tape, O_RDONLY), out = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
	for (uint64_t at = 0; at < bytes;) {
		size_t n = bytes - at < sizeof buf ? (size_t)(bytes - at) : sizeof buf;
		CHECK_EQ(pread(in, buf, n, (off_t)at), n);
		CHECK_EQ(write(out, buf, n), n);
		at += n;
	}
	close(in);
	close(out);
}

/* The tape as power loss left it: each block is as acknowledged, or as the next step wrote it; and
 * it can be written to and read again. */
static void recover_at(uint64_t bytes)
{
	uint32_t step = 0;
	while (step < STEPS && acks[step + 1].bytes <= bytes)
		step++;
	copy_prefix(bytes);
	struct tape_volume *v = open_at(other, true, false);
	CHECK_EQ(v->damaged, 0);
	static uint32_t all[BLOCKS][BLOCK / 4];
	CHECK_OK(tape_volume_read(v, all, sizeof all, 0, &err));
	for (uint32_t b = 0; b < BLOCKS; b++) {
		uint32_t is = all[b][0];
		CHECK(is == all[b][BLOCK / 4 - 1]);
		CHECK(is == acks[step].value[b] || (step < STEPS && is == newest[step + 1][b]));
	}
	put(v, 3, 77);
	CHECK_OK(tape_volume_close(v, &err));
	v = open_at(other, false, true);
	CHECK_EQ(get(v, 3), 77);
	CHECK_OK(tape_volume_close(v, &err));
}

/* Each frame's edges, and the middles of its head, its lists and its payload. */
static void nothing_flushed_is_lost_wherever_power_fails(void)
{
	run_script();
	uint64_t size = file_size(tape), at = acks[0].bytes;
	int points = 0, fd = open(tape, O_RDONLY);
	uint32_t frame[2];
	while (at < size) {
		CHECK_EQ(pread(fd, frame, 8, (off_t)at), 8);
		uint64_t len = 8 + frame[1],
		         cuts[] = {0, 1, 7, 8, 9, 52, 8 + TAPE_HEAD_BYTES, len / 2, len - 1};
		for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++, points++)
			recover_at(at + cuts[i]);
		at += len;
	}
	recover_at(size);
	close(fd);
	printf("  %d crash points, all recovered\n", points + 1);
}

/* Of what power loss leaves of formatting, formatting goes on. */
static void a_format_that_was_cut_short_is_repeated(void)
{
	struct hither_tape_info info;
	make(1 << 30);
	uint64_t size = file_size(tape);
	for (uint64_t bytes = 0; bytes < size; bytes++) {
		copy_prefix(bytes);
		CHECK_EQ(hither_tape_info(other, false, &info, &err), -EINVAL);
		if (bytes == 0 || bytes >= 16) /* the tape file's own head is written at once */
			CHECK_OK(hither_tape_format(other, SIZE, 1 << 30, false, &err));
	}
	printf("  %llu crash points, all recovered\n", (unsigned long long)size);
	unlink(other);
}

/* A copy counts when it is whole; what it is made from stays as it is. */
static void a_copy_that_was_cut_short_is_no_volume(void)
{
	char copy[PATH_MAX + 16];
	struct hither_tape_info info;
	uint64_t lost, points = 0;
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	for (uint64_t b = 0; b < BLOCKS; b++)
		put(v, b, (uint32_t)b + 1);
	CHECK_OK(tape_volume_close(v, &err));
	uint64_t before = file_size(tape);
	snprintf(copy, sizeof copy, "%s.copy", tape);
	CHECK_OK(hither_tape_compact(tape, copy, false, NULL, &lost, &err));
	CHECK_EQ(hither_tape_compact(tape, tape, true, NULL, &lost, &err), -EINVAL);
	CHECK(strstr(err.message, "same tape"));
	CHECK_EQ(file_size(tape), before);
	CHECK(!rename(tape, other) && !rename(copy, tape) && !rename(other, copy));
	uint64_t size = file_size(tape), at = 16;
	int fd = open(tape, O_RDONLY);
	uint32_t frame[2];
	for (uint64_t len; at < size; at += len) {
		CHECK_EQ(pread(fd, frame, 8, (off_t)at), 8);
		len = 8 + frame[1];
		uint64_t cuts[] = {0, 9, 52, len / 2, len - 1};
		for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++, points++) {
			copy_prefix(at + cuts[i]);
			CHECK_EQ(hither_tape_info(other, false, &info, &err), -EINVAL);
			if (at > 16)
				CHECK(strstr(err.message, "cut short"));
		}
	}
	close(fd);
	CHECK_OK(hither_tape_info(tape, false, &info, &err));
	CHECK_EQ(info.live_bytes, SIZE);
	CHECK_OK(hither_tape_compact(copy, other, true, NULL, &lost, &err)); /* goes on from any */
	CHECK_OK(hither_tape_info(other, true, &info, &err));
	CHECK_EQ(info.live_bytes, SIZE);
	printf("  %llu crash points, all told\n", (unsigned long long)points);
	unlink(copy);
	unlink(other);
}

/* Zeros are a hole: they take no room, come from no older record, and survive. */
static void zeros_take_no_room(void)
{
	static uint8_t zeros[BLOCKS * BLOCK];
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	CHECK_OK(tape_volume_write(v, zeros, sizeof zeros, 0, &err));
	CHECK_OK(tape_volume_flush(v, &err));
	CHECK_EQ(v->end, 1); /* there was nothing else before */
	for (uint64_t b = 0; b < BLOCKS; b++)
		put(v, b, 7);
	CHECK_OK(tape_volume_checkpoint(v, &err));
	uint64_t full = file_size(tape);
	CHECK_OK(tape_volume_write(v, zeros, 600 * BLOCK, 50 * BLOCK, &err));
	put(v, 60, 8); /* over a hole of the same record, and zeros over that */
	put(v, 61, 9);
	put(v, 61, 0);
	CHECK_EQ(v->index.live, BLOCKS - 600 + 2);
	CHECK_OK(tape_volume_flush(v, &err));
	CHECK(file_size(tape) - full < 8 * BLOCK);
	CHECK_OK(tape_volume_close(v, &err));
	for (int scan = 0; scan < 2; scan++) {
		v = open_at(tape, false, scan);
		CHECK_EQ(get(v, 49), 7);
		CHECK_EQ(get(v, 50), 0);
		CHECK_EQ(get(v, 60), 8);
		CHECK_EQ(get(v, 61), 0);
		CHECK_EQ(get(v, 649), 0);
		CHECK_EQ(get(v, 650), 7);
		CHECK_OK(tape_volume_close(v, &err));
	}
	uint64_t lost;
	struct hither_tape_info info;
	unlink(other);
	CHECK_OK(hither_tape_compact(tape, other, false, NULL, &lost, &err));
	CHECK_OK(hither_tape_info(other, false, &info, &err));
	CHECK_EQ(info.live_bytes, (BLOCKS - 600 + 1) * BLOCK); /* block 61's zeros are none here */
	unlink(other);
}

/* A record that made holes cannot be read: they are holes all the same. */
static void holes_survive_their_record(void)
{
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	for (uint64_t b = 0; b < 8; b++)
		put(v, b, 5);
	CHECK_OK(tape_volume_flush(v, &err));
	for (uint64_t b = 2; b < 6; b++)
		put(v, b, 0);
	put(v, 7, 6);
	uint64_t bad = v->end;
	CHECK_OK(tape_volume_flush(v, &err));
	put(v, 9, 9);
	CHECK_OK(tape_volume_flush(v, &err));
	CHECK_OK(tape_volume_close(v, &err));
	damage(bad);
	char buf[BLOCK];
	v = open_at(tape, false, true);
	CHECK_EQ(v->unexplained, 0);
	CHECK_EQ(get(v, 1), 5);
	CHECK_EQ(get(v, 2), 0);
	CHECK_EQ(get(v, 5), 0);
	CHECK_EQ(get(v, 6), 5);
	CHECK_EQ(get(v, 9), 9);
	CHECK_EQ(tape_volume_read(v, buf, BLOCK, 7 * BLOCK, &err), -EIO);
	CHECK_OK(tape_volume_close(v, &err));
}

/* The end was allotted, but its bytes never reached the disk. */
static void a_tail_with_a_wrong_checksum_is_cut_off(void)
{
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	put(v, 1, 5);
	CHECK_OK(tape_volume_flush(v, &err));
	uint64_t safe = v->end;
	put(v, 1, 6);
	CHECK_OK(tape_volume_flush(v, &err));
	uint64_t end = v->end;
	CHECK_OK(tape_volume_close(v, &err));
	for (uint64_t n = safe; n < end; n++)
		damage(n);
	v = open_at(tape, false, false);
	CHECK_EQ(v->torn, end - safe);
	CHECK_EQ(get(v, 1), 5);
	CHECK_OK(tape_volume_close(v, &err));
}

static void one_bad_record_costs_its_blocks_alone(void)
{
	char buf[BLOCK], says[32];
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	for (uint32_t step = 0; step < 3; step++) {
		put(v, step, 10 + step);
		put(v, 9, step);
		CHECK_OK(tape_volume_flush(v, &err));
	}
	uint64_t bad = record_of(v, 1);
	CHECK_OK(tape_volume_close(v, &err));
	damage(bad); /* blocks 1 and 9; 9 is in a later one again */
	for (int scan = 0; scan < 2; scan++) {
		v = open_at(tape, false, scan);
		CHECK_EQ(v->unexplained, 0);
		CHECK_EQ(get(v, 0), 10);
		CHECK_EQ(get(v, 2), 12);
		CHECK_EQ(get(v, 9), 2);
		CHECK_EQ(tape_volume_read(v, buf, BLOCK, BLOCK, &err), -EIO);
		snprintf(says, sizeof says, "record %llu", (unsigned long long)bad);
		CHECK(strstr(err.message, says));
		CHECK_OK(tape_volume_close(v, &err));
	}
	struct hither_tape_info info;
	CHECK_EQ(hither_tape_verify(tape, NULL, &info, &err), -EIO);
	CHECK_EQ(info.damaged, 1);
	uint64_t lost;
	unlink(other);
	CHECK_OK(hither_tape_compact(tape, other, false, NULL, &lost, &err));
	CHECK_EQ(lost, BLOCK);
	for (int scan = 0; scan < 2; scan++) { /* no scan makes zeros of what was not copied */
		v = open_at(other, false, scan);
		CHECK_EQ(get(v, 9), 2);
		CHECK_EQ(tape_volume_read(v, buf, BLOCK, BLOCK, &err), -EIO);
		CHECK_OK(tape_volume_close(v, &err));
		CHECK_OK(hither_tape_checkpoint(other, true, NULL, &info, &err));
	}
	v = open_at(other, true, true);
	put(v, 1, 5);
	CHECK_OK(tape_volume_close(v, &err));
	v = open_at(other, false, true);
	CHECK_EQ(get(v, 1), 5);
	CHECK_OK(tape_volume_close(v, &err));
}

/* In a tape file a frame says where the next one is. Where it is damaged, nothing is lost. */
static void a_bad_frame_costs_nothing(void)
{
	enum { RECORDS = 9, WRITTEN = 4 };
	struct hither_tape_info info;
	uint32_t len;
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	for (uint32_t i = 0; i < WRITTEN; i++) {
		put(v, i, i + 1);
		CHECK_OK(tape_volume_flush(v, &err));
	}
	CHECK_EQ(v->end, RECORDS);
	CHECK_OK(tape_volume_close(v, &err));
	for (uint64_t n = 0; n < RECORDS - 1; n++) {
		for (uint64_t at = frame_at(n, &len), end = at + 8; at < end; at++) {
			flip(at, 1);
			v = open_at(tape, false, false);
			CHECK_EQ(v->end, RECORDS);
			CHECK_EQ(v->damaged + v->torn, 0);
			for (uint32_t i = 0; i < WRITTEN; i++)
				CHECK_EQ(get(v, i), i + 1);
			CHECK_OK(tape_volume_close(v, &err));
			flip(at, 1);
		}
	}
	flip(frame_at(3, &len) + 5, 1);
	v = open_at(tape, true, false);
	put(v, 9, 9);
	CHECK_OK(tape_volume_close(v, &err));
	CHECK_OK(hither_tape_verify(tape, NULL, &info, &err));
	CHECK_EQ(info.records, RECORDS + 2);
}

/* Too much for that: told, and what is behind is not written over. */
static void bad_frames_are_told(void)
{
	struct hither_tape_info info;
	uint32_t len;
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	for (uint32_t b = 0; b < BLOCKS; b++)
		put(v, b, b + 1);
	CHECK_OK(tape_volume_close(v, &err));
	uint64_t size = file_size(tape), at = frame_at(2, &len), behind = frame_at(3, &len);
	flip(at, behind + 8 + TAPE_HEAD_BYTES - at);
	CHECK_EQ(hither_tape_info(tape, false, &info, &err), -EUCLEAN);
	CHECK(strstr(err.message, "damaged at byte"));
	CHECK_EQ(hither_tape_format(tape, SIZE, 1 << 30, true, &err), -EUCLEAN);
	CHECK_EQ(file_size(tape), size);
	CHECK(!truncate(tape, (off_t)at));
	CHECK_OK(hither_tape_info(tape, false, &info, &err));
	CHECK_EQ(info.records, 2);
}

/* A drive that reports a medium error on one record, and is nowhere known afterwards. */
struct sick_drive {
	struct tape_drive base;
	struct tape_drive *inner;
	uint64_t bad;
	unsigned errors;
};

static struct sick_drive *sick_of(struct tape_drive *d)
{
	return HITHER_CONTAINER(d, struct sick_drive, base);
}

static int sick_read(struct tape_drive *d, void *buf, size_t size, size_t *len,
                     struct hither_error *e)
{
	struct sick_drive *s = sick_of(d);
	if (d->record == s->bad) {
		s->errors++;
		d->record = 7777777; /* a position that is wrong until the next locate */
		return hither_fail(e, -EIO, "medium error");
	}
	int r = s->inner->ops->read(s->inner, buf, size, len, e);
	d->record = s->inner->record;
	return r;
}

static int sick_locate(struct tape_drive *d, uint64_t record, struct hither_error *e)
{
	struct tape_drive *inner = sick_of(d)->inner;
	int r = inner->ops->locate(inner, record, e);
	d->record = inner->record;
	return r;
}

static int sick_locate_end(struct tape_drive *d, uint64_t *record, struct hither_error *e)
{
	struct tape_drive *inner = sick_of(d)->inner;
	int r = inner->ops->locate_end(inner, record, e);
	d->record = inner->record;
	return r;
}

static void sick_close(struct tape_drive *d)
{
	sick_of(d)->inner->ops->close(sick_of(d)->inner);
}

static const struct tape_drive_ops sick_ops = {sick_read,       NULL,      NULL, sick_locate,
                                               sick_locate_end, sick_close};

static void a_medium_error_costs_its_record_alone(void)
{
	char buf[8 * BLOCK];
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	uint64_t of[8], end;
	for (uint32_t b = 0; b < 8; b++) { /* a record each */
		put(v, b, 20 + b);
		CHECK_OK(tape_volume_flush(v, &err));
		of[b] = record_of(v, b);
	}
	end = v->end;
	CHECK_OK(tape_volume_close(v, &err));
	for (uint64_t bad = 1; bad + 1 < end; bad++) {
		struct sick_drive sick = {.base = {.ops = &sick_ops, .read_only = true},
		                          .bad = bad};
		CHECK_OK(tape_drive_open(tape, false, 0, &sick.inner, &err));
		CHECK_OK(tape_volume_open(&sick.base, false, &v, &err));
		CHECK_EQ(v->unexplained, 0);
		for (uint32_t b = 0; b < 8; b++) {
			if (of[b] != bad) {
				CHECK_EQ(get(v, b), 20 + b);
				continue;
			}
			CHECK_EQ(tape_volume_read(v, buf, BLOCK, b * BLOCK, &err), -EIO);
			CHECK(err.message[0]);
			CHECK_EQ(tape_volume_read(v, buf, sizeof buf, 0, &err), -EIO);
		}
		CHECK(sick.errors > 0);
		CHECK_OK(tape_volume_close(v, &err));
	}
}

static void a_bad_checkpoint_is_replaced_by_a_scan(void)
{
	make(1 << 30);
	struct tape_volume *v = open_at(tape, true, false);
	put(v, 1, 5);
	CHECK_OK(tape_volume_checkpoint(v, &err));
	damage(v->checkpoint);
	put(v, 2, 6);
	CHECK_OK(tape_volume_flush(v, &err));
	damage(v->checkpoint);
	CHECK_OK(tape_volume_close(v, &err));
	v = open_at(tape, false, false);
	CHECK_EQ(v->unexplained, 0);
	CHECK_EQ(get(v, 1), 5);
	CHECK_EQ(get(v, 2), 6);
	CHECK_OK(tape_volume_close(v, &err));
}

static void a_full_tape_keeps_what_it_has(void)
{
	uint32_t data[BLOCK / 4] = {0};
	make(20 << 20);
	struct tape_volume *v = open_at(tape, true, false);
	int e = 0;
	uint32_t done = 0;
	for (; !e && done < 100000; done++) {
		data[0] = done;
		e = tape_volume_write(v, data, BLOCK, done % BLOCKS * BLOCK, &err);
	}
	CHECK_EQ(e, -ENOSPC);
	CHECK(strstr(err.message, "tapisk compact"));
	CHECK_OK(tape_volume_flush(v, &err)); /* early warning leaves room for it */
	CHECK_OK(tape_volume_close(v, &err));
	v = open_at(tape, false, false);
	CHECK_OK(tape_volume_read(v, data, BLOCK, (done - 2) % BLOCKS * BLOCK, &err));
	CHECK_EQ(data[0], done - 2);
	CHECK_OK(tape_volume_close(v, &err));
}

static void strangers_are_left_alone(void)
{
	struct hither_tape_info info;
	struct tape_drive *d;
	CHECK_EQ(hither_tape_format("/dev/hither-no-drive", SIZE, 0, false, &err), -ENODEV);
	CHECK(access("/dev/hither-no-drive", F_OK) != 0);
	make(1 << 30);
	CHECK_EQ(hither_tape_format(tape, SIZE, 0, false, &err), -EEXIST);
	CHECK(strstr(err.message, "--force"));
	CHECK_OK(hither_tape_format(tape, SIZE, 0, true, &err));
	struct tape_volume *v = open_at(tape, true, false);
	CHECK_EQ(hither_tape_info(tape, false, &info, &err), -EBUSY);
	CHECK_OK(tape_volume_close(v, &err));
	int fd = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK_EQ(write(fd, "something else altogether", 25), 25);
	close(fd);
	CHECK_EQ(hither_tape_info(other, false, &info, &err), -EINVAL);
	CHECK_EQ(hither_tape_format(other, SIZE, 0, true, &err), -EINVAL);
	unlink(other);
	CHECK_OK(tape_drive_open(other, true, 1 << 20, &d, &err));
	d->ops->close(d);
	CHECK_EQ(hither_tape_info(other, false, &info, &err), -EINVAL);
	CHECK(strstr(err.message, "blank"));
	CHECK_OK(tape_drive_open(tape, false, 0, &d, &err));
	CHECK_EQ(tape_volume_format(d, SIZE, true, &err), -EROFS);
	d->ops->close(d);
}

int main(void)
{
	scratch_make(folder);
	snprintf(tape, sizeof tape, "%s/tape", folder);
	snprintf(other, sizeof other, "%s/other", folder);
	RUN(holes_are_zeros_and_the_newest_wins);
	RUN(nothing_flushed_is_lost_wherever_power_fails);
	RUN(a_format_that_was_cut_short_is_repeated);
	RUN(a_copy_that_was_cut_short_is_no_volume);
	RUN(zeros_take_no_room);
	RUN(holes_survive_their_record);
	RUN(a_tail_with_a_wrong_checksum_is_cut_off);
	RUN(one_bad_record_costs_its_blocks_alone);
	RUN(a_bad_frame_costs_nothing);
	RUN(bad_frames_are_told);
	RUN(a_medium_error_costs_its_record_alone);
	RUN(a_bad_checkpoint_is_replaced_by_a_scan);
	RUN(a_full_tape_keeps_what_it_has);
	RUN(strangers_are_left_alone);
	scratch_remove(folder);
	return 0;
}
