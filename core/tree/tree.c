/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to a tree. */
#include "tree/tree_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void hither_tree_destroy(struct hither_tree *t)
{
	if (!t)
		return;
	if (t->closes)
		pthread_join(t->closer, NULL);
	free(t->nodes);
	free(t->by_offset);
	free(t->strings);
	free(t->base);
	free(t->hashes);
	free(t);
}

const struct hither_tree_node *hither_tree_nodes(const struct hither_tree *t, uint32_t *count)
{
	*count = t->node_count;
	return t->nodes;
}

bool hither_tree_is_file(const struct hither_tree *t)
{
	return t->one_file;
}

uint64_t hither_tree_size(const struct hither_tree *t)
{
	return t->size;
}

uint64_t hither_tree_file_bytes(const struct hither_tree *t)
{
	return t->file_bytes;
}

const char *hither_tree_hash(const struct hither_tree *t)
{
	return t->hash;
}

uint32_t hither_tree_chunk_bytes(const struct hither_tree *t)
{
	return t->chunk_bytes;
}

const char *hither_tree_base(const struct hither_tree *t)
{
	return t->base;
}

const unsigned char *hither_tree_chunk_hash(const struct hither_tree *t,
                                            const struct hither_tree_node *file, uint64_t chunk)
{
	assert(chunk < tree_chunks(file->size, t->chunk_bytes));
	return t->hashes + (file->first_hash + chunk) * HITHER_HASH_BYTES;
}

/* From the end to the front, then moved to where it belongs. */
const char *hither_tree_path(const struct hither_tree *t, uint32_t node, char *out, size_t size)
{
	size_t at = size - 1;
	out[at] = 0;
	for (;;) {
		const struct hither_tree_node *n = &t->nodes[node];
		size_t len = strlen(n->name);
		if (len > at)
			break; /* the last parts tell most */
		at -= len;
		memcpy(out + at, n->name, len);
		if (n->parent == node || n->parent == 0 || at == 0)
			break;
		out[--at] = '/';
		node = n->parent;
	}
	memmove(out, out + at, size - at);
	return out;
}

uint32_t tree_files_until(const struct hither_tree *t, uint64_t offset)
{
	uint32_t low = 0, high = t->file_count; /* the first file that begins after offset */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (t->nodes[t->by_offset[middle]].offset <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct hither_tree_node *hither_tree_file_at(const struct hither_tree *t, uint64_t offset)
{
	uint32_t count = tree_files_until(t, offset);
	return count ? &t->nodes[t->by_offset[count - 1]] : NULL;
}

/* name has len bytes, without a final 0. */
static int compare(const char *name, size_t len, const char *with)
{
	int order = strncmp(name, with, len);
	return order ? order : with[len] ? -1 : 0;
}

static uint32_t find(const struct hither_tree *t, uint32_t parent, const char *name, size_t len)
{
	const struct hither_tree_node *p = &t->nodes[parent];
	uint32_t low = p->first_child, high = p->first_child + p->child_count;
	if (p->kind != HITHER_TREE_FOLDER)
		return UINT32_MAX;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = compare(name, len, t->nodes[middle].name);
		if (!order)
			return middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return UINT32_MAX;
}

uint32_t tree_find(const struct hither_tree *t, const char *path)
{
	uint32_t at = 0;
	if (t->one_file)
		return strcmp(path, t->nodes[0].name) ? UINT32_MAX : 0;
	while (*path && at != UINT32_MAX) {
		size_t len = strcspn(path, "/");
		at = find(t, at, path, len);
		path += len + (path[len] == '/');
	}
	return at;
}

uint32_t hither_tree_lookup(const struct hither_tree *t, uint32_t parent, const char *name)
{
	return find(t, parent, name, strlen(name));
}

/* --- links --- */

enum {
	LINKS_MOST = 40, /* the kernel follows so many */
	PARTS_MOST = 4096,
	ALL_PARTS = 1 << 24, /* of all links of a tree together, and some more for each */
	PARTS_EACH = 64,
};

struct walk {
	const struct hither_tree *t;
	uint32_t at;
	unsigned links, parts; /* followed so far */
	struct tree_follow *all;
	bool leaves;
};

/* Follow path from where w is. False: it ends here, at nothing or outside. */
static bool follow(struct walk *w, const char *path)
{
	if (*path == '/')
		w->leaves = true;
	while (*path && !w->leaves) {
		size_t len = strcspn(path, "/");
		const struct hither_tree_node *n = &w->t->nodes[w->at];
		if (++w->parts > PARTS_MOST || ++w->all->parts > w->all->most)
			w->leaves = true; /* nobody honest winds so: it is not followed further */
		if (n->kind != HITHER_TREE_FOLDER)
			return false;
		if (len == 2 && path[0] == '.' && path[1] == '.') {
			w->leaves = w->at == 0;
			w->at = n->parent;
		} else if (len && !(len == 1 && *path == '.')) {
			uint32_t next = find(w->t, w->at, path, len);
			if (next == UINT32_MAX)
				return false;
			n = &w->t->nodes[next];
			if (n->kind != HITHER_TREE_LINK)
				w->at = next;
			else if (++w->links > LINKS_MOST || !follow(w, n->target))
				return false;
		}
		path += len + (path[len] == '/');
	}
	return !w->leaves;
}

bool tree_link_leaves(const struct hither_tree *t, uint32_t link, struct tree_follow *all)
{
	struct walk w = {.t = t, .at = t->nodes[link].parent, .all = all};
	all->most += all->most ? PARTS_EACH : ALL_PARTS;
	follow(&w, t->nodes[link].target);
	return w.leaves;
}
