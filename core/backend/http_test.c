/* SPDX-License-Identifier: Apache-2.0 */
/* The http backend against a server that misbehaves. */
#include "backend/http_test_server.h"
#include "base/clock.h"
#include "check.h"
#include "contract.h"

#include <errno.h>
#include <hither/backend.h>
#include <string.h>

static struct http_server server;

struct counting_sink {
	struct hither_sink sink;
	uint64_t at; /* of the next byte */
	uint64_t got;
	uint64_t fail_after; /* bytes; 0: never */
	pthread_t thread;
};

static int take_checked(struct hither_sink *sink, const void *buf, size_t len)
{
	struct counting_sink *c = (struct counting_sink *)sink;
	const unsigned char *bytes = buf;
	CHECK(pthread_equal(c->thread, pthread_self()));
	for (size_t i = 0; i < len; i++)
		CHECK_EQ(bytes[i], served_byte(c->at + i));
	c->at += len;
	c->got += len;
	return c->fail_after && c->got > c->fail_after ? -ENOSPC : 0;
}

static int read_fails_after(struct hither_backend *b, uint64_t offset, uint64_t len,
                            uint64_t fail_after, uint64_t *got, struct hither_error *err)
{
	struct counting_sink c = {{take_checked}, offset, 0, fail_after, pthread_self()};
	int r = hither_backend_read(b, offset, len, &c.sink, err);
	if (r == 0)
		CHECK_EQ(c.got, len);
	if (got)
		*got = c.got;
	return r;
}

static int read_some(struct hither_backend *b, uint64_t offset, uint64_t len, uint64_t *got,
                     struct hither_error *err)
{
	return read_fails_after(b, offset, len, 0, got, err);
}

static int open_with(const char *path, struct hither_backend_options *options,
                     struct hither_backend **out, struct hither_error *err)
{
	char url[300];
	if (strncmp(path, "http", 4) == 0)
		snprintf(url, sizeof url, "%s", path);
	else
		snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path);
	*out = NULL;
	*err = (struct hither_error){0};
	return hither_backend_open(url, options, out, err);
}

static struct hither_backend *open_path(const char *path)
{
	struct hither_backend *b;
	struct hither_error err;
	struct hither_backend_options options = {.idle_timeout_ms = 300};
	atomic_store(&server.phase, 0);
	CHECK_OK(open_with(path, &options, &b, &err));
	CHECK_EQ(b->size_bytes, SERVED_BYTES);
	CHECK_EQ(b->align_bytes, 1);
	CHECK_EQ(b->flags, 0);
	return b;
}

/* Opening path fails with code, and says so with these words. */
static void open_fails(const char *path, int code, const char *words)
{
	struct hither_backend *b;
	struct hither_error err;
	struct hither_backend_options options = {.idle_timeout_ms = 300};
	CHECK_EQ(open_with(path, &options, &b, &err), code);
	CHECK_EQ(err.code, code);
	CHECK(!b);
	if (!strstr(err.message, words))
		fprintf(stderr, "\"%s\" has no \"%s\"\n", err.message, words);
	CHECK(strstr(err.message, words));
}

/* Opened well, then the server turns bad: a read past the first bytes fails with code and words. */
static void read_turns(const char *path, int code, const char *words)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_path(path);
	atomic_store(&server.phase, 1);
	CHECK_EQ(read_some(b, 100000, 50000, NULL, &err), code);
	CHECK_EQ(err.code, code);
	if (!strstr(err.message, words))
		fprintf(stderr, "\"%s\" has no \"%s\"\n", err.message, words);
	CHECK(strstr(err.message, words));
	hither_backend_close(b);
}

