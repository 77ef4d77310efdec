/* SPDX-License-Identifier: Apache-2.0 */
/* What programs see while the network is slow, bytes cannot be had, or the server goes away. */
#include "frontend/fuse/fuse_fixture.h"

#include "frontend/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20, SIZE = 80 * MIB };

static int open_checked(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

/* A read in a thread. */
struct reader {
	pthread_t thread;
	const char *path;
	int flags;
	uint64_t offset;
	size_t len;
	ssize_t result;
	int error;
};

static void *reader_main(void *arg)
{
	struct reader *r = arg;
	int fd = open_checked(r->path, O_RDONLY | r->flags);
	void *buf = aligned_alloc(4096, (r->len + 4095) / 4096 * 4096);
	CHECK(buf);
	r->result = pread(fd, buf, r->len, (off_t)r->offset);
	r->error = errno;
	if (r->result > 0)
		check_pattern(buf, (size_t)r->result, r->offset);
	free(buf);
	close(fd);
	return NULL;
}

static void reader_start(struct reader *r, const struct server *s, int flags, uint64_t offset,
                         size_t len)
{
	*r = (struct reader){.path = s->file, .flags = flags, .offset = offset, .len = len};
	CHECK_EQ(pthread_create(&r->thread, NULL, reader_main, r), 0);
}

static ssize_t reader_join(struct reader *r)
{
	pthread_join(r->thread, NULL);
	return r->result;
}

static void a_waiting_read_keeps_nobody_out(void)
{
	struct server s;
	struct reader slow, quick;
	server_start(&s, "parked", &(struct setup){.size = SIZE});
	reader_start(&quick, &s, 0, 0, 100000); /* local from now on */
	CHECK_EQ(reader_join(&quick), 100000);
	gate_close(s.control, 40 * MIB, 41 * MIB);
	reader_start(&slow, &s, 0, 40 * MIB + 5, 10);
	wait_entered(s.control);
	for (int i = 0; i < 8; i++) {
		reader_start(&quick, &s, O_DIRECT, 0, 65536); /* local */
		CHECK_EQ(reader_join(&quick), 65536);
		reader_start(&quick, &s, 0, (uint64_t)i * MIB + 200000, 5000); /* not yet */
		CHECK_EQ(reader_join(&quick), 5000);
	}
	gate_open(s.control);
	CHECK_EQ(reader_join(&slow), 10);
	server_stop(&s);
}

/* More than we lend buffers to: the rest waits without memory, and is served in the end. */
static void many_large_reads_wait_in_little_memory(void)
{
	enum { READERS = 60 };
	struct server s;
	struct reader slow[READERS];
	server_start(&s, "crowd", &(struct setup){.size = SIZE});
	gate_close(s.control, 0, SIZE);
	for (int i = 0; i < READERS; i++)
		reader_start(&slow[i], &s, O_DIRECT, (uint64_t)i * MIB, MIB);
	wait_entered(s.control);
	gate_open(s.control);
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(reader_join(&slow[i]), MIB);
	server_stop(&s);
}

/* A slot for each takes more address space than there is: the rest waits for one to come back. */
static void many_reads_wait_in_little_address_space(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	printf("    (not under a sanitizer, which needs address space of its own)\n");
#else
	enum { READERS = 24 };
	struct server s;
	struct reader slow[READERS];
	server_start(&s, "narrow", &(struct setup){.size = SIZE, .space_mib = 14});
	gate_close(s.control, 0, SIZE);
	for (int i = 0; i < READERS; i++)
		reader_start(&slow[i], &s, O_DIRECT, (uint64_t)i * MIB, 65536);
	wait_entered(s.control);
	gate_open(s.control);
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(reader_join(&slow[i]), 65536);
	server_stop(&s);
#endif
}

static void on_alarm(int signal)
{
	(void)signal;
}

/* In a child: read what stands at the gate, and exit with errno. */
static pid_t fork_reader(const struct server *s, int flags, bool catch)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid > 0)
		return pid;
	if (catch) {
		struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
		sigaction(SIGUSR1, &action, NULL);
	}
	int fd = open_checked(s->file, O_RDONLY | flags);
	static char buf[8192] __attribute__((aligned(4096)));
	ssize_t n = pread(fd, buf, 4096, 0);
	_exit(n < 0 ? errno : 0);
}

