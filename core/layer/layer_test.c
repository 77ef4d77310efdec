/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"

#include <errno.h>
#include <hither/layer.h>
#include <string.h>

enum { SIZE = 100 * 1000 };

static struct hither_backend *make_memory(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	static char bytes[SIZE];
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (char)(i * 31 + i / 251);
	CHECK_OK(hither_backend_memory_create(SIZE, &b, &err));
	CHECK_OK(hither_backend_write_at(b, bytes, SIZE, 0, &err));
	return b;
}

static struct hither_backend *make_fault(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	CHECK_OK(hither_layer_fault(make_memory(), &b, &err));
	return b;
}

struct counting_sink {
	struct hither_sink base;
	size_t taken;
	size_t largest;
};

static int count(struct hither_sink *sink, const void *buf, size_t len)
{
	struct counting_sink *s = HITHER_CONTAINER(sink, struct counting_sink, base);
	s->taken += len;
	s->largest = len > s->largest ? len : s->largest;
	return 0;
}

/* --- fault --- */

static void the_kth_call_fails_and_so_often(void)
{
	char buf[100];
	for (unsigned skip = 0; skip < 4; skip++) {
		struct hither_backend *b = make_fault();
		hither_layer_fault_arm(b, HITHER_FAULT_READ, skip, 2, -ECONNRESET, 0);
		for (unsigned i = 0; i < 8; i++) {
			struct hither_error err = {0};
			int want = i >= skip && i < skip + 2 ? -ECONNRESET : 0;
			CHECK_EQ(hither_backend_read_at(b, buf, sizeof buf, 100, &err), want);
			CHECK_EQ(err.code, want);
			CHECK(!want || strstr(err.message, "fault: read"));
		}
		CHECK_EQ(hither_layer_fault_calls(b, HITHER_FAULT_READ), 8);
		CHECK_EQ(hither_layer_fault_calls(b, HITHER_FAULT_WRITE), 0);
		hither_backend_close(b);
	}
}

static void zero_disarms(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = make_fault();
	hither_layer_fault_arm(b, HITHER_FAULT_FLUSH, 0, UINT64_MAX, -ENOSPC, 0);
	CHECK_EQ(hither_backend_flush(b, &err), -ENOSPC);
	CHECK_EQ(hither_backend_flush(b, &err), -ENOSPC);
	hither_layer_fault_arm(b, HITHER_FAULT_FLUSH, 0, 0, 0, 0);
	CHECK_OK(hither_backend_flush(b, &err));
	hither_backend_close(b);
}

static void a_failing_read_delivers_its_part_first(void)
{
	static const size_t parts[] = {0, 1, 600, 1000, 5000};
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		struct hither_error err = {0};
		struct hither_backend *b = make_fault();
		struct counting_sink s = {{count}, 0, 0};
		hither_layer_fault_arm(b, HITHER_FAULT_READ, 0, 1, -EIO, parts[i]);
		CHECK_EQ(hither_backend_read(b, 50, 1000, &s.base, &err), -EIO);
		CHECK_EQ(s.taken, parts[i] < 1000 ? parts[i] : 1000);
		hither_backend_close(b);
	}
}

static void a_failing_write_writes_its_part_first(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = make_fault();
	char old[20], now[20], fresh[20];
	memset(fresh, '!', sizeof fresh);
	CHECK_OK(hither_backend_read_at(b, old, sizeof old, 10, &err));
	hither_layer_fault_arm(b, HITHER_FAULT_WRITE, 1, 1, -EIO, 7);
	CHECK_OK(hither_backend_write_at(b, fresh, 1, 0, &err));
	CHECK_EQ(hither_backend_write_at(b, fresh, sizeof fresh, 10, &err), -EIO);
	CHECK_OK(hither_backend_read_at(b, now, sizeof now, 10, &err));
	CHECK(memcmp(now, fresh, 7) == 0 && memcmp(now + 7, old + 7, sizeof now - 7) == 0);
	CHECK_OK(hither_backend_write_at(b, fresh, sizeof fresh, 10, &err));
	CHECK_EQ(hither_layer_fault_calls(b, HITHER_FAULT_WRITE), 3);
	hither_backend_close(b);
}

