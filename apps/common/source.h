/* SPDX-License-Identifier: Apache-2.0 */
/* Opening what a command works on: the resource, its layers, its mount. */
#ifndef HITHER_APP_SOURCE_H
#define HITHER_APP_SOURCE_H

#include "settings.h"

/*
 * Open s->url as s->mount says, wrapped in s->wrap's layers. If neither --write nor --read-only was
 * given and `may_write`, it is writable if the resource is. Blocks.
 *
 * A URL that ends in .hither is a manifest: what is opened is what that says, into s->tree. A
 * folder is refused (-EISDIR) unless s->takes_tree. A profile beside it (URL-profile) is used
 * unless another was given.
 *
 * -EBUSY: another process has the cache, and err says where it shows the resource. With s->own_copy
 * it is opened without a cache on disk then.
 *
 * What is odd, but no failure, is told to stderr and left in s->note: a daemon's stderr is a log.
 */
int source_open(struct settings *s, bool may_write, struct hither_mount **out,
                struct hither_error *err);

/*
 * Is s->url a file or disk of this machine, and was nothing said of a cache? It is near already: a
 * copy of it would take room and time, and win nothing; a direct mount will do. After
 * settings_apply().
 */
bool source_is_near(const struct settings *s);

/*
 * hither_mount_stats(); of a tree, in bytes of its files: what lies between them, in its mount, is
 * nobody's.
 */
void source_stats(const struct settings *s, struct hither_mount *m, struct hither_mount_stats *out);

/* Check a list of layers ("delay=25ms,rate=10M") without opening anything. */
int source_check_layers(const char *layers, struct hither_error *err);

#endif
