/* SPDX-License-Identifier: Apache-2.0 */
/* A ublk device: made, taken over from a dead process, removed. See ublk_internal.h. */
#include "base/cleanup.h"
#include "frontend/block/ublk_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define F_CMD_IOCTL_ENCODE (UINT64_C(1) << 6) /* linux/ublk_cmd.h of 6.4 */

static int ublk_probe(struct hither_error *err)
{
	struct ublk u = {0};
	int r = ublk_control_open(&u, err);
	ublk_control_close(&u);
	return r;
}

static int ublk_pick(unsigned from, struct hither_error *err)
{
	char path[BLOCK_PATH_BYTES];
	for (;; from++) {
		snprintf(path, sizeof path, "/dev/ublkc%u", from);
		if (access(path, F_OK))
			return (int)from;
	}
}

static int open_char(struct ublk *u, struct hither_error *err)
{
	char path[BLOCK_PATH_BYTES];
	snprintf(path, sizeof path, "/dev/ublkc%u", u->id);
	int r = block_device_wait(path, err);
	if (r)
		return r;
	u->char_fd = open(path, O_RDWR | O_CLOEXEC);
	return u->char_fd < 0 ? hither_fail(err, -errno, "ublk: open %s: %s", path, strerror(errno))
	                      : 0;
}

static int add_device(struct ublk *u, struct hither_error *err)
{
	const struct hither_block_options *o = &u->block->options;
	struct ublksrv_ctrl_dev_info info = {
	        .dev_id = u->id,
	        .nr_hw_queues = (uint16_t)o->queues,
	        .queue_depth = UBLK_DEPTH,
	        .max_io_buf_bytes = UBLK_IO_BYTES,
	        .flags = o->recover ? UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE : 0,
	};
	int r = ublk_control_call(u, UBLK_CMD_ADD_DEV, &info, sizeof info, 0);
	if (r)
		return hither_fail(err, r == -EEXIST ? -EBUSY : r, "ublk: add device %u: %s", u->id,
		                   strerror(-r));
	u->queue_count = info.nr_hw_queues; /* the kernel may give fewer: one for each processor */
	u->io_ioctl = info.flags & F_CMD_IOCTL_ENCODE;
	return 0;
}

static int log2_of(uint32_t value)
{
	return __builtin_ctz(value);
}

static int set_params(struct ublk *u, struct hither_error *err)
{
	const struct hither_block *b = u->block;
	struct ublk_params params = {
	        .len = sizeof params,
	        .types = UBLK_PARAM_TYPE_BASIC,
	        .basic = {.attrs = UBLK_ATTR_VOLATILE_CACHE |
	                           (b->options.read_only ? UBLK_ATTR_READ_ONLY : 0),
	                  .logical_bs_shift = (uint8_t)log2_of(b->options.block_bytes),
	                  .physical_bs_shift = 12,
	                  .io_opt_shift = 12,
	                  .io_min_shift = 12,
	                  .max_sectors = UBLK_IO_BYTES >> 9,
	                  .dev_sectors = b->size_bytes >> 9},
	};
	if (!b->options.read_only && hither_mount_discards(b->mount)) {
		params.types |= UBLK_PARAM_TYPE_DISCARD;
		params.discard =
		        (struct ublk_param_discard){.discard_granularity = UBLK_DISCARD_UNIT,
		                                    .max_discard_sectors = UBLK_DISCARD_BYTES >> 9,
		                                    .max_discard_segments = 1};
	}
	int r = ublk_control_call(u, UBLK_CMD_SET_PARAMS, &params, sizeof params, 0);
	return r ? hither_fail(err, r, "ublk: set size of %s: %s", b->path, strerror(-r)) : 0;
}

static void destroy(struct ublk *u)
{
	ublk_queues_finish(u);
	if (u->char_fd >= 0)
		close(u->char_fd);
	ublk_control_close(u);
	free(u);
}

static void ublk_detach(struct hither_block *b)
{
	struct ublk *u = b->state;
	ublk_control_call(u, UBLK_CMD_STOP_DEV, NULL, 0, 0);
	ublk_queues_finish(u);
	if (u->char_fd >= 0)
		close(u->char_fd);
	u->char_fd = -1;
	ublk_control_call(u, UBLK_CMD_DEL_DEV, NULL, 0, 0);
	destroy(u);
	b->state = NULL;
}

