/* SPDX-License-Identifier: Apache-2.0 */
#include "service.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int service_write_pid(const struct settings *s, struct hither_error *err)
{
	if (!s->pid_file)
		return 0;
	AUTO_CLOSE int fd = open(s->pid_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
		return hither_fail(err, -errno, "write %s: %s", s->pid_file, strerror(errno));
	return 0;
}

int service_open_log(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

int service_leave_terminal(const struct settings *s, int log_fd, struct hither_error *err)
{
	const char *log = s->log;
	if (s->foreground && !log)
		return 0;
	AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	AUTO_CLOSE int out = log ? service_open_log(log) : -1;
	if (null < 0 || (log && out < 0))
		return hither_fail(err, -errno, "open %s: %s", null < 0 ? "/dev/null" : log,
		                   strerror(errno));
	if (dup2(out >= 0 ? out : log_fd >= 0 ? log_fd : null, STDERR_FILENO) < 0)
		return hither_fail(err, -errno, "dup2: %s", strerror(errno));
	setlinebuf(stderr);
	if (s->foreground)
		return 0;
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || chdir("/"))
		return hither_fail(err, -errno, "leave the terminal: %s", strerror(errno));
	return 0;
}
