/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching a manifest, and mounting what it says. */
#include "base/cleanup.h"
#include "base/tcp.h"
#include "mount/mount_internal.h"
#include "tree/tree_internal.h"

#include <errno.h>
#include <hither/cache.h>
#include <hither/url.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- the files, each chunk checked --- */

void tree_unit_at(const struct hither_tree *t, uint64_t offset, struct hither_verify_unit *out)
{
	uint32_t after = tree_files_until(t, offset);
	const struct hither_tree_node *n = after ? &t->nodes[t->by_offset[after - 1]] : NULL;
	if (!n || offset - n->offset >= n->size) {
		uint64_t from = n ? n->offset + n->size : 0;
		uint64_t end =
		        after < t->file_count ? t->nodes[t->by_offset[after]].offset : t->size;
		*out = (struct hither_verify_unit){from, end - from, NULL};
		return;
	}
	uint64_t chunk = (offset - n->offset) / t->chunk_bytes;
	uint64_t from = chunk * t->chunk_bytes, left = n->size - from;
	*out = (struct hither_verify_unit){n->offset + from,
	                                   left < t->chunk_bytes ? left : t->chunk_bytes,
	                                   hither_tree_chunk_hash(t, n, chunk)};
}

static void find_unit(void *user, uint64_t offset, struct hither_verify_unit *out)
{
	tree_unit_at(user, offset, out);
}

static void name_unit(void *user, uint64_t offset, char *out, size_t size)
{
	const struct hither_tree *t = user;
	const struct hither_tree_node *n = hither_tree_file_at(t, offset);
	char path[200];
	snprintf(out, size, "%s at %" PRIu64,
	         hither_tree_path(t, (uint32_t)(n - t->nodes), path, sizeof path),
	         offset - n->offset);
}

int hither_tree_backend(const struct hither_tree *t, const char *url,
                        const struct hither_backend_options *options, bool offline,
                        struct hither_backend **out, struct hither_error *err)
{
	struct hither_backend *files = NULL;
	const struct hither_verify_units units = {.user = (void *)(uintptr_t)t,
	                                          .most_bytes = t->chunk_bytes,
	                                          .find = find_unit,
	                                          .name = name_unit};
	int r = tree_files_backend(t, url, options, offline, &files, err);
	if (!r)
		r = hither_layer_verify(files, &units, out, err);
	if (r)
		hither_backend_close(files);
	return r;
}

/* --- the manifest --- */

/*
 * Most manifests come in one round trip by several connections, each of which brings as much as a
 * new one can; then they are the files'. Of what is cached one request asks.
 */
enum { MANIFEST_FIRST_BYTES = HITHER_TCP_FIRST_BLOCK_BYTES, MANIFEST_BESIDE = 47 };

/* What the cache has to be told of a manifest is told while its files are on their way. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t fewer;
	unsigned count; /* of this process */
} closings = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static void *close_mount(void *mount)
{
	hither_mount_close(mount, NULL);
	HITHER_LOCK_SCOPE(&closings.lock);
	closings.count--;
	pthread_cond_broadcast(&closings.fewer);
	return NULL;
}

static void close_later(struct hither_tree *t, struct hither_mount *m)
{
	pthread_mutex_lock(&closings.lock);
	closings.count++;
	pthread_mutex_unlock(&closings.lock);
	t->closes = !pthread_create(&t->closer, NULL, close_mount, m);
	if (!t->closes)
		close_mount(m);
}

/* A cache that we have open ourselves is in nobody's use. */
static void wait_for_closings(void)
{
	HITHER_LOCK_SCOPE(&closings.lock);
	while (closings.count)
		pthread_cond_wait(&closings.fewer, &closings.lock);
}

static int check_root(const struct hither_tree *t, const char *url, const char *root_hash,
                      struct hither_error *err)
{
	char shown[200];
	if (!root_hash || !strcasecmp(root_hash, t->hash))
		return 0;
	hither_url_redact(url, shown, sizeof shown);
	return hither_fail(
	        err, -EBADMSG,
	        "%s: its root hash is %s, not the one that was asked for: it was changed, "
	        "or is not the tree you mean",
	        shown, t->hash);
}

/*
 * The manifest came from a server that sends wholes only: better to say so now than when a program
 * has begun to read. The largest file tells, by being opened, which is how the message is had.
 */
static int check_ranges(const struct hither_tree *t, const char *url,
                        const struct hither_mount_options *o, struct hither_error *err)
{
	char path[TREE_PATH_MOST + 1];
	uint32_t most = 0;
	struct hither_backend *b = NULL;
	for (uint32_t i = 1; i < t->file_count; i++)
		if (t->nodes[t->by_offset[i]].size > t->nodes[t->by_offset[most]].size)
			most = i;
	if (!t->file_count)
		return 0;
	hither_tree_path(t, t->by_offset[most], path, sizeof path);
	HITHER_FREE char *file = tree_url(url, t->base, path);
	struct hither_backend_options plain = o->backend;
	struct hither_error why = {0};
	plain.first_bytes = plain.beside = 0;
	int r = file ? hither_backend_open(file, &plain, &b, &why) : -ENOMEM;
	hither_backend_close(b);
	/* Whatever else is wrong with it concerns nobody who does not read it. */
	return r == -EOPNOTSUPP ? hither_fail(err, r, "%s", why.message) : 0;
}

