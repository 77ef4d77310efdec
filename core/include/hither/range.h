/* SPDX-License-Identifier: Apache-2.0 */
/* A run of bytes of a resource. */
#ifndef HITHER_RANGE_H
#define HITHER_RANGE_H

#include <stdint.h>

struct hither_range {
	uint64_t offset; /* bytes */
	uint64_t len;
};

#endif
