/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/fuse/fuse_fixture.h"

#include "frontend/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

char scratch[64];

uint8_t pattern(uint64_t offset)
{
	uint64_t x = (offset / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint8_t)(x >> (8 * (offset % 8)));
}

void check_pattern(const void *buf, size_t len, uint64_t offset)
{
	const uint8_t *p = buf;
	for (size_t i = 0; i < len; i++)
		if (p[i] != pattern(offset + i)) {
			fprintf(stderr, "byte %llu is %#x, not %#x\n",
			        (unsigned long long)(offset + i), p[i], pattern(offset + i));
			abort();
		}
}

/* --- a backend on shared bytes --- */

struct gated {
	struct hither_backend base;
	struct control *c;
};

static int gated_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                      struct hither_sink *sink, struct hither_error *err)
{
	struct control *c = ((struct gated *)b)->c;
	if (offset < atomic_load(&c->gate_to) && offset + len > atomic_load(&c->gate_from)) {
		sem_post(&c->entered);
		while (sem_wait(&c->opened))
			CHECK_EQ(errno, EINTR);
		sem_post(&c->opened); /* for the next */
	}
	if (atomic_load(&c->cancelled))
		return hither_fail(err, -ECANCELED, "test: cancelled");
	int fail = atomic_load(&c->fail);
	return fail ? hither_fail(err, fail, "test: told to fail")
	            : sink->take(sink, c->bytes + offset, len);
}

static int gated_write(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                       struct hither_error *err)
{
	(void)err;
	memcpy(((struct gated *)b)->c->bytes + offset, buf, len);
	return 0;
}

static void gated_cancel(struct hither_backend *b)
{
	struct control *c = ((struct gated *)b)->c;
	atomic_store(&c->cancelled, true);
	sem_post(&c->opened);
}

static void gated_close(struct hither_backend *b)
{
	free(b);
}

static const struct hither_backend_ops gated_ops = {.name = "gated",
                                                    .read = gated_read,
                                                    .write_at = gated_write,
                                                    .cancel = gated_cancel,
                                                    .close = gated_close};

static struct hither_mount *open_mount(struct control *c, const struct setup *setup)
{
	struct gated *g = calloc(1, sizeof *g);
	CHECK(g);
	g->c = c;
	g->base = (struct hither_backend){.ops = &gated_ops,
	                                  .size_bytes = c->size,
	                                  .flags = setup->writable ? HITHER_BACKEND_WRITABLE : 0,
	                                  .align_bytes = 1,
	                                  .modified_ns = setup->modified_ns,
	                                  .parallel = 8};
	struct hither_mount_options options = {.direct = setup->direct,
	                                       .pull_off = true,
	                                       .order = "none",
	                                       .chunk_bytes = 4096,
	                                       .deadline_ms = setup->deadline_ms,
	                                       .backend.writable = setup->writable};
	struct hither_error err = {0};
	struct hither_mount *m;
	CHECK_OK(hither_mount_backend(&g->base, "test", &options, &m, &err));
	return m;
}

/* --- the server's side --- */

enum { MOST_FILES = 1000 };

struct side {
	struct hither_fuse *fuse;
	struct hither_mount *mounts[MOST_FILES];
	struct control *c;
	size_t count;
	int command, reply;
};

static int store_all(const struct side *s)
{
	for (uint64_t offset = 0, len; offset < s->c->size; offset += len) {
		len = s->c->size - offset < FUSE_SLOT_DATA ? s->c->size - offset : FUSE_SLOT_DATA;
		int r = hither_fuse_store(s->fuse, 0, s->c->bytes + offset, len, offset);
		if (r)
			return r;
	}
	return 0;
}

static int obey(struct side *s, char command)
{
	struct hither_mount_stats stats;
	switch (command) {
	case ASK_STOP:
	case ASK_STOP_LAZY:
		return hither_fuse_stop(s->fuse, command == ASK_STOP_LAZY, NULL);
	case ASK_PULL:
		return hither_mount_pull(s->mounts[0], NULL);
	case ASK_READS:
		hither_mount_stats(s->mounts[0], &stats);
		return (int)stats.reads;
	case ASK_STORE:
		return store_all(s);
	default:
		for (size_t i = 0; i < s->count; i++)
			hither_mount_cancel(s->mounts[i]);
		return 0;
	}
}

static void *command_main(void *arg)
{
	struct side *s = arg;
	char command;
	while (read(s->command, &command, 1) == 1) {
		int r = obey(s, command);
		CHECK_EQ(write(s->reply, &r, sizeof r), sizeof r);
	}
	return NULL;
}

static void note_failure(void *user, const struct hither_error *err)
{
	struct control *c = user;
	CHECK(err->code < 0 && err->message[0]);
	atomic_fetch_add(&c->told, 1);
}

static int attach(struct side *s, const char *path, const struct setup *setup,
                  struct hither_error *err)
{
	static char names[MOST_FILES][32];
	struct hither_fuse_file files[MOST_FILES];
	for (size_t i = 0; i < s->count; i++) {
		snprintf(names[i], sizeof names[i], "file-%zu", i);
		s->mounts[i] = open_mount(s->c, setup);
		files[i] = (struct hither_fuse_file){s->mounts[i], names[i]};
	}
	struct hither_fuse_options options = {.no_passthrough = setup->no_passthrough,
	                                      .failed = note_failure,
	                                      .failed_user = s->c};
	return hither_fuse_attach(files, s->count, path, &options, &s->fuse, err);
}

/* What the process has now, and so much more. */
static void limit_space(uint32_t mib)
{
	unsigned long pages;
	FILE *statm = fopen("/proc/self/statm", "re");
	CHECK(statm && fscanf(statm, "%lu", &pages) == 1);
	fclose(statm);
	rlim_t most = pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)mib << 20);
	CHECK_EQ(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}), 0);
}

