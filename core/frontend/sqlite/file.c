/* SPDX-License-Identifier: Apache-2.0 */
/* A database file: SQLite's I/O methods over a mount. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <errno.h>
#include <string.h>

enum {
	SECTOR_BYTES = 4096,
	LOCAL_EVERY = 32, /* reads after which it is asked whether all is local */
};

/* --- reading --- */

struct pending_io {
	struct hither_io io;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;
	int result;
	struct hither_error *err;
};

static void io_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct pending_io *p = HITHER_CONTAINER(io, struct pending_io, io);
	HITHER_LOCK_SCOPE(&p->lock);
	p->result = result;
	if (result && p->err)
		*p->err = *err;
	p->over = true;
	pthread_cond_signal(&p->cond);
}

int hsq_read(struct hsq_share *s, void *buf, size_t len, uint64_t offset, bool *waited,
             struct hither_error *err)
{
	struct pending_io p = {.io = {.op = HITHER_IO_READ,
	                              .buf = buf,
	                              .len = len,
	                              .offset = offset,
	                              .done = io_done},
	                       .lock = PTHREAD_MUTEX_INITIALIZER,
	                       .cond = PTHREAD_COND_INITIALIZER,
	                       .err = err};
	hither_mount_submit(s->mount, &p.io);
	pthread_mutex_lock(&p.lock);
	while (!p.over)
		pthread_cond_wait(&p.cond, &p.lock);
	pthread_mutex_unlock(&p.lock);
	if (waited)
		*waited = p.io.waited;
	return p.result;
}

/* Once every byte is here, reads are plain reads of the store. */
static void look_for_local(struct hsq_file *f)
{
	struct hsq_share *s = f->share;
	if (!s->writable && !s->recording && f->reads++ % LOCAL_EVERY == 0)
		s->local_fd = hither_mount_local_fd(s->mount);
}

/* What somebody who asks SQLite can do about it. */
static void advise(const struct hsq_share *s, struct hither_error *err)
{
	struct hither_error plain = *err;
	if (err->code != -ESTALE || s->writable)
		return;
	hither_fail(err, -ESTALE, "%.*s; %s", hither_error_fact_len(plain.message), plain.message,
	            s->follow ? "the next transaction is of what is there now"
	                      : "open it again, or with --follow (follow=on)");
}

static int read_bytes(struct hsq_file *f, void *buf, size_t len, uint64_t offset)
{
	struct hsq_share *s = f->share;
	struct hither_error err = {0};
	bool waited = false;
	int fd = s->local_fd, r;
	uint64_t begin = f->observer.read ? hither_now_ns() : 0;
	if (fd >= 0) {
		r = hither_pread_all(fd, buf, len, offset);
		if (r)
			hither_fail(&err, r, "%s: reading the local copy: %s", s->url,
			            strerror(-r));
	} else {
		r = hsq_read(s, buf, len, offset, &waited, &err);
		if (!r && !waited)
			look_for_local(f);
	}
	if (r) {
		advise(s, &err);
		return hsq_fail(r == -ENOMEM ? SQLITE_IOERR_NOMEM : SQLITE_IOERR_READ, &err);
	}
	if (f->observer.read)
		f->observer.read(f->observer.user,
		                 &(struct hither_sqlite_read){
		                         .offset = offset,
		                         .len = len,
		                         .waited = waited,
		                         .wait_ns = waited ? hither_now_ns() - begin : 0});
	return SQLITE_OK;
}

/* Before anything but the header is believed. */
static int check_beside(struct hsq_share *s)
{
	if (s->answered)
		return SQLITE_OK;
	int code = hsq_beside_wait(s->beside);
	if (!code)
		s->answered = true;
	return code;
}

/* While a version is looked at, nobody goes on to the next one. */
static void hold(struct hsq_share *s)
{
	if (s->follow)
		pthread_rwlock_rdlock(&s->mount_lock);
}

static void let_go(struct hsq_share *s)
{
	if (s->follow)
		pthread_rwlock_unlock(&s->mount_lock);
}

static int read_held(struct hsq_file *f, void *buf, size_t len, uint64_t offset)
{
	if (!f->share->mount)
		return hsq_failf(SQLITE_IOERR_READ,
		                 "%s: has changed, and could not be opened again yet",
		                 f->share->url);
	uint64_t size = hither_mount_size(f->share->mount);
	size_t have = len;
	if (offset + len > HSQ_HEADER_BYTES) {
		int code = check_beside(f->share);
		if (code)
			return code;
	}
	if (offset >= size)
		have = 0;
	else if (len > size - offset)
		have = (size_t)(size - offset);
	int code = have ? read_bytes(f, buf, have, offset) : SQLITE_OK;
	if (code || have == len)
		return code;
	memset((char *)buf + have, 0, len - have);
	return SQLITE_IOERR_SHORT_READ;
}

