/* SPDX-License-Identifier: Apache-2.0 */
/* URLs, as programs that show or store them need to see them. */
#ifndef HITHER_URL_H
#define HITHER_URL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Length of url's scheme, [a-z][a-z0-9+.-]* before the first ':'; 0 where there is none, which
 * makes it a bare path.
 */
size_t hither_url_scheme(const char *url);

/**
 * Copy url to out (size bytes with the final 0, cut if need be) fit for messages and logs: the
 * password of "user:password@" and the values of options that carry a secret (token, signature,
 * sig, password ...) become "***". out must not overlap url.
 */
void hither_url_redact(const char *url, char *out, size_t size);

#ifdef __cplusplus
}
#endif
#endif
