/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending to a store's log, and what must be in it before bytes change.
 *
 * Records are encoded into a small buffer and written by one pwrite(). Only LOCAL ones ever wait in
 * it, of a MiB at most: to lose them costs no more than pulling, or pushing, that once more.
 * Everything else is written at once, after what waited, so that the log keeps the order of the
 * calls.
 */
#include "base/cleanup.h"
#include "base/io.h"
#include "chunk/store_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { RESERVE_BYTES = 64 << 10, WAITING_BLOCKS = (1 << 20) >> HITHER_BLOCK_SHIFT };

int hither_disk_fail(struct hither_store_disk *d, int code, const char *file, const char *what)
{
	if (!d->failed.code)
		hither_fail(&d->failed, code,
		            "%s/%s: %s: %s; what was stored since the last flush may be lost",
		            d->folder.path, file, what, strerror(-code));
	return code;
}

int hither_disk_usable_locked(const struct hither_store_disk *d, struct hither_error *err)
{
	if (d->failed.code)
		return hither_fail(err, d->failed.code, "%s", d->failed.message);
	if (d->state_fd < 0)
		return hither_fail(err, -EBADF, "%s: has no identity yet", d->folder.path);
	return 0;
}

/* --- appending --- */

/*
 * On a full disk it must still be possible to say that a block leaves, or nothing could: some room
 * behind the log is kept. False: there is less of it than there should be.
 */
static bool reserve_locked(struct hither_store_disk *d)
{
	if (d->log_bytes + d->pending_len + RESERVE_BYTES / 2 <= d->reserved_bytes)
		return true;
	if (fallocate(d->state_fd, FALLOC_FL_KEEP_SIZE, (off_t)d->log_bytes, RESERVE_BYTES) == 0)
		d->reserved_bytes = d->log_bytes + RESERVE_BYTES;
	else if (errno == EOPNOTSUPP)
		d->reserved_bytes = UINT64_MAX; /* this file system cannot: do without */
	else
		return errno != ENOSPC && errno != EDQUOT;
	return true;
}

bool hither_store_disk_roomy(struct hither_store *s)
{
	HITHER_LOCK_SCOPE(&s->disk->log_lock);
	return s->disk->state_fd < 0 || reserve_locked(s->disk);
}

int hither_disk_flush_locked(struct hither_store_disk *d)
{
	if (d->pending_len == 0)
		return 0;
	reserve_locked(d);
	int r = hither_pwrite_all(d->state_fd, d->pending, d->pending_len, d->log_bytes);
	if (r) {
		/* Half a record must not stay in front of the next one. */
		if (ftruncate(d->state_fd, (off_t)d->log_bytes) < 0)
			hither_disk_fail(d, r, "state", "cannot be cut back after a failed write");
		return r;
	}
	d->log_bytes += d->pending_len;
	d->pending_len = 0;
	d->pending_blocks = 0;
	return 0;
}

static bool is_run(enum hither_log_type type)
{
	return type == HITHER_LOG_ABSENT || type == HITHER_LOG_LOCAL || type == HITHER_LOG_DIRTY;
}

/* Make the pending record before longer, if that says the same. */
static bool merge_locked(struct hither_store_disk *d, const struct hither_log_record *record)
{
	if (d->pending_len < HITHER_LOG_RECORD_BYTES || record->type != HITHER_LOG_LOCAL ||
	    d->last.type != HITHER_LOG_LOCAL)
		return false;
	if (record->first == d->last.first + d->last.count)
		d->last.count += record->count;
	else if (record->first + record->count == d->last.first)
		d->last.first = record->first, d->last.count += record->count;
	else
		return false;
	size_t before = d->pending_len - HITHER_LOG_RECORD_BYTES;
	hither_log_encode(&d->header, d->log_bytes + before, &d->last, d->pending + before);
	return true;
}