static void opening_is_one_request_and_brings_the_head(void)
{
	struct hither_error err = {0};
	int requests = atomic_load(&server.requests);
	struct hither_backend *b = open_path("/good");
	char version[HITHER_VERSION_BYTES];
	CHECK_OK(read_some(b, 0, 8192, NULL, &err));
	CHECK_OK(read_some(b, 8191, 1, NULL, &err));
	CHECK_OK(read_some(b, 0, 0, NULL, &err));
	CHECK_OK(hither_backend_version(b, version, &err));
	CHECK(strcmp(version, "etag:\"v0\"") == 0);
	CHECK_EQ(atomic_load(&server.requests), requests + 1);
	CHECK(http_server_saw(&server, "\r\nRange: bytes=0-8191\r\n"));
	CHECK(http_server_saw(&server, "\r\nAccept-Encoding: identity\r\n"));
	hither_backend_close(b);
}

static struct hither_backend *open_unseen(const char *path, uint64_t size)
{
	struct hither_backend *b;
	struct hither_error err;
	struct hither_backend_options o = {
	        .idle_timeout_ms = 300, .unseen = true, .known_size_bytes = size};
	int requests = atomic_load(&server.requests);
	atomic_store(&server.phase, 0);
	CHECK_OK(open_with(path, &o, &b, &err));
	CHECK_EQ(b->size_bytes, size);
	CHECK_EQ(b->head_bytes, 0);
	CHECK_EQ(atomic_load(&server.requests), requests);
	return b;
}

static void unseen_it_is_read_at_once(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_unseen("/good", SERVED_BYTES);
	int requests = atomic_load(&server.requests);
	CHECK_OK(read_some(b, 100000, 5000, NULL, &err));
	CHECK(http_server_saw(&server, "\r\nRange: bytes=100000-104999\r\n"));
	CHECK(!http_server_saw(&server, "If-Match"));
	CHECK_EQ(atomic_load(&server.requests), requests + 1);
	hither_backend_close(b);
	b = open_unseen("/good", SERVED_BYTES + 1);
	CHECK_EQ(read_some(b, 100000, 5000, NULL, &err), -ESTALE);
	hither_backend_close(b);
	b = open_unseen("/missing", 10);
	CHECK_EQ(read_some(b, 0, 10, NULL, &err), -ESTALE);
	hither_backend_close(b);
}

static void reads_share_one_connection(void)
{
	struct hither_error err = {0};
	int connections = atomic_load(&server.connections);
	struct hither_backend *b = open_path("/good");
	for (uint64_t offset = 0; offset < 20; offset++)
		CHECK_OK(read_some(b, offset * 1000, 5000 + offset, NULL, &err));
	CHECK_OK(read_some(b, 0, SERVED_BYTES, NULL, &err));
	CHECK(http_server_saw(&server, "\r\nRange: bytes=8192-299999\r\n"));
	CHECK_OK(read_some(b, SERVED_BYTES - 1, 1, NULL, &err));
	CHECK(http_server_saw(&server, "\r\nIf-Match: \"v0\"\r\n"));
	/* None, if an earlier backend left one open. */
	CHECK(atomic_load(&server.connections) <= connections + 1);
	hither_backend_close(b);
}

enum { READERS = 16, ROUNDS = 20 };

static void *read_many(void *user)
{
	struct hither_error err = {0};
	for (uint64_t i = 0; i < ROUNDS; i++)
		CHECK_OK(read_some(user, 9000 + i * 7919, 20000, NULL, &err));
	return NULL;
}

static void a_closed_backend_leaves_its_connection_to_the_next(void)
{
	hither_backend_close(open_path("/good"));
	int connections = atomic_load(&server.connections);
	hither_backend_close(open_path("/good"));
	CHECK_EQ(atomic_load(&server.connections), connections);
}

static void readers_in_parallel_use_a_connection_each(void)
{
	pthread_t threads[READERS];
	int connections = atomic_load(&server.connections);
	struct hither_backend *b = open_path("/good");
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, read_many, b), 0);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	CHECK(atomic_load(&server.connections) <= connections + READERS);
	hither_backend_close(b);
}

