/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The game's process. What it writes goes to an overlay: an overlayfs over the mounted tree, in a
 * mount namespace of the game's own, so that it ends with the game whatever happens. Who is not
 * root makes it in a user namespace (Linux 5.11), where that is allowed.
 */
#include "game.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct wish {
	const char *path;
	char *const *argv;
	char *overlay; /* the options of the overlayfs; NULL: none */
	char uid_map[64], gid_map[64];
	bool root;
	int report;
};

/* In the child: what went wrong, where, and the end. */
static void give_up(const struct wish *w, const char *what)
{
	char text[256];
	int len = snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
	if (write(w->report, text, (size_t)len) < 0)
		_exit(126);
	_exit(127);
}

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return good;
}

static void put_overlay(const struct wish *w)
{
	if (unshare(CLONE_NEWNS | (w->root ? 0 : CLONE_NEWUSER)))
		give_up(w, "--overlay: a namespace of the game's own (root has it always)");
	if (!w->root &&
	    (!put("/proc/self/setgroups", "deny") || !put("/proc/self/uid_map", w->uid_map) ||
	     !put("/proc/self/gid_map", w->gid_map)))
		give_up(w, "--overlay: a user namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		give_up(w, "--overlay: a private mount namespace");
	if (mount("overlay", w->path, "overlay", MS_NODEV | MS_NOSUID, w->overlay))
		give_up(w, "--overlay: mounting an overlayfs (the folder must be on a file system "
		           "that can be its upper layer, such as ext4, xfs, btrfs or tmpfs)");
}

static void become(const struct wish *w)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (w->overlay)
		put_overlay(w);
	if (chdir(w->path))
		give_up(w, w->path);
	setenv("GAME_ASSETS", w->path, 1);
	setenv("PWD", w->path, 1);
	execvp(w->argv[0], w->argv);
	give_up(w, w->argv[0]);
}

/* overlayfs separates its options with commas and layers with colons; a backslash takes that away.
 */
static void escape(char *to, const char *path)
{
	for (; *path; *to++ = *path++)
		if (strchr(",:\\", *path))
			*to++ = '\\';
	*to = 0;
}

static int make_folders(const char *overlay, const char *path, bool root, char **out,
                        struct hither_error *err)
{
	char upper[4200], work[4200], lower_text[8400], upper_text[8400], work_text[8400];
	if (snprintf(upper, sizeof upper, "%s/files", overlay) >= 4096 ||
	    snprintf(work, sizeof work, "%s/work", overlay) >= 4096 || strlen(path) >= 4096)
		return hither_fail(err, -ENAMETOOLONG, "--overlay: the path is too long");
	const char *const folders[] = {overlay, upper, work};
	for (size_t i = 0; i < COUNT_OF(folders); i++)
		if (mkdir(folders[i], 0700) && errno != EEXIST)
			return hither_fail(err, -errno, "--overlay: make %s: %s", folders[i],
			                   strerror(errno));
	escape(lower_text, path);
	escape(upper_text, upper);
	escape(work_text, work);
	if (asprintf(out, "lowerdir=%s,upperdir=%s,workdir=%s%s", lower_text, upper_text, work_text,
	             root ? "" : ",userxattr") < 0) {
		*out = NULL;
		return hither_fail(err, -ENOMEM, "no memory");
	}
	return 0;
}

int child_start(const char *path, const char *overlay, char *const *argv, struct child *out,
                struct hither_error *err)
{
	struct wish w = {.path = path, .argv = argv, .root = geteuid() == 0};
	char why[256];
	int fds[2];
	int r = overlay ? make_folders(overlay, path, w.root, &w.overlay, err) : 0;
	if (r)
		return r;
	AUTO_FREE char *options = w.overlay;
	snprintf(w.uid_map, sizeof w.uid_map, "%u %u 1", geteuid(), geteuid());
	snprintf(w.gid_map, sizeof w.gid_map, "%u %u 1", getegid(), getegid());
	if (pipe2(fds, O_CLOEXEC))
		return hither_fail(err, -errno, "pipe: %s", strerror(errno));
	w.report = fds[1];
	out->pid = fork();
	if (out->pid == 0)
		become(&w);
	int failed = out->pid < 0 ? errno : 0;
	close(fds[1]);
	ssize_t len = failed ? 0 : read(fds[0], why, sizeof why - 1);
	close(fds[0]);
	if (failed)
		return hither_fail(err, -failed, "fork: %s", strerror(failed));
	if (len > 0) {
		why[len] = 0;
		waitpid(out->pid, NULL, 0);
		return hither_fail(err, -ECHILD, "start the game: %s", why);
	}
	out->pidfd = (int)syscall(SYS_pidfd_open, out->pid, 0);
	return out->pidfd < 0 ? hither_fail(err, -errno, "pidfd_open: %s", strerror(errno)) : 0;
}

int child_wait(struct child *c, const char *name, struct hither_error *err)
{
	siginfo_t info;
	/* Left as it is until pidfd is closed: its number cannot mean another meanwhile. */
	while (waitid(P_PID, (id_t)c->pid, &info, WEXITED) < 0 && errno == EINTR)
		;
	if (info.si_code != CLD_EXITED)
		return hither_fail(err, -ECHILD, "%s: %s", name, strsignal(info.si_status));
	if (info.si_status)
		return hither_fail(err, -ECHILD, "%s ended with exit code %d", name,
		                   info.si_status);
	return 0;
}

void child_end(const struct child *c, bool kill)
{
	syscall(SYS_pidfd_send_signal, c->pidfd, kill ? SIGKILL : SIGTERM, NULL, 0);
}
