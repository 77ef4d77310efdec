/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who uses a server's memory. NBD lets everybody in, and a server of memory that was restarted
 * looks like the old one: either would give a program bytes that it has not written. So whoever
 * pages to a server says so in its first page, which is nobody else's: `ram-dl run` leaves its
 * first LEASE_GRAIN alone, and of a swap area the kernel looks at the page only when it is
 * attached. The record lies where a boot loader would be: in front of the header of a swap area.
 *
 *     0         512      1024                4096
 *     | nothing | record | header of a swap area |
 *
 * A new user asks for the record; each connection that is made later must find it again (see
 * hither_backend_options.witness).
 */
#ifndef RAM_DL_CLAIM_H
#define RAM_DL_CLAIM_H

#include <hither/backend.h>

enum {
	CLAIM_PAGE = 4096,
	CLAIM_OFFSET = 512,
	CLAIM_BYTES = 512,
	CLAIM_ID_BYTES = 16,
	CLAIM_WITNESS_BYTES = 16 + CLAIM_ID_BYTES,
};

/* Random; the same on both servers of a mirror. */
int claim_make_id(unsigned char id[CLAIM_ID_BYTES], struct hither_error *err);
/* What the record begins with. */
void claim_witness(const unsigned char id[CLAIM_ID_BYTES], unsigned char out[CLAIM_WITNESS_BYTES]);

/*
 * Say that this process uses b from now on, for "run" or "swap". Blocks for three round trips.
 * -EBUSY: another process does, or did and has not said that it has ended. -EEXIST: there is
 * something else than what ram-dl left. force: nevertheless, unless it is a process of this machine
 * that lives.
 */
int claim_take(struct hither_backend *b, const char *what, bool force,
               const unsigned char id[CLAIM_ID_BYTES], struct hither_error *err);
/* Nobody uses url any more, if it is still ours. Blocks for seconds at most; a server that is gone
 * forgets by itself. */
void claim_release(const char *url, const struct hither_backend_options *options,
                   const unsigned char id[CLAIM_ID_BYTES]);

/* "ram-dl run of host here, process 17, since 2026-11-28 17:40"; false: nobody uses it. */
bool claim_describe(const char page[CLAIM_PAGE], char *text, size_t size);

#endif
