/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD backend against nbdkit, which is killed, stopped, restarted and told to fail. The test
 * makes the listening socket and hands it over (socket activation): a client may connect as soon as
 * the server's process exists, so nobody has to wait until it is ready.
 */
#include "check.h"
#include "contract.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/backend.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILE_BYTES = 32 << 20 };

static char scratch[PATH_MAX];
static char image[PATH_MAX + 16], socket_path[PATH_MAX + 16], url[PATH_MAX + 64];

/* ---- the server ---- */

static pid_t server;

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	CHECK(strlen(path) < sizeof address.sun_path);
	strcpy(address.sun_path, path);
	unlink(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0);
	CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	CHECK_EQ(listen(fd, 16), 0);
	return fd;
}

static void run_server(int fd, const char *const argv[])
{
	char pid[32];
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	if (fd != 3)
		dup2(fd, 3);
	else
		fcntl(fd, F_SETFD, 0);
	int null = open("/dev/null", O_WRONLY);
	dup2(null, 2); /* it tells of every error that a test asks for */
	execvp(argv[0], (char *const *)argv);
	_exit(127);
}

/* From the main thread only: nbdkit ends with the thread that started it. */
static void start(const char *const argv[])
{
	int fd = listen_at(socket_path);
	server = fork();
	CHECK(server >= 0);
	if (!server)
		run_server(fd, argv);
	close(fd);
}

static void start_file(void)
{
	start((const char *[]){"nbdkit", "-f", "file", image, NULL});
}

static void kill_server(void)
{
	kill(server, SIGKILL);
	CHECK_EQ(waitpid(server, NULL, 0), server);
	server = 0;
}

static void restart(void)
{
	kill_server();
	start_file();
}

static unsigned char byte_at(uint64_t offset)
{
	return (unsigned char)((offset * 2654435761u) >> 13 ^ offset);
}

static void make_image(size_t bytes)
{
	unsigned char *content = malloc(bytes);
	CHECK(content);
	for (size_t i = 0; i < bytes; i++)
		content[i] = byte_at(i);
	int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, content, bytes), bytes);
	close(fd);
	free(content);
}

/* ---- the client ---- */

static struct hither_backend *open_url(bool writable, uint32_t idle_timeout_ms)
{
	struct hither_error err = {0};
	struct hither_backend *b = NULL;
	struct hither_backend_options options = {.writable = writable,
	                                         .idle_timeout_ms = idle_timeout_ms};
	CHECK_OK(hither_backend_open(url, &options, &b, &err));
	return b;
}

static void check_bytes(const unsigned char *buf, uint64_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i] != byte_at(offset + i))
			CHECK_EQ(buf[i], byte_at(offset + i));
}

static void check_reads(struct hither_backend *b)
{
	struct hither_error err = {0};
	static unsigned char buf[100000];
	CHECK_OK(hither_backend_read_at(b, buf, sizeof buf, 12345, &err));
	check_bytes(buf, 12345, sizeof buf);
}

/* Checks what it gets; does something to the server when the first bytes have come. */
struct hook_sink {
	struct hither_sink base;
	uint64_t offset;
	void (*once)(void *user);
	void *user;
};

static int hook_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct hook_sink *s = (struct hook_sink *)sink;
	check_bytes(buf, s->offset, len);
	s->offset += len;
	if (s->once)
		s->once(s->user);
	s->once = NULL;
	return 0;
}

static int read_all(struct hither_backend *b, void (*once)(void *user), void *user,
                    struct hither_error *err)
{
	struct hook_sink s = {{hook_take}, 0, once, user};
	int r = hither_backend_read(b, 0, b->size_bytes, &s.base, err);
	CHECK(r || s.offset == b->size_bytes);
	return r;
}

/* What somebody waits for comes by itself, before the rest. */
struct first_sink {
	struct hither_sink base;
	size_t pieces[8], count;
};

