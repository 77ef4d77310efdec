/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a manifest. It comes from a stranger: every length is checked against what is left. */
#include "base/cleanup.h"
#include "tree/tree_internal.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct reader {
	const unsigned char *start, *at, *end;
	struct hither_tree *t;
	struct hither_error *err;
};

static int bad(struct reader *r, const char *what)
{
	return hither_fail(r->err, -EINVAL, "manifest: byte %zu: %s", (size_t)(r->at - r->start),
	                   what);
}

static int take_varint(struct reader *r, uint64_t *out)
{
	uint64_t value = 0;
	for (int i = 0; i < TREE_VARINT_MOST && r->at < r->end; i++) {
		unsigned char byte = *r->at++;
		if (i == TREE_VARINT_MOST - 1 && byte > 1)
			return bad(r, "a number of more than 64 bits");
		value |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte & 0x80)
			continue;
		if (i && !byte)
			return bad(r, "a number that is longer than need be");
		*out = value;
		return 0;
	}
	return bad(r, "it ends within a number");
}

/* A text of at most `most` bytes, behind the `shared` bytes that `to` has already. */
static int take_text(struct reader *r, char *to, size_t shared, size_t most)
{
	uint64_t len = 0;
	int code = take_varint(r, &len);
	if (code)
		return code;
	if (len > (size_t)(r->end - r->at) || len > most - shared)
		return bad(r, "a text that is too long");
	if (memchr(r->at, 0, len))
		return bad(r, "a text with a NUL in it");
	memcpy(to + shared, r->at, len);
	to[shared + len] = 0;
	r->at += len;
	return 0;
}

/* Room for one path or target. */
typedef char text_room[TREE_PATH_MOST + 1];

static int take_entry(struct reader *r, const char *before, text_room path, text_room target,
                      struct tree_entry *e)
{
	uint64_t mode, time, shared;
	if (r->at == r->end)
		return bad(r, "it ends before its last entry");
	*e = (struct tree_entry){.path = path, .target = target, .kind = *r->at++};
	if (e->kind > HITHER_TREE_LINK)
		return bad(r, "an entry of an unknown kind");
	int code = take_varint(r, &mode);
	if (!code && mode > 0777)
		code = bad(r, "a mode with other bits than permissions");
	if (!code)
		code = take_varint(r, &time);
	if (!code)
		code = take_varint(r, &shared);
	if (!code && shared > strlen(before))
		code = bad(r, "it shares more of a path than there is");
	if (code)
		return code;
	e->mode = (uint16_t)mode;
	e->mtime_ns = (int64_t)(time >> 1 ^ -(time & 1));
	memcpy(path, before, shared);
	code = take_text(r, path, shared, TREE_PATH_MOST);
	if (!code && e->kind == HITHER_TREE_FILE)
		code = take_varint(r, &e->size);
	if (!code && e->kind == HITHER_TREE_LINK) {
		code = take_text(r, target, 0, TREE_PATH_MOST);
		if (!code && !*target)
			code = bad(r, "a link without a target");
	}
	return code;
}

static uint32_t get32(const unsigned char *from)
{
	uint32_t value;
	memcpy(&value, from, sizeof value);
	return le32toh(value);
}

static int take_head(struct reader *r, uint32_t *count)
{
	const unsigned char *head = r->start;
	uint64_t hashes;
	if (r->end - r->start < TREE_MAGIC_BYTES || memcmp(head, TREE_MAGIC, TREE_MAGIC_BYTES) != 0)
		return bad(r, "this is no manifest of hither's");
	if (r->end - r->start < TREE_HEAD_BYTES + HITHER_HASH_BYTES)
		return bad(r, "it is cut off");
	if (get32(head + 16) != TREE_VERSION)
		return hither_fail(r->err, -EPROTONOSUPPORT,
		                   "manifest: it is of version %u, this hither knows version %d: "
		                   "use a newer hither, or index it again",
		                   get32(head + 16), TREE_VERSION);
	uint32_t flags = get32(head + 20), chunk = get32(head + 24);
	memcpy(&hashes, head + 32, sizeof hashes);
	r->at += TREE_HEAD_BYTES;
	r->end -= HITHER_HASH_BYTES;
	if (flags & ~(uint32_t)TREE_ONE_FILE)
		return bad(r, "flags that are unknown");
	if (chunk < TREE_CHUNK_LEAST || chunk > TREE_CHUNK_MOST || (chunk & (chunk - 1)))
		return bad(r, "chunks of an impossible size");
	r->t->one_file = flags & TREE_ONE_FILE;
	r->t->chunk_bytes = chunk;
	r->t->hash_count = le64toh(hashes);
	*count = get32(head + 28);
	/* An entry has at least 6 bytes. */
	if (*count > (size_t)(r->end - r->at) / 6 + 1 ||
	    r->t->hash_count > (size_t)(r->end - r->at) / HITHER_HASH_BYTES)
		return bad(r, "it is cut off, or has more entries than bytes");
	return 0;
}

