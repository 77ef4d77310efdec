/* SPDX-License-Identifier: Apache-2.0 */
/* What the FUSE frontend's files share. See session.c for the picture. */
#ifndef HITHER_FRONTEND_FUSE_INTERNAL_H
#define HITHER_FRONTEND_FUSE_INTERNAL_H

#include "frontend/fuse/channel.h"
#include "frontend/fuse/mountpoint.h"

#include "base/clock.h"

#include <hither/fuse.h>
#include <hither/tree.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
	FUSE_BLOCK_BYTES = 4096, /* as statfs tells it */
	/*
	 * st_blksize, which is what stdio and Python read at least: more would make who wants a
	 * byte wait for more than that byte's pages. cp, cat and their kind read 128 KiB and more
	 * anyway.
	 */
	FUSE_GOOD_BYTES = 4096,
	FUSE_VALID_SECONDS = 1 << 25, /* a year: names and sizes never change under a mount */
};

/* One file of the mount. Fixed after attach, but for the marked fields. */
struct fuse_file {
	struct hither_mount *mount;
	char *name;
	uint64_t size;
	bool writable;
	bool executable;
	atomic_int_least64_t mtime_ns;
	/* See guard.c. */
	atomic_bool overgrown;         /* the kernel holds bytes beyond the end */
	atomic_bool undated;           /* written since it got its date in the kernel */
	atomic_int_least64_t dated_ns; /* when it last got one after a write */

	pthread_mutex_t lock; /* guards the rest; see passthrough.c */
	unsigned cached_opens;
	unsigned passthrough_opens;
	int backing_id; /* 0: not registered; -1: the kernel refused */
};

struct hither_fuse {
	struct fuse_channel *channel;
	struct fuse_mountpoint at;
	bool is_folder;
	struct fuse_file *files;
	size_t file_count;
	/* Where a tree is shown: there are no files then, and node n of it is n + 1. */
	const struct hither_tree *tree; /* NULL: none */
	struct hither_mount *tree_mount;
	uint32_t *by_name; /* [file_count] indices of files, sorted by name */
	uint32_t readahead_bytes;
	uid_t uid;
	gid_t gid;
	int64_t mounted_ns; /* since 1970 */
	bool any_writable;
	bool want_passthrough;

	atomic_bool passthrough; /* the kernel agreed in INIT */
	atomic_bool direct_io;   /* so may O_DIRECT opens be told apart */
	atomic_bool serving;     /* a program's access would be answered */
	int stop_fd;             /* eventfd: serve() shall return */
	atomic_int first_error;  /* of a serving thread */
	struct fuse_guard
	        *_Atomic guard; /* NULL where nothing is writable, or no thread could be had */
};

/* Since 1970. */
static inline int64_t fuse_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * (int64_t)HITHER_NS_PER_S + t.tv_nsec;
}

/* --- nodes: 1 is what is mounted; in a folder, file i is 2 + i --- */

static inline uint64_t fuse_node_of(const struct hither_fuse *f, size_t file_index)
{
	return f->is_folder ? file_index + 2 : FUSE_ROOT_ID;
}
/* NULL: not a file of ours. */
static inline struct fuse_file *fuse_file_of(const struct hither_fuse *f, uint64_t node)
{
	uint64_t index = f->is_folder ? node - 2 : node - FUSE_ROOT_ID;
	return index < f->file_count ? &f->files[index] : NULL;
}

/* --- ops.c, io_ops.c, dir_ops.c: one request --- */

struct fuse_call {
	struct hither_fuse *f;
	struct fuse_slot *slot; /* where the request is, and where an answer may be built */
	const struct fuse_in_header
	        *in;     /* within slot; gone once slot's data has been written to */
	const void *arg; /* behind it */
	size_t arg_len;
	bool slot_gone; /* set by an operation that has given the slot away */
};

/* Answer the request in slot (len bytes). True: the slot is the caller's again. */
bool fuse_dispatch(struct hither_fuse *f, struct fuse_slot *slot, size_t len);
int fuse_answer(struct fuse_call *c, int error, const void *payload, size_t len);

void fuse_op_read(struct fuse_call *c);
void fuse_op_write(struct fuse_call *c);
void fuse_op_fsync(struct fuse_call *c);
void fuse_op_fallocate(struct fuse_call *c);
void fuse_op_open(struct fuse_call *c);
void fuse_op_release(struct fuse_call *c);
void fuse_op_lookup(struct fuse_call *c);
void fuse_op_opendir(struct fuse_call *c);
void fuse_op_readdir(struct fuse_call *c);
void fuse_op_init(struct fuse_call *c);

