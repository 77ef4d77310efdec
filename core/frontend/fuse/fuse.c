/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching and detaching: the public face of the frontend, but for serve (session.c). */
#include "frontend/fuse/fuse_internal.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
	READAHEAD_NEAR = 1 << 20,
	READAHEAD_FAR =
	        128 << 10, /* a reader waits for all of a request: on a slow link keep it short */
	NEAR_NS = 2000000,
};

int hither_fuse_probe(struct hither_error *err)
{
	struct stat st;
	if (stat("/dev/fuse", &st))
		return hither_fail(
		        err, -errno,
		        "fuse: /dev/fuse: %s: load the module (modprobe fuse), or give the "
		        "container the device (--device /dev/fuse)",
		        strerror(errno));
	if (!fuse_passthrough_allowed()) /* it takes CAP_SYS_ADMIN, as mount(2) does */
		return fusermount_probe(err);
	if (access("/dev/fuse", R_OK | W_OK))
		return hither_fail(err, -errno, "fuse: /dev/fuse: %s: it should have mode 666",
		                   strerror(errno));
	return 0;
}

/* --- files --- */

static int compare_names(const void *a, const void *b, void *user)
{
	const struct fuse_file *files = user;
	return strcmp(files[*(const uint32_t *)a].name, files[*(const uint32_t *)b].name);
}

static int check_name(const char *name, struct hither_error *err)
{
	if (!name || !*name || !strcmp(name, ".") || !strcmp(name, "..") || strchr(name, '/'))
		return hither_fail(err, -EINVAL, "fuse: \"%s\" cannot be the name of a file",
		                   name ? name : "");
	if (strlen(name) > NAME_MAX)
		return hither_fail(err, -ENAMETOOLONG,
		                   "fuse: the name %.60s... is longer than %d bytes", name,
		                   NAME_MAX);
	return 0;
}

static int sort_names(struct hither_fuse *f, struct hither_error *err)
{
	f->by_name = malloc(f->file_count * sizeof *f->by_name + 1);
	if (!f->by_name)
		return hither_fail(err, -ENOMEM, "fuse: no memory for %zu files", f->file_count);
	for (size_t i = 0; i < f->file_count; i++)
		f->by_name[i] = (uint32_t)i;
	qsort_r(f->by_name, f->file_count, sizeof *f->by_name, compare_names, f->files);
	for (size_t i = 1; i < f->file_count; i++)
		if (!strcmp(f->files[f->by_name[i - 1]].name, f->files[f->by_name[i]].name))
			return hither_fail(err, -EEXIST, "fuse: two files are called %s",
			                   f->files[f->by_name[i]].name);
	return 0;
}

static int add_file(struct hither_fuse *f, const struct hither_fuse_file *from,
                    struct hither_error *err)
{
	const char *name = from->name ? from->name : "hither";
	int r = f->is_folder ? check_name(from->name, err) : 0;
	if (r)
		return r;
	struct fuse_file *file = &f->files[f->file_count];
	file->name = strdup(name);
	if (!file->name)
		return hither_fail(err, -ENOMEM, "fuse: no memory for the name %s", name);
	file->mount = from->mount;
	file->size = hither_mount_size(from->mount);
	file->writable = hither_mount_writable(from->mount);
	file->executable = from->executable;
	int64_t modified_ns =
	        from->modified_ns ? from->modified_ns : hither_mount_modified_ns(from->mount);
	atomic_init(&file->mtime_ns, modified_ns ? modified_ns : f->mounted_ns);
	pthread_mutex_init(&file->lock, NULL);
	f->any_writable |= file->writable;
	f->file_count++; /* from here on detach takes care of it */
	return 0;
}

