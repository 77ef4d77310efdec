/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed, encrypted, or both, before anything leaves. Groups of 64 KiB are sealed each for
 * itself, and stored at the beginning of their place:
 *
 *     inner   |ssssssss        |sssssssssssss   |                |
 *              group 0          group 1          group 2: never written, reads as zeros
 *
 * How long each is, and what proves that it is the one that was written last, is kept in memory:
 * the space is this process's own, for as long as it lives, and so is the key. So nothing grows,
 * and whoever keeps the bytes cannot change them, nor give back older ones, without being noticed.
 */
#include "base/cleanup.h"
#include "layer/layer.h"
#include "layer/seal_codec.h"

#include <errno.h>
#include <hither/layer.h>
#include <string.h>

enum { GROUP_BYTES = 64 << 10, LOCKS = 64 };

struct seal_group {
	uint64_t number; /* of the sealing: never the same twice; 0: never written */
	uint32_t len;
	bool packed;
	unsigned char proof[SEAL_PROOF_BYTES];
};

struct seal_layer {
	struct hither_layer layer; /* first: freed as one */
	struct seal_codec *codec;
	_Atomic uint64_t next_number;
	pthread_rwlock_t
	        locks[LOCKS]; /* of the groups whose index ends so: entry and bytes agree */
	struct seal_group *groups;
	uint64_t group_count;
};

static struct seal_layer *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct seal_layer, layer.base);
}

static pthread_rwlock_t *lock_of(struct seal_layer *s, uint64_t group)
{
	return &s->locks[group % LOCKS];
}

static size_t group_len(const struct seal_layer *s, uint64_t group)
{
	uint64_t left = s->layer.base.size_bytes - group * GROUP_BYTES;
	return left < GROUP_BYTES ? (size_t)left : GROUP_BYTES;
}

/* --- reading --- */

static int open_group(struct seal_layer *s, uint64_t group, void *sealed, void *plain,
                      struct hither_error *err)
{
	size_t len = group_len(s, group);
	int r = 0;
	pthread_rwlock_rdlock(lock_of(s, group));
	const struct seal_group g = s->groups[group];
	if (g.number)
		r = hither_backend_read_at(s->layer.inner, sealed, g.len, group * GROUP_BYTES, err);
	pthread_rwlock_unlock(lock_of(s, group));
	if (!g.number)
		memset(plain, 0, len);
	if (r || !g.number)
		return r;
	const struct seal_piece piece = {.index = group,
	                                 .number = g.number,
	                                 .sealed = sealed,
	                                 .sealed_len = g.len,
	                                 .packed = g.packed};
	if (seal_open(s->codec, &piece, g.proof, plain, len))
		return hither_fail(err, -EIO,
		                   "seal: the bytes at %llu are not those that were stored there",
		                   (unsigned long long)(group * GROUP_BYTES));
	return 0;
}

static int seal_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	struct seal_layer *s = self(b);
	int r = hither_layer_check(&s->layer, err);
	HITHER_FREE char *buf = malloc(2 * (size_t)GROUP_BYTES);
	if (!r && !buf)
		r = hither_fail(err, -ENOMEM, "seal: no memory to read");
	for (uint64_t done = 0; done < len && !r; done += GROUP_BYTES) {
		uint64_t group = (offset + done) / GROUP_BYTES;
		r = open_group(s, group, buf, buf + GROUP_BYTES, err);
		if (!r)
			r = sink->take(sink, buf + GROUP_BYTES, group_len(s, group));
	}
	return r;
}

/* --- writing --- */

static int close_group(struct seal_layer *s, uint64_t group, const void *plain, void *sealed,
                       struct hither_error *err)
{
	struct seal_group fresh = {.number = ++s->next_number};
	struct seal_piece piece = {.index = group, .number = fresh.number, .sealed = sealed};
	if (seal_close(s->codec, &piece, fresh.proof, plain, group_len(s, group)))
		return hither_fail(err, -EIO, "seal: encryption failed");
	fresh.len = (uint32_t)piece.sealed_len;
	fresh.packed = piece.packed;
	pthread_rwlock_wrlock(lock_of(s, group));
	int r = hither_backend_write_at(s->layer.inner, sealed, fresh.len, group * GROUP_BYTES,
	                                err);
	if (!r)
		s->groups[group] = fresh;
	pthread_rwlock_unlock(lock_of(s, group));
	return r;
}

