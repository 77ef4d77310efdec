/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The WAL index (https://www.sqlite.org/walformat.html, 2): this process's memory, since no other
 * process has the database. After a crash SQLite makes it anew from the WAL.
 */
#include "base/cleanup.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <string.h>

static int add_regions(struct hsq_shm *shm, int count, int bytes)
{
	void **more = realloc(shm->regions, (size_t)count * sizeof *more);
	if (!more)
		return SQLITE_NOMEM;
	shm->regions = more;
	shm->region_bytes = bytes;
	while (shm->region_count < count) {
		void *region = calloc(1, (size_t)bytes);
		if (!region)
			return SQLITE_NOMEM;
		shm->regions[shm->region_count++] = region;
	}
	return SQLITE_OK;
}

int hsq_shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **out)
{
	struct hsq_file *f = (struct hsq_file *)file;
	struct hsq_shm *shm = &f->share->shm;
	int here = hsq_share_check(f->share);
	*out = NULL;
	if (here)
		return here;
	HITHER_LOCK_SCOPE(&f->share->lock);
	f->has_shm = true;
	if (region >= shm->region_count) {
		int code = extend ? add_regions(shm, region + 1, bytes) : SQLITE_OK;
		if (code || !extend)
			return code;
	}
	*out = shm->regions[region];
	return SQLITE_OK;
}

static uint16_t mask_of(int first, int count)
{
	return (uint16_t)(((1u << count) - 1) << first);
}

static void release(struct hsq_shm *shm, struct hsq_file *f, uint16_t mask)
{
	for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
		if (!(mask >> i & 1))
			continue;
		if (f->shm_exclusive >> i & 1)
			shm->writer[i] = NULL;
		else if (f->shm_shared >> i & 1)
			shm->readers[i]--;
	}
	f->shm_exclusive &= (uint16_t)~mask;
	f->shm_shared &= (uint16_t)~mask;
}

static int take(struct hsq_shm *shm, struct hsq_file *f, uint16_t mask, bool exclusive)
{
	for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
		if (!(mask >> i & 1))
			continue;
		if (shm->writer[i] && shm->writer[i] != f)
			return SQLITE_BUSY;
		if (exclusive && shm->readers[i] > (f->shm_shared >> i & 1u))
			return SQLITE_BUSY;
	}
	for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
		if (!(mask >> i & 1))
			continue;
		if (exclusive)
			shm->writer[i] = f;
		else if (!(f->shm_shared >> i & 1))
			shm->readers[i]++;
	}
	if (exclusive)
		f->shm_exclusive |= mask;
	else
		f->shm_shared |= mask;
	return SQLITE_OK;
}

int hsq_shm_lock(sqlite3_file *file, int first, int count, int flags)
{
	struct hsq_file *f = (struct hsq_file *)file;
	uint16_t mask = mask_of(first, count);
	if (!hsq_share_here(f->share))
		return flags & SQLITE_SHM_LOCK ? hsq_share_check(f->share) : SQLITE_OK;
	HITHER_LOCK_SCOPE(&f->share->lock);
	if (flags & SQLITE_SHM_LOCK)
		return take(&f->share->shm, f, mask, flags & SQLITE_SHM_EXCLUSIVE);
	release(&f->share->shm, f, mask);
	return SQLITE_OK;
}

void hsq_shm_barrier(sqlite3_file *file)
{
	/* Other connections take this lock too before they look. */
	struct hsq_file *f = (struct hsq_file *)file;
	atomic_thread_fence(memory_order_seq_cst);
	if (!hsq_share_here(f->share))
		return;
	pthread_mutex_lock(&f->share->lock);
	pthread_mutex_unlock(&f->share->lock);
}

/* The regions stay until the share ends; SQLite asks for that only when the WAL is deleted. */
int hsq_shm_unmap(sqlite3_file *file, int delete_flag)
{
	struct hsq_file *f = (struct hsq_file *)file;
	struct hsq_shm *shm = &f->share->shm;
	HITHER_LOCK_SCOPE(&f->share->lock);
	if (!f->has_shm)
		return SQLITE_OK;
	release(shm, f, mask_of(0, SQLITE_SHM_NLOCK));
	f->has_shm = false;
	for (int i = 0; delete_flag && i < shm->region_count; i++)
		memset(shm->regions[i], 0, (size_t)shm->region_bytes);
	return SQLITE_OK;
}

void hsq_shm_free(struct hsq_shm *shm)
{
	for (int i = 0; i < shm->region_count; i++)
		free(shm->regions[i]);
	free(shm->regions);
}
