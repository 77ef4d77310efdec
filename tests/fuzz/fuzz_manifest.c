/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest: what is accepted keeps its promises, whatever links and sizes it has. */
#include "check.h"
#include "fuzz.h"
#include "tree/tree_internal.h"

#include <errno.h>
#include <string.h>

static void check_node(const struct hither_tree *t, uint32_t i, uint32_t count)
{
	const struct hither_tree_node *n = &t->nodes[i];
	char path[TREE_PATH_MOST + 1];
	hither_tree_path(t, i, path, sizeof path);
	CHECK(n->parent < i || (i == 0 && n->parent == 0));
	CHECK(i == 0 || t->one_file || (tree_path_good(path) && tree_find(t, path) == i));
	CHECK(n->mode <= 0777);
	CHECK(n->first_child <= count && n->child_count <= count - n->first_child);
	for (uint32_t c = 0; c < n->child_count; c++) {
		CHECK(n[0].kind == HITHER_TREE_FOLDER);
		CHECK(t->nodes[n->first_child + c].parent == i);
		CHECK(c == 0 || strcmp(t->nodes[n->first_child + c - 1].name,
		                       t->nodes[n->first_child + c].name) < 0);
	}
	if (n->kind == HITHER_TREE_FILE && n->size) {
		CHECK(n->offset <= t->size && n->size <= t->size - n->offset);
		CHECK(hither_tree_file_at(t, n->offset) == n);
		CHECK(hither_tree_file_at(t, n->offset + n->size - 1) == n);
		CHECK(hither_tree_chunk_hash(t, n, (n->size - 1) / t->chunk_bytes) - t->hashes +
		              HITHER_HASH_BYTES <=
		      (ptrdiff_t)(t->hash_count * HITHER_HASH_BYTES));
	}
	if (n->kind == HITHER_TREE_LINK)
		CHECK(n->target[0] && n->target[0] != '/' && strlen(n->target) == n->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hither_tree *t = NULL;
	struct hither_error err = {0};
	/* A fuzzer cannot guess SHA-256: the last bytes are made right. */
	unsigned char *copy = malloc(size + 1);
	CHECK(copy);
	memcpy(copy, data, size);
	if (size >= HITHER_HASH_BYTES)
		CHECK_EQ(hither_sha256(copy, size - HITHER_HASH_BYTES,
		                       copy + size - HITHER_HASH_BYTES),
		         0);
	int r = hither_tree_parse(copy, size, &t, &err);
	free(copy);
	if (r) {
		CHECK(r == -EINVAL || r == -EPROTONOSUPPORT || r == -ENOMEM);
		CHECK(err.code == r && strstr(err.message, "manifest: ") && !t);
		return 0;
	}
	uint32_t count;
	hither_tree_nodes(t, &count);
	for (uint32_t i = 0; i < count; i++)
		check_node(t, i, count);
	hither_tree_destroy(t);
	return 0;
}
