/* SPDX-License-Identifier: Apache-2.0 */
#include "mountpoint.h"

#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

/* --- the kernel's table of mounts --- */

/* In place: \040 and the like, as the kernel writes blanks, tabs, newlines and backslashes. */
static void unescape(char *text)
{
	char *to = text;
	for (const char *from = text; *from; from++) {
		unsigned code;
		if (*from == '\\' && sscanf(from + 1, "%3o", &code) == 1) {
			*to++ = (char)code;
			from += 3;
		} else {
			*to++ = *from;
		}
	}
	*to = 0;
}

/* "36 35 98:0 /root /mount/point options [tags] - type source options": see proc(5). */
static bool parse_line(char *line, const char **path, const char **type, const char **source)
{
	char *field[6] = {0}, *save = NULL;
	char *end = strstr(line, " - ");
	if (!end)
		return false;
	*end = 0;
	for (int i = 0; i < 5; i++)
		field[i] = strtok_r(i ? NULL : line, " ", &save);
	*type = strtok_r(end + 3, " ", &save);
	*source = strtok_r(NULL, " ", &save);
	if (!field[4] || !*type || !*source)
		return false;
	unescape(field[4]);
	*path = field[4];
	return true;
}

enum mount_kind mountpoint_kind(const char *path)
{
	enum mount_kind kind = MOUNT_NONE;
	AUTO_FREE char *line = NULL;
	size_t size = 0;
	FILE *table = fopen("/proc/self/mountinfo", "re");
	if (!table)
		return MOUNT_NONE;
	while (getline(&line, &size, table) > 0) {
		const char *at, *type, *source;
		if (!parse_line(line, &at, &type, &source) || strcmp(at, path))
			continue;
		kind = !strcmp(type, "fuse.hither") ||
		                       (!strcmp(type, "fuse") && !strncmp(source, "hither", 6))
		               ? MOUNT_HITHER
		       : !strncmp(type, "fuse", 4) ? MOUNT_FUSE
		                                   : MOUNT_OTHER; /* later lines are on top */
	}
	fclose(table);
	return kind;
}

static int run_fusermount(const char *path, bool lazy, struct hither_error *err)
{
	const char *const argv[] = {"fusermount3", "-u", lazy ? "-qz" : "-q", "--", path, NULL};
	pid_t pid;
	/* Its prototype is older than const; it does not write there. */
	int status, r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv,
	                             environ);
	if (r)
		return hither_fail(err, -r, "run fusermount3: %s (install fuse3)", strerror(r));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return hither_fail(err, -EBUSY,
	                   "unmount %s: fusermount3 refused; is it in use, or not yours?%s", path,
	                   lazy ? "" : " (--lazy detaches it anyway)");
}

int mountpoint_unmount(const char *path, bool lazy, struct hither_error *err)
{
	if (!umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)))
		return 0;
	if (errno == EPERM)
		return run_fusermount(path, lazy, err);
	return hither_fail(err, -errno, "unmount %s: %s%s", path, strerror(errno),
	                   errno == EBUSY ? "; --lazy detaches it anyway" : "");
}

/* --- paths --- */

static int fail_folder(const char *folder, int code, struct hither_error *err)
{
	return hither_fail(err, code, "%s: %s%s", folder, strerror(-code),
	                   code == -ENOENT ? "; make this folder first" : "");
}

static char *resolve(const char *path, struct hither_error *err)
{
	char *out = realpath(path, NULL);
	if (!out)
		hither_fail(err, -errno, "%s: %s", path, strerror(errno));
	return out;
}

char *mountpoint_canonical(const char *path, struct hither_error *err)
{
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		len--;
	AUTO_FREE char *copy = strndup(path, len);
	char *out = NULL;
	struct stat st;
	if (!copy || !*copy) {
		hither_fail(err, copy ? -ENOENT : -ENOMEM,
		            copy ? "the path is empty" : "no memory");
		return NULL;
	}
	if (strstr(copy, "://") && access(copy, F_OK)) {
		hither_fail(err, -EINVAL, "%s is a URL; a path was expected here", copy);
		return NULL;
	}
	const char *slash = strrchr(copy, '/');
	const char *last = slash ? slash + 1 : copy;
	if (!strcmp(last, ".") || !strcmp(last, "..") || !*last)
		return resolve(copy, err);
	AUTO_FREE char *folder = !slash          ? strdup(".")
	                         : slash == copy ? strdup("/")
	                                         : strndup(copy, (size_t)(slash - copy));
	AUTO_FREE char *real = folder ? realpath(folder, NULL) : NULL;
	if (!real) {
		fail_folder(folder ? folder : path, -errno, err);
		return NULL;
	}
	if (asprintf(&out, "%s/%s", real[1] ? real : "", last) < 0)
		return NULL;
	/* A mount is not looked into: its daemon may be dead, or stopped. */
	if (mountpoint_kind(out) != MOUNT_NONE || lstat(out, &st) || !S_ISLNK(st.st_mode))
		return out;
	free(out);
	return resolve(copy, err);
}

/*
 * Asks whoever serves path: the kernel keeps the attributes of a mount whose daemon has been
 * killed.
 */
bool mountpoint_is_dead(const char *path)
{
	struct statx fresh;
	return statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_SIZE, &fresh) && errno == ENOTCONN;
}

/* What is there now, in *st. A mount without its daemon is cleared away. 0, -ENOENT or another
 * -errno. */
