/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /sys/block/NAME/stat (Documentation/block/stat.rst of Linux), and a note of what it said as the
 * area was attached: /run/hither/swap/NAME, the process's id and six numbers.
 */
#include "swap_io.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FOLDER "/run/hither/swap"

enum { SECTORS_A_PAGE = 8 };

static const char *name_of(const char *device)
{
	const char *slash = strrchr(device, '/');
	return slash ? slash + 1 : device;
}

static struct swap_io count(const char *device)
{
	char path[128];
	uint64_t f[8] = {0};
	struct swap_io io = {0};
	snprintf(path, sizeof path, "/sys/block/%s/stat", name_of(device));
	FILE *file = fopen(path, "re");
	if (!file)
		return io;
	if (fscanf(file,
	           "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
	           " %" SCNu64 " %" SCNu64,
	           &f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6], &f[7]) == 8)
		io = (struct swap_io){.in_requests = f[0],
		                      .in_pages = f[2] / SECTORS_A_PAGE,
		                      .in_ms = f[3],
		                      .out_requests = f[4],
		                      .out_pages = f[6] / SECTORS_A_PAGE,
		                      .out_ms = f[7]};
	fclose(file);
	return io;
}

static void note_path(char path[128], const char *device)
{
	snprintf(path, 128, FOLDER "/%s", name_of(device));
}

void swap_io_begin(const char *device)
{
	char path[128];
	struct swap_io io = count(device);
	note_path(path, device);
	if ((mkdir("/run/hither", 0755) && errno != EEXIST) ||
	    (mkdir(FOLDER, 0755) && errno != EEXIST))
		return;
	unlink(path);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd >= 0 &&
	    dprintf(fd,
	            "%d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
	            (int)getpid(), io.in_requests, io.in_pages, io.in_ms, io.out_requests,
	            io.out_pages, io.out_ms) < 0)
		unlink(path);
}

void swap_io_end(const char *device)
{
	char path[128];
	note_path(path, device);
	unlink(path);
}

/* What was noted; zeros if that was another's, or of a device that has been made anew since. */
static struct swap_io noted(const char *device, int pid, const struct swap_io *now)
{
	char path[128];
	int whose = 0;
	struct swap_io io = {0};
	note_path(path, device);
	FILE *file = fopen(path, "re");
	if (!file)
		return io;
	bool whole =
	        fscanf(file,
	               "%d %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
	               &whose, &io.in_requests, &io.in_pages, &io.in_ms, &io.out_requests,
	               &io.out_pages, &io.out_ms) == 7;
	fclose(file);
	bool fits = io.in_requests <= now->in_requests && io.in_pages <= now->in_pages &&
	            io.in_ms <= now->in_ms && io.out_requests <= now->out_requests &&
	            io.out_pages <= now->out_pages && io.out_ms <= now->out_ms;
	return whole && whose == pid && fits ? io : (struct swap_io){0};
}

struct swap_io swap_io_since(const char *device, int pid)
{
	struct swap_io now = count(device), then = noted(device, pid, &now);
	return (struct swap_io){.in_requests = now.in_requests - then.in_requests,
	                        .in_pages = now.in_pages - then.in_pages,
	                        .in_ms = now.in_ms - then.in_ms,
	                        .out_requests = now.out_requests - then.out_requests,
	                        .out_pages = now.out_pages - then.out_pages,
	                        .out_ms = now.out_ms - then.out_ms};
}
