/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <hither/error.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names come from strangers: what they have in them must not steer a terminal, or end the line. */
static void make_one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

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
	make_one_line(err->message);
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
	make_one_line(err->message);
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
