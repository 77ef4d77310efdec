/* SPDX-License-Identifier: Apache-2.0 */
/* The store's insides, shared by core/chunk/store*.c and their tests. */
#ifndef HITHER_CHUNK_STORE_INTERNAL_H
#define HITHER_CHUNK_STORE_INTERNAL_H

#include "chunk/store.h"

#include <stdatomic.h>

struct hither_store_disk; /* what a store on disk has beyond its bytes, see store_disk.c */

struct hither_store {
	uint64_t size_bytes;
	int fd; /* of the bytes */
	atomic_bool uncached;
	atomic_bool wrote;              /* bytes may have changed since the last barrier */
	struct hither_store_disk *disk; /* NULL: in memory */
	_Atomic(uint8_t *) bytes;       /* of one in memory, mapped; NULL: not yet */
};

/* store_mapped.c */
void hither_store_unmap(struct hither_store *s);

/* --- store_disk.c; the functions of store.h without "disk_", for stores with s->disk --- */
int hither_store_disk_reset(struct hither_store *s, const struct hither_store_identity *identity,
                            struct hither_error *err);
int hither_store_disk_set_identity(struct hither_store *s,
                                   const struct hither_store_identity *identity,
                                   struct hither_error *err);
int hither_store_disk_load(struct hither_store *s, struct hither_block_map *map,
                           struct hither_error *err);
int hither_store_disk_note(struct hither_store *s, uint64_t first, uint64_t count,
                           enum hither_block_state state);
int hither_store_disk_intent(struct hither_store *s, uint64_t first, uint64_t count);
int hither_store_disk_sync(struct hither_store *s, struct hither_error *err);
int hither_store_disk_compact(struct hither_store *s, const struct hither_block_map *map,
                              struct hither_error *err);
bool hither_store_disk_roomy(struct hither_store *s);
bool hither_store_disk_log_long(struct hither_store *s);
/* To be called before [first, first + count), noted LOCAL, is punched. */
int hither_store_disk_evict(struct hither_store *s, uint64_t first, uint64_t count);
const char *hither_store_disk_path(const struct hither_store *s);
void hither_store_disk_close(struct hither_store *s); /* frees s->disk, not s->fd */

/* --- store_folder.c --- */
void hither_store_boot_id(char boot_id[40]); /* of the running kernel; "" if it has none */
void hither_store_set_boot_id(
        const char *boot_id); /* for tests: pretend; NULL: the real one again */

#endif
