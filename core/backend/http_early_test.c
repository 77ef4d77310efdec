/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that are still being connected when a request wants one. A stream whose buffer is full
 * stands for them: it can be written to once the other side has read. */
#include "backend/http_private.h"
#include "base/clock.h"
#include "check.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct http_backend b;
static struct http_slot slot = {.b = &b, .early_fd = -1};
static struct http_request request = {.b = &b, .slot = &slot};
static int far_ends[2];

/* The number'th early socket, which was begun so long ago. */
static int add_unfinished(int number, uint64_t age_ns)
{
	static const char bytes[4096];
	int ends[2];
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	while (write(ends[0], bytes, sizeof bytes) > 0)
		;
	far_ends[number] = ends[1];
	b.early[number] = (struct http_early){ends[0], hither_now_ns() - age_ns};
	b.early_count = (size_t)number + 1;
	return ends[0];
}

static void finish(int number)
{
	char bytes[4096];
	while (read(far_ends[number], bytes, sizeof bytes) > 0)
		;
}

static void *await(void *user)
{
	http_early_await(&request);
	return user;
}

static void a_request_waits_for_the_socket_that_is_being_connected(void)
{
	pthread_t thread;
	int first = add_unfinished(0, 0), second = add_unfinished(1, 0);
	CHECK_EQ(pthread_create(&thread, NULL, await, NULL), 0);
	finish(0);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK_EQ(slot.early_fd, first);
	CHECK_EQ(b.early_count, 1); /* the others go on */
	CHECK_EQ(b.early[0].fd, second);
	CHECK_EQ(fcntl(second, F_GETFD), 0);
	http_early_drop(&slot);
	CHECK_EQ(fcntl(first, F_GETFD), -1);
	http_early_finish(&b);
	close(far_ends[0]);
	close(far_ends[1]);
}

static void one_that_takes_too_long_is_given_up(void)
{
	int fd = add_unfinished(0, 2 * HITHER_NS_PER_S);
	http_early_await(&request);
	CHECK_EQ(slot.early_fd, -1);
	CHECK_EQ(fcntl(fd, F_GETFD), -1);
	close(far_ends[0]);
}

static void one_that_was_hung_up_is_not_waited_for(void)
{
	add_unfinished(0, 0);
	close(far_ends[0]);
	http_early_await(&request);
	CHECK_EQ(slot.early_fd, -1);
	CHECK_EQ(b.early_count, 0);
}

static void who_has_a_connection_wants_none(void)
{
	add_unfinished(0, 0);
	slot.used = true;
	http_early_await(&request);
	slot.used = false;
	CHECK_EQ(slot.early_fd, -1);
	CHECK_EQ(b.early_count, 1);
	http_early_finish(&b);
	close(far_ends[0]);
}

static void who_is_cancelled_does_not_wait(void)
{
	add_unfinished(0, 0);
	atomic_store(&b.cancelled, true);
	http_early_await(&request);
	atomic_store(&b.cancelled, false);
	CHECK_EQ(slot.early_fd, -1);
	close(far_ends[0]);
}

int main(void)
{
	struct hither_error err = {0};
	CHECK_OK(http_load_curl(&err));
	pthread_mutex_init(&b.lock, NULL);
	slot.multi = curl_multi_init();
	CHECK(slot.multi);
	RUN(a_request_waits_for_the_socket_that_is_being_connected);
	RUN(one_that_takes_too_long_is_given_up);
	RUN(one_that_was_hung_up_is_not_waited_for);
	RUN(who_has_a_connection_wants_none);
	RUN(who_is_cancelled_does_not_wait);
	curl_multi_cleanup(slot.multi);
	return 0;
}
