/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON, written into a buffer that grows, and read back from flat objects: all that the daemon and
 * the commands say to each other.
 */
#ifndef HITHER_APPS_JSON_H
#define HITHER_APPS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise. Once memory has run out, `failed` stays set and nothing more is added. */
struct json {
	char *text; /* NUL-terminated once anything was added; json_finish frees it */
	size_t len, size;
	bool failed;
	bool comma; /* the next value needs one before it */
};

void json_finish(struct json *j);
#define AUTO_JSON __attribute__((cleanup(json_finish)))

/* key NULL: an element of an array, or the whole. */
void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end_object(struct json *j);
void json_end_array(struct json *j);
/* Bytes that are not UTF-8 become U+FFFD, so that the result is always JSON. NULL: null. */
void json_string(struct json *j, const char *key, const char *value);
void json_uint(struct json *j, const char *key, uint64_t value);
void json_int(struct json *j, const char *key, int64_t value);
void json_bool(struct json *j, const char *key, bool value);
/* A value that is JSON already. */
void json_raw(struct json *j, const char *key, const char *text);
/* Text between values, as a line's end; no comma, no quoting. */
void json_text(struct json *j, const char *text);

/* The value of key in a flat object (no value is an object or array), as json writes them. */
bool json_get_string(const char *object, const char *key, char *out, size_t size);
/* 0 where there is none. */
uint64_t json_get_uint(const char *object, const char *key);
/* NaN where there is none. */
double json_get_double(const char *object, const char *key);
int64_t json_get_int(const char *object, const char *key);
bool json_get_bool(const char *object, const char *key);

#endif
