/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of every kind that this kernel has: bytes, users, kills. Root only. */
#include "check.h"
#include "frontend/block/block_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/layer.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 8 << 20, BLOCK = 64 << 10 };

static enum hither_block_kind kind;
static struct hither_mount *mount;
static struct hither_backend *faulty;
static struct hither_error err;

static void open_mount(void)
{
	struct hither_backend *memory;
	const struct hither_mount_options options = {.direct = true, .deadline_ms = 1000};
	CHECK_OK(hither_backend_memory_create(SIZE + 100, &memory, &err));
	CHECK_OK(hither_layer_fault(memory, &faulty, &err));
	CHECK_OK(hither_mount_backend(faulty, "test", &options, &mount, &err));
}

static struct hither_block *attach(const struct hither_block_options *with)
{
	struct hither_block_options options = with ? *with : (struct hither_block_options){0};
	struct hither_block *b = NULL;
	options.kind = kind;
	options.name = options.name ? options.name : "test";
	CHECK_OK(hither_block_attach(mount, &options, &b, &err));
	CHECK_EQ(hither_block_kind(b), kind);
	return b;
}

static void fill(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed = seed * 1103515245 + 12345 + (seed >> 16));
}

static void *aligned(void)
{
	void *p = NULL;
	CHECK(!posix_memalign(&p, 4096, BLOCK));
	return p;
}