static int first_take(struct hither_sink *sink, const void *buf, size_t len)
{
	struct first_sink *s = (struct first_sink *)sink;
	CHECK(s->count < 8);
	s->pieces[s->count++] = len;
	return 0;
}

static void first_bytes_come_alone(void)
{
	static const char *const memory[] = {"nbdkit", "-f", "memory", "1M", NULL};
	struct hither_error err = {0};
	struct first_sink s = {.base = {.take = first_take, .first_bytes = 4096}};
	start(memory);
	struct hither_backend *b = open_url(false, 0);
	CHECK_OK(hither_backend_read(b, 12288, 32768, &s.base, &err));
	CHECK_EQ(s.count, 2);
	CHECK_EQ(s.pieces[0], 4096);
	CHECK_EQ(s.pieces[1], 28672);
	s = (struct first_sink){.base = {.take = first_take}};
	CHECK_OK(hither_backend_read(b, 12288, 32768, &s.base, &err));
	CHECK_EQ(s.count, 1);
	hither_backend_close(b);
	kill_server();
}

static void stop_now(void *user);

/* Whoever reads is told when its request has gone out, before anything is waited for. */
struct asked_sink {
	struct hither_sink base;
	unsigned asked;
	bool taken;
};

static void count_asked(struct hither_sink *sink)
{
	struct asked_sink *s = (struct asked_sink *)sink;
	CHECK(!s->taken);
	s->asked++;
}

static int take_asked(struct hither_sink *sink, const void *buf, size_t len)
{
	((struct asked_sink *)sink)->taken = true;
	return 0;
}

static int read_asked(struct hither_backend *b, bool taken)
{
	struct hither_error err = {0};
	struct asked_sink s = {.base = {.take = take_asked, .asked = count_asked}};
	int r = hither_backend_read(b, 100, 65536, &s.base, &err);
	CHECK_EQ(s.asked, 1);
	CHECK_EQ(s.taken, taken);
	return r;
}

static void it_tells_when_it_has_asked(void)
{
	static const char *const memory[] = {"nbdkit", "-f", "memory", "1M", NULL};
	start(memory);
	struct hither_backend *b = open_url(false, 500);
	CHECK(b->flags & HITHER_BACKEND_TELLS_ASKED);
	CHECK_EQ(read_asked(b, true), 0);
	stop_now(NULL);
	CHECK_EQ(read_asked(b, false), -ETIMEDOUT);
	kill_server();
	CHECK(read_asked(b, false) < 0); /* nobody is there to connect to */
	start(memory);
	CHECK_EQ(read_asked(b, true), 0);
	hither_backend_close(b);
	kill_server();
}

static void kill_now(void *user)
{
	(void)user;
	kill_server();
}

static void stop_now(void *user)
{
	(void)user;
	int status;
	kill(server, SIGSTOP);
	CHECK_EQ(waitpid(server, &status, WUNTRACED), server);
}

/* ---- tests ---- */

static int open_contract(void *user, bool writable, struct hither_backend **out,
                         struct hither_error *err)
{
	struct hither_backend_options options = {.writable = writable};
	return hither_backend_open(user, &options, out, err);
}

static void the_contract_holds(void)
{
	start((const char *[]){"nbdkit", "-f", "memory", "3M", NULL});
	contract_check(&(struct contract_subject){
	        .name = url, .open = open_contract, .user = url, .writable = true, .keeps = true});
	kill_server();
}

static void the_contract_holds_with_large_blocks(void)
{
	start((const char *[]){"nbdkit", "-f", "--filter=blocksize-policy", "memory", "3M",
	                       "blocksize-minimum=8K", "blocksize-preferred=64K",
	                       "blocksize-maximum=64K", "blocksize-error-policy=error", NULL});
	struct hither_backend *b = open_url(false, 0);
	CHECK_EQ(b->align_bytes, 8192);
	hither_backend_close(b);
	contract_check(&(struct contract_subject){
	        .name = url, .open = open_contract, .user = url, .writable = true, .keeps = true});
	kill_server();
}

