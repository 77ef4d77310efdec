/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/tree_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void tree_bytes_add(struct tree_bytes *b, const void *bytes, size_t len)
{
	if (len > b->size - b->len && !b->failed) {
		size_t size = b->size ? b->size * 2 : 4096;
		while (size - b->len < len)
			size *= 2;
		void *grown = realloc(b->bytes, size);
		b->failed = !grown;
		if (grown) {
			b->bytes = grown;
			b->size = size;
		}
	}
	if (b->failed || !len)
		return;
	memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

void tree_bytes_varint(struct tree_bytes *b, uint64_t value)
{
	unsigned char text[TREE_VARINT_MOST];
	size_t n = 0;
	for (; value >= 0x80; value >>= 7)
		text[n++] = (unsigned char)(value | 0x80);
	text[n++] = (unsigned char)value;
	tree_bytes_add(b, text, n);
}

void tree_bytes_text(struct tree_bytes *b, const char *text, size_t len)
{
	tree_bytes_varint(b, len);
	tree_bytes_add(b, text, len);
}

void tree_bytes_finish(struct tree_bytes *b)
{
	free(b->bytes);
	*b = (struct tree_bytes){0};
}

static void add32(struct tree_bytes *b, uint32_t value)
{
	value = htole32(value);
	tree_bytes_add(b, &value, sizeof value);
}

static size_t common(const char *a, const char *b)
{
	size_t n = 0;
	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

static void add_entry(struct tree_bytes *out, const struct tree_entry *e, const char *before)
{
	size_t shared = common(before, e->path);
	uint64_t time = (uint64_t)e->mtime_ns;
	tree_bytes_add(out, &e->kind, 1);
	tree_bytes_varint(out, e->mode);
	tree_bytes_varint(out, time << 1 ^ (e->mtime_ns < 0 ? UINT64_MAX : 0));
	tree_bytes_varint(out, shared);
	tree_bytes_text(out, e->path + shared, strlen(e->path) - shared);
	if (e->kind == HITHER_TREE_FILE)
		tree_bytes_varint(out, e->size);
	if (e->kind == HITHER_TREE_LINK)
		tree_bytes_text(out, e->target, strlen(e->target));
}

int tree_write(struct tree_bytes *out, uint32_t chunk_bytes, uint32_t flags, const char *base,
               const struct tree_entry *entries, uint32_t count, const unsigned char *hashes,
               uint64_t hash_count)
{
	unsigned char root[HITHER_HASH_BYTES];
	uint64_t hashes_le = htole64(hash_count);
	tree_bytes_add(out, TREE_MAGIC, TREE_MAGIC_BYTES);
	add32(out, TREE_VERSION);
	add32(out, flags);
	add32(out, chunk_bytes);
	add32(out, count);
	tree_bytes_add(out, &hashes_le, sizeof hashes_le);
	tree_bytes_text(out, base, strlen(base));
	for (uint32_t i = 0; i < count; i++)
		add_entry(out, &entries[i], i ? entries[i - 1].path : "");
	tree_bytes_add(out, hashes, hash_count * HITHER_HASH_BYTES);
	if (out->failed || hither_sha256(out->bytes, out->len, root))
		return -ENOMEM;
	tree_bytes_add(out, root, sizeof root);
	return out->failed ? -ENOMEM : 0;
}
