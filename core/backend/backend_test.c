/* SPDX-License-Identifier: Apache-2.0 */
/* The checking calls, over a backend that looks at what reaches it and misbehaves when told to. */
#include "base/cleanup.h"
#include "check.h"

#include <errno.h>
#include <hither/backend.h>
#include <string.h>

enum { SIZE = 10001, ALIGN = 512, MAX_REQUEST = 1300 }; /* that is 1024 in whole blocks */

struct strict_backend {
	struct hither_backend base;
	char bytes[SIZE];
	unsigned reads, writes;
	size_t deliver_less; /* by so much */
	size_t deliver_more;
	int result;   /* instead of 0, after delivering */
	bool swallow; /* ignore what the sink says */
	unsigned closed;
};

static struct strict_backend *strict_of(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct strict_backend, base);
}

static void check_request(const struct hither_backend *b, uint64_t offset, uint64_t len)
{
	CHECK(len > 0);
	CHECK(offset % b->align_bytes == 0);
	CHECK(len % b->align_bytes == 0 || offset + len == b->size_bytes);
	CHECK(!b->max_request_bytes || len <= b->max_request_bytes || len <= b->align_bytes);
	CHECK(offset + len <= b->size_bytes);
}

static int strict_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                       struct hither_sink *sink, struct hither_error *err)
{
	static const char more[64];
	struct strict_backend *s = strict_of(b);
	check_request(b, offset, len);
	s->reads++;
	for (uint64_t done = 0; done + s->deliver_less < len;) { /* in odd pieces */
		size_t n = len - s->deliver_less - done < 333 ? len - s->deliver_less - done : 333;
		int r = sink->take(sink, s->bytes + offset + done, n);
		if (r && !s->swallow)
			return hither_fail(err, -EIO, "strict: not the sink's code");
		done += n;
	}
	if (s->deliver_more)
		sink->take(sink, more, s->deliver_more);
	return s->result ? hither_fail(err, s->result, "strict: as told") : 0;
}

static int strict_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                           struct hither_error *err)
{
	struct strict_backend *s = strict_of(b);
	check_request(b, offset, len);
	s->writes++;
	memcpy(s->bytes + offset, buf, len);
	return 0;
}

static void strict_close(struct hither_backend *b)
{
	strict_of(b)->closed++;
}

static const struct hither_backend_ops strict_ops = {
        .name = "strict", .read = strict_read, .write_at = strict_write_at, .close = strict_close};

static struct strict_backend make_strict(void)
{
	struct strict_backend s = {.base = {.ops = &strict_ops,
	                                    .size_bytes = SIZE,
	                                    .flags = HITHER_BACKEND_WRITABLE,
	                                    .align_bytes = ALIGN,
	                                    .parallel = 1,
	                                    .max_request_bytes = MAX_REQUEST}};
	for (size_t i = 0; i < SIZE; i++)
		s.bytes[i] = (char)(i * 7 + i / 256);
	return s;
}

static void requests_are_aligned_and_split(void)
{
	struct hither_error err = {0};
	struct strict_backend s = make_strict();
	static char buf[SIZE];
	static const struct {
		size_t offset, len;
		unsigned requests;
	} cases[] = {
	        {0, SIZE, 10},    {0, 0, 0},      {SIZE, 0, 0},    {0, 1, 1},
	        {511, 2, 1},      {511, 1026, 2}, {512, 1024, 1},  {512, 1025, 2},
	        {SIZE - 1, 1, 1}, {9728, 273, 1}, {9000, 1001, 2}, {1023, 1, 1},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		s.reads = 0;
		CHECK_OK(hither_backend_read_at(&s.base, buf, cases[i].len, cases[i].offset, &err));
		CHECK(memcmp(buf, s.bytes + cases[i].offset, cases[i].len) == 0);
		CHECK_EQ(s.reads, cases[i].requests);
	}
}

static void a_request_limit_below_the_alignment_means_one_block(void)
{
	struct hither_error err = {0};
	struct strict_backend s = make_strict();
	static char buf[SIZE];
	s.base.max_request_bytes = 100;
	CHECK_OK(hither_backend_read_at(&s.base, buf, SIZE, 0, &err));
	CHECK_EQ(s.reads, 20);
	CHECK(memcmp(buf, s.bytes, SIZE) == 0);
}

