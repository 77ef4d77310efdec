/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A loop device over a file of the FUSE frontend, /run/hither/block/loop-N.file.
 *
 *     program -> /dev/loopN -> loop, direct I/O -> FUSE -> our serving thread -> mount
 *
 * The device clears itself when its last user closes it (AUTOCLEAR); we are one of them. So a
 * process that is killed leaves no device, unless somebody has it mounted, who then gets I/O
 * errors.
 */
#include "base/cleanup.h"
#include "frontend/block/block_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/fuse.h>
#include <linux/loop.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

struct loop {
	struct hither_fuse *fuse;
	pthread_t thread;
	bool has_thread;
	int fd; /* the device */
	char file[64];
};

static void file_path(char path[64], unsigned number)
{
	snprintf(path, 64, BLOCK_FOLDER "/loop-%u.file", number);
}

static int loop_probe(struct hither_error *err)
{
	struct hither_error fuse = {0};
	HITHER_CLOSE int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return hither_fail(err, -errno,
		                   "loop: /dev/loop-control: %s (modprobe loop makes it)",
		                   strerror(errno));
	int r = hither_fuse_probe(&fuse);
	return r ? hither_fail(err, r, "loop: %s", fuse.message) : 0;
}

/* Making it, if need be, is the kernel's. */
static int loop_pick(unsigned from, struct hither_error *err)
{
	HITHER_CLOSE int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = fd < 0 ? -1 : ioctl(fd, LOOP_CTL_GET_FREE);
	if (number < 0)
		return hither_fail(err, -errno, "loop: no free device: %s", strerror(errno));
	if ((unsigned)number < from) { /* somebody is just about to use that one */
		number = (int)from;
		if (ioctl(fd, LOOP_CTL_ADD, number) < 0 && errno != EEXIST)
			return hither_fail(err, -errno, "loop: add device %d: %s", number,
			                   strerror(errno));
	}
	return number;
}

static void *serve_main(void *arg)
{
	struct loop *l = arg;
	hither_fuse_serve(l->fuse, NULL);
	return NULL;
}

static int mount_file(struct hither_block *b, struct loop *l, struct hither_error *err)
{
	file_path(l->file, b->record.number);
	HITHER_CLOSE int made = open(l->file, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (made < 0)
		return hither_fail(err, -errno, "loop: make %s: %s", l->file, strerror(errno));
	/* Passthrough would bind the file to what is local when the device is made. */
	const struct hither_fuse_options options = {.no_passthrough = true};
	const struct hither_fuse_file file = {.mount = b->mount, .name = "block"};
	int r = hither_fuse_attach(&file, 1, l->file, &options, &l->fuse, err);
	if (r)
		return r;
	r = block_thread(&l->thread, serve_main, l);
	l->has_thread = !r;
	return r ? hither_fail(err, r, "loop: start a thread: %s", strerror(-r)) : 0;
}

static int configure(const struct hither_block *b, struct loop *l, struct hither_error *err)
{
	bool read_only = b->options.read_only;
	int mode = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	HITHER_CLOSE int file = open(l->file, mode | O_DIRECT);
	if (file < 0 && errno == EINVAL) /* a kernel without direct I/O on FUSE: slower */
		file = open(l->file, mode);
	if (file < 0)
		return hither_fail(err, -errno, "loop: open %s: %s", l->file, strerror(errno));
	HITHER_CLOSE int device = open(b->path, mode);
	/*
	 * A killed process closes its descriptors from the lowest on, and the device's last close
	 * waits for writes to FUSE: the FUSE connection must be cut before, so it has a lower
	 * number.
	 */
	if (device >= 0)
		l->fd = fcntl(device, F_DUPFD_CLOEXEC, 512);
	if (l->fd < 0 && device >= 0)
		l->fd = HITHER_TAKE(device, -1);
	struct loop_config config = {.fd = (uint32_t)file, .block_size = b->options.block_bytes};
	config.info.lo_flags =
	        LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO | (read_only ? LO_FLAGS_READ_ONLY : 0);
	config.info.lo_sizelimit = b->size_bytes;
	snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "hither");
	if (l->fd < 0 || ioctl(l->fd, LOOP_CONFIGURE, &config))
		return hither_fail(err, -errno, "loop: configure %s: %s", b->path, strerror(errno));
	ioctl(l->fd, LOOP_SET_DIRECT_IO, 1UL); /* kernels that refused the flag say so again here */
	return 0;
}

static void unmount_file(struct loop *l)
{
	if (l->has_thread) {
		hither_fuse_stop(l->fuse, true, NULL);
		pthread_join(l->thread, NULL);
	}
	hither_fuse_detach(l->fuse);
	unlink(l->file);
}

static void loop_detach(struct hither_block *b)
{
	struct loop *l = b->state;
	if (l->fd >= 0)
		close(l->fd);
	unmount_file(l);
	free(l);
	b->state = NULL;
}

static int loop_attach(struct hither_block *b, struct hither_error *err)
{
	struct loop *l = calloc(1, sizeof *l);
	if (!l)
		return hither_fail(err, -ENOMEM, "loop: no memory");
	l->fd = -1;
	b->state = l;
	int r = mount_file(b, l, err);
	if (!r)
		r = configure(b, l, err);
	if (r)
		loop_detach(b);
	return r;
}

/* AUTOCLEAR has cleared the device unless somebody has it open; the file is left in any case. */
static int loop_cleanup(const struct block_record *r, struct hither_error *err)
{
	char file[64], backing[128], path[BLOCK_PATH_BYTES];
	file_path(file, r->number);
	block_device_path(path, r);
	block_sysfs(backing, sizeof backing, "/sys/block/loop%u/loop/backing_file", r->number);
	bool ours = !strncmp(backing, file, strlen(file));
	umount2(file, MNT_DETACH);
	unlink(file);
	if (!ours)
		return 0;
	HITHER_CLOSE int fd = block_device_claim(path);
	if (fd == -EBUSY)
		return hither_fail(err, -EBUSY,
		                   "%s is in use though its process is dead: unmount it", path);
	if (fd >= 0)
		ioctl(fd, LOOP_CLR_FD, 0);
	return 0;
}

const struct block_kind block_loop = {
        .kind = HITHER_BLOCK_LOOP,
        .device = "/dev/loop",
        .probe = loop_probe,
        .pick = loop_pick,
        .attach = loop_attach,
        .detach = loop_detach,
        .cleanup = loop_cleanup,
};
