/* SPDX-License-Identifier: Apache-2.0 */
/* The text file at the root of a directory backend, which says how large it is and in what pieces.
 */
#ifndef HITHER_BACKEND_DIRECTORY_LAYOUT_H
#define HITHER_BACKEND_DIRECTORY_LAYOUT_H

#include <hither/error.h>
#include <stdint.h>

#define HITHER_DIRECTORY_MARKER "hither-directory"

struct hither_directory_layout {
	uint32_t chunk_bytes; /* wanted, 0: any; afterwards what it is */
	bool sized;           /* size_bytes is wanted */
	uint64_t size_bytes;  /* wanted; afterwards what it is */
	bool create;          /* if it is not there, with create_bytes */
	uint64_t create_bytes;
};

bool hither_directory_chunk_ok(uint64_t chunk_bytes);

/*
 * Open the folder at path, making it if asked, and fill *layout. A descriptor of the caller's, or
 * -errno: -ENOENT: not there, and not to be made; -ENOTEMPTY: a folder with other things in it;
 * -EINVAL: it is there with another size or chunk than wanted, or is of an unknown format.
 */
int hither_directory_open(const char *path, struct hither_directory_layout *layout,
                          struct hither_error *err);

#endif
