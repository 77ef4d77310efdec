/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume on a tape: a log of records behind a label. What is written goes to the end; the newest
 * record that has a block is the one that counts. One thread at a time, but for the index.
 */
#ifndef HITHER_TAPE_VOLUME_H
#define HITHER_TAPE_VOLUME_H

#include "tape/drive.h"
#include "tape/index.h"

#include <stdatomic.h>

struct hither_tape_progress;
struct tape_tail;

/* A record as it was read. */
struct tape_kept {
	_Atomic uint64_t number; /* record number + 1; 0: none */
	uint8_t *bytes;
	size_t len;
};
enum { TAPE_KEPT = 64 };

struct tape_volume {
	struct tape_drive *drive;
	uint8_t id[16];
	uint64_t size_bytes;
	struct tape_index index;
	uint64_t end;           /* record number that is written next */
	uint64_t checkpoint;    /* newest whole one; 0: none */
	uint32_t parts;         /* records that it takes */
	uint64_t scanned;       /* records read at open */
	uint64_t torn, damaged; /* records cut off at the end; unreadable ones before it */
	uint64_t unexplained;   /* of these: no other record tells which blocks they had */
	uint64_t since;         /* data records since the checkpoint */
	uint64_t since_bytes;   /* and what they take */
	bool unreadable;        /* the last record was, as the drive says, not its checksum */
	bool full;              /* early warning was given: no more data */
	bool broken;            /* a record's fate is unknown: nothing more before another open */
	bool unsynced;          /* something was written since the last sync */
	bool changed;           /* or since open */
	bool copying;           /* what is written is a part of a copy that has not ended; */
	bool ending;            /* the next checkpoint ends it */
	const struct hither_tape_progress *progress; /* while opening; NULL: nobody asks */
	struct tape_tail *tail;                      /* the last records, as they were at open */
	struct tape_kept kept[TAPE_KEPT];            /* those read last, by record number */
	/* What is collected: becomes record number `end`. */
	uint64_t pending[TAPE_RECORD_BLOCKS], holes[TAPE_RECORD_BLOCKS], before[TAPE_RECORD_BLOCKS],
	        previous;
	uint32_t pending_count, hole_count, before_count;
	uint8_t *pending_data, *buf;
	uint64_t cached; /* record number that is parsed; UINT64_MAX: none */
	struct tape_record cached_record;
};

/* Write the label of an empty volume. -EEXIST: data are there, and not force. Takes no drive. */
int tape_volume_format(struct tape_drive *d, uint64_t size_bytes, bool force,
                       struct hither_error *err);
/* The same, and go on with it without a stop. copying: until `ending` no open takes it for whole.
 * Takes the drive, on failure too. */
int tape_volume_create(struct tape_drive *d, uint64_t size_bytes, bool force, bool copying,
                       struct tape_volume **out, struct hither_error *err);
/*
 * Takes the drive, on failure too. full_scan: read all records, not from the newest checkpoint.
 * -EINVAL: blank, or another format.
 */
int tape_volume_open(struct tape_drive *d, bool full_scan, struct tape_volume **out,
                     struct hither_error *err);
/* The same; progress (NULL: nobody) is told of the records that are read. */
int tape_volume_open_told(struct tape_drive *d, bool full_scan,
                          const struct hither_tape_progress *progress, struct tape_volume **out,
                          struct hither_error *err);
/* Flushes, with a checkpoint, what was written; frees in any case. */
int tape_volume_close(struct tape_volume *v, struct hither_error *err);

/* append.c. Multiples of TAPE_BLOCK_BYTES, inside the volume. */
/* Zeros take no room: where they are not a hole already, a record says that they are one. */
int tape_volume_write(struct tape_volume *v, const void *buf, size_t len, uint64_t offset,
                      struct hither_error *err);
int tape_volume_flush(struct tape_volume *v, struct hither_error *err);
int tape_volume_checkpoint(struct tape_volume *v, struct hither_error *err);
/* Write out what is collected, and a checkpoint if there were data since the last; no sync. */
int tape_volume_finish(struct tape_volume *v, struct hither_error *err);
/* Data records after which a checkpoint is written without being asked for. */
uint64_t tape_volume_interval(const struct tape_volume *v);

/* fetch.c */
/* Is this record at hand? Any thread; it may be gone when it is asked for. */
bool tape_volume_in_memory(const struct tape_volume *v, uint64_t record);
/* To a record: by reading on, where that is quicker, else by a locate. */
int tape_volume_go(struct tape_volume *v, uint64_t record, struct hither_error *err);
/* Multiples of TAPE_BLOCK_BYTES, inside the volume. Takes the records in the tape's order. */
int tape_volume_read(struct tape_volume *v, void *buf, size_t len, uint64_t offset,
                     struct hither_error *err);
/* A block that is wanted: from a place (see struct tape_run) to block number `at` of a buffer. */
struct tape_want {
	uint64_t block, place;
	uint32_t at;
	bool lost; /* it cannot be read */
};
/*
 * Sorts wants by place, and fills buf in that order. tolerant: what cannot be read is marked lost
 * and passed over; else -EIO. at: told of each want that is done; NULL: nobody asks.
 */
int tape_volume_fetch(struct tape_volume *v, struct tape_want *wants, size_t count, uint8_t *buf,
                      bool tolerant, void (*at)(void *user, size_t done), void *user,
                      struct hither_error *err);

/* recover.c */
/* Where the drive stands behind an earlier use of this tape: what the tail tells of the volume. */
bool tape_volume_know_by_tail(struct tape_volume *v);
/* What open does when the volume is known and the index made. */
int tape_volume_recover(struct tape_volume *v, bool full_scan, struct hither_error *err);
/* A record that open has read; NULL: it has not. */
const uint8_t *tape_volume_in_tail(const struct tape_volume *v, uint64_t record, size_t *len);
void tape_volume_drop_tail(struct tape_volume *v);

/* tape.c: see hither_tape_compact(). *target_ns: what it took of the other drive. */
int tape_volume_compact(struct tape_volume *source, const char *to, bool force,
                        const struct hither_tape_progress *progress, uint64_t *lost_bytes,
                        uint64_t *target_ns, struct hither_error *err);

#endif
