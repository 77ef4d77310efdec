/* SPDX-License-Identifier: Apache-2.0 */
#include "apart.h"

#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Print what the child reports. The exit code. */
static int wait_for_child(pid_t child, int fd)
{
	char text[10000];
	size_t len = 0;
	int status = 0;
	for (;;) {
		ssize_t n = read(fd, text + len, sizeof text - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = 0;
	if (len && text[len - 1] == '\n')
		text[len - 1] = 0;
	if (*text == '+') {
		char *warning = strstr(text, "\n!");
		if (warning)
			*warning = 0;
		program_tell("%s", text + 1);
		return warning ? fail_with(EXIT_DONE, "%s", warning + 2) : EXIT_DONE;
	}
	if (*text == '-')
		return fail_with(EXIT_FAILED, "%s", text + 1);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return fail_with(EXIT_FAILED, "the daemon died before it was ready (%s %d)",
	                 WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit",
	                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int apart_begin(int *report_fd)
{
	int fds[2];
	pid_t parent = getpid();
	if (pipe2(fds, O_CLOEXEC))
		return fail_with(EXIT_FAILED, "pipe: %s", strerror(errno));
	fflush(NULL);
	pid_t child = fork();
	if (child < 0)
		return fail_with(EXIT_FAILED, "fork: %s", strerror(errno));
	if (child) {
		close(fds[1]);
		int code = wait_for_child(child, fds[0]);
		close(fds[0]);
		return code;
	}
	close(fds[0]);
	*report_fd = fds[1];
	setsid();
	/* Until it is ready, whoever gives up waiting for it wants it no more. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	return -1;
}
