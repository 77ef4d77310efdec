/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks that every call to a backend goes through: range, flags, alignment, request size and
 * exact delivery are settled here, once, so that backends need not and callers cannot get them
 * wrong.
 */
#include "backend/buffer_sink.h"
#include "backend/registry.h"
#include "backend/url.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <hither/backend.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- open --- */

static const struct hither_backend_ops *find(const char *scheme, size_t len)
{
	for (const struct hither_backend_ops *const *ops = hither_backend_list(); *ops; ops++)
		for (const char *const *s = (*ops)->schemes; s && *s; s++)
			if (strlen(*s) == len && memcmp(*s, scheme, len) == 0)
				return *ops;
	return NULL;
}

static int fail_unknown(const char *url, size_t scheme_len, struct hither_error *err)
{
	char known[160] = "";
	size_t used = 0;
	for (const struct hither_backend_ops *const *ops = hither_backend_list(); *ops; ops++)
		for (const char *const *s = (*ops)->schemes; s && *s; s++) {
			int n = snprintf(known + used, sizeof known - used, " %s", *s);
			if (n > 0 && (size_t)n < sizeof known - used)
				used += (size_t)n;
		}
	return hither_fail(
	        err, -EPROTONOSUPPORT,
	        "open: this build does not know %.*s: (only%s); a file of that name is ./%.*s:...",
	        (int)scheme_len, url, known, (int)scheme_len, url);
}

static bool is_sane(const struct hither_backend *b)
{
	uint32_t align = b->align_bytes;
	return align > 0 && (align & (align - 1)) == 0 && b->parallel > 0 && b->ops->read &&
	       b->ops->close && (!(b->flags & HITHER_BACKEND_WRITABLE) || b->ops->write_at);
}

static int fail_read_only(const struct hither_backend_ops *ops, const char *url,
                          struct hither_error *err)
{
	char shown[200];
	hither_url_redact(url, shown, sizeof shown);
	return hither_fail(err, -EROFS, "%s: %s cannot be written; open it read-only", ops->name,
	                   shown);
}

static int look_up(const char *url, bool writable, const struct hither_backend_ops **out,
                   struct hither_error *err)
{
	if (!*url)
		return hither_fail(err, -EINVAL, "open: the URL is empty");
	size_t scheme_len = hither_url_scheme(url);
	*out = scheme_len ? find(url, scheme_len) : find("file", strlen("file"));
	if (!*out)
		return fail_unknown(url, scheme_len, err);
	return writable && !(*out)->write_at ? fail_read_only(*out, url, err) : 0;
}

int hither_backend_check_url(const char *url, bool writable, struct hither_error *err)
{
	const struct hither_backend_ops *ops;
	return look_up(url, writable, &ops, err);
}

/*
 * A server that says when to come back is asked again then, for as long as connecting may take:
 * whoever opens a resource has no mount yet that would do so.
 */
static int open_patiently(const struct hither_backend_ops *ops, const char *url,
                          const struct hither_backend_options *options, struct hither_backend **b,
                          struct hither_error *err)
{
	uint64_t ms = options->connect_timeout_ms ? options->connect_timeout_ms
	                                          : HITHER_BACKEND_CONNECT_MS;
	uint64_t end = hither_now_ns() + (options->prompt ? 0 : ms * HITHER_NS_PER_MS);
	for (;;) {
		struct hither_error why = {0};
		int r = ops->open(url, options, b, &why);
		uint64_t pause = r == -EAGAIN && why.retry_after_ms > 0
		                         ? (uint64_t)why.retry_after_ms * HITHER_NS_PER_MS
		                         : UINT64_MAX;
		uint64_t now = hither_now_ns();
		if (now >= end || pause > end - now) {
			if (err && r)
				*err = why;
			return r;
		}
		struct timespec until = hither_timespec(now + pause);
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
	}
}

int hither_backend_open(const char *url, const struct hither_backend_options *options,
                        struct hither_backend **out, struct hither_error *err)
{
	static const struct hither_backend_options defaults;
	const struct hither_backend_ops *ops;
	if (!options)
		options = &defaults;
	int r = look_up(url, options->writable, &ops, err);
	if (r)
		return r;
	struct hither_backend *b = NULL;
	r = open_patiently(ops, url, options, &b, err);
	if (r)
		return r;
	assert(is_sane(b));
	if (options->writable && !(b->flags & HITHER_BACKEND_WRITABLE)) {
		hither_backend_close(b);
		return fail_read_only(ops, url, err);
	}
	*out = b;
	return 0;
}

