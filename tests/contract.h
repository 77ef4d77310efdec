/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What <hither/backend.h> promises, as a test that runs over any backend or stack of layers. It
 * opens the same resource many times. The resource should be small, up to a few MiB.
 */
#ifndef HITHER_TESTS_CONTRACT_H
#define HITHER_TESTS_CONTRACT_H

#include <hither/backend.h>

struct contract_subject {
	const char *name; /* printed */
	/* Open the resource; the test closes it. user is this struct's. */
	int (*open)(void *user, bool writable, struct hither_backend **out,
	            struct hither_error *err);
	void *user;
	bool writable;  /* may be written; what it has before does not matter */
	bool exclusive; /* opened once at a time: a tape */
	bool keeps;     /* what was written is there when it is opened again */
	/* What the resource has, if known, else NULL. Only where it is not writable. */
	const void *content;
	size_t content_len;
};

/* Returns when all holds; else says what does not, and aborts. */
void contract_check(const struct contract_subject *subject);

#endif
