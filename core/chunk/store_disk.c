/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store on disk: opening, resetting, barriers.
 *
 * A barrier takes its time, and the log stays open to others meanwhile:
 *
 *     take note of the log's length P and begin a new generation of intents
 *     fdatasync(data)                      everything noted before P was written before
 *     append BARRIER(covers P); fdatasync(state)
 *
 * A change that is under way just then is safe because its intent is two things: a CHANGE record of
 * its blocks, which counts if it lies before P, and the region's durable INTENT, which counts
 * behind P; both are appended in one go, and the second is left out only if this generation has it
 * already.
 */
#include "chunk/store_disk.h"
#include "base/cleanup.h"
#include "base/io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int sync_bytes(struct hither_store *s, struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	if (fdatasync(s->fd) == 0)
		return 0;
	int r = -errno;
	HITHER_LOCK_SCOPE(&d->log_lock);
	hither_disk_fail(d, r, "data", "fdatasync");
	return hither_fail(err, d->failed.code, "%s", d->failed.message);
}

/* --- barriers --- */

/* *covers: log bytes that the barrier may cover once all bytes are durable; 0: there is nothing to
 * do. */
static int begin_barrier(struct hither_store *s, uint64_t *covers, struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	HITHER_LOCK_SCOPE(&d->log_lock);
	*covers = 0;
	int r = hither_disk_usable_locked(d, err);
	if (r)
		return r;
	if (!d->noted && !atomic_load(&s->wrote))
		return 0;
	r = hither_disk_flush_locked(d);
	if (r)
		return hither_fail(err, r, "%s/state: %s", d->folder.path, strerror(-r));
	d->noted = false;
	atomic_store(&s->wrote, false);
	for (uint64_t i = 0; i < d->region_count; i++)
		d->regions[i] &= (uint8_t)~HITHER_REGION_INTENT;
	d->generation++;
	*covers = d->log_bytes;
	return 0;
}

static int append_barrier(struct hither_store *s, uint64_t covers, struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	HITHER_LOCK_SCOPE(&d->log_lock);
	struct hither_log_record record = {HITHER_LOG_BARRIER, covers, d->durable_bytes, NULL};
	int r = hither_disk_append_locked(d, &record);
	if (r) {
		d->noted = true;
		return hither_fail(err, r, "%s/state: %s", d->folder.path, strerror(-r));
	}
	return 0;
}

static int sync_log_told(struct hither_store_disk *d, struct hither_error *err)
{
	int r = hither_disk_sync_log(d);
	return r ? hither_fail(err, r, "%s", d->failed.message) : 0;
}

int hither_store_disk_sync(struct hither_store *s, struct hither_error *err)
{
	uint64_t covers;
	HITHER_LOCK_SCOPE(&s->disk->barrier_lock);
	int r = begin_barrier(s, &covers, err);
	if (r || covers == 0)
		return r;
	r = sync_bytes(s, err);
	if (!r && (r = hither_disk_found(s->disk)))
		hither_fail(err, r, "%s", s->disk->failed.message);
	if (!r)
		r = append_barrier(s, covers, err);
	if (!r)
		r = sync_log_told(s->disk, err);
	/* All is durable by now, whether the log becomes shorter or not. */
	if (!r && hither_store_disk_log_long(s))
		(void)hither_disk_compact(s, NULL, NULL);
	return r;
}

/* --- identity --- */

int hither_store_disk_set_identity(struct hither_store *s,
                                   const struct hither_store_identity *identity,
                                   struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	struct hither_log_record record = {HITHER_LOG_IDENTITY, identity->pushing, 0,
	                                   identity->version};
	HITHER_LOCK_SCOPE(&d->barrier_lock);
	pthread_mutex_lock(&d->log_lock);
	int r = hither_disk_usable_locked(d, err);
	if (!r) {
		r = hither_disk_append_locked(d, &record);
		if (r)
			hither_fail(err, r, "%s/state: %s", d->folder.path, strerror(-r));
	}
	if (!r) {
		d->last.version = NULL; /* the caller's */
		d->header.identity.pushing = identity->pushing;
		memcpy(d->header.identity.version, identity->version, sizeof identity->version);
	}
	pthread_mutex_unlock(&d->log_lock);
	return r ? r : sync_log_told(d, err);
}