/* --- ranges and requests --- */

static int check_range(const struct hither_backend *b, const char *verb, uint64_t offset,
                       uint64_t len, struct hither_error *err)
{
	if (offset <= b->size_bytes && len <= b->size_bytes - offset)
		return 0;
	return hither_fail(err, -EINVAL,
	                   "%s: %s of %" PRIu64 " bytes at %" PRIu64
	                   " goes beyond the end (%" PRIu64 ")",
	                   b->ops->name, verb, len, offset, b->size_bytes);
}

/* The longest request to pass on: a multiple of align_bytes. */
static uint64_t request_limit(const struct hither_backend *b)
{
	uint64_t max = b->max_request_bytes ? b->max_request_bytes : UINT64_MAX;
	max -= max % b->align_bytes;
	return max ? max : b->align_bytes;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Where the aligned block that offset is in begins; and ends, which is at the end of the resource
 * at most. */
static uint64_t align_down(const struct hither_backend *b, uint64_t offset)
{
	return offset & ~(uint64_t)(b->align_bytes - 1);
}

static uint64_t block_end(const struct hither_backend *b, uint64_t block)
{
	return b->size_bytes - block > b->align_bytes ? block + b->align_bytes : b->size_bytes;
}

/* --- read --- */

/* Counts what one request delivers, and passes on the part that was asked for. */
struct trim_sink {
	struct hither_sink base;
	struct hither_sink *to;
	uint64_t skip;      /* bytes in front that nobody asked for */
	uint64_t want;      /* bytes after these still to pass on, over all requests */
	uint64_t delivered; /* by this request, of `expected` */
	uint64_t expected;
	int refused; /* the caller's sink ended the read with this */
};

static int trim_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct trim_sink *t = HITHER_CONTAINER(sink, struct trim_sink, base);
	t->delivered += len;
	if (t->delivered > t->expected)
		return -EIO;
	const char *p = buf;
	uint64_t skip = min_u64(t->skip, len);
	t->skip -= skip;
	uint64_t n = min_u64(t->want, len - skip);
	t->want -= n;
	if (n == 0 || t->refused)
		return t->refused;
	int r = t->to->take(t->to, p + skip, (size_t)n);
	assert(r <= 0);
	t->refused = r;
	return r;
}

/* What a request that gave r amounts to, by what t has seen of it. */
static int judge_read(struct hither_backend *b, uint64_t offset, int r, struct trim_sink *t,
                      struct hither_error *err)
{
	if (t->refused) {
		/* The sink may have said why, in the same err. */
		if (err && err->code != t->refused)
			hither_fail(err, t->refused,
			            "%s: read at %" PRIu64 ": the reader stopped it: %s",
			            b->ops->name, offset, strerror(-t->refused));
		return t->refused;
	}
	if (t->delivered > t->expected || (r == 0 && t->delivered < t->expected))
		return hither_fail(err, -EIO,
		                   "%s: read at %" PRIu64 " delivered %" PRIu64 " of %" PRIu64
		                   " bytes",
		                   b->ops->name, offset, t->delivered, t->expected);
	return r;
}

static void trim_held(struct hither_sink *sink, size_t len)
{
	struct trim_sink *t = HITHER_CONTAINER(sink, struct trim_sink, base);
	if (t->to->held)
		t->to->held(t->to, len);
}

static void trim_asked(struct hither_sink *sink)
{
	struct trim_sink *t = HITHER_CONTAINER(sink, struct trim_sink, base);
	if (t->to->asked)
		t->to->asked(t->to);
}

static bool trim_dropped(const struct hither_sink *sink)
{
	const struct trim_sink *t = HITHER_CONTAINER(sink, const struct trim_sink, base);
	return t->to->dropped && t->to->dropped(t->to);
}

static int read_request(struct hither_backend *b, uint64_t offset, uint64_t len,
                        struct trim_sink *t, struct hither_error *err)
{
	t->delivered = 0;
	t->expected = len;
	return judge_read(b, offset, b->ops->read(b, offset, len, &t->base, err), t, err);
}

