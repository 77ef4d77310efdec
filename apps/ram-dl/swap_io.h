/* SPDX-License-Identifier: Apache-2.0 */
/* What has been paged in and out by a swap area, from when it was attached on. */
#ifndef HITHER_APP_RAM_DL_SWAP_IO_H
#define HITHER_APP_RAM_DL_SWAP_IO_H

#include <stdint.h>

struct swap_io {
	uint64_t in_requests, in_pages, in_ms; /* ms: summed over requests */
	uint64_t out_requests, out_pages, out_ms;
};

/*
 * The kernel counts what a device has done since it was made, whoever used it: note where that
 * stands, for this process's attachment. Best effort: without a note everything is told.
 */
void swap_io_begin(const char *device);
/* Forget the note. */
void swap_io_end(const char *device);
/* What has passed since process pid called swap_io_begin(). */
struct swap_io swap_io_since(const char *device, int pid);

#endif