static void a_version_can_be_forged(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = make_fault();
	char version[HITHER_VERSION_BYTES];
	hither_layer_fault_version(b, "two");
	CHECK_OK(hither_backend_version(b, version, &err));
	CHECK(strcmp(version, "two") == 0);
	hither_layer_fault_arm(b, HITHER_FAULT_VERSION, 0, 1, -ETIMEDOUT, 0);
	CHECK_EQ(hither_backend_version(b, version, &err), -ETIMEDOUT);
	hither_layer_fault_version(b, NULL);
	CHECK_OK(hither_backend_version(b, version, &err));
	CHECK(version[0] == 0);
	CHECK_EQ(hither_layer_fault_calls(b, HITHER_FAULT_VERSION), 3);
	hither_backend_close(b);
}

/* --- delay and rate --- */

static void a_delay_holds_each_call(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	char byte = 0;
	CHECK_OK(hither_layer_delay(make_memory(), 5000, &b, &err));
	CHECK(!(b->flags & HITHER_BACKEND_LOCAL) && (b->flags & HITHER_BACKEND_WRITABLE));
	uint64_t start = hither_now_ns();
	CHECK_OK(hither_backend_read_at(b, &byte, 1, 0, &err));
	CHECK(hither_now_ns() - start >= 5 * HITHER_NS_PER_MS);
	CHECK_OK(hither_backend_write_at(b, &byte, 1, 0, &err));
	CHECK(hither_now_ns() - start >= 10 * HITHER_NS_PER_MS);
	CHECK_OK(hither_backend_flush(b, &err));
	CHECK(hither_now_ns() - start >= 15 * HITHER_NS_PER_MS);
	hither_backend_close(b);
}

static void bytes_keep_the_rate(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	static char buf[SIZE];
	CHECK_OK(hither_layer_rate(make_memory(), 1000 * 1000, &b, &err));
	struct counting_sink s = {{count}, 0, 0};
	uint64_t start = hither_now_ns();
	CHECK_OK(hither_backend_read(b, 0, SIZE, &s.base,
	                             &err)); /* 100 ms of bytes, 10 of them saved up */
	CHECK(hither_now_ns() - start >= 89 * HITHER_NS_PER_MS);
	CHECK_EQ(s.taken, SIZE);
	CHECK(s.largest <= SIZE / 10); /* they come as they would from a link */
	start = hither_now_ns();
	CHECK_OK(hither_backend_write_at(b, buf, SIZE, 0, &err));
	CHECK(hither_now_ns() - start >= 89 * HITHER_NS_PER_MS);
	hither_backend_close(b);
	struct hither_backend *memory = make_memory();
	CHECK_EQ(hither_layer_rate(memory, 0, &b, &err), -EINVAL);
	CHECK_EQ(hither_layer_delay(memory, UINT64_MAX, &b, &err), -EINVAL);
	hither_backend_close(memory);
}

struct part {
	struct hither_backend *b;
	uint64_t offset;
};

static void *read_part(void *arg)
{
	struct part *p = arg;
	struct hither_error err = {0};
	struct counting_sink s = {{count}, 0, 0};
	CHECK_OK(hither_backend_read(p->b, p->offset, SIZE / 4, &s.base, &err));
	return NULL;
}