static void edges_are_read_changed_and_written(void)
{
	struct hither_error err = {0};
	struct strict_backend s = make_strict(), want = make_strict();
	static char buf[SIZE];
	memset(buf, 'w', sizeof buf);
	static const struct {
		size_t offset, len;
		unsigned reads, writes;
	} cases[] = {
	        {0, 512, 0, 1},    {0, 1536, 0, 2}, {1, 1, 1, 1},      {0, 511, 1, 1},
	        {511, 2, 2, 2},    {1, 1534, 2, 3}, {9728, 273, 0, 1}, {9729, 272, 1, 1},
	        {9728, 272, 1, 1}, {SIZE, 0, 0, 0}, {0, SIZE, 0, 10},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		s = make_strict();
		want = make_strict();
		memcpy(want.bytes + cases[i].offset, buf, cases[i].len);
		CHECK_OK(
		        hither_backend_write_at(&s.base, buf, cases[i].len, cases[i].offset, &err));
		CHECK(memcmp(s.bytes, want.bytes, SIZE) == 0);
		CHECK_EQ(s.reads, cases[i].reads);
		CHECK_EQ(s.writes, cases[i].writes);
	}
}

static void an_edge_that_cannot_be_read_is_not_written(void)
{
	struct hither_error err = {0};
	struct strict_backend s = make_strict();
	s.result = -ETIMEDOUT;
	CHECK_EQ(hither_backend_write_at(&s.base, "x", 1, 3, &err), -ETIMEDOUT);
	CHECK_EQ(s.writes, 0);
	CHECK_OK(hither_backend_write_at(&s.base, s.bytes, ALIGN, 0, &err));
}

static void a_wrong_amount_is_an_error(void)
{
	struct hither_error err = {0};
	struct strict_backend s = make_strict();
	char buf[ALIGN];
	s.deliver_less = 12;
	CHECK_EQ(hither_backend_read_at(&s.base, buf, 10, 0, &err), -EIO);
	CHECK(strstr(err.message, "delivered 500 of 512"));
	s.deliver_less = 0;
	s.deliver_more = 5;
	CHECK_EQ(hither_backend_read_at(&s.base, buf, ALIGN, 0, &err), -EIO);
	CHECK(strstr(err.message, "delivered 517 of 512"));
	CHECK_EQ(hither_backend_read_at(&s.base, buf, ALIGN, 0, NULL), -EIO);
	s.deliver_more = 0;
	s.deliver_less = 12;
	s.result = -ECONNRESET; /* the backend's own reason goes first */
	CHECK_EQ(hither_backend_read_at(&s.base, buf, 10, 0, &err), -ECONNRESET);
	CHECK(strcmp(err.message, "strict: as told") == 0);
}

struct refusing_sink {
	struct hither_sink base;
	unsigned calls;
};

static int refuse(struct hither_sink *sink, const void *buf, size_t len)
{
	HITHER_CONTAINER(sink, struct refusing_sink, base)->calls++;
	return -E2BIG;
}

static void the_sinks_code_wins(void)
{
	struct strict_backend s = make_strict();
	for (int swallow = 0; swallow < 2;
	     swallow++) { /* also over a backend that goes on regardless */
		struct hither_error err = {0};
		struct refusing_sink sink = {{refuse}, 0};
		s.swallow = swallow;
		CHECK_EQ(hither_backend_read(&s.base, 0, SIZE, &sink.base, &err), -E2BIG);
		CHECK_EQ(err.code, -E2BIG);
		CHECK_EQ(sink.calls, 1);
	}
}

static void optional_entries_may_be_missing(void)
{
	struct hither_error err = {0};
	struct strict_backend s = make_strict();
	char version[HITHER_VERSION_BYTES] = "x";
	CHECK_OK(hither_backend_version(&s.base, version, &err));
	CHECK(version[0] == 0);
	CHECK_OK(hither_backend_flush(&s.base, &err));
	hither_backend_cancel(&s.base);
	hither_backend_close(&s.base);
	CHECK_EQ(s.closed, 1);
	hither_backend_close(NULL);
}

