/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing a kind of device, making it, removing it, also after others. */
#include "base/cleanup.h"
#include "frontend/block/block_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { NUMBERS_MAX = 1024 };

static const char *const kind_names[HITHER_BLOCK_KINDS] = {"auto", "ublk", "nbd", "loop"};

const char *hither_block_kind_name(enum hither_block_kind kind)
{
	return (unsigned)kind < HITHER_BLOCK_KINDS ? kind_names[kind] : "?";
}

const struct block_kind *block_kind_of(enum hither_block_kind kind)
{
	switch (kind) {
#ifdef HITHER_UBLK
	case HITHER_BLOCK_UBLK:
		return &block_ublk;
#endif
	case HITHER_BLOCK_NBD:
		return &block_nbd;
	case HITHER_BLOCK_LOOP:
		return &block_loop;
	default:
		return NULL;
	}
}

static int probe_one(enum hither_block_kind kind, struct hither_error *err)
{
	const struct block_kind *k = block_kind_of(kind);
	if (!k)
		return hither_fail(err, -ENOTSUP, "%s: this build lacks it",
		                   hither_block_kind_name(kind));
	int r = block_need_root(err);
	return r ? r : k->probe(err);
}

int hither_block_probe(enum hither_block_kind kind, struct hither_error *err)
{
	if (kind != HITHER_BLOCK_AUTO)
		return probe_one(kind, err);
	for (int i = HITHER_BLOCK_AUTO + 1; i < HITHER_BLOCK_KINDS; i++)
		if (!probe_one((enum hither_block_kind)i, NULL))
			return 0;
	return probe_one(HITHER_BLOCK_LOOP, err);
}

/* --- attach --- */

static int check_options(struct hither_block *b, const struct hither_block_options *options,
                         struct hither_error *err)
{
	if (options)
		b->options = *options;
	struct hither_block_options *o = &b->options;
	snprintf(b->record.name, sizeof b->record.name, "%s", o->name ? o->name : "");
	o->name = NULL;
	b->record.recover = o->recover;
	o->block_bytes = o->block_bytes ? o->block_bytes : 512;
	o->queues = o->queues ? o->queues : 2;
	if (o->block_bytes < 512 || o->block_bytes > 4096 ||
	    (o->block_bytes & (o->block_bytes - 1)))
		return hither_fail(err, -EINVAL, "block: a block size of %u, not 512 to 4096",
		                   o->block_bytes);
	if (o->queues > BLOCK_QUEUES_MAX)
		return hither_fail(err, -EINVAL, "block: %u queues, at most %d", o->queues,
		                   BLOCK_QUEUES_MAX);
	if ((unsigned)o->kind >= HITHER_BLOCK_KINDS)
		return hither_fail(err, -EINVAL, "block: no such kind");
	return 0;
}

/* A device has whole blocks only; what is behind the last one cannot be reached. */
static int set_size(struct hither_block *b, uint64_t size, struct hither_error *err)
{
	b->size_bytes = size - size % b->options.block_bytes;
	return b->size_bytes ? 0
	                     : hither_fail(err, -EINVAL, "block: %llu bytes are less than a block",
	                                   (unsigned long long)size);
}

static int attach_number(struct hither_block *b, unsigned number, struct hither_error *err)
{
	b->record.kind = b->kind->kind;
	b->record.number = number;
	int r = block_record_take(&b->record, err);
	if (r)
		return r;
	block_device_path(b->path, &b->record);
	r = b->kind->attach(b, err);
	if (r)
		block_record_drop(&b->record);
	return r;
}

static int attach_kind(struct hither_block *b, enum hither_block_kind kind,
                       struct hither_error *err)
{
	int r = probe_one(kind, err);
	if (r)
		return r;
	b->kind = block_kind_of(kind);
	for (unsigned number = 0; number < NUMBERS_MAX; number++) {
		int free_one = b->kind->pick(number, err);
		if (free_one < 0)
			return free_one;
		number = (unsigned)free_one;
		r = attach_number(b, number, err);
		if (r != -EBUSY) /* else somebody was faster */
			return r;
	}
	return r;
}

/* Each kind's reason, so that the reader can choose which one to make possible. */
static int attach_any(struct hither_block *b, struct hither_error *err)
{
	struct hither_error all = {.code = -ENOTSUP};
	int at = snprintf(all.message, sizeof all.message, "no block device can be made");
	for (int kind = HITHER_BLOCK_AUTO + 1; kind < HITHER_BLOCK_KINDS; kind++) {
		struct hither_error one = {0};
		int r = attach_kind(b, (enum hither_block_kind)kind, &one);
		if (!r)
			return 0;
		if (at < (int)sizeof all.message)
			at += snprintf(all.message + at, sizeof all.message - (size_t)at, "; %s",
			               one.message);
		all.code = r;
	}
	if (err)
		*err = all;
	return all.code;
}

struct recovery {
	struct hither_block *b;
	const char *name;
	struct hither_error *err;
	bool found;
	int result;
};

static int recover_one(void *user, struct block_record *r, bool alive, bool *drop)
{
	struct recovery *v = user;
	const struct block_kind *kind = block_kind_of(r->kind);
	if (alive || !r->recover || !kind->recover || strcmp(r->name, v->name))
		return 0;
	v->b->kind = kind;
	v->b->record = *r;
	block_device_path(v->b->path, r);
	v->result = kind->recover(v->b, v->err);
	if (v->result == -ENODEV) { /* it has gone; its record is cleaned up later */
		v->b->record.fd = -1;
		return 0;
	}
	v->found = true;
	r->fd = -1;
	if (!v->result)
		v->result = block_record_take(&v->b->record, v->err); /* the pid is ours now */
	return 1;
}

