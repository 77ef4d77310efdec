/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of a store on disk: its name, its lock, its small files. See store_folder.c for what
 * is in it. */
#ifndef HITHER_CHUNK_STORE_FOLDER_H
#define HITHER_CHUNK_STORE_FOLDER_H

#include "chunk/store_log.h"

enum { HITHER_STORE_NAME_BYTES = sizeof((struct hither_store_info *)NULL)->name };

struct hither_store_folder {
	char *path; /* owned */
	int dir_fd;
	int lock_fd; /* locked; -1: not */
};

/*
 * Find the folder for name and lock it. create: make what is missing. -ENOENT: there is none;
 * -EBUSY: another process has it; -EUCLEAN: somebody damaged it.
 */
int hither_store_folder_open(const char *cache_dir, const char *name, bool create,
                             struct hither_store_folder *out, struct hither_error *err);
/* The same for a folder that hither_store_list() told of. */
int hither_store_folder_at(const char *path, struct hither_store_folder *out,
                           struct hither_error *err);
/* Make the folder's names, and whose it is, survive a crash of the machine. 0 or -errno. Blocks. */
int hither_store_folder_sync(const struct hither_store_folder *f);
void hither_store_folder_close(struct hither_store_folder *f); /* gives the lock back */

bool hither_store_folder_is_one(
        const char *entry);                  /* has this folder entry the form of a store's? */
bool hither_store_folder_in_use(int dir_fd); /* does another process hold the lock? */
/* The text to show of whose store this is, "" if unknown. */
void hither_store_folder_name(int dir_fd, char name[HITHER_STORE_NAME_BYTES]);

/* The whole file, *out to be freed. */
int hither_store_folder_read(int dir_fd, const char *file, void **out, size_t *len);

/* What a store's state says, as seen from boot_id. */
struct hither_store_state {
	struct hither_log_header header;
	struct hither_block_map *map; /* to be destroyed; NULL after an error */
	struct hither_log_outcome outcome;
};
/* -ENOENT: no state, nothing is remembered. -EUCLEAN: damaged, and something dirty may be in it. */
int hither_store_state_read(const char *path, int dir_fd, struct hither_store_state *out,
                            struct hither_error *err);

#endif