static void a_changed_resource_is_stale(void)
{
	read_turns("/good", -ESTALE, "no longer \"v0\"");
	read_turns("/ignorant", -ESTALE, "was \"v0\" and is now \"v1\"");
	read_turns("/weak", -ESTALE, "was W/\"v0\" and is now W/\"v1\"");
	read_turns("/dated", -ESTALE, "08:49:38");
	read_turns("/wrong-total", -ESTALE, "it had 300000 bytes and has 300001 now");
	read_turns("/shrinks", -ESTALE, "it had 300000 bytes and has 100 now");
	read_turns("/gone", -ESTALE, "410");
}

static void answers_that_do_not_fit_are_refused(void)
{
	read_turns("/wrong-range", -EPROTO, "sent bytes 100001-150000 when 100000-149999");
	read_turns("/forgets-ranges", -EPROTO, "whole resource");
	open_fails("/encoded", -EPROTO, "gzip");
	open_fails("/multipart", -EPROTO, "several parts");
	open_fails("/no-total", -EPROTO, "how large");
	open_fails("/garbage", -EPROTO, "HTTP");
	open_fails("/nowhere", -EPROTO, "302");
	open_fails("/missing", -ENOENT, "404");
}

static void a_known_version_that_holds_costs_one_small_answer(void)
{
	static const char *const known[][2] = {
	        {"/good", "etag:\"v0\""}, {"/dated", "modified:Sun, 06 Nov 1994 08:49:37 GMT"}};
	struct hither_error err;
	atomic_store(&server.phase, 0);
	for (int i = 0; i < 2; i++) {
		struct hither_backend *b;
		char version[HITHER_VERSION_BYTES];
		int requests = atomic_load(&server.requests);
		struct hither_backend_options options = {.known_version = known[i][1],
		                                         .known_size_bytes = SERVED_BYTES};
		CHECK_OK(open_with(known[i][0], &options, &b, &err));
		CHECK_EQ(atomic_load(&server.requests), requests + 1);
		CHECK_EQ(b->size_bytes, SERVED_BYTES);
		CHECK_OK(hither_backend_version(b, version, &err));
		CHECK(strcmp(version, known[i][1]) == 0);
		if (i == 1)
			CHECK_EQ(b->modified_ns, 784111777 * INT64_C(1000000000));
		CHECK_OK(read_some(b, 0, 10000, NULL, &err)); /* nothing was fetched yet */
		CHECK_EQ(atomic_load(&server.requests), requests + 2);
		hither_backend_close(b);
	}
}

static void a_known_version_that_does_not_hold_is_replaced(void)
{
	struct hither_error err;
	struct hither_backend *b;
	char version[HITHER_VERSION_BYTES];
	struct hither_backend_options options = {.known_version = "etag:\"v0\"",
	                                         .known_size_bytes = 17};
	atomic_store(&server.phase, 1);
	CHECK_OK(open_with("/good", &options, &b, &err));
	CHECK_EQ(b->size_bytes, SERVED_BYTES);
	CHECK_OK(hither_backend_version(b, version, &err));
	CHECK(strcmp(version, "etag:\"v1\"") == 0);
	hither_backend_close(b);
	/* This server says 304 although its date is another one. */
	options.known_version = "modified:Sun, 06 Nov 1994 08:49:37 GMT";
	CHECK_OK(open_with("/dated", &options, &b, &err));
	CHECK_EQ(b->size_bytes, SERVED_BYTES);
	CHECK_OK(hither_backend_version(b, version, &err));
	CHECK(strcmp(version, "modified:Sun, 06 Nov 1994 08:49:38 GMT") == 0);
	hither_backend_close(b);
	/* Somebody else's version, even one that would be a header of its own, is not sent. */
	options.known_version = "etag:\"v0\"\r\nX-Evil: 1";
	CHECK_OK(open_with("/good", &options, &b, &err));
	CHECK(!http_server_saw(&server, "Evil"));
	hither_backend_close(b);
}

