/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of stores on disk share: a folder that goes away, and shorter calls. */
#ifndef HITHER_CHUNK_STORE_TESTING_H
#define HITHER_CHUNK_STORE_TESTING_H

#include "base/io.h"
#include "chunk/store_folder.h"
#include "chunk/store_internal.h"

#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char URL[] = "http://example.test/disk.img";
static struct hither_error err;
static char cache_dir[64];

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static inline void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void remove_cache(void)
{
	remove_tree(cache_dir);
}

static inline void fresh_cache(void)
{
	if (*cache_dir)
		remove_cache();
	else
		atexit(remove_cache);
	strcpy(cache_dir, "/tmp/hither-store-test-XXXXXX");
	CHECK(mkdtemp(cache_dir));
}

/* A store for URL, empty, of so many bytes. */
static inline struct hither_store *fresh_store(uint64_t size_bytes)
{
	struct hither_store *s = NULL;
	struct hither_store_identity identity = {.size_bytes = size_bytes, .version = "v1"};
	bool existed = true;
	fresh_cache();
	CHECK_OK(hither_store_open(cache_dir, URL, &s, &identity, &existed, &err));
	CHECK(!existed);
	CHECK_OK(hither_store_reset(s, &identity, &err));
	return s;
}

static inline struct hither_store *reopen_store(struct hither_store_identity *identity)
{
	struct hither_store *s = NULL;
	struct hither_store_identity unused;
	bool existed = false;
	CHECK_OK(hither_store_open(cache_dir, URL, &s, identity ? identity : &unused, &existed,
	                           &err));
	CHECK(existed);
	return s;
}

static inline struct hither_block_map *load_map(struct hither_store *s)
{
	struct hither_block_map *map = hither_block_map_create(hither_log_blocks(s->size_bytes));
	CHECK(map);
	CHECK_OK(hither_store_load(s, map, &err));
	return map;
}

static inline int open_fails(void)
{
	struct hither_store *s = NULL;
	struct hither_store_identity identity;
	bool existed = false;
	int r = hither_store_open(cache_dir, URL, &s, &identity, &existed, &err);
	CHECK(r < 0 || !existed);
	hither_store_close(s);
	return r;
}

/* The one store's folder, and a file in it. */
static inline const char *file_in_store(const char *file)
{
	static char path[4096];
	DIR *dir = opendir(cache_dir);
	CHECK(dir);
	struct dirent *e;
	while ((e = readdir(dir)) && !hither_store_folder_is_one(e->d_name))
		;
	CHECK(e);
	snprintf(path, sizeof path, "%s/%s/%s", cache_dir, e->d_name, file);
	closedir(dir);
	return path;
}

static inline uint8_t *read_state(size_t *len)
{
	void *buf = NULL;
	int dir_fd = open(file_in_store("."), O_RDONLY | O_DIRECTORY);
	CHECK(dir_fd >= 0);
	CHECK_EQ(hither_store_folder_read(dir_fd, "state", &buf, len), 0);
	close(dir_fd);
	return buf;
}

static inline void write_state(const void *buf, size_t len)
{
	int fd = open(file_in_store("state"), O_WRONLY | O_TRUNC);
	CHECK(fd >= 0);
	CHECK_EQ(hither_write_all(fd, buf, len), 0);
	close(fd);
}

#endif
