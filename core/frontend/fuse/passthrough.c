/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passthrough: once every byte of a read-only file is local, the kernel reads the store's file by
 * itself (Linux 6.9, CAP_SYS_ADMIN), at the speed of that file.
 *
 * The kernel refuses (EIO) to open one inode cached and passed through at a time. So an open passes
 * through if no cached one lives, and every open must while one that passes through lives; it can,
 * since bytes that were all local stay so. A file that is open all the time stays cached.
 */
#include "frontend/fuse/fuse_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>

bool fuse_passthrough_allowed(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {0};
	if (syscall(SYS_capget, &head, caps))
		return false;
	return caps[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

/* The kernel's id of the store's file; 0 while not all is local, -1 if it refuses. */
static int backing_of_locked(struct hither_fuse *f, struct fuse_file *file)
{
	if (file->backing_id != 0)
		return file->backing_id;
	int fd = hither_mount_local_fd(file->mount);
	if (fd < 0)
		return 0;
	struct abi_backing_map map = {.fd = fd};
	int id = ioctl(fuse_channel_fd(f->channel), ABI_IOC_BACKING_OPEN, &map);
	/* Refused for good: the store's file is on a FUSE itself, or no capability in this
	 * namespace. */
	file->backing_id = id > 0 ? id : -1;
	return file->backing_id;
}

/*
 * O_DIRECT alone would do with the cached flags, but a synchronous read would then wait where no
 * signal ends it: the kernel makes it an asynchronous one. FOPEN_DIRECT_IO has the one
 * interruptible and the other asynchronous. It needs a kernel that lets such files be mapped all
 * the same.
 */
static uint32_t unpassed_flags(const struct hither_fuse *f, const struct fuse_file *file,
                               uint32_t flags)
{
	uint32_t result = FOPEN_KEEP_CACHE | (file->writable ? 0 : ABI_FOPEN_NOFLUSH);
	if ((flags & O_DIRECT) && atomic_load(&f->direct_io))
		result |= FOPEN_DIRECT_IO | ABI_FOPEN_PARALLEL_DIRECT_WRITES;
	return result;
}

uint32_t fuse_open_begin(struct hither_fuse *f, struct fuse_file *file, uint32_t flags,
                         int *backing_id)
{
	*backing_id = 0;
	HITHER_LOCK_SCOPE(&file->lock);
	bool passes = atomic_load(&f->passthrough) && !file->writable && file->cached_opens == 0 &&
	              backing_of_locked(f, file) > 0;
	if (!passes) {
		file->cached_opens++;
		return unpassed_flags(f, file, flags);
	}
	file->passthrough_opens++;
	*backing_id = file->backing_id;
	return ABI_FOPEN_PASSTHROUGH | ABI_FOPEN_NOFLUSH;
}

void fuse_open_end(struct fuse_file *file, uint32_t open_flags)
{
	HITHER_LOCK_SCOPE(&file->lock);
	if (open_flags & ABI_FOPEN_PASSTHROUGH)
		file->passthrough_opens--;
	else
		file->cached_opens--;
}