int hither_backend_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                        struct hither_sink *sink, struct hither_error *err)
{
	int r = check_range(b, "read", offset, len, err);
	if (r || len == 0)
		return r;
	uint64_t start = align_down(b, offset);
	uint64_t end = block_end(b, align_down(b, offset + len - 1));
	uint64_t limit = request_limit(b);
	struct trim_sink t = {.base = {.take = trim_take,
	                               .held = trim_held,
	                               .asked = trim_asked,
	                               .dropped = trim_dropped,
	                               .first_bytes = offset == start ? sink->first_bytes : 0,
	                               .flight_bytes = sink->flight_bytes},
	                      .to = sink,
	                      .skip = offset - start,
	                      .want = len};
	while (start < end && !r) {
		uint64_t n = min_u64(end - start, limit);
		r = read_request(b, start, n, &t, err);
		start += n;
	}
	return r;
}

uint32_t hither_backend_most_ranges(struct hither_backend *b)
{
	return b->ops->read_many ? b->ops->most_ranges(b) : 1;
}

static int read_in_turn(struct hither_backend *b, const struct hither_range *ranges, size_t count,
                        struct hither_sink *sink, struct hither_error *err)
{
	int r = 0;
	for (size_t i = 0; !r && i < count; i++)
		r = hither_backend_read(b, ranges[i].offset, ranges[i].len, sink, err);
	return r;
}

int hither_backend_read_many(struct hither_backend *b, const struct hither_range *ranges,
                             size_t count, struct hither_sink *sink, struct hither_error *err)
{
	uint64_t sum = 0;
	if (count < 2 || count > hither_backend_most_ranges(b))
		return read_in_turn(b, ranges, count, sink, err);
	for (size_t i = 0; i < count; i++) {
		int r = check_range(b, "read", ranges[i].offset, ranges[i].len, err);
		if (r)
			return r;
		assert(ranges[i].len > 0 && ranges[i].offset % b->align_bytes == 0);
		sum += ranges[i].len;
	}
	struct trim_sink t = {
	        .base = {.take = trim_take, .held = trim_held, .dropped = trim_dropped},
	        .to = sink,
	        .want = sum,
	        .expected = sum};
	int r = b->ops->read_many(b, ranges, count, &t.base, err);
	return judge_read(b, ranges[0].offset, r, &t, err);
}

int hither_backend_warm(struct hither_backend *b, struct hither_error *err)
{
	return b->ops->warm
	               ? b->ops->warm(b, err)
	               : hither_fail(err, -EOPNOTSUPP,
	                             "%s: requests need no connections of their own", b->ops->name);
}

bool hither_backend_drop(struct hither_backend *b)
{
	if (b->ops->drop)
		b->ops->drop(b);
	return b->ops->drop != NULL;
}

int hither_backend_read_at(struct hither_backend *b, void *buf, size_t len, uint64_t offset,
                           struct hither_error *err)
{
	struct hither_buffer_sink s = {{hither_buffer_take}, buf};
	return hither_backend_read(b, offset, len, &s.base, err);
}

/* --- write --- */

/* Change len bytes within one aligned block. */
static int write_edge(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                      struct hither_error *err)
{
	uint64_t block = align_down(b, offset);
	size_t block_len = (size_t)(block_end(b, block) - block);
	HITHER_FREE char *copy = malloc(block_len);
	if (!copy)
		return hither_fail(err, -ENOMEM, "%s: no memory to write a part of %zu bytes",
		                   b->ops->name, block_len);
	int r = hither_backend_read_at(b, copy, block_len, block, err);
	if (r)
		return r;
	memcpy(copy + (offset - block), buf, len);
	return b->ops->write_at(b, copy, block_len, block, err);
}

