/* SPDX-License-Identifier: Apache-2.0 */
/* What of an ELF file the kernel and the dynamic loader read before its program runs. */
#ifndef HITHER_ORDER_ELF_LOOK_H
#define HITHER_ORDER_ELF_LOOK_H

#include <hither/order.h>

enum {
	ELF_HEAD_BYTES = 64, /* of the larger of the two classes */
	ELF_RANGES = 40,
};

struct elf_look {
	struct hither_range
	        ranges[ELF_RANGES]; /* of the mount, in the order in which they are wanted */
	unsigned count;
};

/*
 * Look at the file whose first byte is the mount's byte `base`. What is not local yet is wanted,
 * too, and ends the look: -EAGAIN; looking again when that has come gives the same ranges, and
 * more. 0: these are all. -EINVAL: not an ELF file that is run, or one that makes no sense. Any
 * bytes at all are survived.
 */
int elf_look(const struct hither_order_view *view, uint64_t base, struct elf_look *out);

#endif
