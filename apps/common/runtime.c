/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include "mountpoint.h"
#include "program.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hither/fuse.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

enum { INFO_BYTES = 16384, LOG_BYTES = 1024 };

static const char *const passing[] = {"sock", "new", NULL}; /* of an entry: gone with the daemon */
static const char *const lasting[] = {"info", "log", NULL}; /* kept where it ended badly */

/* --- the folder --- */

/* Nobody else may put names into it: that is what makes the paths inside trustworthy. */
static int open_private(const char *path, bool make, struct hither_error *err)
{
	struct stat st;
	if (make && mkdir(path, 0700) && errno != EEXIST)
		return hither_fail(err, -errno, "make %s: %s", path, strerror(errno));
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return hither_fail(err, -errno, "open %s: %s", path, strerror(errno));
	if (!fstat(fd, &st) && st.st_uid == geteuid() && !(st.st_mode & 077))
		return fd;
	close(fd);
	return hither_fail(err, -EPERM,
	                   "%s is not a folder of yours alone; remove it, or set XDG_RUNTIME_DIR",
	                   path);
}

static bool own_folder(const char *path)
{
	struct stat st;
	return path && *path == '/' && !lstat(path, &st) && S_ISDIR(st.st_mode) &&
	       st.st_uid == geteuid() && !(st.st_mode & 022);
}

/* The i-th place to look in, the first one for our own; NULL: no more. The caller frees it. */
static char *place(int i)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	char session[32], *path = NULL;
	bool has_base = own_folder(base);
	unsigned uid = (unsigned)geteuid();
	int r = -1;
	snprintf(session, sizeof session, "/run/user/%u", uid);
	i -= has_base;
	if (i < 0)
		r = asprintf(&path, "%s/hither", base);
	else if (i == 0)
		r = asprintf(&path, "/tmp/hither-%u", uid);
	else if (i == 1 && own_folder(session) && !(has_base && !strcmp(base, session)))
		r = asprintf(&path, "%s/hither", session);
	return r < 0 ? NULL : path;
}

/* sun_path is short; this way around any folder fits, and nothing on the way can be swapped. */
static void socket_address(int folder_fd, const char *name, struct sockaddr_un *out)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/%s", folder_fd, name);
}

static void entry_name(char name[32], pid_t pid, const char *suffix)
{
	snprintf(name, 32, "%ld.%s", (long)pid, suffix);
}

/* --- a daemon's own entry --- */

int runtime_enter(struct runtime_entry *e, struct hither_error *err)
{
	char name[32];
	*e = (struct runtime_entry){.folder_fd = -1, .info_fd = -1, .log_fd = -1, .pid = getpid()};
	e->folder = place(0);
	if (!e->folder)
		return hither_fail(err, -ENOMEM, "no memory");
	e->folder_fd = open_private(e->folder, true, err);
	if (e->folder_fd < 0)
		return e->folder_fd;
	entry_name(name, e->pid, "log");
	e->log_fd = openat(e->folder_fd, name,
	                   O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (e->log_fd < 0)
		return hither_fail(err, -errno, "open %s/%s: %s", e->folder, name, strerror(errno));
	return 0;
}

int runtime_listen(struct runtime_entry *e, int *out, struct hither_error *err)
{
	struct sockaddr_un address;
	char name[32];
	entry_name(name, e->pid, "sock");
	socket_address(e->folder_fd, name, &address);
	unlinkat(e->folder_fd, name, 0); /* of an earlier process with our pid */
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 16))
		return hither_fail(err, -errno, "listen at %s/%s: %s", e->folder, name,
		                   strerror(errno));
	*out = TAKE(fd, -1);
	return 0;
}

int runtime_publish(struct runtime_entry *e, const char *info, struct hither_error *err)
{
	char name[32], fresh[32];
	entry_name(name, e->pid, "info");
	entry_name(fresh, e->pid, "new");
	size_t len = strlen(info);
	/* Locked before it can be seen, so that nobody takes it for a dead one's. */
	e->info_fd = openat(e->folder_fd, fresh,
	                    O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (e->info_fd < 0 || flock(e->info_fd, LOCK_EX | LOCK_NB) ||
	    write(e->info_fd, info, len) != (ssize_t)len ||
	    renameat(e->folder_fd, fresh, e->folder_fd, name))
		return hither_fail(err, errno ? -errno : -EIO, "write %s/%s: %s", e->folder, name,
		                   strerror(errno));
	return 0;
}

static void unlink_entry(int folder_fd, pid_t pid, const char *const *suffixes)
{
	char name[32];
	for (; *suffixes; suffixes++) {
		entry_name(name, pid, *suffixes);
		unlinkat(folder_fd, name, 0);
	}
}

void runtime_leave(struct runtime_entry *e, bool keep)
{
	if (e->folder_fd >= 0) {
		unlink_entry(e->folder_fd, e->pid, passing);
		if (!keep)
			unlink_entry(e->folder_fd, e->pid, lasting);
		close(e->folder_fd);
	}
	if (e->info_fd >= 0)
		close(e->info_fd);
	if (e->log_fd >= 0)
		close(e->log_fd);
	free(e->folder);
	*e = (struct runtime_entry){.folder_fd = -1, .info_fd = -1, .log_fd = -1};
}

/* --- all entries --- */

int runtime_connect(const struct runtime_daemon *d)
{
	struct sockaddr_un address;
	char name[32];
	entry_name(name, d->pid, "sock");
	socket_address(d->folder_fd, name, &address);
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
		return -errno;
	return TAKE(fd, -1);
}

/* The last line of PID.log, without its newline. */
static void read_last_log(int folder_fd, pid_t pid, char out[LOG_BYTES])
{
	char name[32];
	struct stat st;
	entry_name(name, pid, "log");
	*out = 0;
	AUTO_CLOSE int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st))
		return;
	off_t start = st.st_size > LOG_BYTES - 1 ? st.st_size - (LOG_BYTES - 1) : 0;
	ssize_t len = pread(fd, out, LOG_BYTES - 1, start);
	while (len > 0 && out[len - 1] == '\n')
		len--;
	out[len < 0 ? 0 : len] = 0;
	char *line = strrchr(out, '\n');
	if (line)
		memmove(out, line + 1, strlen(line + 1) + 1);
}

