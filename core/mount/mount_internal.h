/* SPDX-License-Identifier: Apache-2.0 */
/* What every kind of mount has; managed.h and direct.c add theirs. */
#ifndef HITHER_MOUNT_INTERNAL_H
#define HITHER_MOUNT_INTERNAL_H

#include "base/clock.h"

#include <hither/mount.h>

/* A program that reads may take it for a hitch: counted by itself. */
#define MOUNT_STALLED_NS (50 * HITHER_NS_PER_MS)

struct hither_mount_ops {
	void (*submit)(struct hither_mount *m, struct hither_io *io); /* range checked, len > 0 */
	int (*push)(struct hither_mount *m, struct hither_error *err);
	int (*pull)(struct hither_mount *m, struct hither_error *err);
	int (*suggest)(struct hither_mount *m, const struct hither_range *ranges, size_t count,
	               struct hither_error *err); /* NULL: takes no advice */
	int (*fill)(struct hither_mount *m, const void *buf, size_t len, uint64_t offset,
	            struct hither_error *err); /* whole blocks, len > 0; NULL: nothing is kept */
	void (*warm)(struct hither_mount *m, uint32_t connections); /* NULL: no use for it */
	void (*stats)(struct hither_mount *m, struct hither_mount_stats *out);
	void (*picture)(struct hither_mount *m, uint8_t *parts, size_t count);
	uint64_t (*extent)(struct hither_mount *m, uint64_t offset, uint64_t max, uint32_t *kind);
	int (*peek)(struct hither_mount *m, void *buf, size_t len,
	            uint64_t offset); /* range checked, len > 0; NULL: nothing is local */
	int (*local_fd)(struct hither_mount *m);
	bool discards;                                /* submit takes HITHER_IO_DISCARD */
	void (*cached_above)(struct hither_mount *m); /* may be NULL */
	void (*cancel)(struct hither_mount *m);
	int (*close)(struct hither_mount *m, struct hither_error *err);
};

struct hither_mount {
	const struct hither_mount_ops *ops;
	struct hither_backend *backend; /* owned; NULL: offline */
	uint64_t size_bytes;
	bool writable;
	bool direct; /* no store: every access goes to the backend */
};

/* The two kinds. They take over backend (which may be NULL for an offline managed mount) on
 * success. */
int hither_direct_create(struct hither_backend *backend, const struct hither_mount_options *options,
                         struct hither_mount **out, struct hither_error *err);
struct hither_store;
/* Takes over store and map too; *map holds what store remembers. */
struct hither_block_map;
int hither_managed_create(struct hither_backend *backend, struct hither_store *store,
                          struct hither_block_map *map, uint64_t size_bytes, const char *name,
                          const struct hither_mount_options *options, struct hither_mount **out,
                          struct hither_error *err);

#endif
