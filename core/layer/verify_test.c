/* SPDX-License-Identifier: Apache-2.0 */
/* The verify layer: the contract over it, and never a byte of a wrong unit. */
#include "base/cleanup.h"
#include "base/sha256.h"
#include "check.h"
#include "contract.h"

#include <errno.h>
#include <hither/layer.h>
#include <string.h>

/* Units of 1000 bytes; of each third one the first 10 bytes are a gap of zeros. */
enum { UNIT = 1000, COUNT = 300, SIZE = UNIT * COUNT };
static unsigned char content[SIZE], hashes[COUNT][HITHER_SHA256_BYTES];
static struct hither_error err;

static void find(void *user, uint64_t offset, struct hither_verify_unit *out)
{
	uint64_t i = offset / UNIT, gap = i % 3 ? 0 : 10;
	if (offset % UNIT < gap)
		*out = (struct hither_verify_unit){i * UNIT, gap, NULL};
	else
		*out = (struct hither_verify_unit){i * UNIT + gap, UNIT - gap, hashes[i]};
}

static void name(void *user, uint64_t offset, char *out, size_t size)
{
	snprintf(out, size, "unit %d", (int)(offset / UNIT));
}

static const struct hither_verify_units units = {.most_bytes = UNIT, .find = find, .name = name};

static void prepare(void)
{
	for (size_t i = 0; i < SIZE; i++)
		content[i] = (unsigned char)(i * 31 + i / 777);
	for (size_t i = 0; i < COUNT; i++) {
		size_t gap = i % 3 ? 0 : 10;
		memset(content + i * UNIT, 0, gap);
		CHECK_EQ(hither_sha256(content + i * UNIT + gap, UNIT - gap, hashes[i]), 0);
	}
}

static struct hither_backend *make_memory(void)
{
	struct hither_backend *b = NULL;
	CHECK_OK(hither_backend_memory_create(SIZE, &b, &err));
	CHECK_OK(hither_backend_write_at(b, content, SIZE, 0, &err));
	return b;
}

static struct hither_backend *wrap(struct hither_backend *inner)
{
	struct hither_backend *b = NULL;
	CHECK_OK(hither_layer_verify(inner, &units, &b, &err));
	return b;
}

static int open_subject(void *user, bool writable, struct hither_backend **out,
                        struct hither_error *e)
{
	*out = wrap(make_memory());
	return 0;
}

static void the_contract_holds(void)
{
	const struct contract_subject s = {
	        .name = "verify", .open = open_subject, .content = content, .content_len = SIZE};
	contract_check(&s);
}

struct watching_sink {
	struct hither_sink base;
	size_t held, taken;
};

static int take_watched(struct hither_sink *sink, const void *buf, size_t len)
{
	HITHER_CONTAINER(sink, struct watching_sink, base)->taken += len;
	return 0;
}

static void hold_watched(struct hither_sink *sink, size_t len)
{
	struct watching_sink *w = HITHER_CONTAINER(sink, struct watching_sink, base);
	w->held += len;
	CHECK(w->held > w->taken || len == 0);
}

/* Brings a byte at a time. */
static int read_slowly(struct hither_backend *b, uint64_t offset, uint64_t len,
                       struct hither_sink *sink, struct hither_error *e)
{
	int r = 0;
	for (uint64_t i = 0; i < len && !r; i++)
		r = sink->take(sink, content + offset + i, 1);
	return r;
}

static void close_nothing(struct hither_backend *b)
{
}

static void what_waits_for_its_unit_is_told_of(void)
{
	static const struct hither_backend_ops ops = {
	        .name = "slow", .read = read_slowly, .close = close_nothing};
	struct hither_backend slow = {
	        .ops = &ops, .size_bytes = SIZE, .align_bytes = 1, .parallel = 1};
	struct hither_backend *b = wrap(&slow);
	struct watching_sink w = {{.take = take_watched, .held = hold_watched}, 0, 0};
	CHECK_OK(hither_backend_read(b, UNIT, 2 * UNIT, &w.base, &err));
	CHECK_EQ(w.held, 2 * UNIT);
	CHECK_EQ(w.taken, 2 * UNIT);
	hither_backend_close(b);
}

/* Brings the second half before the first, holds it, and says so. */
static int read_in_halves(struct hither_backend *b, uint64_t offset, uint64_t len,
                          struct hither_sink *sink, struct hither_error *e)
{
	CHECK_EQ(sink->flight_bytes, 123);
	sink->held(sink, len - len / 2);
	int r = sink->take(sink, content + offset, len / 2);
	return r ? r : sink->take(sink, content + offset + len / 2, len - len / 2);
}