static void the_servers_errors_are_passed_on(void)
{
	struct hither_error err = {0};
	char buf[4096] = {0};
	start((const char *[]){"nbdkit", "-f", "--filter=error", "memory", "1M", "error-pread=EIO",
	                       "error-pread-rate=100%", "error-pwrite=ENOSPC",
	                       "error-pwrite-rate=100%", NULL});
	struct hither_backend *b = open_url(true, 0);
	CHECK_EQ(hither_backend_read_at(b, buf, sizeof buf, 8192, &err), -EIO);
	CHECK(strstr(err.message, "read 4096 bytes at 8192") && strstr(err.message, "nbd+unix:"));
	CHECK_EQ(hither_backend_write_at(b, buf, sizeof buf, 8192, &err), -ENOSPC);
	CHECK(strstr(err.message, "write 4096 bytes at 8192"));
	CHECK_OK(hither_backend_flush(b, &err)); /* no write has succeeded */
	hither_backend_close(b);
	kill_server();
}

static int open_error(bool writable, uint32_t connect_timeout_ms, struct hither_error *err)
{
	struct hither_backend *b = NULL;
	struct hither_backend_options options = {.writable = writable,
	                                         .connect_timeout_ms = connect_timeout_ms};
	int r = hither_backend_open(url, &options, &b, err);
	CHECK(r && !b);
	return r;
}

static void what_cannot_be_opened_says_why(void)
{
	struct hither_error err = {0};
	start((const char *[]){"nbdkit", "-f", "-r", "memory", "1M", NULL});
	CHECK_EQ(open_error(true, 0, &err), -EROFS);
	CHECK(strstr(err.message, "read-only"));
	kill_server();
	CHECK_EQ(open_error(false, 0, &err),
	         -ECONNREFUSED); /* the socket is there, nobody listens */
	unlink(socket_path);
	CHECK_EQ(open_error(false, 0, &err), -ENOENT);
	int silent = listen_at(socket_path);
	CHECK_EQ(open_error(false, 50, &err), -ETIMEDOUT);
	close(silent);
}

static void *answer_nonsense(void *arg)
{
	static const char nonsense[64] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	int fd = accept(*(int *)arg, NULL, NULL);
	CHECK(fd >= 0);
	CHECK_EQ(send(fd, nonsense, sizeof nonsense, MSG_NOSIGNAL), sizeof nonsense);
	close(fd);
	return NULL;
}

static void what_is_no_nbd_server_is_refused(void)
{
	struct hither_error err = {0};
	pthread_t thread;
	int fd = listen_at(socket_path);
	CHECK_EQ(pthread_create(&thread, NULL, answer_nonsense, &fd), 0);
	int r = open_error(false, 0, &err);
	CHECK(!hither_error_is_transient(r));
	pthread_join(thread, NULL);
	close(fd);
}

static void a_killed_server_is_a_transient_error(void)
{
	struct hither_error err = {0};
	start_file();
	struct hither_backend *b = open_url(false, 0);
	CHECK_EQ(read_all(b, kill_now, NULL, &err), -ECONNRESET);
	CHECK(strstr(err.message, "connection lost"));
	CHECK_EQ(read_all(b, NULL, NULL, &err), -ECONNREFUSED);
	unlink(socket_path);
	CHECK_EQ(read_all(b, NULL, NULL, &err), -ECONNREFUSED); /* not ENOENT: it may come back */
	start_file();
	CHECK_OK(read_all(b, NULL, NULL, &err));
	restart(); /* between two reads: noticed at once or by a failure, never for good */
	int r = read_all(b, NULL, NULL, &err);
	CHECK(!r || hither_error_is_transient(r));
	CHECK_OK(read_all(b, NULL, NULL, &err));
	hither_backend_close(b);
	kill_server();
}