int hither_disk_append_locked(struct hither_store_disk *d, const struct hither_log_record *record)
{
	bool may_wait = record->type == HITHER_LOG_LOCAL;
	if (is_run(record->type)) {
		d->noted = true;
		if (d->last.type == record->type && d->last.first == record->first &&
		    d->last.count == record->count)
			return may_wait ? 0 : hither_disk_flush_locked(d);
		if (merge_locked(d, record)) {
			d->pending_blocks += record->count;
			if (d->pending_blocks >= WAITING_BLOCKS)
				hither_disk_flush_locked(d); /* failing, it goes on waiting */
			return 0;
		}
	}
	size_t before = d->pending_len;
	if (before > HITHER_DISK_PENDING_BYTES - HITHER_LOG_IDENTITY_BYTES)
		return -ENOSPC; /* it could not be written before, and no more fits */
	d->pending_len +=
	        hither_log_encode(&d->header, d->log_bytes + before, record, d->pending + before);
	d->pending_blocks += may_wait ? record->count : 0;
	if (!may_wait || d->pending_blocks >= WAITING_BLOCKS ||
	    d->pending_len >= HITHER_DISK_PENDING_RECORDS * HITHER_LOG_RECORD_BYTES) {
		int r = hither_disk_flush_locked(d);
		if (r) {
			d->pending_len = before;
			return r;
		}
	}
	d->last = *record;
	return 0;
}

int hither_disk_found(struct hither_store_disk *d)
{
	pthread_mutex_lock(&d->log_lock);
	bool founded = d->founded;
	pthread_mutex_unlock(&d->log_lock);
	if (founded)
		return 0;
	int r = hither_store_folder_sync(&d->folder);
	HITHER_LOCK_SCOPE(&d->log_lock);
	if (r)
		return hither_disk_fail(d, r, "", "fsync of the folder");
	d->founded = true;
	return 0;
}

int hither_disk_sync_log(struct hither_store_disk *d)
{
	/* Whose it is before what it says: an empty log begins anew, nobody's cannot. */
	int r = hither_disk_found(d);
	if (r)
		return r;
	pthread_mutex_lock(&d->log_lock);
	int fd = d->state_fd;
	uint64_t end = d->log_bytes;
	pthread_mutex_unlock(&d->log_lock);
	r = fdatasync(fd) < 0 ? -errno : 0;
	HITHER_LOCK_SCOPE(&d->log_lock);
	if (r)
		return hither_disk_fail(d, r, "state", "fdatasync");
	if (end > d->durable_bytes)
		d->durable_bytes = end;
	return 0;
}

/* --- notes and intents --- */

void hither_disk_mark_regions_locked(struct hither_store_disk *d, uint64_t first, uint64_t count,
                                     uint8_t mark)
{
	for (uint64_t i = first / HITHER_LOG_REGION_BLOCKS;
	     i <= (first + count - 1) / HITHER_LOG_REGION_BLOCKS; i++)
		d->regions[i] |= mark;
}

static bool is_in_range(const struct hither_store *s, uint64_t first, uint64_t count)
{
	uint64_t blocks = hither_log_blocks(s->size_bytes);
	return first <= blocks && count <= blocks - first;
}

int hither_store_disk_note(struct hither_store *s, uint64_t first, uint64_t count,
                           enum hither_block_state state)
{
	static const enum hither_log_type types[] = {
	        [HITHER_BLOCK_ABSENT] = HITHER_LOG_ABSENT,
	        [HITHER_BLOCK_LOCAL] = HITHER_LOG_LOCAL,
	        [HITHER_BLOCK_DIRTY] = HITHER_LOG_DIRTY,
	        [HITHER_BLOCK_PUSHED] = HITHER_LOG_DIRTY, /* it is, as long as nobody flushed */
	};
	struct hither_store_disk *d = s->disk;
	struct hither_log_record record = {types[state], first, count, NULL};
	assert(is_in_range(s, first, count));
	HITHER_LOCK_SCOPE(&d->log_lock);
	int r = hither_disk_usable_locked(d, NULL);
	if (!r)
		r = hither_disk_append_locked(d, &record);
	if (!r && record.type == HITHER_LOG_DIRTY)
		hither_disk_mark_regions_locked(d, first, count, HITHER_REGION_DIRTY);
	return r;
}

