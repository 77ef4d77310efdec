/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes out of entries. These come in order, folders before what is in them, so that an entry's
 * folder is always one of those that the path before it was in. Nodes are numbered by breadth:
 * children of a folder are neighbours, and keep their order.
 */
#include "base/cleanup.h"
#include "tree/tree_internal.h"

#include <errno.h>
#include <string.h>

#define NONE UINT32_MAX

struct tree_item {
	size_t name, target; /* in strings */
	uint64_t size, offset, first_hash;
	int64_t mtime_ns;
	uint32_t parent;            /* an item; NONE: the root */
	uint32_t first, last, next; /* children, and the next child of the parent; items */
	uint32_t child_count, node;
	uint16_t mode;
	uint8_t kind;
};

int tree_place(uint64_t *at, uint64_t size, uint32_t chunk_bytes, uint64_t *offset)
{
	uint64_t begin = (*at + TREE_BLOCK_BYTES - 1) & ~(uint64_t)(TREE_BLOCK_BYTES - 1);
	uint64_t in_chunk = begin & (chunk_bytes - 1);
	if (size > chunk_bytes - in_chunk && in_chunk)
		begin += chunk_bytes - in_chunk;
	if (begin > TREE_SIZE_MOST || size > TREE_SIZE_MOST - begin)
		return -EFBIG;
	*offset = begin;
	*at = begin + size;
	return 0;
}

int tree_compare(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	/* The end comes before '/', and that before all else. */
	int x = *a == '/' ? 1 : *a ? (unsigned char)*a + 2 : 0;
	int y = *b == '/' ? 1 : *b ? (unsigned char)*b + 2 : 0;
	return x - y;
}

bool tree_path_good(const char *path)
{
	if (strlen(path) > TREE_PATH_MOST)
		return false;
	for (const char *part = path;; part++) {
		size_t len = strcspn(part, "/");
		if (len == 0 || len > TREE_NAME_MOST || (len == 1 && *part == '.') ||
		    (len == 2 && part[0] == '.' && part[1] == '.'))
			return false;
		part += len;
		if (!*part)
			return true;
	}
}

bool tree_base_good(const char *base)
{
	char path[TREE_PATH_MOST + 1];
	size_t len = strlen(base);
	if (!len)
		return true;
	if (len > TREE_PATH_MOST || base[len - 1] != '/')
		return false;
	memcpy(path, base, len - 1);
	path[len - 1] = 0;
	return tree_path_good(path);
}

int tree_builder_init(struct tree_builder *b, struct hither_tree *t, uint32_t count)
{
	enum { DEPTH_MOST = TREE_PATH_MOST / 2 + 1 };
	*b = (struct tree_builder){.t = t, .room = count};
	b->items = calloc(count ? count : 1, sizeof *b->items);
	b->open = calloc(DEPTH_MOST, sizeof *b->open);
	b->open_len = calloc(DEPTH_MOST, sizeof *b->open_len);
	tree_bytes_add(&b->strings, "", 1);
	return b->items && b->open && b->open_len && !b->strings.failed ? 0 : -ENOMEM;
}

/* Leave the folders that path is not in; that left is its own. */
static bool find_folder(struct tree_builder *b, const char *path, const char *before,
                        size_t folder_len)
{
	size_t same = 0;
	while (path[same] && path[same] == before[same])
		same++;
	while (b->open_count) {
		uint32_t len = b->open_len[b->open_count - 1];
		if (len <= same && path[len] == '/')
			break;
		b->open_count--;
	}
	return folder_len == (b->open_count ? b->open_len[b->open_count - 1] : 0);
}

static void adopt(struct tree_builder *b, uint32_t i)
{
	struct tree_item *item = &b->items[i];
	item->parent = b->open_count ? b->open[b->open_count - 1] : NONE;
	item->first = item->last = item->next = NONE;
	if (item->parent == NONE)
		return; /* the root's children are found by going over all */
	struct tree_item *parent = &b->items[item->parent];
	if (parent->last == NONE)
		parent->first = i;
	else
		b->items[parent->last].next = i;
	parent->last = i;
	parent->child_count++;
}

