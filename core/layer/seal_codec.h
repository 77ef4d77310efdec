/* SPDX-License-Identifier: Apache-2.0 */
/* How the seal layer makes a group small and secret: LZ4 or Zstandard, then AES-256-GCM (GnuTLS).
 */
#ifndef HITHER_LAYER_SEAL_CODEC_H
#define HITHER_LAYER_SEAL_CODEC_H

#include <hither/layer.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SEAL_PROOF_BYTES = 16 };

struct seal_codec;

struct seal_piece {
	uint64_t index;  /* where it is: cannot be moved */
	uint64_t number; /* the nonce: never twice with one codec */
	void *sealed;
	size_t sealed_len;
	bool packed; /* else it would have grown, and is as it was */
};

/* encrypt: by a key that is made now, and forgotten with the codec. -EOPNOTSUPP: built without. */
int seal_codec_create(enum hither_pack pack, bool encrypt, struct seal_codec **out,
                      struct hither_error *err);
void seal_codec_destroy(struct seal_codec *c); /* NULL is fine */
/* Any thread. piece->sealed: room for len bytes; sealed_len and packed are filled in. */
int seal_close(struct seal_codec *c, struct seal_piece *piece, unsigned char *proof,
               const void *plain, size_t len);
/* -EBADMSG: not what was closed. */
int seal_open(struct seal_codec *c, const struct seal_piece *piece, const unsigned char *proof,
              void *plain, size_t len);

#endif