static int fetch_once(const char *url, const struct hither_mount_options *o, const char *shown,
                      struct hither_tree **t, struct hither_error *err)
{
	struct hither_mount *m = NULL;
	int r = hither_mount_open(url, o, &m, err);
	if (r)
		return r;
	uint64_t size = hither_mount_size(m);
	HITHER_FREE char *bytes = size > HITHER_MANIFEST_MOST_BYTES ? NULL : malloc(size + 1);
	if (!bytes)
		r = hither_fail(err, -EFBIG, "%s: %" PRIu64 " bytes are too many for a manifest",
		                shown, size);
	if (!r)
		r = hither_mount_read_at(m, bytes, size, 0, err);
	if (!r && (r = hither_tree_parse(bytes, size, t, err)))
		hither_error_prefix(err, "%s", shown);
	if (!r && !o->direct && m->backend && m->backend->wholes)
		r = check_ranges(*t, url, o, err);
	if (r)
		hither_mount_close(m, NULL);
	else
		close_later(*t, m);
	return r;
}

/* The cache keeps no manifest that is none: its copy would be taken for the server's, which would
 * not be asked again. True: there was one. */
static bool forget(const char *url, const struct hither_mount_options *o)
{
	return !o->direct && !o->offline && o->cache_dir &&
	       !hither_cache_delete(o->cache_dir, url, false, NULL);
}

int hither_tree_fetch(const char *url, const struct hither_mount_options *options,
                      const char *root_hash, struct hither_tree **out, struct hither_error *err)
{
	struct hither_mount_options o = {.direct = options->direct,
	                                 .order = "none",
	                                 .offline = options->offline,
	                                 .cache_dir = options->cache_dir,
	                                 .deadline_ms = options->deadline_ms,
	                                 .backend = options->backend};
	o.backend.first_bytes = MANIFEST_FIRST_BYTES;
	o.backend.beside = MANIFEST_BESIDE;
	o.backend.pooled = true;
	struct hither_tree *t = NULL;
	char shown[200];
	hither_url_redact(url, shown, sizeof shown);
	wait_for_closings();
	int r = fetch_once(url, &o, shown, &t, err);
	/* Damaged on its way, or on this disk: it is fetched again, once. */
	bool damaged = r == -EBADMSG || r == -EINVAL;
	if (damaged && forget(url, &o)) {
		r = fetch_once(url, &o, shown, &t, err);
		if (r == -EBADMSG || r == -EINVAL)
			forget(url, &o);
	}
	if (r == -EOPNOTSUPP) /* so that the next one is told, too */
		forget(url, &o);
	if (!r)
		r = check_root(t, url, root_hash, err);
	if (r)
		hither_tree_destroy(t);
	else
		*out = t;
	return r;
}

/* A profile knows better. */
static bool guesses_tails(const struct hither_tree *t, const struct hither_mount_options *o)
{
	return !t->one_file && !o->profile && !o->pull_off && strcmp(o->order, "none") != 0 &&
	       strcmp(o->order, "readahead") != 0;
}

char *hither_tree_cache_name(const char *url)
{
	char *name = NULL;
	return asprintf(&name, "%s#files", url) < 0 ? NULL : name;
}

int hither_tree_mount_backend(const struct hither_tree *t, const char *url,
                              struct hither_backend *b, const struct hither_mount_options *options,
                              struct hither_mount **out, struct hither_error *err)
{
	struct hither_mount_options o = *options;
	HITHER_FREE char *name = hither_tree_cache_name(url);
	HITHER_FREE struct hither_range *ranges = NULL;
	uint32_t chunk = o.chunk_bytes ? o.chunk_bytes : 64 << 10;
	o.chunk_bytes = chunk > t->chunk_bytes ? chunk : t->chunk_bytes;
	o.backend.writable = false;
	o.scattered = true;
	if (o.offline) { /* the files' backend answers, so that what the cache has is compared */
		o.pull_off = true;
		o.order = "none";
		o.offline = false;
	} else if (!o.order || !strcmp(o.order, "auto")) {
		o.order = "elf"; /* the first file's format says nothing about the others */
	}
	int r = name ? 0 : -ENOMEM;
	if (!r && guesses_tails(t, &o)) {
		r = tree_add_tails(t, o.ranges, o.range_count, &ranges, &o.range_count);
		o.ranges = ranges;
	}
	return r ? hither_fail(err, r, "tree: no memory")
	         : hither_mount_backend(b, name, &o, out, err);
}

int hither_tree_mount(const struct hither_tree *t, const char *url,
                      const struct hither_mount_options *options, struct hither_mount **out,
                      struct hither_error *err)
{
	struct hither_backend *b = NULL;
	int r = hither_tree_backend(t, url, &options->backend, options->offline, &b, err);
	if (!r && (r = hither_tree_mount_backend(t, url, b, options, out, err)))
		hither_backend_close(b);
	return r;
}
