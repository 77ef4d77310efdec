/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mount points. Whatever looks at a path here does so through /proc/self/mountinfo or its parent
 * folder first: a stat() of a mount whose server is not answering (our own, before serve) would
 * hang.
 */
#include "frontend/fuse/mountpoint.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define TYPE "fuse.hither"

/* mountinfo writes space, tab, newline and backslash as \ooo. In place. */
static void unescape(char *s)
{
	char *to = s;
	for (; *s; s++) {
		unsigned code;
		if (s[0] == '\\' && sscanf(s + 1, "%3o", &code) == 1) {
			*to++ = (char)code;
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

/* Fields: id, parent, major:minor, root, mount point, options, tags ..., "-", type, source, ... */
static bool parse_line(char *line, const char *path, struct fuse_mountinfo *out)
{
	char *save = NULL, *word[5];
	for (int i = 0; i < 5; i++)
		if (!(word[i] = strtok_r(i ? NULL : line, " ", &save)))
			return false;
	unescape(word[4]);
	if (strcmp(word[4], path))
		return false;
	unsigned dev_major, dev_minor;
	if (sscanf(word[2], "%u:%u", &dev_major, &dev_minor) != 2)
		return false;
	const char *w;
	while ((w = strtok_r(NULL, " ", &save)) && strcmp(w, "-"))
		;
	const char *type = w ? strtok_r(NULL, " ", &save) : NULL;
	out->device = makedev(dev_major, dev_minor);
	snprintf(out->type, sizeof out->type, "%s", type ? type : "");
	return true;
}

bool fuse_mountinfo_at(const char *path, struct fuse_mountinfo *out)
{
	FILE *info = fopen("/proc/self/mountinfo", "re");
	if (!info)
		return false;
	HITHER_FREE char *line = NULL;
	size_t size = 0;
	bool found = false;
	while (getline(&line, &size, info) > 0)
		if (parse_line(line, path, out)) /* the last one is on top */
			found = true;
	fclose(info);
	if (!found)
		errno = ENOENT;
	return found;
}

/* The words behind the "-": type, source, options of the file system, as "rw,user_id=0,...". */
static bool is_own(char *line, char **path, char **source)
{
	char *save = NULL, *word = strtok_r(line, " ", &save), owner[32];
	for (int i = 0; word && i < 4; i++)
		word = strtok_r(NULL, " ", &save);
	*path = word;
	while (word && strcmp(word, "-"))
		word = strtok_r(NULL, " ", &save);
	const char *type = word ? strtok_r(NULL, " ", &save) : NULL;
	*source = type ? strtok_r(NULL, " ", &save) : NULL;
	const char *options = *source ? strtok_r(NULL, " \n", &save) : NULL;
	if (!options || strcmp(type, TYPE))
		return false;
	int len = snprintf(owner, sizeof owner, ",user_id=%u", (unsigned)geteuid());
	const char *found = strstr(options, owner);
	if (!found || (found[len] && found[len] != ','))
		return false;
	unescape(*path);
	unescape(*source);
	return true;
}

int hither_fuse_each(int (*each)(void *user, const char *path, const char *source), void *user)
{
	FILE *info = fopen("/proc/self/mountinfo", "re");
	HITHER_FREE char *line = NULL;
	size_t size = 0;
	char *path, *source;
	int r = 0;
	while (info && !r && getline(&line, &size, info) > 0)
		if (is_own(line, &path, &source))
			r = each(user, path, source);
	if (info)
		fclose(info);
	return r;
}

/* The canonical name of path, whose last part is not looked at (it may be a mount that hangs). */
static int canonical_parent(const char *path, char out[PATH_MAX])
{
	char copy[PATH_MAX];
	size_t len = strlen(path);
	if (len == 0)
		return -ENOENT;
	if (len >= sizeof copy)
		return -ENAMETOOLONG;
	memcpy(copy, path, len + 1);
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = 0;
	char *slash = strrchr(copy, '/');
	const char *name = slash ? slash + 1 : copy;
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return realpath(path, out) ? 0 : -errno;
	char last[NAME_MAX + 1];
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(last, name, strlen(name) + 1);
	if (slash)
		slash[slash == copy] = 0;
	if (!realpath(slash ? copy : ".", out))
		return -errno;
	len = strlen(out);
	if (len + strlen(last) + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	sprintf(out + len, "%s%s", len > 1 ? "/" : "", last);
	return 0;
}

/* Asked by force: the kernel has our attributes cached for a year. */
bool hither_fuse_is_dead(const char *path)
{
	struct statx st;
	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC, STATX_SIZE, &st) &&
	       errno == ENOTCONN;
}

enum hither_fuse_found hither_fuse_at(const char *path)
{
	struct fuse_mountinfo info;
	if (!fuse_mountinfo_at(path, &info))
		return HITHER_FUSE_NOTHING;
	return strcmp(info.type, TYPE) ? HITHER_FUSE_OTHER : HITHER_FUSE_HITHER;
}

static int unmount_path(const char *path, bool by_helper, bool lazy, struct hither_error *err)
{
	if (by_helper && geteuid() != 0)
		return fusermount_unmount(path, lazy, err);
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	int code = -errno;
	if (code == -EPERM && by_helper)
		return fusermount_unmount(path, lazy, err);
	return hither_fail(err, code, "fuse: unmount %s: %s", path, strerror(-code));
}

static int fail_busy(const char *path, struct hither_error *err)
{
	return hither_fail(err, -EBUSY,
	                   "%s is in use: close the files in it (fuser -vm %s names who has them), "
	                   "or unmount it with --lazy",
	                   path, path);
}

int hither_fuse_unmount(const char *path, bool lazy, struct hither_error *err)
{
	struct hither_error why = {0};
	int r = unmount_path(path, true, lazy, &why);
	if (r == -EBUSY || (r && strstr(why.message, "busy")))
		return fail_busy(path, err);
	return r ? hither_fail(err, r, "%s", why.message) : 0;
}

/* Take dead mounts of ours off path; refuse a live one. */
static int clear_path(const char *path, struct hither_error *err)
{
	struct fuse_mountinfo info;
	while (fuse_mountinfo_at(path, &info)) {
		bool ours = !strcmp(info.type, TYPE);
		if (!ours && strncmp(info.type, "fuse", 4) != 0)
			return 0; /* an ordinary file system: mounting over it is fine */
		if (!hither_fuse_is_dead(path)) {
			if (!ours)
				return 0;
			return hither_fail(
			        err, -EBUSY,
			        "fuse: %s already is a mount of hither: unmount it first, or "
			        "choose another path",
			        path);
		}
		if (!ours)
			return hither_fail(err, -ENOTCONN,
			                   "fuse: %s is a dead mount of type %s: unmount it first "
			                   "(fusermount3 -u -z %s)",
			                   path, info.type, path);
		int r = unmount_path(path, geteuid() != 0, true, err);
		if (r)
			return r;
	}
	return 0;
}

int fuse_mountpoint_find(const char *path, struct fuse_mountpoint *out, struct hither_error *err)
{
	memset(out, 0, sizeof *out);
	int r = canonical_parent(path, out->path);
	if (r)
		return hither_fail(err, r, "fuse: mount point %s: %s", path, strerror(-r));
	r = clear_path(out->path, err);
	if (r)
		return r;
	char full[PATH_MAX]; /* the last part may be a symbolic link */
	struct stat st;
	if (!realpath(out->path, full) || stat(full, &st)) {
		r = -errno;
		return hither_fail(err, r, "fuse: mount point %s: %s%s", path, strerror(-r),
		                   r == -ENOENT
		                           ? ": make a file (touch) or a folder (mkdir) there first"
		                           : "");
	}
	if (strcmp(full, out->path)) {
		memcpy(out->path, full, sizeof full);
		r = clear_path(full, err);
		if (r)
			return r;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return hither_fail(err, -EINVAL,
		                   "fuse: mount point %s is neither a file nor a folder", path);
	out->mode = st.st_mode & S_IFMT;
	return 0;
}

/* --- mounting --- */

/* fsname= for fusermount3, which splits options at commas and takes a backslash as an escape. */
static void append_escaped(char *to, size_t size, const char *source)
{
	size_t len = strlen(to);
	for (; *source && len + 3 < size; source++) {
		if (*source == ',' || *source == '\\')
			to[len++] = '\\';
		to[len++] = *source == '\n' ? ' ' : *source;
	}
	to[len] = 0;
}

static int mount_by_helper(struct fuse_mountpoint *at, const struct fuse_mount_wish *wish, int *fd,
                           struct hither_error *err)
{
	char options[1024];
	snprintf(options, sizeof options,
	         "%s,nosuid,nodev,default_permissions,subtype=hither%s,fsname=",
	         wish->read_only ? "ro" : "rw", wish->allow_other ? ",allow_other" : "");
	append_escaped(options, sizeof options, wish->source);
	int r = fusermount_mount(at->path, options, fd, err);
	at->by_helper = r == 0;
	return r;
}

static int open_device(struct hither_error *err)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int code = -errno;
	return hither_fail(
	        err, code, "fuse: open /dev/fuse: %s%s", strerror(-code),
	        code == -ENOENT || code == -ENODEV
	                ? ": load the module (modprobe fuse), or give the container the device "
	                  "(--device /dev/fuse)"
	        : code == -EACCES || code == -EPERM
	                ? ": it should have mode 666 (chmod 666 /dev/fuse, by root)"
	                : "");
}

static int mount_directly(struct fuse_mountpoint *at, const struct fuse_mount_wish *wish, int *fd,
                          struct hither_error *err)
{
	HITHER_CLOSE int device = open_device(err);
	if (device < 0)
		return device;
	char data[256];
	snprintf(data, sizeof data,
	         "fd=%d,rootmode=%o,user_id=%u,group_id=%u,default_permissions%s", device,
	         (unsigned)at->mode, geteuid(), getegid(), wish->allow_other ? ",allow_other" : "");
	unsigned long flags = MS_NOSUID | MS_NODEV | (wish->read_only ? MS_RDONLY : 0);
	if (mount(wish->source, at->path, TYPE, flags, data)) {
		int code = -errno;
		return hither_fail(err, code, "fuse: mount at %s: %s%s", at->path, strerror(-code),
		                   code == -EPERM ? ": it needs CAP_SYS_ADMIN (in a container: "
		                                    "--cap-add SYS_ADMIN)"
		                                  : "");
	}
	*fd = HITHER_TAKE(device, -1);
	return 0;
}

int fuse_mountpoint_mount(struct fuse_mountpoint *at, const struct fuse_mount_wish *wish, int *fd,
                          struct hither_error *err)
{
	int r = -EPERM;
	if (geteuid() == 0)
		r = mount_directly(at, wish, fd, err);
	if (r == -EPERM && (geteuid() != 0 || fusermount_probe(NULL) == 0))
		r = mount_by_helper(at, wish, fd, err);
	if (r)
		return r;
	struct fuse_mountinfo info;
	if (fuse_mountinfo_at(at->path, &info))
		at->device = info.device;
	return 0;
}

bool fuse_mountpoint_present(const struct fuse_mountpoint *at)
{
	struct fuse_mountinfo info;
	if (!at->device)
		return false;
	/* Where nobody can tell (no descriptor is left), it is still there. */
	if (!fuse_mountinfo_at(at->path, &info))
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM;
	return info.device == at->device;
}

int fuse_mountpoint_unmount(const struct fuse_mountpoint *at, bool lazy, struct hither_error *err)
{
	if (!fuse_mountpoint_present(at))
		return 0;
	struct hither_error why = {0};
	int r = unmount_path(at->path, at->by_helper, lazy, &why);
	if (!r || !fuse_mountpoint_present(at))
		return 0; /* or somebody was faster */
	if (r == -EBUSY || strstr(why.message, "busy"))
		return fail_busy(at->path, err);
	return hither_fail(err, r, "%s", why.message);
}
