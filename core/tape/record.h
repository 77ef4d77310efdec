/* SPDX-License-Identifier: Apache-2.0 */
/* The format on the tape, version 1: docs/tape-format.md. Parsing trusts no byte. */
#ifndef HITHER_TAPE_RECORD_H
#define HITHER_TAPE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TAPE_BLOCK_BYTES = 4096,
	TAPE_RECORD_BLOCKS = 127, /* most in a record: below the 512 KiB that st can move at once */
	TAPE_HEAD_BYTES = 88,
	TAPE_RECORD_ID_AT = 16, /* of 16 bytes, in the head */
	TAPE_RECORD_BYTES = TAPE_HEAD_BYTES + 2 * 8 * TAPE_RECORD_BLOCKS +
	                    TAPE_RECORD_BLOCKS * TAPE_BLOCK_BYTES,
	TAPE_RUN_BYTES = 24,
	TAPE_RECORD_RUNS = 20000, /* most in one part of a checkpoint */
};
enum tape_kind { TAPE_LABEL = 1, TAPE_DATA = 2, TAPE_CHECKPOINT = 3 };

/*
 * An entry of a data record's list: a block, whose bytes are in the payload; or, behind all these,
 * a run of blocks that are zeros from here on, which have none. Within a record the runs come
 * first, in effect.
 */
#define TAPE_HOLE (UINT64_C(1) << 63)
enum { TAPE_BLOCK_BITS = 48, TAPE_HOLE_BLOCKS = 1 << 15 /* most in a run */ };
static inline uint64_t tape_hole(uint64_t block, uint64_t count)
{
	return TAPE_HOLE | (count - 1) << TAPE_BLOCK_BITS | block;
}
static inline uint64_t tape_entry_block(uint64_t entry)
{
	return entry & ((UINT64_C(1) << TAPE_BLOCK_BITS) - 1);
}
static inline uint32_t tape_entry_count(uint64_t entry)
{
	return entry & TAPE_HOLE ? (uint32_t)(entry >> TAPE_BLOCK_BITS) % TAPE_HOLE_BLOCKS + 1 : 1;
}

struct tape_record {
	enum tape_kind kind;
	uint8_t id[16];        /* the tape's, from its label */
	uint64_t sequence;     /* its record number: what is read elsewhere is not this record */
	uint64_t checkpoint;   /* record number of the newest whole one; 0: none */
	uint64_t previous;     /* record number that `before` is about */
	uint64_t size_bytes;   /* of the volume */
	uint32_t part, parts;  /* of a checkpoint */
	uint32_t count;        /* data: entries; checkpoint: runs */
	uint32_t holes;        /* data: of these, the last ones, are holes */
	uint32_t before_count; /* entries of the previous data record, in case it becomes unreadable
	                        */
	bool copying;          /* written by a copy that had not ended; what is here is not all */
	const uint8_t *blocks, *before, *payload; /* into the parsed bytes */
};

/*
 * Blocks [block, block + count) are at places [place, place + count): place p is in record number
 * p / TAPE_RECORD_BLOCKS, at index p % TAPE_RECORD_BLOCKS. lost: all were in the record of `place`,
 * which cannot be read.
 */
struct tape_run {
	uint64_t block, place;
	uint32_t count;
	bool lost;
};

static inline uint64_t tape_record_of(uint64_t place)
{
	return place / TAPE_RECORD_BLOCKS;
}

/* Do these TAPE_HEAD_BYTES look like the head of record `number` of the tape of this id? NULL: any
 * tape's. Of the rest nothing is known. */
bool tape_record_looks(const void *head, const uint8_t *id, uint64_t number);
/* 0, or -EBADMSG: not a record, cut short, or changed. */
int tape_record_parse(const void *bytes, size_t len, struct tape_record *out);
/* Fill in the head of a record whose lists and payload are at their places behind it. */
void tape_record_seal(void *bytes, size_t len, const struct tape_record *r);
/* Where the lists and the payload of r are, and how long all of it is. */
size_t tape_record_before_at(const struct tape_record *r);
size_t tape_record_payload_at(const struct tape_record *r);
size_t tape_record_len(const struct tape_record *r);

uint64_t tape_get64(const uint8_t *at, uint64_t index);
void tape_put64(uint8_t *at, uint64_t index, uint64_t value);
/* False: it makes no sense. */
bool tape_run_get(const struct tape_record *r, uint32_t index, struct tape_run *out);
void tape_run_put(uint8_t *payload, uint32_t index, const struct tape_run *run);

#endif
