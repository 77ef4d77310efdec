/* SPDX-License-Identifier: Apache-2.0 */
/* What goes out beside the first request, and what becomes of it where servers are odd. */
#include "backend/http_test_server.h"
#include "base/clock.h"
#include "check.h"

#include <errno.h>
#include <hither/mount.h>
#include <string.h>

enum { BESIDE = 5, FIRST = 8192, LAST = 20000, PIECE = 12 << 10, END = FIRST + 4 * PIECE };

static struct http_server server;

static struct hither_backend *open_at(const char *path, int phase)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	char url[100];
	/* On a busy machine a good answer may take long. */
	uint32_t idle_ms = strcmp(path, "/early-bad") ? 20000 : 300;
	struct hither_backend_options options = {
	        .idle_timeout_ms = idle_ms, .beside = BESIDE, .last_bytes = LAST};
	atomic_store(&server.phase, phase);
	snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path);
	CHECK_OK(hither_backend_open(url, &options, &b, &err));
	CHECK_EQ(b->size_bytes, SERVED_BYTES);
	return b;
}

static void read_right(struct hither_backend *b, uint64_t offset, size_t len)
{
	static unsigned char buf[SERVED_BYTES];
	struct hither_error err = {0};
	CHECK_OK(hither_backend_read_at(b, buf, len, offset, &err));
	for (size_t i = 0; i < len; i++)
		CHECK_EQ(buf[i], served_byte(offset + i));
}

static void they_bring_what_follows_and_the_end_and_leave_connections(void)
{
	http_server_start(&server);
	struct hither_backend *b = open_at("/good", 0);
	CHECK_EQ(b->early[0].offset, FIRST);
	CHECK_EQ(b->early[0].len, END - FIRST);
	CHECK_EQ(b->early[1].offset, SERVED_BYTES - LAST);
	CHECK_EQ(b->early[1].len, LAST);
	/* In parts, and in any order. */
	read_right(b, SERVED_BYTES - LAST, LAST);
	read_right(b, 4 << 12, 3 << 12);
	read_right(b, FIRST, (4 << 12) - FIRST);
	read_right(b, 7 << 12, END - (7 << 12));
	CHECK_EQ(atomic_load(&server.requests), 1 + BESIDE);
	int connections = atomic_load(&server.connections);
	CHECK(connections <= 1 + BESIDE);
	/* Once: a second read is the server's. */
	read_right(b, FIRST, 4096);
	read_right(b, SERVED_BYTES - 10, 10);
	CHECK_EQ(atomic_load(&server.requests), 1 + BESIDE + 2);
	CHECK_EQ(atomic_load(&server.connections), connections);
	/* Across the border of what is early. */
	hither_backend_close(b);
	b = open_at("/good", 0);
	read_right(b, 0, SERVED_BYTES);
	hither_backend_close(b);
	http_server_stop(&server);
}

static void another_version_or_size_is_not_used(void)
{
	http_server_start(&server);
	for (int phase = 0; phase < 2; phase++) {
		struct hither_backend *b = open_at("/early-other", phase);
		read_right(b, 0, END + 1000);
		read_right(b, SERVED_BYTES - LAST, LAST);
		hither_backend_close(b);
	}
	http_server_stop(&server);
}

static void odd_servers_cost_a_request_more(void)
{
	http_server_start(&server);
	struct hither_backend *b = open_at("/early-front", 0);
	read_right(b, 0, END);
	read_right(b, SERVED_BYTES - LAST, LAST);
	hither_backend_close(b);
	for (int phase = 1; phase <= 4; phase++) {
		b = open_at("/early-bad", phase);
		read_right(b, 0, END + 1000);
		read_right(b, SERVED_BYTES - LAST, LAST);
		hither_backend_close(b);
	}
	/* Where the whole is small it comes with the first request, where there is none as well. */
	b = open_at("/whole-small", 0);
	CHECK_EQ(b->early[0].len + b->early[1].len, 0);
	read_right(b, 0, SERVED_BYTES);
	hither_backend_close(b);
	http_server_stop(&server);
}

static void open_fails(const char *path, int code)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	char url[100];
	struct hither_backend_options options = {.beside = BESIDE, .last_bytes = LAST};
	snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path);
	CHECK_EQ(hither_backend_open(url, &options, &b, &err), code);
}

