/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of a ublk device: its thread takes requests to the mount and answers back. */
#include "base/cleanup.h"
#include "frontend/block/ublk_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57 /* include/uapi/linux/prctl.h, Linux 5.6 */
#endif

#define EVENT_DATA UINT64_MAX

enum { SECTOR_BITS = 9 };

/* --- entries --- */

static struct io_uring_sqe *entry(struct ublk_queue *q)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
	if (!sqe) { /* full: make room; the ring has one for each tag and some */
		io_uring_submit(&q->ring);
		sqe = io_uring_get_sqe(&q->ring);
	}
	assert(sqe);
	return sqe;
}

/* Give a tag to the kernel: for its next request, with the answer to the last one. */
static void give(struct ublk_queue *q, struct ublk_io *x, unsigned command)
{
	struct io_uring_sqe *sqe = entry(q);
	const struct ublksrv_io_cmd cmd = {
	        .q_id = q->id, .tag = x->tag, .result = x->result, .addr = (uintptr_t)x->buf};
	memset(sqe, 0, sizeof *sqe);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = q->dev->char_fd;
	sqe->cmd_op =
	        q->dev->io_ioctl ? (uint32_t)_IOWR('u', command, struct ublksrv_io_cmd) : command;
	sqe->user_data = x->tag;
	memcpy((char *)sqe + offsetof(struct io_uring_sqe, cmd), &cmd, sizeof cmd);
	q->with_kernel++;
}

static void listen_event(struct ublk_queue *q)
{
	struct io_uring_sqe *sqe = entry(q);
	io_uring_prep_read(sqe, q->event_fd, &q->event, sizeof q->event, 0);
	sqe->user_data = EVENT_DATA;
}

/* --- requests --- */

static void request_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct ublk_io *x = (struct ublk_io *)io;
	struct ublk_queue *q = x->queue;
	x->result = result ? result : io->op == HITHER_IO_DISCARD ? x->whole : (int32_t)io->len;
	pthread_mutex_lock(&q->lock);
	bool first = !q->done;
	x->next = q->done;
	q->done = x;
	/* Under the lock: once it sees the last one, the thread may end, and its event with it. */
	if (first && !pthread_equal(pthread_self(), q->thread)) {
		uint64_t one = 1;
		ssize_t n = write(q->event_fd, &one, sizeof one);
		(void)n; /* it can only be full, which is as good */
	}
	pthread_mutex_unlock(&q->lock);
}

/* Of whole blocks; what else there is of it stays, as it may. */
static void begin_discard(struct ublk_queue *q, struct ublk_io *x)
{
	uint64_t end = x->io.offset + x->io.len, unit = UBLK_DISCARD_UNIT;
	x->whole = (int32_t)x->io.len;
	x->io.op = HITHER_IO_DISCARD;
	x->io.buf = NULL;
	x->io.offset = (x->io.offset + unit - 1) / unit * unit;
	if (end != q->dev->block->size_bytes)
		end -= end % unit;
	if (x->io.offset < end) {
		x->io.len = end - x->io.offset;
		hither_mount_submit(q->dev->block->mount, &x->io);
	} else {
		request_done(&x->io, 0, NULL);
	}
}

static void begin(struct ublk_queue *q, struct ublk_io *x)
{
	const struct ublksrv_io_desc *d = &q->descs[x->tag];
	size_t len = (size_t)d->nr_sectors << SECTOR_BITS;
	bool data = true;
	x->io = (struct hither_io){.offset = d->start_sector << SECTOR_BITS,
	                           .len = len,
	                           .buf = x->buf,
	                           .done = request_done};
	q->with_mount++;
	switch (ublksrv_get_op(d)) {
	case UBLK_IO_OP_READ:
		x->io.op = HITHER_IO_READ;
		break;
	case UBLK_IO_OP_WRITE:
		x->io.op = HITHER_IO_WRITE;
		break;
	case UBLK_IO_OP_FLUSH:
		x->io.op = HITHER_IO_FLUSH;
		x->io.offset = x->io.len = 0;
		data = false;
		break;
	case UBLK_IO_OP_DISCARD:
		begin_discard(q, x);
		return;
	default: /* the device does not offer others */
		request_done(&x->io, -EOPNOTSUPP, NULL);
		return;
	}
	if (data && len > UBLK_IO_BYTES) {
		request_done(&x->io, -EIO, NULL);
		return;
	}
	hither_mount_submit(q->dev->block->mount, &x->io);
}

static struct ublk_io *take_done(struct ublk_queue *q)
{
	HITHER_LOCK_SCOPE(&q->lock);
	return HITHER_TAKE(q->done, NULL);
}

/* What was answered in the meantime may have begun more, and so on. */
static void answer(struct ublk_queue *q, bool over)
{
	for (struct ublk_io *x; (x = take_done(q));)
		while (x) {
			struct ublk_io *next = x->next;
			q->with_mount--;
			if (!over)
				give(q, x, UBLK_IO_COMMIT_AND_FETCH_REQ);
			x = next;
		}
}

static void set_ready(struct ublk_queue *q, int error)
{
	pthread_mutex_lock(&q->lock);
	q->ready = true;
	q->error = error;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}