static int check_hash(struct reader *r)
{
	unsigned char root[HITHER_HASH_BYTES];
	if (hither_sha256(r->start, (size_t)(r->end - r->start), root))
		return hither_fail(r->err, -ENOMEM, "manifest: no memory");
	if (memcmp(root, r->end, sizeof root) != 0)
		return hither_fail(r->err, -EBADMSG,
		                   "manifest: it is cut off or damaged (its hash does not match): "
		                   "fetch or index it again");
	hither_sha256_text(root, r->t->hash);
	return 0;
}

static int take_base(struct reader *r)
{
	text_room base;
	int code = take_text(r, base, 0, TREE_PATH_MOST);
	if (code)
		return code;
	r->t->base = strdup(base);
	if (!r->t->base)
		return hither_fail(r->err, -ENOMEM, "manifest: no memory");
	return tree_base_good(base) ? 0 : bad(r, "a base that is no folder below the manifest's");
}

/*
 * Paths share their beginnings, so that all of them could be far longer than the manifest: only two
 * are kept at a time.
 */
static int take_entries(struct reader *r, struct tree_builder *b, uint32_t count)
{
	text_room paths[2], target;
	const char *before = "";
	int code = 0;
	for (uint32_t i = 0; i < count && !code; i++) {
		struct tree_entry e;
		code = take_entry(r, before, paths[i & 1], target, &e);
		const char *why = code ? NULL : tree_builder_add(b, &e, before);
		if (why)
			code = bad(r, why);
		before = paths[i & 1];
	}
	if (!code && r->t->one_file && count != 1)
		code = bad(r, "a tree of one file without a file");
	return code;
}

static int take_hashes(struct reader *r, uint64_t wanted)
{
	size_t len = (size_t)(r->end - r->at);
	if (wanted != r->t->hash_count || len / HITHER_HASH_BYTES != wanted ||
	    len % HITHER_HASH_BYTES)
		return bad(r, "there are not as many hashes as the sizes want");
	r->t->hashes = malloc(len ? len : 1);
	if (!r->t->hashes)
		return hither_fail(r->err, -ENOMEM, "manifest: no memory");
	memcpy(r->t->hashes, r->at, len);
	return 0;
}

static int take_all(struct reader *r)
{
	uint32_t count = 0;
	struct tree_builder b = {0};
	int code = take_head(r, &count);
	if (!code)
		code = check_hash(r);
	if (!code)
		code = take_base(r);
	if (code)
		return code;
	code = tree_builder_init(&b, r->t, count);
	if (code)
		code = hither_fail(r->err, code, "manifest: no memory for %u entries", count);
	if (!code)
		code = take_entries(r, &b, count);
	if (!code)
		code = take_hashes(r, b.hash_count);
	if (!code && tree_builder_end(&b))
		code = hither_fail(r->err, -ENOMEM, "manifest: no memory");
	tree_builder_finish(&b);
	return code;
}

int tree_parse_any(const void *bytes, size_t len, struct hither_tree **out,
                   struct hither_error *err)
{
	if (len > HITHER_MANIFEST_MOST_BYTES)
		return hither_fail(err, -EFBIG, "manifest: %zu bytes are more than a manifest has",
		                   len);
	struct hither_tree *t = calloc(1, sizeof *t);
	if (!t)
		return hither_fail(err, -ENOMEM, "manifest: no memory");
	const unsigned char *start = bytes;
	struct reader r = {.start = start, .at = start, .end = start + len, .t = t, .err = err};
	int code = take_all(&r);
	if (code)
		hither_tree_destroy(t);
	else
		*out = t;
	return code;
}

int hither_tree_parse(const void *bytes, size_t len, struct hither_tree **out,
                      struct hither_error *err)
{
	struct hither_tree *t = NULL;
	struct tree_follow follow = {0};
	char path[256];
	int code = tree_parse_any(bytes, len, &t, err);
	for (uint32_t i = 0; !code && i < t->node_count; i++)
		if (t->nodes[i].kind == HITHER_TREE_LINK && tree_link_leaves(t, i, &follow))
			code = hither_fail(
			        err, -EINVAL,
			        "manifest: the link %s leads out of the tree, or in circles",
			        hither_tree_path(t, i, path, sizeof path));
	if (code)
		hither_tree_destroy(t);
	else
		*out = t;
	return code;
}
