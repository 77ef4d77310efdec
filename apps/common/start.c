/* SPDX-License-Identifier: Apache-2.0 */
#include "start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* Connections, files and pipes of a mount: the fewest that it can work with, and what it may
 * like. */
enum { FILES_LEAST = 64, FILES_WANTED = 1024 };

/* Opened the wrong way around: using one fails as it does with a closed one. */
static bool take_standard(int fd)
{
	if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
		return true;
	return open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) == fd;
}

static rlim_t files_allowed(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files))
		return FILES_WANTED;
	if (files.rlim_cur < FILES_WANTED && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
		setrlimit(RLIMIT_NOFILE, &files);
		getrlimit(RLIMIT_NOFILE, &files);
	}
	return files.rlim_cur;
}

bool start_process(const char *name)
{
	signal(SIGPIPE, SIG_IGN);
	bool standard = take_standard(STDIN_FILENO) && take_standard(STDOUT_FILENO) &&
	                take_standard(STDERR_FILENO);
	rlim_t files = files_allowed();
	if (standard && files >= FILES_LEAST)
		return true;
	fprintf(stderr,
	        "%s: only %llu files may be open at a time, at least %d are needed: ulimit -n %d\n",
	        name, (unsigned long long)files, FILES_LEAST, FILES_WANTED);
	return false;
}