static void bytes_go_both_ways(void)
{
	open_mount();
	struct hither_block *b = attach(NULL);
	uint8_t *out = aligned(), *in = aligned();
	uint64_t size;
	int fd = open(hither_block_path(b), O_RDWR | O_DIRECT | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(!ioctl(fd, BLKGETSIZE64, &size));
	CHECK_EQ(size, SIZE); /* the odd bytes at the end make no block */
	for (off_t at = 0; at < SIZE; at += BLOCK) {
		fill(out, BLOCK, (unsigned)at);
		CHECK_EQ(pwrite(fd, out, BLOCK, at), BLOCK);
	}
	CHECK(!fsync(fd));
	CHECK(hither_layer_fault_calls(faulty, HITHER_FAULT_FLUSH) > 0);
	for (off_t at = 0; at < SIZE; at += BLOCK) {
		fill(out, BLOCK, (unsigned)at);
		CHECK_EQ(pread(fd, in, BLOCK, at), BLOCK);
		CHECK(!memcmp(in, out, BLOCK));
		CHECK_OK(hither_mount_read_at(mount, in, BLOCK, (uint64_t)at, &err));
		CHECK(!memcmp(in, out, BLOCK));
	}
	close(fd);
	CHECK_OK(hither_block_detach(b, false, &err));
	CHECK_OK(hither_mount_close(mount, &err));
	free(out);
	free(in);
}

static void errors_are_the_users(void)
{
	open_mount();
	struct hither_block *b = attach(NULL);
	uint8_t *buf = aligned();
	int fd = open(hither_block_path(b), O_RDWR | O_DIRECT | O_CLOEXEC);
	CHECK(fd >= 0);
	hither_layer_fault_arm(faulty, HITHER_FAULT_READ, 0, UINT64_MAX, -EIO, 0);
	CHECK_EQ(pread(fd, buf, 4096, 1 << 20), -1);
	CHECK_EQ(errno, EIO);
	hither_layer_fault_arm(faulty, HITHER_FAULT_READ, 0, 0, 0, 0);
	CHECK_EQ(pread(fd, buf, 4096, 1 << 20), 4096);
	hither_layer_fault_arm(faulty, HITHER_FAULT_FLUSH, 0, UINT64_MAX, -EIO, 0);
	CHECK_EQ(pwrite(fd, buf, 4096, 0), 4096);
	CHECK_EQ(fsync(fd), -1);
	hither_layer_fault_arm(faulty, HITHER_FAULT_FLUSH, 0, 0, 0, 0);
	close(fd);
	CHECK_OK(hither_block_detach(b, false, &err));
	CHECK_OK(hither_mount_close(mount, &err));
	free(buf);
}

/* What nobody has waited for yet fails in the end: it is told. */
static void detaching_tells_of_what_was_not_taken(void)
{
	open_mount();
	struct hither_block *b = attach(NULL);
	int fd = open(hither_block_path(b), O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	hither_layer_fault_arm(faulty, HITHER_FAULT_WRITE, 0, UINT64_MAX, -EIO, 0);
	uint8_t *buf = aligned();
	memset(buf, 1, BLOCK);
	CHECK_EQ(pwrite(fd, buf, BLOCK, 0), BLOCK);
	close(fd);
	CHECK_EQ(hither_block_detach(b, false, &err), -EIO);
	CHECK(strstr(err.message, "not all"));
	CHECK_OK(hither_mount_close(mount, &err));
	free(buf);
}

static void a_read_only_one_takes_no_writes(void)
{
	open_mount();
	struct hither_block *b = attach(&(struct hither_block_options){.read_only = true});
	int fd = open(hither_block_path(b), O_RDONLY | O_CLOEXEC), read_only = 0;
	CHECK(fd >= 0);
	CHECK(!ioctl(fd, BLKROGET, &read_only));
	CHECK(read_only);
	close(fd);
	CHECK_OK(hither_block_detach(b, false, &err));
	CHECK_OK(hither_mount_close(mount, &err));
}

static void one_in_use_stays(void)
{
	open_mount();
	struct hither_block *b = attach(NULL);
	int fd = open(hither_block_path(b), O_RDONLY | O_EXCL | O_CLOEXEC); /* as mount(2) does */
	CHECK(fd >= 0);
	CHECK_EQ(hither_block_detach(b, false, &err), -EBUSY);
	CHECK(strstr(err.message, "in use"));
	close(fd);
	CHECK_OK(hither_block_detach(b, false, &err));
	CHECK_OK(hither_mount_close(mount, &err));
}

struct sought {
	int pid;
	unsigned alive, dead;
};

static int count_entry(void *user, const struct hither_block_entry *e)
{
	struct sought *s = user;
	if (e->pid == s->pid && e->kind == kind)
		*(e->alive ? &s->alive : &s->dead) += 1;
	return 0;
}

/* A process that is killed leaves a record, and perhaps a device: the next attach removes both. */
static void what_the_killed_left_is_cleaned_up(void)
{
	int ready[2];
	char byte = 0;
	CHECK(!pipe(ready));
	pid_t child = fork();
	if (!child) {
		open_mount();
		attach(&(struct hither_block_options){.name = "to be killed"});
		CHECK_EQ(write(ready[1], "", 1), 1);
		for (;;)
			pause();
	}
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	struct sought s = {.pid = child};
	hither_block_each(count_entry, &s);
	CHECK_EQ(s.alive, 1);
	CHECK_EQ(s.dead, 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	s.alive = 0;
	hither_block_each(count_entry, &s);
	CHECK_EQ(s.alive, 0);
	CHECK_EQ(s.dead, 1);
	open_mount();
	CHECK_OK(hither_block_detach(attach(NULL), false, &err));
	CHECK_OK(hither_mount_close(mount, &err));
	s.dead = 0;
	hither_block_each(count_entry, &s);
	CHECK_EQ(s.dead, 0);
	close(ready[0]);
	close(ready[1]);
}

static void *make_node(void *path)
{
	poll(NULL, 0, 50);
	CHECK_EQ(symlink("/dev/null", path), 0);
	return NULL;
}

/* By an event; and by looking, where there is no descriptor to hear of one. */
static void a_node_is_waited_for(void)
{
	char folder[] = "/tmp/hXXXXXX", path[BLOCK_PATH_BYTES];
	struct rlimit old, now;
	CHECK(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/node", folder);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (int few = 0; few < 2; few++) {
		pthread_t maker;
		now = old;
		now.rlim_cur = few ? 0 : old.rlim_cur;
		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
		CHECK_EQ(pthread_create(&maker, NULL, make_node, path), 0);
		CHECK_OK(block_device_wait(path, &err));
		pthread_join(maker, NULL);
		CHECK_EQ(unlink(path), 0);
		CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
	}
	CHECK_EQ(rmdir(folder), 0);
}

static void misuse_is_told(void)
{
	struct hither_block *b;
	open_mount();
	CHECK_EQ(hither_block_attach(mount, &(struct hither_block_options){.block_bytes = 100}, &b,
	                             &err),
	         -EINVAL);
	CHECK_EQ(hither_block_attach(mount, &(struct hither_block_options){.queues = 99}, &b, &err),
	         -EINVAL);
	CHECK_OK(hither_mount_close(mount, &err));
}

int main(int argc, char **argv)
{
	bool any = false;
	signal(SIGPIPE, SIG_IGN);
	RUN(a_node_is_waited_for);
	for (int i = HITHER_BLOCK_AUTO + 1; i < HITHER_BLOCK_KINDS; i++) {
		kind = (enum hither_block_kind)i;
		if (hither_block_probe(kind, &err)) {
			printf("%s\n", err.message);
			continue;
		}
		any = true;
		printf("%s:\n", hither_block_kind_name(kind));
		RUN(bytes_go_both_ways);
		RUN(errors_are_the_users);
		RUN(detaching_tells_of_what_was_not_taken);
		RUN(a_read_only_one_takes_no_writes);
		RUN(one_in_use_stays);
		RUN(what_the_killed_left_is_cleaned_up);
		RUN(misuse_is_told);
	}
	if (!any)
		SKIP("no kind of block device can be made here");
	return 0;
}
