/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fusermount3, the setuid program of the fuse3 package that mounts for those who are not root.
 * Its protocol: it finds a socket's number in $_FUSE_COMMFD, mounts, and sends the descriptor of
 * /dev/fuse over it, with one byte (libfuse, util/fusermount.c and lib/mount_util.c).
 */
#include "frontend/fuse/mountpoint.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define HELPER "fusermount3"
enum { CHILD_SOCKET = 3 };

extern char **environ;

int fusermount_probe(struct hither_error *err)
{
	const char *path = getenv("PATH");
	char list[4096], file[PATH_MAX], *save = NULL;
	snprintf(list, sizeof list, "%s", path && *path ? path : "/usr/bin:/bin");
	for (char *dir = strtok_r(list, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		snprintf(file, sizeof file, "%s/" HELPER, dir);
		if (access(file, X_OK) == 0)
			return 0;
	}
	return hither_fail(err, -ENOENT,
	                   "fuse: " HELPER
	                   " is not installed, which mounts for users other than root: "
	                   "install the package fuse3, or run as root");
}

/* environ with our variable in front; free the array only. NULL: no memory. */
static char **child_environment(char *variable)
{
	size_t count = 0;
	while (environ && environ[count])
		count++;
	char **env = calloc(count + 2, sizeof *env);
	if (!env)
		return NULL;
	env[0] = variable;
	if (count)
		memcpy(env + 1, environ, count * sizeof *env);
	return env;
}

static int spawn_helper(char *const argv[], int socket, int text_fd, pid_t *pid)
{
	static char variable[] = "_FUSE_COMMFD=3";
	HITHER_FREE char **env = child_environment(variable);
	posix_spawn_file_actions_t actions;
	if (!env || posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	int r = posix_spawn_file_actions_adddup2(&actions, text_fd, STDERR_FILENO);
	if (!r && socket >= 0)
		r = posix_spawn_file_actions_adddup2(&actions, socket, CHILD_SOCKET);
	if (!r)
		r = posix_spawnp(pid, HELPER, &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* What the helper says until it closes its end, on one line. */
static void read_text(int fd, char *text, size_t size)
{
	size_t len = 0;
	char more[256];
	ssize_t n;
	while ((n = read(fd, more, sizeof more)) > 0 || (n < 0 && errno == EINTR))
		for (ssize_t i = 0; i < n && len + 1 < size; i++)
			text[len++] = more[i] == '\n' ? ' ' : more[i];
	while (len > 0 && text[len - 1] == ' ')
		len--;
	text[len] = 0;
}

/* Run it to its end. 0 if it is content; else -errno, and err has its own words. */
static int run_helper(char *const argv[], int socket, struct hither_error *err)
{
	int text_pipe[2];
	if (pipe2(text_pipe, O_CLOEXEC))
		return hither_fail(err, -errno, "fuse: pipe: %s", strerror(errno));
	pid_t pid;
	int r = spawn_helper(argv, socket, text_pipe[1], &pid);
	close(text_pipe[1]);
	char text[300] = "";
	if (!r)
		read_text(text_pipe[0], text, sizeof text);
	close(text_pipe[0]);
	if (r == -ENOENT)
		return fusermount_probe(err)
		               ?: hither_fail(err, r, "fuse: " HELPER " cannot be run");
	if (r)
		return hither_fail(err, r, "fuse: " HELPER ": %s", strerror(-r));
	int status = 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 0; /* somebody ignores SIGCHLD: its deeds will tell */
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return hither_fail(err, -EPERM, "fuse: %s", *text ? text : HELPER " failed without a word");
}

/* The descriptor that came over the socket, or -errno. */
static int receive_fd(int socket)
{
	char byte;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
	                     .msg_iovlen = 1,
	                     .msg_control = control.space,
	                     .msg_controllen = sizeof control.space};
	ssize_t n;
	while ((n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		;
	if (n < 0)
		return -errno;
	const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	if (n == 0 || !c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return -EPROTO;
	int fd;
	memcpy(&fd, CMSG_DATA(c), sizeof fd);
	return fd;
}

int fusermount_mount(const char *path, const char *options, int *fd, struct hither_error *err)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return hither_fail(err, -errno, "fuse: socketpair: %s", strerror(errno));
	HITHER_CLOSE int ours = pair[0];
	char *argv[] = {(char *)HELPER, (char *)"-o", (char *)options,
	                (char *)"--",   (char *)path, NULL};
	int r = run_helper(argv, pair[1], err);
	close(pair[1]); /* so that a helper that sent nothing ends recvmsg() */
	if (r)
		return r;
	int got = receive_fd(ours);
	if (got < 0)
		return hither_fail(err, got, "fuse: " HELPER " at %s sent no connection: %s", path,
		                   strerror(-got));
	*fd = got;
	return 0;
}

int fusermount_unmount(const char *path, bool lazy, struct hither_error *err)
{
	char *argv[] = {(char *)HELPER, (char *)"-u", (char *)"--", (char *)path, NULL};
	char *lazy_argv[] = {(char *)HELPER, (char *)"-u", (char *)"-z",
	                     (char *)"--",   (char *)path, NULL};
	return run_helper(lazy ? lazy_argv : argv, -1, err);
}