static void urls_find_their_backend(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_EQ(hither_backend_open("nosuch://user:password@host/x", NULL, &b, &err),
	         -EPROTONOSUPPORT);
	CHECK(strstr(err.message, "nosuch") && strstr(err.message, " file") &&
	      strstr(err.message, " memory"));
	CHECK(!strstr(err.message, "password"));
	CHECK_EQ(hither_backend_open("", NULL, &b, &err), -EINVAL);
	CHECK_EQ(hither_backend_open("./no:such", NULL, &b, &err), -ENOENT);
	CHECK(strstr(err.message, "./no:such"));
	CHECK(!b);
	static const char *const memories[] = {"memory:1M", "memory://1M"};
	for (size_t i = 0; i < 2; i++) {
		CHECK_OK(hither_backend_open(memories[i], NULL, &b, &err));
		CHECK(b->size_bytes == 1 << 20 && !(b->flags & HITHER_BACKEND_WRITABLE));
		hither_backend_close(b);
	}
	for (const struct hither_backend_ops *const *o = hither_backend_list(); *o; o++)
		CHECK((*o)->name && (*o)->schemes && (*o)->schemes[0] && (*o)->open && (*o)->read);
}

static void memory_sizes(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	static const char *const bad[] = {"memory:", "memory://", "memory:x", "memory:-1",
	                                  "memory:1K?"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK_EQ(hither_backend_open(bad[i], NULL, &b, &err), -EINVAL);
	struct hither_backend_options options = {
	        .create_bytes = 12345, .writable = true, .parallel = 3};
	CHECK_OK(hither_backend_open("memory:", &options, &b, &err));
	CHECK_EQ(b->size_bytes, 12345);
	CHECK_EQ(b->parallel, 3);
	hither_backend_close(b);
}

#ifndef __SANITIZE_THREAD__
static void a_large_memory_is_cheap(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	const uint64_t size = UINT64_C(1) << 40;
	char buf[8] = "tail", back[8] = "";
	CHECK_OK(hither_backend_memory_create(size, &b, &err));
	CHECK_EQ(b->size_bytes, size);
	CHECK_OK(hither_backend_write_at(b, buf, sizeof buf, size - sizeof buf, &err));
	CHECK_OK(hither_backend_read_at(b, back, sizeof back, size - sizeof back, &err));
	CHECK(memcmp(buf, back, sizeof buf) == 0);
	CHECK_OK(hither_backend_read_at(b, back, sizeof back, size / 2, &err));
	CHECK(memcmp(back, "\0\0\0\0\0\0\0", sizeof back) == 0);
	hither_backend_close(b);
}
#endif

/* Where none are set aside it is told how to have them. */
static void memory_in_huge_pages(void)
{
	enum { BYTES = 4 << 20, MIB = 1 << 20 };
	struct hither_error err = {0};
	struct hither_backend *b;
	static char buf[BYTES];
	CHECK_EQ(hither_backend_memory_huge(UINT64_C(1) << 46, &b, &err), -ENOMEM);
	CHECK(strstr(err.message, "33554432 huge pages") && strstr(err.message, "vm.nr_hugepages"));
	int r = hither_backend_memory_huge(BYTES - 5, &b, &err);
	if (r) {
		CHECK_EQ(r, -ENOMEM);
		fprintf(stderr, "    none are set aside\n");
		return;
	}
	memset(buf, 'x', sizeof buf);
	CHECK_OK(hither_backend_write_at(b, buf, BYTES - 5, 0, &err));
	/* A part of one, and one as a whole: zeros all of it. */
	CHECK_OK(hither_backend_zero(b, 0, MIB, &err));
	CHECK_OK(hither_backend_zero(b, 2 * MIB, BYTES - 5 - 2 * MIB, &err));
	CHECK_OK(hither_backend_read_at(b, buf, BYTES - 5, 0, &err));
	for (size_t at = 0; at < BYTES - 5; at++)
		CHECK_EQ(buf[at], at < MIB || at >= 2 * MIB ? 0 : 'x');
	hither_backend_close(b);
}

int main(void)
{
	RUN(requests_are_aligned_and_split);
	RUN(a_request_limit_below_the_alignment_means_one_block);
	RUN(edges_are_read_changed_and_written);
	RUN(an_edge_that_cannot_be_read_is_not_written);
	RUN(a_wrong_amount_is_an_error);
	RUN(the_sinks_code_wins);
	RUN(optional_entries_may_be_missing);
	RUN(urls_find_their_backend);
	RUN(memory_sizes);
#ifndef __SANITIZE_THREAD__ /* its address space has no room for this */
	RUN(a_large_memory_is_cheap);
#endif
	RUN(memory_in_huge_pages);
	return 0;
}
