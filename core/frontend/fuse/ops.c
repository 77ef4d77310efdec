/* SPDX-License-Identifier: Apache-2.0 */
/* One request: which operation, and those that need no mount. */
#include "frontend/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

int fuse_answer(struct fuse_call *c, int error, const void *payload, size_t len)
{
	return fuse_reply(c->f->channel, c->in->unique, error, payload, len);
}

/* --- attributes --- */

/* Whole seconds, and nanoseconds that are not negative: there are files from before 1970. */
static void split_time(int64_t ns, uint64_t *s, uint32_t *rest)
{
	int64_t below = ns % (int64_t)HITHER_NS_PER_S;
	if (below < 0)
		below += (int64_t)HITHER_NS_PER_S;
	*s = (uint64_t)((ns - below) / (int64_t)HITHER_NS_PER_S);
	*rest = (uint32_t)below;
}

void fuse_set_times(struct fuse_attr *a, int64_t mtime_ns, int64_t other_ns)
{
	split_time(mtime_ns, &a->mtime, &a->mtimensec);
	split_time(other_ns, &a->atime, &a->atimensec);
	a->ctime = a->atime;
	a->ctimensec = a->atimensec;
}

int fuse_attr_of(const struct hither_fuse *f, uint64_t node, struct fuse_attr *a)
{
	if (f->tree)
		return fuse_tree_attr_of(f, node, a);
	struct fuse_file *file = fuse_file_of(f, node);
	if (!file && node != FUSE_ROOT_ID)
		return -ENOENT;
	*a = (struct fuse_attr){.ino = node,
	                        .mode = S_IFDIR | 0555,
	                        .nlink = 2,
	                        .uid = f->uid,
	                        .gid = f->gid,
	                        .blksize = FUSE_GOOD_BYTES};
	fuse_set_times(a, f->mounted_ns, f->mounted_ns);
	if (!file)
		return 0;
	a->mode = S_IFREG | (file->writable ? 0644 : 0444) | (file->executable ? 0111 : 0);
	a->nlink = 1;
	a->size = file->size;
	/* All of it, local or not: less would make cp and tar look for holes where there are none.
	 */
	a->blocks = file->size / 512 + (file->size % 512 != 0);
	fuse_set_times(a, atomic_load(&file->mtime_ns), f->mounted_ns);
	return 0;
}

static void answer_attr(struct fuse_call *c)
{
	struct fuse_attr_out out = {.attr_valid = FUSE_VALID_SECONDS};
	int r = fuse_attr_of(c->f, c->in->nodeid, &out.attr);
	fuse_answer(c, r, &out, sizeof out);
}

/*
 * Size, owner and mode are what they are: EPERM for a change, as ftruncate(2) has it for file
 * systems that cannot extend a file, and nothing for setting what already is. Times may be set, for
 * touch(1) and for the kernel, which keeps them itself while it caches writes; they end with the
 * mount.
 */
static int check_setattr(const struct hither_fuse *f, const struct fuse_file *file,
                         const struct fuse_setattr_in *in)
{
	struct fuse_attr a;
	int r = fuse_attr_of(f, file ? fuse_node_of(f, (size_t)(file - f->files)) : FUSE_ROOT_ID,
	                     &a);
	if (r)
		return r;
	if ((in->valid & FATTR_SIZE) && (!file || in->size != file->size))
		return -EPERM;
	if ((in->valid & FATTR_MODE) && (in->mode & 07777) != (a.mode & 07777))
		return -EPERM;
	if (((in->valid & FATTR_UID) && in->uid != a.uid) ||
	    ((in->valid & FATTR_GID) && in->gid != a.gid))
		return -EPERM;
	return 0;
}

/* False: the guard wants a written file to be new, but a program has just set its date. */
static bool set_date(const struct fuse_call *c, struct fuse_file *file,
                     const struct fuse_setattr_in *in)
{
	bool undated = atomic_exchange(&file->undated, false);
	if (!undated && !(in->valid & FATTR_SIZE) && fuse_guard_asks(c->f->guard, c->in->pid))
		return false;
	int64_t date = (int64_t)in->mtime * (int64_t)HITHER_NS_PER_S + in->mtimensec;
	atomic_store(&file->mtime_ns, in->valid & FATTR_MTIME_NOW ? fuse_now_ns() : date);
	return true;
}

static void op_setattr(struct fuse_call *c)
{
	const struct fuse_setattr_in *in = c->arg;
	struct fuse_file *file = fuse_file_of(c->f, c->in->nodeid);
	if (!file && c->in->nodeid != FUSE_ROOT_ID) {
		fuse_answer(c, -ENOENT, NULL, 0);
		return;
	}
	int r = check_setattr(c->f, file, in);
	if (r) {
		fuse_answer(c, r, NULL, 0);
		return;
	}
	if (file && (in->valid & FATTR_MTIME) && !set_date(c, file, in))
		fuse_answer(c, -EAGAIN, NULL, 0);
	else
		answer_attr(c);
}

static void op_statfs(struct fuse_call *c)
{
	struct fuse_statfs_out out = {.st = {.bsize = FUSE_BLOCK_BYTES,
	                                     .frsize = FUSE_BLOCK_BYTES,
	                                     .namelen = NAME_MAX,
	                                     .files = c->f->file_count}};
	if (c->f->tree)
		fuse_tree_statfs(c->f, &out);
	for (size_t i = 0; i < c->f->file_count; i++)
		out.st.blocks += (c->f->files[i].size + FUSE_BLOCK_BYTES - 1) / FUSE_BLOCK_BYTES;
	fuse_answer(c, 0, &out, sizeof out);
}

/* --- open and release --- */