static int file_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 at)
{
	struct hsq_file *f = (struct hsq_file *)file;
	int code = hsq_share_check(f->share);
	if (code)
		return code;
	hold(f->share);
	code = read_held(f, buf, (size_t)amount, (uint64_t)at);
	if (f->share->follow && (code == SQLITE_OK || code == SQLITE_IOERR_SHORT_READ))
		hsq_follow_show(f, buf, (size_t)amount, (uint64_t)at);
	let_go(f->share);
	return code;
}

/* --- writing --- */

static int write_bytes(struct hsq_share *s, const void *buf, size_t len, uint64_t offset)
{
	struct hither_error err = {0};
	int r = hither_mount_write_at(s->mount, buf, len, offset, &err);
	return !r             ? SQLITE_OK
	       : r == -ENOSPC ? hsq_fail(SQLITE_FULL, &err)
	                      : hsq_fail(SQLITE_IOERR_WRITE, &err);
}

static int file_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 at)
{
	struct hsq_file *f = (struct hsq_file *)file;
	uint64_t size = hither_mount_size(f->share->mount), offset = (uint64_t)at;
	size_t len = (size_t)amount;
	if (f->readonly)
		return SQLITE_READONLY;
	int code = hsq_share_check(f->share);
	if (code)
		return code;
	if (offset > size || len > size - offset)
		return hsq_failf(SQLITE_FULL, "%s: it has room for %llu bytes, which are used up",
		                 f->share->url, (unsigned long long)size);
	code = hsq_guard(f->share);
	return code ? code : write_bytes(f->share, buf, len, offset);
}

/* A device keeps its size; that there is no database is said by zeros instead of a header. */
static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	static const char zeros[HSQ_HEADER_BYTES];
	struct hsq_file *f = (struct hsq_file *)file;
	if (f->readonly)
		return SQLITE_READONLY;
	int code = hsq_share_check(f->share);
	if (code)
		return code;
	return size ? SQLITE_OK : write_bytes(f->share, zeros, sizeof zeros, 0);
}