static struct hither_block *create(const struct hither_block_options *options,
                                   struct hither_error *err)
{
	struct hither_block *b = calloc(1, sizeof *b);
	if (!b) {
		hither_fail(err, -ENOMEM, "block: no memory");
		return NULL;
	}
	b->record.fd = -1;
	for (size_t i = 0; i < BLOCK_QUEUES_MAX; i++)
		b->sockets[i] = -1;
	if (check_options(b, options, err)) {
		free(b);
		return NULL;
	}
	return b;
}

static void finish(struct hither_block *b)
{
	for (size_t i = 0; i < BLOCK_QUEUES_MAX; i++)
		if (b->sockets[i] >= 0)
			close(b->sockets[i]);
	block_record_drop(&b->record);
	free(b);
}

static int attach(struct hither_block *b, struct hither_error *err)
{
	struct recovery recovery = {.b = b, .name = b->record.name, .err = err};
	char name[BLOCK_NAME_BYTES];
	snprintf(name, sizeof name, "%s", b->record.name);
	recovery.name = name;
	if (b->options.recover)
		block_record_each(recover_one, &recovery);
	hither_block_cleanup(false, NULL, NULL); /* what is in use stays */
	if (recovery.found)
		return recovery.result;
	snprintf(b->record.name, sizeof b->record.name, "%s", name);
	return b->options.kind == HITHER_BLOCK_AUTO ? attach_any(b, err)
	                                            : attach_kind(b, b->options.kind, err);
}

int hither_block_attach(struct hither_mount *mount, const struct hither_block_options *options,
                        struct hither_block **out, struct hither_error *err)
{
	struct hither_error own = {0};
	err = err ? err : &own;
	struct hither_block *b = create(options, err);
	if (!b)
		return err->code;
	b->mount = mount;
	b->options.read_only |= !hither_mount_writable(mount);
	int r = set_size(b, hither_mount_size(mount), err);
	if (!r)
		r = attach(b, err);
	if (r) {
		finish(b);
		return r;
	}
	*out = b;
	return 0;
}

int hither_block_attach_remote(const char *url, const struct hither_block_options *options,
                               struct hither_block **out, struct hither_error *err)
{
	struct hither_error own = {0};
	err = err ? err : &own;
	struct hither_block *b = create(options, err);
	if (!b)
		return err->code;
	hither_block_cleanup(false, NULL, NULL);
	int r = b->options.kind == HITHER_BLOCK_AUTO || b->options.kind == HITHER_BLOCK_NBD
	                ? probe_one(HITHER_BLOCK_NBD, err)
	                : hither_fail(err, -EINVAL, "block: %s cannot talk to a server by itself",
	                              hither_block_kind_name(b->options.kind));
	if (!r)
		r = block_remote_connect(b, url, err);
	if (!r)
		r = set_size(b, b->size_bytes, err);
	if (!r)
		r = attach_kind(b, HITHER_BLOCK_NBD, err);
	if (r) {
		finish(b);
		return r;
	}
	*out = b;
	return 0;
}

/* --- what it is --- */

const char *hither_block_path(const struct hither_block *b)
{
	return b->path;
}

enum hither_block_kind hither_block_kind(const struct hither_block *b)
{
	return b->kind->kind;
}

uint64_t hither_block_size(const struct hither_block *b)
{
	return b->size_bytes;
}

int hither_block_flush(struct hither_block *b, struct hither_error *err)
{
	int r = block_device_sync(b->path);
	if (r)
		return hither_fail(err, r, "flush %s: %s", b->path, strerror(-r));
	return b->mount && hither_mount_writable(b->mount) ? hither_mount_flush(b->mount, err) : 0;
}

int hither_block_detach(struct hither_block *b, bool force, struct hither_error *err)
{
	if (!b)
		return 0;
	int claim = block_device_claim(b->path), r = 0;
	if (claim == -EBUSY && !force)
		return hither_fail(err, -EBUSY, "%s is in use: unmount it (or swapoff) first",
		                   b->path);
	if (claim >= 0) {
		r = fsync(claim) ? -EIO : 0;
		close(claim);
	}
	if (r)
		hither_fail(err, r, "%s: not all that was written to it could be taken", b->path);
	b->kind->detach(b);
	finish(b);
	return r;
}

/* --- those of others --- */

struct walk {
	int (*each)(void *user, const struct hither_block_entry *entry);
	void *user;
};

static int show(void *user, struct block_record *r, bool alive, bool *drop)
{
	const struct walk *w = user;
	char path[BLOCK_PATH_BYTES];
	block_device_path(path, r);
	return w->each(w->user, &(struct hither_block_entry){.path = path,
	                                                     .name = r->name,
	                                                     .kind = r->kind,
	                                                     .pid = r->pid,
	                                                     .alive = alive});
}

int hither_block_each(int (*each)(void *user, const struct hither_block_entry *entry), void *user)
{
	struct walk w = {each, user};
	return block_record_each(show, &w);
}

struct cleaning {
	bool all;
	unsigned count;
	struct hither_error err;
};

static int clean(void *user, struct block_record *r, bool alive, bool *drop)
{
	struct cleaning *c = user;
	struct hither_error err = {0};
	if (alive || (r->recover && !c->all))
		return 0;
	if (block_kind_of(r->kind)->cleanup(r, &err)) {
		c->err = c->err.code ? c->err : err;
		return 0;
	}
	*drop = true;
	c->count++;
	return 0;
}

int hither_block_cleanup(bool all, unsigned *count, struct hither_error *err)
{
	struct cleaning c = {.all = all};
	block_record_each(clean, &c);
	if (count)
		*count = c.count;
	if (c.err.code && err)
		*err = c.err;
	return c.err.code;
}
