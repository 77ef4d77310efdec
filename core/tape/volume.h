/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume on a tape: a log of records behind a label. What is written goes to the end; the newest
 * record that has a block is the one that counts. One thread at a time.
 */
#ifndef HITHER_TAPE_VOLUME_H
#define HITHER_TAPE_VOLUME_H

#include "tape/drive.h"
#include "tape/index.h"

struct tape_volume {
	struct tape_drive *drive;
	uint8_t id[16];
	uint64_t size_bytes;
	struct tape_index index;
	uint64_t end;           /* record number that is written next */
	uint64_t sequence;      /* which it gets */
	uint64_t checkpoint;    /* newest whole one; 0: none */
	uint64_t scanned;       /* records read at open */
	uint64_t torn, damaged; /* records cut off at the end; unreadable ones before it */
	uint64_t unexplained;   /* of these: no other record tells which blocks they had */
	uint64_t written_blocks, since_checkpoint;
	bool unreadable; /* the last record was, as the drive says, not as its checksum does */
	bool full;       /* early warning was given, or a record's fate is unknown: no more data */
	/* What is collected: becomes record number `end`. */
	uint64_t pending[TAPE_RECORD_BLOCKS], before[TAPE_RECORD_BLOCKS], previous;
	uint32_t pending_count, before_count;
	uint8_t *pending_data, *buf, *cache;
	uint64_t cached; /* record number in cache, parsed; UINT64_MAX: none */
	struct tape_record cached_record;
};

/* Write the label of an empty volume. -EEXIST: data are there, and not force. Takes no drive. */
int tape_volume_format(struct tape_drive *d, uint64_t size_bytes, bool force,
                       struct hither_error *err);
/*
 * Takes the drive, on failure too. full_scan: read all records, not from the newest checkpoint.
 * -EINVAL: blank, or another format.
 */
int tape_volume_open(struct tape_drive *d, bool full_scan, struct tape_volume **out,
                     struct hither_error *err);
/* Multiples of TAPE_BLOCK_BYTES, inside the volume. A read takes the records in the tape's order.
 */
int tape_volume_read(struct tape_volume *v, void *buf, size_t len, uint64_t offset,
                     struct hither_error *err);
int tape_volume_write(struct tape_volume *v, const void *buf, size_t len, uint64_t offset,
                      struct hither_error *err);
int tape_volume_flush(struct tape_volume *v, struct hither_error *err);
int tape_volume_checkpoint(struct tape_volume *v, struct hither_error *err);
/* Flushes, with a checkpoint, what was written; frees in any case. */
int tape_volume_close(struct tape_volume *v, struct hither_error *err);

/* recover.c: what open does behind the label. */
int tape_volume_recover(struct tape_volume *v, bool full_scan, struct hither_error *err);

#endif