static void without_ranges_small_resources_work(void)
{
	struct hither_error err = {0};
	static const char *const paths[] = {"/whole-small", "/whole-chunked"};
	for (int i = 0; i < 2; i++) {
		struct hither_backend *b = open_path(paths[i]);
		int requests = atomic_load(&server.requests);
		CHECK_OK(read_some(b, 0, SERVED_BYTES, NULL, &err));
		CHECK_OK(read_some(b, 123456, 4096, NULL, &err));
		CHECK_EQ(atomic_load(&server.requests), requests);
		hither_backend_close(b);
	}
	struct hither_backend *b;
	struct hither_backend_options options = {.known_version = "etag:\"w\"",
	                                         .known_size_bytes = SERVED_BYTES};
	CHECK_OK(open_with("/whole-small", &options, &b, &err));
	CHECK_OK(
	        read_some(b, 123456, 4096, NULL, &err)); /* nothing in memory: read over the rest */
	CHECK_OK(read_some(b, 299999, 1, NULL, &err));
	hither_backend_close(b);
}

static void without_ranges_large_resources_do_not(void)
{
	open_fails("/whole-large", -EOPNOTSUPP, "download it first");
	open_fails("/whole-large-chunked", -EOPNOTSUPP, "download it first");
	open_fails("/whole-unframed", -EOPNOTSUPP, "does not support range requests");
	open_fails("/whole-cut", -ECONNRESET, "cut");
}

static void an_empty_resource_is_fine(void)
{
	static const char *const paths[] = {"/empty-416", "/empty-200"};
	for (int i = 0; i < 2; i++) {
		struct hither_error err;
		struct hither_backend *b;
		struct hither_backend_options options = {0};
		CHECK_OK(open_with(paths[i], &options, &b, &err));
		CHECK_EQ(b->size_bytes, 0);
		CHECK_OK(read_some(b, 0, 0, NULL, &err));
		hither_backend_close(b);
	}
}

static void a_cut_body_is_transient_and_what_came_is_good(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_path("/cut"); /* its first bytes are cut as well */
	uint64_t got, at = 0;
	int r, tries = 0;
	CHECK_EQ(read_some(b, 100000, 10000, &got, &err), -ECONNRESET);
	CHECK(hither_error_is_transient(err.code));
	CHECK_EQ(got, 5000);
	do { /* so that trying on gets there: each try halves what is left */
		r = read_some(b, at, 20000 - at, &got, &err);
		at += got;
		CHECK(r == 0 || r == -ECONNRESET);
	} while (r && ++tries < 20 && at < 19999);
	CHECK(at >= 19999);
	hither_backend_close(b);
}

static void silence_is_timed_out_exactly(void)
{
	struct hither_error err = {0};
	static const char *const paths[] = {"/stalls", "/silent"};
	for (int i = 0; i < 2; i++) {
		struct hither_backend *b = open_path(paths[i]);
		uint64_t got, start = hither_now_ns();
		atomic_store(&server.phase, 1);
		CHECK_EQ(read_some(b, 100000, 10000, &got, &err), -ETIMEDOUT);
		CHECK(hither_now_ns() - start >= 300 * HITHER_NS_PER_MS);
		CHECK_EQ(got, i == 0 ? 5000 : 0);
		CHECK(strstr(err.message, "300 ms"));
		hither_backend_close(b);
	}
}

static void a_slow_answer_is_not_silence(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_path("/trickle");
	CHECK_OK(read_some(b, 100000, 10000, NULL, &err)); /* 480 ms, with pauses of 60 */
	hither_backend_close(b);
}

static void more_bytes_than_asked_for_are_left(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_path("/babbles");
	CHECK_OK(read_some(b, 100000, 10000, NULL, &err));
	hither_backend_close(b);
}

static void a_lost_connection_is_replaced(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_path("/hangs-up");
	atomic_store(&server.phase, 1);
	CHECK_EQ(read_some(b, 100000, 10, NULL, &err), -ECONNRESET);
	atomic_store(&server.phase, 0);
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	hither_backend_close(b);
}

static void a_busy_server_says_when_to_come_back(void)
{
	struct hither_error err;
	struct hither_backend *b;
	struct hither_backend_options options = {.connect_timeout_ms = 5000};
	CHECK_EQ(open_with("/busy", &options, &b, &err), -EAGAIN);
	CHECK_EQ(err.retry_after_ms, 7000);
	CHECK_EQ(open_with("/busy-until", &options, &b, &err), -EAGAIN);
	CHECK_EQ(err.retry_after_ms, 30000);
}

