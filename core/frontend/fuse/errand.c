/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has to be done to a file through the mount point, as any program could, is done by a process
 * of its own: a thread that waits for the mount that its own process serves could not be killed,
 * and would keep that process, and the mount with it, for ever.
 */
#include "frontend/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ALL_OF_IT (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)

/* As _exit(), which a sanitizer makes more of than a copy of a process with threads can bear. */
static _Noreturn void leave(int code)
{
	for (;;)
		syscall(SYS_exit_group, code);
}

/* In a copy of a process with threads: system calls and nothing else. */
static void run(const struct hither_fuse *f, const char *path, const struct fuse_errand *e)
{
	static const char link[] = "/proc/self/fd/0";
	struct stat st;
	close_range(0, ~0u, 0); /* above all the connection, which must end with the server */
	/* stat() is also what tells the kernel whose file it is. */
	if (open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC) != 0 || fstat(0, &st) ||
	    st.st_dev != f->at.device)
		leave(1);
	if (e->write_back) {
		int fd = open(link, O_RDONLY | O_CLOEXEC);
		leave(fd < 0 || sync_file_range(fd, 0, 0, ALL_OF_IT));
	}
	if (e->resize && truncate(link, (off_t)e->size))
		leave(1);
	/* Touched without times: with them the kernel would write all pages back first. */
	if (e->touch && utimensat(AT_FDCWD, link, NULL, 0))
		leave(1);
	if (e->set_date && utimensat(AT_FDCWD, link, e->times, 0))
		leave(1);
	leave(0);
}

int fuse_errand_start(const struct hither_fuse *f, const struct fuse_file *file,
                      const struct fuse_errand *e, pid_t *pid)
{
	char path[PATH_MAX + NAME_MAX + 2];
	snprintf(path, sizeof path, "%s%s%s", f->at.path, f->is_folder ? "/" : "",
	         f->is_folder ? file->name : "");
	/* fork(), but *pid is set before the copy runs: the server knows it by that. */
	long r = syscall(SYS_clone, SIGCHLD | CLONE_PARENT_SETTID, NULL, pid, NULL, NULL);
	if (r == 0)
		run(f, path, e);
	return r < 0 ? -errno : 0;
}

void fuse_errand_wait(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
