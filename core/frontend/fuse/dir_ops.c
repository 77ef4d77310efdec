/* SPDX-License-Identifier: Apache-2.0 */
/* LOOKUP and READDIR of the one folder there is. */
#include "frontend/fuse/fuse_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int64_t find_name(const struct hither_fuse *f, const char *name)
{
	size_t low = 0, high = f->file_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(name, f->files[f->by_name[middle]].name);
		if (order == 0)
			return f->by_name[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return -1;
}

int fuse_entry_of(const struct hither_fuse *f, uint64_t node, struct fuse_entry_out *out)
{
	*out = (struct fuse_entry_out){.nodeid = node,
	                               .entry_valid = FUSE_VALID_SECONDS,
	                               .attr_valid = FUSE_VALID_SECONDS};
	return fuse_attr_of(f, node, &out->attr);
}

void fuse_op_lookup(struct fuse_call *c)
{
	const char *name = c->arg;
	int64_t index = -1;
	if (c->f->tree) {
		fuse_tree_lookup(c);
		return;
	}
	if (c->f->is_folder && c->in->nodeid == FUSE_ROOT_ID && memchr(name, 0, c->arg_len))
		index = find_name(c->f, name);
	/* Node 0 means: no such name, and remember that as long as if there were one. */
	struct fuse_entry_out out = {.entry_valid = FUSE_VALID_SECONDS};
	int r = index < 0 ? 0 : fuse_entry_of(c->f, fuse_node_of(c->f, (size_t)index), &out);
	fuse_answer(c, r, &out, sizeof out);
}

void fuse_op_opendir(struct fuse_call *c)
{
	struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR};
	fuse_answer(c, 0, &out, sizeof out);
}

/* Entry number i: 0 is ".", 1 is "..", then the files. */
static const char *entry_name(const struct hither_fuse *f, uint64_t i, uint64_t *node)
{
	static const char *const dots[] = {".", ".."};
	*node = i < 2 ? FUSE_ROOT_ID : fuse_node_of(f, (size_t)i - 2);
	return i < 2 ? dots[i] : f->files[i - 2].name;
}

size_t fuse_put_entry(const struct hither_fuse *f, uint64_t node, const char *name, uint32_t type,
                      uint64_t next, bool plus, char *to, size_t room)
{
	size_t name_len = strlen(name);
	size_t front = plus ? sizeof(struct fuse_entry_out) : 0;
	size_t len = front + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name_len);
	if (len > room)
		return 0;
	memset(to, 0, len);
	struct fuse_entry_out entry;
	if (plus && next > 2 && fuse_entry_of(f, node, &entry) == 0)
		memcpy(to, &entry, sizeof entry); /* dots stay zero: "not looked up" */
	struct fuse_dirent dirent = {
	        .ino = node, .off = next, .namelen = (uint32_t)name_len, .type = type};
	memcpy(to + front, &dirent, FUSE_NAME_OFFSET);
	memcpy(to + front + FUSE_NAME_OFFSET, name, name_len);
	return len;
}

static size_t put_entry(const struct hither_fuse *f, uint64_t i, bool plus, char *to, size_t room)
{
	uint64_t node;
	const char *name = entry_name(f, i, &node);
	return fuse_put_entry(f, node, name, (i < 2 ? S_IFDIR : S_IFREG) >> 12, i + 1, plus, to,
	                      room);
}

void fuse_op_readdir(struct fuse_call *c)
{
	if (c->f->tree) {
		fuse_tree_readdir(c);
		return;
	}
	struct fuse_read_in in = *(const struct fuse_read_in *)c->arg;
	bool plus = c->in->opcode == FUSE_READDIRPLUS;
	struct fuse_slot *s = c->slot;
	if (!c->f->is_folder || c->in->nodeid != FUSE_ROOT_ID) {
		fuse_answer(c, -ENOTDIR, NULL, 0);
		return;
	}
	size_t room = in.size < FUSE_SLOT_DATA ? in.size : FUSE_SLOT_DATA, used = 0, len;
	s->channel = c->f->channel;
	s->unique = c->in->unique;
	for (uint64_t i = in.offset; i < c->f->file_count + 2; i++, used += len) {
		len = put_entry(c->f, i, plus, (char *)fuse_slot_data(s) + used, room - used);
		if (len == 0)
			break;
	}
	fuse_reply_slot(s, 0, used);
}
