/* SPDX-License-Identifier: Apache-2.0 */
/* One process answers, another reads; and the one that answers is killed. */
#include "check.h"
#include "frontend/slice/uffd.h"

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

/* A child that has all of our descriptors, and stays. */
static void leave_an_heir(int tell)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		alarm(60);
		for (;;)
			pause();
	}
	CHECK_EQ(write(tell, &pid, sizeof pid), sizeof pid);
}

struct serving {
	bool slow;  /* what lies in the last third takes an hour to come */
	bool fails; /* and nothing comes after the first page */
	uint64_t hidden_features;
	int tell; /* -1, or of an heir */
};

/* Answers at the other end of socket, until that is closed. */
static void serve(int socket, const struct serving *how)
{
	struct hither_backend *b, *top;
	struct hither_mount *m;
	struct hither_slice *s;
	unsigned char *bytes = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = byte_at(i);
	CHECK_OK(hither_backend_memory_create(SIZE, &b, &err));
	CHECK_OK(hither_backend_write_at(b, bytes, SIZE, 0, &err));
	CHECK_OK(hither_layer_fault(b, &top, &err));
	if (how->fails)
		hither_layer_fault_arm(top, HITHER_FAULT_READ, 1, UINT64_MAX, -EIO, 0);
	if (how->slow)
		CHECK_OK(hither_layer_delay(top, HOUR_US, &top, &err));
	struct hither_mount_options o = {
	        .pull_off = true, .order = "none", .chunk_bytes = PAGE, .resident_bytes = SIZE / 2};
	uffd_hidden_features = how->hidden_features;
	CHECK_OK(hither_mount_backend(top, "served", &o, &m, &err));
	CHECK_OK(hither_slice_open(m, &(struct hither_slice_options){.read_only = true}, &s, &err));
	CHECK_OK(hither_slice_serve(s, socket, &err));
	if (how->tell >= 0)
		leave_an_heir(how->tell);
	struct pollfd gone = {socket, POLLRDHUP, 0};
	CHECK_EQ(poll(&gone, 1, 60000), 1);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
	free(bytes);
}

/* As fork(2), with a socket to each other. */
static pid_t fork_with(int *socket)
{
	int pair[2];
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	*socket = pair[pid == 0];
	close(pair[pid != 0]);
	return pid;
}

static pid_t start_server(int *socket, struct serving how)
{
	pid_t pid = fork_with(socket);
	if (pid == 0) {
		serve(*socket, &how);
		_exit(0);
	}
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
	pid_t pid = start_server(&socket, (struct serving){.tell = -1});
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

/* heirs: a pipe, NULL: it has none. */
static void a_killed_server(int heirs[2])
{
	int socket;
	pthread_t reader;
	bool waiting_got_bus = false, later_got_bus = false;
	pid_t heir = 0,
	      pid = start_server(&socket,
	                         (struct serving){.slow = true, .tell = heirs ? heirs[1] : -1});
	struct hither_slice_view *v = attach(socket);
	if (heirs)
		CHECK_EQ(read(heirs[0], &heir, sizeof heir), sizeof heir);
	touching = false;
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
	if (heirs)
		CHECK_EQ(kill(heir, SIGKILL), 0);
}

static void a_killed_server_hangs_nobody(void)
{
	a_killed_server(NULL);
}

/* The socket is still open then, in a child of its. */
static void nor_does_one_that_leaves_a_child(void)
{
	int heirs[2];
	CHECK_EQ(pipe(heirs), 0);
	a_killed_server(heirs);
	close(heirs[0]);
	close(heirs[1]);
}

/* What cannot be had is a signal over there, too; and here nothing happens. */
static void what_fails_is_sigbus(void)
{
	const uint64_t hidden[] = {0, UFFD_FEATURE_POISON}; /* Linux 6.6 has it */
	for (unsigned i = 0; i < 2; i++) {
		int socket, status;
		bool got_bus = false;
		pid_t pid = start_server(
		        &socket,
		        (struct serving){.fails = true, .hidden_features = hidden[i], .tell = -1});
		struct hither_slice_view *v = attach(socket);
		touched = hither_slice_view_data(v);
		CHECK_EQ(*touched, byte_at(0));
		touched += 5 * PAGE;
		signal(SIGBUS, on_bus);
		touch_it(&got_bus);
		CHECK(got_bus);
		signal(SIGBUS, SIG_DFL);
		hither_slice_detach(v);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK_EQ(status, 0);
	}
}

/* In a child: attach, and touch a page if `touches`. */
static pid_t start_client(int *socket, bool touches)
{
	pid_t pid = fork_with(socket);
	if (pid == 0) {
		struct hither_slice_view *v;
		int r = hither_slice_attach(*socket, &v, &err);
		if (!r && touches)
			*(const volatile char *)hither_slice_view_data(v);
		_exit(r ? 1 : 0);
	}
	return pid;
}

/* Who comes next need not wait for what somebody waited for who is dead. */
static void the_next_one_is_served_at_once(void)
{
	struct hither_backend *b;
	struct hither_mount *m;
	struct hither_slice *s;
	struct hither_mount_stats st = {0};
	int sockets[3], status;
	pid_t pids[3];
	for (unsigned i = 0; i < 3; i++)
		pids[i] = start_client(&sockets[i], i == 0);
	CHECK_OK(hither_backend_memory_create(SIZE, &b, &err));
	CHECK_OK(hither_layer_delay(b, HOUR_US, &b, &err));
	struct hither_mount_options o = {.pull_off = true, .order = "none"};
	CHECK_OK(hither_mount_backend(b, "served", &o, &m, &err));
	CHECK_OK(hither_slice_open(m, &(struct hither_slice_options){.read_only = true}, &s, &err));
	CHECK_OK(hither_slice_serve(s, sockets[0], &err));
	while (!st.reads_waited) {
		sched_yield();
		hither_mount_stats(m, &st);
	}
	CHECK_EQ(kill(pids[0], SIGKILL), 0);
	CHECK_EQ(waitpid(pids[0], NULL, 0), pids[0]);
	alarm(50);
	for (unsigned i = 1; i < 3; i++) {
		CHECK_OK(hither_slice_serve(s, sockets[i], &err));
		CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
		CHECK_EQ(status, 0);
	}
	hither_mount_cancel(m);
	CHECK_OK(hither_slice_close(s, &err));
	hither_mount_close(m, NULL);
	alarm(0);
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
	RUN(nor_does_one_that_leaves_a_child);
	RUN(what_fails_is_sigbus);
	RUN(the_next_one_is_served_at_once);
	RUN(nonsense_is_refused);
	return 0;
}
