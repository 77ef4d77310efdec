/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees: a folder of files on a plain web server, described by a manifest that says what there is
 * and what its bytes hash to. docs/manifest-format.md has the format.
 *
 * The files of a tree lie in one address space, so that one mount has them all; where each of them
 * begins follows from the order and the sizes, so that no two can overlap.
 */
#ifndef HITHER_TREE_H
#define HITHER_TREE_H

#include <hither/mount.h>
#include <hither/profile.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { HITHER_HASH_BYTES = 32 }; /* SHA-256 */
#define HITHER_MANIFEST_MOST_BYTES (UINT64_C(1) << 30)

enum hither_tree_kind { HITHER_TREE_FILE, HITHER_TREE_FOLDER, HITHER_TREE_LINK };

/* One file, folder or symbolic link. Strings live as long as the tree. */
struct hither_tree_node {
	const char *name;   /* "" for the root */
	const char *target; /* of a link; else NULL */
	uint64_t size;      /* of a file, in bytes; of a link, its target's length; else 0 */
	uint64_t offset;    /* of a file's first byte in the tree's address space */
	int64_t mtime_ns;   /* since 1970 */
	uint64_t first_hash;
	uint32_t parent;                   /* the root's is the root */
	uint32_t first_child, child_count; /* of a folder: neighbours, in byte order of names */
	uint16_t mode;                     /* permission bits only */
	uint8_t kind;                      /* enum hither_tree_kind */
};

struct hither_tree;

/**
 * Read a manifest. Does not block. *out is the caller's. -EINVAL: no manifest, or one that nobody
 * well-meaning wrote (the message names what and where); -EPROTONOSUPPORT: of a later version;
 * -EBADMSG: its own hash does not match; -EFBIG; -ENOMEM.
 */
int hither_tree_parse(const void *bytes, size_t len, struct hither_tree **out,
                      struct hither_error *err);
/** NULL is fine. No mount of it is open any more. */
void hither_tree_destroy(struct hither_tree *t);

/** All nodes; number 0 is the root, children come after their parents. */
const struct hither_tree_node *hither_tree_nodes(const struct hither_tree *t, uint32_t *count);
/** Is it one file, rather than a folder? Then that is the root. */
bool hither_tree_is_file(const struct hither_tree *t);
/** Bytes of the address space, gaps included. */
uint64_t hither_tree_size(const struct hither_tree *t);
/** Bytes of all files. */
uint64_t hither_tree_file_bytes(const struct hither_tree *t);
/** The root hash: what the manifest's last 32 bytes are, in hexadecimal, 64 digits. */
const char *hither_tree_hash(const struct hither_tree *t);
uint32_t hither_tree_chunk_bytes(const struct hither_tree *t);
/** Where the files are, from the manifest's folder: "" or "game/". */
const char *hither_tree_base(const struct hither_tree *t);
/** The hash of chunk number `chunk` of a file. */
const unsigned char *hither_tree_chunk_hash(const struct hither_tree *t,
                                            const struct hither_tree_node *file, uint64_t chunk);
/**
 * The path of a node from the root, without a '/' in front, as much of it as fits; returns out.
 * Messages show it.
 */
const char *hither_tree_path(const struct hither_tree *t, uint32_t node, char *out, size_t size);
/** The file that has byte `offset` of the address space, or the last one before it; NULL: none. */
const struct hither_tree_node *hither_tree_file_at(const struct hither_tree *t, uint64_t offset);
/** The child of folder `parent` with this name; UINT32_MAX: none. */
uint32_t hither_tree_lookup(const struct hither_tree *t, uint32_t parent, const char *name);

/* --- making one --- */

/** Zero-initialise. */
struct hither_tree_index_options {
	const char *base; /* where the files will be, seen from the manifest; NULL: by the paths */
	uint32_t chunk_bytes; /* power of two, 4 KiB to 16 MiB; 0: 64 KiB */
	bool rehash;          /* trust nothing of an older manifest at `out` */
	/* Something is left out, and why. NULL: nobody is told. */
	void (*left_out)(void *user, const char *path, const char *why);
	/* So many bytes of so many have been looked at. NULL: nobody is told. */
	void (*progress)(void *user, uint64_t done, uint64_t total);
	void *user;
};

struct hither_tree_index_result {
	char hash[2 * HITHER_HASH_BYTES + 1]; /* the root hash */
	uint64_t files, folders, links, left_out;
	uint64_t file_bytes, hashed_bytes, manifest_bytes;
};

/**
 * Write the manifest of a folder or file at `path` to the file `out`, whole or not at all. Files
 * whose size and time are those of an older manifest there are not read again. Left out: what is
 * neither file, folder nor link, links that lead out of the tree, manifests and profiles in the
 * folder that `out` is in. -EINVAL: the options are wrong, and nothing was begun. -EAGAIN: a file
 * changed while it was read; else any -errno of reading or writing.
 */
int hither_tree_index(const char *path, const char *out,
                      const struct hither_tree_index_options *options,
                      struct hither_tree_index_result *result, struct hither_error *err);

/* --- mounting one --- */

/** Does this URL name a manifest (its path ends in .hither)? */
bool hither_tree_is_url(const char *url);

/**
 * The files as one backend, read-only: each chunk is checked before anybody sees it, and fetched
 * once more where it is wrong; then the read fails with -EIO naming file and offset. url is the
 * manifest's, which tells where the files are; nothing is opened before it is read. offline: what
 * is asked for fails with -ENODATA. t must outlive it.
 */
int hither_tree_backend(const struct hither_tree *t, const char *url,
                        const struct hither_backend_options *options, bool offline,
                        struct hither_backend **out, struct hither_error *err);

/**
 * Fetch the manifest at url, by a mount with the same options, so that it is kept in the cache, and
 * with options->offline comes from there. root_hash: 64 hexadecimal digits that it must have; NULL:
 * any. Blocks. -EBADMSG: it has another.
 */
int hither_tree_fetch(const char *url, const struct hither_mount_options *options,
                      const char *root_hash, struct hither_tree **out, struct hither_error *err);
/**
 * Mount the files of a tree; options as for any mount, but nothing can be written and chunk_bytes
 * is the tree's at least. t must outlive the mount. Blocks shortly.
 */
int hither_tree_mount(const struct hither_tree *t, const char *url,
                      const struct hither_mount_options *options, struct hither_mount **out,
                      struct hither_error *err);
/**
 * The same over a backend that has the files already: hither_tree_backend()'s, perhaps in layers.
 * It is the mount's on success, and the caller's else.
 */
int hither_tree_mount_backend(const struct hither_tree *t, const char *url,
                              struct hither_backend *b, const struct hither_mount_options *options,
                              struct hither_mount **out, struct hither_error *err);

/** What the cache of the files is called (hither/cache.h), where the manifest's has the URL for its
 * name. NULL: no memory. The caller frees it. */
char *hither_tree_cache_name(const char *url);

/** Is it a profile of this very tree? One of another would have the wrong bytes come first. */
bool hither_tree_fits(const struct hither_tree *t, const struct hither_profile *p);

/**
 * A profile of the tree in whole hashed pieces, each once, where it was touched first: what is
 * fetched for it in any case, in a fraction of the text. What is beyond the tree is left out. Does
 * not block. *out as after parsing (hither/profile.h). -ENOMEM.
 */
int hither_tree_widen(const struct hither_tree *t, const struct hither_profile *p,
                      struct hither_profile *out, struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
