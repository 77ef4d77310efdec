/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of addresses that may connect. */
#ifndef HITHER_APP_RAM_DL_ALLOW_H
#define HITHER_APP_RAM_DL_ALLOW_H

#include <hither/error.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { ALLOW_MAX = 64 };

struct allow {
	size_t count;
	struct {
		uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
		unsigned bits;       /* of these */
	} nets[ALLOW_MAX];
};

/* Add "192.0.2.7", "192.0.2.0/24", "2001:db8::/32". -EINVAL, -ENOSPC. */
int allow_add(struct allow *list, const char *text, struct hither_error *err);
/* An empty list allows everybody. What is no IP address (a UNIX socket) has permissions of its own,
 * and is allowed. */
bool allow_has(const struct allow *list, const struct sockaddr_storage *peer);

#endif
