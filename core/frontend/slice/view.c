/* SPDX-License-Identifier: Apache-2.0 */
/* The attaching process: its mapping, and a thread that takes it away when the server is gone. */
#include "pass.h"
#include "uffd.h"

#include "base/cleanup.h"

#include <errno.h>
#include <hither/slice.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

struct hither_slice_view {
	int socket, memfd, stop_fd;
	int server; /* its pidfd */
	struct uffd uffd;
	void *data;
	size_t map_bytes;
	uint64_t size_bytes;
	pthread_t guard;
	bool has_guard;
	_Atomic bool alive;
};

/* Nothing at all is left readable: pages that never came could not be told from zeros. */
static void take_away(struct hither_slice_view *v)
{
	v->alive = false;
	HITHER_CLOSE int fd = memfd_create("hither-slice-gone", MFD_CLOEXEC);
	/* Beyond the end of an empty file: SIGBUS. */
	if (fd < 0 ||
	    mmap(v->data, v->map_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		mprotect(v->data, v->map_bytes, PROT_NONE);
	uffd_wake(&v->uffd, v->data, v->map_bytes);
}

static void *guard_main(void *arg)
{
	struct hither_slice_view *v = arg;
	struct pollfd fds[] = {{v->stop_fd, POLLIN, 0},
	                       {v->socket, POLLIN | POLLRDHUP, 0},
	                       {v->server, POLLIN, 0}};
	while (poll(fds, 3, -1) < 0 && errno == EINTR)
		;
	if (!fds[0].revents)
		take_away(v);
	return NULL;
}

static int check_offer(const struct pass_offer *offer, int memfd)
{
	struct stat st;
	if (offer->magic != PASS_MAGIC || fstat(memfd, &st) < 0 || offer->len == 0 ||
	    offer->len % 4096 || offer->offset % 4096 || offer->size_bytes > offer->len ||
	    offer->offset > (uint64_t)st.st_size || offer->len > SIZE_MAX / 2 ||
	    offer->size_bytes > (uint64_t)st.st_size - offer->offset)
		return -EPROTO;
	return 0;
}

static int attach(struct hither_slice_view *v, struct hither_error *err)
{
	struct pass_offer offer;
	uint64_t features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM, there;
	int fds[PASS_OFFER_FDS];
	int r = pass_receive(v->socket, &offer, sizeof offer, fds, PASS_OFFER_FDS);
	v->memfd = fds[PASS_MEMFD];
	v->server = fds[PASS_PIDFD];
	if (!r)
		r = check_offer(&offer, v->memfd);
	if (r)
		return hither_fail(err, r, "attaching to a slice: %s",
		                   r == -EPROTO ? "the other side does not serve one"
		                                : strerror(-r));
	v->map_bytes = offer.len;
	v->size_bytes = offer.size_bytes;
	void *p = mmap(NULL, v->map_bytes, PROT_READ, MAP_SHARED, v->memfd, (off_t)offer.offset);
	if (p == MAP_FAILED)
		return hither_fail(err, -errno, "mapping %zu bytes: %s", v->map_bytes,
		                   strerror(errno));
	v->data = p;
	if (madvise(p, v->map_bytes, MADV_DONTFORK) < 0)
		return hither_fail(err, -errno, "MADV_DONTFORK: %s", strerror(errno));
	madvise(p, v->map_bytes, MADV_NOHUGEPAGE);
	r = uffd_probe(false, &there, err);
	if (!r)
		r = uffd_open(&v->uffd, false, features | (there & UFFD_FEATURE_POISON), err);
	if (!r)
		r = uffd_register(&v->uffd, p, v->map_bytes, false, err);
	if (r)
		return r;
	struct pass_accept yes = {.magic = PASS_MAGIC, .address = (uintptr_t)p};
	v->alive = true;
	v->stop_fd = eventfd(0, EFD_CLOEXEC);
	r = v->stop_fd < 0 ? errno : pthread_create(&v->guard, NULL, guard_main, v);
	if (r)
		return hither_fail(err, -r, "cannot start a thread: %s", strerror(r));
	v->has_guard = true;
	r = pass_send(v->socket, &yes, sizeof yes, &v->uffd.fd, 1);
	return r ? hither_fail(err, r, "attaching to a slice: %s", strerror(-r)) : 0;
}

int hither_slice_attach(int socket, struct hither_slice_view **out, struct hither_error *err)
{
	struct hither_slice_view *v = calloc(1, sizeof *v);
	if (!v) {
		close(socket);
		return hither_fail(err, -ENOMEM, "no memory to attach to a slice");
	}
	v->socket = socket;
	v->memfd = v->server = v->stop_fd = v->uffd.fd = -1;
	int r = attach(v, err);
	if (r)
		hither_slice_detach(v);
	else
		*out = v;
	return r;
}

const void *hither_slice_view_data(const struct hither_slice_view *v)
{
	return v->data;
}

uint64_t hither_slice_view_size(const struct hither_slice_view *v)
{
	return v->size_bytes;
}

bool hither_slice_view_alive(const struct hither_slice_view *v)
{
	return v->alive;
}

void hither_slice_detach(struct hither_slice_view *v)
{
	if (!v)
		return;
	if (v->has_guard) {
		eventfd_write(v->stop_fd, 1);
		pthread_join(v->guard, NULL);
	}
	if (v->data)
		munmap(v->data, v->map_bytes);
	shutdown(v->socket, SHUT_RDWR); /* a child of ours may have it, too */
	int fds[] = {v->socket, v->memfd, v->server, v->stop_fd, v->uffd.fd};
	for (unsigned i = 0; i < sizeof fds / sizeof fds[0]; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(v);
}
