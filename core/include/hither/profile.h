/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Profiles: what a program read of a resource, in the order it first read it, so that the next run
 * can have it before it asks. A profile is text, one record a line:
 *
 *     hither-profile 1            the format's name and version; always the first line
 *     size 1073741824             of the resource, in bytes
 *     version "5e-8f3a"           optional: whatever names the resource's contents, up to 255 bytes
 *     # made by hand              a line that starts with # is a comment; empty lines are fine too
 *     0 4096 0 w                  offset, length in bytes, ms since the start; w: the reader waited
 *     1048576 131072 12
 *     # stalled 0 4096 0 87       a comment of recordings: who waited over 50 ms, from, until
 *
 * Numbers are decimal. The size comes before the first entry. A last line that was cut short (by a
 * crash of the writer) is left out. Lines end with LF or CR LF and have at most 500 bytes.
 */
#ifndef HITHER_PROFILE_H
#define HITHER_PROFILE_H

#include <hither/error.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HITHER_PROFILE_MOST_ENTRIES (1u << 20)
#define HITHER_PROFILE_LINE_BYTES 512 /* room for any line, with its end */

struct hither_profile_entry {
	uint64_t offset;
	uint64_t len;   /* not 0; offset + len does not overflow */
	uint32_t at_ms; /* since the start of the run; UINT32_MAX: then or later */
	bool waited;
};

struct hither_profile {
	uint64_t size_bytes;
	char version[256]; /* "": none given */
	size_t count;
	struct hither_profile_entry
	        *entries; /* in the order read; neighbours that join up are one */
};

/**
 * Read a profile from text of len bytes, or from the file at path. *out is filled on success only;
 * hither_profile_finish() frees what it holds.
 * -EINVAL: no profile, the message names line and byte; -E2BIG: more than
 * HITHER_PROFILE_MOST_ENTRIES; -ENOMEM; for a file any -errno of open() and read().
 */
int hither_profile_parse(const char *text, size_t len, struct hither_profile *out,
                         struct hither_error *err);
int hither_profile_load(const char *path, struct hither_profile *out, struct hither_error *err);
/** Frees the entries. NULL and a struct of zeros are fine. */
void hither_profile_finish(struct hither_profile *p);

/**
 * Several runs of one resource as one profile: bytes in the order of when they were first read, on
 * average; to a run that did not read them they count as read at its end. waited: some run did.
 * count is not 0. -EINVAL: they are of different resources; -ENOMEM. *out as after parsing; what
 * would be more than HITHER_PROFILE_MOST_ENTRIES is left out.
 */
int hither_profile_merge(const struct hither_profile *runs, size_t count,
                         struct hither_profile *out, struct hither_error *err);
/** Write p to the file at path, whole or not at all. Any -errno of writing. */
int hither_profile_save(const char *path, const struct hither_profile *p, struct hither_error *err);

/**
 * Write the first lines of a profile, or one entry's line, to buf: HITHER_PROFILE_LINE_BYTES, ended
 * by 0. Returns the length. version: NULL for none; more than 255 bytes are cut, control bytes
 * become '?'.
 */
size_t hither_profile_print_head(char *buf, uint64_t size_bytes, const char *version);
size_t hither_profile_print_entry(char *buf, const struct hither_profile_entry *entry);

#ifdef __cplusplus
}
#endif
#endif
