/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drive_st.c on a tape and an st driver that are played here, after drivers/scsi/st.c: what no
 * virtual machine's tape does (early warning, bad media, resets, drives with fixed blocks only) is
 * done to it. tests/integration/tape_vm.sh runs it on the kernel's own.
 */
#define tape_st_open played_st_open
#define tape_drive_open played_drive_open
#include "base/cleanup.h"
#include "check.h"
#include "tape/volume.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mtio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* --- the driver and its tape --- */

enum { OBJECTS = 40000, FD = 1000 };
enum eof { NO_EOF, FM_HIT, BEHIND_FM, EOM_OK, EOD_1, EOD };

static struct {
	struct {
		uint8_t *bytes; /* NULL: a file mark */
		size_t len;
	} object[OBJECTS];
	size_t count, at;
	size_t early, end; /* objects before the early warning, and before the end */
	size_t bad;        /* this one cannot be read */
	uint32_t block;
	enum eof eof;
	bool writing, reset, protected, fixed_only, plain_user;
	int refuse; /* open's errno */
	unsigned minor, rewinds, moves, syncs;
} play;

static int failed(int code)
{
	errno = code;
	return -1;
}

static void cut(size_t count)
{
	while (play.count > count)
		free(play.object[--play.count].bytes);
}

static void insert_tape(void)
{
	cut(0);
	memset(&play, 0, sizeof play);
	play.early = play.end = OBJECTS;
	play.bad = SIZE_MAX;
	play.minor = 128;
}

static void append(const uint8_t *bytes, size_t len)
{
	cut(play.at);
	CHECK(play.count < OBJECTS);
	play.object[play.count].bytes = bytes ? malloc(len) : NULL;
	if (bytes)
		memcpy(play.object[play.count].bytes, bytes, len);
	play.object[play.count++].len = len;
	play.at = play.count;
}

/* One block into buf; what stopped it: an errno, 0 for a file mark, or -1 for nothing. */
static int read_block(uint8_t *buf, size_t size, size_t *len)
{
	if (play.at == play.count)
		return play.eof == BEHIND_FM ? 0 : EIO;
	if (play.at == play.bad) {
		play.at += 2; /* it does not say where it is now */
		return EIO;
	}
	size_t i = play.at++;
	if (!play.object[i].bytes) {
		play.eof = BEHIND_FM;
		return 0;
	}
	if (play.object[i].len > size)
		return ENOMEM;
	if (play.block && play.object[i].len != play.block)
		return EIO;
	memcpy(buf, play.object[i].bytes, play.object[i].len);
	*len = play.object[i].len;
	play.eof = NO_EOF;
	return -1;
}

static ssize_t fake_read(int fd, void *buf, size_t size)
{
	size_t done = 0, len;
	CHECK_EQ(fd, FD);
	if (play.reset)
		return failed(EIO);
	play.writing = false;
	if (play.eof == FM_HIT) {
		play.eof = BEHIND_FM;
		return 0;
	}
	if (play.block && size % play.block)
		return failed(EINVAL);
	do {
		int stop = read_block((uint8_t *)buf + done, play.block ? play.block : size, &len);
		if (stop == 0 && done)
			play.eof = FM_HIT;
		if (stop >= 0 && !done)
			return stop ? failed(stop) : 0;
		if (stop >= 0)
			return (ssize_t)done;
		done += len;
	} while (play.block && done < size);
	return (ssize_t)done;
}

static ssize_t fake_write(int fd, const void *buf, size_t size)
{
	size_t done = 0, step = play.block ? play.block : size;
	CHECK_EQ(fd, FD);
	if (play.reset)
		return failed(EIO);
	if (play.protected)
		return failed(EACCES);
	if (size % step)
		return failed(EINVAL);
	if (play.eof == EOM_OK) { /* "allow next write" */
		play.eof = EOD_1;
		return failed(ENOSPC);
	}
	play.writing = true;
	for (; done < size && play.at < play.end; done += step)
		append((const uint8_t *)buf + done, step);
	play.eof = play.at >= play.early || done < size ? EOM_OK : NO_EOF;
	return done ? (ssize_t)done : failed(ENOSPC);
}

