/* SPDX-License-Identifier: Apache-2.0 */
/* hither block list, cleanup, detach: devices of other processes. */
#include "block.h"

#include "command.h"
#include "mountpoint.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/block.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

enum { DETACH_WAIT_MS = 60000, LOOK_MS = 1000, AGAIN_MS = 100, USERS_BYTES = 256 };

static int print_entry(void *user, const struct hither_block_entry *e)
{
	AUTO_FREE char *shown = url_redact(e->name);
	++*(unsigned *)user;
	printf("%-14s %-5s %8d  %-5s  %s\n", e->path, hither_block_kind_name(e->kind), e->pid,
	       e->alive ? "alive" : "dead", shown ? shown : "");
	return 0;
}

int block_list(void)
{
	unsigned count = 0;
	hither_block_each(print_entry, &count);
	if (!count)
		printf("No devices.\n");
	return EXIT_DONE;
}

int block_cleanup(void)
{
	struct hither_error err = {0};
	unsigned count;
	int r = hither_block_cleanup(true, &count, &err);
	printf("%u %s removed\n", count, count == 1 ? "device" : "devices");
	return r ? fail_with(EXIT_FAILED, "%s", err.message) : EXIT_DONE;
}

struct wanted {
	const char *path;
	bool found, alive;
	int pid, pidfd;
};

static int find_entry(void *user, const struct hither_block_entry *e)
{
	struct wanted *w = user;
	if (strcmp(e->path, w->path))
		return 0;
	w->found = true;
	w->alive = e->alive;
	w->pid = e->pid;
	w->pidfd = e->alive ? (int)syscall(SYS_pidfd_open, e->pid, 0) : -1;
	return 1;
}

/*
 * Who merely has it open is not in the way of a claim, but would lose it. udev looks at a device
 * for a moment whenever somebody has closed it, and no event tells when it has done so.
 */
static bool is_open(const struct wanted *w, char users[USERS_BYTES])
{
	uint64_t until = now_ns() + LOOK_MS * UINT64_C(1000000);
	while (*mountpoint_users(w->path, w->pid, users, USERS_BYTES) && now_ns() < until)
		poll(NULL, 0, AGAIN_MS);
	return *users;
}

/* What the process could not do before it ended, as it left it. */
static int look_for_failure(int pid)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, BLOCK_FAILED, pid);
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	if (fd < 0)
		return EXIT_DONE;
	unlink(path);
	text[len > 0 ? len : 0] = 0;
	text[strcspn(text, "\n")] = 0;
	return fail_with(EXIT_FAILED, "%s", text);
}

int block_detach(const char *device)
{
	struct wanted w = {.path = device, .pidfd = -1};
	hither_block_each(find_entry, &w);
	if (!w.found)
		return fail_with(EXIT_FAILED, "%s is no device of hither: see hither block list",
		                 device);
	AUTO_CLOSE int pidfd = w.pidfd;
	if (!w.alive || pidfd < 0)
		return block_cleanup();
	/* The claim that mounting takes: in use, it would not be removed. */
	AUTO_CLOSE int claim_fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (claim_fd < 0 && errno == EBUSY)
		return fail_with(EXIT_FAILED, "%s is in use: unmount it (or swapoff) first",
		                 device);
	if (claim_fd >= 0)
		close(TAKE(claim_fd, -1));
	char users[USERS_BYTES];
	if (is_open(&w, users))
		return fail_with(EXIT_FAILED, "%s is in use by %s: close it there first", device,
		                 users);
	/* It must still be the one that holds the record: else its pid may be another's by now. */
	w.pidfd = -1;
	hither_block_each(find_entry, &w);
	AUTO_CLOSE int again = w.pidfd;
	if (again < 0)
		return EXIT_DONE; /* it has just ended by itself */
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0))
		return fail_with(EXIT_FAILED, "signal process %d: %s", w.pid, strerror(errno));
	struct pollfd end = {.fd = pidfd, .events = POLLIN};
	uint64_t until = now_ns() + DETACH_WAIT_MS * UINT64_C(1000000);
	while (!end.revents && now_ns() < until)
		poll(&end, 1, (int)((until - now_ns()) / UINT64_C(1000000)) + 1);
	if (!end.revents)
		return fail_with(EXIT_FAILED,
		                 "%s has gone, but its process %d still pushes what was written; a "
		                 "signal makes it give up",
		                 device, w.pid);
	return look_for_failure(w.pid);
}
