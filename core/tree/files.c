/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a tree as one backend, opened as they are read. Files stay open, up to FILES_OPEN of
 * them, the longest unused is closed first; their connections belong to all (see `pooled`), so that
 * an open file costs no connection. Small files that lie beside each other in one read are fetched
 * at the same time (spread.h): each of them is a request, and one after the other would cost a
 * round trip each. So are the parts of a large one over a connection that is not wide yet.
 */
#include "backend/buffer_sink.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "tree/spread.h"

#include "base/tcp.h"
#include "tree/tree_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	FILES_OPEN = 64,
	GROUP_BYTES = 1 << 20,
	FIRST_BYTES_MOST = 256 << 10,
	PARALLEL = 64,
};

/* A file that is open, or being opened, by whoever holds it. */
struct open_file {
	const struct hither_tree_node *node;
	struct hither_backend *backend; /* NULL: being opened */
	unsigned users;
	bool gone;              /* not in the list any more: the last user closes it */
	struct open_file *next; /* the latest used first */
};

struct files {
	struct hither_backend base;
	const struct hither_tree *t;
	char *url;
	bool offline;
	struct hither_backend_options options; /* strings are ours */
	struct spread *spread;

	pthread_mutex_t lock;  /* guards the rest */
	pthread_cond_t opened; /* an open has ended */
	struct open_file *open;
	unsigned open_count;
	bool cancelled;
	/* Opening asks nothing, since every byte is checked anyway: a round trip less for each
	 * file. Until one turned out to be not what it should be: then it is for messages that say
	 * how. */
	bool unseen;
};

/* --- open files --- */

static void file_free(struct open_file *o)
{
	hither_backend_close(o->backend);
	free(o);
}

/* The one to close if there are too many; the lock is held. It is the caller's. */
static struct open_file *take_oldest_locked(struct files *f)
{
	struct open_file **oldest = NULL;
	for (struct open_file **at = &f->open; *at; at = &(*at)->next)
		if (!(*at)->users)
			oldest = at;
	if (f->open_count <= FILES_OPEN || !oldest)
		return NULL;
	struct open_file *o = *oldest;
	*oldest = o->next;
	f->open_count--;
	return o;
}

static void unlink_locked(struct files *f, struct open_file *o)
{
	struct open_file **at = &f->open;
	while (*at && *at != o)
		at = &(*at)->next;
	if (*at) {
		*at = o->next;
		f->open_count--;
	}
	o->gone = true;
}

/* broken: what is open is not the version that was opened any more. */
static void let_go(struct files *f, struct open_file *o, bool broken)
{
	pthread_mutex_lock(&f->lock);
	if (broken && !o->gone)
		unlink_locked(f, o);
	f->unseen &= !broken;
	bool last = !--o->users;
	struct open_file *close = last && o->gone ? o : take_oldest_locked(f);
	pthread_mutex_unlock(&f->lock);
	if (close)
		file_free(close);
}

static int open_it(struct files *f, const struct hither_tree_node *n, bool unseen,
                   struct hither_backend **out, struct hither_error *err)
{
	char path[TREE_PATH_MOST + 1];
	hither_tree_path(f->t, (uint32_t)(n - f->t->nodes), path, sizeof path);
	HITHER_FREE char *url = tree_url(f->url, f->t->base, path);
	if (!url)
		return hither_fail(err, -ENOMEM, "%s: no memory", path);
	struct hither_backend_options o = f->options;
	o.unseen = unseen;
	o.known_size_bytes = unseen ? n->size : 0;
	int r = hither_backend_open(url, &o, out, err);
	if (r || (*out)->size_bytes == n->size)
		return r;
	r = hither_fail(err, -EIO,
	                "%s: it has %" PRIu64 " bytes on the server, and %" PRIu64
	                " in the manifest: it was changed since it was indexed",
	                path, (*out)->size_bytes, n->size);
	hither_backend_close(*out);
	return r;
}

static struct open_file *find_locked(struct files *f, const struct hither_tree_node *n)
{
	for (struct open_file **at = &f->open; *at; at = &(*at)->next)
		if ((*at)->node == n) {
			struct open_file *o = *at;
			*at = o->next;
			o->next = f->open;
			f->open = o;
			return o;
		}
	return NULL;
}

/* Open n, as the first who wants it; the lock is held, and let go meanwhile. */
static int open_first_locked(struct files *f, const struct hither_tree_node *n,
                             struct open_file **out, struct hither_error *err)
{
	struct open_file *o = calloc(1, sizeof *o);
	if (!o)
		return hither_fail(err, -ENOMEM, "tree: no memory");
	o->node = n;
	o->users = 1;
	o->next = f->open;
	f->open = o;
	f->open_count++;
	bool unseen = f->unseen;
	pthread_mutex_unlock(&f->lock);
	struct hither_backend *b = NULL;
	int r = open_it(f, n, unseen, &b, err);
	pthread_mutex_lock(&f->lock);
	o->backend = r ? NULL : b;
	if (!r && f->cancelled)
		hither_backend_cancel(b);
	if (r) {
		unlink_locked(f, o);
		if (!--o->users)
			free(o);
	}
	pthread_cond_broadcast(&f->opened);
	*out = r ? NULL : o;
	return r;
}

