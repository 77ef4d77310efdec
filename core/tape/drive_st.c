/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drive of the Linux st driver. Sources: st(4), the kernel's Documentation/scsi/st.rst, and where
 * those are silent drivers/scsi/st.c.
 *
 * In variable block mode one write() is one record and one block of the tape. In fixed block mode,
 * for drives that know no other or are set so, a record is a row of blocks, framed and filled with
 * zeros, so that its number times the length of a row is where it is:
 *
 *     "HITHFIXB" u32 bytes of a block, u32 bytes of the record, the record, zeros
 *
 * How a tape is written is seen by reading its first block in variable mode: a fixed one says how
 * long it is. A new tape is written as the drive is set (mt setblk).
 */
#include "base/cleanup.h"
#include "tape/drive.h"
#include "tape/record.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mtio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { ST_MAJOR = 9, ST_NO_REWIND = 128, FRAME_BYTES = 16, PAGE_BYTES = 4096 };
static const char frame_magic[8] = {'H', 'I', 'T', 'H', 'F', 'I', 'X', 'B'};
#define UNKNOWN UINT64_MAX /* where the tape is: the next locate really moves it */

struct tape_st {
	struct tape_drive base;
	int fd;
	uint32_t block; /* bytes of a block; 0: variable block mode */
	uint32_t set;   /* the same, as the drive was when we opened it */
	bool seen;      /* how this tape is written has been looked at */
	uint64_t end;   /* how many records there are; UNKNOWN */
	uint8_t *row;   /* a record in fixed block mode; page-aligned, or st copies it once more */
	size_t row_bytes;
	size_t peeked; /* bytes of record 0 in row: the tape is behind it, base.record is not */
	char path[];
};

static struct tape_st *self(struct tape_drive *d)
{
	return HITHER_CONTAINER(d, struct tape_st, base);
}

static int operate(struct tape_st *t, short op, int count)
{
	struct mtop mt = {.mt_op = op, .mt_count = count};
	return ioctl(t->fd, MTIOCTOP, &mt) ? -errno : 0;
}

static uint64_t blocks_in_row(const struct tape_st *t)
{
	return t->block ? t->row_bytes / t->block : 1;
}