/* --- tree_ops.c: the same of a tree --- */

int fuse_tree_attr_of(const struct hither_fuse *f, uint64_t node, struct fuse_attr *out);
void fuse_tree_lookup(struct fuse_call *c);
void fuse_tree_readdir(struct fuse_call *c);
void fuse_tree_readlink(struct fuse_call *c);
void fuse_tree_open(struct fuse_call *c);
void fuse_tree_read(struct fuse_call *c);
void fuse_tree_statfs(const struct hither_fuse *f, struct fuse_statfs_out *out);

/* Give c's request to m; it may be answered later. */
void fuse_submit_io(struct fuse_call *c, struct hither_mount *m, enum hither_io_op op, void *buf,
                    size_t len, uint64_t offset);
/* One entry of a folder into room bytes at `to`: bytes used, or 0 if it does not fit. next: where
 * readdir goes on after it. type: as d_type. plus: with its attributes, but of "." and "..". */
size_t fuse_put_entry(const struct hither_fuse *f, uint64_t node, const char *name, uint32_t type,
                      uint64_t next, bool plus, char *to, size_t room);

/* st for node into *out. -ENOENT: no such node. */
int fuse_attr_of(const struct hither_fuse *f, uint64_t node, struct fuse_attr *out);
/* atime and ctime are other_ns. */
void fuse_set_times(struct fuse_attr *a, int64_t mtime_ns, int64_t other_ns);
int fuse_entry_of(const struct hither_fuse *f, uint64_t node, struct fuse_entry_out *out);

/* --- passthrough.c --- */

/*
 * Decide how file is to be opened, by open(2)'s flags, and count it: FOPEN_ flags, and *backing_id
 * if they say passthrough.
 */
uint32_t fuse_open_begin(struct hither_fuse *f, struct fuse_file *file, uint32_t flags,
                         int *backing_id);
/* Take an open of these flags back: closed, or never got through. */
void fuse_open_end(struct fuse_file *file, uint32_t open_flags);
/* May the kernel of this process be asked for passthrough? */
bool fuse_passthrough_allowed(void);

/* --- session.c --- */

/* A thread that takes no signal: those are the program's. 0 or -errno. */
int fuse_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);
/* Answer requests on this thread until until_fd can be read. 0 or -errno. */
int fuse_serve_until(struct hither_fuse *f, int until_fd);
/* Let hither_fuse_serve() return. */
void fuse_stop_serving(struct hither_fuse *f);

/* --- errand.c --- */

/* What is to be done to a file through the mount point. */
struct fuse_errand {
	bool write_back, resize, touch, set_date;
	uint64_t size;
	struct timespec times[2];
};
/*
 * Begin, in a process of its own; *pid is its. Requests of it must be answered meanwhile. 0 or
 * -errno.
 */
int fuse_errand_start(const struct hither_fuse *f, const struct fuse_file *file,
                      const struct fuse_errand *e, pid_t *pid);
void fuse_errand_wait(pid_t pid);

/* --- root_date.c --- */

/* Give the one file that is a writable mount's root its date. */
int fuse_date_root(struct hither_fuse *f, struct hither_error *err);

/* --- guard.c --- */

struct fuse_guard *fuse_guard_start(struct hither_fuse *f); /* NULL: no memory, no thread */
void fuse_guard_wake(struct fuse_guard *g);                 /* some file is overgrown or undated */
/* Is it the guard that has sent a request of this pid? NULL: no. */
bool fuse_guard_asks(const struct fuse_guard *g, uint32_t pid);
/* Keep it off the mount point while it is being unmounted. */
void fuse_guard_pause(struct fuse_guard *g, bool pause);
void fuse_guard_stop(struct fuse_guard *g); /* the channel is shut; NULL is fine */

/* --- notify.c --- */

/*
 * Before INIT is answered: tell the kernel the size of the one file that is the mount's root. With
 * its writeback cache it trusts its own idea of a size, which for a root begins, and stays, at 0.
 */
int fuse_tell_root_size(struct hither_fuse *f);

/*
 * Put bytes of a file into the kernel's page cache before anybody asks; len at most 1 MiB. Only for
 * files that cannot be written: it would destroy what a program has just written. Waits for READ
 * requests under way on the same pages, so: from a thread that no read depends on.
 * 0; -ENOENT: the kernel does not know the file (yet); -EPERM: it is writable; -EINVAL.
 */
int hither_fuse_store(struct hither_fuse *f, size_t file_index, const void *buf, size_t len,
                      uint64_t offset);

#endif