static int hold(struct files *f, const struct hither_tree_node *n, struct open_file **out,
                struct hither_error *err)
{
	HITHER_LOCK_SCOPE(&f->lock);
	for (;;) {
		if (f->cancelled)
			return hither_fail(err, -ECANCELED, "tree: cancelled");
		struct open_file *o = find_locked(f, n);
		if (!o)
			return open_first_locked(f, n, out, err);
		if (o->backend) {
			o->users++;
			*out = o;
			return 0;
		}
		/* Where that fails, each that waited tries for itself, and tells why. */
		pthread_cond_wait(&f->opened, &f->lock);
	}
}

/* --- reading --- */

struct count_sink {
	struct hither_sink base;
	struct hither_sink *to;
	uint64_t taken;
};

static int count_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct count_sink *c = HITHER_CONTAINER(sink, struct count_sink, base);
	c->taken += len;
	return c->to->take(c->to, buf, len);
}

static int fail_offline(struct files *f, const struct hither_tree_node *n, uint64_t offset,
                        struct hither_error *err)
{
	char path[256];
	return hither_fail(err, -ENODATA, "%s at %" PRIu64 ": offline, and not in the cache",
	                   hither_tree_path(f->t, (uint32_t)(n - f->t->nodes), path, sizeof path),
	                   offset);
}

/*
 * Bytes of one file. Another version of it on the server may have the same bytes: the file is
 * opened anew once, and who reads checks what comes.
 */
static int read_file(struct files *f, const struct hither_tree_node *n, uint64_t offset,
                     uint64_t len, struct hither_sink *sink, struct hither_error *err)
{
	struct count_sink c = {{count_take}, sink, 0};
	if (f->offline)
		return fail_offline(f, n, offset, err);
	for (int attempt = 0;; attempt++) {
		struct open_file *o = NULL;
		int r = hold(f, n, &o, err);
		if (r)
			return r;
		r = hither_backend_read(o->backend, offset + c.taken, len - c.taken, &c.base, err);
		/* A server without ranges is told by what it answers to the first request only. */
		bool broken = r == -ESTALE || (r == -EPROTO && !attempt);
		let_go(f, o, broken);
		if (!broken)
			return r;
		/* Not ESTALE, which would make the mount give up on all files. */
		if (attempt)
			return hither_fail(err, -EIO, "it keeps changing on the server: %.300s",
			                   err ? err->message : "");
	}
}

/* --- several at a time --- */

static int fetch_part(void *user, const struct spread_run *part, char *buf,
                      struct hither_error *err)
{
	struct hither_buffer_sink to = {{hither_buffer_take}, buf};
	return read_file(user, part->node, part->from, part->len, &to.base, err);
}

/*
 * How many whole files from number `first` on fit into [offset, end), and where the last of them
 * ends.
 */
static uint32_t group_count(const struct hither_tree *t, uint32_t first, uint64_t offset,
                            uint64_t end, uint64_t *group_end)
{
	uint32_t i = first;
	uint64_t most = end - offset < GROUP_BYTES ? end : offset + GROUP_BYTES;
	for (; i < t->file_count; i++) {
		const struct hither_tree_node *n = &t->nodes[t->by_offset[i]];
		if (n->offset + n->size > most)
			break;
		*group_end = n->offset + n->size;
	}
	return i - first;
}

/* [offset, offset + len): count files, of which the first begins there or before. */
static int read_spread(struct files *f, uint32_t first, uint32_t count, uint64_t offset,
                       uint64_t len, struct hither_sink *sink, struct hither_error *err)
{
	const struct hither_tree *t = f->t;
	HITHER_FREE char *buf = calloc(1, len);
	HITHER_FREE struct spread_run *runs = malloc(count * sizeof *runs);
	if (!buf || !runs)
		return hither_fail(err, -ENOMEM, "tree: no memory for %" PRIu64 " bytes", len);
	for (uint32_t i = 0; i < count; i++) {
		const struct hither_tree_node *n = &t->nodes[t->by_offset[first + i]];
		uint64_t from = i ? n->offset : offset, end = n->offset + n->size;
		end = end < offset + len ? end : offset + len;
		runs[i] = (struct spread_run){n, from - n->offset, end - from,
		                              (size_t)(from - offset)};
	}
	return spread_read(f->spread, runs, count, buf, len, sink, err);
}

/* One over which it is worth the while; the bytes are kept until those in front have come. */
static bool is_spread(const struct hither_sink *sink, uint64_t len)
{
	return sink->flight_bytes && len > HITHER_TCP_FIRST_BYTES && len <= GROUP_BYTES;
}

