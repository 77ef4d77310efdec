/* SPDX-License-Identifier: Apache-2.0 */
/* What the orders share: ranges that are clipped to a mount's size and handed out in limited
 * pieces. */
#ifndef HITHER_ORDER_PIECE_H
#define HITHER_ORDER_PIECE_H

#include <hither/order.h>
#include <stdbool.h>
#include <stdint.h>

#define HITHER_ORDER_PIECE_BYTES (UINT64_C(1) << 20)

/* Cut *range where the mount ends. False: nothing of it lies inside. Takes any values. */
bool hither_order_clip(struct hither_range *range, uint64_t size_bytes);

/*
 * Move the front of *rest to *out: at most window_bytes (at least 1 MiB), ending on a multiple of 1
 * MiB where it does not end with *rest, so that no chunk is asked for in two pieces. False: *rest
 * is empty. Pieces are limited so that the orders before this one are soon asked again.
 */
bool hither_order_cut(struct hither_range *rest, uint64_t window_bytes, struct hither_range *out);

#endif