static void a_silent_server_is_a_timeout(void)
{
	struct hither_error err = {0};
	/* One thread: nbdkit 1.32 crashes if several meet a client that has gone. */
	start((const char *[]){"nbdkit", "-f", "--threads=1", "file", image, NULL});
	struct hither_backend *b = open_url(false, 100);
	CHECK_EQ(read_all(b, stop_now, NULL, &err), -ETIMEDOUT);
	CHECK(strstr(err.message, "stopped answering"));
	kill(server, SIGCONT);
	CHECK_OK(read_all(b, NULL, NULL, &err));
	hither_backend_close(b);
	kill_server();
}

static void write_some(struct hither_backend *b)
{
	struct hither_error err = {0};
	unsigned char buf[5000];
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = byte_at(777 + i);
	CHECK_OK(hither_backend_write_at(b, buf, sizeof buf, 777, &err));
}

static void what_is_written_through_is_durable_without_a_flush(void)
{
	struct hither_error err = {0};
	static const char buf[8192];
	start_file();
	struct hither_backend *b = open_url(true, 0);
	CHECK_OK(hither_backend_write_through(b, buf, sizeof buf, 4096, &err));
	restart();
	CHECK_OK(hither_backend_flush(b, &err)); /* nothing to tell */
	int r = read_all(b, NULL, NULL, &err);   /* connects again */
	CHECK(!r || hither_error_is_transient(r));
	write_some(b);
	CHECK_OK(hither_backend_write_through(b, buf, sizeof buf, 4096, &err));
	restart();
	CHECK_EQ(hither_backend_flush(b, &err), -EREMOTEIO); /* of the plain ones */
	hither_backend_close(b);
	b = open_url(false, 0);
	CHECK_EQ(hither_backend_write_through(b, buf, sizeof buf, 4096, &err), -EROFS);
	hither_backend_close(b);
	kill_server();
}

static void a_flush_tells_of_writes_that_may_be_lost(void)
{
	struct hither_error err = {0};
	start_file();
	struct hither_backend *b = open_url(true, 0);
	write_some(b);
	restart();
	CHECK_EQ(hither_backend_flush(b, &err), -EREMOTEIO);
	CHECK(!hither_error_is_transient(-EREMOTEIO));
	CHECK_OK(hither_backend_flush(b, &err)); /* told once */

	write_some(b);
	restart();
	int r = read_all(b, NULL, NULL, &err); /* connects again, which must not hide it */
	CHECK(!r || hither_error_is_transient(r));
	write_some(b);
	CHECK_EQ(hither_backend_flush(b, &err), -EREMOTEIO);
	write_some(b);
	CHECK_OK(hither_backend_flush(b, &err));
	restart(); /* all is flushed: nothing to tell */
	CHECK_OK(hither_backend_flush(b, &err));
	hither_backend_close(b);
	kill_server();
}

static void a_resource_of_another_size_is_stale(void)
{
	struct hither_error err = {0};
	start_file();
	struct hither_backend *b = open_url(false, 0);
	kill_server();
	CHECK_EQ(truncate(image, FILE_BYTES / 2), 0);
	start_file();
	int r = read_all(b, NULL, NULL, &err);
	if (hither_error_is_transient(r))
		r = read_all(b, NULL, NULL, &err);
	CHECK_EQ(r, -ESTALE);
	hither_backend_close(b);
	kill_server();
	make_image(FILE_BYTES);
}

/* ---- several threads ---- */

struct stuck {
	struct hither_backend *b;
	pthread_barrier_t *stopped; /* all readers and the test */
	int result;
};

static void meet(void *user)
{
	struct stuck *s = user;
	pthread_barrier_wait(s->stopped); /* each has begun... */
	pthread_barrier_wait(s->stopped); /* ...and the server is stopped */
}

