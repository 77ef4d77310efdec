/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a daemon: words, silence with and without a sign of life, ends. */
#include "check.h"
#include "talk.h"
#include "util.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct fake {
	struct talk talk;
	unsigned progress, waits;
	uint64_t dirty;
};

static void count_progress(void *user, const struct hither_mount_stats *stats)
{
	struct fake *f = user;
	f->progress++;
	f->dirty = stats->dirty_bytes;
}

static void count_waiting(void *user, const char *why)
{
	struct fake *f = user;
	CHECK(strstr(why, "busy"));
	f->waits++;
}

static void say(int fd, const char *text)
{
	CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void hear_request(int fd)
{
	char text[16] = "";
	CHECK_EQ(read(fd, text, sizeof text - 1), 5);
	CHECK(!strcmp(text, "pull\n"));
}

/* A process that does `act` with its end of a socket pair, and ends. */
static void begin(struct fake *f, void (*act)(int fd))
{
	int fds[2];
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*f = (struct fake){0};
	pid_t pid = fork();
	if (!pid) {
		close(fds[0]);
		act(fds[1]);
		_exit(0);
	}
	close(fds[1]);
	f->talk = (struct talk){.socket = fds[0],
	                        .pid = pid,
	                        .pidfd = (int)syscall(SYS_pidfd_open, pid, 0),
	                        .request = "pull\n",
	                        .progress = count_progress,
	                        .waiting = count_waiting,
	                        .user = f};
	CHECK(f->talk.pidfd >= 0);
}

static void end(struct fake *f)
{
	kill(f->talk.pid, SIGKILL);
	waitpid(f->talk.pid, NULL, 0);
	close(f->talk.socket);
	close(f->talk.pidfd);
}

static void tells(int fd)
{
	hear_request(fd);
	say(fd, "{\"event\":\"progress\",\"dirty_bytes\":5}\n{\"event\":\"prog");
	say(fd, "ress\",\"dirty_bytes\":4}\n{\"event\":\"done\"}\n");
}

static void its_words_are_heard(void)
{
	struct fake f;
	begin(&f, tells);
	CHECK_EQ(talk(&f.talk), TALK_DONE);
	CHECK_EQ(f.progress, 2);
	CHECK_EQ(f.dirty, 4);
	CHECK(!*f.talk.message && !f.talk.forced);
	CHECK_EQ(talk_end(&f.talk), TALK_GONE);
	end(&f);
}

static void fails(int fd)
{
	hear_request(fd);
	say(fd, "{\"event\":\"failed\",\"message\":\"the disk is full\"}\n");
	pause();
}

static void forced(int fd)
{
	hear_request(fd);
	say(fd, "{\"event\":\"done\",\"message\":\"5 B are kept\",\"forced\":true}\n");
}

static void what_is_amiss_is_told(void)
{
	struct fake f;
	begin(&f, fails);
	CHECK_EQ(talk(&f.talk), TALK_FAILED);
	CHECK(!strcmp(f.talk.message, "the disk is full"));
	end(&f);
	begin(&f, forced);
	CHECK_EQ(talk(&f.talk), TALK_DONE);
	CHECK(f.talk.forced && strstr(f.talk.message, "kept"));
	end(&f);
}

static void hangs_up(int fd)
{
	hear_request(fd);
	close(fd);
	pause();
}

static void dies(int fd)
{
	hear_request(fd);
	_exit(1);
}

static void one_that_lives_may_be_asked_again(void)
{
	struct fake f;
	begin(&f, hangs_up);
	CHECK_EQ(talk(&f.talk), TALK_AGAIN);
	end(&f);
	begin(&f, dies);
	enum talk_result r = talk(&f.talk);
	CHECK(r == TALK_GONE || r == TALK_AGAIN); /* its socket closes a moment before it ends */
	CHECK_EQ(talk_end(&f.talk), TALK_GONE);
	end(&f);
}

/* Longer than the silence of one that is well. */
static void is_busy(int fd)
{
	hear_request(fd);
	for (uint64_t until = now_ns() + 3 * NS_PER_S; now_ns() < until;)
		;
	say(fd, "{\"event\":\"done\"}\n");
}

static void a_busy_one_is_waited_for(void)
{
	struct fake f;
	begin(&f, is_busy);
	CHECK_EQ(talk(&f.talk), TALK_DONE);
	CHECK_EQ(f.waits, 1);
	end(&f);
}

static void stops(int fd)
{
	hear_request(fd);
	raise(SIGSTOP);
}

static void a_stopped_one_is_told_of(void)
{
	struct fake f;
	begin(&f, stops);
	CHECK_EQ(talk(&f.talk), TALK_FAILED);
	CHECK(strstr(f.talk.message, "is stopped; kill -CONT"));
	end(&f);
}

int main(void)
{
	its_words_are_heard();
	what_is_amiss_is_told();
	one_that_lives_may_be_asked_again();
	a_busy_one_is_waited_for();
	a_stopped_one_is_told_of();
	return 0;
}