static int add_files(struct hither_fuse *f, const struct hither_fuse_file *files, size_t count,
                     struct hither_error *err)
{
	if (!f->is_folder && count != 1)
		return hither_fail(
		        err, -EINVAL,
		        "fuse: %s is a file, which can show one file, not %zu: choose a folder",
		        f->at.path, count);
	if (count >= UINT32_MAX)
		return hither_fail(err, -EINVAL, "fuse: %zu files are too many", count);
	f->files = calloc(count ? count : 1, sizeof *f->files);
	if (!f->files)
		return hither_fail(err, -ENOMEM, "fuse: no memory for %zu files", count);
	for (size_t i = 0; i < count; i++) {
		int r = add_file(f, &files[i], err);
		if (r)
			return r;
	}
	return sort_names(f, err);
}

/* --- readahead --- */

static uint32_t choose_readahead(const struct hither_fuse *f)
{
	struct hither_mount_stats of_tree = {0};
	if (f->tree)
		hither_mount_stats(f->tree_mount, &of_tree);
	if (of_tree.rtt_ns >= NEAR_NS)
		return READAHEAD_FAR;
	for (size_t i = 0; i < f->file_count; i++) {
		struct hither_mount_stats stats;
		hither_mount_stats(f->files[i].mount, &stats);
		if (stats.rtt_ns >= NEAR_NS)
			return READAHEAD_FAR;
	}
	return READAHEAD_NEAR;
}

/*
 * INIT can only lower the kernel's default of 128 KiB. Raising it takes the device's knob in sysfs,
 * which is root's; for others the default stays.
 */
static void raise_readahead(const struct hither_fuse *f)
{
	char path[64], text[16];
	snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(f->at.device),
	         minor(f->at.device));
	HITHER_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	int len = snprintf(text, sizeof text, "%u", f->readahead_bytes / 1024);
	if (write(fd, text, (size_t)len) != len)
		return; /* then it is the default */
}

/* --- attach --- */

static int make_channel(struct hither_fuse *f, int fd, const struct hither_fuse_options *options,
                        struct hither_error *err)
{
	struct fuse_failed failed = {0};
	if (options)
		failed = (struct fuse_failed){options->failed, options->failed_user};

	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ||
	    !(f->channel = fuse_channel_create(fd, failed))) {
		close(fd); /* which ends the connection; detach unmounts */
		return hither_fail(err, -ENOMEM, "fuse: cannot set up the connection for %s",
		                   f->at.path);
	}
	return 0;
}

static int mount_it(struct hither_fuse *f, const struct hither_fuse_options *options,
                    struct hither_error *err)
{
	f->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->stop_fd < 0)
		return hither_fail(err, -errno, "fuse: eventfd: %s", strerror(errno));
	struct fuse_mount_wish wish = {.source = f->file_count == 1 ? f->files[0].name : "hither",
	                               .read_only = !f->any_writable,
	                               .allow_other = options && options->allow_other};
	int fd = -1;
	int r = fuse_mountpoint_mount(&f->at, &wish, &fd, err);
	if (!r)
		r = make_channel(f, fd, options, err);
	if (!r && f->readahead_bytes != READAHEAD_FAR)
		raise_readahead(f);
	return r;
}

/* What is to be seen at f->at: files, or a tree. */
struct show {
	const struct hither_fuse_file *files;
	size_t count;
	const struct hither_tree *tree;
	struct hither_mount *mount;
};

static int add_show(struct hither_fuse *f, const struct show *show, struct hither_error *err)
{
	f->is_folder = S_ISDIR(f->at.mode);
	if (!show->tree)
		return add_files(f, show->files, show->count, err);
	if (!f->is_folder || hither_tree_is_file(show->tree))
		return hither_fail(err, -ENOTDIR, "fuse: %s: %s", f->at.path,
		                   f->is_folder ? "this tree is one file"
		                                : "a tree is shown at a folder, this is none");
	f->tree = show->tree;
	f->tree_mount = show->mount;
	return 0;
}

