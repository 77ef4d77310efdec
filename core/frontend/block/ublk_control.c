/* SPDX-License-Identifier: Apache-2.0 */
/* Commands to /dev/ublk-control: entries of 128 bytes in a ring of their own, one at a time. */
#include "base/cleanup.h"
#include "frontend/block/ublk_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

int ublk_control_open(struct ublk *u, struct hither_error *err)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SQE128};
	HITHER_CLOSE int fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return hither_fail(err, -errno,
		                   "ublk: /dev/ublk-control: %s (modprobe ublk_drv makes it, Linux "
		                   "6.0 or later)",
		                   strerror(errno));
	int r = io_uring_queue_init_params(4, &u->control, &params);
	if (r)
		return hither_fail(err, r, "ublk: io_uring: %s%s", strerror(-r),
		                   r == -EPERM ? " (sysctl kernel.io_uring_disabled)" : "");
	u->has_control = true;
	u->control_fd = HITHER_TAKE(fd, -1);
	return 0;
}

void ublk_control_close(struct ublk *u)
{
	if (!u->has_control)
		return;
	io_uring_queue_exit(&u->control);
	close(u->control_fd);
	u->has_control = false;
}

static int call(struct ublk *u, uint32_t op, const struct ublksrv_ctrl_cmd *cmd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->control);
	struct io_uring_cqe *cqe;
	if (!sqe)
		return -EBUSY;
	memset(sqe, 0, 2 * sizeof *sqe);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = u->control_fd;
	sqe->cmd_op = op;
	memcpy((char *)sqe + offsetof(struct io_uring_sqe, cmd), cmd, sizeof *cmd);
	int r = io_uring_submit(&u->control);
	if (r < 0)
		return r;
	while ((r = io_uring_wait_cqe(&u->control, &cqe)) == -EINTR)
		;
	if (r)
		return r;
	r = cqe->res;
	io_uring_cqe_seen(&u->control, cqe);
	return r;
}

/* Linux 6.4 made the commands ioctl numbers, and may be built without the plain ones. */
int ublk_control_call(struct ublk *u, unsigned command, void *buf, size_t len, uint64_t data)
{
	struct ublksrv_ctrl_cmd cmd = {.dev_id = u->id,
	                               .queue_id = UINT16_MAX,
	                               .len = (uint16_t)len,
	                               .addr = (uintptr_t)buf,
	                               .data = {data}};
	bool reads = command == UBLK_CMD_GET_DEV_INFO || command == UBLK_CMD_GET_PARAMS;
	uint32_t modern = reads ? _IOR('u', command, struct ublksrv_ctrl_cmd)
	                        : _IOWR('u', command, struct ublksrv_ctrl_cmd);
	int r = u->legacy_control ? -EOPNOTSUPP : call(u, modern, &cmd);
	if (u->legacy_control || r == -EOPNOTSUPP || r == -ENOTTY) {
		int plain = call(u, command, &cmd);
		if (plain != -EOPNOTSUPP)
			u->legacy_control = true;
		r = plain;
	}
	return r;
}
