/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link: a wide-area link for one TCP service, without root. A proxy with a round-trip time, a rate
 * in each direction that all connections share, a bounded queue, slow start, outages and resets.
 * For tests and the demo where no network namespace can be made; see link_path.h for the model.
 *
 * It is kinder than a real line: nothing is lost, and its queue pushes back instead of dropping.
 */
#include "link_path.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

static const char help[] =
        "Usage: link --to HOST:PORT [OPTIONS]       emulate; prints its port when ready\n"
        "       link ctl SOCKET COMMAND             tell a running one\n"
        "\n"
        "  --listen PORT      on 127.0.0.1; 0: any free one (default)\n"
        "  --rtt TIME         round trip, half each way: 50ms, 200us, 1s (default 0)\n"
        "  --rate RATE        each way: 200mbit, 64kbit, 1gbit, unlimited (default)\n"
        "  --queue BYTES      that may wait for the line (default: rate x rtt, at least 65536)\n"
        "  --cut-after BYTES  reset each connection after so many bytes to the client\n"
        "  --no-slow-start    connections are as fast as the line from their first byte\n"
        "  --control SOCKET   take commands there\n"
        "  --with-parent      end when the process that started it ends\n"
        "\n"
        "Commands: outage on|off, reset, rtt TIME, rate RATE, stat\n"
        "Signals: SIGUSR1 begins or ends an outage (nothing passes, connections stay),\n"
        "SIGUSR2 resets every connection.\n";

struct link {
	struct link_path path;
	int listen_fd, signal_fd, timer_fd, control_fd;
	const char *control;
	bool outage, acceptable, done;
};

static void die(const char *what)
{
	fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void misuse(const char *what, const char *arg)
{
	fprintf(stderr, "link: %s: %s (see link --help)\n", what, arg);
	exit(2);
}

struct unit {
	const char *name;
	double factor;
};

static const struct unit times[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {NULL, 0}};
static const struct unit rates[] = {
        {"bit", 1. / 8}, {"kbit", 1e3 / 8}, {"mbit", 1e6 / 8}, {"gbit", 1e9 / 8}, {NULL, 0}};

/* "50ms" by a table of units. False: not understood. */
static bool parse(const char *text, const struct unit *units, uint64_t *out)
{
	char *end;
	double number = strtod(text, &end);
	if (end == text || number < 0)
		return false;
	for (; units->name; units++)
		if (!strcmp(end, units->name)) {
			*out = (uint64_t)(number * units->factor);
			return true;
		}
	return false;
}

static bool set_rtt(struct link_path *p, const char *text)
{
	uint64_t rtt;
	if (!parse(text, times, &rtt))
		return false;
	p->delay_ns = rtt / 2;
	return true;
}

static bool set_rate(struct link_path *p, const char *text)
{
	uint64_t rate = 0;
	if (strcmp(text, "unlimited") && (!parse(text, rates, &rate) || !rate))
		return false;
	for (int w = 0; w < LINK_WAYS; w++)
		p->line[w].rate = rate;
	return true;
}

/* --- setting up --- */

static void resolve(struct link_path *p, char *to)
{
	char *colon = strrchr(to, ':');
	if (!colon)
		misuse("--to wants HOST:PORT", to);
	*colon = 0;
	struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *found;
	int r = getaddrinfo(to, colon + 1, &want, &found);
	if (r)
		misuse(gai_strerror(r), to);
	memcpy(&p->to, found->ai_addr, found->ai_addrlen);
	p->to_len = found->ai_addrlen;
	freeaddrinfo(found);
}

static void watch(struct link *l, int fd, uint32_t events, void *who)
{
	struct epoll_event want = {.events = events, .data.ptr = who};
	if (fd < 0 || epoll_ctl(l->path.epoll_fd, EPOLL_CTL_ADD, fd, &want))
		die("epoll");
}

static unsigned listen_tcp(struct link *l, int port)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
	                         .sin_port = htons((uint16_t)port),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t at_len = sizeof at;
	int one = 1;
	l->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->listen_fd < 0 ||
	    setsockopt(l->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
	    bind(l->listen_fd, (struct sockaddr *)&at, sizeof at) || listen(l->listen_fd, 256) ||
	    getsockname(l->listen_fd, (struct sockaddr *)&at, &at_len))
		die("listen");
	watch(l, l->listen_fd, EPOLLIN | EPOLLET, &l->listen_fd);
	return ntohs(at.sin_port);
}