/* Without a state nothing is remembered, which is what a reset is for; then the bytes can go. */
static int forget_all(struct hither_store *s)
{
	int dir = s->disk->folder.dir_fd;
	bool gone = unlinkat(dir, "state", 0) == 0 || errno == ENOENT;
	return gone && fsync(dir) == 0 && ftruncate(s->fd, 0) == 0 ? 0 : -errno;
}

/* The log first: if it says that nothing is here, whatever `data` has does no harm. */
int hither_store_disk_reset(struct hither_store *s, const struct hither_store_identity *identity,
                            struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	if (identity->size_bytes > INT64_MAX)
		return hither_fail(err, -EFBIG, "%s: %llu bytes are too many for a file",
		                   d->folder.path, (unsigned long long)identity->size_bytes);
	uint64_t region_count = hither_log_regions(identity->size_bytes);
	HITHER_FREE uint8_t *regions = calloc(region_count + 1, 1);
	if (!regions)
		return hither_fail(err, -ENOMEM, "%s: no memory", d->folder.path);
	HITHER_LOCK_SCOPE(&d->barrier_lock);
	HITHER_LOCK_SCOPE(&d->intent_lock);
	HITHER_LOCK_SCOPE(&d->log_lock);
	int r = hither_disk_rewrite_locked(d, identity, NULL, err);
	if (r == -ENOSPC && forget_all(s) == 0) /* what is dropped takes the room */
		r = hither_disk_rewrite_locked(d, identity, NULL, err);
	if (r)
		return r;
	free(d->regions);
	d->regions = HITHER_TAKE(regions, NULL);
	d->region_count = region_count;
	s->size_bytes = identity->size_bytes;
	hither_block_map_destroy(HITHER_TAKE(d->loaded, NULL));
	if (ftruncate(s->fd, 0) < 0 || ftruncate(s->fd, (off_t)identity->size_bytes) < 0 ||
	    (d->founded && fsync(s->fd) < 0)) {
		hither_disk_fail(d, -errno, "data", "making it as large as the resource");
		return hither_fail(err, d->failed.code, "%s", d->failed.message);
	}
	return 0;
}

/* --- opening --- */

const char *hither_store_disk_path(const struct hither_store *s)
{
	return s->disk->folder.path;
}

static void free_disk(struct hither_store_disk *d)
{
	if (d->state_fd >= 0)
		close(d->state_fd);
	hither_block_map_destroy(d->loaded);
	hither_store_folder_close(&d->folder);
	pthread_mutex_destroy(&d->barrier_lock);
	pthread_mutex_destroy(&d->intent_lock);
	pthread_mutex_destroy(&d->log_lock);
	free(d->regions);
	free(d);
}

void hither_store_disk_close(struct hither_store *s)
{
	if (s->disk->state_fd >= 0 && !s->disk->failed.code)
		hither_disk_flush_locked(s->disk); /* on a full disk: they are pulled once more */
	free_disk(HITHER_TAKE(s->disk, NULL));
}

/* Go on with the log that is there, cut to its whole records. Same boot. */
static int continue_log(struct hither_store_disk *d, const struct hither_store_state *state,
                        struct hither_error *err)
{
	HITHER_CLOSE int fd = openat(d->folder.dir_fd, "state", O_RDWR | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 ||
	    /* Not for nothing: it would free what is reserved behind the end. */
	    ((uint64_t)st.st_size != state->outcome.whole_bytes &&
	     ftruncate(fd, (off_t)state->outcome.whole_bytes) < 0))
		return hither_fail(err, -errno, "%s/state: %s", d->folder.path, strerror(errno));
	hither_disk_adopt_log_locked(d, &state->header, HITHER_TAKE(fd, -1),
	                             state->outcome.whole_bytes);
	/* What is durable of it is not known, nor what a barrier has seen. */
	d->durable_bytes = 0;
	d->compact_bytes = HITHER_LOG_HEADER_BYTES;
	d->noted = true;
	return 0;
}

