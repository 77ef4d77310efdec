/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the managed mount (docs/architecture.md) that need its own threads to be broken; the
 * others are managed_test.c's.
 */
#include "check.h"
#include "layer/layer.h"
#include "mount/managed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = HITHER_BLOCK_BYTES, BLOCKS = 16 };

/* --- a backend that stops in the middle of a call until it is let go --- */

enum call { CALL_NONE, CALL_READ, CALL_WRITE, CALL_FLUSH };

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static enum call gate_closed, gate_holds;

static void pass(enum call call)
{
	pthread_mutex_lock(&gate_lock);
	while (gate_closed == call) {
		gate_holds = call;
		pthread_cond_broadcast(&gate_changed);
		pthread_cond_wait(&gate_changed, &gate_lock);
	}
	pthread_mutex_unlock(&gate_lock);
}

static void close_gate(enum call call)
{
	pthread_mutex_lock(&gate_lock);
	gate_closed = call;
	gate_holds = CALL_NONE;
	pthread_cond_broadcast(&gate_changed);
	pthread_mutex_unlock(&gate_lock);
}

static void wait_until_held(enum call call)
{
	pthread_mutex_lock(&gate_lock);
	while (gate_holds != call)
		pthread_cond_wait(&gate_changed, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
}

static int gate_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	pass(CALL_READ);
	return hither_layer_read(b, offset, len, sink, err);
}

static int gate_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                         struct hither_error *err)
{
	pass(CALL_WRITE);
	return hither_layer_write_at(b, buf, len, offset, err);
}

static int gate_flush(struct hither_backend *b, struct hither_error *err)
{
	pass(CALL_FLUSH);
	return hither_layer_flush(b, err);
}

static const struct hither_backend_ops gate_ops = {
        .name = "gate",
        .read = gate_read,
        .write_at = gate_write_at,
        .flush = gate_flush,
        .cancel = hither_layer_cancel,
        .close = hither_layer_close,
};

static struct hither_mount *mount_gate_with(struct hither_mount_options options)
{
	options.pull_off = true;
	options.order = "none";
	struct hither_error err = {0};
	struct hither_backend *memory;
	struct hither_mount *m;
	char bytes[BLOCKS * BLOCK];
	memset(bytes, 'r', sizeof bytes);
	CHECK_OK(hither_backend_memory_create(sizeof bytes, &memory, &err));
	CHECK_OK(hither_backend_write_at(memory, bytes, sizeof bytes, 0, &err));
	struct hither_layer *gate = calloc(1, sizeof *gate);
	CHECK_OK(hither_layer_init(gate, &gate_ops, memory, &err));
	CHECK_OK(hither_mount_backend(&gate->base, "gate", &options, &m, &err));
	return m;
}

static struct hither_mount *mount_gate(void)
{
	return mount_gate_with((struct hither_mount_options){0});
}

static char read_byte(struct hither_mount *m, uint64_t block)
{
	struct hither_error err = {0};
	char c = 0;
	CHECK_OK(hither_mount_read_at(m, &c, 1, block * BLOCK + 7, &err));
	return c;
}

static void write_block(struct hither_mount *m, uint64_t block)
{
	struct hither_error err = {0};
	char bytes[BLOCK];
	memset(bytes, 'w', sizeof bytes);
	CHECK_OK(hither_mount_write_at(m, bytes, sizeof bytes, block * BLOCK, &err));
}

/* Everything that needs no backend works; with a lock held it would hang, and the test with it. */
static void check_answers(struct hither_mount *m, uint64_t local_block, uint64_t other_block)
{
	struct hither_mount_stats stats;
	uint8_t picture[4];
	uint32_t kind;
	CHECK(read_byte(m, local_block) != 0);
	write_block(m, other_block);
	CHECK_EQ(read_byte(m, other_block), 'w');
	hither_mount_stats(m, &stats);
	hither_mount_picture(m, picture, sizeof picture);
	CHECK(hither_mount_extent(m, 0, BLOCK, &kind) == BLOCK);
	CHECK(stats.local_bytes >= BLOCK);
}

static void *read_third(void *m)
{
	CHECK_EQ(read_byte(m, 3), 'r');
	return NULL;
}

static void *flush(void *m)
{
	struct hither_error err = {0};
	CHECK_OK(hither_mount_flush(m, &err));
	return NULL;
}

/* Rule 3 */
static void no_lock_is_held_while_a_backend_works(void)
{
	struct hither_error err = {0};
	struct hither_mount *m = mount_gate();
	pthread_t thread;
	CHECK_EQ(read_byte(m, 0), 'r');
	close_gate(CALL_READ);
	pthread_create(&thread, NULL, read_third, m);
	wait_until_held(CALL_READ);
	check_answers(m, 0, 5);
	close_gate(CALL_WRITE); /* opens the other */
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, flush, m);
	wait_until_held(CALL_WRITE);
	check_answers(m, 3, 6);
	close_gate(CALL_FLUSH);
	wait_until_held(CALL_FLUSH);
	check_answers(m, 5, 7);
	close_gate(CALL_NONE);
	pthread_join(thread, NULL);
	CHECK_OK(hither_mount_close(m, &err));
}

/* Rule 1 */
static void a_block_is_local_only_when_its_bytes_are_stored(void)
{
	struct hither_error err = {0};
	struct hither_mount *m = mount_gate();
	struct hither_mount_stats stats;
	int fd = hither_store_fd(managed_of(m)->store);
	int kept = dup(fd), broken = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	char c;
	CHECK(kept >= 0 && broken >= 0 && dup2(broken, fd) == fd);
	CHECK_EQ(hither_mount_read_at(m, &c, 1, 2 * BLOCK, &err), -EBADF);
	CHECK(strstr(err.message, "local store"));
	hither_mount_stats(m, &stats);
	CHECK_EQ(stats.local_bytes, 0);
	CHECK(dup2(kept, fd) == fd);
	CHECK_EQ(read_byte(m, 2), 'r'); /* a mark without bytes would read as zero */
	hither_mount_stats(m, &stats);
	CHECK_EQ(stats.local_bytes, BLOCK);
	close(kept);
	close(broken);
	err = (struct hither_error){0};
	CHECK_OK(hither_mount_close(m, &err));
}

/* Each worker may be in a request that nobody answers. */
static void the_deadline_holds_while_all_workers_wait(void)
{
	struct hither_mount *m =
	        mount_gate_with((struct hither_mount_options){.workers = 1, .deadline_ms = 200});
	struct hither_error err = {0};
	char c;
	close_gate(CALL_READ);
	CHECK_EQ(hither_mount_read_at(m, &c, 1, 0, &err), -ETIMEDOUT);
	CHECK(strstr(err.message, "--deadline"));
	close_gate(CALL_NONE);
	CHECK_OK(hither_mount_close(m, &err));
}

int main(void)
{
	alarm(50); /* a rule broken is a hang */
	RUN(no_lock_is_held_while_a_backend_works);
	RUN(a_block_is_local_only_when_its_bytes_are_stored);
	RUN(the_deadline_holds_while_all_workers_wait);
	return 0;
}