static struct sockaddr_un control_address(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof at.sun_path)
		misuse("this path is too long for a socket", path);
	strcpy(at.sun_path, path);
	return at;
}

static void listen_control(struct link *l)
{
	struct sockaddr_un at = control_address(l->control);
	unlink(l->control);
	l->control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->control_fd < 0 || bind(l->control_fd, (struct sockaddr *)&at, sizeof at) ||
	    listen(l->control_fd, 8))
		die(l->control);
	watch(l, l->control_fd, EPOLLIN, &l->control_fd);
}

static void catch_signals(struct link *l)
{
	sigset_t set;
	sigemptyset(&set);
	for (const int *s = (const int[]){SIGUSR1, SIGUSR2, SIGTERM, SIGINT, 0}; *s; s++)
		sigaddset(&set, *s);
	sigprocmask(SIG_BLOCK, &set, NULL);
	l->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	watch(l, l->signal_fd, EPOLLIN, &l->signal_fd);
	l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	watch(l, l->timer_fd, EPOLLIN, &l->timer_fd);
}

/* --- commands --- */

static void set_outage(struct link *l, bool on)
{
	l->outage = on;
	link_path_outage(&l->path, on);
}

static void run_command(struct link *l, const char *command, char *answer, size_t size)
{
	struct link_path *p = &l->path;
	snprintf(answer, size, "ok");
	if (!strcmp(command, "outage on") || !strcmp(command, "outage off"))
		set_outage(l, command[8] == 'n');
	else if (!strcmp(command, "reset"))
		link_path_reset(p);
	else if (!strcmp(command, "stat"))
		snprintf(answer, size, "up=%llu down=%llu connections=%llu open=%u",
		         (unsigned long long)p->line[LINK_UP].passed,
		         (unsigned long long)p->line[LINK_DOWN].passed,
		         (unsigned long long)p->accepted, link_path_flow_count(p));
	else if (!(!strncmp(command, "rtt ", 4) && set_rtt(p, command + 4)) &&
	         !(!strncmp(command, "rate ", 5) && set_rate(p, command + 5)))
		snprintf(answer, size, "error: unknown command: %.60s", command);
}

/* One command a connection; a caller sends at once, so that waiting for it is short and bounded. */
static void take_command(struct link *l)
{
	int fd = accept4(l->control_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct timeval second = {.tv_sec = 1};
	char command[128], answer[160];
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
	ssize_t n = recv(fd, command, sizeof command - 1, 0);
	if (n > 0) {
		command[n] = 0;
		run_command(l, command, answer, sizeof answer);
		send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	}
	close(fd);
}

static int control(const char *path, char *const *words)
{
	char command[128] = "", answer[160];
	for (; *words; words++) {
		size_t used = strlen(command);
		snprintf(command + used, sizeof command - used, "%s%s", used ? " " : "", *words);
	}
	struct sockaddr_un at = control_address(path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) ||
	    send(fd, command, strlen(command), MSG_NOSIGNAL) < 0)
		die(path);
	ssize_t n = recv(fd, answer, sizeof answer - 1, 0);
	if (n <= 0)
		die(path);
	answer[n] = 0;
	puts(answer);
	return strncmp(answer, "error", 5) ? 0 : 1;
}

/* --- running --- */

static void take_signal(struct link *l)
{
	struct signalfd_siginfo info;
	if (read(l->signal_fd, &info, sizeof info) != sizeof info)
		return;
	if (info.ssi_signo == SIGUSR1)
		set_outage(l, !l->outage);
	else if (info.ssi_signo == SIGUSR2)
		link_path_reset(&l->path);
	else
		l->done = true;
}