static void *read_stuck(void *arg)
{
	struct stuck *s = arg;
	s->result = read_all(s->b, meet, s, NULL);
	return NULL;
}

/* Several on one connection, so that some wait and one drives. */
/* Looks the same, and has forgotten all: a server of memory. */
static void a_server_without_the_witness_is_stale(void)
{
	static const char *const memory[] = {"nbdkit", "-f", "memory", "1M", NULL};
	const struct hither_backend_options options = {
	        .writable = true, .witness = "it is I", .witness_bytes = 7, .witness_offset = 5000};
	struct hither_error err = {0};
	struct hither_backend *b, *c;
	char buf[100];
	start(memory);
	CHECK_EQ(hither_backend_open(url, &options, &c, &err), -ESTALE);
	b = open_url(true, 0);
	CHECK_OK(hither_backend_write_at(b, "it is I", 7, 5000, &err));
	CHECK_OK(hither_backend_open(url, &options, &c, &err));
	CHECK_OK(hither_backend_write_at(c, "x", 1, 100, &err));
	kill_server();
	start(memory);
	/* A connection that was silent for a while is looked at first, and made anew at once. */
	int r = hither_backend_read_at(c, buf, sizeof buf, 0, &err);
	CHECK(r == -ECONNRESET || r == -ESTALE);
	CHECK_EQ(hither_backend_read_at(c, buf, sizeof buf, 0, &err), -ESTALE);
	CHECK(strstr(err.message, "has forgotten"));
	CHECK_EQ(hither_backend_write_at(c, "x", 1, 100, &err), -ESTALE);
	r = hither_backend_read_at(b, buf, sizeof buf, 0, &err);
	CHECK(r == -ECONNRESET || !r);
	CHECK_OK(hither_backend_read_at(b, buf, sizeof buf, 0, &err)); /* did not ask for one */
	hither_backend_close(b);
	hither_backend_close(c);
	kill_server();
}

static void cancel_ends_all_calls(void)
{
	enum { THREADS = 6 };
	struct hither_error err = {0};
	struct stuck stuck[THREADS];
	pthread_t threads[THREADS];
	pthread_barrier_t stopped;
	start_file();
	struct hither_backend *b = open_url(false, 0);
	pthread_barrier_init(&stopped, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++) {
		stuck[i] = (struct stuck){b, &stopped, 0};
		CHECK_EQ(pthread_create(&threads[i], NULL, read_stuck, &stuck[i]), 0);
	}
	pthread_barrier_wait(&stopped);
	stop_now(NULL);
	pthread_barrier_wait(&stopped);
	hither_backend_cancel(b);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		CHECK_EQ(stuck[i].result, -ECANCELED);
	}
	char byte;
	CHECK_EQ(hither_backend_read_at(b, &byte, 1, 0, &err), -ECANCELED);
	hither_backend_close(b);
	pthread_barrier_destroy(&stopped);
	kill_server();
}

struct ride {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned rounds; /* of all */
	atomic_bool stop;
};

struct rider {
	struct hither_backend *b;
	uint64_t seed;
	struct ride *ride;
};