static void an_opening_waits_for_as_long_as_it_is_told(void)
{
	struct hither_error err = {0};
	struct hither_backend_options options = {.connect_timeout_ms = 500};
	struct hither_backend *b;
	atomic_store(&server.phase, 1);
	CHECK_EQ(open_with("/busy-once", &options, &b, &err), -EAGAIN);
	atomic_store(&server.phase, 1);
	b = open_path("/busy-once"); /* within the usual ten seconds */
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	hither_backend_close(b);
}

static void a_sink_that_fails_ends_the_read_with_its_code(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_path("/good");
	uint64_t got;
	CHECK_EQ(read_fails_after(b, 0, 4096, 1, &got, &err), -ENOSPC);
	CHECK_EQ(err.code, -ENOSPC);
	CHECK_EQ(read_fails_after(b, 0, SERVED_BYTES, 20000, &got, &err), -ENOSPC);
	CHECK(got > 20000 && got < SERVED_BYTES);
	CHECK_OK(read_some(b, 9000, 200000, NULL, &err));
	hither_backend_close(b);
}

static void redirects_are_followed_once(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_path("/moved");
	int requests = atomic_load(&server.requests);
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	CHECK_EQ(atomic_load(&server.requests), requests + 1);
	CHECK(http_server_saw(&server, "GET /good "));
	hither_backend_close(b);
	open_fails("/endless", -ELOOP, "/endless?and=on");
	open_fails("/to-file", -EPROTO, "file");
}

static void an_expired_place_is_looked_up_again(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = open_path("/signed");
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	CHECK(http_server_saw(&server, "GET /ticket/0 "));
	atomic_store(&server.phase, 1);
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	CHECK(http_server_saw(&server, "GET /ticket/1 "));
	CHECK_EQ(err.code, 0);
	int requests = atomic_load(&server.requests);
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	CHECK_EQ(atomic_load(&server.requests), requests + 1);
	hither_backend_close(b);
}

static void secrets_stay_with_their_origin(void)
{
	static struct http_server other;
	struct hither_error err;
	struct hither_backend *b;
	const char *const headers[] = {"Authorization: Bearer tell-nobody", "Cookie: tell-nobody",
	                               "X-Other: told", NULL};
	struct hither_backend_options options = {.headers = headers};
	http_server_start(&other);
	atomic_store(&server.peer_port, other.port);
	atomic_store(&server.phase, 0);
	CHECK_OK(open_with("/away", &options, &b, &err));
	CHECK(http_server_saw(&server, "tell-nobody"));
	CHECK(!http_server_saw(&other, "tell-nobody"));
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	CHECK_EQ(atomic_load(&other.requests), 2);
	CHECK(!http_server_saw(&other, "tell-nobody"));
	CHECK(http_server_saw(&other, "X-Other: told"));
	hither_backend_close(b);

	options = (struct hither_backend_options){.user = "me:secret"};
	CHECK_OK(open_with("/away", &options, &b, &err));
	CHECK(http_server_saw(&server, "Authorization: Basic"));
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	CHECK_EQ(atomic_load(&other.requests), 4);
	CHECK(!http_server_saw(&other, "Authorization"));
	/* The place that it led to disappears: the front door knows another one. */
	http_server_stop(&other);
	CHECK_EQ(read_some(b, 100000, 10, NULL, &err), -ECONNREFUSED);
	http_server_start(&other);
	atomic_store(&server.peer_port, other.port);
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	hither_backend_close(b);
	http_server_stop(&other);
}

