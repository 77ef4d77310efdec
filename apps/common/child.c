/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program writes goes to an overlay: an overlayfs over the mounted tree, in a mount
 * namespace of the program's own, so that it ends with it whatever happens. Who is not root makes
 * it in a user namespace (Linux 5.11), where that is allowed.
 */
#include "child.h"

#include "mountpoint.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct wish {
	const struct child_wish *asked;
	char *overlay; /* the options of the overlayfs; NULL: none */
	char uid_map[64], gid_map[64];
	pid_t parent;
	/* Made before the fork: with other threads there is no memory to be had after it. */
	char *strings[2]; /* ours: PWD and the variable that was asked for; NULL: not wanted */
	char **environment;
	bool root;
	int report;
};

struct report {
	int code; /* -errno */
	char text[252];
};

/* In the child: what went wrong, where, and the end. */
static void give_up_with(const struct wish *w, int code, const char *what)
{
	struct report r = {.code = code};
	snprintf(r.text, sizeof r.text, "%s: %s", what, strerror(errno));
	if (write(w->report, &r, sizeof r) < 0)
		_exit(126);
	_exit(127);
}

static void give_up(const struct wish *w, const char *what)
{
	give_up_with(w, -ECHILD, what);
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
	if (mount("overlay", w->asked->folder, "overlay", MS_NODEV | MS_NOSUID, w->overlay))
		give_up(w, "--overlay: mounting an overlayfs (the folder must be on a file system "
		           "that can be its upper layer, such as ext4, xfs, btrfs or tmpfs)");
}

static void become(const struct wish *w)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	const struct child_wish *a = w->asked;
	/* Without us its files are gone. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != w->parent)
		_exit(126);
	if (w->overlay)
		put_overlay(w);
	if (a->folder && chdir(a->folder))
		give_up(w, a->folder);
	if (a->proper)
		execve(a->program, a->argv, w->environment);
	else
		execvpe(a->program, a->argv, w->environment);
	give_up_with(w, -errno, a->program);
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
	if (!access(overlay, F_OK) && access(work, F_OK) && !mountpoint_is_empty(overlay))
		return hither_fail(err, -ENOTEMPTY,
		                   "--overlay: %s has files of something else: name an empty "
		                   "folder, or a new one",
		                   overlay);
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

/* Of two overlays with one upper layer each would see, and lose, what it likes (overlayfs.rst). */
static int lock_overlay(const char *overlay, int *out, struct hither_error *err)
{
	AUTO_CLOSE int fd = open(overlay, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return hither_fail(err, -errno, "--overlay: %s: %s", overlay, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB))
		return hither_fail(
		        err, -EBUSY,
		        "--overlay: another game writes to %s: end that, or choose another "
		        "folder",
		        overlay);
	*out = TAKE(fd, -1);
	return 0;
}

static bool is_named(const char *variable, const char *name)
{
	size_t len = strlen(name);
	return !strncmp(variable, name, len) && variable[len] == '=';
}

static int add_variable(struct wish *w, size_t *count, int number, const char *name,
                        const char *value)
{
	if (asprintf(&w->strings[number], "%s=%s", name, value) < 0) {
		w->strings[number] = NULL;
		return -ENOMEM;
	}
	w->environment[(*count)++] = w->strings[number];
	return 0;
}

static int make_environment(struct wish *w)
{
	const struct child_wish *a = w->asked;
	size_t count = 0, kept = 0;
	while (environ[count])
		count++;
	w->environment = calloc(count + 3, sizeof *w->environment);
	if (!w->environment)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (!(a->folder && is_named(environ[i], "PWD")) &&
		    !(a->name && is_named(environ[i], a->name)))
			w->environment[kept++] = environ[i];
	int r = a->folder ? add_variable(w, &kept, 0, "PWD", a->folder) : 0;
	return r || !a->name ? r : add_variable(w, &kept, 1, a->name, a->value);
}

static void wish_finish(struct wish *w)
{
	free(w->overlay);
	free(w->environment);
	free(w->strings[0]);
	free(w->strings[1]);
}

static int start(struct wish *w, struct child *out, struct hither_error *err)
{
	struct report why;
	int fds[2];
	if (pipe2(fds, O_CLOEXEC))
		return hither_fail(err, -errno, "pipe: %s", strerror(errno));
	w->report = fds[1];
	out->pid = fork();
	if (out->pid == 0)
		become(w);
	int failed = out->pid < 0 ? errno : 0;
	close(fds[1]);
	ssize_t len = failed ? 0 : read(fds[0], &why, sizeof why);
	close(fds[0]);
	if (failed)
		return hither_fail(err, -failed, "fork: %s", strerror(failed));
	if (len == sizeof why) {
		waitpid(out->pid, NULL, 0);
		return hither_fail(err, why.code, "%s", why.text);
	}
	out->pidfd = (int)syscall(SYS_pidfd_open, out->pid, 0);
	return out->pidfd < 0 ? hither_fail(err, -errno, "pidfd_open: %s", strerror(errno)) : 0;
}

int child_start(const struct child_wish *wish, struct child *out, struct hither_error *err)
{
	struct wish w = {.asked = wish, .root = geteuid() == 0, .parent = getpid()};
	int r = wish->overlay ? make_folders(wish->overlay, wish->folder, w.root, &w.overlay, err)
	                      : 0;
	out->overlay_fd = -1;
	if (!r && wish->overlay)
		r = lock_overlay(wish->overlay, &out->overlay_fd, err);
	snprintf(w.uid_map, sizeof w.uid_map, "%u %u 1", geteuid(), geteuid());
	snprintf(w.gid_map, sizeof w.gid_map, "%u %u 1", getegid(), getegid());
	if (!r && make_environment(&w))
		r = hither_fail(err, -ENOMEM, "no memory");
	if (!r)
		r = start(&w, out, err);
	if (r && out->overlay_fd >= 0)
		close(TAKE(out->overlay_fd, -1));
	wish_finish(&w);
	return r;
}

int child_wait(struct child *c)
{
	siginfo_t info;
	/* Its number cannot mean another until it is reaped, and nobody uses that but us. */
	while (waitid(P_PID, (id_t)c->pid, &info, WEXITED) < 0 && errno == EINTR)
		;
	c->signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
	return c->signal ? 128 + c->signal : info.si_status;
}

void child_finish(struct child *c)
{
	close(TAKE(c->pidfd, -1));
	if (c->overlay_fd >= 0)
		close(TAKE(c->overlay_fd, -1));
}

void child_signal(const struct child *c, int number)
{
	syscall(SYS_pidfd_send_signal, c->pidfd, number, NULL, 0);
}
