/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <hither/mount.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096, GOOD_READS = 50 };

/* Its first block is zeros; what follows is never there, for now. */
struct half {
	struct hither_backend base;
	sem_t failed; /* posted each time */
};

static int half_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	static const char zeros[BLOCK];
	if (offset < BLOCK)
		return sink->take(sink, zeros, (size_t)len);
	sem_post(&((struct half *)b)->failed);
	return hither_fail(err, -ECONNRESET, "half: the line is down");
}

static void half_close(struct hither_backend *b)
{
	sem_destroy(&((struct half *)b)->failed);
	free(b);
}

static const struct hither_backend_ops half_ops = {
        .name = "half", .read = half_read, .close = half_close};

static struct half *make_half(void)
{
	struct half *h = calloc(1, sizeof *h);
	h->base = (struct hither_backend){
	        .ops = &half_ops, .size_bytes = 2 * BLOCK, .align_bytes = 1, .parallel = 2};
	CHECK_EQ(sem_init(&h->failed, 0, 0), 0);
	return h;
}

struct waiting {
	struct hither_io io;
	sem_t over; /* posted once */
	int result;
};

static void waiting_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct waiting *w = (struct waiting *)io;
	w->result = result;
	sem_post(&w->over);
}

/* Who waits for an outage to end must not take the call to work that was meant for others. */
static void an_outage_holds_up_nobody_else(void)
{
	struct hither_error err = {0};
	struct hither_mount_options options = {.direct = true, .workers = 2, .deadline_ms = 60000};
	struct half *half = make_half();
	struct hither_mount *m;
	CHECK_OK(hither_mount_backend(&half->base, "half", &options, &m, &err));
	char lost, c = 1;
	struct waiting w = {.io = {.op = HITHER_IO_READ,
	                           .offset = BLOCK,
	                           .len = 1,
	                           .buf = &lost,
	                           .done = waiting_done}};
	CHECK_EQ(sem_init(&w.over, 0, 0), 0);
	hither_mount_submit(m, &w.io);
	CHECK_EQ(sem_wait(&half->failed), 0);
	for (int i = 0; i < GOOD_READS; i++)
		CHECK_OK(hither_mount_read_at(m, &c, 1, 0, &err));
	CHECK_EQ(c, 0);
	CHECK_EQ(sem_trywait(&w.over), -1);
	hither_mount_cancel(m);
	CHECK_EQ(sem_wait(&w.over), 0);
	CHECK_EQ(w.result, -ECANCELED);
	sem_destroy(&w.over);
	CHECK_OK(hither_mount_close(m, &err));
}

/* --- a disk --- */

/* What is in its first block is at hand; who wants what follows waits until it is let go. */
struct disk {
	struct hither_backend base;
	sem_t let_go;
};

static int disk_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                     struct hither_sink *sink, struct hither_error *err)
{
	static const char ones[BLOCK] = {1};
	if (offset >= BLOCK)
		CHECK_EQ(sem_wait(&((struct disk *)b)->let_go), 0);
	return sink->take(sink, ones, (size_t)len);
}

static int disk_read_now(struct hither_backend *b, void *buf, size_t len, uint64_t offset)
{
	if (offset >= BLOCK)
		return -EAGAIN;
	memset(buf, 2, len);
	return 0;
}

static void disk_close(struct hither_backend *b)
{
	sem_destroy(&((struct disk *)b)->let_go);
	free(b);
}

static const struct hither_backend_ops disk_ops = {
        .name = "disk", .read = disk_read, .read_now = disk_read_now, .close = disk_close};

/* Who submits does not wait for the disk, and what is at hand comes before what is not. */
static void a_disk_holds_up_nobody(void)
{
	enum { WAITING = 8 };
	struct hither_error err = {0};
	struct hither_mount_options options = {.direct = true, .workers = 2};
	struct disk *disk = calloc(1, sizeof *disk);
	struct hither_mount *m;
	struct waiting w[WAITING + 1];
	char bytes[WAITING + 1] = {0};
	disk->base = (struct hither_backend){.ops = &disk_ops,
	                                     .flags = HITHER_BACKEND_LOCAL,
	                                     .size_bytes = 2 * BLOCK,
	                                     .align_bytes = 1,
	                                     .parallel = 64};
	CHECK_EQ(sem_init(&disk->let_go, 0, 0), 0);
	CHECK_OK(hither_mount_backend(&disk->base, "disk", &options, &m, &err));
	for (unsigned i = 0; i <= WAITING; i++) {
		w[i] = (struct waiting){.io = {.op = HITHER_IO_READ,
		                               .offset = i < WAITING ? BLOCK : 0,
		                               .len = 1,
		                               .buf = &bytes[i],
		                               .done = waiting_done}};
		CHECK_EQ(sem_init(&w[i].over, 0, 0), 0);
		hither_mount_submit(m, &w[i].io);
	}
	CHECK_EQ(sem_trywait(&w[WAITING].over), 0); /* it has come, and is the one at hand */
	CHECK_EQ(bytes[WAITING], 2);
	for (unsigned i = 0; i < WAITING; i++)
		CHECK_EQ(sem_trywait(&w[i].over), -1);
	for (unsigned i = 0; i < WAITING; i++)
		CHECK_EQ(sem_post(&disk->let_go), 0);
	for (unsigned i = 0; i < WAITING; i++) {
		CHECK_EQ(sem_wait(&w[i].over), 0);
		CHECK_EQ(bytes[i], 1);
	}
	for (unsigned i = 0; i <= WAITING; i++)
		sem_destroy(&w[i].over);
	CHECK_OK(hither_mount_close(m, &err));
}

int main(void)
{
	alarm(60);
	RUN(an_outage_holds_up_nobody_else);
	RUN(a_disk_holds_up_nobody);
	return 0;
}