static void count_round(struct ride *r)
{
	pthread_mutex_lock(&r->lock);
	r->rounds++;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void wait_for_rounds(struct ride *r, unsigned more)
{
	pthread_mutex_lock(&r->lock);
	for (unsigned goal = r->rounds + more; r->rounds < goal;)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

/* Read, and write what is there anyway, through any outage. */
static void *ride(void *arg)
{
	enum { MAX = 300000 };
	struct rider *rd = arg;
	unsigned char *buf = malloc(MAX);
	CHECK(buf);
	while (!atomic_load(&rd->ride->stop)) {
		rd->seed = rd->seed * 6364136223846793005u + 1442695040888963407u;
		size_t len = 1 + (size_t)(rd->seed >> 33) % MAX;
		uint64_t offset = (rd->seed >> 20) % (FILE_BYTES - MAX);
		int r = hither_backend_read_at(rd->b, buf, len, offset, NULL);
		if (!r)
			check_bytes(buf, offset, len);
		if (!r && (rd->seed >> 60) % 2)
			r = hither_backend_write_at(rd->b, buf, len, offset, NULL);
		if (!r && (rd->seed >> 60) % 4 == 3)
			r = hither_backend_flush(rd->b, NULL);
		CHECK(!r || r == -EREMOTEIO || hither_error_is_transient(r));
		if (!r)
			count_round(rd->ride);
	}
	free(buf);
	return NULL;
}

static void readers_and_writers_ride_through_restarts(void)
{
	enum { THREADS = 8, RESTARTS = 5 };
	struct hither_error err = {0};
	struct ride all = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct rider riders[THREADS];
	pthread_t threads[THREADS];
	start_file();
	struct hither_backend *b = open_url(true, 0);
	for (int i = 0; i < THREADS; i++) {
		riders[i] = (struct rider){b, (uint64_t)i * 77 + 1, &all};
		CHECK_EQ(pthread_create(&threads[i], NULL, ride, &riders[i]), 0);
	}
	for (int i = 0; i < RESTARTS; i++) {
		wait_for_rounds(&all, 30);
		restart();
	}
	wait_for_rounds(&all, 30);
	atomic_store(&all.stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK_OK(read_all(b, NULL, NULL, &err));
	hither_backend_close(b);
	kill_server();
}

static void a_server_with_one_place_serves_all_threads(void)
{
	enum { THREADS = 6 };
	struct hither_error err = {0};
	struct ride all = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct rider riders[THREADS];
	pthread_t threads[THREADS];
	start((const char *[]){"nbdkit", "-f", "--filter=limit", "file", image, "limit=1", NULL});
	struct hither_backend *b = open_url(true, 0);
	for (int i = 0; i < THREADS; i++) {
		riders[i] = (struct rider){b, (uint64_t)i * 99 + 5, &all};
		CHECK_EQ(pthread_create(&threads[i], NULL, ride, &riders[i]), 0);
	}
	wait_for_rounds(&all, 100);
	atomic_store(&all.stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK_OK(hither_backend_flush(b, &err));
	hither_backend_close(b);
	kill_server();
}

static void a_small_read_works(void)
{
	start_file();
	struct hither_backend *b = open_url(false, 0);
	check_reads(b);
	hither_backend_close(b);
	kill_server();
}

int main(void)
{
	if (system("nbdkit --version >/dev/null 2>&1"))
		SKIP("nbdkit is not installed");
	setvbuf(stdout, NULL, _IOLBF, 0);
	scratch_make(scratch);
	snprintf(image, sizeof image, "%s/image", scratch);
	snprintf(socket_path, sizeof socket_path, "%s/socket", scratch);
	snprintf(url, sizeof url, "nbd+unix:///?socket=%s", socket_path);
	make_image(FILE_BYTES);
	RUN(a_small_read_works);
	RUN(first_bytes_come_alone);
	RUN(it_tells_when_it_has_asked);
	RUN(the_contract_holds);
	RUN(the_contract_holds_with_large_blocks);
	RUN(the_servers_errors_are_passed_on);
	RUN(what_cannot_be_opened_says_why);
	RUN(what_is_no_nbd_server_is_refused);
	RUN(a_killed_server_is_a_transient_error);
	RUN(a_silent_server_is_a_timeout);
	RUN(a_flush_tells_of_writes_that_may_be_lost);
	RUN(what_is_written_through_is_durable_without_a_flush);
	RUN(a_resource_of_another_size_is_stale);
	RUN(a_server_without_the_witness_is_stale);
	RUN(cancel_ends_all_calls);
	RUN(readers_and_writers_ride_through_restarts);
	RUN(a_server_with_one_place_serves_all_threads);
	scratch_remove(scratch);
	return 0;
}