/* *existed: there is a state to go on from. */
static int recover(struct hither_store *s, bool *existed, struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	struct hither_store_state state = {0};
	*existed = false;
	int r = hither_store_state_read(d->folder.path, d->folder.dir_fd, &state, err);
	if (r)
		return r == -ENOENT ? 0 : r;
	d->loaded = state.map;
	s->size_bytes = state.header.identity.size_bytes;
	d->region_count = hither_log_regions(s->size_bytes);
	d->regions = calloc(d->region_count + 1, 1);
	if (!d->regions)
		return hither_fail(err, -ENOMEM, "%s: no memory", d->folder.path);
	/* The records of another boot must not be taken for this one's. */
	r = state.outcome.same_boot
	            ? continue_log(d, &state, err)
	            : hither_disk_rewrite_locked(d, &state.header.identity, state.map, err);
	if (r)
		return r;
	hither_disk_renew_regions_locked(d, state.map);
	atomic_store(&s->wrote, true);
	*existed = true;
	return 0;
}

static int open_disk(struct hither_store *s, const char *cache_dir, const char *name, bool *existed,
                     struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	int r = hither_store_folder_open(cache_dir, name, true, &d->folder, err);
	if (r)
		return r;
	s->fd = openat(d->folder.dir_fd, "data", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->fd < 0)
		return hither_fail(err, -errno, "%s/data: %s", d->folder.path, strerror(errno));
	return recover(s, existed, err);
}

int hither_store_open(const char *cache_dir, const char *name, struct hither_store **out,
                      struct hither_store_identity *identity, bool *existed,
                      struct hither_error *err)
{
	HITHER_FREE struct hither_store *s = calloc(1, sizeof *s);
	struct hither_store_disk *d = calloc(1, sizeof *d);
	if (!s || !d) {
		free(d);
		return hither_fail(err, -ENOMEM, "%s: no memory", cache_dir);
	}
	pthread_mutex_init(&d->barrier_lock, NULL);
	pthread_mutex_init(&d->intent_lock, NULL);
	pthread_mutex_init(&d->log_lock, NULL);
	d->folder = (struct hither_store_folder){.dir_fd = -1, .lock_fd = -1};
	d->state_fd = s->fd = -1;
	s->disk = d;
	int r = open_disk(s, cache_dir, name, existed, err);
	if (r) {
		if (s->fd >= 0)
			close(s->fd);
		free_disk(d);
		return r;
	}
	if (*existed)
		*identity = d->header.identity;
	*out = HITHER_TAKE(s, NULL);
	return 0;
}

int hither_store_disk_load(struct hither_store *s, struct hither_block_map *map,
                           struct hither_error *err)
{
	struct hither_store_disk *d = s->disk;
	HITHER_LOCK_SCOPE(&d->log_lock);
	uint64_t end = hither_log_blocks(s->size_bytes), at = 0;
	while (d->loaded && at < end &&
	       hither_block_map_run(d->loaded, at, end, 1, HITHER_BLOCKS_PRESENT, &at)) {
		enum hither_block_state state = hither_block_map_get(d->loaded, at);
		uint64_t run = hither_block_map_run(d->loaded, at, end, end - at, 1u << state, &at);
		if (hither_block_map_set(map, at, run, state) < 0)
			return hither_fail(err, -ENOMEM, "%s: no memory for the block map",
			                   d->folder.path);
		at += run;
	}
	hither_block_map_destroy(HITHER_TAKE(d->loaded, NULL));
	return 0;
}
