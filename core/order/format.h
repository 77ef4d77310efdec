/* SPDX-License-Identifier: Apache-2.0 */
/* Orders that know a format: what one is, and the list of them. Each is one file that ends with its
 * struct hither_order_format, and one line in format.c. */
#ifndef HITHER_ORDER_FORMAT_H
#define HITHER_ORDER_FORMAT_H

#include <hither/order.h>

enum { HITHER_ORDER_HEAD_BYTES = 4096 };

struct hither_order_format {
	const char *name; /* as in `--order NAME` */
	/*
	 * Is this such a resource? head: its first len bytes, HITHER_ORDER_HEAD_BYTES or all that
	 * it has. Takes no more than a glance; must not be fooled into a wrong answer by chance.
	 */
	bool (*recognise)(const uint8_t *head, size_t len, uint64_t size_bytes);
	/*
	 * Make the order. The head may not be local yet (the order asks for it then), and the
	 * resource may be of another format when the user named this one: then it suggests nothing.
	 */
	int (*create)(const struct hither_order_view *view, struct hither_order **out,
	              struct hither_error *err);
};

extern const struct hither_order_format hither_order_sqlite;
extern const struct hither_order_format hither_order_media;
extern const struct hither_order_format hither_order_elf;

/** All of them, ended by NULL. */
extern const struct hither_order_format *const hither_order_formats[];

/**
 * The order of the format of this name; NULL or "auto": of the one that the first bytes show once
 * they are local (it asks for these first). -EINVAL: no such format.
 */
int hither_order_format(const struct hither_order_view *view, const char *name,
                        struct hither_order **out, struct hither_error *err);

#endif
