/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HITHER_ORDER_RECORD_H
#define HITHER_ORDER_RECORD_H

#include <hither/order.h>

/*
 * o, of hither_order_record(), is told that who wanted these bytes waited long for them (times of
 * hither_now_ns()). That is a comment in its profile, for people and benchmarks:
 * "# stalled OFFSET LENGTH FROM UNTIL", in ms since the start. Called like saw().
 */
void hither_order_record_stall(struct hither_order *o, uint64_t offset, uint64_t len,
                               uint64_t from_ns, uint64_t until_ns);

#endif
