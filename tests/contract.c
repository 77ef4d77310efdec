/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include "base/cleanup.h"
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { SIZE_MAX_BYTES = 64 << 20, PIECE_MAX = 100 * 1000, THREAD_MAX = 8 };

struct reference { /* what the resource must have */
	char *bytes;
	size_t len;
};

/* xorshift: the same run each time. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void fill_random(char *buf, size_t len, uint64_t *seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)(next_random(seed) >> 24);
}

/* Short ones and long ones, edges of blocks and of the resource more often than chance would. */
static void random_range(uint64_t *seed, size_t size, size_t *offset, size_t *len)
{
	*offset = next_random(seed) % (size + 1);
	if (next_random(seed) % 4 == 0)
		*offset &= ~(size_t)4095;
	size_t most = next_random(seed) % 2 ? 600 : PIECE_MAX;
	*len = next_random(seed) % (most + 1);
	if (*len > size - *offset || next_random(seed) % 16 == 0)
		*len = size - *offset < PIECE_MAX ? size - *offset : PIECE_MAX;
}

static struct hither_backend *open_subject(const struct contract_subject *s, bool writable)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_OK(s->open(s->user, writable, &b, &err));
	CHECK(b);
	CHECK(!!(b->flags & HITHER_BACKEND_WRITABLE) == writable);
	return b;
}

/* --- sinks --- */

/* Compares what comes with the reference, piece by piece, and stops when told to. */
struct checking_sink {
	struct hither_sink base;
	const char *expected;
	size_t len;
	size_t taken;
	size_t stop_at; /* end with stop_code in the piece that reaches so far */
	int stop_code;  /* 0: never */
	pthread_t reader;
	bool stopped;
};

static int checking_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct checking_sink *s = HITHER_CONTAINER(sink, struct checking_sink, base);
	CHECK(pthread_equal(s->reader, pthread_self()));
	CHECK(!s->stopped); /* nothing comes after the sink has refused */
	CHECK(len > 0);
	CHECK(len <= s->len - s->taken);
	CHECK(memcmp(buf, s->expected + s->taken, len) == 0);
	s->taken += len;
	if (s->stop_code && s->taken >= s->stop_at) {
		s->stopped = true;
		return s->stop_code;
	}
	return 0;
}

static struct checking_sink make_sink(const struct reference *ref, size_t offset, size_t len)
{
	return (struct checking_sink){.base = {checking_take},
	                              .expected = ref->bytes + offset,
	                              .len = len,
	                              .reader = pthread_self()};
}

static void check_range(struct hither_backend *b, const struct reference *ref, size_t offset,
                        size_t len)
{
	struct hither_error err = {0};
	struct checking_sink s = make_sink(ref, offset, len);
	CHECK_OK(hither_backend_read(b, offset, len, &s.base, &err));
	CHECK_EQ(s.taken, len);
	HITHER_FREE char *buf = malloc(len + 1);
	CHECK(buf);
	buf[len] = 'x';
	CHECK_OK(hither_backend_read_at(b, buf, len, offset, &err));
	CHECK(memcmp(buf, ref->bytes + offset, len) == 0);
	CHECK(buf[len] == 'x');
}

/* --- the promises --- */

static void shape_is_sane(const struct contract_subject *s, struct hither_backend *b)
{
	struct hither_error err = {0};
	CHECK(b->ops && b->ops->name && b->ops->read && b->ops->close);
	CHECK(b->align_bytes > 0 && (b->align_bytes & (b->align_bytes - 1)) == 0);
	CHECK(b->parallel > 0);
	CHECK(b->size_bytes <= SIZE_MAX_BYTES);
	char one[HITHER_VERSION_BYTES], two[HITHER_VERSION_BYTES];
	CHECK_OK(hither_backend_version(b, one, &err));
	CHECK_OK(hither_backend_version(b, two, &err));
	CHECK(memchr(one, 0, sizeof one));
	CHECK(strcmp(one, two) == 0);
	if (s->exclusive)
		return;
	struct hither_backend *again = open_subject(s, false);
	CHECK_EQ(again->size_bytes, b->size_bytes);
	CHECK_EQ(again->align_bytes, b->align_bytes);
	hither_backend_close(again);
}