static int tape_operation(short op, int count)
{
	bool moves = op == MTREW || op == MTSEEK || op == MTEOM;
	if (op == MTSETDRVBUFFER)
		return play.plain_user ? failed(EPERM) : 0;
	if (op == MTSETBLK && play.fixed_only && count == 0)
		return failed(EINVAL);
	if (play.reset && !moves)
		return failed(EIO);
	play.reset = false;
	if (moves && op != MTEOM && play.writing)
		append(NULL, 0);
	if (op == MTSETBLK) {
		play.block = (uint32_t)count;
		return 0;
	}
	if (op == MTSEEK && (size_t)count > play.count)
		return failed(EIO);
	play.writing = false;
	play.eof = NO_EOF;
	play.moves += moves;
	play.rewinds += op == MTREW;
	if (op == MTWEOF) {
		play.syncs++;
		for (; count > 0; count--)
			append(NULL, 0);
	}
	if (moves)
		play.at = op == MTREW ? 0 : op == MTEOM ? play.count : (size_t)count;
	return 0;
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	CHECK_EQ(fd, FD);
	if (request == MTIOCTOP)
		return tape_operation(((struct mtop *)arg)->mt_op, ((struct mtop *)arg)->mt_count);
	if (request == MTIOCPOS) {
		((struct mtpos *)arg)->mt_blkno = (long)play.at;
		return play.reset ? failed(EIO) : 0;
	}
	CHECK_EQ(request, MTIOCGET);
	*(struct mtget *)arg = (struct mtget){.mt_dsreg = play.block};
	return 0;
}

static int fake_open(const char *path, int flags)
{
	if (play.refuse)
		return failed(play.refuse);
	return FD;
}

static int fake_fstat(int fd, struct stat *out)
{
	*out = (struct stat){.st_mode = S_IFCHR, .st_rdev = makedev(9, play.minor)};
	return 0;
}

static int fake_close(int fd)
{
	if (fd == FD && play.writing)
		append(NULL, 0);
	play.writing = false;
	return fd == FD ? 0 : close(fd);
}

#define read(fd, buf, size) fake_read(fd, buf, size)
#define write(fd, buf, size) fake_write(fd, buf, size)
#define ioctl(fd, request, argument) fake_ioctl(fd, request, argument)
#define open(path, flags) fake_open(path, flags)
#define fstat(fd, out) fake_fstat(fd, out)
#define close(fd) fake_close(fd)
#include "drive_st.c" /* the file under test, with the calls above */
#undef read
#undef write
#undef ioctl
#undef open
#undef fstat
#undef close

/* --- tests --- */

enum { BLOCKS = 2000, BLOCK = TAPE_BLOCK_BYTES };
static struct hither_error err;

static struct tape_drive *drive(void)
{
	struct tape_drive *d;
	CHECK_OK(tape_st_open("/dev/nst0", true, &d, &err));
	return d;
}

static struct tape_volume *format(void)
{
	struct tape_volume *v;
	CHECK_OK(tape_volume_create(drive(), (uint64_t)BLOCKS * BLOCK, true, false, &v, &err));
	return v;
}

static struct tape_volume *mount(void)
{
	struct tape_volume *v;
	CHECK_OK(tape_volume_open(drive(), false, &v, &err));
	return v;
}

static int put(struct tape_volume *v, uint64_t block, uint32_t value)
{
	uint32_t data[BLOCK / 4] = {value};
	data[BLOCK / 4 - 1] = value;
	return tape_volume_write(v, data, BLOCK, block * BLOCK, &err);
}

static uint32_t get(struct tape_volume *v, uint64_t block)
{
	uint32_t data[BLOCK / 4];
	CHECK_OK(tape_volume_read(v, data, BLOCK, block * BLOCK, &err));
	CHECK_EQ(data[0], data[BLOCK / 4 - 1]);
	return data[0];
}

