/* SPDX-License-Identifier: Apache-2.0 */
#include "swap_area.h"

#include "claim.h"
#include "meminfo.h"

#include "units.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/swap.h>

/* union swap_header of Linux, for pages of any size: the magic ends the first page. */
struct swap_header {
	char boot[1024];
	uint32_t version, last_page, bad_pages;
	uint8_t uuid[16];
	char label[16];
};
#define MAGIC "SWAPSPACE2"

int swap_area_make(const char *device, uint64_t size_bytes, struct hither_error *err)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	AUTO_FREE char *page = calloc(1, page_bytes);
	AUTO_CLOSE int fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0 || !page)
		return hither_fail(err, -errno, "open %s: %s", device, strerror(errno));
	ssize_t n = pread(fd, page, page_bytes, 0);
	if (n != (ssize_t)page_bytes)
		return hither_fail(err, -EIO, "read %s: %s", device, strerror(n < 0 ? errno : EIO));
	char *magic = page + page_bytes - strlen(MAGIC);
	struct swap_header header = {.version = 1,
	                             .last_page = (uint32_t)(size_bytes / page_bytes - 1)};
	if (size_bytes / page_bytes < 10)
		return hither_fail(err, -EINVAL, "swap takes at least 10 pages");
	if (size_bytes / page_bytes > UINT32_MAX)
		header.last_page = UINT32_MAX;
	if (getrandom(header.uuid, sizeof header.uuid, 0) != sizeof header.uuid)
		return hither_fail(err, -EIO, "getrandom: %s", strerror(errno));
	snprintf(header.label, sizeof header.label, "ram-dl");
	memcpy(header.boot + CLAIM_OFFSET, page + CLAIM_OFFSET,
	       CLAIM_BYTES); /* is not ours to change */
	memset(page, 0, page_bytes);
	memcpy(page, &header, sizeof header);
	memcpy(magic, MAGIC, strlen(MAGIC));
	if (pwrite(fd, page, page_bytes, 0) != (ssize_t)page_bytes || fsync(fd))
		return hither_fail(err, errno ? -errno : -EIO, "write %s: %s", device,
		                   strerror(errno));
	return 0;
}

int swap_area_on(const char *device, int priority, struct hither_error *err)
{
	int flags = priority < 0 ? 0
	                         : SWAP_FLAG_PREFER | ((priority << SWAP_FLAG_PRIO_SHIFT) &
	                                               SWAP_FLAG_PRIO_MASK);
	return swapon(device, flags)
	               ? hither_fail(err, -errno, "swapon %s: %s", device, strerror(errno))
	               : 0;
}

/* Does what is paged out there fit into memory, or into other swap? */
static int check_fit(const char *device, struct hither_error *err)
{
	struct swap_use use;
	char out[UNITS_TEXT_BYTES], room[UNITS_TEXT_BYTES];
	if (!swap_area_use(device, &use))
		return 0;
	uint64_t others = meminfo_bytes("SwapFree"), own = use.size_bytes - use.used_bytes;
	uint64_t fits = meminfo_bytes("MemAvailable") + (others > own ? others - own : 0);
	if (use.used_bytes <= fits)
		return 0;
	return hither_fail(err, -ENOMEM,
	                   "swapoff %s: %s are paged out, and only %s fit into memory: end "
	                   "programs, or add other swap",
	                   device, units_format_size(out, use.used_bytes),
	                   units_format_size(room, fits));
}

int swap_area_off(const char *device, bool force, struct hither_error *err)
{
	int r = force ? 0 : check_fit(device, err);
	if (r)
		return r;
	if (!swapoff(device))
		return 0;
	return hither_fail(err, -errno, "swapoff %s: %s%s", device, strerror(errno),
	                   errno == ENOMEM ? ": more is paged out than fits into memory: end "
	                                     "programs, or add other swap"
	                                   : "");
}

bool swap_area_use(const char *device, struct swap_use *out)
{
	char line[512], name[256];
	uint64_t size, used;
	FILE *file = fopen("/proc/swaps", "re");
	bool found = false;
	while (file && !found && fgets(line, sizeof line, file)) {
		found = sscanf(line, "%255s %*s %" SCNu64 " %" SCNu64 " %d", name, &size, &used,
		               &out->priority) == 4 &&
		        !strcmp(name, device);
		if (found) {
			out->size_bytes = size << 10;
			out->used_bytes = used << 10;
		}
	}
	if (file)
		fclose(file);
	return found;
}
