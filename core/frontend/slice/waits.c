/* SPDX-License-Identifier: Apache-2.0 */
/* How long faults wait: a histogram whose steps grow with the time, each an eighth of a doubling.
 */
#include "slice_internal.h"

static unsigned step_of(uint64_t ns)
{
	if (ns < SLICE_WAIT_STEPS)
		return (unsigned)ns;
	unsigned log = 63 - (unsigned)__builtin_clzll(ns);
	return log * SLICE_WAIT_STEPS + (unsigned)(ns >> (log - 3) & (SLICE_WAIT_STEPS - 1));
}

/* The least time that is not of this step any more. */
static uint64_t end_of(unsigned step)
{
	unsigned log = step / SLICE_WAIT_STEPS;
	if (log < 3)
		return step + 1;
	return ((uint64_t)SLICE_WAIT_STEPS + step % SLICE_WAIT_STEPS + 1) << (log - 3);
}

void slice_waited(struct hither_slice *s, uint64_t ns)
{
	s->waits_took[step_of(ns)]++;
}

uint64_t slice_wait_quantile(const struct hither_slice *s, uint32_t per_mille)
{
	uint64_t all = 0, seen = 0;
	for (unsigned i = 0; i < 64 * SLICE_WAIT_STEPS; i++)
		all += s->waits_took[i];
	for (unsigned i = 0; all && i < 64 * SLICE_WAIT_STEPS; i++) {
		seen += s->waits_took[i];
		if (seen * 1000 >= all * per_mille)
			return end_of(i);
	}
	return 0;
}
