/* SPDX-License-Identifier: Apache-2.0 */
/* The calls on any mount, and opening one: which kind, which store, is the cached copy still good.
 */
#include "base/cleanup.h"
#include "chunk/block_map.h"
#include "chunk/store.h"
#include "mount/mount_internal.h"
#include "order/format.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- calls --- */

uint64_t hither_mount_size(const struct hither_mount *m)
{
	return m->size_bytes;
}

bool hither_mount_writable(const struct hither_mount *m)
{
	return m->writable;
}

bool hither_mount_discards(const struct hither_mount *m)
{
	return m->writable && m->ops->discards && m->backend &&
	       (m->backend->flags & HITHER_BACKEND_SPARSE || (m->direct && m->backend->ops->zero));
}

int64_t hither_mount_modified_ns(const struct hither_mount *m)
{
	return m->backend ? m->backend->modified_ns : 0;
}

static int check_discard(const struct hither_mount *m, const struct hither_io *io,
                         struct hither_error *err)
{
	uint64_t end = io->offset + io->len;
	if (!hither_mount_discards(m))
		return hither_fail(err, -EOPNOTSUPP, "this mount cannot discard");
	if (io->offset % HITHER_BLOCK_BYTES || (end % HITHER_BLOCK_BYTES && end != m->size_bytes))
		return hither_fail(err, -EINVAL,
		                   "offset %llu, length %zu: not whole blocks of %u bytes",
		                   (unsigned long long)io->offset, io->len, HITHER_BLOCK_BYTES);
	return 0;
}

void hither_mount_submit(struct hither_mount *m, struct hither_io *io)
{
	struct hither_error err = {0};
	int r = 0;
	if (io->op == HITHER_IO_FLUSH)
		io->offset = io->len = 0;
	else if (io->offset > m->size_bytes || io->len > m->size_bytes - io->offset)
		r = hither_fail(&err, -EINVAL, "offset %llu, length %zu: beyond the end at %llu",
		                (unsigned long long)io->offset, io->len,
		                (unsigned long long)m->size_bytes);
	else if ((io->op == HITHER_IO_WRITE || io->op == HITHER_IO_DISCARD) && !m->writable)
		r = hither_fail(&err, -EROFS, "this mount is read-only");
	else if (io->op == HITHER_IO_DISCARD)
		r = check_discard(m, io, &err);
	if (r || (io->len == 0 && io->op != HITHER_IO_FLUSH))
		io->done(io, r, &err);
	else
		m->ops->submit(m, io);
}

struct waited {
	struct hither_io io;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;
	int result;
	struct hither_error *err;
};

static void waited_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct waited *w = (struct waited *)io;
	HITHER_LOCK_SCOPE(&w->lock);
	w->result = result;
	if (result && w->err)
		*w->err = *err;
	w->over = true;
	pthread_cond_signal(&w->cond);
}

static int submit_and_wait(struct hither_mount *m, struct hither_io io, struct hither_error *err)
{
	struct waited w = {.io = io,
	                   .lock = PTHREAD_MUTEX_INITIALIZER,
	                   .cond = PTHREAD_COND_INITIALIZER,
	                   .err = err};
	w.io.done = waited_done;
	hither_mount_submit(m, &w.io);
	pthread_mutex_lock(&w.lock);
	while (!w.over)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	return w.result;
}

int hither_mount_read_at(struct hither_mount *m, void *buf, size_t len, uint64_t offset,
                         struct hither_error *err)
{
	struct hither_io io = {.op = HITHER_IO_READ, .buf = buf, .len = len, .offset = offset};
	return submit_and_wait(m, io, err);
}

int hither_mount_write_at(struct hither_mount *m, const void *buf, size_t len, uint64_t offset,
                          struct hither_error *err)
{
	/* A write only reads from buf. */
	struct hither_io io = {.op = HITHER_IO_WRITE, .len = len, .offset = offset};
	memcpy(&io.buf, &buf, sizeof buf);
	return submit_and_wait(m, io, err);
}

int hither_mount_flush(struct hither_mount *m, struct hither_error *err)
{
	return submit_and_wait(m, (struct hither_io){.op = HITHER_IO_FLUSH}, err);
}

