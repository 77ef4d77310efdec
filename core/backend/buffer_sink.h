/* SPDX-License-Identifier: Apache-2.0 */
/* A sink that puts what comes into memory, one piece behind the other. */
#ifndef HITHER_BACKEND_BUFFER_SINK_H
#define HITHER_BACKEND_BUFFER_SINK_H

#include "base/cleanup.h"

#include <hither/backend.h>
#include <string.h>

/* {{hither_buffer_take}, buf}: buf has room for all that was asked for. */
struct hither_buffer_sink {
	struct hither_sink base;
	char *next;
};

static inline int hither_buffer_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct hither_buffer_sink *s = HITHER_CONTAINER(sink, struct hither_buffer_sink, base);
	memcpy(s->next, buf, len);
	s->next += len;
	return 0;
}

#endif
