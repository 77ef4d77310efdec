/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's beginning and end: its label, opening and closing. */
#include "tape/volume.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define NO_RECORD UINT64_MAX
enum { PAGE_BYTES = 4096 };

static void free_volume(struct tape_volume *v)
{
	tape_volume_drop_tail(v);
	for (int i = 0; i < TAPE_KEPT; i++)
		free(v->kept[i].bytes);
	tape_index_finish(&v->index);
	free(v->pending_data);
	free(v->buf);
	v->drive->ops->close(v->drive);
	free(v);
}

static uint8_t *room_for_record(void)
{
	/* On a page's border, so that st need not copy it once more. */
	return aligned_alloc(PAGE_BYTES,
	                     (TAPE_RECORD_BYTES + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
}

/* Takes the drive, on failure too. */
static int make(struct tape_drive *d, struct tape_volume **out, struct hither_error *err)
{
	struct tape_volume *v = calloc(1, sizeof *v);
	if (!v) {
		d->ops->close(d);
		return hither_fail(err, -ENOMEM, "tape: no memory");
	}
	v->drive = d;
	v->cached = NO_RECORD;
	v->pending_data = malloc((size_t)TAPE_RECORD_BLOCKS * TAPE_BLOCK_BYTES);
	v->buf = room_for_record();
	if (!v->pending_data || !v->buf) {
		free_volume(v);
		return hither_fail(err, -ENOMEM, "tape: no memory");
	}
	*out = v;
	return 0;
}

static int make_index(struct tape_volume *v, struct hither_error *err)
{
	return tape_index_init(&v->index, v->size_bytes / TAPE_BLOCK_BYTES)
	               ? hither_fail(err, -ENOMEM, "tape: no memory for the index")
	               : 0;
}

/* --- a new one --- */

/* copying: of a volume that a copy begins to fill. */
static int write_label(struct tape_drive *d, uint64_t size_bytes, bool force, bool copying,
                       uint8_t id[16], struct hither_error *err)
{
	uint64_t end = 0;
	bool early;
	uint8_t buf[TAPE_HEAD_BYTES];
	struct tape_record r = {.kind = TAPE_LABEL, .size_bytes = size_bytes, .copying = copying};
	if (d->read_only)
		return hither_fail(err, -EROFS, "tape: the tape is write-protected");
	int e = d->ops->locate_end(d, &end, err);
	if (!e && end && !force)
		return hither_fail(err, -EEXIST,
		                   "tape: records on this tape: %llu; --force drops them",
		                   (unsigned long long)end);
	if (!e && getrandom(r.id, sizeof r.id, 0) != sizeof r.id)
		return hither_fail(err, -EIO, "tape: no random numbers");
	memcpy(id, r.id, sizeof r.id);
	tape_record_seal(buf, sizeof buf, &r);
	if (!e)
		e = d->ops->locate(d, 0, err);
	return e ? e : d->ops->write(d, buf, sizeof buf, &early, err);
}

int tape_volume_format(struct tape_drive *d, uint64_t size_bytes, bool force,
                       struct hither_error *err)
{
	uint8_t id[16];
	int e = write_label(d, size_bytes, force, false, id, err);
	return e ? e : d->ops->sync(d, err);
}

int tape_volume_create(struct tape_drive *d, uint64_t size_bytes, bool force, bool copying,
                       struct tape_volume **out, struct hither_error *err)
{
	struct tape_volume *v = NULL;
	int e = make(d, &v, err);
	if (e)
		return e;
	v->size_bytes = size_bytes;
	v->end = 1;
	v->unsynced = true;
	v->copying = copying;
	e = make_index(v, err);
	if (!e)
		e = write_label(d, size_bytes, force, copying, v->id, err);
	if (e)
		free_volume(v);
	else
		*out = v;
	return e;
}

/* --- one that is there --- */

static int read_label(struct tape_volume *v, struct hither_error *err)
{
	struct tape_drive *d = v->drive;
	struct tape_record r;
	size_t len;
	int e = d->ops->locate(d, 0, err);
	if (!e)
		e = d->ops->read(d, v->buf, TAPE_RECORD_BYTES, &len, err);
	/* Drives differ in what they answer to a read of a blank tape; all know where its data end.
	 */
	uint64_t end = 1;
	if (e == -EIO && !d->ops->locate_end(d, &end, NULL) && end == 0)
		e = -ENODATA;
	if (e == -ENODATA)
		return hither_fail(err, -EINVAL,
		                   "tape: the tape is blank; tapisk format makes a volume");
	if (e == -EMSGSIZE || (!e && (tape_record_parse(v->buf, len, &r) || r.kind != TAPE_LABEL)))
		return hither_fail(err, -EINVAL,
		                   "tape: the tape has no hither label: it is of another format");
	if (e)
		return e;
	memcpy(v->id, r.id, sizeof v->id);
	v->size_bytes = r.size_bytes;
	v->copying = r.copying;
	return 0;
}

int tape_volume_open(struct tape_drive *d, bool full_scan, struct tape_volume **out,
                     struct hither_error *err)
{
	return tape_volume_open_told(d, full_scan, NULL, out, err);
}

int tape_volume_open_told(struct tape_drive *d, bool full_scan,
                          const struct hither_tape_progress *progress, struct tape_volume **out,
                          struct hither_error *err)
{
	struct tape_volume *v = NULL;
	int e = make(d, &v, err);
	if (e)
		return e;
	v->progress = progress;
	/* Not at the beginning, where the label would cost nothing: perhaps still where we left it.
	 */
	if (d->record == 0 || !tape_volume_know_by_tail(v))
		e = read_label(v, err);
	if (!e)
		e = make_index(v, err);
	if (!e)
		e = tape_volume_recover(v, full_scan, err);
	v->progress = NULL;
	if (e)
		free_volume(v);
	else
		*out = v;
	return e;
}

int tape_volume_close(struct tape_volume *v, struct hither_error *err)
{
	int e = 0;
	if (!v->drive->read_only) {
		e = tape_volume_finish(v, err);
		if (!e && v->unsynced)
			e = v->drive->ops->sync(v->drive, err);
	}
	free_volume(v);
	return e;
}
