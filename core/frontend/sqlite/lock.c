/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite's five lock levels (https://www.sqlite.org/lockingv3.html) among the connections of this
 * process; other processes are kept out as a whole, see owner.c.
 */
#include "base/cleanup.h"
#include "frontend/sqlite/sqlite_vfs.h"

static int take_shared(struct hsq_share *s, struct hsq_file *f)
{
	if (s->pending)
		return SQLITE_BUSY;
	int code = hsq_follow_locked(s);
	if (code)
		return code;
	s->shared++;
	f->level = SQLITE_LOCK_SHARED;
	return SQLITE_OK;
}

static int take_reserved(struct hsq_share *s, struct hsq_file *f)
{
	if (s->writer)
		return SQLITE_BUSY;
	s->writer = f;
	f->level = SQLITE_LOCK_RESERVED;
	return SQLITE_OK;
}

/* From SHARED too: that is how a hot journal is rolled back. */
static int take_exclusive(struct hsq_share *s, struct hsq_file *f)
{
	if ((s->writer && s->writer != f) || (s->pending && s->pending != f))
		return SQLITE_BUSY;
	s->writer = s->pending = f;
	if (s->shared > 1) {
		f->level = SQLITE_LOCK_PENDING;
		return SQLITE_BUSY;
	}
	f->level = SQLITE_LOCK_EXCLUSIVE;
	return SQLITE_OK;
}

int hsq_lock(sqlite3_file *file, int level)
{
	struct hsq_file *f = (struct hsq_file *)file;
	struct hsq_share *s = f->share;
	int code = hsq_share_check(s);
	if (code)
		return code;
	HITHER_LOCK_SCOPE(&s->lock);
	if ((!s->writable && !s->follow) || f->level >= level)
		return SQLITE_OK;
	switch (level) {
	case SQLITE_LOCK_SHARED:
		return take_shared(s, f);
	case SQLITE_LOCK_RESERVED:
		return take_reserved(s, f);
	default:
		return take_exclusive(s, f);
	}
}

int hsq_unlock(sqlite3_file *file, int level)
{
	struct hsq_file *f = (struct hsq_file *)file;
	struct hsq_share *s = f->share;
	if (!hsq_share_here(s))
		return SQLITE_OK;
	HITHER_LOCK_SCOPE(&s->lock);
	if (f->level <= level)
		return SQLITE_OK;
	if (s->writer == f)
		s->writer = NULL;
	if (s->pending == f)
		s->pending = NULL;
	if (level == SQLITE_LOCK_NONE)
		s->shared--;
	f->level = level;
	return SQLITE_OK;
}

int hsq_check_reserved(sqlite3_file *file, int *out)
{
	struct hsq_file *f = (struct hsq_file *)file;
	int code = hsq_share_check(f->share);
	if (code)
		return code;
	HITHER_LOCK_SCOPE(&f->share->lock);
	*out = f->share->writer != NULL;
	return SQLITE_OK;
}
