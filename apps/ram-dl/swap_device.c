/* SPDX-License-Identifier: Apache-2.0 */
#include "swap_device.h"

#include "steady.h"
#include "util.h"

#include <errno.h>
#include <hither/layer.h>
#include <stdio.h>
#include <string.h>

enum { PAGE_BLOCK = 4096, RESERVE_BYTES = 32 << 20, WARM_READS = 64 };

static bool kernel_can(const struct swap_wish *w)
{
	bool plain = !strncmp(w->url, "nbd://", 6) || !strncmp(w->url, "nbd+unix://", 11);
	bool kind = w->kind == HITHER_BLOCK_AUTO || w->kind == HITHER_BLOCK_NBD;
	return plain && kind && !w->mirror && !w->in_process &&
	       !hither_block_probe(HITHER_BLOCK_NBD, NULL);
}

static struct hither_block_options block_options(const struct swap_wish *w)
{
	return (struct hither_block_options){.kind = w->kind,
	                                     .block_bytes = PAGE_BLOCK,
	                                     .queues = w->connections,
	                                     .timeout_ms = w->deadline_ms,
	                                     .name = w->url};
}

/* The second server's is put behind the first's. */
static int open_backend(const struct swap_wish *w, struct hither_backend **out,
                        struct hither_error *err)
{
	struct hither_backend *first = NULL, *second = NULL;
	int r = hither_backend_open(w->url, &w->backend, &first, err);
	if (!r && w->mirror)
		r = hither_backend_open(w->mirror, &w->backend, &second, err);
	if (!r && w->mirror)
		r = hither_layer_mirror(first, second, w->lost, NULL, &first, err);
	if (r) {
		hither_backend_close(first);
		hither_backend_close(second);
		return r;
	}
	*out = first;
	return 0;
}

struct warming {
	struct hither_io io; /* first */
	char page[PAGE_BLOCK];
};

static void warmed(struct hither_io *io, int result, const struct hither_error *err)
{
	free(io);
}

/* The mount's threads and connections are started by need: let the need be now, not while the
 * machine is out of memory. */
static void warm_up(struct hither_mount *m)
{
	for (unsigned i = 0; i < WARM_READS; i++) {
		struct warming *w = malloc(sizeof *w);
		if (!w)
			return;
		w->io = (struct hither_io){.op = HITHER_IO_READ,
		                           .len = sizeof w->page,
		                           .buf = w->page,
		                           .done = warmed};
		hither_mount_submit(m, &w->io);
	}
}

/*
 * Should this process be killed, a ublk device goes away with it while it is still swap, and then
 * no swapoff can name it: the others first.
 */
static enum hither_block_kind safest_kind(enum hither_block_kind wished)
{
	if (wished != HITHER_BLOCK_AUTO)
		return wished;
	return !hither_block_probe(HITHER_BLOCK_NBD, NULL)    ? HITHER_BLOCK_NBD
	       : !hither_block_probe(HITHER_BLOCK_LOOP, NULL) ? HITHER_BLOCK_LOOP
	                                                      : HITHER_BLOCK_AUTO;
}

static int open_in_process(const struct swap_wish *w, struct swap_device *out,
                           struct hither_error *err)
{
	struct hither_backend *b = NULL;
	struct hither_mount_options options = {
	        .direct = true, .deadline_ms = w->deadline_ms, .backend = w->backend};
	struct hither_block_options block = block_options(w);
	int r = steady_lock(RESERVE_BYTES, err);
	if (!r)
		r = open_backend(w, &b, err);
	if (r)
		return r;
	r = hither_mount_backend(b, w->url, &options, &out->mount, err);
	if (r) {
		hither_backend_close(b);
		return r;
	}
	warm_up(out->mount);
	block.timeout_ms = 0; /* the mount keeps the deadline */
	block.kind = safest_kind(w->kind);
	r = hither_block_attach(out->mount, &block, &out->block, err);
	if (r)
		swap_device_close(out);
	return r;
}

int swap_device_open(const struct swap_wish *w, struct swap_device *out, struct hither_error *err)
{
	struct hither_block_options block = block_options(w);
	*out = (struct swap_device){0};
	return kernel_can(w) ? hither_block_attach_remote(w->url, &block, &out->block, err)
	                     : open_in_process(w, out, err);
}

void swap_device_close(struct swap_device *d)
{
	hither_block_detach(d->block, true, NULL);
	if (d->mount)
		hither_mount_cancel(
		        d->mount); /* what is on a server that died does not matter now */
	hither_mount_close(d->mount, NULL);
	*d = (struct swap_device){0};
}
