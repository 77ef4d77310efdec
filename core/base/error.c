/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <hither/error.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int hither_fail(struct hither_error *err, int code, const char *fmt, ...)
{
	if (!err)
		return code;
	va_list ap;
	err->code = code;
	err->retry_after_ms = 0;
	va_start(ap, fmt);
	vsnprintf(err->message, sizeof err->message, fmt, ap);
	va_end(ap);
	return code;
}

int hither_error_prefix(struct hither_error *err, const char *fmt, ...)
{
	if (!err)
		return 0;
	char old[sizeof err->message];
	memcpy(old, err->message, sizeof old);
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof err->message)
		snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", old);
	return err->code;
}

int hither_error_fact_len(const char *message)
{
	const char *end = strstr(message, "; ");
	return (int)(end ? (size_t)(end - message) : strlen(message));
}

bool hither_error_is_transient(int code)
{
	switch (-code) {
	case ETIMEDOUT:
	case ECONNRESET:
	case ECONNREFUSED:
	case ECONNABORTED:
	case EPIPE:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
	case ENOTCONN:
	case EAGAIN:
		return true;
	default:
		return false;
	}
}
