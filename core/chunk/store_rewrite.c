/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shortest log that says the same, put in place of the old one: state.new, fsync, rename,
 * fsync. The first one of a store has nothing to lose, and waits for no disk (hither_disk_found()).
 */
#include "base/cleanup.h"
#include "base/io.h"
#include "chunk/store_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum {
	REWRITE_BUFFER_BYTES = 2048 * HITHER_LOG_RECORD_BYTES,
	LONG_LOG_BYTES = 1 << 20,
	LONG_LOG_FACTOR = 4,
};

struct rewrite {
	struct hither_log_header *header;
	int fd;
	uint64_t at; /* bytes written */
	size_t used;
	uint8_t *buf; /* REWRITE_BUFFER_BYTES */
};

static int rewrite_flush(struct rewrite *w)
{
	int r = hither_write_all(w->fd, w->buf, w->used);
	w->at += w->used;
	w->used = 0;
	return r;
}

static int rewrite_add(struct rewrite *w, enum hither_log_type type, uint64_t first, uint64_t count)
{
	struct hither_log_record record = {type, first, count, NULL};
	int r = 0;
	if (w->used + HITHER_LOG_IDENTITY_BYTES > REWRITE_BUFFER_BYTES)
		r = rewrite_flush(w);
	if (!r)
		w->used += hither_log_encode(w->header, w->at + w->used, &record, w->buf + w->used);
	return r;
}

static int rewrite_runs(struct rewrite *w, const struct hither_block_map *map)
{
	uint64_t end = map ? hither_log_blocks(w->header->identity.size_bytes) : 0;
	uint64_t at = 0, run;
	/* DIRTY and PUSHED are one to the log. */
	while (at < end && hither_block_map_run(map, at, end, 1, HITHER_BLOCKS_PRESENT, &at)) {
		bool local = hither_block_map_get(map, at) == HITHER_BLOCK_LOCAL;
		run = hither_block_map_run(map, at, end, end - at,
		                           local ? HITHER_BLOCKS_LOCAL
		                                 : HITHER_BLOCKS_DIRTY | HITHER_BLOCKS_PUSHED,
		                           &at);
		int r = rewrite_add(w, local ? HITHER_LOG_LOCAL : HITHER_LOG_DIRTY, at, run);
		if (r)
			return r;
		at += run;
	}
	return 0;
}

/* The header goes in last, when the length is known. */
static int rewrite_file(struct rewrite *w, const struct hither_block_map *map)
{
	uint8_t header[HITHER_LOG_HEADER_BYTES] = {0};
	memcpy(w->buf, header, sizeof header);
	w->used = sizeof header;
	int r = rewrite_runs(w, map);
	if (!r)
		r = rewrite_add(w, HITHER_LOG_BARRIER, w->at + w->used, 0);
	if (!r)
		r = rewrite_flush(w);
	if (r)
		return r;
	w->header->born_bytes = w->at;
	hither_log_encode_header(w->header, header);
	return hither_pwrite_all(w->fd, header, sizeof header, 0);
}

static int rewrite_failed(struct hither_store_disk *d, int code, struct hither_error *err)
{
	unlinkat(d->folder.dir_fd, "state.new", 0);
	return hither_fail(err, code, "%s/state: rewriting it: %s", d->folder.path,
	                   strerror(-code));
}

void hither_disk_adopt_log_locked(struct hither_store_disk *d,
                                  const struct hither_log_header *header, int fd,
                                  uint64_t log_bytes)
{
	if (d->state_fd >= 0)
		close(d->state_fd);
	d->state_fd = fd;
	d->header = *header;
	d->log_bytes = d->durable_bytes = d->compact_bytes = log_bytes;
	d->reserved_bytes = 0;
	d->pending_len = 0;
	d->last = (struct hither_log_record){0};
	d->noted = false;
	d->generation++;
}

