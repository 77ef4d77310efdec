/* SPDX-License-Identifier: Apache-2.0 */
/* The public face of the stores below a cache folder. */
#include "chunk/store.h"

#include <hither/cache.h>

struct listing {
	int (*each)(void *user, const struct hither_cache_entry *entry);
	void *user;
};

static int translate(void *user, const struct hither_store_info *info)
{
	const struct listing *l = user;
	const struct hither_cache_entry entry = {
	        .name = info->error ? "" : info->name,
	        .path = info->path,
	        .size_bytes = info->size_bytes,
	        .disk_bytes = info->disk_bytes,
	        .local_bytes = info->local_bytes,
	        .dirty_bytes = info->dirty_bytes,
	        .in_use = info->in_use,
	        .used_at = info->used_at,
	        .error = info->error,
	};
	return l->each(l->user, &entry);
}

int hither_cache_list(const char *dir,
                      int (*each)(void *user, const struct hither_cache_entry *entry), void *user,
                      struct hither_error *err)
{
	struct listing l = {each, user};
	return hither_store_list(dir, translate, &l, err);
}

int hither_cache_delete(const char *dir, const char *name, bool force, struct hither_error *err)
{
	return hither_store_delete(dir, name, force, err);
}

int hither_cache_delete_at(const char *path, bool force, struct hither_error *err)
{
	return hither_store_delete_at(path, force, err);
}
