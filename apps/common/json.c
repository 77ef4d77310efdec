/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "util.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void json_finish(struct json *j)
{
	free(j->text);
	*j = (struct json){0};
}

static void add(struct json *j, const char *bytes, size_t len)
{
	if (j->failed)
		return;
	if (j->size - j->len <= len) {
		size_t size = j->size * 2 > j->len + len + 1 ? j->size * 2 : j->len + len + 256;
		char *text = realloc(j->text, size);
		if (!text) {
			j->failed = true;
			return;
		}
		j->text = text;
		j->size = size;
	}
	memcpy(j->text + j->len, bytes, len);
	j->len += len;
	j->text[j->len] = 0;
}

void json_text(struct json *j, const char *text)
{
	add(j, text, strlen(text));
}

/* The length of the UTF-8 sequence at s; 0 if it is none (too long, a surrogate, cut off ...). */
static size_t utf8_len(const unsigned char *s)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len = s[0] < 0x80                   ? 1
	             : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
	             : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
	             : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
	                                           : 0;
	if (len < 2)
		return len;
	uint32_t code = s[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	return code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : len;
}

static void add_quoted(struct json *j, const char *value)
{
	const unsigned char *s = (const unsigned char *)value;
	add(j, "\"", 1);
	while (*s) {
		size_t len = utf8_len(s);
		char escape[8];
		if (*s == '"' || *s == '\\')
			add(j, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", *s));
		else if (*s == '\n')
			add(j, "\\n", 2);
		else if (*s < 0x20 || *s == 0x7f)
			add(j, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", *s));
		else if (!len)
			add(j, "\xef\xbf\xbd", 3);
		else
			add(j, (const char *)s, len);
		s += len ? len : 1;
	}
	add(j, "\"", 1);
}

static void begin_value(struct json *j, const char *key)
{
	if (j->comma)
		add(j, ",", 1);
	j->comma = true;
	if (key) {
		add_quoted(j, key);
		add(j, ":", 1);
	}
}

void json_object(struct json *j, const char *key)
{
	begin_value(j, key);
	add(j, "{", 1);
	j->comma = false;
}

void json_array(struct json *j, const char *key)
{
	begin_value(j, key);
	add(j, "[", 1);
	j->comma = false;
}

void json_end_object(struct json *j)
{
	add(j, "}", 1);
	j->comma = true;
}

void json_end_array(struct json *j)
{
	add(j, "]", 1);
	j->comma = true;
}

void json_raw(struct json *j, const char *key, const char *text)
{
	begin_value(j, key);
	json_text(j, text);
}

void json_string(struct json *j, const char *key, const char *value)
{
	begin_value(j, key);
	if (value)
		add_quoted(j, value);
	else
		json_text(j, "null");
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
	char text[24];
	snprintf(text, sizeof text, "%" PRIu64, value);
	json_raw(j, key, text);
}

void json_int(struct json *j, const char *key, int64_t value)
{
	char text[24];
	snprintf(text, sizeof text, "%" PRId64, value);
	json_raw(j, key, text);
}

void json_bool(struct json *j, const char *key, bool value)
{
	json_raw(j, key, value ? "true" : "false");
}

/* --- reading --- */

static const char *skip_space(const char *p)
{
	while (isspace((unsigned char)*p))
		p++;
	return p;
}

/* p is after the opening quote; returns what follows the closing one, or NULL. */
static const char *skip_string(const char *p)
{
	for (; *p && *p != '"'; p++)
		if (*p == '\\' && !*++p)
			return NULL;
	return *p ? p + 1 : NULL;
}

static const char *skip_value(const char *p)
{
	if (*p == '"')
		return skip_string(p + 1);
	return p + strcspn(p, ",}");
}

/* Where the value of key begins; NULL: there is none. */
static const char *find(const char *object, const char *key)
{
	size_t key_len = strlen(key);
	const char *p = skip_space(object);
	if (*p++ != '{')
		return NULL;
	for (;;) {
		p = skip_space(p);
		if (*p != '"')
			return NULL;
		const char *name = p + 1;
		p = skip_string(name);
		if (!p)
			return NULL;
		bool match = (size_t)(p - 1 - name) == key_len && !memcmp(name, key, key_len);
		p = skip_space(p);
		if (*p++ != ':')
			return NULL;
		p = skip_space(p);
		if (match)
			return p;
		p = skip_value(p);
		p = p ? skip_space(p) : NULL;
		if (!p || *p++ != ',')
			return NULL;
	}
}

/* One character after a backslash. The writer escapes no code beyond 0x7f. */
static char unescape(const char **p)
{
	unsigned code;
	switch (**p) {
	case 'n':
		return '\n';
	case 'u':
		if (sscanf(*p + 1, "%4x", &code) != 1)
			return '?';
		for (int i = 0; i < 4 && (*p)[1]; i++)
			++*p;
		return code && code < 0x80 ? (char)code : '?';
	default:
		return **p;
	}
}

bool json_get_string(const char *object, const char *key, char *out, size_t size)
{
	const char *p = find(object, key);
	size_t len = 0;
	out[0] = 0;
	if (!p || *p != '"')
		return false;
	for (p++; *p && *p != '"'; p++) {
		char c = *p;
		if (c == '\\' && p[1]) {
			p++;
			c = unescape(&p);
		}
		if (len + 1 >= size)
			return false;
		out[len++] = c;
		out[len] = 0;
	}
	return *p == '"';
}

uint64_t json_get_uint(const char *object, const char *key)
{
	const char *p = find(object, key);
	return p && isdigit((unsigned char)*p) ? strtoull(p, NULL, 10) : 0;
}

int64_t json_get_int(const char *object, const char *key)
{
	const char *p = find(object, key);
	return p && (*p == '-' || isdigit((unsigned char)*p)) ? strtoll(p, NULL, 10) : 0;
}

double json_get_double(const char *object, const char *key)
{
	const char *p = find(object, key);
	return p && (*p == '-' || isdigit((unsigned char)*p)) ? strtod(p, NULL) : NAN;
}

bool json_get_bool(const char *object, const char *key)
{
	const char *p = find(object, key);
	return p && !strncmp(p, "true", 4);
}
