/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state log on disk, little-endian:
 *
 *     header, 352 bytes
 *         0  12  "hither-state"
 *        12   4  format, 1
 *        16   4  XXH32 of the header with these four bytes zero
 *        20   4  bytes a block, 4096
 *        24   8  bytes of the resource
 *        32   8  salt, random for each log
 *        40  40  boot id of the kernel that the records were appended under, text, zero-padded
 *        80   4  1: pushing
 *        84 256  version of the resource, text, zero-padded
 *       340   4  zero
 *       344   8  bytes of this log when it was put in place, whole and durable
 *     records, one after the other
 *         0   4  XXH32 of the rest of the record, seeded with salt and the record's offset
 *         4   2  type, enum hither_log_type
 *         6   2  bytes of this record: 24, an IDENTITY 280
 *         8   8  first
 *        16   8  count
 *        24 256  IDENTITY: version, text, zero-padded
 *
 * Reading it back:
 *
 *     header | LOCAL LOCAL INTENT CHANGE DIRTY | LOCAL BARRIER INTENT CHANGE DIRTY LOC
 *                                              ^       |                           ~~~
 *                                              +-------+ covers                    torn: cut off
 *
 * Same boot: every whole record counts, in order. Another boot: those that the last barrier covers.
 * Of the later ones some are still heeded, because they say that bytes here may not be what the
 * covered part says: blocks of a region with an INTENT are not LOCAL, blocks noted ABSENT are
 * absent, and a DIRTY block that was noted LOCAL (the backend has it) is absent rather than pushed
 * once more, as its bytes here may be older than those the backend got. IDENTITY counts wherever it
 * is.
 *
 * A record that is not whole ends the log if nothing shows that it once was: under the same boot
 * any whole record after it does, and under another boot one whose `durable` count lies beyond it.
 * Then the log is damaged, and cutting it off could lose dirty blocks.
 */
#include "chunk/store_log.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static const char magic[12] = {'h', 'i', 't', 'h', 'e', 'r', '-', 's', 't', 'a', 't', 'e'};

enum {
	AT_FORMAT = 12,
	AT_CHECKSUM = 16,
	AT_BLOCK_BYTES = 20,
	AT_SIZE = 24,
	AT_SALT = 32,
	AT_BOOT = 40,
	AT_PUSHING = 80,
	AT_VERSION = 84,
	AT_BORN = 344,

	RECORD_AT_TYPE = 4,
	RECORD_AT_LENGTH = 6,
	RECORD_AT_FIRST = 8,
	RECORD_AT_COUNT = 16,
	RECORD_AT_VERSION = 24,
	RECORD_ALIGN = 8,

	VERSION_BYTES = sizeof((struct hither_store_identity *)NULL)->version,
};
_Static_assert(AT_VERSION + VERSION_BYTES + 4 == AT_BORN && AT_BORN + 8 == HITHER_LOG_HEADER_BYTES,
               "header layout");
_Static_assert(RECORD_AT_VERSION + VERSION_BYTES == HITHER_LOG_IDENTITY_BYTES, "record layout");

static void put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof v);
}
static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof v);
}
static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof v);
}
static uint16_t get16(const uint8_t *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof v);
	return le16toh(v);
}
static uint32_t get32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return le32toh(v);
}
static uint64_t get64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return le64toh(v);
}

/* Text into a field of `size` bytes that is zero already; always ends with a zero. */
static void put_text(uint8_t *p, const char *text, size_t size)
{
	memcpy(p, text, strnlen(text, size - 1));
}

static uint32_t header_checksum(const uint8_t *header)
{
	uint8_t copy[HITHER_LOG_HEADER_BYTES];
	memcpy(copy, header, sizeof copy);
	put32(copy + AT_CHECKSUM, 0);
	return XXH32(copy, sizeof copy, 0);
}

static uint32_t record_checksum(const uint8_t *record, size_t len, uint64_t salt, uint64_t at)
{
	uint64_t seed = salt + at * UINT64_C(0x9e3779b97f4a7c15);
	return XXH32(record + RECORD_AT_TYPE, len - RECORD_AT_TYPE, (uint32_t)(seed ^ seed >> 32));
}

void hither_log_encode_header(const struct hither_log_header *header,
                              uint8_t out[HITHER_LOG_HEADER_BYTES])
{
	memset(out, 0, HITHER_LOG_HEADER_BYTES);
	memcpy(out, magic, sizeof magic);
	put32(out + AT_FORMAT, HITHER_LOG_FORMAT);
	put32(out + AT_BLOCK_BYTES, HITHER_BLOCK_BYTES);
	put64(out + AT_SIZE, header->identity.size_bytes);
	put64(out + AT_SALT, header->salt);
	put_text(out + AT_BOOT, header->boot_id, HITHER_LOG_BOOT_BYTES);
	put32(out + AT_PUSHING, header->identity.pushing);
	put64(out + AT_BORN, header->born_bytes);
	put_text(out + AT_VERSION, header->identity.version, VERSION_BYTES);
	put32(out + AT_CHECKSUM, header_checksum(out));
}

