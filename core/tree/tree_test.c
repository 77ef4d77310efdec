/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest: what is written is read again, and what nobody honest writes is refused. */
#include "check.h"
#include "tree/tree_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct hither_error err;
static unsigned char hashes[64 * HITHER_HASH_BYTES];

#define FILE_(p, s) ((struct tree_entry){.path = p, .size = s, .mode = 0644, .mtime_ns = -5})
#define FOLDER(p) ((struct tree_entry){.path = p, .mode = 0755, .kind = HITHER_TREE_FOLDER})
#define LINK(p, to)                                                                                \
	((struct tree_entry){.path = p, .target = to, .mode = 0777, .kind = HITHER_TREE_LINK})
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t hash_count(const struct tree_entry *e, size_t count)
{
	uint64_t n = 0;
	for (size_t i = 0; i < count; i++)
		n += e[i].kind == HITHER_TREE_FILE ? tree_chunks(e[i].size, 65536) : 0;
	return n;
}

static int parse(const struct tree_entry *e, size_t count, const char *base, uint32_t flags,
                 struct hither_tree **t)
{
	struct tree_bytes b = {0};
	uint64_t n = hash_count(e, count);
	*t = NULL;
	err = (struct hither_error){0};
	CHECK_OK(tree_write(&b, 65536, flags, base, e, (uint32_t)count, hashes, n < 64 ? n : 0));
	int r = hither_tree_parse(b.bytes, b.len, t, &err);
	tree_bytes_finish(&b);
	return r;
}

static void refuse(const struct tree_entry *e, size_t count, const char *why)
{
	struct hither_tree *t;
	int r = parse(e, count, "", 0, &t);
	if (r != -EINVAL || !strstr(err.message, why))
		fprintf(stderr, "got %d: %s\n", r, err.message);
	CHECK_EQ(r, -EINVAL);
	CHECK(strstr(err.message, why));
	CHECK(!t);
}

static void what_is_written_is_read(void)
{
	const struct tree_entry e[] = {
	        FILE_("README", 5000),        FOLDER("data"),
	        FILE_("data/big", 200000),    FILE_("data/empty", 0),
	        LINK("data/up", "../README"), FOLDER("data/x"),
	        FILE_("data/x/small", 100),   FILE_("data-2", 1),
	};
	struct hither_tree *t;
	uint32_t count;
	char path[64];
	for (size_t i = 0; i < sizeof hashes; i++)
		hashes[i] = (unsigned char)(i / 32);
	CHECK_OK(parse(e, COUNT(e), "game/", 0, &t));
	const struct hither_tree_node *n = hither_tree_nodes(t, &count);
	CHECK_EQ(count, 9);
	CHECK(!strcmp(hither_tree_base(t), "game/"));
	CHECK(!hither_tree_is_file(t));
	CHECK_EQ(hither_tree_file_bytes(t), 205101);
	CHECK_EQ(n[0].child_count, 3);
	for (size_t i = 0; i < COUNT(e); i++) {
		uint32_t at = tree_find(t, e[i].path);
		CHECK(at != UINT32_MAX);
		CHECK(!strcmp(hither_tree_path(t, at, path, sizeof path), e[i].path));
		CHECK_EQ(n[at].mode, e[i].mode);
		CHECK_EQ(n[at].kind, e[i].kind);
		CHECK_EQ(n[at].mtime_ns, e[i].mtime_ns);
		CHECK(n[at].parent < at);
		if (e[i].target)
			CHECK(!strcmp(n[at].target, e[i].target));
		else
			CHECK_EQ(n[at].size, e[i].size);
	}
	const struct hither_tree_node *big = &n[tree_find(t, "data/big")];
	const struct hither_tree_node *small = &n[tree_find(t, "data/x/small")];
	CHECK_EQ(n[tree_find(t, "README")].offset, 0);
	CHECK_EQ(big->offset, 65536);            /* it does not fit behind README */
	CHECK_EQ(small->offset, 65536 + 200704); /* in what is left of big's last chunk */
	CHECK_EQ(hither_tree_chunk_hash(t, big, 3)[0], 4);
	CHECK_EQ(hither_tree_chunk_hash(t, small, 0)[0], 5);
	CHECK(hither_tree_file_at(t, big->offset + 199999) == big);
	CHECK(hither_tree_file_at(t, 6000)->offset == 0);
	CHECK_EQ(hither_tree_lookup(t, 0, "dat"), UINT32_MAX);
	CHECK_EQ(hither_tree_lookup(t, 0, "data-"), UINT32_MAX);
	hither_tree_destroy(t);
}