static void close_volume(struct tape_volume *v)
{
	CHECK_OK(tape_volume_close(v, &err));
}

/* Write, look, write more, look again; with the tape where it was left, and rewound. */
static void use_it(void)
{
	struct tape_volume *v = format();
	for (uint32_t b = 0; b < 1000; b++)
		CHECK_OK(put(v, b, b + 1));
	CHECK_OK(tape_volume_flush(v, &err));
	for (uint32_t b = 500; b < 600; b++)
		CHECK_OK(put(v, b, b + 7));
	close_volume(v);
	for (int round = 0; round < 4; round++) {
		if (round % 2)
			play.at = 0;
		v = mount();
		CHECK_EQ(v->unexplained + v->damaged + v->torn, 0);
		for (uint32_t b = 0; b < 1000; b += 37)
			CHECK_EQ(get(v, b), b < 500 || b >= 600 ? b + 1 : b + 7);
		CHECK_OK(put(v, 1500, (uint32_t)round));
		CHECK_EQ(get(v, 1500), round);
		close_volume(v);
	}
	v = mount();
	CHECK_EQ(get(v, 1500), 3);
	close_volume(v);
}

static void variable_blocks(void)
{
	insert_tape();
	use_it();
	CHECK_EQ(play.block, 0);
	CHECK_EQ(play.object[0].len, TAPE_HEAD_BYTES);
}

static void fixed_blocks_as_the_drive_is_set(void)
{
	static const uint32_t sizes[] = {65536, 32768, 512, 1 << 20};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		insert_tape();
		play.block = sizes[i];
		if (sizes[i] == 512) /* many objects: a smaller life */
			play.plain_user = true;
		use_it();
		CHECK_EQ(play.block, sizes[i]);
		for (size_t k = 0; k < play.count; k++)
			CHECK(!play.object[k].bytes || play.object[k].len == sizes[i]);
	}
}

static void the_tape_says_how_it_is_written(void)
{
	insert_tape();
	play.block = 65536;
	struct tape_volume *v = format();
	CHECK_OK(put(v, 3, 9));
	close_volume(v);
	play.block = 0; /* set otherwise meanwhile, and rewound */
	play.at = 0;
	v = mount();
	CHECK_EQ(play.block, 65536);
	CHECK_EQ(get(v, 3), 9);
	close_volume(v);
	play.block = 512; /* and not rewound: the tail makes no sense, so the label is looked at */
	v = mount();
	CHECK_EQ(get(v, 3), 9);
	close_volume(v);
	insert_tape();
	v = format();
	CHECK_OK(put(v, 3, 8));
	close_volume(v);
	play.block = 2048;
	v = mount();
	CHECK_EQ(get(v, 3), 8);
	close_volume(v);
}

static void a_drive_with_fixed_blocks_only(void)
{
	insert_tape();
	play.block = 1024;
	play.fixed_only = true;
	use_it();
	CHECK_EQ(play.block, 1024);
}

static void a_tape_that_was_not_moved_is_not_rewound(void)
{
	insert_tape();
	struct tape_volume *v = format();
	for (uint32_t b = 0; b < 300; b++)
		CHECK_OK(put(v, b, b));
	close_volume(v);
	play.rewinds = 0;
	v = mount();
	CHECK_EQ(get(v, 299), 299);
	CHECK_EQ(play.rewinds, 0);
	close_volume(v);
}

