/* SPDX-License-Identifier: Apache-2.0 */
#include "tape/record.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	AT_VERSION = 8,
	AT_ID = TAPE_RECORD_ID_AT,
	AT_SEQUENCE = 32,
	AT_CHECKPOINT = 40,
	AT_PREVIOUS = 48,
	AT_COUNTS = 56,
	AT_SUM = 64,
	AT_SIZE = 72,
	AT_PARTS = 80,
	VERSION = 1,
	INDEX_LOST = 65535,
	COPYING = 1 << 30, /* in the kind */
};
/* Places must fit into the index's 51 bits (tape/index.c). */
#define RECORDS_MOST (UINT64_C(1) << 43)
static const char magic[8] = {'H', 'I', 'T', 'H', 'T', 'A', 'P', 'E'};

uint64_t tape_get64(const uint8_t *at, uint64_t index)
{
	uint64_t v;
	memcpy(&v, at + 8 * index, 8);
	return le64toh(v);
}

void tape_put64(uint8_t *at, uint64_t index, uint64_t value)
{
	value = htole64(value);
	memcpy(at + 8 * index, &value, 8);
}

static uint32_t low(uint64_t v)
{
	return (uint32_t)v;
}

static uint32_t high(uint64_t v)
{
	return (uint32_t)(v >> 32);
}

static uint64_t both(uint32_t a, uint32_t b)
{
	return (uint64_t)b << 32 | a;
}

/* Over all but the sum itself. */
static uint64_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t head[TAPE_HEAD_BYTES];
	memcpy(head, bytes, sizeof head);
	memset(head + AT_SUM, 0, 8);
	uint64_t seed = XXH3_64bits(head, sizeof head);
	return XXH3_64bits_withSeed(bytes + TAPE_HEAD_BYTES, len - TAPE_HEAD_BYTES, seed);
}

size_t tape_record_before_at(const struct tape_record *r)
{
	return TAPE_HEAD_BYTES + (r->kind == TAPE_DATA ? 8 * (size_t)r->count : 0);
}

size_t tape_record_payload_at(const struct tape_record *r)
{
	return tape_record_before_at(r) + 8 * (size_t)r->before_count;
}

size_t tape_record_len(const struct tape_record *r)
{
	size_t payload = 0;
	if (r->kind == TAPE_DATA)
		payload = (size_t)TAPE_BLOCK_BYTES * (r->count - r->holes);
	else if (r->kind == TAPE_CHECKPOINT)
		payload = (size_t)TAPE_RUN_BYTES * r->count;
	return tape_record_payload_at(r) + payload;
}

static bool sane(const struct tape_record *r)
{
	if (r->kind < TAPE_LABEL || r->kind > TAPE_CHECKPOINT ||
	    r->before_count > TAPE_RECORD_BLOCKS || r->size_bytes % TAPE_BLOCK_BYTES ||
	    r->size_bytes / TAPE_BLOCK_BYTES > UINT64_C(1) << TAPE_BLOCK_BITS)
		return false;
	if (r->kind == TAPE_CHECKPOINT)
		return r->count <= TAPE_RECORD_RUNS && r->part < r->parts;
	return r->kind == TAPE_DATA ? r->count <= TAPE_RECORD_BLOCKS && r->holes <= r->count
	                            : r->count == 0;
}

static bool entries_inside(const uint8_t *list, uint32_t count, uint64_t size_bytes)
{
	uint64_t blocks = size_bytes / TAPE_BLOCK_BYTES;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t e = tape_get64(list, i), at = tape_entry_block(e);
		if (at >= blocks || tape_entry_count(e) > blocks - at ||
		    (!(e & TAPE_HOLE) && e != at))
			return false;
	}
	return true;
}

static bool holes_are_last(const struct tape_record *r)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (!(tape_get64(r->blocks, i) & TAPE_HOLE) != (i < r->count - r->holes))
			return false;
	return true;
}

bool tape_record_looks(const void *head, const uint8_t *id, uint64_t number)
{
	const uint8_t *p = head;
	return !memcmp(p, magic, sizeof magic) && tape_get64(p + AT_SEQUENCE, 0) == number &&
	       (!id || !memcmp(p + AT_ID, id, sizeof((struct tape_record *)0)->id));
}

