/* SPDX-License-Identifier: Apache-2.0 */
#include "order/piece.h"

void hither_order_destroy(struct hither_order *o)
{
	if (o)
		o->ops->destroy(o);
}

bool hither_order_clip(struct hither_range *range, uint64_t size_bytes)
{
	if (range->len == 0 || range->offset >= size_bytes)
		return false;
	if (range->len > size_bytes - range->offset)
		range->len = size_bytes - range->offset;
	return true;
}

bool hither_order_cut(struct hither_range *rest, uint64_t window_bytes, struct hither_range *out)
{
	if (rest->len == 0)
		return false;
	uint64_t most =
	        window_bytes > HITHER_ORDER_PIECE_BYTES ? window_bytes : HITHER_ORDER_PIECE_BYTES;
	uint64_t len = rest->len;
	if (len > most) {
		uint64_t end = (rest->offset + most) & ~(HITHER_ORDER_PIECE_BYTES - 1);
		len = end - rest->offset;
	}
	*out = (struct hither_range){rest->offset, len};
	rest->offset += len;
	rest->len -= len;
	return true;
}
