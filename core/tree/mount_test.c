/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a tree as a backend and as a mount: checked, lazily opened, kept for offline use. */
#include "check.h"
#include "contract.h"
#include "scratch.h"
#include "tree/tree_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { SMALL = 200, BIG = 700 * 1000, ODD = 70001 };

static struct hither_error err;
static char folder[PATH_MAX], text[2 * PATH_MAX], manifest[2 * PATH_MAX], cache[2 * PATH_MAX];
static struct hither_tree *tree;
static char *content;

static const char *at(const char *name)
{
	snprintf(text, sizeof text, "%s/%s", folder, name);
	return text;
}

static void put(const char *name, size_t len, unsigned seed)
{
	char *bytes = malloc(len + 1);
	CHECK(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)((seed = seed * 1103515245 + 12345) >> 16);
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, bytes, len), len);
	CHECK_EQ(close(fd), 0);
	free(bytes);
}

static void make_game(void)
{
	char name[64];
	CHECK_EQ(mkdir(at("game"), 0755), 0);
	CHECK_EQ(mkdir(at("game/a b%"), 0755), 0);
	for (unsigned i = 0; i < SMALL; i++) {
		snprintf(name, sizeof name, "game/a b%%/s%03u", i);
		put(name, (i * 911) % 9000, i);
	}
	put("game/big", BIG, 5);
	put("game/odd", ODD, 6);
	strcpy(stpcpy(manifest, "file://"), at("game.hither"));
	strcpy(cache, at("cache"));
	char path[2 * PATH_MAX];
	strcpy(path, at("game"));
	CHECK_OK(hither_tree_index(path, at("game.hither"), NULL, NULL, &err));
}

/* The address space, put together from the files. */
static void load_content(void)
{
	uint32_t count;
	const struct hither_tree_node *n = hither_tree_nodes(tree, &count);
	content = calloc(1, hither_tree_size(tree));
	CHECK(content);
	for (uint32_t i = 0; i < count; i++) {
		char path[256], full[300];
		if (n[i].kind != HITHER_TREE_FILE)
			continue;
		snprintf(full, sizeof full, "game/%s",
		         hither_tree_path(tree, i, path, sizeof path));
		int fd = open(at(full), O_RDONLY);
		CHECK(fd >= 0);
		CHECK_EQ(read(fd, content + n[i].offset, n[i].size), n[i].size);
		close(fd);
	}
}

static void a_manifest_is_fetched(void)
{
	const struct hither_mount_options o = {.cache_dir = cache};
	char wrong[65];
	CHECK_OK(hither_tree_fetch(manifest, &o, NULL, &tree, &err));
	CHECK_EQ(hither_tree_file_bytes(tree) > BIG, 1);
	memset(wrong, 'a', 64);
	wrong[64] = 0;
	struct hither_tree *t = NULL;
	CHECK_EQ(hither_tree_fetch(manifest, &o, wrong, &t, &err), -EBADMSG);
	CHECK(strstr(err.message, hither_tree_hash(tree)));
	CHECK_OK(hither_tree_fetch(manifest, &o, hither_tree_hash(tree), &t, &err));
	hither_tree_destroy(t);
	snprintf(wrong, sizeof wrong, "%s", "/dev/null");
	CHECK_EQ(hither_tree_fetch(wrong, &o, NULL, &t, &err), -EINVAL);
	load_content();
}

static int open_subject(void *user, bool writable, struct hither_backend **out,
                        struct hither_error *e)
{
	const struct hither_backend_options o = {0};
	return hither_tree_backend(tree, manifest, &o, false, out, e);
}

static void the_contract_holds(void)
{
	const struct contract_subject s = {.name = "tree",
	                                   .open = open_subject,
	                                   .content = content,
	                                   .content_len = hither_tree_size(tree)};
	contract_check(&s);
}

struct parts_sink {
	struct hither_sink base;
	uint64_t at, held;
};

static int take_parts(struct hither_sink *sink, const void *buf, size_t len)
{
	struct parts_sink *s = (struct parts_sink *)sink;
	CHECK(!memcmp(buf, content + s->at, len));
	s->at += len;
	return 0;
}

static void hold_parts(struct hither_sink *sink, size_t len)
{
	((struct parts_sink *)sink)->held += len;
}

/* Over connections that are said to bring little at a time: files are read in parts, small ones
 * whole, and what comes is the same. */
static void reads_may_go_out_in_parts(void)
{
	static const uint32_t flights[] = {1, 4096, 10000, 13 << 10, 1 << 20};
	const struct hither_backend_options o = {0};
	uint64_t size = hither_tree_size(tree);
	struct hither_backend *b;
	CHECK_OK(hither_tree_backend(tree, manifest, &o, false, &b, &err));
	CHECK(b->spread > 0);
	for (size_t i = 0; i < sizeof flights / sizeof flights[0]; i++)
		for (uint64_t len = 1000; len < size; len = 5 * len + 77) {
			uint64_t from = (len * 3 + i * 4099) % (size - len);
			struct parts_sink s = {{.take = take_parts,
			                        .held = hold_parts,
			                        .flight_bytes = flights[i]},
			                       from,
			                       0};
			CHECK_OK(hither_backend_read(b, from, len, &s.base, &err));
			CHECK_EQ(s.at, from + len);
		}
	hither_backend_close(b);
}

