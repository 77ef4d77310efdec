/* SPDX-License-Identifier: Apache-2.0 */
/* The cache folder as a whole: what is in it, and deleting from it. */
#include "base/cleanup.h"
#include "chunk/store_folder.h"
#include "chunk/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static uint64_t disk_bytes(int dir_fd)
{
	static const char *const files[] = {"data", "state", "state.new", "url", "url.new", "lock"};
	uint64_t sum = 0;
	struct stat st;
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		if (fstatat(dir_fd, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			sum += (uint64_t)st.st_blocks * 512;
	return sum;
}

static uint64_t bytes_in(const struct hither_store_state *state, enum hither_block_state which)
{
	uint64_t blocks = hither_block_map_count(state->map, which);
	uint64_t size = state->header.identity.size_bytes;
	uint64_t last = hither_log_blocks(size) - 1;
	if (blocks == 0)
		return 0;
	/* The last block may be cut short. */
	uint64_t cut = hither_log_blocks(size) * HITHER_BLOCK_BYTES - size;
	if (hither_block_map_get(state->map, last) != which)
		cut = 0;
	return blocks * HITHER_BLOCK_BYTES - cut;
}

/* The log knows no other state of a block that is here. */
static uint64_t dirty_bytes(const struct hither_store_state *state)
{
	return bytes_in(state, HITHER_BLOCK_DIRTY);
}

/* A folder that was only half made is an empty store. */
static void describe(int dir_fd, struct hither_store_info *info)
{
	struct hither_store_state state = {0};
	struct stat st;
	hither_store_folder_name(dir_fd, info->name);
	info->disk_bytes = disk_bytes(dir_fd);
	info->in_use = hither_store_folder_in_use(dir_fd);
	if (fstatat(dir_fd, "lock", &st, 0) == 0)
		info->used_at = st.st_mtim.tv_sec;
	int r = hither_store_state_read(info->path, dir_fd, &state, NULL);
	if (r && r != -ENOENT)
		info->error = r;
	if (!r) {
		info->size_bytes = state.header.identity.size_bytes;
		info->dirty_bytes = dirty_bytes(&state);
		info->local_bytes = bytes_in(&state, HITHER_BLOCK_LOCAL) + info->dirty_bytes;
	}
	hither_block_map_destroy(state.map);
}

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

int hither_store_list(const char *cache_dir,
                      int (*each)(void *user, const struct hither_store_info *info), void *user,
                      struct hither_error *err)
{
	__attribute__((cleanup(close_dir))) DIR *dir = opendir(cache_dir);
	if (!dir)
		return errno == ENOENT
		               ? 0
		               : hither_fail(err, -errno, "%s: %s", cache_dir, strerror(errno));
	HITHER_FREE struct hither_store_info *info = malloc(sizeof *info);
	if (!info)
		return hither_fail(err, -ENOMEM, "%s: no memory", cache_dir);
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(dir);
		if (!entry)
			return errno ? hither_fail(err, -errno, "%s: %s", cache_dir,
			                           strerror(errno))
			             : 0;
		if (!hither_store_folder_is_one(entry->d_name))
			continue;
		HITHER_CLOSE int fd = openat(dirfd(dir), entry->d_name,
		                             O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue; /* deleted meanwhile, or no folder */
		memset(info, 0, sizeof *info);
		snprintf(info->path, sizeof info->path, "%s/%s", cache_dir, entry->d_name);
		describe(fd, info);
		int r = each(user, info);
		if (r)
			return r;
	}
}

/* May it go? */
static int expendable(const struct hither_store_folder *f, struct hither_error *err)
{
	struct hither_store_state state = {0};
	int r = hither_store_state_read(f->path, f->dir_fd, &state, err);
	if (r)
		return r == -ENOENT ? 0 : r;
	uint64_t dirty = dirty_bytes(&state);
	hither_block_map_destroy(state.map);
	if (dirty)
		return hither_fail(
		        err, -ENOTEMPTY,
		        "%s: %llu bytes were changed and not pushed yet; mount it once more "
		        "to push them (or lose them with --force)",
		        f->path, (unsigned long long)dirty);
	return 0;
}

/* The state first: without it nobody believes what is left if this is cut short. */
static int remove_files(const struct hither_store_folder *f, struct hither_error *err)
{
	static const char *const files[] = {"state", "state.new", "data", "url.new", "url", "lock"};
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		if (unlinkat(f->dir_fd, files[i], 0) < 0 && errno != ENOENT)
			return hither_fail(err, -errno, "%s/%s: %s", f->path, files[i],
			                   strerror(errno));
		if (i == 0 && fsync(f->dir_fd) < 0)
			return hither_fail(err, -errno, "%s: fsync: %s", f->path, strerror(errno));
	}
	if (rmdir(f->path) < 0 && errno != ENOENT)
		return hither_fail(err, -errno, "%s: %s", f->path, strerror(errno));
	return 0;
}

static int delete_folder(struct hither_store_folder *f, bool force, struct hither_error *err)
{
	int r = force ? 0 : expendable(f, err);
	if (!r)
		r = remove_files(f, err);
	hither_store_folder_close(f);
	return r;
}

int hither_store_delete(const char *cache_dir, const char *name, bool force,
                        struct hither_error *err)
{
	struct hither_store_folder f = {.dir_fd = -1, .lock_fd = -1};
	int r = hither_store_folder_open(cache_dir, name, false, &f, err);
	return r ? r : delete_folder(&f, force, err);
}

int hither_store_delete_at(const char *path, bool force, struct hither_error *err)
{
	struct hither_store_folder f = {.dir_fd = -1, .lock_fd = -1};
	int r = hither_store_folder_at(path, &f, err);
	return r ? r : delete_folder(&f, force, err);
}