/* All that a flush acknowledged is there, whatever the end does; and the end is told of. */
static void fill_to_the_end(uint32_t block, size_t early, size_t end)
{
	insert_tape();
	play.block = block;
	play.early = early;
	play.end = end;
	struct tape_volume *v = format();
	uint32_t acknowledged = 0, n = 0;
	int e = 0;
	for (; !e; n++) {
		e = put(v, n % BLOCKS, n);
		if (!e && n % 100 == 99) {
			e = tape_volume_flush(v, &err);
			acknowledged = e ? acknowledged : n + 1;
		}
	}
	CHECK_EQ(e, -ENOSPC);
	CHECK(acknowledged > 0);
	tape_volume_close(v, NULL);
	v = mount();
	for (uint32_t b = 0; b < BLOCKS && b < acknowledged; b++) {
		uint32_t last = (acknowledged - 1 - b) / BLOCKS * BLOCKS + b;
		CHECK(get(v, b) == last || get(v, b) == last + BLOCKS);
	}
	tape_volume_close(v, NULL);
}

static void early_warning_and_end_of_medium(void)
{
	fill_to_the_end(0, 60, 70);
	fill_to_the_end(0, 60, 61); /* no room for a trailer */
	fill_to_the_end(0, 60, 60); /* no warning at all */
	fill_to_the_end(65536, 400, 480);
	fill_to_the_end(65536, 403, 404); /* in the middle of a row */
	fill_to_the_end(65536, 405, 405);
}

static void a_bad_record_costs_itself_alone(void)
{
	insert_tape();
	struct tape_volume *v = format();
	for (uint32_t b = 0; b < 100 * TAPE_RECORD_BLOCKS; b++)
		CHECK_OK(put(v, b % BLOCKS, b));
	close_volume(v);
	play.at = 0;
	play.bad = 5; /* nobody needs it any more */
	v = mount();
	for (uint32_t b = 0; b < BLOCKS; b += 50)
		get(v, b);
	struct tape_run run;
	CHECK(tape_index_get(&v->index, 700, &run));
	play.bad = tape_record_of(run.place);
	close_volume(v);
	tape_volume_drop_tail(v = mount());
	char data[BLOCK];
	for (int again = 0; again < 2; again++) {
		CHECK_EQ(tape_volume_read(v, data, BLOCK, UINT64_C(700) * BLOCK, &err), -EIO);
		for (uint32_t b = 0; b < BLOCKS; b += 127)
			if (tape_index_get(&v->index, b, &run) &&
			    tape_record_of(run.place) != play.bad)
				CHECK_EQ(get(v, b) % BLOCKS, b);
	}
	close_volume(v);
}

/* After a reset st refuses everything but a movement. */
static void a_reset_is_survived_by_readers_and_told_to_writers(void)
{
	insert_tape();
	struct tape_volume *v = format();
	for (uint32_t b = 0; b < 300; b++)
		CHECK_OK(put(v, b, b));
	CHECK_OK(tape_volume_flush(v, &err));
	tape_volume_drop_tail(v);
	CHECK_EQ(get(v, 5), 5);
	play.reset = true;
	char data[BLOCK];
	CHECK_EQ(tape_volume_read(v, data, BLOCK, UINT64_C(290) * BLOCK, &err) == 0 ||
	                 tape_volume_read(v, data, BLOCK, UINT64_C(290) * BLOCK, &err) == 0,
	         true);
	CHECK_EQ(get(v, 150), 150);
	CHECK_OK(put(v, 1, 77));
	CHECK_OK(tape_volume_flush(v, &err));
	CHECK_OK(put(v, 2, 78));
	play.reset = true; /* where the tape is written next, so no movement comes before */
	CHECK_EQ(tape_volume_flush(v, &err), -EIO);
	CHECK_EQ(put(v, 3, 79), 0); /* collected only */
	CHECK_EQ(tape_volume_flush(v, &err), -EIO);
	CHECK(strstr(err.message, "mount it again"));
	tape_volume_close(v, NULL);
	v = mount();
	CHECK_EQ(get(v, 1), 77);
	CHECK_EQ(get(v, 2), 2);
	close_volume(v);
}

