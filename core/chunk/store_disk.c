/* SPDX-License-Identifier: Apache-2.0 */
#include "chunk/store_internal.h"

#include <errno.h>

int hither_store_open(const char *cache_dir, const char *name, struct hither_store **out,
                      struct hither_store_identity *identity, bool *existed,
                      struct hither_error *err)
{
	return hither_fail(err, -ENOSYS, "%s: stores on disk are still to come", cache_dir);
}
int hither_store_disk_reset(struct hither_store *s, const struct hither_store_identity *identity,
                            struct hither_error *err)
{
	return -ENOSYS;
}
int hither_store_disk_set_identity(struct hither_store *s,
                                   const struct hither_store_identity *identity,
                                   struct hither_error *err)
{
	return -ENOSYS;
}
int hither_store_disk_load(struct hither_store *s, struct hither_block_map *map,
                           struct hither_error *err)
{
	return -ENOSYS;
}
int hither_store_disk_note(struct hither_store *s, uint64_t first, uint64_t count,
                           enum hither_block_state state)
{
	return -ENOSYS;
}
int hither_store_disk_intent(struct hither_store *s, uint64_t first, uint64_t count)
{
	return -ENOSYS;
}
int hither_store_disk_sync(struct hither_store *s, struct hither_error *err)
{
	return -ENOSYS;
}
int hither_store_disk_compact(struct hither_store *s, const struct hither_block_map *map,
                              struct hither_error *err)
{
	return -ENOSYS;
}
bool hither_store_disk_log_long(struct hither_store *s)
{
	return false;
}
const char *hither_store_disk_path(const struct hither_store *s)
{
	return "";
}
void hither_store_disk_close(struct hither_store *s)
{
}