static void one_file_is_the_root(void)
{
	const struct tree_entry e[] = {FILE_("disk.iso", 70000)};
	const struct tree_entry two[] = {FILE_("a", 1), FILE_("b", 1)};
	struct hither_tree *t;
	uint32_t count;
	CHECK_OK(parse(e, 1, "", TREE_ONE_FILE, &t));
	CHECK(hither_tree_is_file(t));
	CHECK_EQ(hither_tree_nodes(t, &count)->size, 70000);
	CHECK_EQ(count, 1);
	hither_tree_destroy(t);
	CHECK_EQ(parse(two, 2, "", TREE_ONE_FILE, &t), -EINVAL);
	CHECK_EQ(parse(two, 0, "", TREE_ONE_FILE, &t), -EINVAL);
	CHECK_OK(parse(two, 0, "", 0, &t)); /* an empty folder is one */
	CHECK_EQ(hither_tree_size(t), 0);
	hither_tree_destroy(t);
}

static void malicious_paths_are_refused(void)
{
	static const char *const paths[] = {"/etc/passwd", "..",  "../x", "a//b", "",
	                                    "./a",         "a/.", "a/",   "."};
	for (size_t i = 0; i < COUNT(paths); i++) {
		const struct tree_entry e[] = {FOLDER("a"), FILE_(paths[i], 1)};
		refuse(*paths[i] == 'a' ? e : e + 1, *paths[i] == 'a' ? 2 : 1, "a path that is");
	}
	const struct tree_entry twice[] = {FILE_("a", 1), FILE_("a", 1)};
	const struct tree_entry order[] = {FILE_("b", 1), FILE_("a", 1)};
	const struct tree_entry missing[] = {FILE_("a/b", 1)};
	const struct tree_entry in_file[] = {FILE_("a", 1), FILE_("a/b", 1)};
	const struct tree_entry in_link[] = {LINK("a", "b"), FILE_("a/b", 1), FOLDER("b")};
	refuse(twice, 2, "twice");
	refuse(order, 2, "out of order");
	refuse(missing, 1, "folder is missing");
	refuse(in_file, 2, "folder is missing");
	refuse(in_link, 3, "folder is missing");
	char longest[TREE_NAME_MOST + 2];
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = 0;
	const struct tree_entry too_long[] = {FILE_(longest, 1)};
	refuse(too_long, 1, "too long part");
}

static void links_stay_inside(void)
{
	static const struct {
		const char *at, *to;
		bool good;
	} links[] = {
	        {"l", "d/e", true},         {"l", "..", false},
	        {"l", "/etc", false},       {"l", "d/../d", true},
	        {"l", "d/../..", false},    {"l", "missing/../../..", true},
	        {"l", "l", true},           {"l", "s/..", false},
	        {"l", "d/e/../..", true},   {"l", "d/e/../../..", false},
	        {"l", "t/..", true},        {"l", "t/../..", false},
	        {"l", "t/../../..", false}, {"l", "./d/./e", true},
	};
	for (size_t i = 0; i < COUNT(links); i++) {
		/* s leads to the root, t to d/e: what ".." means there, only following tells. */
		const struct tree_entry e[] = {
		        FOLDER("d"),
		        FOLDER("d/e"),
		        LINK("d/e/s", "../.."),
		        LINK("l", links[i].to),
		        LINK("s", "d/e/s"),
		        LINK("t", "d/e"),
		};
		struct hither_tree *t;
		int r = parse(e, COUNT(e), "", 0, &t);
		bool physical = !strcmp(links[i].to, "t/../..");
		if (physical) { /* t is d/e: d/e/../.. is the root itself */
			CHECK_OK(r);
			hither_tree_destroy(t);
			continue;
		}
		if ((r == 0) != links[i].good)
			fprintf(stderr, "%s: %d\n", links[i].to, r);
		CHECK_EQ(r == 0, links[i].good);
		hither_tree_destroy(t);
	}
}

static void sizes_cannot_overflow(void)
{
	const struct tree_entry huge[] = {FILE_("a", UINT64_MAX)};
	const struct tree_entry sum[] = {FILE_("a", TREE_SIZE_MOST), FILE_("b", 1)};
	const struct tree_entry lies[] = {FILE_("a", UINT64_C(1) << 40)};
	refuse(huge, 1, "too large");
	refuse(sum, 2, "too large");
	refuse(lies, 1, "hashes");
	uint64_t at = 0, offset, end = 0, seed = 7;
	for (int i = 0; i < 100000; i++) { /* never two on a block, never a piece in two chunks */
		seed = seed * 6364136223846793005u + 1;
		uint64_t size = 1 + (seed >> 33) % (i % 10 ? 20000 : 300000);
		CHECK_EQ(tree_place(&at, size, 65536, &offset), 0);
		CHECK(offset % 4096 == 0 && offset >= end);
		CHECK(offset % 65536 == 0 || offset % 65536 + size <= 65536);
		end = offset + size;
		CHECK_EQ(at, end);
	}
}