int hither_mount_push(struct hither_mount *m, struct hither_error *err)
{
	return m->ops->push(m, err);
}

int hither_mount_suggest(struct hither_mount *m, const struct hither_range *ranges, size_t count,
                         struct hither_error *err)
{
	return m->ops->suggest ? m->ops->suggest(m, ranges, count, err) : 0;
}

int hither_mount_fill(struct hither_mount *m, const void *buf, size_t len, uint64_t offset,
                      struct hither_error *err)
{
	uint64_t end = offset + len;
	if (offset > m->size_bytes || len > m->size_bytes - offset || offset % HITHER_BLOCK_BYTES ||
	    (end % HITHER_BLOCK_BYTES && end != m->size_bytes))
		return hither_fail(err, -EINVAL,
		                   "offset %llu, length %zu: not whole blocks of %u bytes",
		                   (unsigned long long)offset, len, HITHER_BLOCK_BYTES);
	if (!m->ops->fill)
		return hither_fail(err, -EOPNOTSUPP, "a direct mount keeps nothing");
	return len ? m->ops->fill(m, buf, len, offset, err) : 0;
}

void hither_mount_warm(struct hither_mount *m, uint32_t connections)
{
	if (m->ops->warm)
		m->ops->warm(m, connections);
}

int hither_mount_pull(struct hither_mount *m, struct hither_error *err)
{
	return m->ops->pull(m, err);
}

void hither_mount_stats(struct hither_mount *m, struct hither_mount_stats *out)
{
	m->ops->stats(m, out);
}

void hither_mount_picture(struct hither_mount *m, uint8_t *parts, size_t count)
{
	m->ops->picture(m, parts, count);
}

uint64_t hither_mount_extent(struct hither_mount *m, uint64_t offset, uint64_t max, uint32_t *kind)
{
	assert(max > 0 && offset < m->size_bytes && max <= m->size_bytes - offset);
	return m->ops->extent(m, offset, max, kind);
}

int hither_mount_peek(struct hither_mount *m, void *buf, size_t len, uint64_t offset)
{
	if (offset > m->size_bytes || len > m->size_bytes - offset)
		return -EINVAL;
	if (len == 0)
		return 0;
	return m->ops->peek ? m->ops->peek(m, buf, len, offset) : -EAGAIN;
}

int hither_mount_local_fd(struct hither_mount *m)
{
	return m->ops->local_fd(m);
}

void hither_mount_cached_above(struct hither_mount *m)
{
	if (m->ops->cached_above)
		m->ops->cached_above(m);
}

void hither_mount_cancel(struct hither_mount *m)
{
	m->ops->cancel(m);
}

int hither_mount_close(struct hither_mount *m, struct hither_error *err)
{
	return m ? m->ops->close(m, err) : 0;
}

/* --- opening --- */

/* What is being put together; opening_finish frees what was not handed over. */
struct opening {
	const char *name;
	const struct hither_mount_options *options;
	struct hither_backend *backend;
	struct hither_store *store;
	struct hither_block_map *map;
	struct hither_store_identity id; /* what the store has */
	bool existed;
};

/* failed: what was begun for it on disk goes too. */
static void opening_finish(struct opening *o, bool failed)
{
	bool begun = failed && o->store && !o->existed && o->options->cache_dir;
	hither_store_close(o->store);
	hither_block_map_destroy(o->map);
	if (begun) /* may fail: somebody else may have it by now */
		hither_store_delete(o->options->cache_dir, o->name, false, NULL);
}

static int open_store(struct opening *o, struct hither_error *err)
{
	if (!o->options->cache_dir)
		return 0; /* made once the size is known */
	return hither_store_open(o->options->cache_dir, o->name, &o->store, &o->id, &o->existed,
	                         err);
}

