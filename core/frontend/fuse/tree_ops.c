/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tree: everything but the bytes is in its table of nodes, so that no answer but that to READ
 * waits for anything. It cannot be written; the kernel sees to that, as it is mounted read-only.
 */
#include "frontend/fuse/fuse_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* NULL: no such node. */
static const struct hither_tree_node *node_of(const struct hither_fuse *f, uint64_t node)
{
	uint32_t count;
	const struct hither_tree_node *nodes = hither_tree_nodes(f->tree, &count);
	return node - FUSE_ROOT_ID < count ? &nodes[node - FUSE_ROOT_ID] : NULL;
}

static uint32_t type_of(const struct hither_tree_node *n)
{
	return n->kind == HITHER_TREE_FOLDER ? S_IFDIR
	       : n->kind == HITHER_TREE_LINK ? S_IFLNK
	                                     : S_IFREG;
}

int fuse_tree_attr_of(const struct hither_fuse *f, uint64_t node, struct fuse_attr *a)
{
	const struct hither_tree_node *n = node_of(f, node);
	if (!n)
		return -ENOENT;
	/* Of its root the manifest tells no date. */
	int64_t date = node == FUSE_ROOT_ID ? f->mounted_ns : n->mtime_ns;
	*a = (struct fuse_attr){.ino = node,
	                        .mode = type_of(n) | n->mode,
	                        .nlink = n->kind == HITHER_TREE_FOLDER ? 2 : 1,
	                        .uid = f->uid,
	                        .gid = f->gid,
	                        .size = n->size,
	                        .blocks = n->size / 512 + (n->size % 512 != 0),
	                        .blksize = FUSE_GOOD_BYTES};
	fuse_set_times(a, date, date);
	/* Nobody writes here, and whoever may look may read: modes of another machine's users do
	 * not keep this user out. */
	a->mode |= n->kind == HITHER_TREE_FOLDER ? 0500 : 0400;
	return 0;
}

void fuse_tree_lookup(struct fuse_call *c)
{
	const struct hither_tree_node *folder = node_of(c->f, c->in->nodeid);
	uint32_t found = UINT32_MAX;
	if (folder && folder->kind == HITHER_TREE_FOLDER && memchr(c->arg, 0, c->arg_len))
		found = hither_tree_lookup(c->f->tree, (uint32_t)(c->in->nodeid - FUSE_ROOT_ID),
		                           c->arg);
	struct fuse_entry_out out = {.entry_valid = FUSE_VALID_SECONDS};
	int r = found == UINT32_MAX ? 0 : fuse_entry_of(c->f, FUSE_ROOT_ID + found, &out);
	fuse_answer(c, r, &out, sizeof out);
}

void fuse_tree_readdir(struct fuse_call *c)
{
	struct fuse_read_in in = *(const struct fuse_read_in *)c->arg;
	const struct hither_fuse *f = c->f;
	bool plus = c->in->opcode == FUSE_READDIRPLUS;
	uint64_t self = c->in->nodeid;
	const struct hither_tree_node *n = node_of(f, self);
	struct fuse_slot *s = c->slot;
	if (!n || n->kind != HITHER_TREE_FOLDER) {
		fuse_answer(c, -ENOTDIR, NULL, 0);
		return;
	}
	size_t room = in.size < FUSE_SLOT_DATA ? in.size : FUSE_SLOT_DATA, used = 0, len = 1;
	s->channel = f->channel;
	s->unique = c->in->unique;
	/* Entry 0 is ".", 1 is "..", then the children. */
	for (uint64_t i = in.offset; len && i < (uint64_t)n->child_count + 2; i++, used += len) {
		uint64_t node = i == 0 ? self : FUSE_ROOT_ID + n->parent;
		const char *name = i == 0 ? "." : "..";
		if (i >= 2) {
			node = FUSE_ROOT_ID + n->first_child + (i - 2);
			name = node_of(f, node)->name;
		}
		len = fuse_put_entry(f, node, name, type_of(node_of(f, node)) >> 12, i + 1, plus,
		                     (char *)fuse_slot_data(s) + used, room - used);
	}
	fuse_reply_slot(s, 0, used);
}

void fuse_tree_readlink(struct fuse_call *c)
{
	const struct hither_tree_node *n = c->f->tree ? node_of(c->f, c->in->nodeid) : NULL;
	if (n && n->kind == HITHER_TREE_LINK)
		fuse_answer(c, 0, n->target, (size_t)n->size);
	else
		fuse_answer(c, -EINVAL, NULL, 0);
}

void fuse_tree_open(struct fuse_call *c)
{
	const struct fuse_open_in *in = c->arg;
	const struct hither_tree_node *n = node_of(c->f, c->in->nodeid);
	struct abi_open_out out = {.open_flags = FOPEN_KEEP_CACHE};
	int r = !n                                    ? -ENOENT
	        : n->kind != HITHER_TREE_FILE         ? -EISDIR
	        : (in->flags & O_ACCMODE) != O_RDONLY ? -EROFS
	                                              : 0;
	fuse_answer(c, r, &out, sizeof out);
}

void fuse_tree_read(struct fuse_call *c)
{
	const struct fuse_read_in *in = c->arg;
	const struct hither_tree_node *n = node_of(c->f, c->in->nodeid);
	if (!n || n->kind != HITHER_TREE_FILE || in->size > FUSE_SLOT_DATA) {
		fuse_answer(c, -EINVAL, NULL, 0);
		return;
	}
	uint64_t left = in->offset < n->size ? n->size - in->offset : 0;
	size_t len = left < in->size ? (size_t)left : in->size;
	if (len == 0)
		fuse_answer(c, 0, NULL, 0);
	else
		fuse_submit_io(c, c->f->tree_mount, HITHER_IO_READ, fuse_slot_data(c->slot), len,
		               n->offset + in->offset);
}

void fuse_tree_statfs(const struct hither_fuse *f, struct fuse_statfs_out *out)
{
	uint32_t count;
	hither_tree_nodes(f->tree, &count);
	out->st.files = count;
	out->st.blocks = hither_tree_file_bytes(f->tree) / FUSE_BLOCK_BYTES + 1;
}