static int wait_for(pid_t pid)
{
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

/* The gate stays shut until all are gone; a hanging one would be the test's time-out. */
static void signals_end_waiting_reads(const char *name, bool direct_mount)
{
	struct server s;
	server_start(&s, name, &(struct setup){.size = MIB, .direct = direct_mount});
	gate_close(s.control, 0, MIB);
	pid_t caught = fork_reader(&s, O_DIRECT, true);
	wait_entered(s.control);
	pid_t killed = fork_reader(&s, O_DIRECT, false), paged = fork_reader(&s, 0, false);
	kill(caught, SIGUSR1);
	int status = wait_for(caught);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), EINTR);
	kill(killed, SIGKILL);
	CHECK_EQ(WTERMSIG(wait_for(killed)), SIGKILL);
	kill(paged, SIGINT);
	CHECK_EQ(WTERMSIG(wait_for(paged)), SIGINT);
	gate_open(s.control);
	struct reader later;
	reader_start(&later, &s, 0, 0, 5000);
	CHECK_EQ(reader_join(&later), 5000);
	server_stop(&s);
}

static void signals_end_reads_of_a_managed_mount(void)
{
	signals_end_waiting_reads("interrupt", false);
}

static void signals_end_reads_of_a_direct_mount(void)
{
	signals_end_waiting_reads("interrupt-direct", true);
}

static void fire(int i)
{
	(void)i;
}

/* Interrupts that come at any moment of a read: taken, parked, being answered. */
static void interrupts_race_with_answers(void)
{
	struct server s;
	server_start(&s, "race", &(struct setup){.size = MIB, .direct = true});
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct sigaction action = {.sa_handler = fire};
		sigaction(SIGALRM, &action, NULL);
		struct itimerspec often = {.it_interval.tv_nsec = 97000, .it_value.tv_nsec = 97000};
		timer_t timer;
		CHECK_EQ(timer_create(CLOCK_MONOTONIC, NULL, &timer), 0);
		CHECK_EQ(timer_settime(timer, 0, &often, NULL), 0);
		int fd = open(s.file, O_RDONLY | O_DIRECT);
		static char buf[65536] __attribute__((aligned(4096)));
		int good = 0, cut = 0;
		while (good + cut < 3000) {
			ssize_t n = pread(fd, buf, sizeof buf, 4096);
			if (n < 0) {
				CHECK_EQ(errno, EINTR);
				cut++;
			} else {
				check_pattern(buf, (size_t)n, 4096);
				good++;
			}
		}
		_exit(good + cut == 3000 ? 0 : 1);
	}
	CHECK_EQ(wait_for(pid), 0);
	server_stop(&s);
}

static void failures_are_eio(void)
{
	static const int codes[][2] = {{-EIO, EIO},       {-ETIMEDOUT, EIO}, {-ENOSYS, EIO},
	                               {-ESTALE, ESTALE}, {-EACCES, EACCES}, {-4096, EIO}};
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		struct server s;
		struct reader r;
		server_start(&s, "fails",
		             &(struct setup){.size = MIB, .direct = true, .deadline_ms = 50});
		atomic_store(&s.control->fail, codes[i][0]);
		reader_start(&r, &s, O_DIRECT, 0, 4096);
		CHECK_EQ(reader_join(&r), -1);
		CHECK_EQ(r.error, codes[i][1]);
		CHECK_EQ(atomic_load(&s.control->told), 1); /* and its owner knows why */
		atomic_store(&s.control->fail, 0);
		reader_start(&r, &s, O_DIRECT, 0, 4096); /* a failure is not remembered */
		CHECK_EQ(reader_join(&r), codes[i][0] == -ESTALE && r.result < 0 ? r.result : 4096);
		server_stop(&s);
	}
}

