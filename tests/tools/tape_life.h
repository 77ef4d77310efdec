/* SPDX-License-Identifier: Apache-2.0 */
/* A file system's life, and who lives it; see tape_life.c. */
#ifndef HITHER_TOOLS_TAPE_LIFE_H
#define HITHER_TOOLS_TAPE_LIFE_H

#include "tape_load.h"

enum {
	FILES = 20000,
	FILE_BLOCKS = 3,
	COMMIT_FILES = 2500,
	INODES = 16,
	FOLDER_FILES = 20,
	JOURNAL = 16384, /* blocks: 64 MiB */
	INODE_BLOCKS = FILES / INODES,
	FOLDERS = FILES / FOLDER_FILES,
	INODE_AT = JOURNAL,
	FOLDER_AT = INODE_AT + INODE_BLOCKS,
	DATA_AT = FOLDER_AT + FOLDERS,
	VOLUME_BLOCKS = DATA_AT + FILES * FILE_BLOCKS,
};

/* Whoever keeps blocks on a tape. */
struct keeper {
	void (*write)(struct keeper *k, uint64_t block, uint64_t count);
	void (*discard)(struct keeper *k, uint64_t block, uint64_t count); /* NULL: it cannot */
	void (*flush)(struct keeper *k);
	void (*cold)(struct keeper *k); /* every cache is dropped */
	void (*read)(struct keeper *k, uint64_t block, uint64_t count);
	void (*compact)(struct keeper *k);
	void (*unmount)(struct keeper *k);
	uint64_t (*ns)(const struct keeper *k);
};

/* Tell how long each part of its life took the drive. half: on a tape half full, not compacted. */
void live(const char *name, struct keeper *k, bool half);

/*
 * tape_ours.c: tapisk, from byte `origin` of the tape on. By the volume itself, whose dirty blocks
 * are kept here: the same in each run. remote: every fsync goes to the tape.
 */
void live_ours(const char *name, const char *folder, bool remote, uint64_t origin);
/* By a managed mount, whose threads decide who comes first. */
void live_mounted(const char *name, const char *folder, uint64_t origin);

#endif