int hither_disk_rewrite_locked(struct hither_store_disk *d,
                               const struct hither_store_identity *identity,
                               const struct hither_block_map *map, struct hither_error *err)
{
	struct hither_log_header header = {.identity = *identity};
	HITHER_FREE uint8_t *buf = malloc(REWRITE_BUFFER_BYTES);
	if (!buf)
		return rewrite_failed(d, -ENOMEM, err);
	HITHER_CLOSE int fd =
	        openat(d->folder.dir_fd, "state.new", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return rewrite_failed(d, -errno, err);
	hither_store_boot_id(header.boot_id);
	if (getrandom(&header.salt, sizeof header.salt, 0) < 0)
		return rewrite_failed(d, -errno, err);
	struct rewrite w = {.header = &header, .fd = fd, .buf = buf};
	bool first = d->state_fd < 0 && !map; /* replaces nothing, and claims nothing */
	int r = rewrite_file(&w, map);
	if (!r && !first && fsync(fd) < 0)
		r = -errno;
	if (!r && renameat(d->folder.dir_fd, "state.new", d->folder.dir_fd, "state") < 0)
		r = -errno;
	if (r)
		return rewrite_failed(d, r, err);
	hither_disk_adopt_log_locked(d, &header, HITHER_TAKE(fd, -1), w.at);
	d->failed = (struct hither_error){0};
	if (first) {
		d->durable_bytes = 0;
		return 0;
	}
	r = hither_store_folder_sync(&d->folder);
	if (r) {
		hither_disk_fail(d, r, "", "fsync of the folder");
		return hither_fail(err, d->failed.code, "%s", d->failed.message);
	}
	d->founded = true;
	return 0;
}

void hither_disk_renew_regions_locked(struct hither_store_disk *d,
                                      const struct hither_block_map *map)
{
	memset(d->regions, 0, d->region_count);
	uint64_t end = map ? hither_log_blocks(d->header.identity.size_bytes) : 0, at = 0, run;
	while (at < end &&
	       (run = hither_block_map_run(map, at, end, end - at,
	                                   HITHER_BLOCKS_DIRTY | HITHER_BLOCKS_PUSHED, &at)) > 0) {
		hither_disk_mark_regions_locked(d, at, run, HITHER_REGION_DIRTY);
		at += run;
	}
}

int hither_disk_compact(struct hither_store *s, const struct hither_block_map *map,
                        struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	struct hither_store_state own = {0};
	HITHER_LOCK_SCOPE(&d->intent_lock);
	HITHER_LOCK_SCOPE(&d->log_lock);
	int r = hither_disk_usable_locked(d, err);
	if (r)
		return r;
	r = hither_disk_flush_locked(d);
	if (r)
		return rewrite_failed(d, r, err);
	/* Everything that was noted until now was written before; nothing is noted meanwhile. */
	if (fdatasync(s->fd) < 0) {
		r = hither_disk_fail(d, -errno, "data", "fdatasync");
		return hither_fail(err, r, "%s", d->failed.message);
	}
	if (!map) {
		r = hither_store_state_read(d->folder.path, d->folder.dir_fd, &own, err);
		if (r)
			return r == -ENOENT
			               ? hither_fail(err, -EIO, "%s/state: somebody deleted it",
			                             d->folder.path)
			               : r;
		map = own.map;
	}
	r = hither_disk_rewrite_locked(d, &d->header.identity, map, err);
	if (!r)
		hither_disk_renew_regions_locked(d, map);
	hither_block_map_destroy(own.map);
	return r;
}

int hither_store_disk_compact(struct hither_store *s, const struct hither_block_map *map,
                              struct hither_error *err)
{
	HITHER_LOCK_SCOPE(&s->disk->barrier_lock);
	return hither_disk_compact(s, map, err);
}

bool hither_store_disk_log_long(struct hither_store *s)
{
	HITHER_LOCK_SCOPE(&s->disk->log_lock);
	return s->disk->log_bytes > LONG_LOG_BYTES &&
	       s->disk->log_bytes > LONG_LOG_FACTOR * s->disk->compact_bytes;
}
