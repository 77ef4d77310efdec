/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that the http backend opens before they are needed, to a server that nobody else
 * knows. */
#include "backend/http_test_server.h"
#include "check.h"

#include <errno.h>
#include <hither/backend.h>
#include <sched.h>
#include <string.h>

static struct http_server server;

/* A reader who gets no further until all are so far: each has a connection of its own. */
struct meeting_sink {
	struct hither_sink sink;
	pthread_barrier_t *barrier;
	bool met;
};

static int take_and_meet(struct hither_sink *sink, const void *buf, size_t len)
{
	struct meeting_sink *m = (struct meeting_sink *)sink;
	if (!m->met)
		pthread_barrier_wait(m->barrier);
	m->met = true;
	return 0;
}

enum { MEETING = 4 };

struct meeting {
	pthread_t thread;
	pthread_barrier_t *barrier;
	struct hither_backend *b;
};

static void *meet(void *user)
{
	struct meeting *m = user;
	struct hither_error err = {0};
	struct meeting_sink sink = {{take_and_meet}, m->barrier, false};
	CHECK_OK(hither_backend_read(m->b, 100000, 5000, &sink.sink, &err));
	return NULL;
}

static void read_at_a_time(struct hither_backend *b)
{
	struct meeting meetings[MEETING];
	pthread_barrier_t barrier;
	CHECK_EQ(pthread_barrier_init(&barrier, NULL, MEETING), 0);
	for (int i = 0; i < MEETING; i++) {
		meetings[i] = (struct meeting){.barrier = &barrier, .b = b};
		CHECK_EQ(pthread_create(&meetings[i].thread, NULL, meet, &meetings[i]), 0);
	}
	for (int i = 0; i < MEETING; i++)
		pthread_join(meetings[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
}

static struct hither_backend *open_good(void)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	char url[100];
	struct hither_backend_options options = {.parallel = MEETING};
	snprintf(url, sizeof url, "http://127.0.0.1:%d/good", server.port);
	CHECK_OK(hither_backend_open(url, &options, &b, &err));
	return b;
}

/* The server has accepted so many. */
static void wait_for_connections(int count)
{
	while (atomic_load(&server.connections) < count)
		sched_yield();
	CHECK_EQ(atomic_load(&server.connections), count);
}

static void warm_connections_are_there_for_the_reads_that_follow(void)
{
	struct hither_error err = {0};
	http_server_start(&server);
	struct hither_backend *b = open_good();
	wait_for_connections(1);
	int requests = atomic_load(&server.requests);
	for (int i = 1; i < MEETING; i++)
		CHECK_OK(hither_backend_warm(b, &err));
	wait_for_connections(MEETING);
	CHECK_EQ(atomic_load(&server.requests), requests); /* nobody is asked for anything */
	read_at_a_time(b);
	wait_for_connections(MEETING);
	hither_backend_cancel(b);
	CHECK_EQ(hither_backend_warm(b, &err), -ECANCELED);
	hither_backend_close(b);
	http_server_stop(&server);
}

static void one_that_the_server_hung_up_is_not_used(void)
{
	struct hither_error err = {0};
	http_server_start(&server);
	struct hither_backend *b = open_good();
	for (int i = 1; i < MEETING; i++)
		CHECK_OK(hither_backend_warm(b, &err));
	wait_for_connections(MEETING);
	CHECK_EQ(b->ops->connections(b), MEETING);
	http_server_hang_up(&server);
	while (b->ops->connections(b) > 0)
		sched_yield();
	read_at_a_time(b);
	CHECK_EQ(b->ops->connections(b), MEETING);
	hither_backend_close(b);
	http_server_stop(&server);
}

static uint64_t brought(struct hither_backend *b, uint32_t begun)
{
	return b->ops->brought(b, begun);
}

/* A slow machine may take it for a connection that rested. */
static void it_is_known_what_a_connection_has_brought(void)
{
	enum { LEN = 20000, TRIES = 100 };
	static char buf[LEN];
	struct hither_error err = {0};
	http_server_start(&server);
	struct hither_backend *b = open_good();
	for (int i = 0; brought(b, 0) < 2 * LEN; i++) {
		CHECK(i < TRIES);
		CHECK_OK(hither_backend_read_at(b, buf, LEN, 100000, &err));
	}
	CHECK_EQ(brought(b, 1), 0); /* another one gets this one */
	CHECK_EQ(atomic_load(&server.connections), 1);
	/* The next one is new. */
	http_server_hang_up(&server);
	CHECK_OK(hither_backend_read_at(b, buf, LEN, 100000, &err));
	CHECK(brought(b, 0) <= LEN);
	hither_backend_close(b);
	http_server_stop(&server);
}

int main(void)
{
	setenv("HOME", "/nonexistent", 1); /* nothing of the user's own is to be seen */
	setenv("no_proxy", "*", 1);
	RUN(warm_connections_are_there_for_the_reads_that_follow);
	RUN(one_that_the_server_hung_up_is_not_used);
	RUN(it_is_known_what_a_connection_has_brought);
	return 0;
}
