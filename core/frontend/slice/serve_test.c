/* SPDX-License-Identifier: Apache-2.0 */
/* One process answers, another reads; and the one that answers is killed. */
#include "check.h"

#include <errno.h>
#include <hither/layer.h>
#include <hither/slice.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 3 << 20, PAGE = 4096, HOUR_US = 100000000 };

static struct hither_error err;

static unsigned char byte_at(size_t at)
{
	return (unsigned char)(at * 31 + (at >> 12) * 7 + 1);
}

/* Answers at the other end of socket, until that is closed. What lies in the last third of the
 * resource takes an hour to come if `slow`. */
static void serve(int socket, bool slow)
{
	struct hither_backend *b, *top;
	struct hither_mount *m;
	struct hither_slice *s;
	unsigned char *bytes = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = byte_at(i);
	CHECK_OK(hither_backend_memory_create(SIZE, &b, &err));
	CHECK_OK(hither_backend_write_at(b, bytes, SIZE, 0, &err));
	top = b;
	if (slow)
		CHECK_OK(hither_layer_delay(b, HOUR_US, &top, &err));
	struct hither_mount_options o = {
	        .pull_off = true, .order = "none", .resident_bytes = SIZE / 2};
	CHECK_OK(hither_mount_backend(top, "served", &o, &m, &err));
	CHECK_OK(hither_slice_open(m, &(struct hither_slice_options){.read_only = true}, &s, &err));
	CHECK_OK(hither_slice_serve(s, socket, &err));
	struct pollfd gone = {socket, POLLRDHUP, 0};
	CHECK_EQ(poll(&gone, 1, 60000), 1);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
	free(bytes);
}

static pid_t start_server(int *socket, bool slow)
{
	int pair[2];
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		close(pair[0]);
		serve(pair[1], slow);
		_exit(0);
	}
	close(pair[1]);
	*socket = pair[0];
	return pid;
}

static struct hither_slice_view *attach(int socket)
{
	struct hither_slice_view *v;
	int r = hither_slice_attach(socket, &v, &err);
	if (r == -EPERM || r == -ENOSYS)
		SKIP(err.message);
	CHECK_EQ(r, 0);
	return v;
}

static void another_process_reads(void)
{
	int socket, status;
	pid_t pid = start_server(&socket, false);
	struct hither_slice_view *v = attach(socket);
	const unsigned char *p = hither_slice_view_data(v);
	CHECK_EQ(hither_slice_view_size(v), SIZE);
	for (unsigned pass = 0; pass < 2; pass++) /* twice what may stay */
		for (size_t i = 0; i < SIZE; i++)
			CHECK_EQ(p[i], byte_at(i));
	CHECK(hither_slice_view_alive(v));
	hither_slice_detach(v);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static sigjmp_buf out_of_bus;
static const volatile unsigned char *touched;
static atomic_bool touching;

static void on_bus(int number)
{
	siglongjmp(out_of_bus, 1);
}

static void *touch_it(void *got_bus)
{
	if (!sigsetjmp(out_of_bus, 1)) {
		touching = true;
		(void)*touched;
	} else {
		*(bool *)got_bus = true;
	}
	return NULL;
}

static void a_killed_server_hangs_nobody(void)
{
	int socket;
	pthread_t reader;
	bool waiting_got_bus = false, later_got_bus = false;
	pid_t pid = start_server(&socket, true);
	struct hither_slice_view *v = attach(socket);
	signal(SIGBUS, on_bus);
	touched = hither_slice_view_data(v);
	CHECK_EQ(pthread_create(&reader, NULL, touch_it, &waiting_got_bus), 0);
	while (!touching)
		sched_yield();
	/* Its fault is on its way; killed now or a moment later, it must not matter. */
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	pthread_join(reader, NULL);
	CHECK(waiting_got_bus); /* and it did not read zeros */
	CHECK(!hither_slice_view_alive(v));
	touched += 2 * PAGE;
	touch_it(&later_got_bus);
	CHECK(later_got_bus);
	signal(SIGBUS, SIG_DFL);
	hither_slice_detach(v);
}

static void nonsense_is_refused(void)
{
	int pair[2];
	struct hither_slice_view *v;
	char garbage[64] = "GET / HTTP/1.1";
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_EQ(write(pair[1], garbage, sizeof garbage), sizeof garbage);
	CHECK_EQ(hither_slice_attach(pair[0], &v, &err), -EPROTO);
	close(pair[1]);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	close(pair[1]);
	CHECK(hither_slice_attach(pair[0], &v, &err) < 0);
}

int main(void)
{
	RUN(another_process_reads);
	RUN(a_killed_server_hangs_nobody);
	RUN(nonsense_is_refused);
	return 0;
}
