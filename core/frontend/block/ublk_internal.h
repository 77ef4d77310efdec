/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ublk: the kernel hands a block device's requests to this process over io_uring.
 *
 *     program -> /dev/ublkbN -> kernel -> ring of a queue -> its thread: hither_mount_submit
 *                                            ^                 | local: the answer goes with the
 *                                            |                 | next entry of the same call
 *                                            +-----------------+ not local: whoever brings the
 * bytes wakes the thread by an eventfd
 *
 * Source of the protocol: linux/ublk_cmd.h and Documentation/block/ublk.rst of Linux.
 */
#ifndef HITHER_FRONTEND_BLOCK_UBLK_INTERNAL_H
#define HITHER_FRONTEND_BLOCK_UBLK_INTERNAL_H

#include "frontend/block/block_internal.h"

#include <liburing.h>
#include <linux/ublk_cmd.h>
#include <pthread.h>

enum {
	UBLK_DEPTH = 64,
	UBLK_IO_BYTES = 512 << 10,
	UBLK_DISCARD_UNIT = 4096,
	UBLK_DISCARD_BYTES = 1 << 30, /* most at a time; the answer must fit into 31 bits */
};

struct ublk_queue;

struct ublk_io {
	struct hither_io io; /* first */
	struct ublk_queue *queue;
	struct ublk_io *next; /* in queue->done */
	uint16_t tag;
	bool write;
	int32_t whole;  /* of a discard: what was asked for */
	int32_t result; /* bytes, or -errno */
	uint8_t *buf;   /* [UBLK_IO_BYTES] */
};

struct ublk_queue {
	struct ublk *dev;
	uint16_t id;
	pthread_t thread;
	struct io_uring ring;
	bool has_ring, has_thread;
	const struct ublksrv_io_desc *descs; /* [UBLK_DEPTH], of the kernel */
	uint8_t *buffers;
	struct ublk_io ios[UBLK_DEPTH];
	unsigned with_kernel; /* entries that the kernel has */
	unsigned with_mount;
	int event_fd;
	uint64_t event; /* read into */

	pthread_mutex_t lock; /* guards the rest */
	struct ublk_io *done;
	bool ready; /* all its entries have been given to the kernel */
	int error;
	pthread_cond_t changed;
};

struct ublk {
	struct hither_block *block;
	struct io_uring control; /* of one thread at a time */
	bool has_control, legacy_control, io_ioctl;
	int control_fd, char_fd;
	unsigned id;
	uint16_t queue_count;
	struct ublk_queue *queues;
};

/* --- ublk_control.c --- */
int ublk_control_open(struct ublk *u, struct hither_error *err);
void ublk_control_close(struct ublk *u);
/* command: UBLK_CMD_*. 0 or -errno. */
int ublk_control_call(struct ublk *u, unsigned command, void *buf, size_t len, uint64_t data);

/* --- ublk_queue.c --- */
/* Make the queues, and start their threads; returns once each has given its entries to the kernel.
 */
int ublk_queues_start(struct ublk *u, struct hither_error *err);
/* Wait for the threads, whose entries the kernel has given back, or gives back now. */
void ublk_queues_finish(struct ublk *u);

#endif