/* Unmount what a dead daemon left mounted, and remove the mount point if it had made it. */
static void clear_mountpoint(const char *info)
{
	char path[PATH_MAX];
	if (!json_get_string(info, "path", path, sizeof path))
		return;
	if (hither_fuse_is_dead(path) && !hither_fuse_unmount(path, true, NULL))
		fail_with(0, "note: %s: the process that had mounted it was killed; unmounted",
		          path);
	mountpoint_remove(&(struct mountpoint){.path = path,
	                                       .made = json_get_bool(info, "made"),
	                                       .dev = json_get_uint(info, "made_dev"),
	                                       .ino = json_get_uint(info, "made_ino")});
}

/* May the daemon of this have left bytes in its cache that are not pushed? */
static bool may_keep(const char *info)
{
	char cache[PATH_MAX];
	return json_get_bool(info, "writable") &&
	       json_get_string(info, "cache", cache, sizeof cache) && *cache == '/';
}

struct visit {
	bool pidfds;
	int (*each)(void *user, struct runtime_daemon *d);
	void *user;
};

static int visit_entry(const char *folder, int folder_fd, pid_t pid, const struct visit *v)
{
	char name[32], info[INFO_BYTES], last_log[LOG_BYTES];
	AUTO_FREE char *log_path = NULL;
	entry_name(name, pid, "info");
	AUTO_CLOSE int info_fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (info_fd < 0)
		return 0; /* it has just ended */
	AUTO_CLOSE int pidfd = v->pidfds ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	/* Asked after the pidfd was opened: whoever holds the lock now is what the pidfd means. */
	bool alive = flock(info_fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
	read_last_log(folder_fd, pid, last_log);
	ssize_t len = pread(info_fd, info, sizeof info - 1, 0);
	info[len > 0 ? len : 0] = 0;
	entry_name(name, pid, "sock");
	if (!alive && !faccessat(folder_fd, name, F_OK, AT_SYMLINK_NOFOLLOW)) {
		clear_mountpoint(info); /* once: later somebody else may be there */
		unlink_entry(folder_fd, pid, passing);
	}
	if (!alive && !*last_log && !may_keep(info)) {
		unlink_entry(folder_fd, pid, lasting);
		return 0;
	}
	if (asprintf(&log_path, "%s/%ld.log", folder, (long)pid) < 0)
		log_path = NULL;
	struct runtime_daemon d = {
	        .pid = pid,
	        .alive = alive,
	        .pidfd = TAKE(pidfd, -1),
	        .folder_fd = folder_fd,
	        .info = len > 0 ? info : "{}",
	        .last_log = last_log,
	        .log_path = log_path ? log_path : "",
	};
	int r = v->each ? v->each(v->user, &d) : 0;
	pidfd = d.pidfd;
	if (d.forget && !alive)
		unlink_entry(folder_fd, pid, lasting);
	return r;
}

static int by_pid(const void *a, const void *b)
{
	const pid_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* The pids that have an entry, sorted; the caller frees them. */
static size_t list_pids(int folder_fd, pid_t **out)
{
	size_t count = 0;
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	*out = NULL;
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		char *end;
		long pid = strtol(entry->d_name, &end, 10);
		if (pid <= 0 || strcmp(end, ".info"))
			continue;
		pid_t *grown = reallocarray(*out, count + 1, sizeof *grown);
		if (!grown)
			break;
		*out = grown;
		grown[count++] = (pid_t)pid;
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	if (count)
		qsort(*out, count, sizeof **out, by_pid);
	return count;
}

static int visit_folder(const char *folder, const struct visit *v)
{
	AUTO_FREE pid_t *pids = NULL;
	AUTO_CLOSE int fd = open_private(folder, false, NULL);
	size_t count = fd < 0 ? 0 : list_pids(fd, &pids);
	int r = 0;
	for (size_t i = 0; i < count && !r; i++)
		r = visit_entry(folder, fd, pids[i], v);
	return r;
}

int runtime_each(bool pidfds, int (*each)(void *user, struct runtime_daemon *d), void *user)
{
	const struct visit v = {pidfds, each, user};
	int r = 0;
	for (int i = 0; !r; i++) {
		AUTO_FREE char *folder = place(i);
		if (!folder)
			break;
		r = visit_folder(folder, &v);
	}
	return r;
}

static bool same(const char *a, const char *b, const char *key)
{
	char of_a[4096], of_b[4096];
	return json_get_string(a, key, of_a, sizeof of_a) &&
	       json_get_string(b, key, of_b, sizeof of_b) && !strcmp(of_a, of_b);
}

static int supersede(void *user, struct runtime_daemon *d)
{
	const char *info = user;
	bool takes_over = same(info, d->info, "url") && same(info, d->info, "cache");
	d->forget = takes_over || (same(info, d->info, "path") && !may_keep(d->info));
	return 0;
}

void runtime_supersede(const struct runtime_entry *e)
{
	char info[INFO_BYTES];
	ssize_t len = pread(e->info_fd, info, sizeof info - 1, 0);
	info[len > 0 ? len : 0] = 0;
	runtime_each(false, supersede, info);
}
