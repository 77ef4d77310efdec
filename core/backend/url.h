/* SPDX-License-Identifier: Apache-2.0 */
/* What backends need to know of URLs: which scheme, which path, which option, and what not to
 * print. */
#ifndef HITHER_BACKEND_URL_H
#define HITHER_BACKEND_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Length of url's scheme, [a-z][a-z0-9+.-]* before the first ':'; 0 where there is none, which
 * makes it a bare path.
 */
size_t hither_url_scheme(const char *url);

/*
 * Copy url to out (size bytes with the final 0, cut if need be) fit for messages and logs: the
 * password of "user:password@" and the values of options that carry a secret (token, signature,
 * sig, password
 * ...) become "***". out must not overlap url.
 */
void hither_url_redact(const char *url, char *out, size_t size);

/*
 * The local path that url names: "file:///a%20b", "file://localhost/a", "file:a" (percent-decoded),
 * or a bare path (literal). With `query`, a '?' of a URL ends the path. 0; -ENAMETOOLONG; -EINVAL:
 * empty, another host, or a bad %-escape.
 */
int hither_url_path(const char *url, bool query, char *out, size_t size);

/*
 * The percent-decoded value of option `name` in url's query. 0; -ENOENT: not there; -ENAMETOOLONG;
 * -EINVAL: a bad %-escape.
 */
int hither_url_option(const char *url, const char *name, char *out, size_t size);

/* "65536", "64K", "3M", "1G", "2T": bytes, suffixes of 1024. 0; -EINVAL; -ERANGE: over 2^63 - 1. */
int hither_parse_bytes(const char *text, uint64_t *out);

#endif