/* What a drive that lost power had of the last row. */
static void a_torn_row_is_cut_off(void)
{
	insert_tape();
	play.block = 65536;
	struct tape_volume *v = format();
	CHECK_OK(put(v, 1, 5));
	CHECK_OK(tape_volume_flush(v, &err));
	size_t whole = play.count;
	CHECK_OK(put(v, 1, 6));
	close_volume(v);
	for (size_t count = play.count; count >= whole; count--) {
		cut(count);
		play.at = count % 2 ? 0 : count;
		v = mount();
		CHECK(get(v, 1) == (count > whole + 7 ? 6 : 5));
		v->changed = false;
		close_volume(v);
	}
	v = mount();
	CHECK_OK(put(v, 2, 7));
	close_volume(v);
	v = mount();
	CHECK_EQ(get(v, 1), 5);
	CHECK_EQ(get(v, 2), 7);
	close_volume(v);
}

static void a_killed_writer_leaves_a_file_mark(void)
{
	insert_tape();
	struct tape_volume *v = format();
	CHECK_OK(put(v, 1, 5));
	CHECK_OK(tape_volume_flush(v, &err));
	for (uint32_t b = 0; b < 200; b++)
		CHECK_OK(put(v, 10 + b, b));
	CHECK(play.writing);
	v->pending_count = 0; /* killed: the kernel closes the device */
	v->changed = v->unsynced = false;
	close_volume(v);
	CHECK(!play.object[play.count - 1].bytes);
	v = mount();
	CHECK_EQ(get(v, 1), 5);
	CHECK_EQ(get(v, 10), 0);
	CHECK_OK(put(v, 2, 6));
	close_volume(v);
	for (size_t i = 0; i < play.count; i++)
		CHECK(play.object[i].bytes); /* it was written over */
}

static void what_open_refuses(void)
{
	static const struct {
		int code, result;
		const char *says;
	} cases[] = {{EBUSY, -EBUSY, "another process"},
	             {EROFS, -EROFS, "write-protected"},
	             {EACCES, -EROFS, "write-protected"},
	             {ENOMEDIUM, -ENOMEDIUM, "no tape"},
	             {EIO, -EIO, "is a tape loaded"}};
	struct tape_drive *d;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		insert_tape();
		play.refuse = cases[i].code;
		CHECK_EQ(tape_st_open("/dev/nst0", true, &d, &err), cases[i].result);
		CHECK(strstr(err.message, cases[i].says));
	}
	insert_tape();
	play.minor = 0;
	CHECK_EQ(tape_st_open("/dev/st0", true, &d, &err), -EINVAL);
	CHECK(strstr(err.message, "rewinds"));
}

static void strangers_are_told_from_blank_tapes(void)
{
	static uint8_t big[1 << 20];
	struct tape_volume *v;
	insert_tape();
	CHECK_EQ(tape_volume_open(drive(), false, &v, &err), -EINVAL);
	CHECK(strstr(err.message, "blank"));
	for (size_t len = 512; len <= sizeof big; len *= 2) {
		insert_tape();
		append(big, len);
		append(big, len);
		append(NULL, 0);
		play.at = len % 1024 ? 0 : 2;
		CHECK_EQ(tape_volume_open(drive(), false, &v, &err), -EINVAL);
		CHECK(strstr(err.message, "another format"));
		CHECK_EQ(play.count, 3);
		CHECK_EQ(tape_volume_create(drive(), 1 << 20, false, false, &v, &err), -EEXIST);
		CHECK_EQ(play.count, 3);
	}
}

int main(void)
{
	RUN(variable_blocks);
	RUN(fixed_blocks_as_the_drive_is_set);
	RUN(the_tape_says_how_it_is_written);
	RUN(a_drive_with_fixed_blocks_only);
	RUN(a_tape_that_was_not_moved_is_not_rewound);
	RUN(early_warning_and_end_of_medium);
	RUN(a_bad_record_costs_itself_alone);
	RUN(a_reset_is_survived_by_readers_and_told_to_writers);
	RUN(a_torn_row_is_cut_off);
	RUN(a_killed_writer_leaves_a_file_mark);
	RUN(what_open_refuses);
	RUN(strangers_are_told_from_blank_tapes);
	cut(0);
	return 0;
}