static struct ublk *create(struct hither_block *b, struct hither_error *err)
{
	struct ublk *u = calloc(1, sizeof *u);
	if (!u) {
		hither_fail(err, -ENOMEM, "ublk: no memory");
		return NULL;
	}
	u->block = b;
	u->id = b->record.number;
	u->char_fd = -1;
	if (ublk_control_open(u, err)) {
		destroy(u);
		return NULL;
	}
	return u;
}

/* The kernel asks for nothing before the device starts, and starts it once all queues wait. */
static int start(struct ublk *u, unsigned command, struct hither_error *err)
{
	int r = open_char(u, err);
	if (!r)
		r = ublk_queues_start(u, err);
	if (r)
		return r;
	r = ublk_control_call(u, command, NULL, 0, (uint64_t)getpid());
	return r ? hither_fail(err, r, "ublk: start %s: %s", u->block->path, strerror(-r))
	         : block_device_wait(u->block->path, err);
}

static int ublk_attach(struct hither_block *b, struct hither_error *err)
{
	struct hither_error own = {0};
	struct ublk *u = create(b, err ? err : (err = &own));
	if (!u)
		return err->code;
	int r = add_device(u, err);
	if (r) {
		destroy(u);
		return r;
	}
	b->state = u;
	r = set_params(u, err);
	if (!r)
		r = start(u, UBLK_CMD_START_DEV, err);
	if (r)
		ublk_detach(b);
	return r;
}

static int device_info(struct ublk *u, struct ublksrv_ctrl_dev_info *info)
{
	return ublk_control_call(u, UBLK_CMD_GET_DEV_INFO, info, sizeof *info, 0);
}

static int ublk_recover(struct hither_block *b, struct hither_error *err)
{
	struct ublksrv_ctrl_dev_info info = {0};
	struct hither_error own = {0};
	struct ublk *u = create(b, err ? err : (err = &own));
	if (!u)
		return err->code;
	int r = device_info(u, &info);
	if (r || info.ublksrv_pid == (int)getpid() || info.queue_depth != UBLK_DEPTH ||
	    info.max_io_buf_bytes != UBLK_IO_BYTES) {
		destroy(u);
		return hither_fail(err, -ENODEV, "ublk: %s has gone", b->path);
	}
	/* -EBUSY: the kernel is still finding out that the old process is dead. */
	r = ublk_control_call(u, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0);
	if (r) {
		destroy(u);
		return hither_fail(err, r == -ENODEV ? -EIO : r, "ublk: take over %s: %s", b->path,
		                   strerror(-r));
	}
	u->queue_count = info.nr_hw_queues;
	u->io_ioctl = info.flags & F_CMD_IOCTL_ENCODE;
	b->state = u;
	r = start(u, UBLK_CMD_END_USER_RECOVERY, err);
	if (r)
		ublk_detach(b);
	return r;
}

static int ublk_cleanup(const struct block_record *r, struct hither_error *err)
{
	struct ublksrv_ctrl_dev_info info = {0};
	struct ublk u = {.id = r->number};
	char path[BLOCK_PATH_BYTES];
	int code = ublk_control_open(&u, err);
	if (code)
		return code == -ENOENT ? 0 : code; /* no driver, no device */
	code = device_info(&u, &info);
	/* -1: the process died before the device was started. */
	if (!code && (info.ublksrv_pid == r->pid || info.ublksrv_pid == -1)) {
		block_device_path(path, r);
		int claim = block_device_claim(path);
		if (claim >= 0)
			close(claim);
		if (claim == -EBUSY)
			code = hither_fail(err, -EBUSY,
			                   "%s is in use though its process is dead: unmount it",
			                   path);
		if (!code)
			ublk_control_call(&u, UBLK_CMD_STOP_DEV, NULL, 0, 0);
		if (!code)
			code = ublk_control_call(&u, UBLK_CMD_DEL_DEV, NULL, 0, 0);
		if (code && code != -EBUSY)
			hither_fail(err, code, "ublk: remove %s: %s", path, strerror(-code));
	} else {
		code = 0;
	}
	ublk_control_close(&u);
	return code;
}

const struct block_kind block_ublk = {
        .kind = HITHER_BLOCK_UBLK,
        .device = "/dev/ublkb",
        .probe = ublk_probe,
        .pick = ublk_pick,
        .attach = ublk_attach,
        .detach = ublk_detach,
        .cleanup = ublk_cleanup,
        .recover = ublk_recover,
};
