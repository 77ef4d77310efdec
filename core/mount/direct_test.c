/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <hither/mount.h>
#include <semaphore.h>
#include <stdlib.h>

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

int main(void)
{
	RUN(an_outage_holds_up_nobody_else);
	return 0;
}