static void a_busy_mount_is_not_unmounted(void)
{
	struct server s;
	server_start(&s, "busy", &(struct setup){.size = MIB});
	int fd = open_checked(s.file, O_RDONLY);
	CHECK_EQ(server_ask(&s, ASK_STOP), -EBUSY);
	char byte;
	CHECK_EQ(pread(fd, &byte, 1, 0), 1); /* and goes on */
	close(fd);
	server_stop(&s);
}

static void a_lazy_stop_frees_who_waits(bool writable, const char *name)
{
	struct server s;
	struct reader r;
	server_start(&s, name, &(struct setup){.size = MIB, .writable = writable});
	int fd = open_checked(s.file, O_RDONLY);
	gate_close(s.control, 0, MIB);
	reader_start(&r, &s, O_DIRECT, 0, 4096);
	wait_entered(s.control);
	CHECK_EQ(server_ask(&s, ASK_STOP_LAZY), 0);
	CHECK_EQ(server_answer(&s), 0); /* serve has returned, ... */
	CHECK_EQ(reader_join(&r), -1);  /* ... the read has failed, while the gate is shut */
	char byte;
	CHECK_EQ(pread(fd, &byte, 1, 0), -1);
	close(fd);
	struct statfs fs;
	CHECK_EQ(statfs(s.path, &fs), 0);
	CHECK(fs.f_type != 0x65735546); /* FUSE_SUPER_MAGIC */
	gate_open(s.control);
	close(s.command);
	CHECK_EQ(read(s.reply, &byte, 1), 0);
	s.command = -1;
	CHECK_EQ(server_join(&s), 0);
	CHECK_EQ(unlink(s.path), 0);
}

static void a_lazy_stop_frees_readers(void)
{
	a_lazy_stop_frees_who_waits(false, "lazy");
}

static void a_lazy_stop_frees_readers_of_a_writable_mount(void)
{
	a_lazy_stop_frees_who_waits(true, "lazy-writable");
}

static void an_unmount_by_others_ends_serving(void)
{
	struct server s;
	server_start(&s, "others", &(struct setup){.size = MIB, .folder_files = 2});
	if (umount2(s.path, 0)) {
		CHECK_EQ(errno, EPERM); /* we are not root: by the helper then */
		server_stop(&s);
		return;
	}
	CHECK_EQ(server_join(&s), 0);
	CHECK_EQ(rmdir(s.path), 0);
}

static void a_dead_mount_is_replaced(void)
{
	struct server s, again;
	struct setup setup = {.size = MIB};
	server_start(&s, "dead", &setup);
	int fd = open_checked(s.file, O_RDONLY);
	gate_close(s.control, 0, MIB);
	struct reader r;
	reader_start(&r, &s, O_DIRECT, 8192, 4096);
	wait_entered(s.control);
	kill(s.pid, SIGKILL);
	CHECK_EQ(WTERMSIG(wait_for(s.pid)), SIGKILL);
	CHECK_EQ(reader_join(&r), -1);
	close(fd);
	struct fuse_mountinfo info;
	CHECK(fuse_mountinfo_at(s.path, &info));
	server_start(&again, "dead", &setup);
	reader_start(&r, &again, 0, 0, 5000);
	CHECK_EQ(reader_join(&r), 5000);
	server_stop(&again); /* and nothing is below it */
	CHECK(!fuse_mountinfo_at(s.path, &info));
	close(s.command);
	close(s.reply);
}

