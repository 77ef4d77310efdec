/* SPDX-License-Identifier: Apache-2.0 */
/* Indexing folders: what is in, what is left out, what is not read again. */
#include "check.h"
#include "scratch.h"
#include "tree/tree_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct hither_error err;
static char folder[PATH_MAX], text[2 * PATH_MAX];

static const char *at(const char *name)
{
	snprintf(text, sizeof text, "%s/%s", folder, name);
	return text;
}

static void put(const char *name, size_t len, int seed)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0640);
	char *bytes = malloc(len + 1);
	struct timespec old[2] = {{1000 + seed, 5}, {1000 + seed, 5}};
	CHECK(fd >= 0 && bytes);
	memset(bytes, seed, len);
	CHECK_EQ(write(fd, bytes, len), len);
	CHECK_EQ(futimens(fd, old), 0);
	CHECK_EQ(close(fd), 0);
	free(bytes);
}

static struct hither_tree *load(const char *name)
{
	struct stat st;
	struct hither_tree *t = NULL;
	int fd = open(at(name), O_RDONLY);
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	char *bytes = malloc((size_t)st.st_size);
	CHECK_EQ(read(fd, bytes, (size_t)st.st_size), st.st_size);
	CHECK_OK(hither_tree_parse(bytes, (size_t)st.st_size, &t, &err));
	free(bytes);
	close(fd);
	return t;
}

static unsigned told;
static void left_out(void *user, const char *path, const char *why)
{
	told++;
	CHECK(strstr(path, "out") || strstr(path, "pipe"));
}

static int run(struct hither_tree_index_result *r, bool rehash)
{
	const struct hither_tree_index_options o = {.left_out = left_out, .rehash = rehash};
	char path[2 * PATH_MAX];
	snprintf(path, sizeof path, "%s", at("game"));
	told = 0;
	err = (struct hither_error){0};
	return hither_tree_index(path, at("game.hither"), &o, r, &err);
}

static void a_folder_is_indexed(void)
{
	struct hither_tree_index_result r;
	CHECK_EQ(mkdir(at("game"), 0755), 0);
	CHECK_EQ(mkdir(at("game/maps"), 0755), 0);
	CHECK_EQ(mkfifo(at("game/pipe"), 0600), 0);
	put("game/maps/one", 150000, 1);
	put("game/maps/two", 10, 2);
	put("game/empty", 0, 3);
	CHECK_EQ(symlink("maps/one", at("game/map")), 0);
	CHECK_EQ(symlink("../../etc", at("game/out")), 0);
	CHECK_EQ(symlink("/etc", at("game/out2")), 0);
	CHECK_OK(run(&r, false));
	CHECK_EQ(r.files, 3);
	CHECK_EQ(r.folders, 1);
	CHECK_EQ(r.links, 1);
	CHECK_EQ(r.left_out, 3);
	CHECK_EQ(told, 3);
	CHECK_EQ(r.hashed_bytes, 150010);
	struct hither_tree *t = load("game.hither");
	uint32_t count;
	const struct hither_tree_node *n = hither_tree_nodes(t, &count);
	unsigned char hash[32];
	static unsigned char bytes[65536];
	CHECK_EQ(count, 6);
	CHECK(!strcmp(hither_tree_base(t), "game/"));
	CHECK(!strcmp(hither_tree_hash(t), r.hash));
	n += tree_find(t, "maps/one");
	CHECK(n->size == 150000 && n->mode == 0640 && n->mtime_ns == 1001000000005);
	memset(bytes, 1, sizeof bytes);
	CHECK_EQ(hither_sha256(bytes, sizeof bytes, hash), 0);
	CHECK(!memcmp(hash, hither_tree_chunk_hash(t, n, 1), 32));
	CHECK_EQ(hither_sha256(bytes, 150000 - 2 * 65536, hash), 0);
	CHECK(!memcmp(hash, hither_tree_chunk_hash(t, n, 2), 32));
	hither_tree_destroy(t);
}

static void only_what_changed_is_read_again(void)
{
	struct hither_tree_index_result r, again;
	CHECK_OK(run(&r, false));
	CHECK_EQ(r.hashed_bytes, 0);
	put("game/maps/two", 10, 7);
	CHECK_OK(run(&again, false));
	CHECK_EQ(again.hashed_bytes, 10);
	CHECK(strcmp(r.hash, again.hash) != 0);
	CHECK_OK(run(&r, true)); /* the same, made from nothing */
	CHECK_EQ(r.hashed_bytes, 150010);
	CHECK(!strcmp(r.hash, again.hash));
	/* Its time says the second that the manifest was written in: it may have changed since. */
	CHECK_EQ(utimensat(AT_FDCWD, at("game/maps/two"), NULL, 0), 0);
	CHECK_OK(run(&r, false));
	CHECK_OK(run(&r, false));
	CHECK_EQ(r.hashed_bytes, 10);
}

static void other_places(void)
{
	struct hither_tree_index_result r;
	char path[2 * PATH_MAX];
	snprintf(path, sizeof path, "%s", at("game"));
	CHECK_OK(hither_tree_index(path, at("game/in.hither"), NULL, &r, &err));
	CHECK_OK(hither_tree_index(path, at("game/in.hither"), NULL, &r, &err));
	CHECK_EQ(r.files, 3); /* the manifest is not in itself */
	struct hither_tree *t = load("game/in.hither");
	CHECK(!strcmp(hither_tree_base(t), ""));
	hither_tree_destroy(t);
	CHECK_EQ(hither_tree_index(path, at("game/maps/x.hither"), NULL, &r, &err), -EINVAL);
	CHECK(strstr(err.message, "--base"));
	const struct hither_tree_index_options up = {.base = "../x"};
	CHECK_EQ(hither_tree_index(path, at("y.hither"), &up, &r, &err), -EINVAL);
	CHECK(access(at("y.hither"), F_OK));
	snprintf(path, sizeof path, "%s", at("game/maps/one"));
	CHECK_OK(hither_tree_index(path, at("one.hither"), NULL, &r, &err));
	t = load("one.hither");
	CHECK(hither_tree_is_file(t) && !strcmp(hither_tree_base(t), "game/maps/"));
	hither_tree_destroy(t);
	snprintf(path, sizeof path, "%s", at("nothing"));
	CHECK_EQ(hither_tree_index(path, at("z.hither"), NULL, &r, &err), -ENOENT);
}

enum { WRITERS = 4, TIMES = 40 };

/* In old days they shared the file that was to become the manifest. */
static void several_at_a_time_write_one_manifest(void)
{
	char path[2 * PATH_MAX], out[2 * PATH_MAX];
	snprintf(path, sizeof path, "%s", at("game"));
	snprintf(out, sizeof out, "%s", at("shared.hither"));
	for (int i = 0; i < WRITERS; i++) {
		pid_t child = fork();
		CHECK(child >= 0);
		for (int k = 0; child == 0 && k < TIMES; k++) {
			const struct hither_tree_index_options o = {.chunk_bytes = 4096u << i};
			CHECK_OK(hither_tree_index(path, out, &o, NULL, &err));
			hither_tree_destroy(load("shared.hither"));
		}
		if (child == 0)
			_exit(0);
	}
	for (int i = 0; i < WRITERS; i++) {
		int status;
		CHECK(wait(&status) > 0);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	CHECK(access(at("shared.hither-new"), F_OK));
}

int main(void)
{
	scratch_make(folder);
	RUN(a_folder_is_indexed);
	RUN(only_what_changed_is_read_again);
	RUN(other_places);
	RUN(several_at_a_time_write_one_manifest);
	scratch_remove(folder);
	return 0;
}
