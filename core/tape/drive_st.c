/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A drive of the Linux st driver, in variable block mode: one write() is one record, one read()
 * takes one. Sources: st(4) and the kernel's Documentation/scsi/st.rst.
 */
#include "base/cleanup.h"
#include "tape/drive.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mtio.h>
#include <sys/stat.h>

struct tape_st {
	struct tape_drive base;
	int fd;
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

static int st_read(struct tape_drive *d, void *buf, size_t size, size_t *len,
                   struct hither_error *err)
{
	struct tape_st *t = self(d);
	struct mtget get;
	ssize_t n;
	/* A file mark, which st writes by itself at the close of a tape written to, reads as 0. */
	while ((n = read(t->fd, buf, size)) == 0 && !ioctl(t->fd, MTIOCGET, &get) &&
	       GMT_EOF(get.mt_gstat) && !GMT_EOD(get.mt_gstat))
		d->record++;
	unsigned long long at = d->record;
	if (n < 0 && errno == ENOMEM) /* st(4): the record is longer than the buffer */
		return hither_fail(err, -EMSGSIZE, "tape: %s: record %llu is too long", t->path,
		                   at);
	int code = errno;
	/* Reading on a blank tape, or again at the end of data, is EIO; MTIOCGET tells it apart. */
	if (n == 0 || (n < 0 && !ioctl(t->fd, MTIOCGET, &get) && GMT_EOD(get.mt_gstat)))
		return hither_fail(err, -ENODATA, "tape: %s: end of data at record %llu", t->path,
		                   at);
	if (n < 0)
		return hither_fail(err, -EIO, "tape: %s: record %llu: %s", t->path, at,
		                   strerror(code));
	d->record++;
	*len = (size_t)n;
	return 0;
}

/* st(4): at the early warning a write fails once with ENOSPC, and the next one succeeds. */
static int st_write(struct tape_drive *d, const void *buf, size_t len, bool *early,
                    struct hither_error *err)
{
	struct tape_st *t = self(d);
	*early = false;
	ssize_t n = write(t->fd, buf, len);
	if (n < 0 && errno == ENOSPC) {
		*early = true;
		n = write(t->fd, buf, len);
	}
	if (n != (ssize_t)len)
		return hither_fail(err, n < 0 ? -errno : -EIO, "tape: write %s, record %llu: %s",
		                   t->path, (unsigned long long)d->record,
		                   n < 0 ? strerror(errno) : "cut short");
	d->record++;
	return 0;
}

/* Zero file marks: the drive empties its buffer, nothing is written. */
static int st_sync(struct tape_drive *d, struct hither_error *err)
{
	int r = operate(self(d), MTWEOF, 0);
	return r ? hither_fail(err, -EIO, "tape: flush %s: %s", self(d)->path, strerror(-r)) : 0;
}

static int st_locate(struct tape_drive *d, uint64_t record, struct hither_error *err)
{
	if (record == d->record)
		return 0;
	int r = record > INT32_MAX ? -EFBIG : operate(self(d), MTSEEK, (int)record);
	if (r)
		return hither_fail(err, -EIO, "tape: %s: locate record %llu: %s", self(d)->path,
		                   (unsigned long long)record, strerror(-r));
	d->record = record;
	return 0;
}

static int st_locate_end(struct tape_drive *d, uint64_t *record, struct hither_error *err)
{
	struct tape_st *t = self(d);
	struct mtpos pos;
	int r = operate(t, MTEOM, 1);
	if (!r && ioctl(t->fd, MTIOCPOS, &pos))
		r = -errno;
	if (r)
		return hither_fail(err, -EIO, "tape: %s: end of data: %s", t->path, strerror(-r));
	d->record = *record = (uint64_t)pos.mt_blkno;
	return 0;
}

static void st_close(struct tape_drive *d)
{
	close(self(d)->fd);
	free(self(d));
}

static const struct tape_drive_ops st_ops = {st_read,   st_write,      st_sync,
                                             st_locate, st_locate_end, st_close};

int tape_st_open(const char *path, bool writable, struct tape_drive **out, struct hither_error *err)
{
	HITHER_CLOSE int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return hither_fail(err, -errno, "tape: open %s: %s", path, strerror(errno));
	struct tape_st *t = calloc(1, sizeof *t + strlen(path) + 1);
	if (!t)
		return hither_fail(err, -ENOMEM, "tape: no memory to open %s", path);
	memcpy(t->path, path, strlen(path) + 1);
	t->fd = HITHER_TAKE(fd, -1);
	t->base = (struct tape_drive){.ops = &st_ops, .read_only = !writable};
	int r = operate(t, MTSETBLK, 0);
	if (!r)
		r = operate(t, MTREW, 1);
	if (r) {
		st_close(&t->base);
		return hither_fail(err, r, "tape: %s: is a tape loaded, and is it a drive? %s",
		                   path, strerror(-r));
	}
	*out = &t->base;
	return 0;
}

int tape_drive_open(const char *path, bool writable, uint64_t create_bytes, struct tape_drive **out,
                    struct hither_error *err)
{
	struct stat st;
	if (!stat(path, &st) && S_ISCHR(st.st_mode))
		return tape_st_open(path, writable, out, err);
	return tape_file_open(path, writable, create_bytes, out, err);
}