static void attach_says_what_is_wrong(void)
{
	struct server s, other;
	struct hither_error err = {0};
	server_start(&s, "taken with space", &(struct setup){.size = MIB});
	CHECK_EQ(server_try(&other, "taken with space", &(struct setup){.size = MIB}, &err),
	         -EBUSY);
	CHECK(strstr(err.message, "already is a mount of hither"));
	close(other.command);
	other.command = -1;
	server_join(&other);
	server_stop(&s);

	CHECK_EQ(server_try(&other, "no/such", &(struct setup){.size = MIB}, &err), -ENOENT);
	CHECK(strstr(err.message, "no/such"));
	close(other.command);
	other.command = -1;
	server_join(&other);
}

/* Nobody, through fusermount3, where the machine lets him. */
static void a_user_without_rights_mounts_by_the_helper(void)
{
	struct server s;
	struct hither_error err = {0};
	enum { NOBODY = 65534 };
	struct setup setup = {.size = MIB + 5, .uid = NOBODY, .writable = true};
	if (getuid() != 0) {
		printf("    (the other tests have done so)\n");
		return;
	}
	if (server_try(&s, "nobody's, file", &setup, &err)) {
		printf("    (not on this machine: %s)\n", err.message);
		close(s.command);
		s.command = -1;
		server_join(&s);
		return;
	}
	struct stat st;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
		CHECK_EQ(stat(s.file, &st), 0);
		CHECK_EQ(st.st_uid, NOBODY);
		struct reader r;
		reader_start(&r, &s, 0, 1000, MIB);
		CHECK_EQ(reader_join(&r), MIB + 5 - 1000 < MIB ? MIB + 5 - 1000 : MIB);
		int fd = open_checked(s.file, O_RDWR);
		CHECK_EQ(pwrite(fd, "mine", 4, 10), 4);
		CHECK_EQ(fsync(fd), 0);
		_exit(0);
	}
	CHECK_EQ(wait_for(pid), 0);
	CHECK(!memcmp(s.control->bytes + 10, "mine", 4));
	server_stop(&s);
}

/* What was begun with the last descriptor is taken away without one. */
static void who_has_no_descriptor_left_unmounts_all_the_same(void)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	struct hither_mount *m;
	struct hither_fuse *f;
	struct rlimit all, none;
	char path[PATH_MAX];
	if (geteuid() != 0) {
		printf("    (not root: the helper takes descriptors)\n");
		return;
	}
	snprintf(path, sizeof path, "%s/few", scratch);
	CHECK_EQ(mkdir(path, 0700), 0);
	CHECK_OK(hither_backend_memory_create(MIB, &b, &err));
	CHECK_OK(hither_mount_backend(b, "few", &(struct hither_mount_options){0}, &m, &err));
	const struct hither_fuse_file file = {.mount = m, .name = "file"};
	CHECK_OK(hither_fuse_attach(&file, 1, path, NULL, &f, &err));
	CHECK_EQ(hither_fuse_at(path), HITHER_FUSE_HITHER);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &all), 0);
	none = all;
	none.rlim_cur = STDERR_FILENO + 1;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
	hither_fuse_detach(f);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &all), 0);
	CHECK_EQ(hither_fuse_at(path), HITHER_FUSE_NOTHING);
	CHECK_OK(hither_mount_close(m, &err));
}

static void tests(void)
{
	RUN(a_waiting_read_keeps_nobody_out);
	RUN(many_large_reads_wait_in_little_memory);
	RUN(many_reads_wait_in_little_address_space);
	RUN(signals_end_reads_of_a_managed_mount);
	RUN(signals_end_reads_of_a_direct_mount);
	RUN(interrupts_race_with_answers);
	RUN(failures_are_eio);
	RUN(a_busy_mount_is_not_unmounted);
	RUN(a_lazy_stop_frees_readers);
	RUN(a_lazy_stop_frees_readers_of_a_writable_mount);
	RUN(an_unmount_by_others_ends_serving);
	RUN(a_dead_mount_is_replaced);
	RUN(attach_says_what_is_wrong);
	RUN(a_user_without_rights_mounts_by_the_helper);
	RUN(who_has_no_descriptor_left_unmounts_all_the_same);
}

int main(void)
{
	return run_in_scratch(tests);
}
