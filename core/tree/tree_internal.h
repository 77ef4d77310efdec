/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of trees share. */
#ifndef HITHER_TREE_TREE_INTERNAL_H
#define HITHER_TREE_TREE_INTERNAL_H

#include "base/sha256.h"

#include <hither/layer.h>
#include <hither/tree.h>
#include <pthread.h>

#define TREE_MAGIC "hither-manifest\n"
enum {
	TREE_MAGIC_BYTES = 16,
	TREE_VERSION = 1,
	TREE_HEAD_BYTES = 40, /* up to the base */
	TREE_ONE_FILE = 1u << 0,
	TREE_PATH_MOST = 4095,
	TREE_NAME_MOST = 255,
	TREE_BLOCK_BYTES = 4096, /* no two files share one */
	TREE_CHUNK_LEAST = 4096,
	TREE_CHUNK_MOST = 16 << 20,
	TREE_VARINT_MOST = 10,
};
#define TREE_SIZE_MOST (UINT64_C(1) << 62)

struct hither_tree {
	uint32_t chunk_bytes;
	bool one_file;
	uint32_t node_count;
	uint32_t file_count; /* with bytes, see by_offset */
	struct hither_tree_node *nodes;
	uint32_t *by_offset; /* [file_count] nodes of files that are not empty, by offset */
	char *strings;       /* every name and target */
	char *base;
	unsigned char *hashes;
	uint64_t hash_count, size, file_bytes;
	char hash[2 * HITHER_HASH_BYTES + 1];
	pthread_t closer; /* closes the mount that the manifest came by */
	bool closes;
};

/* An entry as the manifest has it: in order, by its path. */
struct tree_entry {
	const char *path;
	const char *target; /* NULL: no link */
	uint64_t size;
	int64_t mtime_ns;
	uint16_t mode;
	uint8_t kind;
};

/* How many chunks, and hashes, a file of this size has. */
static inline uint64_t tree_chunks(uint64_t size, uint32_t chunk_bytes)
{
	return size / chunk_bytes + (size % chunk_bytes != 0);
}

/*
 * Where a file of `size` bytes begins if the one before it ended at *at, which moves on. 0, or
 * -EFBIG: beyond TREE_SIZE_MOST.
 */
int tree_place(uint64_t *at, uint64_t size, uint32_t chunk_bytes, uint64_t *offset);

/* The order of entries: byte order with '/' first. */
int tree_compare(const char *a, const char *b);
/* Is this a relative path without empty, "." and ".." parts, and of parts short enough? "" is not.
 */
bool tree_path_good(const char *path);
/* Does it name the folder of the manifest (""), or one below, with a slash at its end? */
bool tree_base_good(const char *base);

/* --- making the nodes --- */

/* Bytes that grow. Once memory has run out `failed` stays set. Zero-initialise. */
struct tree_bytes {
	unsigned char *bytes;
	size_t len, size;
	bool failed;
};

struct tree_item;
struct tree_builder {
	struct hither_tree *t; /* chunk_bytes and one_file are in place */
	struct tree_item *items;
	uint32_t count, room;
	struct tree_bytes strings;
	uint64_t at, hash_count;
	uint32_t *open;     /* the folders that the latest path is in, itself too: items, outermost
	                       first */
	uint32_t *open_len; /* the lengths of their paths */
	uint32_t open_count;
};

/* For so many entries. 0 or -ENOMEM. */
int tree_builder_init(struct tree_builder *b, struct hither_tree *t, uint32_t count);
/*
 * One more; before: the path of the one before, "" for the first. NULL, or what is wrong with it;
 * nothing else can be added then.
 */
const char *tree_builder_add(struct tree_builder *b, const struct tree_entry *e,
                             const char *before);
/* Put the nodes into t. 0 or -ENOMEM. */
int tree_builder_end(struct tree_builder *b);
void tree_builder_finish(struct tree_builder *b);

/* The node of a path; UINT32_MAX: none. */
uint32_t tree_find(const struct hither_tree *t, const char *path);
/* How far the links of a tree have been followed: a small manifest could have hours of it. */
struct tree_follow {
	uint64_t parts, most;
};
/* Does a link lead out of the tree, or wind so that nobody can tell? all: {0} for the first. */
bool tree_link_leaves(const struct hither_tree *t, uint32_t link, struct tree_follow *all);
/* hither_tree_parse(), but links may lead anywhere. */
int tree_parse_any(const void *bytes, size_t len, struct hither_tree **out,
                   struct hither_error *err);

/*
 * The URL of a file: path, below base, seen from the folder of the manifest's URL, whose query it
 * gets as well. The caller frees it; NULL: no memory.
 */
char *tree_url(const char *manifest, const char *base, const char *path);

/* How many files begin at or before offset, in by_offset. */
uint32_t tree_files_until(const struct hither_tree *t, uint64_t offset);

/* --- the files --- */

/* hither_tree_backend(), unchecked. */
int tree_files_backend(const struct hither_tree *t, const char *url,
                       const struct hither_backend_options *options, bool offline,
                       struct hither_backend **out, struct hither_error *err);
/* A copy with strings of its own, for reading. 0 or -ENOMEM; finish it in any case. */
int tree_options_copy(struct hither_backend_options *to, const struct hither_backend_options *from);
void tree_options_finish(struct hither_backend_options *o);

/* The hashed piece, or the gap (hash NULL), that has this byte. */
void tree_unit_at(const struct hither_tree *t, uint64_t offset, struct hither_verify_unit *out);

/*
 * What was asked for first, then the ends of large files, 4 MiB of them in all. *out is the
 * caller's. 0 or -ENOMEM.
 */
int tree_add_tails(const struct hither_tree *t, const struct hither_range *asked, size_t count,
                   struct hither_range **out, size_t *out_count);

/* --- writing --- */

void tree_bytes_add(struct tree_bytes *b, const void *bytes, size_t len);
void tree_bytes_varint(struct tree_bytes *b, uint64_t value);
/* The length, then the bytes. */
void tree_bytes_text(struct tree_bytes *b, const char *text, size_t len);
void tree_bytes_finish(struct tree_bytes *b);

/*
 * A manifest, hash and all. entries are in order; hashes: hash_count of them. 0 or -ENOMEM. out is
 * the caller's on failure, too.
 */
int tree_write(struct tree_bytes *out, uint32_t chunk_bytes, uint32_t flags, const char *base,
               const struct tree_entry *entries, uint32_t count, const unsigned char *hashes,
               uint64_t hash_count);

#endif
