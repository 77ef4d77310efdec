/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device that paging goes to. Where it can, the kernel's NBD client talks to the server
 * by itself, so that no process is on the paging path. For a mirror, TLS, or a kernel without that
 * client this process is: a direct mount behind a block device, all of its memory locked.
 */
#ifndef HITHER_APP_RAM_DL_SWAP_DEVICE_H
#define HITHER_APP_RAM_DL_SWAP_DEVICE_H

#include <hither/block.h>

struct swap_wish {
	char *url;            /* owned */
	char *mirror;         /* owned; NULL: none */
	uint32_t connections; /* to each server */
	uint32_t deadline_ms; /* a request that is not answered by then fails */
	enum hither_block_kind kind;
	bool in_process; /* do not let the kernel talk to the server by itself */
	struct hither_backend_options backend;
	/* A mirror's server is lost: see hither_layer_mirror(). */
	void (*lost)(void *user, unsigned number, const struct hither_error *why);
};

struct swap_device {
	struct hither_mount *mount; /* NULL: the kernel talks to the server by itself */
	struct hither_block *block;
};

int swap_device_open(const struct swap_wish *wish, struct swap_device *out,
                     struct hither_error *err);
void swap_device_close(struct swap_device *d);

#endif