static int look(const char *path, struct stat *st, struct hither_error *err)
{
	if (!mountpoint_is_dead(path)) {
		if (!stat(path, st))
			return 0;
		return errno == ENOENT ? -ENOENT
		                       : hither_fail(err, -errno, "%s: %s", path, strerror(errno));
	}
	int r = mountpoint_unmount(path, true, err);
	if (r)
		return hither_error_prefix(err, "%s is a mount whose daemon is gone", path);
	return stat(path, st) ? -errno : 0;
}

static int enter_folder(struct mountpoint *mp, const char *name, struct stat *st,
                        struct hither_error *err)
{
	char *inside;
	if (asprintf(&inside, "%s/%s", mp->path[1] ? mp->path : "", name) < 0)
		return hither_fail(err, -ENOMEM, "no memory");
	free(mp->path);
	mp->path = inside;
	return look(mp->path, st, err);
}

static int check_kind(const char *path, const struct stat *st, bool named, struct hither_error *err)
{
	if (!S_ISREG(st->st_mode))
		return hither_fail(
		        err, -EINVAL, "%s is %s: name a file, or a folder to put it in", path,
		        S_ISDIR(st->st_mode) ? "a folder" : "neither a file nor a folder");
	if (mountpoint_kind(path) != MOUNT_NONE)
		return hither_fail(err, -EBUSY, "%s is mounted already; hither umount %s first",
		                   path, path);
	if (!named && st->st_size)
		return hither_fail(
		        err, -EEXIST,
		        "%s exists already, with %lld bytes; name it outright to mount over it",
		        path, (long long)st->st_size);
	return 0;
}

int mountpoint_resolve(struct mountpoint *mp, const char *path, const char *name,
                       struct hither_error *err)
{
	struct stat st;
	bool named = true;
	*mp = (struct mountpoint){0};
	mp->path = mountpoint_canonical(path, err);
	if (!mp->path)
		return err->code ? err->code : hither_fail(err, -ENOMEM, "no memory");
	int r = look(mp->path, &st, err);
	if (!r && S_ISDIR(st.st_mode)) {
		named = false;
		r = enter_folder(mp, name, &st, err);
	} else if (r == -ENOENT && path[strlen(path) - 1] == '/') {
		return fail_folder(path, r, err);
	}
	if (r)
		return r == -ENOENT ? 0 : r;
	mp->exists = true;
	return check_kind(mp->path, &st, named, err);
}

static bool is_empty(const char *path)
{
	DIR *folder = opendir(path);
	const struct dirent *entry;
	bool empty = folder;
	while (empty && (entry = readdir(folder)))
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	if (folder)
		closedir(folder);
	return empty;
}

int mountpoint_resolve_folder(struct mountpoint *mp, const char *path, struct hither_error *err)
{
	struct stat st;
	*mp = (struct mountpoint){.folder = true, .path = mountpoint_canonical(path, err)};
	if (!mp->path)
		return err->code ? err->code : hither_fail(err, -ENOMEM, "no memory");
	int r = look(mp->path, &st, err);
	if (r)
		return r == -ENOENT ? 0 : r;
	mp->exists = true;
	if (!S_ISDIR(st.st_mode))
		return hither_fail(err, -ENOTDIR, "%s is no folder, which a tree needs", mp->path);
	if (mountpoint_kind(mp->path) != MOUNT_NONE)
		return hither_fail(err, -EBUSY, "%s is mounted already; hither umount %s first",
		                   mp->path, mp->path);
	if (!is_empty(mp->path))
		return hither_fail(err, -ENOTEMPTY,
		                   "%s is not empty: name an empty folder, or a new one", mp->path);
	return 0;
}

int mountpoint_adopt(struct mountpoint *mp, struct hither_error *err)
{
	struct stat st;
	if (lstat(mp->path, &st))
		return hither_fail(err, -errno, "%s: %s", mp->path, strerror(errno));
	mp->made = true;
	mp->dev = st.st_dev;
	mp->ino = st.st_ino;
	return 0;
}

static int make_folder(struct mountpoint *mp, struct hither_error *err)
{
	if (mkdir(mp->path, 0700))
		return hither_fail(err, -errno, "make %s: %s", mp->path, strerror(errno));
	return mountpoint_adopt(mp, err);
}

int mountpoint_make(struct mountpoint *mp, struct hither_error *err)
{
	struct stat st;
	if (mp->exists)
		return 0;
	if (mp->folder)
		return make_folder(mp, err);
	AUTO_CLOSE int fd =
	        open(mp->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fstat(fd, &st))
		return hither_fail(err, -errno, "make %s: %s", mp->path, strerror(errno));
	mp->made = true;
	mp->dev = st.st_dev;
	mp->ino = st.st_ino;
	return 0;
}

void mountpoint_remove(const struct mountpoint *mp)
{
	struct stat st;
	if (!mp->made || lstat(mp->path, &st) || st.st_dev != mp->dev || st.st_ino != mp->ino)
		return;
	if (S_ISDIR(st.st_mode))
		rmdir(mp->path);
	else if (S_ISREG(st.st_mode) && !st.st_size)
		unlink(mp->path);
}

void mountpoint_finish(struct mountpoint *mp)
{
	free(mp->path);
	*mp = (struct mountpoint){0};
}

int mountpoint_scratch(const char *name, char *out, size_t size, struct hither_error *err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	if (!base || *base != '/' || access(base, W_OK))
		base = "/tmp";
	if (snprintf(out, size, "%s/%s-XXXXXX", base, name) >= (int)size || !mkdtemp(out))
		return hither_fail(err, -errno, "make a folder in %s: %s", base, strerror(errno));
	return 0;
}
