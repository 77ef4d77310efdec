/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Media files: where the bytes of which second are. Reads the index of a container (MP4 and
 * QuickTime, Matroska and WebM, AVI, WAV, FLAC, Ogg) from any source of bytes, and lays an MP4
 * whose index comes last out anew with the index in front. Containers without an index (MPEG-TS,
 * raw streams) are not known here.
 *
 * What is read is not trusted: everything is bounded, checked for overflow and clipped to the file.
 */
#ifndef HITHER_MEDIA_H
#define HITHER_MEDIA_H

#include <hither/error.h>
#include <hither/order.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Where the bytes come from. */
struct hither_media_source {
	uint64_t size_bytes;
	/*
	 * Copy [offset, offset + len), which lies within size_bytes, into buf: 0. -EAGAIN: not here
	 * yet; else a negative errno, which the parser returns.
	 */
	int (*read)(const struct hither_media_source *s, void *buf, size_t len, uint64_t offset);
};

enum {
	HITHER_MEDIA_KEY = 1u << 0, /* decoding can begin in it */
};

/** A run of the file that is played together. */
struct hither_media_piece {
	uint64_t time_us, end_us; /* decoding time, since the start */
	uint64_t offset, len;     /* not empty; within the file */
	uint32_t flags;           /* HITHER_MEDIA_* */
};

enum { HITHER_MEDIA_INDEXES = 4 };

struct hither_media {
	const char *format; /* "mp4", "matroska", "avi", "wav", "flac", "ogg" */
	uint64_t duration_us;
	/* Where the index is, in the order in which it was found. */
	struct hither_range index[HITHER_MEDIA_INDEXES];
	size_t index_count;
	bool fragmented; /* MP4: in fragments, each with an index of its own */
	size_t piece_count;
	struct hither_media_piece *pieces; /* by time; runs of several tracks may overlap in time */
	uint32_t *by_offset;               /* numbers of pieces, by offset */
};

/**
 * Read the index. *out is filled on success only; hither_media_finish() frees what it holds.
 * -EAGAIN: the source lacks bytes; *wanted says which, call again when they are there (what was
 * read is read again, the index itself only once it is whole). -ENOTSUP: no media of these formats,
 * or one without an index; -EINVAL: damaged; -E2BIG: larger than is reasonable (128 MiB of index, a
 * million pieces); -ENOMEM. Any thread; blocks as long as the source does.
 */
int hither_media_parse(const struct hither_media_source *source, struct hither_media *out,
                       struct hither_range *wanted, struct hither_error *err);
/** NULL and a struct of zeros are fine. */
void hither_media_finish(struct hither_media *m);

/** Could these first bytes of a file be such media? */
bool hither_media_recognise(const uint8_t *head, size_t len);
/** The same: the format's name, as in struct hither_media; NULL: none. */
const char *hither_media_recognise_format(const uint8_t *head, size_t len);

/** The first piece that ends after time_us; piece_count if there is none. */
size_t hither_media_at_time(const struct hither_media *m, uint64_t time_us);
/** The last piece that begins at or before time_us and that decoding can begin in; as above where
 * there is none. */
size_t hither_media_key_at(const struct hither_media *m, uint64_t time_us);
/** When the byte at offset is played. False: it belongs to no piece. */
bool hither_media_time_of(const struct hither_media *m, uint64_t offset, uint64_t *time_us);

/** A file laid out anew: pieces of the file and of memory, one after another. */
struct hither_media_segment {
	uint64_t offset;     /* in the file, unless data */
	const uint8_t *data; /* NULL: from the file */
	uint64_t len;
};

enum { HITHER_MEDIA_SEGMENTS = 4 };

struct hither_media_layout {
	uint64_t size_bytes;
	size_t count; /* 0: the file is good as it is */
	struct hither_media_segment segments[HITHER_MEDIA_SEGMENTS];
	uint8_t *index; /* owned; what segments[].data points to */
};

/**
 * The layout of an MP4 with its index (moov) in front and the sample offsets corrected; media bytes
 * stay as they are (32-bit offsets become 64-bit ones where they no longer fit). count is 0 for
 * everything that needs no such change. Errors as hither_media_parse().
 */
int hither_media_faststart(const struct hither_media_source *source,
                           struct hither_media_layout *out, struct hither_range *wanted,
                           struct hither_error *err);
void hither_media_layout_finish(struct hither_media_layout *l);

#ifdef __cplusplus
}
#endif
#endif