/* Append an intent for each region that has none in this generation. *missed: how many. */
static int append_intents_locked(struct hither_store_disk *d, uint64_t first, uint64_t count,
                                 uint64_t *missed)
{
	*missed = 0;
	for (uint64_t i = first / HITHER_LOG_REGION_BLOCKS;
	     i <= (first + count - 1) / HITHER_LOG_REGION_BLOCKS; i++) {
		if (d->regions[i] & HITHER_REGION_INTENT)
			continue;
		struct hither_log_record record = {HITHER_LOG_INTENT, i, d->durable_bytes, NULL};
		int r = hither_disk_append_locked(d, &record);
		if (r)
			return r;
		++*missed;
	}
	return 0;
}

static int append_change_locked(struct hither_store_disk *d, uint64_t first, uint64_t count)
{
	struct hither_log_record record = {HITHER_LOG_CHANGE, first, count, NULL};
	return hither_disk_append_locked(d, &record);
}

static bool has_intents_locked(const struct hither_store_disk *d, uint64_t first, uint64_t count)
{
	for (uint64_t i = first / HITHER_LOG_REGION_BLOCKS;
	     i <= (first + count - 1) / HITHER_LOG_REGION_BLOCKS; i++)
		if (!(d->regions[i] & HITHER_REGION_INTENT))
			return false;
	return true;
}

/* The way it nearly always goes: no waiting. -EAGAIN: some region has no intent yet. */
static int intend_at_once(struct hither_store_disk *d, uint64_t first, uint64_t count)
{
	HITHER_LOCK_SCOPE(&d->log_lock);
	int r = hither_disk_usable_locked(d, NULL);
	if (r)
		return r;
	return has_intents_locked(d, first, count) ? append_change_locked(d, first, count)
	                                           : -EAGAIN;
}

/* One try: 0; -EAGAIN: a barrier began meanwhile, which makes these intents worthless. */
static int intend_slowly(struct hither_store_disk *d, uint64_t first, uint64_t count)
{
	uint64_t missed;
	pthread_mutex_lock(&d->log_lock);
	uint64_t generation = d->generation;
	int r = hither_disk_usable_locked(d, NULL);
	if (!r)
		r = append_intents_locked(d, first, count, &missed);
	if (!r)
		r = append_change_locked(d, first, count);
	pthread_mutex_unlock(&d->log_lock);
	if (!r && missed)
		r = hither_disk_sync_log(d);
	if (r)
		return r;
	HITHER_LOCK_SCOPE(&d->log_lock);
	if (generation != d->generation)
		return -EAGAIN;
	hither_disk_mark_regions_locked(d, first, count, HITHER_REGION_INTENT);
	return 0;
}

int hither_store_disk_intent(struct hither_store *s, uint64_t first, uint64_t count)
{
	assert(is_in_range(s, first, count));
	int r = intend_at_once(s->disk, first, count);
	if (r != -EAGAIN)
		return r;
	HITHER_LOCK_SCOPE(&s->disk->intent_lock);
	do {
		r = intend_slowly(s->disk, first, count);
	} while (r == -EAGAIN);
	return r;
}

static bool is_dirty_region_locked(const struct hither_store_disk *d, uint64_t first,
                                   uint64_t count)
{
	for (uint64_t i = first / HITHER_LOG_REGION_BLOCKS;
	     i <= (first + count - 1) / HITHER_LOG_REGION_BLOCKS; i++)
		if (d->regions[i] & HITHER_REGION_DIRTY)
			return true;
	return false;
}

int hither_store_disk_evict(struct hither_store *s, uint64_t first, uint64_t count)
{
	struct hither_store_disk *d = s->disk;
	int r = hither_store_disk_intent(s, first, count);
	if (!r)
		r = hither_store_disk_note(s, first, count, HITHER_BLOCK_ABSENT);
	if (r)
		return r;
	/* A block that the last barrier saw dirty would be so again: holes, to be pushed. */
	pthread_mutex_lock(&d->log_lock);
	bool must_last = is_dirty_region_locked(d, first, count) && d->durable_bytes < d->log_bytes;
	pthread_mutex_unlock(&d->log_lock);
	if (!must_last)
		return 0;
	HITHER_LOCK_SCOPE(&d->intent_lock);
	return hither_disk_sync_log(d);
}
