/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a serving and an attaching process say to each other, on a UNIX socket, both of one machine
 * and one build or a compatible one:
 *
 *     server   struct pass_offer, with the memfd and its own pidfd (SCM_RIGHTS)
 *     client   struct pass_accept, with its userfaultfd, the region registered
 *
 * Then nothing; that the socket is closed tells the other side that all is over, and so does the
 * server's pidfd: a child of the server may have the socket after its death. The client keeps
 * its userfaultfd open, too: when the last one is closed the kernel lets waiting readers go on, to
 * find zeros. So the client takes the memory away first.
 */
#ifndef HITHER_SLICE_PASS_H
#define HITHER_SLICE_PASS_H

#include <stddef.h>
#include <stdint.h>

#define PASS_MAGIC UINT64_C(0x3230534c48544948) /* "HITHLS02" */

struct pass_offer {
	uint64_t magic;
	uint64_t offset, len; /* of the memfd; whole pages */
	uint64_t size_bytes;
};
struct pass_accept {
	uint64_t magic;
	uint64_t address; /* of the region, in the client */
};

enum { PASS_MEMFD, PASS_PIDFD, PASS_OFFER_FDS, PASS_FDS_MAX = PASS_OFFER_FDS };

/* With exactly `count` descriptors. 0 or -errno; -EPROTO where the other side went away or sent
 * something else: all of fds are -1 then. */
int pass_send(int socket, const void *msg, size_t len, const int *fds, size_t count);
int pass_receive(int socket, void *msg, size_t len, int *fds, size_t count);

#endif