static int load_map(struct opening *o, uint64_t size_bytes, struct hither_error *err)
{
	uint64_t blocks = (size_bytes + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT;
	hither_block_map_destroy(o->map);
	o->map = hither_block_map_create(blocks);
	if (!o->map)
		return hither_fail(err, -ENOMEM, "%s: no memory to mount %llu bytes", o->name,
		                   (unsigned long long)size_bytes);
	return o->existed ? hither_store_load(o->store, o->map, err) : 0;
}

static int start_store(struct opening *o, const struct hither_store_identity *now,
                       struct hither_error *err)
{
	o->existed = false;
	int r = o->options->cache_dir ? hither_store_reset(o->store, now, err)
	                              : hither_store_memory(now->size_bytes, &o->store, err);
	return r ? r : load_map(o, now->size_bytes, err);
}

/* Clean blocks of a resource that cannot be told from a changed one are not to be trusted. */
static int drop_clean(struct opening *o, struct hither_error *err)
{
	uint64_t at = 0, end = (o->id.size_bytes + HITHER_BLOCK_BYTES - 1) >> HITHER_BLOCK_SHIFT,
	         run;
	while ((run = hither_block_map_run(o->map, at, end, end, HITHER_BLOCKS_LOCAL, &at)) > 0) {
		uint64_t offset = at << HITHER_BLOCK_SHIFT, len = run << HITHER_BLOCK_SHIFT;
		if (len > o->id.size_bytes - offset)
			len = o->id.size_bytes - offset;
		int r = hither_block_map_set(o->map, at, run, HITHER_BLOCK_ABSENT);
		if (!r) /* at once: on a full disk what it frees is what the log needs */
			r = hither_store_punch(o->store, offset, len);
		if (r)
			return hither_fail(err, r, "%s: dropping what the cache has: %s", o->name,
			                   strerror(-r));
		at += run;
	}
	return 0;
}

enum { VERSION_TEXT_BYTES = HITHER_VERSION_BYTES + 40 };

/* "1000 bytes, etag ..." */
static const char *tell_version(const struct hither_store_identity *id,
                                char text[VERSION_TEXT_BYTES])
{
	snprintf(text, VERSION_TEXT_BYTES, "%llu bytes%s%s", (unsigned long long)id->size_bytes,
	         *id->version ? ", " : "", id->version);
	return text;
}

/* The cached copy was made from another version. */
static int replace_copy(struct opening *o, const struct hither_store_identity *now, uint64_t dirty,
                        struct hither_error *err)
{
	char was[VERSION_TEXT_BYTES], is[VERSION_TEXT_BYTES];
	tell_version(&o->id, was);
	tell_version(now, is);
	if (dirty > 0)
		return hither_fail(
		        err, -ESTALE,
		        "%s has changed (was %s; is %s) while %llu bytes written here were not yet "
		        "sent: mount with --offline to save them, or drop them with 'hither cache "
		        "clear --force'",
		        o->name, was, is, (unsigned long long)dirty);
	if (o->options->changed == HITHER_CHANGED_FAIL)
		return hither_fail(
		        err, -ESTALE,
		        "%s has changed since it was cached (was %s; is %s): clear it with "
		        "'hither cache clear', or mount with --on-change refetch",
		        o->name, was, is);
	return start_store(o, now, err);
}

/* What this version is may have become of the one noted by our writing. */
static bool may_be_ours(const struct opening *o, const struct hither_store_identity *now)
{
	return o->id.pushing &&
	       !strncmp(now->version, o->id.version, o->backend->version_name_bytes);
}

/* Settle what the store is a copy of, and load the map. */
static int match_store(struct opening *o, const struct hither_store_identity *now,
                       struct hither_error *err)
{
	if (!o->existed)
		return start_store(o, now, err);
	int r = load_map(o, o->id.size_bytes, err);
	if (r)
		return r;
	uint64_t dirty = hither_block_map_count(o->map, HITHER_BLOCK_DIRTY) * HITHER_BLOCK_BYTES;
	bool same_size = now->size_bytes == o->id.size_bytes;
	if (same_size && !*now->version)
		return drop_clean(o, err);
	if (same_size && strcmp(now->version, o->id.version) == 0)
		return 0;
	if (same_size && may_be_ours(o, now)) { /* it was us, before a crash */
		struct hither_store_identity ours = *now;
		ours.pushing = dirty > 0;
		return hither_store_set_identity(o->store, &ours, err);
	}
	return replace_copy(o, now, dirty, err);
}

static int mount_over(struct opening *o, struct hither_mount **out, struct hither_error *err)
{
	struct hither_store_identity now = {0};
	int r;
	if (o->backend) {
		now.size_bytes = o->backend->size_bytes;
		r = hither_backend_version(o->backend, now.version, err);
		if (!r)
			r = match_store(o, &now, err);
	} else {
		now.size_bytes = o->id.size_bytes;
		r = !o->existed ? hither_fail(err, -ENOENT,
		                              "%s: offline, and it is not in the cache", o->name)
		                : load_map(o, now.size_bytes, err);
	}
	if (!r && o->existed)
		hither_store_trim(o->store, o->map);
	if (!r)
		r = hither_managed_create(o->backend, o->store, o->map, now.size_bytes, o->name,
		                          o->options, out, err);
	if (!r) {
		o->store = NULL;
		o->map = NULL;
	}
	return r;
}

/* What can be said before anybody is asked. */
static int check_options(const struct hither_mount_options *o, struct hither_error *err)
{
	uint32_t chunk = o->chunk_bytes;
	if (chunk && (chunk < 4096 || chunk > 16 << 20 || (chunk & (chunk - 1))))
		return hither_fail(err, -EINVAL,
		                   "chunk_bytes is %u: a power of two from 4096 to 16777216 was "
		                   "expected",
		                   chunk);
	return hither_order_check_name(o->order, err);
}

int hither_mount_backend(struct hither_backend *backend, const char *name,
                         const struct hither_mount_options *options, struct hither_mount **out,
                         struct hither_error *err)
{
	int r = check_options(options, err);
	if (r)
		return r;
	if (options->direct)
		return hither_direct_create(backend, options, out, err);
	struct opening o = {.name = name, .options = options, .backend = backend};
	r = open_store(&o, err);
	if (!r)
		r = mount_over(&o, out, err);
	opening_finish(&o, r != 0);
	return r;
}

/*
 * Of a resource of which nothing is here a good deal will be wanted, and soon: what opening it can
 * bring along costs no round trip. Many formats have what tells of the rest at their end.
 */
enum { EARLY_REQUESTS = 15, EARLY_LAST_BYTES = 32 << 10 };

static void ask_early(struct hither_backend_options *b, const struct hither_mount_options *o)
{
	uint32_t most = o->workers ? o->workers : EARLY_REQUESTS + 1;
	if (b->parallel && b->parallel < most)
		most = b->parallel;
	/* Who says what shall come first wants no more than that. */
	if (b->beside || b->last_bytes || b->first_bytes || (o->order && !strcmp(o->order, "none")))
		return;
	b->beside = most - 1 < EARLY_REQUESTS ? most - 1 : EARLY_REQUESTS;
	b->last_bytes = EARLY_LAST_BYTES;
}

static int open_managed(const char *url, const struct hither_mount_options *options,
                        struct hither_mount **out, struct hither_error *err)
{
	struct opening o = {.name = url, .options = options};
	int r = options->offline ? 0
	                         : hither_backend_check_url(url, options->backend.writable, err);
	if (!r)
		r = open_store(&o, err);
	if (!r && !options->offline) {
		struct hither_backend_options b = options->backend;
		if (o.existed && *o.id.version && !o.id.pushing) {
			b.known_version = o.id.version;
			b.known_size_bytes = o.id.size_bytes;
		} else {
			ask_early(&b, options);
		}
		r = hither_backend_open(url, &b, &o.backend, err);
	}
	if (!r)
		r = mount_over(&o, out, err);
	if (r)
		hither_backend_close(o.backend);
	opening_finish(&o, r != 0);
	return r;
}

int hither_mount_open(const char *url, const struct hither_mount_options *options,
                      struct hither_mount **out, struct hither_error *err)
{
	int r = check_options(options, err);
	if (r)
		return r;
	if (!options->direct)
		return open_managed(url, options, out, err);
	struct hither_backend *backend;
	r = hither_backend_open(url, &options->backend, &backend, err);
	if (r)
		return r;
	r = hither_direct_create(backend, options, out, err);
	if (r)
		hither_backend_close(backend);
	return r;
}
