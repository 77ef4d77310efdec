/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tape drive, real or modelled, as one small table. A tape is a row of records, numbered from 0;
 * what is written ends the tape there: records behind it are gone. One thread at a time.
 */
#ifndef HITHER_TAPE_DRIVE_H
#define HITHER_TAPE_DRIVE_H

#include <hither/error.h>
#include <stddef.h>
#include <stdint.h>

struct tape_drive;

struct tape_drive_ops {
	/*
	 * The next record, whole, into buf of `size` bytes; *len is its length. -ENODATA: end of
	 * data, or a file mark. -EIO: the medium cannot give it. -EMSGSIZE: longer than size. After
	 * these the position may be anywhere: locate. Another -errno: the drive is of no use.
	 */
	int (*read)(struct tape_drive *d, void *buf, size_t size, size_t *len,
	            struct hither_error *err);
	/* One record. *early: the end is near, finish. -ENOSPC: end of medium. After an error what
	 * is on the tape from here on is not known. */
	int (*write)(struct tape_drive *d, const void *buf, size_t len, bool *early,
	             struct hither_error *err);
	/* What was written is on the medium when this has returned 0. */
	int (*sync)(struct tape_drive *d, struct hither_error *err);
	/* To the record of this number. -EIO behind the end of data. */
	int (*locate)(struct tape_drive *d, uint64_t record, struct hither_error *err);
	/* Behind the last record; *record is how many there are. */
	int (*locate_end)(struct tape_drive *d, uint64_t *record, struct hither_error *err);
	void (*close)(struct tape_drive *d);
};

struct tape_drive {
	const struct tape_drive_ops *ops;
	bool read_only;  /* write-protected, or opened so */
	uint64_t record; /* position; UINT64_MAX: not known, locate. Opening need not move it */
	uint64_t capacity_bytes; /* 0: not known */
	uint64_t busy_ns;        /* the model's time since open; 0 for a real drive */
	uint64_t origin_bytes;   /* the model's: how far into the tape record 0 lies; mostly 0 */
};

/* What a seek costs. A serpentine tape: wraps run forth and back, so near in bytes is not near. */
struct tape_model {
	uint64_t capacity_bytes, wrap_bytes;
	uint64_t rate_bytes;   /* a second */
	uint64_t start_ns;     /* to stop, turn and start */
	uint64_t length_ns;    /* end to end at locate speed */
	uint64_t backhitch_ns; /* streaming stopped: back up, start again */
};

/* 18 TB in 280 wraps, 300 MB/s; a locate from the beginning takes 65 s on average. */
extern const struct tape_model tape_model_lto9;
/* Nanoseconds of a locate from byte to byte of the medium. */
uint64_t tape_model_seek_ns(const struct tape_model *m, uint64_t from, uint64_t to);
/* Is it quicker to read on from byte to byte, since the tape need not stop and turn? */
bool tape_model_reads_on(const struct tape_model *m, uint64_t from, uint64_t to);
/* The quicker of both. */
uint64_t tape_model_move_ns(const struct tape_model *m, uint64_t from, uint64_t to);

/*
 * A tape file: create_bytes makes one of so many bytes (-EEXIST if there is a file). -EWOULDBLOCK:
 * another process has it; -EINVAL: no tape file.
 */
int tape_file_open(const char *path, bool writable, uint64_t create_bytes, struct tape_drive **out,
                   struct hither_error *err);
/* A device of the st driver, the one that does not rewind: /dev/nst0. */
int tape_st_open(const char *path, bool writable, struct tape_drive **out,
                 struct hither_error *err);
/* Either, by what path is. */
int tape_drive_open(const char *path, bool writable, uint64_t create_bytes, struct tape_drive **out,
                    struct hither_error *err);

#endif