/* Never returns. */
static void serve(struct server *server, const struct setup *setup, int command, int reply)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setup->uid)
		CHECK(setgid(setup->uid) == 0 && setuid(setup->uid) == 0);
	struct side s = {.c = server->control,
	                 .count = setup->folder_files ? setup->folder_files : 1,
	                 .command = command,
	                 .reply = reply};
	struct hither_error err = {0};
	int r = attach(&s, server->path, setup, &err);
	err.code = r;
	pthread_t thread;
	if (!r)
		CHECK_EQ(pthread_create(&thread, NULL, command_main, &s), 0);
	if (setup->space_mib)
		limit_space(setup->space_mib);
	CHECK_EQ(write(reply, &err, sizeof err), sizeof err);
	if (!r) {
		r = hither_fuse_serve(s.fuse, &err);
		CHECK_EQ(write(reply, &r, sizeof r), sizeof r);
		pthread_join(thread, NULL); /* the test closes its end */
	}
	hither_fuse_detach(s.fuse);
	for (size_t i = 0; i < s.count; i++)
		hither_mount_close(s.mounts[i], NULL);
	exit(0);
}

/* --- the test's side --- */

static struct control *make_control(uint64_t size)
{
	struct control *c =
	        mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint8_t *bytes =
	        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(c != MAP_FAILED && bytes != MAP_FAILED);
	for (uint64_t i = 0; i < size; i++)
		bytes[i] = pattern(i);
	c->bytes = bytes;
	c->size = size;
	CHECK(!sem_init(&c->entered, 1, 0) && !sem_init(&c->opened, 1, 0));
	return c;
}

int server_try(struct server *s, const char *name, const struct setup *setup,
               struct hither_error *err)
{
	int command[2], reply[2];
	CHECK(!pipe2(command, O_CLOEXEC) && !pipe2(reply, O_CLOEXEC));
	snprintf(s->path, sizeof s->path, "%s/%s", scratch, name);
	snprintf(s->file, sizeof s->file, "%s/%s%s", scratch, name,
	         setup->folder_files ? "/file-0" : "");
	if (setup->folder_files)
		CHECK(mkdir(s->path, 0755) == 0 || errno == EEXIST);
	else
		close(open(s->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	if (setup->uid)
		CHECK_EQ(chown(s->path, setup->uid, setup->uid), 0);
	s->control = make_control(setup->size);
	s->pid = fork();
	CHECK(s->pid >= 0);
	if (s->pid == 0) {
		close(command[1]);
		close(reply[0]);
		serve(s, setup, command[0], reply[1]);
	}
	close(command[0]);
	close(reply[1]);
	s->command = command[1];
	s->reply = reply[0];
	CHECK_EQ(read(s->reply, err, sizeof *err), sizeof *err);
	return err->code;
}

void server_start(struct server *s, const char *name, const struct setup *setup)
{
	struct hither_error err = {0};
	CHECK_OK(server_try(s, name, setup, &err));
}

void server_send(struct server *s, int command)
{
	char c = (char)command;
	CHECK_EQ(write(s->command, &c, 1), 1);
}

int server_answer(struct server *s)
{
	int r;
	CHECK_EQ(read(s->reply, &r, sizeof r), sizeof r);
	return r;
}

int server_ask(struct server *s, int command)
{
	server_send(s, command);
	return server_answer(s);
}

int server_join(struct server *s)
{
	int r = 0, status;
	if (s->command >= 0) /* else it never served */
		r = server_answer(s);
	close(s->command);
	CHECK_EQ(waitpid(s->pid, &status, 0), s->pid);
	CHECK_EQ(status, 0);
	close(s->reply);
	munmap(s->control->bytes, s->control->size);
	munmap(s->control, sizeof *s->control);
	return r;
}

void server_stop(struct server *s)
{
	server_send(s, ASK_STOP);
	/* The answers of stop and of serve come in either order; both are 0. */
	CHECK_EQ(server_answer(s), 0);
	CHECK_EQ(server_join(s), 0);
	CHECK_EQ(rmdir(s->path) && unlink(s->path), 0);
}

void gate_close(struct control *c, uint64_t from, uint64_t to)
{
	while (sem_trywait(&c->opened) == 0)
		;
	atomic_store(&c->gate_from, from);
	atomic_store(&c->gate_to, to);
}

void gate_open(struct control *c)
{
	atomic_store(&c->gate_to, 0);
	sem_post(&c->opened);
}

void wait_entered(struct control *c)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	while (sem_timedwait(&c->entered, &until))
		CHECK_EQ(errno, EINTR);
}

/* --- the scratch folder --- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	while (umount2(path, MNT_DETACH) == 0)
		;
	return remove(path), 0;
}

static void unmount_leftovers(void)
{
	char *line = NULL;
	size_t size = 0;
	FILE *info = fopen("/proc/self/mountinfo", "re");
	CHECK(info);
	while (getline(&line, &size, info) > 0) {
		char *at = strstr(line, scratch), *end = at ? strchr(at, ' ') : NULL;
		if (!end)
			continue;
		*end = 0;
		umount2(at, MNT_DETACH);
	}
	free(line);
	fclose(info);
}

int run_in_scratch(void (*tests)(void))
{
	struct hither_error err = {0};
	if (hither_fuse_probe(&err))
		SKIP(err.message);
	snprintf(scratch, sizeof scratch, "/tmp/hither-fuse-XXXXXX");
	CHECK(mkdtemp(scratch));
	CHECK_EQ(chmod(scratch, 0755), 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		tests();
		exit(0);
	}
	int status = 0;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	unmount_leftovers();
	nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