static void a_name_and_password_come_from_options_or_url(void)
{
	struct hither_error err;
	struct hither_backend *b;
	char url[100];
	struct hither_backend_options options = {.user = "me:secret"};
	CHECK_OK(open_with("/private", &options, &b, &err));
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	hither_backend_close(b);
	snprintf(url, sizeof url, "http://me:s%%65cret@127.0.0.1:%d/private", server.port);
	options.user = NULL;
	CHECK_OK(open_with(url, &options, &b, &err));
	CHECK_OK(read_some(b, 100000, 10, NULL, &err));
	hither_backend_close(b);
	snprintf(url, sizeof url, "http://me:wr0ng@127.0.0.1:%d/private", server.port);
	CHECK_EQ(open_with(url, &options, &b, &err), -EACCES);
	CHECK(strstr(err.message, "127.0.0.1") && !strstr(err.message, "wr0ng"));
	open_fails("/private", -EACCES, "--user");
}

static void what_cannot_be_opened_says_why(void)
{
	struct hither_error err;
	struct hither_backend *b;
	char url[100];
	const char *const broken[] = {"X: 1\r\nY: 2", NULL};
	struct hither_backend_options options = {.writable = true};
	CHECK_EQ(open_with("/good", &options, &b, &err), -EROFS);
	CHECK(strstr(err.message, "read-only"));
	options = (struct hither_backend_options){.headers = broken};
	CHECK_EQ(open_with("/good", &options, &b, &err), -EINVAL);
	options = (struct hither_backend_options){0};
	CHECK_EQ(open_with("http://", &options, &b, &err), -EINVAL);
	/* Too long for a name, so that no name server is asked. */
	snprintf(url, sizeof url, "http://%064d.invalid/x", 0);
	CHECK_EQ(open_with(url, &options, &b, &err), -EHOSTUNREACH);
	struct http_server gone;
	http_server_start(&gone);
	http_server_stop(&gone);
	snprintf(url, sizeof url, "http://127.0.0.1:%d/x", gone.port);
	CHECK_EQ(open_with(url, &options, &b, &err), -ECONNREFUSED);
	/* Plain HTTP where TLS was expected. */
	snprintf(url, sizeof url, "https://127.0.0.1:%d/good", server.port);
	options.idle_timeout_ms = options.connect_timeout_ms = 300;
	int r = open_with(url, &options, &b, &err);
	CHECK(r == -EPROTO || r == -ETIMEDOUT);
}

struct blocked {
	struct hither_backend *b;
	int result;
};

static void *read_blocked(void *user)
{
	struct blocked *blocked = user;
	blocked->result = read_some(blocked->b, 100000, 10000, NULL, NULL);
	return NULL;
}

static void cancel_ends_what_is_under_way(void)
{
	struct hither_error err;
	struct hither_backend_options options = {0}; /* 30 s */
	struct blocked blocked[8];
	pthread_t threads[8];
	struct hither_backend *b;
	atomic_store(&server.phase, 0);
	CHECK_OK(open_with("/silent", &options, &b, &err));
	atomic_store(&server.phase, 1);
	atomic_store(&server.stalled, 0);
	for (int i = 0; i < 8; i++) {
		blocked[i].b = b;
		CHECK_EQ(pthread_create(&threads[i], NULL, read_blocked, &blocked[i]), 0);
	}
	while (atomic_load(&server.stalled) < 8)
		sched_yield();
	uint64_t start = hither_now_ns();
	hither_backend_cancel(b);
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQ(blocked[i].result, -ECANCELED);
	}
	CHECK(hither_now_ns() - start < 10 * HITHER_NS_PER_S);
	CHECK_EQ(read_some(b, 100000, 10, NULL, &err), -ECANCELED);
	CHECK_EQ(read_some(b, 0, 10, NULL, &err), -ECANCELED);
	hither_backend_close(b);
}

struct droppable {
	struct hither_sink sink;
	struct hither_backend *b;
	atomic_bool dropped;
	int result;
};

static int take_all(struct hither_sink *sink, const void *buf, size_t len)
{
	return 0;
}

static bool is_dropped(const struct hither_sink *sink)
{
	return atomic_load(&((const struct droppable *)sink)->dropped);
}

static void *read_droppable(void *user)
{
	struct droppable *d = user;
	struct hither_error err;
	d->result = hither_backend_read(d->b, 100000, 10000, &d->sink, &err);
	return NULL;
}