static int file_sync(sqlite3_file *file, int flags)
{
	struct hsq_file *f = (struct hsq_file *)file;
	struct hither_error err = {0};
	if (f->readonly)
		return SQLITE_OK;
	int code = hsq_share_check(f->share);
	if (code)
		return code;
	return hither_mount_flush(f->share->mount, &err) ? hsq_fail(SQLITE_IOERR_FSYNC, &err)
	                                                 : SQLITE_OK;
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/*
 * How much of a device the database takes: its header says so, if the last writer kept it up (the
 * change counter at 24 equals that at 92). A device of zeros is an empty file.
 */
static uint64_t database_bytes(const unsigned char header[HSQ_HEADER_BYTES], uint64_t device_bytes)
{
	static const unsigned char zeros[16];
	if (!memcmp(header, zeros, sizeof zeros))
		return 0;
	uint64_t pages = be32(header + 28);
	uint32_t page_bytes = (uint32_t)header[16] << 8 | header[17];
	if (page_bytes == 1)
		page_bytes = 65536;
	if (memcmp(header, "SQLite format 3", 16) || !pages ||
	    memcmp(header + 24, header + 92, 4) || pages * page_bytes > device_bytes)
		return device_bytes;
	return pages * page_bytes;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *out)
{
	struct hsq_file *f = (struct hsq_file *)file;
	int code = hsq_share_check(f->share);
	if (code)
		return code;
	hold(f->share);
	uint64_t size = f->share->mount ? hither_mount_size(f->share->mount) : 0;
	let_go(f->share);
	if (f->share->writable && size >= HSQ_HEADER_BYTES) {
		unsigned char header[HSQ_HEADER_BYTES];
		code = read_bytes(f, header, sizeof header, 0);
		if (code)
			return code;
		size = database_bytes(header, size);
	}
	*out = (sqlite3_int64)size;
	return SQLITE_OK;
}

/* --- control --- */

static void get_stats(struct hsq_share *s, struct hither_mount_stats *out)
{
	*out = (struct hither_mount_stats){0};
	hold(s);
	if (s->mount)
		hither_mount_stats(s->mount, out);
	let_go(s);
}

static char *stats_json(struct hsq_share *s)
{
	struct hither_mount_stats t;
	get_stats(s, &t);
	return sqlite3_mprintf(
	        "{\"size_bytes\":%llu,\"local_bytes\":%llu,\"dirty_bytes\":%llu,"
	        "\"pulled_bytes\":%llu,\"demand_bytes\":%llu,\"pushed_bytes\":%llu,"
	        "\"pull_requests\":%llu,\"push_requests\":%llu,\"retries\":%llu,\"reads\":%llu,"
	        "\"reads_waited\":%llu,\"wait_ns\":%llu,\"rtt_ns\":%llu,\"rate_bytes\":%llu}",
	        t.size_bytes, t.local_bytes, t.dirty_bytes, t.pulled_bytes, t.demand_bytes,
	        t.pushed_bytes, t.pull_requests, t.push_requests, t.retries, t.reads,
	        t.reads_waited, t.wait_ns, t.rtt_ns, t.rate_bytes);
}

static char *latest_error(void)
{
	char message[sizeof(((struct hither_error *)0)->message)];
	hither_sqlite_error(message, sizeof message);
	return sqlite3_mprintf("%s", message);
}

/* words: 0 the answer, 1 the pragma's name, 2 its value. */
static int control_pragma(struct hsq_share *s, char **words)
{
	if (!sqlite3_stricmp(words[1], "hither_stats"))
		return (words[0] = stats_json(s)) ? SQLITE_OK : SQLITE_NOMEM;
	if (!sqlite3_stricmp(words[1], "hither_error"))
		return (words[0] = latest_error()) ? SQLITE_OK : SQLITE_NOMEM;
	if (s->writable && s->sync == HITHER_SYNC_REMOTE && words[2] &&
	    !sqlite3_stricmp(words[1], "journal_mode") && !sqlite3_stricmp(words[2], "wal")) {
		words[0] = sqlite3_mprintf("%s", "a commit in WAL mode is only in the local WAL: "
		                                 "open the database with sync=local for it");
		return SQLITE_ERROR;
	}
	return SQLITE_NOTFOUND;
}

static int find_local(struct hsq_share *s, struct hither_sqlite_local *l)
{
	uint32_t kind = 0;
	hold(s);
	uint64_t size = s->mount ? hither_mount_size(s->mount) : 0;
	l->len = l->offset < size
	                 ? hither_mount_extent(s->mount, l->offset, size - l->offset, &kind)
	                 : 0;
	l->local = kind & HITHER_EXTENT_LOCAL;
	let_go(s);
	return SQLITE_OK;
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
	struct hsq_file *f = (struct hsq_file *)file;
	if (!hsq_share_here(f->share))
		return SQLITE_NOTFOUND;
	switch (op) {
	case SQLITE_FCNTL_PRAGMA:
		return control_pragma(f->share, arg);
	case SQLITE_FCNTL_VFSNAME:
		*(char **)arg = sqlite3_mprintf("hither");
		return SQLITE_OK;
	case SQLITE_FCNTL_HAS_MOVED:
		*(int *)arg = 0;
		return SQLITE_OK;
	case SQLITE_FCNTL_LOCKSTATE:
		*(int *)arg = f->level;
		return SQLITE_OK;
	case HITHER_SQLITE_STATS:
		get_stats(f->share, arg);
		return SQLITE_OK;
	case HITHER_SQLITE_LOCAL:
		return find_local(f->share, arg);
	case HITHER_SQLITE_OBSERVE:
		f->observer = arg ? *(const struct hither_sqlite_observer *)arg
		                  : (struct hither_sqlite_observer){0};
		return SQLITE_OK;
	default:
		return SQLITE_NOTFOUND;
	}
}

static int sector_size(sqlite3_file *file)
{
	return SECTOR_BYTES;
}

static int characteristics(sqlite3_file *file)
{
	const struct hsq_file *f = (const struct hsq_file *)file;
	return f->share->writable
	               ? SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN
	       : f->share->follow ? 0
	                          : SQLITE_IOCAP_IMMUTABLE;
}

static int file_close(sqlite3_file *file)
{
	struct hsq_file *f = (struct hsq_file *)file;
	if (!hsq_share_here(f->share))
		return SQLITE_OK; /* its mount is the parent's to close */
	hsq_unlock(file, SQLITE_LOCK_NONE);
	hsq_shm_unmap(file, 0);
	hsq_share_put(f->share);
	return SQLITE_OK;
}

#define METHODS                                                                                    \
	.xClose = file_close, .xRead = file_read, .xWrite = file_write,                            \
	.xTruncate = file_truncate, .xSync = file_sync, .xFileSize = file_size, .xLock = hsq_lock, \
	.xUnlock = hsq_unlock, .xCheckReservedLock = hsq_check_reserved,                           \
	.xFileControl = file_control, .xSectorSize = sector_size,                                  \
	.xDeviceCharacteristics = characteristics

const sqlite3_io_methods hsq_plain_methods = {.iVersion = 1, METHODS};
const sqlite3_io_methods hsq_wal_methods = {
        .iVersion = 2,
        METHODS,
        .xShmMap = hsq_shm_map,
        .xShmLock = hsq_shm_lock,
        .xShmBarrier = hsq_shm_barrier,
        .xShmUnmap = hsq_shm_unmap,
};
