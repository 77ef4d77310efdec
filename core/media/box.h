/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boxes of the ISO base media file format (ISO/IEC 14496-12): 32-bit size, four letters, contents;
 * size 1: a 64-bit size follows the letters; size 0: to the end of what it is in.
 */
#ifndef HITHER_MEDIA_BOX_H
#define HITHER_MEDIA_BOX_H

#include "media/parse.h"

#define BOX(a, b, c, d)                                                                            \
	((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

struct box {
	uint32_t type;
	uint32_t header_bytes;
	uint64_t offset; /* of its header, in the file */
	uint64_t len;    /* with its header */
};

/* A box in memory: its contents. */
struct box_bytes {
	uint32_t type;
	const uint8_t *data;
	size_t len;
};

/* The header of the box at offset of the file. */
int box_read(struct media_parse *p, uint64_t offset, struct box *out);

/* Take the first box off rest. False: there is none, or it is damaged. */
bool box_next(struct box_bytes *rest, struct box_bytes *out);
/* The first box of a type within parent. */
bool box_find(struct box_bytes parent, uint32_t type, struct box_bytes *out);

/* What the top of a file tells. len 0: there is no such box. */
struct mp4_top {
	struct box ftyp, moov, sidx;
	uint64_t first_mdat; /* offset; UINT64_MAX: none */
};
/* Walk the boxes of the file until what is needed is known. -ENOTSUP: there is no moov. */
int mp4_walk(struct media_parse *p, struct mp4_top *out);
/* The moov's contents, loaded; owner frees *owned. */
int mp4_load_moov(struct media_parse *p, const struct mp4_top *top, uint8_t **owned,
                  struct box_bytes *moov);

/* Add the pieces of one track (a trak box). */
int mp4_track(struct media_parse *p, struct box_bytes trak);
/* Add the pieces of a fragmented file, by its sidx or mfra. */
int mp4_fragments(struct media_parse *p, const struct mp4_top *top, struct box_bytes moov);

#endif
