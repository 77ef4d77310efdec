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
	TAPE_RECORD_BYTES = TAPE_HEAD_BYTES + 2 * 8 * TAPE_RECORD_BLOCKS +
	                    TAPE_RECORD_BLOCKS * TAPE_BLOCK_BYTES,
	TAPE_RUN_BYTES = 24,
	TAPE_RECORD_RUNS = 20000, /* most in one part of a checkpoint */
};
enum tape_kind { TAPE_LABEL = 1, TAPE_DATA = 2, TAPE_CHECKPOINT = 3 };

struct tape_record {
	enum tape_kind kind;
	uint8_t id[16];        /* the tape's, from its label */
	uint64_t sequence;     /* its record number: what is read elsewhere is not this record */
	uint64_t checkpoint;   /* record number of the newest whole one; 0: none */
	uint64_t previous;     /* record number that `before` is about */
	uint64_t size_bytes;   /* of the volume */
	uint32_t part, parts;  /* of a checkpoint */
	uint32_t count;        /* data: blocks; checkpoint: runs */
	uint32_t before_count; /* blocks of the previous data record, in case it becomes unreadable
	                        */
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