int tape_record_parse(const void *bytes, size_t len, struct tape_record *out)
{
	const uint8_t *p = bytes;
	if (len < TAPE_HEAD_BYTES || memcmp(p, magic, sizeof magic))
		return -EBADMSG;
	uint64_t version = tape_get64(p + AT_VERSION, 0), counts = tape_get64(p + AT_COUNTS, 0),
	         parts = tape_get64(p + AT_PARTS, 0);
	struct tape_record r = {
	        .kind = (enum tape_kind)(high(version) & ~(uint32_t)COPYING),
	        .copying = high(version) & COPYING,
	        .sequence = tape_get64(p + AT_SEQUENCE, 0),
	        .checkpoint = tape_get64(p + AT_CHECKPOINT, 0),
	        .previous = tape_get64(p + AT_PREVIOUS, 0),
	        .size_bytes = tape_get64(p + AT_SIZE, 0),
	        .part = low(parts),
	        .holes = low(parts),
	        .parts = high(parts),
	        .count = low(counts),
	        .before_count = high(counts),
	};
	if (low(version) != VERSION || !sane(&r) || tape_record_len(&r) != len ||
	    sum(p, len) != tape_get64(p + AT_SUM, 0))
		return -EBADMSG;
	memcpy(r.id, p + AT_ID, sizeof r.id);
	r.blocks = p + TAPE_HEAD_BYTES;
	r.before = p + tape_record_before_at(&r);
	r.payload = p + tape_record_payload_at(&r);
	if ((r.kind == TAPE_DATA &&
	     (!entries_inside(r.blocks, r.count, r.size_bytes) || !holes_are_last(&r))) ||
	    !entries_inside(r.before, r.before_count, r.size_bytes))
		return -EBADMSG;
	*out = r;
	return 0;
}

void tape_record_seal(void *bytes, size_t len, const struct tape_record *r)
{
	uint8_t *p = bytes;
	memset(p, 0, TAPE_HEAD_BYTES);
	memcpy(p, magic, sizeof magic);
	tape_put64(p + AT_VERSION, 0, both(VERSION, r->kind | (r->copying ? COPYING : 0)));
	memcpy(p + AT_ID, r->id, sizeof r->id);
	tape_put64(p + AT_SEQUENCE, 0, r->sequence);
	tape_put64(p + AT_CHECKPOINT, 0, r->checkpoint);
	tape_put64(p + AT_PREVIOUS, 0, r->previous);
	tape_put64(p + AT_COUNTS, 0, both(r->count, r->before_count));
	tape_put64(p + AT_SIZE, 0, r->size_bytes);
	tape_put64(p + AT_PARTS, 0, both(r->kind == TAPE_DATA ? r->holes : r->part, r->parts));
	tape_put64(p + AT_SUM, 0, sum(p, len));
}

bool tape_run_get(const struct tape_record *r, uint32_t index, struct tape_run *out)
{
	const uint8_t *p = r->payload + (size_t)index * TAPE_RUN_BYTES;
	uint64_t last = tape_get64(p, 2), blocks = r->size_bytes / TAPE_BLOCK_BYTES;
	uint64_t record = tape_get64(p, 1);
	uint32_t at = high(last);
	*out = (struct tape_run){
	        .block = tape_get64(p, 0), .count = low(last), .lost = at == INDEX_LOST};
	if (out->block >= blocks || out->count > blocks - out->block || record >= RECORDS_MOST ||
	    (at >= TAPE_RECORD_BLOCKS && !out->lost))
		return false;
	out->place = record * TAPE_RECORD_BLOCKS + (out->lost ? 0 : at);
	return true;
}

void tape_run_put(uint8_t *payload, uint32_t index, const struct tape_run *run)
{
	uint8_t *p = payload + (size_t)index * TAPE_RUN_BYTES;
	tape_put64(p, 0, run->block);
	tape_put64(p, 1, tape_record_of(run->place));
	tape_put64(p, 2,
	           both(run->count,
	                run->lost ? INDEX_LOST : (uint32_t)(run->place % TAPE_RECORD_BLOCKS)));
}
