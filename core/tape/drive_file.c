/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tape in a file, with the time that a drive would take, which passes in a counter, or really
 * (HITHER_TAPE_PACE=1 in the environment, =60 for sixty times as fast):
 *
 *     "HITHTAPF" u64 capacity      16 bytes, little endian
 *     u32 "TREC" u32 length  bytes      a record; and so on
 *
 * A frame that is cut short is the end of data, as where a drive lost power. Writing cuts the file
 * behind the position first.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "tape/drive.h"
#include "tape/record.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { HEAD_BYTES = 16, FRAME_BYTES = 8, EARLY_BYTES = 16 << 20 };
static const char head_magic[8] = {'H', 'I', 'T', 'H', 'T', 'A', 'P', 'F'};
#define FRAME_MAGIC UINT32_C(0x43455254)

struct tape_file {
	struct tape_drive base;
	int fd;
	uint64_t *start; /* [count + 1]: where each frame begins; the last: end of data */
	uint64_t count, room;
	bool stopped;  /* streaming ended here: to go on, the tape is backed up first */
	bool was_read; /* just now: the drive is ahead, so before a write it backs up, too */
	bool dirty;
	double pace;      /* 0: the time need not pass */
	uint64_t paid_ns; /* of base.busy_ns */
	uint64_t free_ns; /* when the drive has done what it was told, on the clock */
	char path[];
};

static struct tape_file *self(struct tape_drive *d)
{
	return HITHER_CONTAINER(d, struct tape_file, base);
}

