/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which order knows this format? The first bytes tell, and they may still be far away when a mount
 * begins: the auto order asks for them, then becomes what they say.
 */
#include "order/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct hither_order_format *const hither_order_formats[] = {
        &hither_order_sqlite,
        &hither_order_media,
        &hither_order_elf,
        NULL,
};

static const struct hither_order_format *find(const char *name)
{
	for (size_t i = 0; hither_order_formats[i]; i++) {
		if (!strcmp(hither_order_formats[i]->name, name))
			return hither_order_formats[i];
	}
	return NULL;
}

int hither_order_check_name(const char *name, struct hither_error *err)
{
	if (!name || !strcmp(name, "auto") || !strcmp(name, "readahead") || !strcmp(name, "none") ||
	    find(name))
		return 0;
	char known[256] = "auto, readahead, none";
	for (size_t i = 0; hither_order_formats[i]; i++) {
		size_t used = strlen(known);
		snprintf(known + used, sizeof known - used, ", %s", hither_order_formats[i]->name);
	}
	return hither_fail(err, -EINVAL, "order %s: is none of %s", name, known);
}

struct auto_order {
	struct hither_order base;
	const struct hither_order_view *view;
	struct hither_order *found; /* NULL: not known yet, or no format of ours */
	bool asked;                 /* for the head */
	bool settled;
};

static size_t head_bytes(const struct auto_order *a)
{
	uint64_t size = a->view->size_bytes;
	return size < HITHER_ORDER_HEAD_BYTES ? (size_t)size : HITHER_ORDER_HEAD_BYTES;
}

static void settle(struct auto_order *a)
{
	uint8_t head[HITHER_ORDER_HEAD_BYTES];
	size_t len = head_bytes(a);
	if (a->settled || a->view->peek(a->view, head, len, 0))
		return;
	a->settled = true;
	for (size_t i = 0; hither_order_formats[i]; i++) {
		const struct hither_order_format *f = hither_order_formats[i];
		struct hither_error ignored = {0}; /* without it the mount works, only slower */
		if (!f->recognise(head, len, a->view->size_bytes))
			continue;
		if (f->create(a->view, &a->found, &ignored))
			a->found = NULL;
		return;
	}
}

static bool auto_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	struct auto_order *a = (struct auto_order *)o;
	settle(a);
	if (a->found)
		return a->found->ops->next && a->found->ops->next(a->found, window_bytes, out);
	if (a->settled || a->asked || head_bytes(a) == 0)
		return false;
	a->asked = true;
	*out = (struct hither_range){.len = head_bytes(a)};
	return true;
}

static void auto_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct auto_order *a = (struct auto_order *)o;
	settle(a);
	if (a->found && a->found->ops->saw)
		a->found->ops->saw(a->found, offset, len, waited);
}

static bool auto_knows(struct hither_order *o, uint64_t offset, uint64_t len)
{
	struct auto_order *a = (struct auto_order *)o;
	return a->found && a->found->ops->knows && a->found->ops->knows(a->found, offset, len);
}

static void auto_arrived(struct hither_order *o, uint64_t offset, uint64_t len)
{
	struct auto_order *a = (struct auto_order *)o;
	settle(a);
	if (a->found && a->found->ops->arrived)
		a->found->ops->arrived(a->found, offset, len);
}

static void auto_destroy(struct hither_order *o)
{
	struct auto_order *a = (struct auto_order *)o;
	hither_order_destroy(a->found);
	free(a);
}

static const struct hither_order_ops auto_ops = {
        .name = "auto",
        .next = auto_next,
        .saw = auto_saw,
        .knows = auto_knows,
        .arrived = auto_arrived,
        .destroy = auto_destroy,
};

static int make_auto(const struct hither_order_view *view, struct hither_order **out,
                     struct hither_error *err)
{
	struct auto_order *a = calloc(1, sizeof *a);
	if (!a)
		return hither_fail(err, -ENOMEM, "order auto: no memory");
	a->base.ops = &auto_ops;
	a->view = view;
	*out = &a->base;
	return 0;
}

int hither_order_format(const struct hither_order_view *view, const char *name,
                        struct hither_order **out, struct hither_error *err)
{
	const struct hither_order_format *f = name ? find(name) : NULL;
	if (!name || !strcmp(name, "auto"))
		return make_auto(view, out, err);
	return f ? f->create(view, out, err) : hither_order_check_name(name, err);
}