static size_t length_of(enum hither_log_type type)
{
	return type == HITHER_LOG_IDENTITY ? HITHER_LOG_IDENTITY_BYTES : HITHER_LOG_RECORD_BYTES;
}

size_t hither_log_encode(const struct hither_log_header *header, uint64_t at,
                         const struct hither_log_record *record, uint8_t *out)
{
	size_t len = length_of(record->type);
	memset(out, 0, len);
	put16(out + RECORD_AT_TYPE, (uint16_t)record->type);
	put16(out + RECORD_AT_LENGTH, (uint16_t)len);
	put64(out + RECORD_AT_FIRST, record->first);
	put64(out + RECORD_AT_COUNT, record->count);
	if (record->type == HITHER_LOG_IDENTITY)
		put_text(out + RECORD_AT_VERSION, record->version, VERSION_BYTES);
	put32(out, record_checksum(out, len, header->salt, at));
	return len;
}

int hither_log_read_header(const void *log, size_t len, struct hither_log_header *header,
                           struct hither_error *err)
{
	const uint8_t *p = log;
	*header = (struct hither_log_header){0};
	if (len < HITHER_LOG_HEADER_BYTES || memcmp(p, magic, sizeof magic) != 0)
		return hither_fail(err, -EUCLEAN, "no state log of hither's, or cut short");
	if (get32(p + AT_FORMAT) != HITHER_LOG_FORMAT)
		return hither_fail(err, -EUCLEAN, "of format %u, this hither reads %d",
		                   get32(p + AT_FORMAT), HITHER_LOG_FORMAT);
	if (get32(p + AT_CHECKSUM) != header_checksum(p))
		return hither_fail(err, -EUCLEAN,
		                   "damaged: the checksum of its header does not match");
	if (get32(p + AT_BLOCK_BYTES) != HITHER_BLOCK_BYTES || get64(p + AT_SIZE) > INT64_MAX ||
	    p[AT_BOOT + HITHER_LOG_BOOT_BYTES - 1] || p[AT_VERSION + VERSION_BYTES - 1])
		return hither_fail(err, -EUCLEAN, "damaged: its header makes no sense");
	header->identity.size_bytes = get64(p + AT_SIZE);
	header->identity.pushing = get32(p + AT_PUSHING) & 1;
	memcpy(header->identity.version, p + AT_VERSION, VERSION_BYTES);
	memcpy(header->boot_id, p + AT_BOOT, HITHER_LOG_BOOT_BYTES);
	header->born_bytes = get64(p + AT_BORN);
	header->salt = get64(p + AT_SALT);
	return 0;
}

/* --- replay --- */

struct reader {
	const uint8_t *log;
	size_t len;
	struct hither_log_header *header;
	struct hither_block_map *map;
	uint64_t covered; /* log bytes that the last barrier covers */
	bool same_boot;
};

static bool makes_sense(const struct reader *r, uint64_t at, const struct hither_log_record *record)
{
	uint64_t blocks = hither_log_blocks(r->header->identity.size_bytes);
	switch (record->type) {
	case HITHER_LOG_ABSENT:
	case HITHER_LOG_LOCAL:
	case HITHER_LOG_DIRTY:
	case HITHER_LOG_CHANGE:
		return record->first <= blocks && record->count <= blocks - record->first;
	case HITHER_LOG_INTENT:
		return record->first < hither_log_regions(r->header->identity.size_bytes) &&
		       record->count <= at;
	case HITHER_LOG_BARRIER:
		return record->first <= at && record->count <= at;
	case HITHER_LOG_IDENTITY:
		return record->version[VERSION_BYTES - 1] == 0;
	}
	return false;
}

/* The record at offset `at`: its length, or 0 if there is no whole one. */
static size_t read_record(const struct reader *r, uint64_t at, struct hither_log_record *record)
{
	const uint8_t *p = r->log + at;
	if (r->len - at < HITHER_LOG_RECORD_BYTES)
		return 0;
	record->type = (enum hither_log_type)get16(p + RECORD_AT_TYPE);
	size_t len = get16(p + RECORD_AT_LENGTH);
	if (record->type < HITHER_LOG_ABSENT || record->type > HITHER_LOG_IDENTITY ||
	    len != length_of(record->type) || r->len - at < len ||
	    get32(p) != record_checksum(p, len, r->header->salt, at))
		return 0;
	record->first = get64(p + RECORD_AT_FIRST);
	record->count = get64(p + RECORD_AT_COUNT);
	record->version =
	        record->type == HITHER_LOG_IDENTITY ? (const char *)p + RECORD_AT_VERSION : NULL;
	return makes_sense(r, at, record) ? len : 0;
}