static int put_zeros(struct hither_sink *sink, uint64_t len)
{
	static const char zeros[TREE_BLOCK_BYTES];
	int r = 0;
	for (uint64_t n; len && !r; len -= n) {
		n = len < sizeof zeros ? len : sizeof zeros;
		r = sink->take(sink, zeros, n);
	}
	return r;
}

/* What begins at offset: a gap, a part of a file, or several whole files. *done: how far. */
static int read_next(struct files *f, uint64_t offset, uint64_t end, uint64_t *done,
                     struct hither_sink *sink, struct hither_error *err)
{
	const struct hither_tree *t = f->t;
	uint32_t after = tree_files_until(t, offset); /* the first that begins later */
	const struct hither_tree_node *n = after ? &t->nodes[t->by_offset[after - 1]] : NULL;
	if (n && offset - n->offset < n->size) {
		if (offset == n->offset) {
			uint32_t count = group_count(t, after - 1, offset, end, done);
			if (count > 1 && !f->offline)
				return read_spread(f, after - 1, count, offset, *done - offset,
				                   sink, err);
		}
		*done = n->offset + n->size < end ? n->offset + n->size : end;
		if (is_spread(sink, *done - offset) && !f->offline)
			return read_spread(f, after - 1, 1, offset, *done - offset, sink, err);
		return read_file(f, n, offset - n->offset, *done - offset, sink, err);
	}
	*done = after < t->file_count ? t->nodes[t->by_offset[after]].offset : end;
	if (*done > end)
		*done = end;
	return put_zeros(sink, *done - offset);
}

static struct files *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct files, base);
}

static int files_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                      struct hither_sink *sink, struct hither_error *err)
{
	struct files *f = self(b);
	int r = 0;
	pthread_mutex_lock(&f->lock);
	if (f->cancelled)
		r = hither_fail(err, -ECANCELED, "tree: cancelled");
	pthread_mutex_unlock(&f->lock);
	for (uint64_t at = offset, done = at; at < offset + len && !r; at = done)
		r = read_next(f, at, offset + len, &done, sink, err);
	return r;
}

static uint64_t files_extent(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole)
{
	const struct hither_tree *t = self(b)->t;
	uint32_t after = tree_files_until(t, offset);
	const struct hither_tree_node *n = after ? &t->nodes[t->by_offset[after - 1]] : NULL;
	*hole = !n || offset - n->offset >= n->size;
	uint64_t end = !*hole                  ? n->offset + n->size
	               : after < t->file_count ? t->nodes[t->by_offset[after]].offset
	                                       : b->size_bytes;
	return end - offset < max ? end - offset : max;
}

static int files_version(struct hither_backend *b, char *version, size_t size,
                         struct hither_error *err)
{
	size_t len = strlen(self(b)->t->hash);
	assert(len < size);
	memcpy(version, self(b)->t->hash, len + 1);
	return 0;
}

static void files_cancel(struct hither_backend *b)
{
	struct files *f = self(b);
	HITHER_LOCK_SCOPE(&f->lock);
	f->cancelled = true;
	for (struct open_file *o = f->open; o; o = o->next)
		if (o->backend)
			hither_backend_cancel(o->backend);
	pthread_cond_broadcast(&f->opened);
}

static void files_close(struct hither_backend *b)
{
	struct files *f = self(b);
	spread_destroy(f->spread);
	while (f->open) {
		struct open_file *o = f->open;
		f->open = o->next;
		file_free(o);
	}
	tree_options_finish(&f->options);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->opened);
	free(f->url);
	free(f);
}

static const struct hither_backend_ops files_ops = {
        .name = "tree",
        .read = files_read,
        .version = files_version,
        .cancel = files_cancel,
        .extent = files_extent,
        .close = files_close,
};

int tree_files_backend(const struct hither_tree *t, const char *url,
                       const struct hither_backend_options *options, bool offline,
                       struct hither_backend **out, struct hither_error *err)
{
	struct files *f = calloc(1, sizeof *f);
	if (!f)
		return hither_fail(err, -ENOMEM, "tree: no memory");
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->opened, NULL);
	f->t = t;
	f->offline = offline;
	f->unseen = true;
	f->url = strdup(url);
	f->spread = spread_create(fetch_part, f);
	f->base = (struct hither_backend){.ops = &files_ops,
	                                  .size_bytes = t->size,
	                                  .align_bytes = 1,
	                                  .parallel = PARALLEL,
	                                  .spread = hither_has_few_files() ? 0 : SPREAD_MOST};
	int r = f->url && f->spread ? tree_options_copy(&f->options, options) : -ENOMEM;
	f->options.pooled = true;
	f->options.prompt = true; /* the mount does */
	f->options.first_bytes =
	        t->chunk_bytes < FIRST_BYTES_MOST ? t->chunk_bytes : FIRST_BYTES_MOST;
	if (r) {
		files_close(&f->base);
		return hither_fail(err, r, "tree: no memory");
	}
	*out = &f->base;
	return 0;
}
