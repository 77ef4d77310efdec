/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local store: the bytes of a mount that are here, and what is remembered about them.
 *
 * On disk it is a folder: `data`, a sparse file as large as the resource; `state`, a log of what
 * became local, dirty or clean; `lock`. In memory it is a memfd, and nothing is remembered.
 *
 * The log lets a process or a machine die at any moment:
 *  - A record is appended (not synced) after its bytes are in `data`. After a mere crash of the
 * process (the same boot) all whole records count.
 *  - A barrier says that all bytes of the records before it are durable: fdatasync(data), then the
 *    barrier, then fdatasync(state). After a crash of the machine (another boot) only records up to
 * the last barrier count, and blocks in a region with a write intent after it that were LOCAL are
 * ABSENT again: their bytes may be old, new or torn. DIRTY ones stay dirty, unless a later record
 * says that the backend has them.
 *  - An intent is durable before the first byte of a region (64 MiB) that was clean at the last
 * barrier is changed. A torn or damaged tail is cut off at the last whole record. Each record has a
 * checksum.
 *
 * Not locked: calls that append (note, intent, sync) are serialised inside; read, write and punch
 * may run at any time from any thread.
 */
#ifndef HITHER_CHUNK_STORE_H
#define HITHER_CHUNK_STORE_H

#include "chunk/block_map.h"

#include <hither/error.h>
#include <stddef.h>

struct hither_store;

/* What the store is a copy of. */
struct hither_store_identity {
	uint64_t size_bytes;
	char version[256]; /* the backend's; "" if it has none */
	bool pushing;      /* bytes of ours may have reached the backend since `version` was read */
};

/* In memory (memfd). */
int hither_store_memory(uint64_t size_bytes, struct hither_store **out, struct hither_error *err);

/*
 * Open or make the store for `name` (a URL) below cache_dir, which is made if missing, and lock it.
 * -EBUSY: another process has it (the message says which pid). A store of an older or newer format,
 * or damaged beyond use: -EUCLEAN and what to do, unless nothing dirty can be in it, then it starts
 * anew. *existed: identity was filled from what is there; else the caller sets it by
 * hither_store_reset().
 */
int hither_store_open(const char *cache_dir, const char *name, struct hither_store **out,
                      struct hither_store_identity *identity, bool *existed,
                      struct hither_error *err);
/* Drop all bytes and state; from now on a copy of `identity`, all absent. Durable on return. */
int hither_store_reset(struct hither_store *s, const struct hither_store_identity *identity,
                       struct hither_error *err);
/* Note a new version or pushing flag. Durable on return. Size cannot change. */
int hither_store_set_identity(struct hither_store *s, const struct hither_store_identity *identity,
                              struct hither_error *err);
/* Set every remembered block in map (as large as the store). Once, after open of an existing store.
 */
int hither_store_load(struct hither_store *s, struct hither_block_map *map,
                      struct hither_error *err);

/* Bytes. 0 or -errno (-ENOSPC: the disk is full). */
int hither_store_read(struct hither_store *s, void *buf, size_t len, uint64_t offset);
int hither_store_write(struct hither_store *s, const void *buf, size_t len, uint64_t offset);
/*
 * The same where all of the range was written before. Many bytes go into a store in memory by a
 * mapping of it, which takes half the time: no page has to be looked for, nor to be read into the
 * processor's caches only to be written over.
 */
int hither_store_overwrite(struct hither_store *s, const void *buf, size_t len, uint64_t offset);
/*
 * Zeros to whole blocks (or up to the end), where they take no room. -EOPNOTSUPP: this file system
 * cannot.
 */
int hither_store_zero(struct hither_store *s, uint64_t offset, uint64_t len);
/* The bytes of a store in memory, mapped; NULL: on disk, or they cannot be. Any thread. As long as
 * the store is open. */
const uint8_t *hither_store_bytes(struct hither_store *s);
/*
 * Whoever reads keeps a copy of his own: from now on reads leave none in the page cache, where the
 * kernel can (Linux 6.14). What was just written stays there for the disk. Off at first. Any
 * thread. No effect in memory.
 */
void hither_store_uncached(struct hither_store *s, bool uncached);
/*
 * Give the space of the whole blocks in this range back. On disk they are noted ABSENT first,
 * durably if need be; the caller's map must say so already, and nobody be reading or pulling them.
 */
int hither_store_punch(struct hither_store *s, uint64_t offset, uint64_t len);
/*
 * Give back what is stored of blocks that map has as ABSENT: a process that died in between leaves
 * some, which would take room for ever. Before anybody else uses the store. Best effort.
 */
void hither_store_trim(struct hither_store *s, const struct hither_block_map *map);

/*
 * Remember that blocks [first, first + count) are now in `state`; LOCAL and DIRTY after their bytes
 * are in place. Survives SIGKILL from here on (LOCAL: soon after), power loss from the next sync
 * on. PUSHED is remembered as DIRTY. 0 or -errno.
 *
 * LOCAL for what was DIRTY says that the backend has it durably. Before telling anybody so, sync:
 * else, after a power loss, an older local state of the block could be pushed over it.
 */
int hither_store_note(struct hither_store *s, uint64_t first, uint64_t count,
                      enum hither_block_state state);
/*
 * Call before changing bytes in [first, first + count), unless they are ABSENT. Durable on return;
 * nearly always at once. If the process or the machine dies before the change is noted, blocks of
 * these that are LOCAL are ABSENT again.
 */
int hither_store_intent(struct hither_store *s, uint64_t first, uint64_t count);
/*
 * False: the disk is so full that what room the log has left must be kept for blocks that leave.
 * Store nothing more before some have left.
 */
bool hither_store_roomy(struct hither_store *s);
/* A barrier: all that was written and noted before is durable on return. Rewrites a log grown too
 * long. */
int hither_store_sync(struct hither_store *s, struct hither_error *err);
/*
 * Rewrite the log from the map, the shortest that says the same; the caller keeps map and store
 * still meanwhile. Wanted when hither_store_log_long().
 */
int hither_store_compact(struct hither_store *s, const struct hither_block_map *map,
                         struct hither_error *err);
bool hither_store_log_long(struct hither_store *s);

bool hither_store_persistent(const struct hither_store *s);
int hither_store_fd(const struct hither_store *s);           /* of the bytes; borrowed */
const char *hither_store_path(const struct hither_store *s); /* its folder; "memory" */
void hither_store_close(struct hither_store *s);             /* without a barrier; NULL is fine */

/* --- the cache folder as a whole, for `hither cache` --- */

struct hither_store_info {
	char name[2048]; /* URL */
	char path[4096];
	uint64_t size_bytes;
	uint64_t disk_bytes;  /* taken on disk */
	uint64_t local_bytes; /* dirty ones included */
	uint64_t dirty_bytes;
	bool in_use;
	int64_t used_at; /* seconds since 1970, last use */
	int error; /* 0, or -errno: damaged or of another version; then only path and disk_bytes
	              hold */
};
/* Call each(user, info) for every store below cache_dir; stops at its first non-zero result.
 * Missing folder: none. */
int hither_store_list(const char *cache_dir,
                      int (*each)(void *user, const struct hither_store_info *info), void *user,
                      struct hither_error *err);
/* Delete the store for name. -EBUSY: in use. -ENOENT: none. -ENOTEMPTY: dirty bytes, unless force.
 */
int hither_store_delete(const char *cache_dir, const char *name, bool force,
                        struct hither_error *err);
/* By the path that hither_store_list() told; see hither_store_delete(). */
int hither_store_delete_at(const char *path, bool force, struct hither_error *err);

#endif
