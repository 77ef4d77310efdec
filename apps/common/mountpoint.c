/* SPDX-License-Identifier: Apache-2.0 */
#include "mountpoint.h"

#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hither/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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
	if (hither_fuse_at(out) != HITHER_FUSE_NOTHING || lstat(out, &st) || !S_ISLNK(st.st_mode))
		return out;
	free(out);
	return resolve(copy, err);
}

/* What is there now, in *st. A mount without its daemon is cleared away. 0, -ENOENT or another
 * -errno. */
static int look(const char *path, struct stat *st, struct hither_error *err)
{
	if (!hither_fuse_is_dead(path)) {
		if (!stat(path, st))
			return 0;
		return errno == ENOENT ? -ENOENT
		                       : hither_fail(err, -errno, "%s: %s", path, strerror(errno));
	}
	int r = hither_fuse_unmount(path, true, err);
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
	if (hither_fuse_at(path) != HITHER_FUSE_NOTHING)
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

bool mountpoint_is_empty(const char *path)
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
	if (hither_fuse_at(mp->path) != HITHER_FUSE_NOTHING)
		return hither_fail(err, -EBUSY, "%s is mounted already; hither umount %s first",
		                   mp->path, mp->path);
	if (!mountpoint_is_empty(mp->path))
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

/* 0 or -1 and errno. */
static int make_file(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -1 : 0;
}

int mountpoint_make(struct mountpoint *mp, struct hither_error *err)
{
	if (mp->exists)
		return 0;
	if (mp->folder ? mkdir(mp->path, 0700) : make_file(mp->path))
		return hither_fail(err, -errno, "make %s: %s", mp->path, strerror(errno));
	return mountpoint_adopt(mp, err);
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
