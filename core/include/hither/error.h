/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: a negative errno to branch on, and a struct of the caller's to read. */
#ifndef HITHER_ERROR_H
#define HITHER_ERROR_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What went wrong, in one line. Owned by the caller; every function that takes one accepts NULL.
 * Of fixed size, so that reporting -ENOMEM allocates nothing. Initialise with {0}.
 */
struct hither_error {
	int code;           /* negative errno, 0 while all is well */
	int retry_after_ms; /* what the server asked for (HTTP Retry-After); 0: nothing */
	char message[384];  /* who, doing what, to which thing, the answer; and the way out */
};

/** Fill err, if it is not NULL, and return code, so that failing is one line. Control characters
 * in what is formatted become '?'. */
int hither_fail(struct hither_error *err, int code, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

/** Put "prefix: " in front of err's message, if err is not NULL. Returns err->code (0 for NULL). */
int hither_error_prefix(struct hither_error *err, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

/**
 * How much of a message says what went wrong, without the way out that may follow it: for "%.*s" in
 * a message that has a better one.
 */
int hither_error_fact_len(const char *message);

/**
 * Is this -errno one that may go away by itself (a lost connection, a busy server, a time-out)?
 * Transient: ETIMEDOUT ECONNRESET ECONNREFUSED ECONNABORTED EPIPE EHOSTUNREACH ENETUNREACH ENETDOWN
 * ENOTCONN EAGAIN. Whatever else is final: the same call would fail again.
 */
bool hither_error_is_transient(int code);

#ifdef __cplusplus
}
#endif
#endif