static void set32(struct tree_bytes *b, size_t at, uint32_t value)
{
	value = htole32(value);
	memcpy(b->bytes + at, &value, sizeof value);
	CHECK_EQ(hither_sha256(b->bytes, b->len - 32, b->bytes + b->len - 32), 0);
}

static void a_damaged_manifest_is_refused(void)
{
	const struct tree_entry e[] = {FOLDER("a"), FILE_("a/b", 100), LINK("c", "a")};
	struct tree_bytes b = {0};
	struct hither_tree *t = NULL;
	CHECK_OK(tree_write(&b, 65536, 0, "", e, 3, hashes, 1));
	for (size_t len = 0; len < b.len; len++) {
		int r = hither_tree_parse(b.bytes, len, &t, &err);
		CHECK(r == -EINVAL || r == -EBADMSG);
	}
	for (size_t i = 0; i < b.len; i++) {
		b.bytes[i] ^= 1;
		int r = hither_tree_parse(b.bytes, b.len, &t, &err);
		CHECK(r == -EINVAL || r == -EBADMSG || r == -EPROTONOSUPPORT);
		b.bytes[i] ^= 1;
	}
	set32(&b, 16, 2);
	CHECK_EQ(hither_tree_parse(b.bytes, b.len, &t, &err), -EPROTONOSUPPORT);
	CHECK(strstr(err.message, "version 2"));
	set32(&b, 16, 1);
	set32(&b, 20, 2);
	CHECK_EQ(hither_tree_parse(b.bytes, b.len, &t, &err), -EINVAL);
	set32(&b, 20, 0);
	set32(&b, 24, 65535);
	CHECK_EQ(hither_tree_parse(b.bytes, b.len, &t, &err), -EINVAL);
	set32(&b, 24, 65536);
	set32(&b, 28, UINT32_MAX);
	CHECK_EQ(hither_tree_parse(b.bytes, b.len, &t, &err), -EINVAL);
	set32(&b, 28, 2);
	CHECK_EQ(hither_tree_parse(b.bytes, b.len, &t, &err), -EINVAL);
	set32(&b, 28, 3);
	CHECK_OK(hither_tree_parse(b.bytes, b.len, &t, &err));
	hither_tree_destroy(t);
	tree_bytes_finish(&b);
}

/* A few MB could have hours of following, were each link followed for itself. */
static void links_do_not_wind_for_hours(void)
{
	enum { LINKS = 200000, WINDS = 800, NAME = 8 };
	char *names = malloc((size_t)LINKS * NAME), *target = malloc(WINDS * 5 + 3);
	struct tree_entry *e = malloc((LINKS + 2) * sizeof *e);
	CHECK(names && target && e);
	strcpy(target, "a/");
	for (size_t i = 0; i < WINDS; i++)
		strcpy(target + 2 + i * 5, "../a/");
	e[0] = FOLDER("a");
	e[1] = LINK("b", target);
	for (size_t i = 0; i < LINKS; i++) {
		snprintf(names + i * NAME, NAME, "l%06u", (unsigned)i % 1000000);
		e[2 + i] = LINK(names + i * NAME, "b");
	}
	refuse(e, LINKS + 2, "in circles");
	struct hither_tree *t;
	CHECK_OK(parse(e, 1000, "", 0, &t)); /* as many as somebody honest might have are fine */
	hither_tree_destroy(t);
	free(e);
	free(target);
	free(names);
}

static void a_base_stays_below(void)
{
	static const char *const bases[] = {"/", "..", "../", "a", "a//", "/a/", "a/../b/", "./"};
	const struct tree_entry e[] = {FILE_("a", 1)};
	struct hither_tree *t;
	for (size_t i = 0; i < COUNT(bases); i++)
		CHECK_EQ(parse(e, 1, bases[i], 0, &t), -EINVAL);
}

int main(void)
{
	RUN(what_is_written_is_read);
	RUN(one_file_is_the_root);
	RUN(malicious_paths_are_refused);
	RUN(links_stay_inside);
	RUN(links_do_not_wind_for_hours);
	RUN(sizes_cannot_overflow);
	RUN(a_damaged_manifest_is_refused);
	RUN(a_base_stays_below);
	return 0;
}