/* Until the kernel has given back all entries, as it does when the device is stopped. */
static void *queue_main(void *arg)
{
	struct ublk_queue *q = arg;
	bool over = false;
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); /* needs CAP_SYS_RESOURCE; without it, less safe */
	for (unsigned i = 0; i < UBLK_DEPTH; i++)
		give(q, &q->ios[i], UBLK_IO_FETCH_REQ);
	listen_event(q);
	int r = io_uring_submit(&q->ring);
	set_ready(q, r < 0 ? r : 0);
	while (r >= 0 && (q->with_kernel || q->with_mount)) {
		struct io_uring_cqe *cqes[UBLK_DEPTH + 1];
		r = io_uring_submit_and_wait(&q->ring, 1);
		if (r == -EINTR)
			r = 0;
		unsigned count = io_uring_peek_batch_cqe(&q->ring, cqes, UBLK_DEPTH + 1);
		for (unsigned i = 0; i < count; i++) {
			uint64_t data = cqes[i]->user_data;
			if (data == EVENT_DATA) {
				listen_event(q);
				continue;
			}
			q->with_kernel--;
			if (cqes[i]->res == UBLK_IO_RES_OK)
				begin(q, &q->ios[data]);
			else
				over = true; /* -ENODEV: the device is being stopped */
		}
		io_uring_cq_advance(&q->ring, count);
		answer(q, over);
	}
	return NULL;
}

/* --- life --- */

static int map_queue(struct ublk_queue *q, struct hither_error *err)
{
	size_t bytes = UBLK_DEPTH * sizeof *q->descs, page = (size_t)sysconf(_SC_PAGESIZE);
	size_t most = UBLK_MAX_QUEUE_DEPTH * sizeof *q->descs;
	bytes = (bytes + page - 1) / page * page;
	most = (most + page - 1) / page * page;
	void *descs = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, q->dev->char_fd,
	                   (off_t)(UBLKSRV_CMD_BUF_OFFSET + q->id * most));
	if (descs == MAP_FAILED)
		return hither_fail(err, -errno, "ublk: map a queue: %s", strerror(errno));
	q->descs = descs;
	void *buffers = mmap(NULL, (size_t)UBLK_DEPTH * UBLK_IO_BYTES, PROT_READ | PROT_WRITE,
	                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffers == MAP_FAILED)
		return hither_fail(err, -ENOMEM, "ublk: no memory");
	q->buffers = buffers;
	for (unsigned i = 0; i < UBLK_DEPTH; i++)
		q->ios[i] = (struct ublk_io){.queue = q,
		                             .tag = (uint16_t)i,
		                             .result = -1,
		                             .buf = q->buffers + (size_t)i * UBLK_IO_BYTES};
	return 0;
}

static int start_queue(struct ublk_queue *q, struct hither_error *err)
{
	q->event_fd = eventfd(0, EFD_CLOEXEC);
	if (q->event_fd < 0)
		return hither_fail(err, -errno, "ublk: eventfd: %s", strerror(errno));
	int r = map_queue(q, err);
	if (r)
		return r;
	r = io_uring_queue_init(2 * UBLK_DEPTH, &q->ring, 0);
	if (r)
		return hither_fail(err, r, "ublk: io_uring: %s", strerror(-r));
	q->has_ring = true;
	/* The thread reads q->thread only in calls that come after this one has returned: requests
	 * come once the device is started. */
	r = block_thread(&q->thread, queue_main, q);
	if (r)
		return hither_fail(err, r, "ublk: start a thread: %s", strerror(-r));
	q->has_thread = true;
	HITHER_LOCK_SCOPE(&q->lock);
	while (!q->ready)
		pthread_cond_wait(&q->changed, &q->lock);
	return q->error ? hither_fail(err, q->error, "ublk: io_uring: %s", strerror(-q->error)) : 0;
}

int ublk_queues_start(struct ublk *u, struct hither_error *err)
{
	u->queues = calloc(u->queue_count, sizeof *u->queues);
	if (!u->queues)
		return hither_fail(err, -ENOMEM, "ublk: no memory");
	for (uint16_t i = 0; i < u->queue_count; i++) {
		struct ublk_queue *q = &u->queues[i];
		q->dev = u;
		q->id = i;
		q->event_fd = -1;
		pthread_mutex_init(&q->lock, NULL);
		pthread_cond_init(&q->changed, NULL);
	}
	int r = 0;
	for (uint16_t i = 0; i < u->queue_count && !r; i++)
		r = start_queue(&u->queues[i], err);
	return r;
}

void ublk_queues_finish(struct ublk *u)
{
	for (uint16_t i = 0; u->queues && i < u->queue_count; i++) {
		struct ublk_queue *q = &u->queues[i];
		if (q->has_thread)
			pthread_join(q->thread, NULL);
		if (q->has_ring)
			io_uring_queue_exit(&q->ring);
		if (q->event_fd >= 0)
			close(q->event_fd);
		if (q->buffers)
			munmap(q->buffers, (size_t)UBLK_DEPTH * UBLK_IO_BYTES);
		if (q->descs)
			munmap((void *)q->descs, UBLK_DEPTH * sizeof *q->descs);
		pthread_mutex_destroy(&q->lock);
		pthread_cond_destroy(&q->changed);
	}
	free(u->queues);
	u->queues = NULL;
}
