/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two versions of a database have in common, by the new one's manifest: chunks that are local
 * and hash to what it says need not be fetched again. They wait in a file without a name, since the
 * cache on disk has room for one version only.
 *
 * A manifest may be older than the database beside it. So it is believed only if it has the new
 * version's first chunk, in which each transaction changes a counter; and never of a database in
 * WAL mode, where that is not so.
 */
#include "base/cleanup.h"
#include "base/io.h"
#include "base/sha256.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/tree.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { READ_VERSION_AT = 19, IN_WAL_MODE = 2 };

struct hsq_kept {
	struct hither_tree *tree;
	const struct hither_tree_node *file;
	uint32_t chunk_bytes;
	int fd;           /* the chunks, one behind the other */
	uint64_t *chunks; /* which */
	size_t count;
	unsigned char *buf; /* chunk_bytes */
};

static size_t chunk_len(const struct hsq_kept *k, uint64_t chunk)
{
	uint64_t left = k->file->size - chunk * k->chunk_bytes;
	return left < k->chunk_bytes ? (size_t)left : k->chunk_bytes;
}

/* Is what k->buf has this chunk of the new version? */
static bool is_chunk(const struct hsq_kept *k, uint64_t chunk)
{
	unsigned char hash[HITHER_HASH_BYTES];
	return !hither_sha256(k->buf, chunk_len(k, chunk), hash) &&
	       !memcmp(hash, hither_tree_chunk_hash(k->tree, k->file, chunk), sizeof hash);
}

static int open_nameless(const char *folder)
{
	int fd = folder ? open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
	return fd >= 0 ? fd : memfd_create("hither-kept", MFD_CLOEXEC);
}

static void collect(struct hsq_kept *k, struct hither_mount *m)
{
	uint64_t chunks = (k->file->size + k->chunk_bytes - 1) / k->chunk_bytes;
	k->chunks = malloc((size_t)chunks * sizeof *k->chunks);
	for (uint64_t i = 0; k->chunks && i < chunks; i++) {
		if (hither_mount_peek(m, k->buf, chunk_len(k, i), i * k->chunk_bytes) ||
		    !is_chunk(k, i))
			continue;
		if (hither_pwrite_all(k->fd, k->buf, chunk_len(k, i),
		                      (uint64_t)k->count * k->chunk_bytes))
			return; /* no more room: the rest is fetched */
		k->chunks[k->count++] = i;
	}
}

static struct hither_tree *fetch_manifest(const struct hsq_share *s)
{
	struct hither_mount_options options = {.backend = s->again.mount.backend,
	                                       .deadline_ms = s->again.mount.deadline_ms};
	struct hither_tree *tree = NULL;
	HITHER_FREE char *url = hsq_sibling(s->url, ".hither");
	if (!url || hither_tree_fetch(url, &options, NULL, &tree, NULL))
		return NULL;
	uint32_t count;
	if (hither_tree_is_file(tree) && hither_tree_nodes(tree, &count)->size > 0)
		return tree;
	hither_tree_destroy(tree);
	return NULL;
}

struct hsq_kept *hsq_keep(const struct hsq_share *s)
{
	uint32_t count;
	struct hither_tree *tree = fetch_manifest(s);
	struct hsq_kept *k = tree ? calloc(1, sizeof *k) : NULL;
	if (!k) {
		hither_tree_destroy(tree);
		return NULL;
	}
	*k = (struct hsq_kept){.tree = tree,
	                       .file = hither_tree_nodes(tree, &count),
	                       .chunk_bytes = hither_tree_chunk_bytes(tree),
	                       .fd = open_nameless(s->again.mount.cache_dir)};
	k->buf = malloc(k->chunk_bytes);
	if (k->buf && k->fd >= 0)
		collect(k, s->mount);
	return k;
}

static bool is_of(struct hsq_kept *k, struct hither_mount *m)
{
	size_t len = chunk_len(k, 0);
	return hither_mount_size(m) == k->file->size && len >= HSQ_HEADER_BYTES &&
	       !hither_mount_read_at(m, k->buf, len, 0, NULL) &&
	       k->buf[READ_VERSION_AT] != IN_WAL_MODE && is_chunk(k, 0);
}

void hsq_keep_give(struct hsq_kept *k, struct hither_mount *m)
{
	if (!k || !k->count || !is_of(k, m))
		return;
	for (size_t i = 0; i < k->count; i++) {
		size_t len = chunk_len(k, k->chunks[i]);
		if (hither_pread_all(k->fd, k->buf, len, (uint64_t)i * k->chunk_bytes) ||
		    hither_mount_fill(m, k->buf, len, k->chunks[i] * k->chunk_bytes, NULL))
			return;
	}
}

void hsq_keep_destroy(struct hsq_kept *k)
{
	if (!k)
		return;
	hither_tree_destroy(k->tree);
	if (k->fd >= 0)
		close(k->fd);
	free(k->chunks);
	free(k->buf);
	free(k);
}