static int seal_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                         struct hither_error *err)
{
	struct seal_layer *s = self(b);
	int r = hither_layer_check(&s->layer, err);
	HITHER_FREE char *sealed = malloc(GROUP_BYTES);
	if (!r && !sealed)
		r = hither_fail(err, -ENOMEM, "seal: no memory to write");
	for (size_t done = 0; done < len && !r; done += GROUP_BYTES)
		r = close_group(s, (offset + done) / GROUP_BYTES, (const char *)buf + done, sealed,
		                err);
	return r;
}

/* --- the rest --- */

static uint64_t seal_extent(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole)
{
	struct seal_layer *s = self(b);
	uint64_t group = offset / GROUP_BYTES, end = offset + max;
	for (bool first = true;; first = false, group++) {
		if (!first && group * GROUP_BYTES >= end)
			return max;
		pthread_rwlock_rdlock(lock_of(s, group));
		bool is = !s->groups[group].number;
		pthread_rwlock_unlock(lock_of(s, group));
		if (first)
			*hole = is;
		else if (is != *hole)
			return group * GROUP_BYTES - offset;
	}
}

static void seal_discard(struct hither_backend *b, uint64_t offset, uint64_t len)
{
	struct seal_layer *s = self(b);
	for (uint64_t done = 0; done < len; done += GROUP_BYTES) {
		uint64_t group = (offset + done) / GROUP_BYTES;
		pthread_rwlock_wrlock(lock_of(s, group));
		s->groups[group] = (struct seal_group){0};
		pthread_rwlock_unlock(lock_of(s, group));
	}
}

static void destroy(struct seal_layer *s)
{
	seal_codec_destroy(s->codec);
	for (unsigned i = 0; i < LOCKS; i++)
		pthread_rwlock_destroy(&s->locks[i]);
	free(s->groups);
	free(s);
}

static void seal_close_layer(struct hither_backend *b)
{
	hither_layer_finish(&self(b)->layer);
	destroy(self(b));
}

static const struct hither_backend_ops seal_ops = {
        .name = "seal",
        .read = seal_read,
        .write_at = seal_write_at,
        .flush = hither_layer_flush,
        .cancel = hither_layer_cancel,
        .extent = seal_extent,
        .discard = seal_discard,
        .close = seal_close_layer,
};

int hither_layer_seal(struct hither_backend *inner, enum hither_pack pack, bool encrypt,
                      struct hither_backend **out, struct hither_error *err)
{
	struct seal_layer *s = calloc(1, sizeof *s);
	if (!s)
		return hither_fail(err, -ENOMEM, "seal: no memory");
	for (unsigned i = 0; i < LOCKS; i++)
		pthread_rwlock_init(&s->locks[i], NULL);
	s->group_count = inner->size_bytes / GROUP_BYTES + 1;
	s->groups = calloc(s->group_count, sizeof *s->groups);
	int r = s->groups ? seal_codec_create(pack, encrypt, &s->codec, err)
	                  : hither_fail(err, -ENOMEM, "seal: no memory");
	if (!r)
		r = hither_layer_init(&s->layer, &seal_ops, inner, err);
	if (r) {
		destroy(s);
		return r;
	}
	struct hither_backend *base = &s->layer.base;
	base->flags &= ~(uint32_t)HITHER_BACKEND_SPARSE; /* sealed zeros are as good as any bytes */
	hither_layer_changes(&s->layer);
	if (base->align_bytes < GROUP_BYTES)
		base->align_bytes = GROUP_BYTES;
	/* As many whole groups as inner takes at once. */
	if (base->max_request_bytes && base->max_request_bytes < GROUP_BYTES)
		base->max_request_bytes = GROUP_BYTES;
	*out = base;
	return 0;
}
