/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link tool keeps its word: run with the tool's path. Lower bounds of times are exact (a link
 * that is too fast is wrong); upper ones are wide, or ratios, because the machine may be busy.
 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *link_tool;

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- a server that answers each 4-byte number n with n bytes --- */

static int read_all(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)buf + done, len - done);
		if (n <= 0)
			return n ? -errno : -EPIPE;
		done += (size_t)n;
	}
	return 0;
}

static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	static const char zeros[65536];
	uint32_t want;
	while (!read_all(fd, &want, sizeof want))
		while (want) {
			ssize_t n = send(fd, zeros, want < sizeof zeros ? want : sizeof zeros,
			                 MSG_NOSIGNAL);
			if (n <= 0)
				break;
			want -= (uint32_t)n;
		}
	close(fd);
	return NULL;
}

static void *serve(void *arg)
{
	int listen_fd = (int)(intptr_t)arg;
	for (;;) {
		int fd = accept(listen_fd, NULL, NULL);
		pthread_t thread;
		if (fd < 0 || pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd))
			return NULL;
		pthread_detach(thread);
	}
}

static int server_start(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t at_len = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t thread;
	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&at, sizeof at) && !listen(fd, 16));
	CHECK(!getsockname(fd, (struct sockaddr *)&at, &at_len));
	CHECK(!pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd));
	pthread_detach(thread);
	return ntohs(at.sin_port);
}

/* --- a running link --- */

struct running {
	pid_t pid;
	int port;
};

static struct running link_start(const char *rtt, const char *rate)
{
	static int server_port;
	if (!server_port)
		server_port = server_start();
	char to[32], line[16] = "";
	snprintf(to, sizeof to, "127.0.0.1:%d", server_port);
	int out[2];
	CHECK(!pipe(out));
	struct running r = {.pid = fork()};
	if (!r.pid) {
		dup2(out[1], 1);
		execl(link_tool, "link", "--with-parent", "--to", to, "--rtt", rtt, "--rate", rate,
		      (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	CHECK(read(out[0], line, sizeof line - 1) > 0);
	close(out[0]);
	r.port = atoi(line);
	CHECK(r.port > 0);
	return r;
}

static void link_stop(struct running r)
{
	int status;
	kill(r.pid, SIGTERM);
	CHECK_EQ(waitpid(r.pid, &status, 0), r.pid);
	CHECK_EQ(status, 0);
}

static int dial(struct running r)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
	                         .sin_port = htons((uint16_t)r.port),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && !connect(fd, (struct sockaddr *)&at, sizeof at));
	return fd;
}

/* Ask for n bytes and take them: how long it took, or -errno. */
static double ask(int fd, uint32_t n)
{
	double begin = now_s();
	char buf[65536];
	if (write(fd, &n, sizeof n) != sizeof n)
		return -errno;
	while (n) {
		uint32_t piece = n < sizeof buf ? n : (uint32_t)sizeof buf;
		int r = read_all(fd, buf, piece);
		if (r)
			return r;
		n -= piece;
	}
	return now_s() - begin;
}

/* --- tests --- */

static void a_round_trip_takes_one_rtt_and_a_new_connection_one_more(void)
{
	struct running r = link_start("60ms", "unlimited");
	double begin = now_s(), least = 1e9;
	int fd = dial(r);
	CHECK(ask(fd, 1) >= 0);
	double first = now_s() - begin;
	for (int i = 0; i < 5; i++) {
		double t = ask(fd, 1);
		CHECK(t >= 0.060);
		least = t < least ? t : least;
	}
	CHECK(first >= 0.120);
	CHECK(least < 2 * 0.060);
	close(fd);
	link_stop(r);
}

static void *ask_in_thread(void *arg)
{
	double *io = arg;
	*io = ask((int)io[1], 1000000);
	return NULL;
}

static void all_connections_share_the_rate(void)
{
	struct running r = link_start("2ms", "80mbit");
	int fd = dial(r);
	CHECK(ask(fd, 100000) >= 0);
	double alone = ask(fd, 1000000);
	CHECK(alone >= 0.100);
	double both[2][2] = {{0, fd}, {0, dial(r)}};
	pthread_t thread[2];
	double begin = now_s();
	for (int i = 0; i < 2; i++)
		CHECK(!pthread_create(&thread[i], NULL, ask_in_thread, both[i]));
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	double together = now_s() - begin;
	CHECK(both[0][0] >= 0 && both[1][0] >= 0);
	CHECK(together >= 0.200);
	CHECK(together < 4 * alone);
	for (int i = 0; i < 2; i++)
		close((int)both[i][1]);
	link_stop(r);
}

static void a_connection_starts_slowly(void)
{
	struct running r = link_start("40ms", "unlimited");
	int fd = dial(r);
	/* 14 KiB fit the first window, 200 KiB need it doubled at least three times. */
	CHECK(ask(fd, 1) >= 0);
	CHECK(ask(fd, 200000) >= 4 * 0.040);
	close(fd);
	link_stop(r);
}

static void an_outage_holds_everything_and_loses_nothing(void)
{
	struct running r = link_start("20ms", "unlimited");
	int fd = dial(r);
	CHECK(ask(fd, 1) >= 0);
	kill(r.pid, SIGUSR1);
	uint32_t n = 100000;
	CHECK_EQ(write(fd, &n, sizeof n), sizeof n);
	struct timeval silence = {.tv_usec = 200000};
	CHECK(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence));
	char byte;
	CHECK(read(fd, &byte, 1) < 0 && errno == EAGAIN);
	kill(r.pid, SIGUSR1);
	silence = (struct timeval){.tv_sec = 10};
	CHECK(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence));
	static char buf[100000];
	CHECK_EQ(read_all(fd, buf, n), 0);
	CHECK(ask(fd, 1) >= 0.020);
	close(fd);
	link_stop(r);
}

static void a_reset_ends_connections_but_not_the_link(void)
{
	struct running r = link_start("2ms", "unlimited");
	int fd = dial(r);
	CHECK(ask(fd, 1) >= 0);
	kill(r.pid, SIGUSR2);
	char byte;
	CHECK(read(fd, &byte, 1) < 0 && errno == ECONNRESET);
	close(fd);
	fd = dial(r);
	CHECK(ask(fd, 1) >= 0);
	close(fd);
	link_stop(r);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		SKIP("the path of the link tool is wanted");
	link_tool = argv[1];
	RUN(a_round_trip_takes_one_rtt_and_a_new_connection_one_more);
	RUN(all_connections_share_the_rate);
	RUN(a_connection_starts_slowly);
	RUN(an_outage_holds_everything_and_loses_nothing);
	RUN(a_reset_ends_connections_but_not_the_link);
	return 0;
}
