/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks what passes, a unit (a hashed piece) at a time: nobody sees a byte of a unit before all of
 * it has been checked. Reads are made longer, to whole units; the caller gets what it asked for.
 */
#include "layer/layer.h"

#include "base/cleanup.h"
#include "base/sha256.h"

#include <errno.h>
#include <hither/layer.h>
#include <inttypes.h>
#include <string.h>

struct verify {
	struct hither_layer layer;
	struct hither_verify_units units;
};

/* One read of the inner backend. */
struct verify_sink {
	struct hither_sink base;
	struct verify *v;
	struct hither_sink *to;
	uint64_t from, until; /* what the caller asked for */
	uint64_t at;          /* the unit that comes now begins here */
	struct hither_verify_unit unit;
	size_t have;        /* bytes of it in buf */
	size_t told;        /* bytes to come that `to` knows of: see held */
	unsigned char *buf; /* [units.most_bytes] */
	int refused;        /* the caller's sink ended the read with this */
	bool wrong;         /* the unit at `at` is not what it should be */
	bool out_of_memory;
};

static void find_unit(struct verify *v, uint64_t offset, struct hither_verify_unit *out)
{
	v->units.find(v->units.user, offset, out);
}

/* A unit that is good: pass on what was asked for. */
static int deliver(struct verify_sink *s, const unsigned char *bytes, uint64_t offset, size_t len)
{
	uint64_t from = offset > s->from ? offset : s->from;
	uint64_t until = offset + len < s->until ? offset + len : s->until;
	if (from >= until)
		return 0;
	s->refused = s->to->take(s->to, bytes + (from - offset), (size_t)(until - from));
	return s->refused;
}

static bool is_good(struct verify_sink *s, const unsigned char *bytes)
{
	unsigned char hash[HITHER_SHA256_BYTES];
	if (hither_sha256(bytes, s->unit.len, hash)) {
		s->out_of_memory = true;
		return false;
	}
	return !memcmp(hash, s->unit.hash, sizeof hash);
}

/* A whole unit. */
static int settle(struct verify_sink *s, const unsigned char *bytes)
{
	if (!is_good(s, bytes)) {
		s->wrong = !s->out_of_memory;
		return s->wrong ? -EBADMSG : -ENOMEM;
	}
	int r = deliver(s, bytes, s->at, (size_t)s->unit.len);
	s->at += s->unit.len;
	s->have = 0;
	if (!r && s->at < s->v->layer.base.size_bytes)
		find_unit(s->v, s->at, &s->unit);
	return r;
}

/* Bytes that have no hash: gaps, which read as zeros. */
static int pass(struct verify_sink *s, const unsigned char *bytes, size_t len)
{
	int r = deliver(s, bytes, s->at + s->have, len);
	s->have += len;
	if (r || s->have < s->unit.len)
		return r;
	s->at += s->unit.len;
	s->have = 0;
	if (s->at < s->v->layer.base.size_bytes)
		find_unit(s->v, s->at, &s->unit);
	return 0;
}

static void verify_held(struct hither_sink *sink, size_t len)
{
	struct verify_sink *s = HITHER_CONTAINER(sink, struct verify_sink, base);
	if (!s->to->held)
		return;
	s->told += len;
	s->to->held(s->to, len);
}

/* Of len bytes that have come now: those that `to` does not know of. */
static size_t news_of(struct verify_sink *s, size_t len)
{
	size_t known = s->told < len ? s->told : len;
	s->told -= known;
	return len - known;
}

static int verify_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct verify_sink *s = HITHER_CONTAINER(sink, struct verify_sink, base);
	const unsigned char *p = buf;
	int r = 0;
	while (len && !r) {
		uint64_t missing = s->unit.len - s->have;
		size_t n = missing < len ? (size_t)missing : len, news = news_of(s, n);
		if (!s->unit.hash) {
			r = pass(s, p, n);
		} else if (!s->have && n == s->unit.len) {
			r = settle(s, p);
		} else {
			memcpy(s->buf + s->have, p, n);
			s->have += n;
			if (s->to->held && news)
				s->to->held(s->to, news);
			if (s->have == s->unit.len)
				r = settle(s, s->buf);
		}
		p += n;
		len -= n;
	}
	return r;
}

