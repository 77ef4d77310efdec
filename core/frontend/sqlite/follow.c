/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow=on: when the database on the server changes, the next transaction is of the new version.
 *
 * A transaction begins with the SHARED lock. Nobody else having one, that is where the version is
 * looked at (at once when a read has found it changed, else once a second at most), and the mount
 * is opened anew. Who has a lock keeps the version that it began with, or its reads fail: versions
 * are never mixed.
 *
 * SQLite keeps pages and the schema between transactions. It drops pages when bytes 24 to 39 of the
 * header are others than before, and the schema when its cookie is
 * (https://www.sqlite.org/fileformat2.html, 1.3); but a database that was made anew may have the
 * same there. So each connection is shown others once after a change, and a cookie that counts
 * changes, too. One in WAL mode is shown as if it were not: its WAL is empty (beside.c), and SQLite
 * would want shared memory for it.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "frontend/sqlite/sqlite_vfs.h"
#include "mount/mount_internal.h"

#include <errno.h>
#include <string.h>

#define LOOK_NS HITHER_NS_PER_S

enum {
	VERSIONS_AT = 18, /* of the file format: 2 is WAL */
	CHANGES_AT = 24,
	CHANGES_BYTES = 16,
	COOKIE_AT = 40,
};

int hsq_follow_init(struct hsq_share *s, const struct hsq_params *params)
{
	s->follow = params->follow;
	if (!s->follow)
		return SQLITE_OK;
	s->again = *params;
	/* A profile is of one version; the rest outlives the name that it came from. */
	s->again.mount.profile = s->again.mount.record = NULL;
	const char **kept[] = {&s->again.mount.cache_dir, &s->again.mount.order};
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		if (*kept[i] && !(*kept[i] = s->again_names[i] = strdup(*kept[i])))
			return SQLITE_NOMEM;
	s->look_again_ns = hither_now_ns() + LOOK_NS;
	return SQLITE_OK;
}

void hsq_follow_finish(struct hsq_share *s)
{
	for (size_t i = 0; i < HSQ_AGAIN_NAMES; i++)
		free(s->again_names[i]);
}

/* Has somebody who read found that it has changed? */
static bool is_stale(const struct hsq_share *s)
{
	struct hither_mount_stats stats;
	if (!s->mount)
		return true;
	hither_mount_stats(s->mount, &stats);
	return stats.error == -ESTALE;
}

/* Ask the server. An outage is no change: whoever needs bytes will wait for them. */
static bool has_changed(struct hsq_share *s)
{
	struct hither_backend_options options = s->again.mount.backend;
	char was[HITHER_VERSION_BYTES], is[HITHER_VERSION_BYTES];
	struct hither_backend *b = NULL;
	s->look_again_ns = hither_now_ns() + LOOK_NS;
	if (!s->mount->backend || hither_backend_version(s->mount->backend, was, NULL))
		return false;
	options.known_version = *was ? was : NULL;
	options.known_size_bytes = s->mount->size_bytes;
	if (hither_backend_open(s->url, &options, &b, NULL))
		return false;
	bool changed = b->size_bytes != s->mount->size_bytes ||
	               (!hither_backend_version(b, is, NULL) && strcmp(was, is) != 0);
	hither_backend_close(b);
	return changed;
}

static int open_anew(struct hsq_share *s)
{
	struct hither_error err = {0};
	struct hsq_kept *kept = s->mount ? hsq_keep(s) : NULL;
	pthread_rwlock_wrlock(&s->mount_lock);
	hsq_beside_destroy(s->beside);
	hither_mount_close(s->mount, NULL); /* it keeps the cache on disk to itself */
	s->mount = NULL;
	s->local_fd = -1;
	s->answered = false;
	s->beside = hsq_beside_start(s->url, &s->again);
	int r = hsq_open_mount(s, &s->again, false, &err);
	if (!r) {
		hsq_keep_give(kept, s->mount);
		hsq_beside_mount(s->beside, s->mount);
		s->epoch++;
	}
	pthread_rwlock_unlock(&s->mount_lock);
	hsq_keep_destroy(kept);
	return r ? hsq_fail(SQLITE_IOERR_LOCK, &err) : SQLITE_OK;
}

int hsq_follow_locked(struct hsq_share *s)
{
	if (!s->follow || s->shared > 0)
		return SQLITE_OK;
	if (!is_stale(s) && (hither_now_ns() < s->look_again_ns || !has_changed(s)))
		return SQLITE_OK;
	return open_anew(s);
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_be32(unsigned char *p, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(value >> (24 - 8 * i));
}

void hsq_follow_show(struct hsq_file *f, void *buf, size_t len, uint64_t offset)
{
	struct hsq_share *s = f->share;
	unsigned char *p = buf;
	if (offset == CHANGES_AT && len == CHANGES_BYTES && f->epoch != s->epoch) {
		for (size_t i = 0; i < len; i++)
			p[i] = (unsigned char)~p[i];
		f->epoch = s->epoch;
	}
	if (offset != 0 || len < HSQ_HEADER_BYTES || memcmp(p, "SQLite format 3", 16) != 0)
		return;
	for (int i = VERSIONS_AT; i < VERSIONS_AT + 2; i++)
		p[i] = p[i] == 2 ? 1 : p[i];
	put_be32(p + COOKIE_AT, be32(p + COOKIE_AT) + s->epoch * 0x10001);
}