static void a_profile_becomes_pieces(void)
{
	uint32_t count, chunk = hither_tree_chunk_bytes(tree);
	const struct hither_tree_node *nodes = hither_tree_nodes(tree, &count);
	const struct hither_tree_node *big = &nodes[hither_tree_lookup(tree, 0, "big")];
	const struct hither_tree_node *odd = &nodes[hither_tree_lookup(tree, 0, "odd")];
	struct hither_profile_entry entries[] = {
	        {big->offset + 3 * chunk + 100, 50, 1, false},    /* one piece */
	        {big->offset + 3 * chunk + 4096, chunk, 2, true}, /* its end, and the next */
	        {odd->offset, 1, 3, false},
	        {big->offset + 5, 10, 4, false},
	        {hither_tree_size(tree) + 1, 10, 5, false}, /* beyond */
	};
	struct hither_profile p = {hither_tree_size(tree), "v", 5, entries}, out;
	CHECK_OK(hither_tree_widen(tree, &p, &out, &err));
	CHECK(out.size_bytes == p.size_bytes && !strcmp(out.version, "v") && out.count == 3);
	const struct hither_profile_entry good[] = {
	        {big->offset + 3 * chunk, 2 * chunk, 1, true},
	        {odd->offset, chunk < ODD ? chunk : ODD, 3, false},
	        {big->offset, chunk, 4, false},
	};
	for (size_t i = 0; i < 3; i++)
		CHECK(out.entries[i].offset == good[i].offset &&
		      out.entries[i].len == good[i].len && out.entries[i].at_ms == good[i].at_ms &&
		      out.entries[i].waited == good[i].waited);
	hither_profile_finish(&out);
	/* Small files, each of them whole, with the gaps between them, and none besides. */
	uint32_t place = hither_tree_lookup(tree, 0, "a b%");
	const struct hither_tree_node *small = &nodes[nodes[place].first_child];
	entries[0] = (struct hither_profile_entry){small[10].offset, 1, 1, false};
	entries[1] = (struct hither_profile_entry){small[11].offset, 1, 2, false};
	p.count = 2;
	CHECK_OK(hither_tree_widen(tree, &p, &out, &err));
	CHECK_EQ(out.entries[0].offset, small[10].offset);
	uint64_t end = 0;
	for (size_t i = 0; i < out.count; i++)
		end = out.entries[i].offset + out.entries[i].len;
	CHECK_EQ(end, small[11].offset + small[11].size);
	hither_profile_finish(&out);
}

static void ends_of_large_files_come_early(void)
{
	const struct hither_range asked = {5, 6};
	struct hither_range *ranges;
	size_t count;
	const struct hither_tree_node *nodes = hither_tree_nodes(tree, &(uint32_t){0});
	const struct hither_tree_node *big = &nodes[hither_tree_lookup(tree, 0, "big")];
	CHECK_EQ(tree_add_tails(tree, &asked, 1, &ranges, &count), 0);
	CHECK(count == 2 && ranges[0].offset == 5 && ranges[0].len == 6);
	/* At least 64 KiB, in whole pieces. */
	CHECK_EQ(ranges[1].offset, big->offset + BIG / (64 << 10) * (64 << 10) - (64 << 10));
	CHECK_EQ(ranges[1].offset + ranges[1].len, big->offset + BIG);
	free(ranges);
}

static struct hither_mount *mount(bool offline, int expect)
{
	const struct hither_mount_options o = {.cache_dir = cache, .offline = offline};
	struct hither_mount *m = NULL;
	err = (struct hither_error){0};
	int r = hither_tree_mount(tree, manifest, &o, &m, &err);
	if (r != expect)
		fprintf(stderr, "%s\n", err.message);
	CHECK_EQ(r, expect);
	return m;
}

static int read_node(struct hither_mount *m, const char *path, uint64_t offset, size_t len)
{
	static char buf[BIG];
	const struct hither_tree_node *n = &tree->nodes[tree_find(tree, path)];
	int r = hither_mount_read_at(m, buf, len, n->offset + offset, &err);
	if (!r)
		CHECK(!memcmp(buf, content + n->offset + offset, len));
	return r;
}

static void damage(const char *name, off_t where, char mask)
{
	char byte;
	int fd = open(at(name), O_RDWR);
	CHECK(fd >= 0 && pread(fd, &byte, 1, where) == 1);
	byte ^= mask;
	CHECK_EQ(pwrite(fd, &byte, 1, where), 1);
	close(fd);
}

