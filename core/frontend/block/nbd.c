/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's NBD client, told by netlink what to talk to: our own export over socket pairs, or,
 * for a remote device, the server itself.
 *
 *     program -> /dev/nbdN -> kernel's client -> socket pair -> export's thread -> mount
 *                                            \-> TCP -> a server
 *
 * Should this process die, its ends of the pairs are closed and accesses fail at once; the device
 * stays, without a use, until it is told to disconnect: that is cleanup.
 */
#include "base/cleanup.h"
#include "frontend/block/block_internal.h"
#include "frontend/block/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/export.h>
#include <linux/fs.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { CONNECTION_BYTES = 64 << 20 /* of requests under way: the kernel limits them itself */ };

struct nbd {
	struct hither_export *server; /* NULL: remote */
};

static int nbd_probe(struct hither_error *err)
{
	struct block_netlink n;
	struct hither_error why = {0};
	int r = block_netlink_open(&n, NBD_GENL_FAMILY_NAME, &why);
	if (r)
		return hither_fail(err, r,
		                   "nbd: this kernel has no NBD client loaded (modprobe nbd): %s",
		                   strerror(-r));
	block_netlink_close(&n);
	return 0;
}

static bool is_connected(unsigned number)
{
	char pid[16];
	block_sysfs(pid, sizeof pid, "/sys/block/nbd%u/pid", number);
	return *pid != 0;
}

/* Beyond those that are there the kernel makes one when asked to. */
static int nbd_pick(unsigned from, struct hither_error *err)
{
	while (is_connected(from))
		from++;
	return (int)from;
}

static int disconnect(unsigned number)
{
	struct block_netlink n;
	int r = block_netlink_open(&n, NBD_GENL_FAMILY_NAME, NULL);
	if (r)
		return r;
	block_netlink_begin(&n, NBD_CMD_DISCONNECT, NBD_GENL_VERSION);
	block_netlink_put32(&n, NBD_ATTR_INDEX, number);
	r = block_netlink_call(&n);
	block_netlink_close(&n);
	return r;
}

static void put_sockets(struct block_netlink *n, const struct hither_block *b)
{
	size_t list = block_netlink_nest(n, NBD_ATTR_SOCKETS);
	for (uint32_t i = 0; i < b->options.queues && b->sockets[i] >= 0; i++) {
		size_t item = block_netlink_nest(n, NBD_SOCK_ITEM);
		block_netlink_put32(n, NBD_SOCK_FD, (uint32_t)b->sockets[i]);
		block_netlink_nest_end(n, item);
	}
	block_netlink_nest_end(n, list);
}

/* What ends in sysfs as the device's `backend`: tells ours from others of the same number. */
static void identify(char out[32], unsigned number, int pid)
{
	snprintf(out, 32, "hither-%u-%d", number, pid);
}

static int connect_device(struct hither_block *b, struct hither_error *err)
{
	struct block_netlink n;
	char identity[32];
	int r = block_netlink_open(&n, NBD_GENL_FAMILY_NAME, err);
	if (r)
		return r;
	identify(identity, b->record.number, b->record.pid);
	block_netlink_begin(&n, NBD_CMD_CONNECT, NBD_GENL_VERSION);
	block_netlink_put32(&n, NBD_ATTR_INDEX, b->record.number);
	block_netlink_put64(&n, NBD_ATTR_SIZE_BYTES, b->size_bytes);
	block_netlink_put64(&n, NBD_ATTR_BLOCK_SIZE_BYTES, b->options.block_bytes);
	block_netlink_put64(&n, NBD_ATTR_SERVER_FLAGS, b->server_flags);
	block_netlink_put64(&n, NBD_ATTR_CLIENT_FLAGS, 0);
	if (b->options.timeout_ms) {
		uint64_t seconds = (b->options.timeout_ms + 999) / 1000;
		block_netlink_put64(&n, NBD_ATTR_TIMEOUT, seconds);
	}
	block_netlink_put(&n, NBD_ATTR_BACKEND_IDENTIFIER, identity, strlen(identity) + 1);
	put_sockets(&n, b);
	r = block_netlink_call(&n);
	block_netlink_close(&n);
	return r ? hither_fail(err, r, "nbd: connect %s: %s", b->path, strerror(-r)) : 0;
}

static int start_export(struct hither_block *b, struct nbd *x, struct hither_error *err)
{
	const struct hither_export_volume volume = {
	        .name = "", .mount = b->mount, .read_only = b->options.read_only};
	const struct hither_export_options options = {.connection_bytes = CONNECTION_BYTES};
	int r = hither_export_create(&volume, 1, &options, &x->server, err);
	for (uint32_t i = 0; i < b->options.queues && !r; i++) {
		int pair[2];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			return hither_fail(err, -errno, "nbd: socketpair: %s", strerror(errno));
		b->sockets[i] = pair[0];
		r = hither_export_connect(x->server, pair[1], "", err);
	}
	b->server_flags = x->server ? hither_export_flags(x->server, "") : 0;
	return r;
}

/* The kernel holds them itself by now. */
static void close_sockets(struct hither_block *b)
{
	for (size_t i = 0; i < BLOCK_QUEUES_MAX; i++) {
		if (b->sockets[i] >= 0)
			close(b->sockets[i]);
		b->sockets[i] = -1;
	}
}

static void nbd_detach(struct hither_block *b)
{
	struct nbd *x = b->state;
	disconnect(b->record.number);
	hither_export_destroy(x->server);
	free(x);
	b->state = NULL;
}

static int nbd_attach(struct hither_block *b, struct hither_error *err)
{
	struct nbd *x = calloc(1, sizeof *x);
	if (!x)
		return hither_fail(err, -ENOMEM, "nbd: no memory");
	int r = b->mount ? start_export(b, x, err) : 0;
	if (!r)
		r = connect_device(b, err);
	bool connected = !r;
	if (!r)
		r = block_device_wait(b->path, err);
	if (b->mount || connected)
		close_sockets(b); /* remote ones are for the next number, if this one was taken */
	if (r) {
		if (connected)
			disconnect(b->record.number);
		hither_export_destroy(x->server);
		free(x);
		return r;
	}
	b->state = x;
	return 0;
}

static int nbd_cleanup(const struct block_record *r, struct hither_error *err)
{
	char backend[32], ours[32], path[BLOCK_PATH_BYTES];
	identify(ours, r->number, r->pid);
	block_sysfs(backend, sizeof backend, "/sys/block/nbd%u/backend", r->number);
	if (!is_connected(r->number) || strcmp(backend, ours))
		return 0;
	block_device_path(path, r);
	int claim = block_device_claim(path);
	if (claim >= 0)
		close(claim);
	if (claim == -EBUSY)
		return hither_fail(err, -EBUSY,
		                   "%s is in use though its process is dead: unmount it", path);
	int code = disconnect(r->number);
	return code && code != -EINVAL && code != -ENOENT
	               ? hither_fail(err, code, "nbd: disconnect %s: %s", path, strerror(-code))
	               : 0;
}

const struct block_kind block_nbd = {
        .kind = HITHER_BLOCK_NBD,
        .device = "/dev/nbd",
        .probe = nbd_probe,
        .pick = nbd_pick,
        .attach = nbd_attach,
        .detach = nbd_detach,
        .cleanup = nbd_cleanup,
};