/* Is there proof that the record at `end`, which is not whole now, once was? */
static bool is_damaged_at(const struct reader *r, uint64_t end)
{
	struct hither_log_record record;
	if (end < r->header->born_bytes)
		return true;
	for (uint64_t at = end + RECORD_ALIGN; at < r->len; at += RECORD_ALIGN) {
		if (!read_record(r, at, &record))
			continue;
		bool has_durable =
		        record.type == HITHER_LOG_INTENT || record.type == HITHER_LOG_BARRIER;
		if (r->same_boot || (has_durable && record.count > end))
			return true;
	}
	return false;
}

/* Set those of [first, first + count) that are in `from` to ABSENT. */
static int forget(struct reader *r, uint64_t first, uint64_t count, unsigned from)
{
	uint64_t end = first + count, run;
	while ((run = hither_block_map_run(r->map, first, end, end - first, from, &first)) > 0) {
		int failed = hither_block_map_set(r->map, first, run, HITHER_BLOCK_ABSENT);
		if (failed)
			return failed;
		first += run;
	}
	return 0;
}

static int apply(struct reader *r, const struct hither_log_record *record)
{
	switch (record->type) {
	case HITHER_LOG_ABSENT:
		return hither_block_map_set(r->map, record->first, record->count,
		                            HITHER_BLOCK_ABSENT);
	case HITHER_LOG_LOCAL:
		return hither_block_map_set(r->map, record->first, record->count,
		                            HITHER_BLOCK_LOCAL);
	case HITHER_LOG_DIRTY:
		return hither_block_map_set(r->map, record->first, record->count,
		                            HITHER_BLOCK_DIRTY);
	case HITHER_LOG_CHANGE:
		return forget(r, record->first, record->count, HITHER_BLOCKS_LOCAL);
	default:
		return 0;
	}
}

/* After a crash of the machine, a record that the last barrier does not cover. */
static int heed(struct reader *r, const struct hither_log_record *record)
{
	uint64_t blocks = hither_log_blocks(r->header->identity.size_bytes);
	uint64_t first, count;
	switch (record->type) {
	case HITHER_LOG_ABSENT:
		return hither_block_map_set(r->map, record->first, record->count,
		                            HITHER_BLOCK_ABSENT);
	case HITHER_LOG_LOCAL:
		return forget(r, record->first, record->count, HITHER_BLOCKS_DIRTY);
	case HITHER_LOG_INTENT:
		first = record->first * HITHER_LOG_REGION_BLOCKS;
		count = blocks - first < HITHER_LOG_REGION_BLOCKS ? blocks - first
		                                                  : HITHER_LOG_REGION_BLOCKS;
		return forget(r, first, count, HITHER_BLOCKS_LOCAL);
	default:
		return 0;
	}
}

static void adopt_identity(struct reader *r, const struct hither_log_record *record)
{
	memcpy(r->header->identity.version, record->version, VERSION_BYTES);
	r->header->identity.pushing = record->first & 1;
}

/* Where the whole records end; on the way, the last barrier and the last identity. */
static uint64_t survey(struct reader *r)
{
	struct hither_log_record record;
	uint64_t at = HITHER_LOG_HEADER_BYTES;
	size_t len;
	while ((len = read_record(r, at, &record)) > 0) {
		if (record.type == HITHER_LOG_BARRIER && record.first > r->covered)
			r->covered = record.first;
		if (record.type == HITHER_LOG_IDENTITY)
			adopt_identity(r, &record);
		at += len;
	}
	return at;
}

int hither_log_replay(const void *log, size_t len, struct hither_log_header *header,
                      const char *boot_id, struct hither_block_map *map,
                      struct hither_log_outcome *outcome, struct hither_error *err)
{
	assert(len >= HITHER_LOG_HEADER_BYTES);
	struct reader r = {.log = log, .len = len, .header = header, .map = map};
	r.same_boot = *boot_id && strcmp(boot_id, header->boot_id) == 0;
	uint64_t end = survey(&r);
	if (is_damaged_at(&r, end))
		return hither_fail(err, -EUCLEAN,
		                   "damaged: byte %llu and on do not match their checksum",
		                   (unsigned long long)end);
	struct hither_log_record record;
	for (uint64_t at = HITHER_LOG_HEADER_BYTES; at < end; at += length_of(record.type)) {
		read_record(&r, at, &record);
		bool counts = r.same_boot || at < r.covered;
		int failed = counts ? apply(&r, &record) : heed(&r, &record);
		if (failed)
			return hither_fail(err, failed, "no memory for its block map");
	}
	outcome->whole_bytes = end;
	outcome->same_boot = r.same_boot;
	return 0;
}