static int check_open(const struct fuse_file *file, uint32_t flags)
{
	if (!file)
		return -EISDIR;
	if (!file->writable && (flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	/* The size cannot change: programs that rewrite a file in place must not truncate it (dd
	 * conv=notrunc). */
	return (flags & O_TRUNC) && file->size ? -EPERM : 0;
}

void fuse_op_open(struct fuse_call *c)
{
	const struct fuse_open_in *in = c->arg;
	if (c->f->tree) {
		fuse_tree_open(c);
		return;
	}
	struct fuse_file *file = fuse_file_of(c->f, c->in->nodeid);
	int r = check_open(file, in->flags);
	if (r) {
		fuse_answer(c, r, NULL, 0);
		return;
	}
	struct abi_open_out out = {0};
	out.open_flags = fuse_open_begin(c->f, file, in->flags, &out.backing_id);
	out.fh = out.open_flags;
	if (fuse_answer(c, 0, &out, sizeof out)) /* given up meanwhile: there will be no RELEASE */
		fuse_open_end(file, out.open_flags);
}

void fuse_op_release(struct fuse_call *c)
{
	const struct fuse_release_in *in = c->arg;
	struct fuse_file *file = fuse_file_of(c->f, c->in->nodeid);
	if (file)
		fuse_open_end(file, (uint32_t)in->fh);
	if (file && atomic_load(&file->undated) && c->f->guard)
		fuse_guard_wake(c->f->guard);
	fuse_answer(c, 0, NULL, 0);
}

/* --- the rest --- */

static void op_done(struct fuse_call *c)
{
	fuse_answer(c, 0, NULL, 0);
}

/* EPERM, as mkdir(2) has it for file systems that cannot. */
static void op_fixed_folder(struct fuse_call *c)
{
	fuse_answer(c, -EPERM, NULL, 0);
}

static void op_forget(struct fuse_call *c)
{
	(void)c; /* nodes live as long as the mount; no answer is expected */
}

static void op_ioctl(struct fuse_call *c)
{
	fuse_answer(c, -ENOTTY, NULL, 0);
}

static void op_interrupt(struct fuse_call *c)
{
	const struct fuse_interrupt_in *in = c->arg;
	fuse_interrupt(c->f->channel, c->in->unique, in->unique);
}

/*
 * What is missing here is answered with ENOSYS, which makes the kernel do it by itself (LSEEK,
 * locks, COPY_FILE_RANGE, FLUSH: it has written the pages back before, and a mere close pushes
 * nothing), or tell the program that it is not supported (xattrs), and never ask again.
 */
static const struct operation {
	void (*run)(struct fuse_call *c);
	size_t arg_len; /* at least */
} operations[] = {
        [FUSE_LOOKUP] = {fuse_op_lookup, 1},
        [FUSE_FORGET] = {op_forget, 0},
        [FUSE_BATCH_FORGET] = {op_forget, 0},
        [FUSE_GETATTR] = {answer_attr, 0},
        [FUSE_SETATTR] = {op_setattr, sizeof(struct fuse_setattr_in)},
        [FUSE_READLINK] = {fuse_tree_readlink, 0},
        [FUSE_MKNOD] = {op_fixed_folder, 0},
        [FUSE_MKDIR] = {op_fixed_folder, 0},
        [FUSE_SYMLINK] = {op_fixed_folder, 0},
        [FUSE_LINK] = {op_fixed_folder, 0},
        [FUSE_CREATE] = {op_fixed_folder, 0},
        [FUSE_UNLINK] = {op_fixed_folder, 0},
        [FUSE_RMDIR] = {op_fixed_folder, 0},
        [FUSE_RENAME] = {op_fixed_folder, 0},
        [FUSE_RENAME2] = {op_fixed_folder, 0},
        [FUSE_OPEN] = {fuse_op_open, sizeof(struct fuse_open_in)},
        [FUSE_READ] = {fuse_op_read, sizeof(struct fuse_read_in)},
        [FUSE_WRITE] = {fuse_op_write, sizeof(struct fuse_write_in)},
        [FUSE_STATFS] = {op_statfs, 0},
        [FUSE_RELEASE] = {fuse_op_release, sizeof(struct fuse_release_in)},
        [FUSE_FALLOCATE] = {fuse_op_fallocate, sizeof(struct fuse_fallocate_in)},
        [FUSE_FSYNC] = {fuse_op_fsync, 0},
        [FUSE_INIT] = {fuse_op_init, offsetof(struct fuse_init_in, flags2)},
        [FUSE_OPENDIR] = {fuse_op_opendir, 0},
        [FUSE_READDIR] = {fuse_op_readdir, sizeof(struct fuse_read_in)},
        [FUSE_READDIRPLUS] = {fuse_op_readdir, sizeof(struct fuse_read_in)},
        [FUSE_RELEASEDIR] = {op_done, 0},
        [FUSE_FSYNCDIR] = {op_done, 0},
        [FUSE_INTERRUPT] = {op_interrupt, sizeof(struct fuse_interrupt_in)},
        [FUSE_IOCTL] = {op_ioctl, 0},
        [FUSE_DESTROY] = {op_done, 0},
};

bool fuse_dispatch(struct hither_fuse *f, struct fuse_slot *slot, size_t len)
{
	const struct fuse_in_header *in = fuse_slot_request(slot);
	struct fuse_call c = {
	        .f = f, .slot = slot, .in = in, .arg = in + 1, .arg_len = len - sizeof *in};
	const struct operation *op = NULL;
	if (in->opcode < sizeof operations / sizeof *operations && operations[in->opcode].run)
		op = &operations[in->opcode];
	if (!op)
		fuse_answer(&c, -ENOSYS, NULL, 0);
	else if (c.arg_len < op->arg_len)
		fuse_answer(&c, -EINVAL, NULL, 0);
	else
		op->run(&c);
	return !c.slot_gone;
}
