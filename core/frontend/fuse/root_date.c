/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With its writeback cache the kernel keeps a file's dates itself, beginning with the first it has
 * heard of, whatever GETATTR says later. Of a file that is the mount's root it has heard of none
 * before INIT: that is 1970. Only setting a date puts this right. So, before anybody is told that
 * the mount is there, it is set through the mount point, while the caller answers requests.
 */
#include "frontend/fuse/fuse_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int fuse_date_root(struct hither_fuse *f, struct hither_error *err)
{
	struct fuse_file *file = &f->files[0];
	struct fuse_attr a;
	pid_t pid;
	fuse_set_times(&a, atomic_load(&file->mtime_ns), f->mounted_ns);
	const struct fuse_errand e = {
	        .set_date = true,
	        .times = {{.tv_nsec = UTIME_OMIT},
	                  {.tv_sec = (time_t)a.mtime, .tv_nsec = a.mtimensec}}};
	if (fuse_errand_start(f, file, &e, &pid))
		return 0; /* then its date is wrong; no byte is */
	HITHER_CLOSE int ended = (int)syscall(SYS_pidfd_open, pid, 0);
	int r = ended < 0 ? -errno : fuse_serve_until(f, ended);
	if (r) /* nobody answers it any more: let it go */
		fuse_channel_shut(f->channel);
	fuse_errand_wait(pid);
	return r ? hither_fail(err, r, "fuse: serving %s: %s", f->at.path, strerror(-r)) : 0;
}