/* Have rows of blocks so long; 0: variable. */
static int use_block(struct tape_st *t, uint32_t block)
{
	size_t bytes = TAPE_RECORD_BYTES;
	if (block)
		bytes = (TAPE_RECORD_BYTES + FRAME_BYTES + block - 1) / block * block;
	uint8_t *row =
	        aligned_alloc(PAGE_BYTES, (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
	if (!row)
		return -ENOMEM;
	int r = operate(t, MTSETBLK, (int)block);
	if (r) {
		free(row);
		return r;
	}
	free(t->row);
	t->row = row;
	t->row_bytes = bytes;
	t->block = block;
	t->peeked = 0;
	return 0;
}

/* At record 0: how is this tape written? Nothing readable there: as the drive is set. */
static int look(struct tape_st *t)
{
	uint32_t frame[2];
	ssize_t n = -1;
	bool any_length = !use_block(t, 0); /* some drives know fixed blocks only */
	t->seen = true;
	if (any_length)
		n = read(t->fd, t->row, t->row_bytes);
	if (n >= FRAME_BYTES && !memcmp(t->row, frame_magic, sizeof frame_magic)) {
		memcpy(frame, t->row + sizeof frame_magic, sizeof frame);
		int r = le32toh(frame[0]) == (size_t)n ? use_block(t, (uint32_t)n) : -EINVAL;
		return r ? r : operate(t, MTREW, 1);
	}
	t->base.record = 0;
	if (n > 0) {
		t->peeked = (size_t)n;
		return 0;
	}
	int r = use_block(t, t->set);
	return r ? r : operate(t, MTREW, 1);
}

/* --- reading --- */

/*
 * A record of n bytes is in a row that was read. One that is cut short, or no row of ours, is
 * given as it is: whoever parses it finds it torn.
 */
static int unpack(struct tape_st *t, size_t n, void *buf, size_t size, size_t *len)
{
	uint32_t frame[2];
	const uint8_t *from = t->row;
	if (n == t->row_bytes && !memcmp(from, frame_magic, sizeof frame_magic)) {
		memcpy(frame, from + sizeof frame_magic, sizeof frame);
		if (le32toh(frame[0]) == t->block && le32toh(frame[1]) <= n - FRAME_BYTES) {
			from += FRAME_BYTES;
			n = le32toh(frame[1]);
		}
	}
	if (n > size)
		return -EMSGSIZE;
	memcpy(buf, from, n);
	*len = n;
	return 0;
}

/*
 * What stopped a read. A file mark, which st writes by itself when a tape that was written to is
 * moved or closed without a sync, reads as 0, and is where our records end. So does the end of data
 * behind one; without one it is EIO, as a bad medium is. Not even MTIOCGET tells these two apart
 * (GMT_EOD is set behind a file mark only), but whoever has been at the end knows where it is.
 */
static int why_not_read(struct tape_st *t, ssize_t n, int code, uint64_t at,
                        struct hither_error *err)
{
	unsigned long long record = at;
	if (n == 0 || (code == EIO && at >= t->end))
		return hither_fail(err, -ENODATA, "tape: %s: end of data at record %llu", t->path,
		                   record);
	if (code == ENOMEM) /* longer than the buffer; in fixed block mode this is EIO */
		return hither_fail(err, -EMSGSIZE, "tape: %s: record %llu is too long", t->path,
		                   record);
	return hither_fail(err, -code, "tape: %s: record %llu: %s", t->path, record,
	                   strerror(code));
}

static int st_read(struct tape_drive *d, void *buf, size_t size, size_t *len,
                   struct hither_error *err)
{
	struct tape_st *t = self(d);
	uint64_t at = d->record;
	ssize_t n = (ssize_t)t->peeked;
	bool by_row = t->block || t->peeked;
	if (!t->peeked)
		n = t->block ? read(t->fd, t->row, t->row_bytes) : read(t->fd, buf, size);
	t->peeked = 0;
	d->record = UNKNOWN; /* after an error the tape may be before or behind the record */
	if (n <= 0)
		return why_not_read(t, n, errno, at, err);
	*len = (size_t)n;
	if (by_row && unpack(t, (size_t)n, buf, size, len))
		return hither_fail(err, -EMSGSIZE, "tape: %s: record %llu is too long", t->path,
		                   (unsigned long long)at);
	if (t->block && (size_t)n < t->row_bytes)
		return 0; /* a part of a row: the tape is nowhere where a record begins */
	d->record = at + 1;
	return 0;
}

/* --- writing --- */

static void pack(struct tape_st *t, const void *buf, size_t len)
{
	uint32_t frame[2] = {htole32(t->block), htole32((uint32_t)len)};
	memcpy(t->row, frame_magic, sizeof frame_magic);
	memcpy(t->row + sizeof frame_magic, frame, sizeof frame);
	memcpy(t->row + FRAME_BYTES, buf, len);
	memset(t->row + FRAME_BYTES + len, 0, t->row_bytes - FRAME_BYTES - len);
}

/*
 * st.rst, "EOM Behaviour When Writing": the write that meets the early warning is done, and the
 * next one is refused with ENOSPC, once; then each second one, so that a trailer can be written.
 * Refused twice in a row, the medium has ended. In fixed block mode a part may have been written.
 */
static int write_all(struct tape_st *t, const uint8_t *bytes, size_t len, bool *early)
{
	size_t done = 0;
	bool refused = false;
	while (done < len) {
		ssize_t n = write(t->fd, bytes + done, len - done);
		if (n < 0 && errno == ENOSPC && !refused) {
			*early = refused = true;
			continue;
		}
		if (n < 0)
			return -errno;
		done += (size_t)n;
		if (done < len && !t->block) /* the rest would be a record of its own */
			return -ENOSPC;
		*early |= done < len;
		refused = false;
	}
	return 0;
}

static int st_write(struct tape_drive *d, const void *buf, size_t len, bool *early,
                    struct hither_error *err)
{
	struct tape_st *t = self(d);
	uint64_t at = d->record;
	int r = 0;
	*early = false;
	if (at == 0) /* a new tape: as the drive was set */
		r = operate(t, MTREW, 1);
	if (!r && at == 0)
		r = use_block(t, t->set);
	d->record = UNKNOWN;
	t->end = UNKNOWN;
	if (!r && t->block)
		pack(t, buf, len);
	if (!r)
		r = t->block ? write_all(t, t->row, t->row_bytes, early)
		             : write_all(t, buf, len, early);
	if (r)
		return hither_fail(err, r, "tape: write %s, record %llu: %s", t->path,
		                   (unsigned long long)at, strerror(-r));
	d->record = t->end = at + 1; /* what was behind it is gone */
	return 0;
}

/*
 * Zero file marks: the drive empties its buffer, nothing is written. Errors that it, or st where it
 * writes behind, had deferred come back here, if no write before had them.
 */
static int st_sync(struct tape_drive *d, struct hither_error *err)
{
	int r = operate(self(d), MTWEOF, 0);
	return r ? hither_fail(err, -EIO, "tape: flush %s: %s", self(d)->path, strerror(-r)) : 0;
}

/* --- moving --- */

static int rewind_tape(struct tape_st *t)
{
	int r = operate(t, MTREW, 1);
	if (!r && !t->seen)
		r = look(t);
	return r;
}

/* MTSEEK also ends the state in which st refuses all after a reset of the bus. */
static int st_locate(struct tape_drive *d, uint64_t record, struct hither_error *err)
{
	struct tape_st *t = self(d);
	if (record == d->record)
		return 0;
	t->peeked = 0;
	uint64_t blocks = blocks_in_row(t);
	int r = record > INT32_MAX / blocks ? -EFBIG
	        : record                    ? operate(t, MTSEEK, (int)(record * blocks))
	                                    : rewind_tape(t);
	d->record = r ? UNKNOWN : record;
	return r ? hither_fail(err, r == -ENODEV || r == -ENXIO ? r : -EIO,
	                       "tape: %s: locate record %llu: %s", t->path,
	                       (unsigned long long)record, strerror(-r))
	         : 0;
}

/* -errno, or how many blocks and file marks are before the tape's position. */
static long position(struct tape_st *t)
{
	struct mtpos pos;
	return ioctl(t->fd, MTIOCPOS, &pos) ? -(long)errno : pos.mt_blkno;
}

static int st_locate_end(struct tape_drive *d, uint64_t *record, struct hither_error *err)
{
	struct tape_st *t = self(d);
	uint64_t blocks = blocks_in_row(t);
	int r = operate(t, MTEOM, 1);
	long at = r ? r : position(t);
	t->peeked = 0;
	d->record = UNKNOWN;
	if (at < 0)
		return hither_fail(err, -EIO, "tape: %s: end of data: %s", t->path,
		                   strerror((int)-at));
	/* The last row may be cut short, or be st's file mark. */
	*record = t->end = ((uint64_t)at + blocks - 1) / blocks;
	if ((uint64_t)at % blocks == 0)
		d->record = *record;
	return 0;
}

static void st_close(struct tape_drive *d)
{
	close(self(d)->fd);
	free(self(d)->row);
	free(self(d));
}

static const struct tape_drive_ops st_ops = {st_read,   st_write,      st_sync,
                                             st_locate, st_locate_end, st_close};

/* --- opening --- */

/*
 * Only root may set these; they make things quicker or tell sooner, nothing depends on them.
 * Positions that count file marks, as our numbers do; to the end of data in one movement; the door
 * locked while we use it (by the driver, which unlocks it however we end). No errors that come with
 * a later call, and no reading ahead of rows.
 */
static void set_options(struct tape_st *t)
{
	operate(t, MTSETDRVBUFFER,
	        MT_ST_SETBOOLEANS | MT_ST_SCSI2LOGICAL | MT_ST_FAST_MTEOM | MT_ST_AUTO_LOCK);
	operate(t, MTSETDRVBUFFER,
	        MT_ST_CLEARBOOLEANS | MT_ST_BUFFER_WRITES | MT_ST_ASYNC_WRITES | MT_ST_READ_AHEAD);
}

static int start(struct tape_st *t)
{
	struct mtget get;
	if (ioctl(t->fd, MTIOCGET, &get))
		return -errno;
	t->set = t->block = (uint32_t)get.mt_dsreg & MT_ST_BLKSIZE_MASK;
	t->end = UNKNOWN;
	set_options(t);
	/* Where an earlier use has left it, as it was set then. */
	long at = position(t);
	if (at <= 0)
		return rewind_tape(t);
	t->base.record = UNKNOWN;
	return use_block(t, t->block);
}

static const char *what_to_do(int code)
{
	switch (code) {
	case EBUSY:
		return "another process uses it";
	case EROFS:
	case EACCES:
		return "the tape is write-protected, or not yours to write";
	case ENOMEDIUM:
		return "no tape is loaded";
	case EIO:
		return "the drive is not ready: is a tape loaded?";
	case ENOTTY:
	case EINVAL:
		return "it is no tape drive";
	default:
		return strerror(code);
	}
}

int tape_st_open(const char *path, bool writable, struct tape_drive **out, struct hither_error *err)
{
	struct stat st;
	HITHER_CLOSE int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return hither_fail(err, errno == EACCES && writable ? -EROFS : -errno,
		                   "tape: open %s: %s", path, what_to_do(errno));
	if (major(st.st_rdev) == ST_MAJOR && !(minor(st.st_rdev) & ST_NO_REWIND))
		return hither_fail(err, -EINVAL,
		                   "tape: %s rewinds the tape whenever it is closed; use the "
		                   "device that does not (nst)",
		                   path);
	struct tape_st *t = calloc(1, sizeof *t + strlen(path) + 1);
	if (!t)
		return hither_fail(err, -ENOMEM, "tape: no memory to open %s", path);
	memcpy(t->path, path, strlen(path) + 1);
	t->fd = HITHER_TAKE(fd, -1);
	t->base = (struct tape_drive){.ops = &st_ops, .read_only = !writable};
	int r = start(t);
	if (r) {
		st_close(&t->base);
		return hither_fail(err, r, "tape: %s: %s", path, what_to_do(-r));
	}
	*out = &t->base;
	return 0;
}

int tape_drive_open(const char *path, bool writable, uint64_t create_bytes, struct tape_drive **out,
                    struct hither_error *err)
{
	struct stat st;
	int there = stat(path, &st);
	if (!there && S_ISCHR(st.st_mode))
		return tape_st_open(path, writable, out, err);
	/* A tape file made there would be lost with the machine's next start. */
	if (there && !strncmp(path, "/dev/", 5) && strncmp(path, "/dev/shm/", 9) != 0)
		return hither_fail(
		        err, -ENODEV,
		        "tape: %s: there is no such drive: is its driver loaded (modprobe "
		        "st)? A tape file may be anywhere but below /dev",
		        path);
	return tape_file_open(path, writable, create_bytes, out, err);
}