int hither_backend_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                            struct hither_error *err)
{
	if (!(b->flags & HITHER_BACKEND_WRITABLE))
		return hither_fail(err, -EROFS, "%s: write at %" PRIu64 ": it was opened read-only",
		                   b->ops->name, offset);
	int r = check_range(b, "write", offset, len, err);
	const char *p = buf;
	uint64_t limit = request_limit(b);
	while (len > 0 && !r) {
		uint64_t block = align_down(b, offset), end = offset + len;
		/* Whole blocks go straight out, and so does the shorter one that ends the resource.
		 */
		uint64_t whole_end = end == b->size_bytes ? end : align_down(b, end);
		uint64_t n;
		if (offset == block && whole_end > offset) {
			n = min_u64(whole_end - offset, limit);
			r = b->ops->write_at(b, p, (size_t)n, offset, err);
		} else {
			n = min_u64(len, block_end(b, block) - offset);
			r = write_edge(b, p, (size_t)n, offset, err);
		}
		p += n;
		offset += n;
		len -= (size_t)n;
	}
	return r;
}

int hither_backend_write_through(struct hither_backend *b, const void *buf, size_t len,
                                 uint64_t offset, struct hither_error *err)
{
	uint64_t end = offset + len;
	bool whole = len > 0 && len <= request_limit(b) && offset == align_down(b, offset) &&
	             (end == b->size_bytes || end == align_down(b, end));
	if (!b->ops->write_through || !whole || !(b->flags & HITHER_BACKEND_WRITABLE))
		return hither_backend_write_at(b, buf, len, offset, err);
	int r = check_range(b, "write", offset, len, err);
	return r ? r : b->ops->write_through(b, buf, len, offset, err);
}

static int write_zeros(struct hither_backend *b, uint64_t offset, uint64_t len,
                       struct hither_error *err)
{
	static const char zeros[256 << 10];
	int r = 0;
	while (len > 0 && !r) {
		size_t n = len < sizeof zeros ? (size_t)len : sizeof zeros;
		r = hither_backend_write_at(b, zeros, n, offset, err);
		offset += n;
		len -= n;
	}
	return r;
}

int hither_backend_zero(struct hither_backend *b, uint64_t offset, uint64_t len,
                        struct hither_error *err)
{
	uint64_t end = offset + len;
	int r = check_range(b, "zero", offset, len, err);
	if (r)
		return r;
	bool whole = offset == align_down(b, offset) &&
	             (end == b->size_bytes || end == align_down(b, end));
	r = b->ops->zero && whole && len > 0 && (b->flags & HITHER_BACKEND_WRITABLE)
	            ? b->ops->zero(b, offset, len, err)
	            : -EOPNOTSUPP;
	return r == -EOPNOTSUPP ? write_zeros(b, offset, len, err) : r;
}

int hither_backend_flush(struct hither_backend *b, struct hither_error *err)
{
	return b->ops->flush ? b->ops->flush(b, err) : 0;
}

/* --- the rest --- */

int hither_backend_version(struct hither_backend *b, char version[HITHER_VERSION_BYTES],
                           struct hither_error *err)
{
	version[0] = 0;
	return b->ops->version ? b->ops->version(b, version, HITHER_VERSION_BYTES, err) : 0;
}

uint64_t hither_backend_extent(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole)
{
	assert(max > 0 && offset < b->size_bytes && max <= b->size_bytes - offset);
	*hole = false;
	uint64_t run = b->ops->extent ? b->ops->extent(b, offset, max, hole) : max;
	assert(run > 0 && run <= max);
	return run;
}

void hither_backend_whole(struct hither_backend *b, uint64_t *offset, uint64_t *end)
{
	assert(*offset < *end && *end <= b->size_bytes);
	*offset = align_down(b, *offset);
	*end = block_end(b, align_down(b, *end - 1));
	if (b->ops->whole)
		b->ops->whole(b, offset, end);
}

int hither_backend_discard(struct hither_backend *b, uint64_t offset, uint64_t len,
                           struct hither_error *err)
{
	int r = check_range(b, "discard", offset, len, err);
	if (r || !b->ops->discard)
		return r ? r : hither_fail(err, -EOPNOTSUPP, "%s: cannot discard", b->ops->name);
	uint64_t end = offset + len;
	if (offset != align_down(b, offset))
		offset = block_end(b, align_down(b, offset));
	if (end != b->size_bytes)
		end = align_down(b, end);
	if (offset < end)
		b->ops->discard(b, offset, end - offset);
	return 0;
}

void hither_backend_cancel(struct hither_backend *b)
{
	if (b->ops->cancel)
		b->ops->cancel(b);
}

void hither_backend_close(struct hither_backend *b)
{
	if (b)
		b->ops->close(b);
}
