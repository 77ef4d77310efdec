/* SPDX-License-Identifier: Apache-2.0 */
/* Slices over memory whose bytes tell their place. For tests only. */
#ifndef HITHER_SLICE_TESTING_H
#define HITHER_SLICE_TESTING_H

#include "check.h"

#include <errno.h>
#include <hither/layer.h>
#include <hither/slice.h>
#include <stdlib.h>

enum { SIZE = (2 << 20) + 777, PAGE = 4096 };

static struct hither_error err;

/* Bytes that tell their place. */
static inline unsigned char byte_at(uint64_t at)
{
	return (unsigned char)(at * 31 + (at >> 12) * 7 + (at >> 20));
}

static inline struct hither_backend *remote_new(size_t size)
{
	struct hither_backend *b;
	unsigned char *bytes = malloc(size);
	for (size_t i = 0; i < size; i++)
		bytes[i] = byte_at(i);
	CHECK_OK(hither_backend_memory_create(size, &b, &err));
	CHECK_OK(hither_backend_write_at(b, bytes, size, 0, &err));
	free(bytes);
	return b;
}

static inline struct hither_mount *mount_new(struct hither_backend *b,
                                             struct hither_mount_options o)
{
	struct hither_mount *m;
	CHECK_OK(hither_mount_backend(b, "test", &o, &m, &err));
	return m;
}

static inline struct hither_slice *slice_new(struct hither_mount *m, struct hither_slice_options o)
{
	struct hither_slice *s;
	int r = hither_slice_open(m, &o, &s, &err);
	if (r == -EPERM || r == -ENOSYS)
		SKIP(err.message);
	CHECK_EQ(r, 0);
	return s;
}

static const enum hither_slice_tracking ways[] = {
        HITHER_SLICE_TRACK_ASYNC, HITHER_SLICE_TRACK_FAULT, HITHER_SLICE_TRACK_HASH};

/* NULL where the kernel lacks it. */
static inline struct hither_slice *tracked(struct hither_mount *m, struct hither_slice_options o)
{
	struct hither_slice *s;
	int r = hither_slice_open(m, &o, &s, &err);
	if (r == -EOPNOTSUPP) {
		printf("    (%s)\n", err.message);
		return NULL;
	}
	CHECK_EQ(r, 0);
	struct hither_slice_stats st;
	hither_slice_stats(s, &st);
	CHECK_EQ(st.tracking, o.tracking);
	return s;
}

/* Nothing comes or goes of itself, and but by pages. */
static inline struct hither_mount *mount_quiet(struct hither_backend *b)
{
	return mount_new(b, (struct hither_mount_options){.pull_off = true,
	                                                  .chunk_bytes = PAGE,
	                                                  .push_interval_ms = 3600000});
}

static inline void check_bytes(const struct hither_slice *s, uint64_t from, uint64_t to)
{
	const unsigned char *p = hither_slice_data(s);
	for (uint64_t i = from; i < to; i++)
		CHECK_EQ(p[i], byte_at(i));
}

#endif