const char *tree_builder_add(struct tree_builder *b, const struct tree_entry *e, const char *before)
{
	if (!tree_path_good(e->path))
		return "a path that is absolute, or has an empty, '.', '..' or too long part";
	if (b->count && tree_compare(before, e->path) >= 0)
		return "a path that is there twice, or out of order";
	const char *slash = strrchr(e->path, '/'), *name = slash ? slash + 1 : e->path;
	if (!find_folder(b, e->path, before, slash ? (size_t)(slash - e->path) : 0))
		return "a path whose folder is missing";
	if (b->t->one_file && (b->count || slash || e->kind != HITHER_TREE_FILE))
		return "a tree of one file with something else in it";
	uint32_t i = b->count++;
	struct tree_item *item = &b->items[i];
	item->kind = e->kind;
	item->mode = e->mode;
	item->mtime_ns = e->mtime_ns;
	item->name = b->strings.len;
	tree_bytes_add(&b->strings, name, strlen(name) + 1);
	adopt(b, i);
	if (e->kind == HITHER_TREE_FOLDER) {
		b->open[b->open_count] = i;
		b->open_len[b->open_count++] = (uint32_t)strlen(e->path);
	} else if (e->kind == HITHER_TREE_LINK) {
		item->target = b->strings.len;
		item->size = strlen(e->target);
		tree_bytes_add(&b->strings, e->target, item->size + 1);
	} else {
		item->size = e->size;
		item->first_hash = b->hash_count;
		if (e->size > TREE_SIZE_MOST ||
		    (e->size && tree_place(&b->at, e->size, b->t->chunk_bytes, &item->offset)))
			return "files that together are too large";
		b->hash_count += tree_chunks(e->size, b->t->chunk_bytes);
		b->t->file_bytes += e->size;
		b->t->file_count += e->size > 0;
	}
	return NULL;
}

static void make_node(const struct tree_builder *b, struct tree_item *item, uint32_t number,
                      uint32_t parent)
{
	struct hither_tree_node *n = &b->t->nodes[number];
	item->node = number;
	*n = (struct hither_tree_node){
	        .name = b->t->strings + item->name,
	        .target = item->kind == HITHER_TREE_LINK ? b->t->strings + item->target : NULL,
	        .size = item->size,
	        .offset = item->offset,
	        .mtime_ns = item->mtime_ns,
	        .first_hash = item->first_hash,
	        .parent = parent,
	        .child_count = item->child_count,
	        .mode = item->mode,
	        .kind = item->kind,
	};
}

/* By breadth; queue[n] is the item of node n. */
static void number_nodes(struct tree_builder *b, uint32_t *queue)
{
	struct hither_tree *t = b->t;
	uint32_t count = t->one_file ? 0 : 1;
	for (uint32_t i = 0; i < b->count; i++)
		if (b->items[i].parent == NONE) {
			queue[count] = i;
			make_node(b, &b->items[i], count++, 0);
		}
	if (!t->one_file)
		t->nodes[0] = (struct hither_tree_node){.name = "",
		                                        .first_child = 1,
		                                        .child_count = count - 1,
		                                        .mode = 0755,
		                                        .kind = HITHER_TREE_FOLDER};
	for (uint32_t n = t->one_file ? 0 : 1; n < count; n++) {
		t->nodes[n].first_child = count;
		for (uint32_t i = b->items[queue[n]].first; i != NONE; i = b->items[i].next) {
			queue[count] = i;
			make_node(b, &b->items[i], count++, n);
		}
	}
	t->node_count = count;
}

int tree_builder_end(struct tree_builder *b)
{
	struct hither_tree *t = b->t;
	HITHER_FREE uint32_t *queue = malloc(((size_t)b->count + 1) * sizeof *queue);
	t->nodes = calloc((size_t)b->count + 1, sizeof *t->nodes);
	t->by_offset = malloc(((size_t)t->file_count + 1) * sizeof *t->by_offset);
	if (b->strings.failed || !queue || !t->nodes || !t->by_offset)
		return -ENOMEM;
	t->strings = (char *)b->strings.bytes;
	b->strings = (struct tree_bytes){0};
	number_nodes(b, queue);
	uint32_t n = 0;
	for (uint32_t i = 0; i < b->count; i++)
		if (b->items[i].kind == HITHER_TREE_FILE && b->items[i].size)
			t->by_offset[n++] = b->items[i].node;
	t->size = b->at;
	return 0;
}

void tree_builder_finish(struct tree_builder *b)
{
	free(b->items);
	free(b->open);
	free(b->open_len);
	tree_bytes_finish(&b->strings);
}