/* One of two reads of a silent server is dropped; the other goes on, and so does the backend. */
static void what_is_dropped_ends_and_nothing_else_does(void)
{
	struct hither_error err;
	struct hither_backend_options options = {0}; /* 30 s */
	struct droppable reads[2];
	pthread_t threads[2];
	struct hither_backend *b;
	atomic_store(&server.phase, 0);
	CHECK_OK(open_with("/silent", &options, &b, &err));
	atomic_store(&server.phase, 1);
	atomic_store(&server.stalled, 0);
	for (int i = 0; i < 2; i++) {
		reads[i] = (struct droppable){.sink = {.take = take_all, .dropped = is_dropped},
		                              .b = b};
		CHECK_EQ(pthread_create(&threads[i], NULL, read_droppable, &reads[i]), 0);
	}
	while (atomic_load(&server.stalled) < 2)
		sched_yield();
	uint64_t start = hither_now_ns();
	atomic_store(&reads[0].dropped, true);
	CHECK(hither_backend_drop(b));
	pthread_join(threads[0], NULL);
	CHECK_EQ(reads[0].result, -ECANCELED);
	CHECK(hither_now_ns() - start < 10 * HITHER_NS_PER_S);
	atomic_store(&server.phase, 0);
	CHECK_OK(read_some(b, 100000, 10000, NULL, &err));
	hither_backend_cancel(b);
	pthread_join(threads[1], NULL);
	CHECK_EQ(reads[1].result, -ECANCELED);
	hither_backend_close(b);
}

static int open_good(void *user, bool writable, struct hither_backend **out,
                     struct hither_error *err)
{
	struct hither_backend_options options = {.writable = writable};
	return open_with("/good", &options, out, err);
}

static void the_contract_holds(void)
{
	static unsigned char content[SERVED_BYTES];
	for (size_t i = 0; i < sizeof content; i++)
		content[i] = served_byte(i);
	atomic_store(&server.phase, 0);
	contract_check(&(struct contract_subject){.name = "http",
	                                          .open = open_good,
	                                          .content = content,
	                                          .content_len = sizeof content});
}

int main(void)
{
	/* Nothing of the user's own is to be seen by this test. */
	setenv("HOME", "/nonexistent", 1);
	setenv("no_proxy", "*", 1);
	http_server_start(&server);
	RUN(opening_is_one_request_and_brings_the_head);
	RUN(unseen_it_is_read_at_once);
	RUN(reads_share_one_connection);
	RUN(a_closed_backend_leaves_its_connection_to_the_next);
	RUN(readers_in_parallel_use_a_connection_each);
	RUN(a_changed_resource_is_stale);
	RUN(answers_that_do_not_fit_are_refused);
	RUN(a_known_version_that_holds_costs_one_small_answer);
	RUN(a_known_version_that_does_not_hold_is_replaced);
	RUN(without_ranges_small_resources_work);
	RUN(without_ranges_large_resources_do_not);
	RUN(an_empty_resource_is_fine);
	RUN(a_cut_body_is_transient_and_what_came_is_good);
	RUN(silence_is_timed_out_exactly);
	RUN(a_slow_answer_is_not_silence);
	RUN(more_bytes_than_asked_for_are_left);
	RUN(a_lost_connection_is_replaced);
	RUN(a_busy_server_says_when_to_come_back);
	RUN(an_opening_waits_for_as_long_as_it_is_told);
	RUN(a_sink_that_fails_ends_the_read_with_its_code);
	RUN(redirects_are_followed_once);
	RUN(an_expired_place_is_looked_up_again);
	RUN(secrets_stay_with_their_origin);
	RUN(a_name_and_password_come_from_options_or_url);
	RUN(what_cannot_be_opened_says_why);
	RUN(cancel_ends_what_is_under_way);
	RUN(what_is_dropped_ends_and_nothing_else_does);
	RUN(the_contract_holds);
	http_server_stop(&server);
	return 0;
}