/* Whoever measures the line counts each byte once. */
static void what_is_held_below_is_told_of_once(void)
{
	static const struct hither_backend_ops ops = {
	        .name = "halves", .read = read_in_halves, .close = close_nothing};
	struct hither_backend halves = {
	        .ops = &ops, .size_bytes = SIZE, .align_bytes = 1, .parallel = 1};
	for (unsigned count = 1; count < 6; count++) {
		struct hither_backend *b = wrap(&halves);
		struct watching_sink w = {
		        {.take = take_watched, .held = hold_watched, .flight_bytes = 123}, 0, 0};
		CHECK_OK(hither_backend_read(b, 4 * UNIT, count * UNIT, &w.base, &err));
		/* Whole units of the first half need not be told of. */
		CHECK(w.held <= count * UNIT && w.held >= count * UNIT / 2);
		CHECK_EQ(w.taken, count * UNIT);
		hither_backend_close(b);
	}
}

/* A backend whose bytes at `bad` are wrong for the first `times` reads that see them. */
struct liar {
	struct hither_backend base;
	struct hither_backend *inner;
	uint64_t bad;
	unsigned times, reads;
};

static int lie(struct hither_backend *b, uint64_t offset, uint64_t len, struct hither_sink *sink,
               struct hither_error *e)
{
	struct liar *l = (struct liar *)b;
	static unsigned char copy[SIZE];
	l->reads++;
	memcpy(copy, content + offset, len);
	if (l->bad >= offset && l->bad < offset + len && l->times) {
		l->times--;
		copy[l->bad - offset] ^= 0x40;
	}
	/* In pieces that do not fit the units. */
	int r = 0;
	for (uint64_t at = 0; at < len && !r; at += 777)
		r = sink->take(sink, copy + at, len - at < 777 ? len - at : 777);
	return r;
}

static void lie_close(struct hither_backend *b)
{
	struct liar *l = (struct liar *)b;
	hither_backend_close(l->inner);
}

static const struct hither_backend_ops liar_ops = {.name = "liar", .read = lie, .close = lie_close};

static struct liar make_liar(uint64_t bad, unsigned times)
{
	return (struct liar){
	        .base = {.ops = &liar_ops, .size_bytes = SIZE, .align_bytes = 1, .parallel = 1},
	        .bad = bad,
	        .times = times};
}

struct seen_sink {
	struct hither_sink base;
	uint64_t at;
};

static int see(struct hither_sink *sink, const void *buf, size_t len)
{
	struct seen_sink *s = HITHER_CONTAINER(sink, struct seen_sink, base);
	CHECK(!memcmp(buf, content + s->at, len)); /* never a wrong byte */
	s->at += len;
	return 0;
}

static void a_wrong_unit_is_read_once_more(void)
{
	for (uint64_t bad = 20; bad < SIZE; bad += 10007) {
		struct liar l = make_liar(bad, 1);
		struct hither_backend *b = wrap(&l.base);
		struct seen_sink s = {{see}, 0};
		if (bad % UNIT < 10 && bad / UNIT % 3 == 0)
			bad += 10; /* a gap has no hash */
		l.bad = bad;
		CHECK_OK(hither_backend_read(b, 0, SIZE, &s.base, &err));
		CHECK_EQ(s.at, SIZE);
		CHECK_EQ(l.times, 0);
		CHECK_EQ(l.reads, bad / UNIT + 1 < COUNT ? 3 : 2);
		hither_backend_close(b);
	}
}

static void twice_wrong_is_an_error_that_names_it(void)
{
	struct liar l = make_liar(5 * UNIT + 500, 1000);
	struct hither_backend *b = wrap(&l.base);
	struct seen_sink s = {{see}, 200};
	CHECK_EQ(hither_backend_read(b, 200, SIZE - 200, &s.base, &err), -EIO);
	CHECK_EQ(s.at, 5 * UNIT); /* what is before it has come */
	CHECK(strstr(err.message, "unit 5"));
	CHECK_EQ(l.reads, 2);
	s.at = 5 * UNIT + 999; /* the last byte of it is right, but nobody can know */
	CHECK_EQ(hither_backend_read(b, s.at, 10, &s.base, &err), -EIO);
	CHECK_EQ(s.at, 5 * UNIT + 999);
	s.at = 6 * UNIT;
	CHECK_OK(hither_backend_read(b, s.at, SIZE - s.at, &s.base, &err));
	err = (struct hither_error){0};
	CHECK_EQ(hither_backend_write_at(b, "x", 1, 0, &err), -EROFS);
	hither_backend_close(b);
}

static void whole_units_are_told(void)
{
	struct hither_backend *b = wrap(make_memory());
	uint64_t from = 1500, to = 1501;
	hither_backend_whole(b, &from, &to);
	CHECK(from == 1000 && to == 2000);
	from = 3005; /* in a gap, which nobody hashes */
	to = 3008;
	hither_backend_whole(b, &from, &to);
	CHECK(from == 3005 && to == 3008);
	to = SIZE - 1;
	hither_backend_whole(b, &from, &to);
	CHECK(from == 3005 && to == SIZE);
	hither_backend_close(b);
}

int main(void)
{
	prepare();
	RUN(the_contract_holds);
	RUN(what_waits_for_its_unit_is_told_of);
	RUN(what_is_held_below_is_told_of_once);
	RUN(whole_units_are_told);
	RUN(a_wrong_unit_is_read_once_more);
	RUN(twice_wrong_is_an_error_that_names_it);
	return 0;
}
