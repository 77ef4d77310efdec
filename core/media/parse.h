/* SPDX-License-Identifier: Apache-2.0 */
/* What the parsers share: reading with bounds, numbers, and the list of pieces that they make. */
#ifndef HITHER_MEDIA_PARSE_H
#define HITHER_MEDIA_PARSE_H

#include <hither/media.h>
#include <stdbool.h>

#define MEDIA_INDEX_MOST_BYTES (UINT64_C(128) << 20) /* ten hours of video take 30 MB */
#define MEDIA_MOST_PIECES (1u << 20)
#define MEDIA_PIECE_US 500000 /* pieces are about so long, where the container allows */
#define MEDIA_ASK_BYTES (UINT64_C(64) << 10) /* what one look costs anyway: a round trip */

struct media_parse {
	const struct hither_media_source *source;
	struct hither_media *out; /* being filled */
	struct hither_range wanted;
	struct hither_error *err;
	size_t raw_count, raw_room;
	struct hither_media_piece *raw;
};

/* Copy bytes of the file. -EAGAIN sets p->wanted; beyond the end is -EINVAL. */
int media_read(struct media_parse *p, void *buf, size_t len, uint64_t offset);
/* The same into memory that the caller frees; an index, so of limited length: else -E2BIG. */
int media_load(struct media_parse *p, uint64_t offset, uint64_t len, uint8_t **out);
/* Note where an index is. */
void media_note_index(struct media_parse *p, uint64_t offset, uint64_t len);
/* One more piece, in any order; clipped to the file. -E2BIG, -ENOMEM. */
int media_add(struct media_parse *p, struct hither_media_piece piece);
/* Many pieces for bytes whose time goes evenly from the one end to the other. */
int media_add_even(struct media_parse *p, struct hither_media_piece whole);
int media_damaged(struct media_parse *p, const char *what);

/* a * b / c, without overflow; UINT64_MAX where it does not fit or c is 0. */
uint64_t media_scale(uint64_t a, uint64_t b, uint64_t c);

static inline uint16_t media_be16(const uint8_t *b)
{
	return (uint16_t)(b[0] << 8 | b[1]);
}
static inline uint32_t media_be32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}
static inline uint64_t media_be64(const uint8_t *b)
{
	return (uint64_t)media_be32(b) << 32 | media_be32(b + 4);
}
static inline uint32_t media_le32(const uint8_t *b)
{
	return (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0];
}
static inline uint64_t media_le64(const uint8_t *b)
{
	return (uint64_t)media_le32(b + 4) << 32 | media_le32(b);
}

/* A container: its parser, which adds the pieces and fills in duration and index. */
struct media_format {
	const char *name;
	bool (*recognise)(const uint8_t *head, size_t len);
	int (*parse)(struct media_parse *p);
};

extern const struct media_format media_mp4, media_matroska, media_avi, media_wav, media_flac,
        media_ogg;

#endif
