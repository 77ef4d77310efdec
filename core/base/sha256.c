/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sha256.h"

#include <errno.h>
#include <openssl/evp.h>

int hither_sha256(const void *bytes, size_t len, unsigned char out[HITHER_SHA256_BYTES])
{
	return EVP_Digest(bytes, len, out, NULL, EVP_sha256(), NULL) ? 0 : -ENOMEM;
}

void hither_sha256_text(const unsigned char hash[HITHER_SHA256_BYTES], char out[HITHER_SHA256_TEXT])
{
	static const char digits[] = "0123456789abcdef";
	for (int i = 0; i < HITHER_SHA256_BYTES; i++) {
		out[2 * i] = digits[hash[i] >> 4];
		out[2 * i + 1] = digits[hash[i] & 15];
	}
	out[2 * HITHER_SHA256_BYTES] = 0;
}