static void take_event(struct link *l, const struct epoll_event *e)
{
	uint64_t expired;
	if (e->data.ptr == &l->listen_fd) {
		l->acceptable = true;
	} else if (e->data.ptr == &l->signal_fd) {
		take_signal(l);
	} else if (e->data.ptr == &l->control_fd) {
		take_command(l);
	} else if (e->data.ptr == &l->timer_fd) {
		if (read(l->timer_fd, &expired, sizeof expired) < 0 && errno != EAGAIN)
			die("timer");
	} else {
		struct link_end *end = e->data.ptr;
		bool bad = e->events & (EPOLLERR | EPOLLHUP);
		end->readable |= bad || (e->events & (EPOLLIN | EPOLLRDHUP));
		end->writable |= bad || (e->events & EPOLLOUT);
	}
}

static void accept_all(struct link *l)
{
	while (l->acceptable && !l->outage) {
		int fd = accept4(l->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			link_path_accept(&l->path, fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			l->acceptable = false;
	}
}

static void run(struct link *l)
{
	struct epoll_event events[64];
	while (!l->done) {
		int n = epoll_wait(l->path.epoll_fd, events, 64, -1);
		for (int i = 0; i < n; i++)
			take_event(l, &events[i]);
		accept_all(l);
		uint64_t next = link_path_pump(&l->path);
		struct itimerspec at = {.it_value = {.tv_sec = (time_t)(next / 1000000000),
		                                     .tv_nsec = (long)(next % 1000000000)}};
		if (timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &at, NULL))
			die("timer");
	}
	link_path_finish(&l->path);
	if (l->control)
		unlink(l->control);
}

enum {
	OPT_LISTEN = 1,
	OPT_TO,
	OPT_RTT,
	OPT_RATE,
	OPT_QUEUE,
	OPT_CUT,
	OPT_FAST,
	OPT_CONTROL,
	OPT_PARENT,
	OPT_HELP
};

static const struct option options[] = {
        {"listen", required_argument, NULL, OPT_LISTEN},
        {"to", required_argument, NULL, OPT_TO},
        {"rtt", required_argument, NULL, OPT_RTT},
        {"rate", required_argument, NULL, OPT_RATE},
        {"queue", required_argument, NULL, OPT_QUEUE},
        {"cut-after", required_argument, NULL, OPT_CUT},
        {"no-slow-start", no_argument, NULL, OPT_FAST},
        {"control", required_argument, NULL, OPT_CONTROL},
        {"with-parent", no_argument, NULL, OPT_PARENT},
        {"help", no_argument, NULL, OPT_HELP},
        {0},
};

static void take_option(struct link *l, int option, int *port)
{
	struct link_path *p = &l->path;
	if (option == OPT_LISTEN)
		*port = atoi(optarg);
	else if (option == OPT_TO)
		resolve(p, optarg);
	else if (option == OPT_QUEUE)
		p->queue_bytes = strtoull(optarg, NULL, 10);
	else if (option == OPT_CUT)
		p->cut_bytes = strtoull(optarg, NULL, 10);
	else if (option == OPT_FAST)
		p->slow_start = false;
	else if (option == OPT_CONTROL)
		l->control = optarg;
	else if (option == OPT_PARENT)
		prctl(PR_SET_PDEATHSIG, SIGTERM);
	else if (option == OPT_RTT ? !set_rtt(p, optarg)
	                           : option == OPT_RATE && !set_rate(p, optarg))
		misuse("not understood", optarg);
	else if (option == OPT_HELP)
		exit(fputs(help, stdout) < 0);
	else if (option == '?')
		exit(2);
}

int main(int argc, char **argv)
{
	struct link l = {.control_fd = -1, .path = {.slow_start = true}};
	int option, port = 0;
	if (argc > 3 && !strcmp(argv[1], "ctl"))
		return control(argv[2], argv + 3);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(&l, option, &port);
	if (!l.path.to_len || optind < argc)
		misuse("wants --to HOST:PORT and options", argc > optind ? argv[optind] : "");
	signal(SIGPIPE, SIG_IGN);
	l.path.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	catch_signals(&l);
	if (l.control)
		listen_control(&l);
	printf("%u\n", listen_tcp(&l, port));
	fflush(stdout);
	run(&l);
	return 0;
}