static void reads_of_any_alignment(struct hither_backend *b, const struct reference *ref)
{
	uint64_t seed = 0x9e3779b97f4a7c15;
	check_range(b, ref, 0, ref->len);
	for (int i = 0; i < 40; i++) {
		size_t offset, len;
		random_range(&seed, ref->len, &offset, &len);
		check_range(b, ref, offset, len);
	}
	for (size_t back = 1; back <= 3 && back <= ref->len; back++)
		check_range(b, ref, ref->len - back, back);
}

static void what_is_had_now_is_the_same(struct hither_backend *b, const struct reference *ref)
{
	uint64_t seed = 0x4042;
	for (int i = 0; i < 20 && b->ops->read_now; i++) {
		size_t offset, len;
		random_range(&seed, ref->len, &offset, &len);
		char *got = malloc(len + 1);
		int r = b->ops->read_now(b, got, len, offset);
		CHECK(r == -EAGAIN || r == -EOPNOTSUPP ||
		      (!r && !memcmp(got, ref->bytes + offset, len)));
		free(got);
	}
}

static void nothing_is_read_for_no_bytes(struct hither_backend *b, const struct reference *ref)
{
	check_range(b, ref, 0, 0);
	check_range(b, ref, ref->len / 2, 0);
	check_range(b, ref, ref->len, 0);
}

