/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers: backends that wrap a backend. Each takes over `inner` on success: closing the layer
 * closes it. Size, flags and limits are the inner one's, but that what is delayed or rated is not
 * LOCAL any more.
 */
#ifndef HITHER_LAYER_H
#define HITHER_LAYER_H

#include <hither/backend.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Every read, write and flush first waits delay_us (read, write) on the calling thread; cancel
 * ends the wait. */
int hither_layer_delay(struct hither_backend *inner, uint64_t delay_us, struct hither_backend **out,
                       struct hither_error *err);

/** All reads together get bytes_per_second, all writes together as much again (a token bucket
 * each). */
int hither_layer_rate(struct hither_backend *inner, uint64_t bytes_per_second,
                      struct hither_backend **out, struct hither_error *err);

/** One line a call to `stream` (a FILE *), with offset, length, duration in us and result. */
int hither_layer_log(struct hither_backend *inner, void *stream, struct hither_backend **out,
                     struct hither_error *err);

/**
 * Two backends with the same bytes: writes go to both, reads to the first, and to the second where
 * that fails. One whose write or flush failed while the other's did not is out for good, as it has
 * not got the bytes any more; nobody notices, but lost() is called (NULL: not wanted), once, on the
 * thread of that call: number is 0 or 1. Takes over both on success. Of the two sizes and limits
 * the smaller count. Its version is "".
 */
int hither_layer_mirror(struct hither_backend *first, struct hither_backend *second,
                        void (*lost)(void *user, unsigned number, const struct hither_error *why),
                        void *user, struct hither_backend **out, struct hither_error *err);

/**
 * What was never written through this layer reads as zeros, at once, without asking inner; so does
 * what was discarded. For space that is one's own, whatever was there before. A bit for each 4 KiB;
 * its extents tell the zeros as holes.
 */
int hither_layer_fresh(struct hither_backend *inner, struct hither_backend **out,
                       struct hither_error *err);

/** A piece that is hashed as one, or a gap that nobody hashes. */
struct hither_verify_unit {
	uint64_t offset, len;      /* len is not 0 */
	const unsigned char *hash; /* SHA-256, 32 bytes; NULL: a gap, passed on as it is */
};
/** What is to be verified: units that together cover the backend. Any thread calls these. */
struct hither_verify_units {
	void *user;
	uint64_t most_bytes; /* the longest unit with a hash */
	/* The unit that byte `offset` is in. */
	void (*find)(void *user, uint64_t offset, struct hither_verify_unit *out);
	/* What messages call the place, as "maps/e1m1.bsp at 65536". */
	void (*name)(void *user, uint64_t offset, char *out, size_t size);
	void (*destroy)(void *user); /* called when the layer is closed; NULL: nothing to do */
};
/**
 * Reads only; each unit is checked as a whole before any of it is passed on. One that is wrong is
 * read once more, alone; then the read fails with -EIO. units is copied, its user is the layer's on
 * success.
 */
int hither_layer_verify(struct hither_backend *inner, const struct hither_verify_units *units,
                        struct hither_backend **out, struct hither_error *err);

enum hither_pack {
	HITHER_PACK_NONE,
	HITHER_PACK_LZ4,
	HITHER_PACK_ZSTD, /* level 1 */
};

/**
 * As the fresh layer, and what is written is compressed, encrypted (AES-256-GCM, a key that only
 * this process has), or both, before inner gets it, in groups of 64 KiB. What does not come back as
 * it was stored last, whole and in its place, is -EIO; without encryption a checksum tells mere
 * accidents. Needs 48 bytes of memory for each group. -EOPNOTSUPP: built without LZ4, Zstandard and
 * GnuTLS.
 */
int hither_layer_seal(struct hither_backend *inner, enum hither_pack pack, bool encrypt,
                      struct hither_backend **out, struct hither_error *err);

enum hither_fault_op {
	HITHER_FAULT_READ,
	HITHER_FAULT_WRITE,
	HITHER_FAULT_FLUSH,
	HITHER_FAULT_VERSION,
	HITHER_FAULT_OP_COUNT,
};

/** Fails on demand. */
int hither_layer_fault(struct hither_backend *inner, struct hither_backend **out,
                       struct hither_error *err);
/**
 * From now on: let `skip` calls of op pass, then fail `count` of them with `code`. count 0 disarms.
 * A read that fails first delivers `partial_bytes` (at most its length) of good bytes; a write that
 * fails first writes as many. Any thread.
 */
void hither_layer_fault_arm(struct hither_backend *b, enum hither_fault_op op, uint64_t skip,
                            uint64_t count, int code, uint64_t partial_bytes);
/** Calls of op since the layer was made. */
uint64_t hither_layer_fault_calls(struct hither_backend *b, enum hither_fault_op op);
/** What ops->version answers from now on, instead of the inner backend's; NULL: the inner one's. */
void hither_layer_fault_version(struct hither_backend *b, const char *version);

#ifdef __cplusplus
}
#endif
#endif
