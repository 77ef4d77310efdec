/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state log of a store on disk: its bytes, and what they mean. Nothing here touches a file, so
 * that any bytes can be tried on it. What each record is for: chunk/store.h; where it is:
 * store_log.c.
 */
#ifndef HITHER_CHUNK_STORE_LOG_H
#define HITHER_CHUNK_STORE_LOG_H

#include "chunk/store.h"

enum {
	HITHER_LOG_FORMAT = 1,
	HITHER_LOG_HEADER_BYTES = 352,
	HITHER_LOG_RECORD_BYTES = 24,
	HITHER_LOG_IDENTITY_BYTES = 280, /* the one record that is longer; also the longest */
	HITHER_LOG_BOOT_BYTES = 40,
	HITHER_LOG_REGION_SHIFT = 26, /* 64 MiB, what one intent covers */
	HITHER_LOG_REGION_BLOCKS = 1 << (HITHER_LOG_REGION_SHIFT - HITHER_BLOCK_SHIFT),
};

enum hither_log_type {                        /* on disk: never renumber */
	               HITHER_LOG_ABSENT = 1, /* blocks [first, first + count) ... */
	               HITHER_LOG_LOCAL = 2,
	               HITHER_LOG_DIRTY = 3,
	               HITHER_LOG_CHANGE = 4, /* ... are about to change: those that are LOCAL are
	                                         ABSENT from here on */
	               HITHER_LOG_INTENT =
	                       5, /* first: a region; count: log bytes that are durable */
	               HITHER_LOG_BARRIER = 6,  /* first: log bytes that it covers; count: log bytes
	                                           that are durable */
	               HITHER_LOG_IDENTITY = 7, /* first: 1 if pushing; followed by the version */
};

struct hither_log_header {
	struct hither_store_identity identity;
	uint64_t born_bytes; /* of the log when it was put in place: never less since */
	uint64_t salt;       /* random, so that bytes of an older log never pass for this one's */
	char boot_id[HITHER_LOG_BOOT_BYTES];
};

struct hither_log_record {
	enum hither_log_type type;
	uint64_t first;
	uint64_t count;
	const char *version; /* IDENTITY */
};

struct hither_log_outcome {
	uint64_t whole_bytes; /* of the log; what follows is torn and to be cut off */
	bool same_boot;       /* as that of boot_id: all whole records count */
};

void hither_log_encode_header(const struct hither_log_header *header,
                              uint8_t out[HITHER_LOG_HEADER_BYTES]);
/* The record as it stands at offset `at` of the log: its length, at most HITHER_LOG_IDENTITY_BYTES.
 */
size_t hither_log_encode(const struct hither_log_header *header, uint64_t at,
                         const struct hither_log_record *record, uint8_t *out);

/* 0; -EUCLEAN: not a log, of another format, or damaged. */
int hither_log_read_header(const void *log, size_t len, struct hither_log_header *header,
                           struct hither_error *err);
/*
 * Apply the records of a whole log to map, which is all absent and as large as header says.
 * header->identity becomes the latest. boot_id: of now. 0; -EUCLEAN: damaged before its end;
 * -ENOMEM.
 */
int hither_log_replay(const void *log, size_t len, struct hither_log_header *header,
                      const char *boot_id, struct hither_block_map *map,
                      struct hither_log_outcome *outcome, struct hither_error *err);

/* How many blocks a resource of so many bytes has. */
static inline uint64_t hither_log_blocks(uint64_t size_bytes)
{
	return size_bytes / HITHER_BLOCK_BYTES + (size_bytes % HITHER_BLOCK_BYTES != 0);
}

static inline uint64_t hither_log_regions(uint64_t size_bytes)
{
	return (size_bytes >> HITHER_LOG_REGION_SHIFT) +
	       (size_bytes % (UINT64_C(1) << HITHER_LOG_REGION_SHIFT) != 0);
}

#endif