static void a_range_beyond_the_end_is_invalid(struct hither_backend *b, const struct reference *ref)
{
	const uint64_t size = ref->len;
	const struct {
		uint64_t offset, len;
	} bad[] = {
	        {size, 1},       {size + 1, 0},   {0, size + 1},           {size ? size - 1 : 0, 2},
	        {UINT64_MAX, 2}, {1, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct hither_error err = {0};
		struct checking_sink s = make_sink(ref, 0, 0);
		CHECK_EQ(hither_backend_read(b, bad[i].offset, bad[i].len, &s.base, &err), -EINVAL);
		CHECK_EQ(err.code, -EINVAL);
		CHECK(err.message[0]);
		CHECK_EQ(s.taken, 0);
		CHECK_EQ(hither_backend_read(b, bad[i].offset, bad[i].len, &s.base, NULL), -EINVAL);
	}
}

static void a_sink_stops_the_read_with_its_own_code(struct hither_backend *b,
                                                    const struct reference *ref)
{
	static const int codes[] = {-E2BIG, -ECANCELED, -EIO, -EAGAIN};
	for (size_t i = 0; i < sizeof codes / sizeof codes[0] && ref->len > 0; i++) {
		struct hither_error err = {0};
		struct checking_sink s = make_sink(ref, 0, ref->len);
		s.stop_code = codes[i];
		s.stop_at = i % 2 ? ref->len / 2 : 1;
		CHECK_EQ(hither_backend_read(b, 0, ref->len, &s.base, &err), codes[i]);
		CHECK(s.stopped);
	}
	check_range(b, ref, 0, ref->len); /* and the backend is none the worse */
}

struct reader {
	struct hither_backend *b;
	const struct reference *ref;
	uint64_t seed;
};

static void *read_randomly(void *arg)
{
	struct reader *r = arg;
	for (int i = 0; i < 12; i++) {
		size_t offset, len;
		random_range(&r->seed, r->ref->len, &offset, &len);
		check_range(r->b, r->ref, offset, len);
	}
	return NULL;
}

static void reads_may_run_at_a_time(struct hither_backend *b, const struct reference *ref)
{
	pthread_t threads[THREAD_MAX];
	struct reader readers[THREAD_MAX];
	unsigned count = b->parallel < THREAD_MAX ? b->parallel : THREAD_MAX;
	for (unsigned i = 0; i < count; i++) {
		readers[i] = (struct reader){b, ref, UINT64_C(0x1234567) * (i + 1)};
		CHECK_EQ(pthread_create(&threads[i], NULL, read_randomly, &readers[i]), 0);
	}
	for (unsigned i = 0; i < count; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static void writing_is_refused(const struct contract_subject *s, const struct reference *ref)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_subject(s, false);
	CHECK_EQ(hither_backend_write_at(b, "x", ref->len ? 1 : 0, 0, &err), -EROFS);
	if (ref->len)
		CHECK_EQ(hither_backend_zero(b, 0, 1, &err), -EROFS);
	CHECK_EQ(err.code, -EROFS);
	CHECK(err.message[0]);
	if (!s->writable || s->keeps)
		check_range(b, ref, 0, ref->len);
	hither_backend_close(b);
}

static void later_calls_are_cancelled(const struct contract_subject *s)
{
	struct hither_backend *b = open_subject(s, s->writable);
	if (b->ops->cancel) {
		struct hither_error err = {0};
		char byte = 0;
		size_t len = b->size_bytes ? 1 : 0;
		hither_backend_cancel(b);
		if (len)
			CHECK_EQ(hither_backend_read_at(b, &byte, len, 0, &err), -ECANCELED);
		if (s->writable && len)
			CHECK_EQ(hither_backend_write_at(b, &byte, len, 0, &err), -ECANCELED);
		if (s->writable)
			CHECK_EQ(hither_backend_flush(b, &err), -ECANCELED);
		hither_backend_cancel(b); /* once more does no harm */
		if (len) {
			CHECK_EQ(err.code, -ECANCELED);
			CHECK_EQ(hither_backend_read_at(b, &byte, len, 0, NULL), -ECANCELED);
		}
	}
	hither_backend_close(b);
}

/* --- writing --- */

static void write_both(struct hither_backend *b, struct reference *ref, size_t offset, size_t len,
                       uint64_t *seed)
{
	struct hither_error err = {0};
	fill_random(ref->bytes + offset, len, seed);
	CHECK_OK(hither_backend_write_at(b, ref->bytes + offset, len, offset, &err));
}

static void writes_are_read_back(struct hither_backend *b, struct reference *ref)
{
	struct hither_error err = {0};
	uint64_t seed = 0xfeedbeef;
	for (int i = 0; i < 40; i++) {
		size_t offset, len;
		random_range(&seed, ref->len, &offset, &len);
		write_both(b, ref, offset, len, &seed);
		random_range(&seed, ref->len, &offset, &len);
		check_range(b, ref, offset, len);
		if (i % 8 == 0)
			CHECK_OK(hither_backend_flush(b, &err));
	}
	check_range(b, ref, 0, ref->len);
	CHECK_OK(hither_backend_flush(b, &err));
	CHECK_OK(hither_backend_flush(b, &err));
}

static void zeros_are_read_back(struct hither_backend *b, struct reference *ref)
{
	struct hither_error err = {0};
	uint64_t seed = 0x2e205;
	for (int i = 0; i < 20; i++) {
		size_t offset, len;
		random_range(&seed, ref->len, &offset, &len);
		write_both(b, ref, offset, len, &seed);
		random_range(&seed, ref->len, &offset, &len);
		memset(ref->bytes + offset, 0, len);
		CHECK_OK(hither_backend_zero(b, offset, len, &err));
	}
	check_range(b, ref, 0, ref->len);
	CHECK_EQ(hither_backend_zero(b, ref->len, 1, &err), -EINVAL);
	CHECK_OK(hither_backend_flush(b, &err));
}

static void a_write_beyond_the_end_changes_nothing(struct hither_backend *b,
                                                   const struct reference *ref)
{
	struct hither_error err = {0};
	char bytes[2] = "xy";
	CHECK_EQ(hither_backend_write_at(b, bytes, 1, ref->len, &err), -EINVAL);
	CHECK_EQ(hither_backend_write_at(b, bytes, 2, UINT64_MAX, &err), -EINVAL);
	if (ref->len)
		CHECK_EQ(hither_backend_write_at(b, bytes, 2, ref->len - 1, &err), -EINVAL);
	CHECK_EQ(err.code, -EINVAL);
	check_range(b, ref, 0, ref->len);
}

struct writer {
	struct hither_backend *b;
	struct reference *ref;
	size_t offset, len;
	uint64_t seed;
};

static void *write_own_part(void *arg)
{
	struct writer *w = arg;
	struct hither_error err = {0};
	for (int i = 0; i < 3; i++) {
		write_both(w->b, w->ref, w->offset, w->len, &w->seed);
		check_range(w->b, w->ref, w->offset, w->len);
		CHECK_OK(hither_backend_flush(w->b, &err));
	}
	return NULL;
}

/* Each thread its own blocks: only so is it safe. */
static void writes_may_run_at_a_time(struct hither_backend *b, struct reference *ref)
{
	pthread_t threads[THREAD_MAX];
	struct writer writers[THREAD_MAX];
	size_t unit = b->align_bytes > 4096 ? b->align_bytes : 4096;
	unsigned count = 0;
	for (size_t at = 0; at < ref->len && count < b->parallel && count < 4;
	     at += unit, count++) {
		size_t len = ref->len - at < unit ? ref->len - at : unit;
		writers[count] = (struct writer){b, ref, at, len, UINT64_C(0x777) * (count + 1)};
		CHECK_EQ(pthread_create(&threads[count], NULL, write_own_part, &writers[count]), 0);
	}
	for (unsigned i = 0; i < count; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	check_range(b, ref, 0, ref->len);
}

static void flushed_bytes_are_there_again(const struct contract_subject *s,
                                          const struct reference *ref)
{
	struct hither_backend *b = open_subject(s, false);
	check_range(b, ref, 0, ref->len);
	hither_backend_close(b);
}

/* --- all of it --- */

static void fill_reference(const struct contract_subject *s, struct hither_backend *b,
                           struct reference *ref)
{
	struct hither_error err = {0};
	uint64_t seed = 0x5eed;
	if (s->writable)
		write_both(b, ref, 0, ref->len, &seed);
	else
		CHECK_OK(hither_backend_read_at(b, ref->bytes, ref->len, 0, &err));
	if (s->content) {
		CHECK_EQ(ref->len, s->content_len);
		CHECK(memcmp(ref->bytes, s->content, ref->len) == 0);
	}
}

void contract_check(const struct contract_subject *s)
{
	printf("  %s\n", s->name);
	fflush(stdout);
	struct hither_backend *b = open_subject(s, s->writable);
	shape_is_sane(s, b);
	struct reference ref = {malloc((size_t)b->size_bytes + 1), (size_t)b->size_bytes};
	CHECK(ref.bytes);
	fill_reference(s, b, &ref);
	reads_of_any_alignment(b, &ref);
	what_is_had_now_is_the_same(b, &ref);
	nothing_is_read_for_no_bytes(b, &ref);
	a_range_beyond_the_end_is_invalid(b, &ref);
	a_sink_stops_the_read_with_its_own_code(b, &ref);
	reads_may_run_at_a_time(b, &ref);
	if (s->writable) {
		writes_are_read_back(b, &ref);
		zeros_are_read_back(b, &ref);
		a_write_beyond_the_end_changes_nothing(b, &ref);
		writes_may_run_at_a_time(b, &ref);
	}
	hither_backend_close(b);
	if (s->writable && s->keeps)
		flushed_bytes_are_there_again(s, &ref);
	writing_is_refused(s, &ref);
	later_calls_are_cancelled(s);
	free(ref.bytes);
}