static void readers_share_the_rate(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	pthread_t threads[4];
	struct part parts[4];
	CHECK_OK(hither_layer_rate(make_memory(), 1000 * 1000, &b, &err));
	uint64_t start = hither_now_ns();
	for (unsigned i = 0; i < 4; i++) {
		parts[i] = (struct part){b, i * (SIZE / 4)};
		CHECK_EQ(pthread_create(&threads[i], NULL, read_part, &parts[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
	CHECK(hither_now_ns() - start >= 89 * HITHER_NS_PER_MS);
	hither_backend_close(b);
}

struct waiter {
	struct hither_backend *b;
	int (*call)(struct hither_backend *b, struct hither_error *err);
	int result;
	struct hither_error err;
};

static int call_read(struct hither_backend *b, struct hither_error *err)
{
	char buf[1000];
	return hither_backend_read_at(b, buf, sizeof buf, 0, err);
}

static int call_write(struct hither_backend *b, struct hither_error *err)
{
	char buf[1000] = "";
	return hither_backend_write_at(b, buf, sizeof buf, 0, err);
}

static void *run_call(void *arg)
{
	struct waiter *w = arg;
	w->result = w->call(w->b, &w->err);
	return NULL;
}

/* With waits of an hour, that this ends at all shows that cancel ends them. */
static void check_cancel(struct hither_backend *b,
                         int (*call)(struct hither_backend *b, struct hither_error *err),
                         const char *layer)
{
	pthread_t thread;
	struct waiter w = {b, call, 0, {0}};
	CHECK_EQ(pthread_create(&thread, NULL, run_call, &w), 0);
	hither_backend_cancel(b);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(w.result, -ECANCELED);
	CHECK_EQ(w.err.code, -ECANCELED);
	/* A rated read waits when bytes have come: cancelled before, what brings them says so. */
	bool below = call == call_read && !strcmp(layer, "rate");
	CHECK(strstr(w.err.message, layer) || (below && strstr(w.err.message, "memory")));
	CHECK_EQ(call(b, NULL), -ECANCELED);
	hither_backend_close(b);
}

static void cancel_ends_the_wait(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	for (int i = 0; i < 20; i++) { /* before, while and after the other thread starts to wait */
		CHECK_OK(hither_layer_delay(make_memory(), UINT64_C(3600) * 1000000, &b, &err));
		check_cancel(b, i % 2 ? call_read : call_write, "delay");
		CHECK_OK(hither_layer_rate(make_memory(), 1, &b, &err));
		check_cancel(b, i % 2 ? call_read : call_write, "rate");
	}
}

static void cancel_reaches_the_innermost(void)
{
	struct hither_error err = {0};
	struct hither_backend *memory = make_memory(), *b = NULL;
	char byte;
	CHECK_OK(hither_layer_fault(memory, &b, &err));
	CHECK_OK(hither_layer_log(b, stderr, &b, &err));
	hither_backend_cancel(b);
	CHECK_EQ(hither_backend_read_at(memory, &byte, 1, 0, &err), -ECANCELED);
	hither_backend_close(b);
}

/* --- log --- */

static void each_call_is_one_line(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = make_fault();
	char *text = NULL, buf[10] = "", version[HITHER_VERSION_BYTES];
	size_t text_len = 0;
	FILE *stream = open_memstream(&text, &text_len);
	CHECK(stream);
	hither_layer_fault_arm(b, HITHER_FAULT_WRITE, 0, 1, -ENOSPC, 0);
	CHECK_OK(hither_layer_log(b, stream, &b, &err));
	CHECK_OK(hither_backend_read_at(b, buf, 10, 4096, &err));
	CHECK_EQ(hither_backend_write_at(b, buf, 5, 77, &err), -ENOSPC);
	CHECK_OK(hither_backend_flush(b, &err));
	CHECK_OK(hither_backend_version(b, version, &err));
	hither_backend_close(b);
	CHECK_EQ(fclose(stream), 0);
	char *line[5];
	char *rest = text;
	for (unsigned i = 0; i < 5; i++)
		line[i] = strsep(&rest, "\n");
	CHECK(!rest && line[4][0] == 0); /* four lines, all of them ended */
	CHECK(strncmp(line[0], "read offset=4096 len=10 us=", 27) == 0);
	CHECK(strcmp(strrchr(line[0], ' '), " result=0") == 0);
	CHECK(strncmp(line[1], "write offset=77 len=5 us=", 25) == 0);
	CHECK(strstr(line[1], " result=-28 fault: write"));
	CHECK(strncmp(line[2], "flush offset=0 len=0 us=", 24) == 0);
	CHECK(strncmp(line[3], "version offset=0 len=0 us=", 26) == 0);
	free(text);
}

int main(void)
{
	RUN(the_kth_call_fails_and_so_often);
	RUN(zero_disarms);
	RUN(a_failing_read_delivers_its_part_first);
	RUN(a_failing_write_writes_its_part_first);
	RUN(a_version_can_be_forged);
	RUN(a_delay_holds_each_call);
	RUN(bytes_keep_the_rate);
	RUN(readers_share_the_rate);
	RUN(cancel_ends_the_wait);
	RUN(cancel_reaches_the_innermost);
	RUN(each_call_is_one_line);
	return 0;
}
