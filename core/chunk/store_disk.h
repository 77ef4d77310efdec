/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store on disk, shared by its three parts: store_append.c puts records into the log,
 * store_rewrite.c puts a new log in place of the old one, store_disk.c opens, resets and makes
 * barriers.
 */
#ifndef HITHER_CHUNK_STORE_DISK_H
#define HITHER_CHUNK_STORE_DISK_H

#include "chunk/store_folder.h"
#include "chunk/store_internal.h"

#include <pthread.h>

enum {
	HITHER_DISK_PENDING_RECORDS = 64,
	HITHER_DISK_PENDING_BYTES =
	        HITHER_DISK_PENDING_RECORDS * HITHER_LOG_RECORD_BYTES + HITHER_LOG_IDENTITY_BYTES,

	HITHER_REGION_INTENT = 1, /* has one in this generation, durable */
	HITHER_REGION_DIRTY = 2,  /* may have blocks that a barrier saw DIRTY */
};

/* Lock order, outermost first: barrier_lock, intent_lock, log_lock. */
struct hither_store_disk {
	struct hither_store_folder folder;

	pthread_mutex_t barrier_lock; /* one barrier, rewrite or reset at a time */
	pthread_mutex_t intent_lock;  /* one wait for an intent at a time; keeps state_fd open */

	pthread_mutex_t log_lock;        /* guards everything below */
	struct hither_block_map *loaded; /* what open found, until load */
	struct hither_log_header header;
	bool founded; /* the names of its files, and whose it is, survive a crash of the machine */
	int state_fd; /* replaced only with all three locks held; -1: no identity yet */
	uint64_t log_bytes;         /* written; the pending records follow */
	uint64_t durable_bytes;     /* of these */
	uint64_t reserved_bytes;    /* the disk has room for so long a log, even when it is full */
	uint64_t compact_bytes;     /* of the log when it was last rewritten */
	uint64_t generation;        /* of intents: one more with each barrier begun */
	bool noted;                 /* something since the last barrier began */
	struct hither_error failed; /* code 0, or why nothing can be promised any more */
	struct hither_log_record last; /* appended or pending */
	size_t pending_len;
	uint64_t pending_blocks; /* LOCAL ones in it */
	uint8_t pending[HITHER_DISK_PENDING_BYTES];
	uint64_t region_count;
	uint8_t *regions; /* HITHER_REGION_*, one byte a region */
};

/* --- store_append.c --- */

/* Nothing more is promised from here on, but by a reset. Returns code. */
int hither_disk_fail(struct hither_store_disk *d, int code, const char *file, const char *what);
/* 0, or why nothing can be promised. */
int hither_disk_usable_locked(const struct hither_store_disk *d, struct hither_error *err);
/* Write what is pending. On failure it still is. */
int hither_disk_flush_locked(struct hither_store_disk *d);
/* On failure the record is not there, and what was pending still is. */
int hither_disk_append_locked(struct hither_store_disk *d, const struct hither_log_record *record);
/*
 * What a log stands in is made durable before the log first is, not when it is begun: until then it
 * claims nothing, and whoever opens a file need not wait for the disk. With intent_lock or
 * barrier_lock, without log_lock.
 */
int hither_disk_found(struct hither_store_disk *d);
/* Make the log durable up to its present end. With intent_lock or barrier_lock, without log_lock.
 */
int hither_disk_sync_log(struct hither_store_disk *d);
void hither_disk_mark_regions_locked(struct hither_store_disk *d, uint64_t first, uint64_t count,
                                     uint8_t mark);

/* --- store_rewrite.c --- */

/* Append to this log from now on; takes over fd. */
void hither_disk_adopt_log_locked(struct hither_store_disk *d,
                                  const struct hither_log_header *header, int fd,
                                  uint64_t log_bytes);
/*
 * Put a new log that says map (NULL: all absent) in place of the old one. All bytes are durable;
 * all three locks are held. The old log stays if this fails, but for the last step: then it may be
 * either.
 */
int hither_disk_rewrite_locked(struct hither_store_disk *d,
                               const struct hither_store_identity *identity,
                               const struct hither_block_map *map, struct hither_error *err);
/* Regions by what map has; the intents are over, as every record is covered. */
void hither_disk_renew_regions_locked(struct hither_store_disk *d,
                                      const struct hither_block_map *map);
/* Make all bytes durable and rewrite. map NULL: what the log itself says. barrier_lock is held. */
int hither_disk_compact(struct hither_store *s, const struct hither_block_map *map,
                        struct hither_error *err);

#endif
