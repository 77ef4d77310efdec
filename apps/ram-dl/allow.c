/* SPDX-License-Identifier: Apache-2.0 */
#include "allow.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}; /* ::ffff:0:0/96, RFC 4291 */

int allow_add(struct allow *list, const char *text, struct hither_error *err)
{
	char address[64];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	if (list->count == ALLOW_MAX)
		return hither_fail(err, -ENOSPC, "at most %d networks", ALLOW_MAX);
	uint8_t *out = list->nets[list->count].address;
	if (len >= sizeof address)
		return hither_fail(err, -EINVAL, "%s is no address", text);
	memcpy(address, text, len);
	address[len] = 0;
	unsigned long most = 128, bits;
	if (inet_pton(AF_INET, address, out + 12) == 1) {
		memcpy(out, mapped, sizeof mapped);
		most = 32;
	} else if (inet_pton(AF_INET6, address, out) != 1) {
		return hither_fail(err, -EINVAL, "%s is no address, or network ADDRESS/BITS", text);
	}
	bits = most;
	if (slash) {
		char *end;
		bits = strtoul(slash + 1, &end, 10);
		if (slash[1] < '0' || slash[1] > '9' || *end || bits > most)
			return hither_fail(err, -EINVAL, "%s: a network has 0 to %lu bits", text,
			                   most);
	}
	list->nets[list->count++].bits = (unsigned)(bits + 128 - most);
	return 0;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	if (memcmp(a, b, bits / 8))
		return false;
	return bits % 8 == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8) == 0;
}

bool allow_has(const struct allow *list, const struct sockaddr_storage *peer)
{
	uint8_t address[16];
	if (peer->ss_family == AF_INET6) {
		struct sockaddr_in6 v6;
		memcpy(&v6, peer, sizeof v6);
		memcpy(address, &v6.sin6_addr, sizeof address);
	} else if (peer->ss_family == AF_INET) {
		struct sockaddr_in v4;
		memcpy(&v4, peer, sizeof v4);
		memcpy(address, mapped, sizeof mapped);
		memcpy(address + 12, &v4.sin_addr, 4);
	} else {
		return true;
	}
	for (size_t i = 0; i < list->count; i++)
		if (same_bits(address, list->nets[i].address, list->nets[i].bits))
			return true;
	return !list->count;
}