/* Return when a drive would have. It was idle since it was free. */
static void keep_pace(struct tape_file *t)
{
	if (t->pace <= 0)
		return;
	uint64_t now = hither_now_ns();
	if (t->free_ns < now)
		t->free_ns = now;
	t->free_ns += (uint64_t)((double)(t->base.busy_ns - t->paid_ns) / t->pace);
	t->paid_ns = t->base.busy_ns;
	struct timespec until = hither_timespec(t->free_ns);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

static void charge_bytes(struct tape_file *t, uint64_t len)
{
	if (t->stopped)
		t->base.busy_ns += tape_model_lto9.backhitch_ns;
	t->stopped = false;
	t->base.busy_ns +=
	        (uint64_t)((unsigned __int128)len * 1000000000u / tape_model_lto9.rate_bytes);
	keep_pace(t);
}

static int add_start(struct tape_file *t, uint64_t start)
{
	if (t->count + 1 >= t->room) {
		uint64_t room = t->room ? 2 * t->room : 256;
		uint64_t *grown = realloc(t->start, room * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		t->start = grown;
		t->room = room;
	}
	t->start[++t->count] = start;
	return 0;
}

static int file_read(struct tape_drive *d, void *buf, size_t size, size_t *len,
                     struct hither_error *err)
{
	struct tape_file *t = self(d);
	if (d->record >= t->count)
		return hither_fail(err, -ENODATA, "tape: %s: end of data at record %llu", t->path,
		                   (unsigned long long)d->record);
	uint64_t start = t->start[d->record] + FRAME_BYTES, n = t->start[d->record + 1] - start;
	if (n > size)
		return hither_fail(err, -EMSGSIZE, "tape: %s: record %llu has %llu bytes", t->path,
		                   (unsigned long long)d->record, (unsigned long long)n);
	int r = hither_pread_all(t->fd, buf, n, start);
	if (r)
		return hither_fail(err, -EIO, "tape: %s: record %llu: %s", t->path,
		                   (unsigned long long)d->record, strerror(-r));
	charge_bytes(t, n);
	t->was_read = true;
	d->record++;
	*len = n;
	return 0;
}

/* Drop what is behind the position. */
static int cut(struct tape_file *t)
{
	uint64_t end = t->start[t->base.record];
	struct stat st;
	if (fstat(t->fd, &st))
		return -errno;
	t->count = t->base.record;
	return (uint64_t)st.st_size == end || !ftruncate(t->fd, (off_t)end) ? 0 : -errno;
}

static int file_write(struct tape_drive *d, const void *buf, size_t len, bool *early,
                      struct hither_error *err)
{
	struct tape_file *t = self(d);
	uint64_t start = t->start[d->record], end = start + FRAME_BYTES + len;
	if (d->read_only)
		return hither_fail(err, -EROFS, "tape: %s is write-protected", t->path);
	*early = end + EARLY_BYTES > d->capacity_bytes;
	if (end > d->capacity_bytes)
		return hither_fail(err, -ENOSPC, "tape: %s: end of medium after %llu records",
		                   t->path, (unsigned long long)d->record);
	uint32_t frame[2] = {htole32(FRAME_MAGIC), htole32((uint32_t)len)};
	int r = cut(t);
	if (!r)
		r = hither_pwrite_all(t->fd, frame, sizeof frame, start);
	if (!r)
		r = hither_pwrite_all(t->fd, buf, len, start + FRAME_BYTES);
	if (!r)
		r = add_start(t, end);
	if (r)
		return hither_fail(err, r == -ENOSPC ? -EIO : r, "tape: write %s: %s", t->path,
		                   strerror(-r));
	t->stopped |= t->was_read;
	t->was_read = false;
	charge_bytes(t, len);
	t->dirty = true;
	d->record++;
	return 0;
}

static int file_sync(struct tape_drive *d, struct hither_error *err)
{
	struct tape_file *t = self(d);
	if (!t->dirty)
		return 0;
	if (fdatasync(t->fd))
		return hither_fail(err, -EIO, "tape: flush %s: %s", t->path, strerror(errno));
	t->dirty = false;
	t->stopped = true;
	return 0;
}

static int file_locate(struct tape_drive *d, uint64_t record, struct hither_error *err)
{
	struct tape_file *t = self(d);
	if (record > t->count)
		return hither_fail(err, -EIO, "tape: %s has %llu records, not %llu", t->path,
		                   (unsigned long long)t->count, (unsigned long long)record);
	if (record == d->record)
		return 0;
	uint64_t from = d->record < t->count ? d->record : t->count;
	d->busy_ns += tape_model_seek_ns(&tape_model_lto9, d->origin_bytes + t->start[from],
	                                 d->origin_bytes + t->start[record]);
	keep_pace(t);
	t->stopped = t->was_read = false; /* the seek has the start in it */
	d->record = record;
	return 0;
}

static int file_locate_end(struct tape_drive *d, uint64_t *record, struct hither_error *err)
{
	*record = self(d)->count;
	return file_locate(d, *record, err);
}

static void file_close(struct tape_drive *d)
{
	struct tape_file *t = self(d);
	close(t->fd);
	free(t->start);
	free(t);
}

static const struct tape_drive_ops file_ops = {file_read,   file_write,      file_sync,
                                               file_locate, file_locate_end, file_close};

/*
 * Behind a frame that is none, where does record `number` begin, which comes after the one that is
 * damaged? 0: not where it should. Bytes of a block may look like a frame, too, but hardly like
 * that one.
 */
static int find_next(struct tape_file *t, uint64_t at, uint64_t size, uint64_t number,
                     uint64_t *next)
{
	enum { WINDOW = FRAME_BYTES + TAPE_RECORD_BYTES, NEXT = FRAME_BYTES + TAPE_HEAD_BYTES };
	const uint32_t magic = htole32(FRAME_MAGIC);
	uint64_t len = size - at < WINDOW + NEXT ? size - at : WINDOW + NEXT;
	uint8_t first[TAPE_HEAD_BYTES];
	HITHER_FREE uint8_t *buf = malloc(len);
	*next = 0;
	int r = buf ? hither_pread_all(t->fd, buf, len, at) : -ENOMEM;
	bool known = !r && t->count &&
	             !hither_pread_all(t->fd, first, sizeof first, t->start[0] + FRAME_BYTES);
	for (uint64_t i = FRAME_BYTES; !r && !*next && i + NEXT <= len; i++)
		if (!memcmp(buf + i, &magic, sizeof magic) &&
		    tape_record_looks(buf + i + FRAME_BYTES,
		                      known && tape_record_looks(first, NULL, 0)
		                              ? first + TAPE_RECORD_ID_AT
		                              : NULL,
		                      number))
			*next = at + i;
	return r;
}

/*
 * What begins at *at, for record number t->count, is no frame: one that was never written, in the
 * end; or one that is damaged; or the length of that before is. *at: where to go on, 0: nowhere.
 */
static int pass_over(struct tape_file *t, uint64_t *at, uint64_t size, bool zeros,
                     struct hither_error *err)
{
	uint64_t from = *at, left = size - from, next = 0;
	int r = 0;
	if (t->count)
		r = find_next(t, t->start[t->count - 1], size, t->count, &next);
	if (next && next != from)
		t->count--;
	else if (!r)
		r = find_next(t, from, size, t->count + 1, &next);
	*at = next;
	if (r)
		return hither_fail(err, r, "tape: read %s: %s", t->path, strerror(-r));
	if (next || zeros || left <= FRAME_BYTES + TAPE_RECORD_BYTES)
		return 0;
	return hither_fail(err, -EUCLEAN,
	                   "tape: %s is damaged at byte %llu, where record %llu begins, and what "
	                   "is behind would be lost: keep a copy, then truncate -s %llu drops it",
	                   t->path, (unsigned long long)from, (unsigned long long)t->count,
	                   (unsigned long long)from);
}

/* Find the records; what is cut short ends them. */
static int scan(struct tape_file *t, uint64_t size, struct hither_error *err)
{
	uint64_t at = HEAD_BYTES;
	uint32_t frame[2];
	t->start = malloc(256 * sizeof *t->start);
	if (!t->start)
		return hither_fail(err, -ENOMEM, "tape: no memory to open %s", t->path);
	t->room = 256;
	t->start[0] = at;
	while (size - at >= FRAME_BYTES) {
		int r = hither_pread_all(t->fd, frame, sizeof frame, at);
		if (r)
			return hither_fail(err, r, "tape: read %s: %s", t->path, strerror(-r));
		uint64_t len = le32toh(frame[1]);
		if (le32toh(frame[0]) == FRAME_MAGIC && len <= size - at - FRAME_BYTES)
			at += FRAME_BYTES + len;
		else
			r = pass_over(t, &at, size, !frame[0] && !frame[1], err);
		if (r || !at)
			return r;
		if (add_start(t, at))
			return hither_fail(err, -ENOMEM, "tape: no memory to open %s", t->path);
	}
	return 0;
}

static int open_or_create(const char *path, bool writable, uint64_t create_bytes)
{
	if (!create_bytes)
		return open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return fd;
	char head[HEAD_BYTES];
	uint64_t size = htole64(create_bytes);
	memcpy(head, head_magic, sizeof head_magic);
	memcpy(head + sizeof head_magic, &size, sizeof size);
	int r = hither_pwrite_all(fd, head, sizeof head, 0);
	if (!r && fsync(fd))
		r = -errno;
	if (!r)
		return fd;
	close(fd);
	unlink(path);
	errno = -r;
	return -1;
}

static int take_pace(struct tape_file *t, struct hither_error *err)
{
	const char *pace = getenv("HITHER_TAPE_PACE");
	char *end;
	if (!pace || !*pace)
		return 0;
	t->pace = strtod(pace, &end);
	return !*end && isfinite(t->pace) && t->pace >= 0
	               ? 0
	               : hither_fail(err, -EINVAL,
	                             "tape: HITHER_TAPE_PACE is %s: 1 is as slow as a drive, 60 "
	                             "sixty times as fast; unset it for no pace",
	                             pace);
}

int tape_file_open(const char *path, bool writable, uint64_t create_bytes, struct tape_drive **out,
                   struct hither_error *err)
{
	HITHER_CLOSE int fd = open_or_create(path, writable, create_bytes);
	if (fd < 0)
		return hither_fail(
		        err, (errno == EACCES || errno == EPERM) && writable ? -EROFS : -errno,
		        "tape: open %s: %s", path, strerror(errno));
	char head[HEAD_BYTES];
	uint64_t capacity;
	struct stat st;
	if (flock(fd, (writable ? LOCK_EX : LOCK_SH) | LOCK_NB))
		return hither_fail(err, -EBUSY, "tape: another process uses %s", path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || hither_pread_all(fd, head, sizeof head, 0) ||
	    memcmp(head, head_magic, sizeof head_magic))
		return hither_fail(err, -EINVAL,
		                   "tape: %s is no tape file; tapisk format makes one", path);
	memcpy(&capacity, head + 8, 8);
	struct tape_file *t = calloc(1, sizeof *t + strlen(path) + 1);
	if (!t)
		return hither_fail(err, -ENOMEM, "tape: no memory to open %s", path);
	memcpy(t->path, path, strlen(path) + 1);
	t->fd = HITHER_TAKE(fd, -1);
	t->base = (struct tape_drive){
	        .ops = &file_ops, .read_only = !writable, .capacity_bytes = le64toh(capacity)};
	int r = take_pace(t, err);
	if (!r)
		r = scan(t, (uint64_t)st.st_size, err);
	if (r) {
		file_close(&t->base);
		return r;
	}
	*out = &t->base;
	return 0;
}