static void what_changed_is_refused_and_nothing_else(void)
{
	const struct hither_mount_options o = {.pull_off = true, .order = "none"};
	struct hither_mount *m = NULL;
	damage("game/big", 200000, 1);
	put("game/odd", ODD - 1, 6);
	CHECK_OK(hither_tree_mount(tree, manifest, &o, &m, &err));
	CHECK_OK(read_node(m, "big", 0, 190000));
	CHECK_EQ(read_node(m, "big", 199990, 20), -EIO);
	CHECK(strstr(err.message, "big at 196608"));
	CHECK_OK(read_node(m, "big", 300000, 100000));
	CHECK_EQ(read_node(m, "odd", 0, 1), -EIO);
	CHECK(strstr(err.message, "odd: it has 70000 bytes"));
	CHECK_OK(read_node(m, "a b%/s007", 5, 300));
	/* It is repaired: the mount that is there can read it. */
	damage("game/big", 200000, 1);
	put("game/odd", ODD, 6);
	CHECK_OK(read_node(m, "big", 0, BIG));
	CHECK_OK(read_node(m, "odd", 0, ODD));
	CHECK_OK(hither_mount_close(m, &err));
}

static void what_is_cached_works_offline(void)
{
	struct hither_mount *m = mount(true, 0);
	CHECK_EQ(read_node(m, "big", 0, 1), -ENODATA);
	CHECK(strstr(err.message, "offline"));
	CHECK_OK(hither_mount_close(m, &err));
	m = mount(false, 0);
	CHECK_OK(read_node(m, "big", 3, 50));
	CHECK_OK(hither_mount_pull(m, &err));
	CHECK_OK(hither_mount_close(m, &err));
	char away[2 * PATH_MAX];
	snprintf(away, sizeof away, "%s", at("away"));
	CHECK_EQ(rename(at("game"), away), 0);
	m = mount(true, 0);
	CHECK_OK(read_node(m, "big", 0, BIG));
	CHECK_OK(read_node(m, "a b%/s007", 5, 300));
	CHECK_OK(hither_mount_close(m, &err));
	const struct hither_mount_options o = {.cache_dir = cache, .offline = true};
	struct hither_tree *t = NULL;
	CHECK_EQ(unlink(at("game.hither")), 0);
	CHECK_OK(hither_tree_fetch(manifest, &o, hither_tree_hash(tree), &t, &err));
	hither_tree_destroy(t);
}

/* Zeros between files come from nowhere, and say nothing of how far away the server is. */
static void gaps_tell_no_round_trip(void)
{
	const struct hither_mount_options o = {.pull_off = true, .order = "none"};
	struct hither_mount *m = NULL;
	struct hither_mount_stats stats;
	char block[4096];
	uint64_t gap = 0;
	uint32_t kind = 0;
	CHECK_OK(hither_tree_mount(tree, manifest, &o, &m, &err));
	for (; !(kind & HITHER_EXTENT_HOLE); gap += 4096) {
		CHECK(gap < hither_tree_size(tree));
		hither_mount_extent(m, gap, 1, &kind);
	}
	CHECK_OK(hither_mount_read_at(m, block, sizeof block, gap - 4096, &err));
	CHECK(!memcmp(block, content + gap - 4096, sizeof block));
	hither_mount_stats(m, &stats);
	CHECK_EQ(stats.rtt_ns, 0);
	CHECK_OK(read_node(m, "big", 0, 10));
	hither_mount_stats(m, &stats);
	CHECK(stats.rtt_ns > 0);
	CHECK_OK(hither_mount_close(m, &err));
}

static void urls_of_files(void)
{
	static const char *const urls[][4] = {
	        {"http://h/a/x.hither", "", "f", "http://h/a/f"},
	        {"http://h/a/x.hither?t=1/2#y", "g/", "a b%", "http://h/a/g/a%20b%25?t=1/2"},
	        {"http://h/x.hither", "", "q?#", "http://h/q%3F%23"},
	        {"x.hither", "g/", "a b", "g/a b"},
	        {"/d/x.hither", "", "a%b", "/d/a%b"},
	        {"file:x.hither", "", "a", "file:a"},
	};
	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
		char *url = tree_url(urls[i][0], urls[i][1], urls[i][2]);
		CHECK(url && !strcmp(url, urls[i][3]));
		free(url);
	}
	CHECK(hither_tree_is_url("http://h/x.hither?a=b") && hither_tree_is_url("a.hither"));
	CHECK(!hither_tree_is_url("http://h/x?a=b.hither") && !hither_tree_is_url("/a/.hither") &&
	      !hither_tree_is_url("x.hither/"));
}

int main(void)
{
	scratch_make(folder);
	make_game();
	RUN(urls_of_files);
	RUN(a_manifest_is_fetched);
	RUN(the_contract_holds);
	RUN(reads_may_go_out_in_parts);
	RUN(a_profile_becomes_pieces);
	RUN(ends_of_large_files_come_early);
	RUN(gaps_tell_no_round_trip);
	RUN(what_changed_is_refused_and_nothing_else);
	RUN(what_is_cached_works_offline);
	hither_tree_destroy(tree);
	free(content);
	scratch_remove(folder);
	return 0;
}