static void *cancel(void *b)
{
	while (atomic_load(&server.stalled) < BESIDE)
		sched_yield();
	hither_backend_cancel(b);
	return NULL;
}

static void silence_holds_up_neither_open_nor_close_nor_for_ever_a_read(void)
{
	struct hither_error err = {0};
	unsigned char buf[4096];
	pthread_t thread;
	http_server_start(&server);
	struct hither_backend *b = open_at("/early-bad", 0);
	hither_backend_close(b); /* at once */
	b = open_at("/early-bad", 0);
	uint64_t began = hither_now_ns();
	read_right(b, FIRST, 5000);
	CHECK(hither_now_ns() - began < 5 * HITHER_NS_PER_S);
	hither_backend_close(b);
	atomic_store(&server.stalled, 0);
	b = open_at("/early-bad", 0);
	CHECK_EQ(pthread_create(&thread, NULL, cancel, b), 0);
	CHECK_EQ(hither_backend_read_at(b, buf, sizeof buf, SERVED_BYTES - 4096, &err), -ECANCELED);
	pthread_join(thread, NULL);
	hither_backend_close(b);
	open_fails("/nothing", -ENOENT);
	open_fails("/whole-large", -EOPNOTSUPP);
	http_server_stop(&server);
}

/* Another read of the same bytes is for who does not want to wait for the first any longer. */
static void *read_early(void *b)
{
	read_right(b, FIRST, 4096);
	return NULL;
}

static void a_second_read_asks_the_server(void)
{
	pthread_t thread;
	struct hither_error err = {0};
	unsigned char buf[4096];
	http_server_start(&server);
	struct hither_backend *b = open_at("/early-bad", 0);
	CHECK_EQ(pthread_create(&thread, NULL, read_early, b), 0);
	CHECK_OK(hither_backend_read_at(b, buf, sizeof buf, FIRST, &err));
	pthread_join(thread, NULL);
	hither_backend_close(b);
	http_server_stop(&server);
}

static void a_mount_takes_them_and_learns_nothing_of_the_line(void)
{
	static unsigned char buf[SERVED_BYTES];
	struct hither_error err = {0};
	struct hither_mount *m;
	struct hither_mount_stats stats;
	char url[100];
	struct hither_mount_options options = {.pull_off = true, .order = "readahead"};
	http_server_start(&server);
	snprintf(url, sizeof url, "http://127.0.0.1:%d/good", server.port);
	CHECK_OK(hither_mount_open(url, &options, &m, &err));
	CHECK_OK(hither_mount_read_at(m, buf, FIRST + 14 * PIECE, 0, &err));
	CHECK_OK(hither_mount_read_at(m, buf + SERVED_BYTES - 28000, 28000, SERVED_BYTES - 28000,
	                              &err));
	for (size_t i = 0; i < FIRST + 14 * PIECE; i++)
		CHECK_EQ(buf[i], served_byte(i));
	for (size_t i = SERVED_BYTES - 28000; i < SERVED_BYTES; i++)
		CHECK_EQ(buf[i], served_byte(i));
	hither_mount_stats(m, &stats);
	CHECK_EQ(stats.rtt_ns, 0);
	CHECK_EQ(atomic_load(&server.requests), 16);
	CHECK_OK(hither_mount_close(m, &err));
	/* Who wants one request at a time gets one at a time. */
	options.workers = 1;
	atomic_store(&server.requests, 0);
	CHECK_OK(hither_mount_open(url, &options, &m, &err));
	CHECK_EQ(atomic_load(&server.requests), 1);
	CHECK_OK(hither_mount_close(m, &err));
	http_server_stop(&server);
}

int main(void)
{
	setenv("HOME", "/nonexistent", 1); /* nothing of the user's own is to be seen */
	setenv("no_proxy", "*", 1);
	RUN(they_bring_what_follows_and_the_end_and_leave_connections);
	RUN(another_version_or_size_is_not_used);
	RUN(odd_servers_cost_a_request_more);
	RUN(silence_holds_up_neither_open_nor_close_nor_for_ever_a_read);
	RUN(a_second_read_asks_the_server);
	RUN(a_mount_takes_them_and_learns_nothing_of_the_line);
	return 0;
}