/* The kernel's page cache has what is read through it; what passes through is the store's own. */
static void keep_one_copy(const struct hither_fuse *f)
{
	if (f->tree)
		hither_mount_cached_above(f->tree_mount);
	for (size_t i = 0; i < f->file_count; i++)
		if (f->files[i].writable || !f->want_passthrough)
			hither_mount_cached_above(f->files[i].mount);
}

static int attach(const struct show *show, const char *path,
                  const struct hither_fuse_options *options, struct hither_fuse **out,
                  struct hither_error *err)
{
	struct hither_fuse *f = calloc(1, sizeof *f);
	if (!f)
		return hither_fail(err, -ENOMEM, "fuse: no memory to mount %s", path);
	f->stop_fd = -1;
	f->uid = getuid();
	f->gid = getgid();
	f->mounted_ns = fuse_now_ns();
	int r = fuse_mountpoint_find(path, &f->at, err);
	if (!r)
		r = add_show(f, show, err);
	if (!r) {
		f->want_passthrough =
		        !(options && options->no_passthrough) && fuse_passthrough_allowed();
		keep_one_copy(f);
		f->readahead_bytes = options && options->readahead_bytes ? options->readahead_bytes
		                                                         : choose_readahead(f);
		r = mount_it(f, options, err);
	}
	if (!r && f->any_writable && !f->is_folder)
		r = fuse_date_root(f, err);
	if (r) {
		hither_fuse_detach(f);
		return r;
	}
	*out = f;
	return 0;
}

int hither_fuse_attach(const struct hither_fuse_file *files, size_t count, const char *path,
                       const struct hither_fuse_options *options, struct hither_fuse **out,
                       struct hither_error *err)
{
	const struct show show = {.files = files, .count = count};
	return attach(&show, path, options, out, err);
}

int hither_fuse_attach_tree(const struct hither_tree *t, struct hither_mount *m, const char *path,
                            const struct hither_fuse_options *options, struct hither_fuse **out,
                            struct hither_error *err)
{
	const struct show show = {.tree = t, .mount = m};
	return attach(&show, path, options, out, err);
}

/* --- stop and detach --- */

/* Hand over what programs have written and the kernel still holds; the serving threads take it. */
static void sync_pages(const struct hither_fuse *f)
{
	for (size_t i = 0; i < f->file_count && atomic_load(&f->serving); i++) {
		if (!f->files[i].writable)
			continue;
		pid_t pid;
		if (!fuse_errand_start(f, &f->files[i], &(struct fuse_errand){.write_back = true},
		                       &pid))
			fuse_errand_wait(pid);
	}
}

int hither_fuse_stop(struct hither_fuse *f, bool lazy, struct hither_error *err)
{
	if (lazy && f->any_writable && fuse_mountpoint_present(&f->at))
		sync_pages(f);
	struct fuse_guard *guard = lazy ? NULL : atomic_load(&f->guard);
	if (guard)
		fuse_guard_pause(guard, true);
	int r = fuse_mountpoint_unmount(&f->at, lazy, err);
	if (guard)
		fuse_guard_pause(guard, false);
	if (r)
		return r;
	/* Where files are open the connection lives on after a lazy unmount: end it. */
	fuse_stop_serving(f);
	return 0;
}

static void files_free(struct hither_fuse *f)
{
	for (size_t i = 0; i < f->file_count; i++) {
		free(f->files[i].name);
		pthread_mutex_destroy(&f->files[i].lock);
	}
	free(f->files);
	free(f->by_name);
}

void hither_fuse_detach(struct hither_fuse *f)
{
	if (!f)
		return;
	if (f->channel)
		fuse_channel_shut(
		        f->channel); /* first: an unmount would wait for answers to nobody */
	fuse_mountpoint_unmount(&f->at, true, NULL);
	fuse_guard_stop(f->guard);
	fuse_channel_drop(f->channel);
	if (f->stop_fd >= 0)
		close(f->stop_fd);
	files_free(f);
	free(f);
}
