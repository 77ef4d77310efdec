/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regions of other processes. Each is a slice like ours, over the same store, but that its
 * addresses and its userfaultfd are another process's, which only reads: what leaves the store is
 * taken out of its page table by the hole that is punched.
 */
#include "slice_internal.h"

#include "base/cleanup.h"
#include "pass.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static void remote_unmap(struct hither_slice *s, uint64_t first, uint64_t end)
{
}

static const struct slice_tracker track_remote = {
        .kind = HITHER_SLICE_TRACK_NONE,
        .unmap = remote_unmap,
};

static int greet(const struct hither_slice *s, int socket, struct pass_accept *yes, int *fd,
                 struct hither_error *err)
{
	struct pass_offer offer = {.magic = PASS_MAGIC,
	                           .offset = s->mount_first << SLICE_BLOCK_SHIFT,
	                           .len = s->block_count << SLICE_BLOCK_SHIFT,
	                           .size_bytes = s->size_bytes};
	HITHER_CLOSE int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	const int fds[PASS_OFFER_FDS] = {
	        [PASS_MEMFD] = mount_memory_fd(s->mount), [PASS_PIDFD] = self};
	int r = self < 0 ? -errno : pass_send(socket, &offer, sizeof offer, fds, PASS_OFFER_FDS);
	if (!r)
		r = pass_receive(socket, yes, sizeof *yes, fd, 1);
	if (!r && (yes->magic != PASS_MAGIC || yes->address % SLICE_BLOCK_BYTES ||
	           fcntl(*fd, F_SETFL, O_NONBLOCK) < 0))
		r = -EPROTO;
	return r ? hither_fail(err, r, "serving a slice: %s",
	                       r == -EPROTO ? "the other side does not attach" : strerror(-r))
	         : 0;
}

static void client_free(struct hither_slice *c)
{
	if (c->peer_fd >= 0) {
		/* First: over there the memory is taken away. A child of ours may have it, too. */
		shutdown(c->peer_fd, SHUT_RDWR);
		close(c->peer_fd);
	}
	slice_free(c);
}

/* Nobody is there any more, and nothing for it is under way. */
static bool is_over(struct hither_slice *c)
{
	HITHER_LOCK_SCOPE(&c->lock);
	return c->gone && !c->wait_count;
}

/* Clients that are over, or all of them, which may take as long as what they wait for. */
static void reap(struct hither_slice *s, bool all)
{
	struct hither_slice **at, *gone = NULL;
	pthread_mutex_lock(&s->lock);
	for (at = &s->clients; *at;) {
		struct hither_slice *c = *at;
		if (!all && !is_over(c)) {
			at = &c->next_client;
			continue;
		}
		*at = c->next_client;
		c->next_client = gone;
		gone = c;
	}
	pthread_mutex_unlock(&s->lock);
	while (gone) {
		struct hither_slice *c = gone;
		gone = c->next_client;
		mount_memory_unwatch(c->mount, &c->watch);
		slice_stop(c);
		client_free(c);
	}
}

void slice_clients_finish(struct hither_slice *s)
{
	reap(s, true);
}

static int client_start(struct hither_slice *c, const struct hither_slice *s,
                        struct hither_error *err)
{
	c->remote = true;
	c->tracker = &track_remote;
	c->mount = s->mount;
	c->mount_first = s->mount_first;
	c->block_count = s->block_count;
	c->size_bytes = s->size_bytes;
	c->chunk_blocks = s->chunk_blocks;
	c->scan_ms = s->scan_ms;
	struct pass_accept yes;
	int r = greet(s, c->peer_fd, &yes, &c->uffd.fd, err);
	if (r)
		return r;
	memcpy(&c->data, &yes.address, sizeof c->data);
	c->uffd.features = s->uffd.features;
	r = slice_bits_create(c, err);
	if (!r)
		r = slice_threads_start(c, err);
	return r;
}

int hither_slice_serve(struct hither_slice *s, int socket, struct hither_error *err)
{
	reap(s, false);
	struct hither_slice *c = NULL;
	int r = s->faults == HITHER_SLICE_FAULTS_THREAD
	                ? slice_new(&c, err)
	                : hither_fail(err, -EOPNOTSUPP,
	                              "a slice with its faults by SIGBUS cannot be served");
	if (r) {
		close(socket);
		return r;
	}
	c->peer_fd = socket;
	r = client_start(c, s, err);
	if (r) {
		client_free(c);
		return r;
	}
	slice_watch(c);
	HITHER_LOCK_SCOPE(&s->lock);
	c->next_client = s->clients;
	s->clients = c;
	return 0;
}
