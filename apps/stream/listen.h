/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket on loopback. */
#ifndef HITHER_STREAM_LISTEN_H
#define HITHER_STREAM_LISTEN_H

#include <hither/error.h>
#include <stdint.h>

enum { LISTEN_TEXT_BYTES = 64 };

/*
 * where: "127.0.0.1:PORT", "[::1]:PORT", "localhost:PORT", or ":PORT" alone, which is the first.
 * *out: the socket; *port: which it got; text: "127.0.0.1:8080". -EINVAL, or bind's -errno.
 */
int listen_loopback(const char *where, int *out, uint16_t *port, char text[LISTEN_TEXT_BYTES],
                    struct hither_error *err);

#endif