/* The unit at s->at was wrong: ask for it alone, once. */
static int once_more(struct verify_sink *s, struct hither_error *err)
{
	char name[256];
	struct verify *v = s->v;
	int r = hither_backend_read_at(v->layer.inner, s->buf, (size_t)s->unit.len, s->at, err);
	if (r)
		return r;
	s->wrong = false;
	r = settle(s, s->buf);
	if (!s->wrong)
		return r;
	v->units.name(v->units.user, s->at, name, sizeof name);
	return hither_fail(err, -EIO,
	                   "%s: the %" PRIu64 " bytes there are not what the manifest says, twice: "
	                   "the file on the server is damaged, or has changed since it was indexed",
	                   name, s->unit.len);
}

static int read_units(struct verify_sink *s, uint64_t end, struct hither_error *err)
{
	struct hither_backend *inner = s->v->layer.inner;
	int r = 0;
	while (!r && s->at < end) {
		s->wrong = false;
		s->have = s->told = 0;
		r = hither_backend_read(inner, s->at, end - s->at, &s->base, err);
		if (s->refused)
			return s->refused;
		if (s->out_of_memory)
			return hither_fail(err, -ENOMEM, "verify: no memory");
		if (s->wrong) {
			r = once_more(s, err);
			if (s->refused)
				return s->refused;
		}
	}
	return r;
}

static int verify_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                       struct hither_sink *sink, struct hither_error *err)
{
	struct verify *v = HITHER_CONTAINER(hither_layer_of(b), struct verify, layer);
	struct hither_verify_unit first, last;
	int r = hither_layer_check(&v->layer, err);
	if (r)
		return r;
	find_unit(v, offset, &first);
	find_unit(v, offset + len - 1, &last);
	HITHER_FREE unsigned char *buf = malloc(v->units.most_bytes);
	if (!buf)
		return hither_fail(err, -ENOMEM, "verify: no memory");
	struct verify_sink s = {.base = {.take = verify_take,
	                                 .held = verify_held,
	                                 .flight_bytes = sink->flight_bytes},
	                        .v = v,
	                        .to = sink,
	                        .from = offset,
	                        .until = offset + len,
	                        .at = first.offset,
	                        .unit = first,
	                        .buf = buf};
	return read_units(&s, last.offset + last.len, err);
}

static void verify_whole(struct hither_backend *b, uint64_t *offset, uint64_t *end)
{
	struct verify *v = HITHER_CONTAINER(hither_layer_of(b), struct verify, layer);
	struct hither_verify_unit first, last;
	find_unit(v, *offset, &first);
	find_unit(v, *end - 1, &last);
	if (first.hash)
		*offset = first.offset;
	if (last.hash)
		*end = last.offset + last.len;
}

static uint64_t verify_extent(struct hither_backend *b, uint64_t offset, uint64_t max, bool *hole)
{
	return hither_backend_extent(hither_layer_of(b)->inner, offset, max, hole);
}

static void verify_close(struct hither_backend *b)
{
	struct verify *v = HITHER_CONTAINER(hither_layer_of(b), struct verify, layer);
	hither_layer_finish(&v->layer);
	if (v->units.destroy)
		v->units.destroy(v->units.user);
	free(v);
}

static const struct hither_backend_ops verify_ops = {
        .name = "verify",
        .read = verify_read,
        .version = hither_layer_version,
        .cancel = hither_layer_cancel,
        .extent = verify_extent,
        .whole = verify_whole,
        .close = verify_close,
};

int hither_layer_verify(struct hither_backend *inner, const struct hither_verify_units *units,
                        struct hither_backend **out, struct hither_error *err)
{
	struct verify *v = calloc(1, sizeof *v);
	if (!v)
		return hither_fail(err, -ENOMEM, "verify: no memory");
	int r = hither_layer_init(&v->layer, &verify_ops, inner, err);
	if (r) {
		free(v);
		return r;
	}
	v->units = *units;
	v->layer.base.flags &= ~(uint32_t)HITHER_BACKEND_WRITABLE;
	v->layer.base.align_bytes = 1;
	hither_layer_changes(&v->layer);
	v->layer.base.piece_bytes = units->most_bytes;
	*out = &v->layer.base;
	return 0;
}
