/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tapes as disks: what is done to a tape beside mounting it (its URL is tape:PATH). A path is a
 * drive of the st driver that does not rewind (/dev/nst0), or a tape file. All block, for minutes
 * with a drive; one process at a time (-EBUSY).
 */
#ifndef HITHER_TAPE_H
#define HITHER_TAPE_H

#include <hither/error.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hither_tape_info {
	uint64_t size_bytes;     /* of the volume */
	uint64_t capacity_bytes; /* of the tape; 0: not known */
	uint64_t records;        /* label and checkpoints included */
	uint64_t live_bytes;     /* newest versions; all but these are garbage */
	uint64_t checkpoint;     /* record number of the newest whole one; 0: none */
	uint64_t scanned;        /* records read to find this out */
	uint64_t torn;           /* cut off at the end: power was lost while they were written */
	uint64_t damaged;        /* cannot be read */
	uint64_t drive_ns;       /* what an LTO-9 drive would have taken; 0: it was one */
};

/** Told of progress: at record (or, of a compaction, block) `done` of `total`. NULL: not told. */
struct hither_tape_progress {
	void (*at)(void *user, uint64_t done, uint64_t total);
	void *user;
};

/**
 * Write an empty volume of size_bytes (a multiple of 4096). capacity_bytes: of a tape file that is
 * made if there is none. -EEXIST: the tape has records already, and not force; -EROFS.
 */
int hither_tape_format(const char *path, uint64_t size_bytes, uint64_t capacity_bytes, bool force,
                       struct hither_error *err);
/** What is on it; reindex: from all records instead of the newest checkpoint. -EINVAL: no volume.
 */
int hither_tape_info(const char *path, bool reindex, struct hither_tape_info *out,
                     struct hither_error *err);
/** Write a checkpoint; with reindex from all records. */
int hither_tape_checkpoint(const char *path, bool reindex,
                           const struct hither_tape_progress *progress,
                           struct hither_tape_info *out, struct hither_error *err);
/** Read every record and check it. -EIO: out->damaged of them are not whole. */
int hither_tape_verify(const char *path, const struct hither_tape_progress *progress,
                       struct hither_tape_info *out, struct hither_error *err);
/**
 * Copy the newest version of every block, in block order, to the tape `to`, which is formatted (see
 * hither_tape_format). Blocks that cannot be read are left out, counted in *lost_bytes.
 */
int hither_tape_compact(const char *from, const char *to, bool force,
                        const struct hither_tape_progress *progress, uint64_t *lost_bytes,
                        struct hither_error *err);

#ifdef __cplusplus
}
#endif
#endif
