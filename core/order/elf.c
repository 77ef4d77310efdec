/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs: when the first page of an ELF file is read, what else is read before it runs comes next
 * (elf_look.h). The file may begin anywhere in the mount, on a page's border: a tree, or the image
 * of a file system, has many.
 */
#include "order/elf_look.h"
#include "order/format.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOOKS = 8,  /* at files whose bytes are on their way */
	KNOWN = 64, /* places that were looked at lately */
	PAGE = 4096,
};

struct look {
	uint64_t base;
	unsigned given; /* ranges of it that were handed out */
	bool active;
};

struct elf_order {
	struct hither_order base;
	const struct hither_order_view *view;
	struct look looks[LOOKS];
	unsigned next_look;
	uint64_t known[KNOWN]; /* base + 1; 0: none */
	unsigned next_known;
};

static void look_at(struct elf_order *e, uint64_t base)
{
	for (unsigned i = 0; i < KNOWN; i++)
		if (e->known[i] == base + 1)
			return;
	e->known[e->next_known++ % KNOWN] = base + 1;
	e->looks[e->next_look++ % LOOKS] = (struct look){.base = base, .active = true};
}

static bool elf_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct elf_order *e = (struct elf_order *)o;
	struct elf_look found;
	for (unsigned i = 0; i < LOOKS; i++) {
		struct look *l = &e->looks[i];
		if (!l->active)
			continue;
		int r = elf_look(e->view, l->base, &found);
		if (r != -EINVAL && l->given < found.count) {
			*out = found.ranges[l->given++];
			return true;
		}
		l->active = r == -EAGAIN;
	}
	return false;
}

/* What begins with an ELF file's first bytes is taken for one. One that is not here yet is on its
 * way, as somebody reads it. */
static void elf_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct elf_order *e = (struct elf_order *)o;
	unsigned char magic[SELFMAG];
	if (offset % PAGE || offset >= e->view->size_bytes ||
	    e->view->size_bytes - offset < ELF_HEAD_BYTES)
		return;
	int r = e->view->peek(e->view, magic, sizeof magic, offset);
	if (r == -EAGAIN ? waited : !r && !memcmp(magic, ELFMAG, SELFMAG))
		look_at(e, offset);
}

static void elf_arrived(struct hither_order *o, uint64_t offset, uint64_t len)
{
}

static void elf_destroy(struct hither_order *o)
{
	free(o);
}

static const struct hither_order_ops elf_ops = {
        .name = "elf",
        .next = elf_next,
        .saw = elf_saw,
        .arrived = elf_arrived, /* so that it is asked again then */
        .destroy = elf_destroy,
};

static bool elf_recognise(const uint8_t *head, size_t len, uint64_t size_bytes)
{
	return len >= ELF_HEAD_BYTES && !memcmp(head, ELFMAG, SELFMAG) &&
	       (head[EI_CLASS] == ELFCLASS32 || head[EI_CLASS] == ELFCLASS64) &&
	       head[EI_VERSION] == EV_CURRENT;
}

static int elf_create(const struct hither_order_view *view, struct hither_order **out,
                      struct hither_error *err)
{
	struct elf_order *e = calloc(1, sizeof *e);
	if (!e)
		return hither_fail(err, -ENOMEM, "order elf: no memory");
	e->base.ops = &elf_ops;
	e->view = view;
	/* A file that is one: it will hardly be opened for anything else. */
	unsigned char head[ELF_HEAD_BYTES];
	if (view->size_bytes >= sizeof head && !view->peek(view, head, sizeof head, 0) &&
	    elf_recognise(head, sizeof head, view->size_bytes))
		look_at(e, 0);
	*out = &e->base;
	return 0;
}

const struct hither_order_format hither_order_elf = {
        .name = "elf", .recognise = elf_recognise, .create = elf_create};
