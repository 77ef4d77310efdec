/* SPDX-License-Identifier: Apache-2.0 */
#include "layer/seal_codec.h"

#include "base/cleanup.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <lz4.h>
#include <string.h>
#include <zstd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { KEY_BYTES = 32, NONCE_BYTES = 12, ZSTD_LEVEL = 1 };

struct seal_codec {
	enum hither_pack pack;
	bool encrypt;
	unsigned char key[KEY_BYTES];
	uint64_t seed; /* of the checksum, where nothing is encrypted */
};

int seal_codec_create(enum hither_pack pack, bool encrypt, struct seal_codec **out,
                      struct hither_error *err)
{
	struct seal_codec *c = calloc(1, sizeof *c);
	if (!c)
		return hither_fail(err, -ENOMEM, "seal: no memory");
	c->pack = pack;
	c->encrypt = encrypt;
	int r = gnutls_rnd(GNUTLS_RND_NONCE, &c->seed, sizeof c->seed);
	if (!r && encrypt)
		r = gnutls_rnd(GNUTLS_RND_KEY, c->key, sizeof c->key);
	if (r) {
		free(c);
		return hither_fail(err, -EIO, "seal: no key: %s", gnutls_strerror(r));
	}
	*out = c;
	return 0;
}

void seal_codec_destroy(struct seal_codec *c)
{
	if (c)
		gnutls_memset(c->key, 0, sizeof c->key);
	free(c);
}

/* 0: it does not get smaller. */
static size_t pack_bytes(const struct seal_codec *c, void *to, const void *from, size_t len)
{
	if (c->pack == HITHER_PACK_LZ4) {
		int n = LZ4_compress_default(from, to, (int)len, (int)len - 1);
		return n > 0 ? (size_t)n : 0;
	}
	if (c->pack == HITHER_PACK_ZSTD) {
		size_t n = ZSTD_compress(to, len - 1, from, len, ZSTD_LEVEL);
		return ZSTD_isError(n) ? 0 : n;
	}
	return 0;
}

static int unpack_bytes(const struct seal_codec *c, void *to, size_t len, const void *from,
                        size_t packed)
{
	if (c->pack == HITHER_PACK_LZ4)
		return LZ4_decompress_safe(from, to, (int)packed, (int)len) == (int)len ? 0
		                                                                        : -EBADMSG;
	return ZSTD_decompress(to, len, from, packed) == len ? 0 : -EBADMSG;
}

/* Where it is, and whether it was packed, cannot be changed either. */
struct context {
	uint64_t index, packed;
};

/* A handle is one thread's at a time: making one takes a microsecond. */
static int cipher_of(struct seal_codec *c, gnutls_aead_cipher_hd_t *out)
{
	return gnutls_aead_cipher_init(out, GNUTLS_CIPHER_AES_256_GCM,
	                               &(gnutls_datum_t){c->key, sizeof c->key});
}

static void nonce_of(unsigned char nonce[NONCE_BYTES], uint64_t number)
{
	memset(nonce, 0, NONCE_BYTES);
	memcpy(nonce, &number, sizeof number);
}

static int encrypt(struct seal_codec *c, struct seal_piece *piece, unsigned char *proof)
{
	unsigned char nonce[NONCE_BYTES];
	const struct context context = {piece->index, piece->packed};
	giovec_t aad = {(void *)&context, sizeof context},
	         body = {piece->sealed, piece->sealed_len};
	size_t proof_len = SEAL_PROOF_BYTES;
	gnutls_aead_cipher_hd_t cipher;
	nonce_of(nonce, piece->number);
	if (cipher_of(c, &cipher))
		return -EIO;
	int r = gnutls_aead_cipher_encryptv2(cipher, nonce, sizeof nonce, &aad, 1, &body, 1, proof,
	                                     &proof_len);
	gnutls_aead_cipher_deinit(cipher);
	return r ? -EIO : 0;
}

static int decrypt(struct seal_codec *c, const struct seal_piece *piece, const unsigned char *proof)
{
	unsigned char nonce[NONCE_BYTES], expected[SEAL_PROOF_BYTES];
	const struct context context = {piece->index, piece->packed};
	giovec_t aad = {(void *)&context, sizeof context},
	         body = {piece->sealed, piece->sealed_len};
	gnutls_aead_cipher_hd_t cipher;
	nonce_of(nonce, piece->number);
	memcpy(expected, proof, sizeof expected);
	if (cipher_of(c, &cipher))
		return -EBADMSG;
	int r = gnutls_aead_cipher_decryptv2(cipher, nonce, sizeof nonce, &aad, 1, &body, 1,
	                                     expected, sizeof expected);
	gnutls_aead_cipher_deinit(cipher);
	return r ? -EBADMSG : 0;
}

static void checksum(const struct seal_codec *c, const struct seal_piece *piece,
                     unsigned char proof[SEAL_PROOF_BYTES])
{
	XXH128_hash_t h =
	        XXH3_128bits_withSeed(piece->sealed, piece->sealed_len, c->seed ^ piece->number);
	memcpy(proof, &h, SEAL_PROOF_BYTES);
}

int seal_close(struct seal_codec *c, struct seal_piece *piece, unsigned char *proof,
               const void *plain, size_t len)
{
	piece->sealed_len = len > 1 ? pack_bytes(c, piece->sealed, plain, len) : 0;
	piece->packed = piece->sealed_len > 0;
	if (!piece->packed) {
		memcpy(piece->sealed, plain, len);
		piece->sealed_len = len;
	}
	if (c->encrypt)
		return encrypt(c, piece, proof);
	checksum(c, piece, proof);
	return 0;
}

int seal_open(struct seal_codec *c, const struct seal_piece *piece, const unsigned char *proof,
              void *plain, size_t len)
{
	unsigned char now[SEAL_PROOF_BYTES];
	if (c->encrypt) {
		int r = decrypt(c, piece, proof);
		if (r)
			return r;
	} else {
		checksum(c, piece, now);
		if (memcmp(now, proof, sizeof now))
			return -EBADMSG;
	}
	if (piece->packed)
		return unpack_bytes(c, plain, len, piece->sealed, piece->sealed_len);
	if (piece->sealed_len != len)
		return -EBADMSG;
	memcpy(plain, piece->sealed, len);
	return 0;
}
