/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The profile's format, as hither/profile.h tells it. The reader takes bytes as they come and keeps
 * one line, so that a file of any size costs no more than its entries.
 */
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/profile.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAGIC "hither-profile"

struct parser {
	struct hither_profile profile;
	size_t room; /* entries there is memory for */
	bool has_magic, has_size;
	uint64_t line_number;     /* of `line`, from 1 */
	uint64_t line_byte, byte; /* where it starts, and where the input is */
	size_t line_len;
	char line[HITHER_PROFILE_LINE_BYTES];
	struct hither_error *err;
};

static int reject(const struct parser *p, const char *why)
{
	return hither_fail(p->err, -EINVAL, "line %" PRIu64 " (byte %" PRIu64 "): %s",
	                   p->line_number, p->line_byte, why);
}

static void skip_blanks(const char **at)
{
	while (**at == ' ' || **at == '\t')
		++*at;
}

/* A decimal number and the blanks after it. False: there is none, or it does not fit. */
static bool take_number(const char **at, uint64_t *out)
{
	const char *s = *at;
	uint64_t n = 0;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*s - '0'), &n))
			return false;
	}
	if (s == *at || (*s && *s != ' ' && *s != '\t'))
		return false;
	*at = s;
	skip_blanks(at);
	*out = n;
	return true;
}

/* Is the first word of the line this one? Then *at is what follows it. */
static bool take_word(const char **at, const char *word)
{
	size_t n = strlen(word);
	if (strncmp(*at, word, n) != 0 || ((*at)[n] && (*at)[n] != ' ' && (*at)[n] != '\t'))
		return false;
	*at += n;
	skip_blanks(at);
	return true;
}

static int add_entry(struct parser *p, struct hither_profile_entry entry)
{
	struct hither_profile *out = &p->profile;
	struct hither_profile_entry *last = out->count ? &out->entries[out->count - 1] : NULL;
	if (last && last->offset + last->len == entry.offset) {
		last->len += entry.len;
		last->waited = last->waited || entry.waited;
		return 0;
	}
	if (out->count == HITHER_PROFILE_MOST_ENTRIES)
		return hither_fail(p->err, -E2BIG,
		                   "line %" PRIu64
		                   ": more than %u entries: record less, or cut it there",
		                   p->line_number, HITHER_PROFILE_MOST_ENTRIES);
	if (out->count == p->room) {
		size_t room = p->room ? p->room * 2 : 256;
		void *entries = realloc(out->entries, room * sizeof *out->entries);
		if (!entries)
			return hither_fail(p->err, -ENOMEM, "no memory for %zu entries", room);
		out->entries = entries;
		p->room = room;
	}
	out->entries[out->count++] = entry;
	return 0;
}

static int parse_entry(struct parser *p, const char *at)
{
	uint64_t offset, len, ms;
	if (!take_number(&at, &offset) || !take_number(&at, &len) || !take_number(&at, &ms))
		return reject(p, "an entry is an offset, a length and milliseconds, in decimal");
	bool waited = take_word(&at, "w");
	if (*at)
		return reject(p, "an entry ends with its milliseconds, or a w");
	if (len == 0 || len > UINT64_MAX - offset)
		return reject(p, "a length must not be 0, nor end beyond 2^64");
	if (!p->has_size)
		return reject(p, "the size must come before the first entry");
	return add_entry(p,
	                 (struct hither_profile_entry){
	                         offset, len, ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX, waited});
}

static int parse_magic(struct parser *p, const char *at)
{
	uint64_t format;
	if (!take_word(&at, MAGIC))
		return reject(p, "no hither profile: it would begin with \"" MAGIC " 1\"");
	if (!take_number(&at, &format) || *at || format != 1)
		return reject(p, "a profile of another version than 1: record it again");
	p->has_magic = true;
	return 0;
}

static int parse_version(struct parser *p, const char *at)
{
	if (p->profile.version[0])
		return reject(p, "a second version");
	if (strlen(at) >= sizeof p->profile.version)
		return reject(p, "a version of more than 255 bytes");
	for (size_t i = 0; at[i]; i++) {
		if ((unsigned char)at[i] < ' ' || at[i] == 0x7f)
			return reject(p, "a control byte in the version");
	}
	strcpy(p->profile.version, at);
	return 0;
}

