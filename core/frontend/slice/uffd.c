/* SPDX-License-Identifier: Apache-2.0 */
#include "uffd.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

int uffd_hidden;
int uffd_protect_fails;
uint64_t uffd_hidden_features;
bool uffd_hide_pagemap_scan;

/* The device node or a privilege gives faults of system calls too; user-mode ones anybody may
 * have. */
static int open_any(bool user_only, bool *kernel_faults)
{
	*kernel_faults = true;
	if (uffd_hidden)
		return uffd_hidden;
	if (!user_only) {
		HITHER_CLOSE int node = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		int fd = node < 0 ? -1 : ioctl(node, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0)
			return fd;
	}
	*kernel_faults = false;
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	return fd < 0 ? -errno : fd;
}

int uffd_open(struct uffd *u, bool user_only, uint64_t features, struct hither_error *err)
{
	HITHER_CLOSE int fd = open_any(user_only, &u->kernel_faults);
	if (fd == -EPERM)
		return hither_fail(err, -EPERM,
		                   "userfaultfd is forbidden here: a seccomp filter must let it "
		                   "through, or /dev/userfaultfd be readable and writable");
	if (fd < 0)
		return hither_fail(err, fd, "userfaultfd: %s (it needs Linux 5.14)", strerror(-fd));
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return hither_fail(err, -errno, "userfaultfd: UFFDIO_API: %s", strerror(errno));
	u->features = features ? features : api.features;
	u->fd = HITHER_TAKE(fd, -1);
	return 0;
}

int uffd_probe(bool user_only, uint64_t *features, struct hither_error *err)
{
	struct uffd u;
	int r = uffd_open(&u, user_only, 0, err);
	if (r)
		return r;
	*features = u.features & ~uffd_hidden_features;
	close(u.fd);
	return 0;
}

int uffd_register(const struct uffd *u, void *addr, size_t len, bool write_protect,
                  struct hither_error *err)
{
	struct uffdio_register reg = {
	        .range = {(uintptr_t)addr, len},
	        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR |
	                (write_protect ? UFFDIO_REGISTER_MODE_WP : 0),
	};
	if (ioctl(u->fd, UFFDIO_REGISTER, &reg) < 0)
		return hither_fail(err, -errno, "userfaultfd: UFFDIO_REGISTER: %s",
		                   strerror(errno));
	return 0;
}

/* One page is mapped already: somebody may have come to wait for it in between. */
static void skip_page(const struct uffd *u, uint64_t *at)
{
	uffd_wake(u, (void *)(uintptr_t)*at, 4096); /* NOLINT: an address */
	*at += 4096;
}

int uffd_continue(const struct uffd *u, const void *addr, size_t len, bool protect)
{
	uint64_t at = (uintptr_t)addr, end = at + len, span = len;
	while (at < end) {
		struct uffdio_continue c = {.range = {at, span < end - at ? span : end - at},
		                            .mode = protect ? UFFDIO_CONTINUE_MODE_WP : 0};
		int code = ioctl(u->fd, UFFDIO_CONTINUE, &c) ? errno : 0;
		if (!code || c.mapped > 0)
			at += code ? (uint64_t)c.mapped : c.range.len;
		else if (code == ENOENT && c.range.len > 4096)
			span = c.range.len / 8192 *
			       4096; /* mprotect() has made several of one mapping */
		else if (code == EEXIST)
			skip_page(u, &at);
		else if (code != EAGAIN)
			return -code;
	}
	return 0;
}

int uffd_copy(const struct uffd *u, void *addr, const void *from, size_t len)
{
	size_t done = 0;
	while (done < len) {
		struct uffdio_copy c = {.dst = (uintptr_t)addr + done,
		                        .src = (uintptr_t)from + done,
		                        .len = len - done};
		if (!ioctl(u->fd, UFFDIO_COPY, &c))
			return 0;
		if (c.copy <= 0 && errno != EAGAIN)
			return -errno;
		done += c.copy > 0 ? (size_t)c.copy : 0;
	}
	return 0;
}

int uffd_continue_page(const struct uffd *u, const void *addr, bool protect)
{
	struct uffdio_continue c = {.range = {(uintptr_t)addr, 4096},
	                            .mode = protect ? UFFDIO_CONTINUE_MODE_WP : 0};
	while (ioctl(u->fd, UFFDIO_CONTINUE, &c) < 0)
		if (errno != EAGAIN)
			return -errno;
	return 0;
}

int uffd_protect(const struct uffd *u, const void *addr, size_t len, bool on)
{
	struct uffdio_writeprotect p = {.range = {(uintptr_t)addr, len},
	                                .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
	if (on && uffd_protect_fails)
		return uffd_protect_fails;
	while (ioctl(u->fd, UFFDIO_WRITEPROTECT, &p) < 0)
		if (errno != EAGAIN)
			return -errno;
	return 0;
}

int uffd_wake(const struct uffd *u, const void *addr, size_t len)
{
	struct uffdio_range range = {(uintptr_t)addr, len};
	return ioctl(u->fd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

/* Before Linux 6.6: pages beyond the end of an empty file. */
static int map_nothing(const struct uffd *u, void *addr, size_t len)
{
	HITHER_CLOSE int fd = memfd_create("hither-slice-failed", MFD_CLOEXEC);
	if (fd < 0 || mmap(addr, len, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -errno;
	return uffd_wake(u, addr, len);
}

int uffd_fail_pages(const struct uffd *u, void *addr, size_t len)
{
	if (!(u->features & UFFD_FEATURE_POISON))
		return map_nothing(u, addr, len);
	uint64_t at = (uintptr_t)addr, end = at + len;
	bool bare = false;
	while (at < end) {
		struct slice_poison p = {.range = {at, end - at}};
		if (!ioctl(u->fd, SLICE_UFFDIO_POISON, &p))
			return 0;
		int code = errno;
		bool first_time = !bare;
		bare = false;
		if (p.updated > 0) {
			at += (uint64_t)p.updated;
		} else if (code == EEXIST && first_time) {
			/* What was taken out again has left a mark of its write protection. */
			bare = !uffd_protect(u, (void *)(uintptr_t)at, 4096, false); /* NOLINT */
			if (!bare)
				skip_page(u, &at);
		} else if (code == EEXIST) {
			skip_page(u, &at);
		} else if (code != EAGAIN) {
			return -code;
		}
	}
	return 0;
}
