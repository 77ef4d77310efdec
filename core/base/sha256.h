/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256, by libcrypto, which uses what the processor has for it. */
#ifndef HITHER_BASE_SHA256_H
#define HITHER_BASE_SHA256_H

#include <stddef.h>

enum { HITHER_SHA256_BYTES = 32, HITHER_SHA256_TEXT = 65 };

/* Any thread. 0; -ENOMEM: libcrypto could not. */
int hither_sha256(const void *bytes, size_t len, unsigned char out[HITHER_SHA256_BYTES]);
/* As 64 digits and a final 0. */
void hither_sha256_text(const unsigned char hash[HITHER_SHA256_BYTES],
                        char out[HITHER_SHA256_TEXT]);

#endif