static int parse_line(struct parser *p)
{
	while (p->line_len && strchr(" \t\r", p->line[p->line_len - 1]) && p->line[p->line_len - 1])
		p->line_len--;
	p->line[p->line_len] = 0;
	if (strlen(p->line) != p->line_len)
		return reject(p, "a zero byte");
	const char *at = p->line;
	if (!p->has_magic)
		return parse_magic(p, at);
	if (*at == 0 || *at == '#')
		return 0;
	if (*at >= '0' && *at <= '9')
		return parse_entry(p, at);
	if (take_word(&at, "version"))
		return parse_version(p, at);
	if (!take_word(&at, "size"))
		return reject(p, "neither an entry, a size, a version nor a comment");
	if (p->has_size || !take_number(&at, &p->profile.size_bytes) || *at)
		return reject(p, p->has_size ? "a second size" : "the size is no decimal number");
	p->has_size = true;
	return 0;
}

static int feed(struct parser *p, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		p->byte++;
		if (text[i] != '\n') {
			if (p->line_len == sizeof p->line - 1)
				return reject(p, "a line of more than 500 bytes");
			p->line[p->line_len++] = text[i];
			continue;
		}
		int r = parse_line(p);
		if (r)
			return r;
		p->line_number++;
		p->line_byte = p->byte;
		p->line_len = 0;
	}
	return 0;
}

/*
 * A last line without an end may have been cut short: it counts if it can be read, and else is left
 * out, once all is there that must be.
 */
static int finish(struct parser *p)
{
	bool optional = p->has_magic && p->has_size;
	if (p->line_len || !p->has_magic) {
		struct hither_error why = {0};
		struct hither_error *err = p->err;
		p->err = &why;
		int r = parse_line(p);
		p->err = err;
		if (r && !(optional && r == -EINVAL))
			return hither_fail(err, r, "%s", why.message);
	}
	return p->has_size ? 0 : reject(p, "it ends before its size");
}

void hither_profile_finish(struct hither_profile *p)
{
	if (!p)
		return;
	free(p->entries);
	*p = (struct hither_profile){0};
}

static int hand_over(struct parser *p, int r, struct hither_profile *out)
{
	if (!r)
		r = finish(p);
	if (r)
		hither_profile_finish(&p->profile);
	else
		*out = p->profile;
	return r;
}

int hither_profile_parse(const char *text, size_t len, struct hither_profile *out,
                         struct hither_error *err)
{
	struct parser p = {.line_number = 1, .err = err};
	int r = hand_over(&p, feed(&p, text, len), out);
	if (r)
		hither_error_prefix(err, "profile");
	return r;
}

int hither_profile_load(const char *path, struct hither_profile *out, struct hither_error *err)
{
	enum { PART = 64 << 10 };
	HITHER_FREE char *part = malloc(PART);
	if (!part)
		return hither_fail(err, -ENOMEM, "profile %s: no memory", path);
	HITHER_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return hither_fail(err, -errno, "profile %s: open: %s", path, strerror(errno));
	struct parser p = {.line_number = 1, .err = err};
	int r = 0;
	ssize_t n = 0;
	do {
		n = read(fd, part, PART);
		if (n < 0 && errno != EINTR)
			r = hither_fail(err, -errno, "read: %s", strerror(errno));
		else if (n > 0)
			r = feed(&p, part, (size_t)n);
	} while (!r && n != 0);
	r = hand_over(&p, r, out);
	if (r)
		hither_error_prefix(err, "profile %s", path);
	return r;
}

size_t hither_profile_print_head(char *buf, uint64_t size_bytes, const char *version)
{
	size_t n = (size_t)snprintf(buf, HITHER_PROFILE_LINE_BYTES, MAGIC " 1\nsize %" PRIu64 "\n",
	                            size_bytes);
	if (!version || !*version)
		return n;
	size_t text = n + strlen("version ");
	n += (size_t)snprintf(buf + n, HITHER_PROFILE_LINE_BYTES - n, "version %.255s", version);
	for (; text < n; text++) {
		if ((unsigned char)buf[text] < ' ' || buf[text] == 0x7f)
			buf[text] = '?';
	}
	buf[n++] = '\n';
	buf[n] = 0;
	return n;
}

size_t hither_profile_print_entry(char *buf, const struct hither_profile_entry *entry)
{
	return (size_t)snprintf(buf, HITHER_PROFILE_LINE_BYTES, "%" PRIu64 " %" PRIu64 " %u%s\n",
	                        entry->offset, entry->len, entry->at_ms, entry->waited ? " w" : "");
}
