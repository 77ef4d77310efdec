/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reader that goes on has left behind, as the order tells: under a limit on memory that goes
 * before anything else. Who goes over more than there is room for, again and again, comes back to
 * it last of all; so what is here when he comes round stays until he has passed it, and half of
 * twice the memory is found here, where any chunk that goes leaves him a fifth and the oldest first
 * nothing. Who goes on once does not push out what others need.
 */
#include "mount/managed.h"

#include <string.h>

static void forget_first_locked(struct managed *m)
{
	m->left_blocks -= m->left[0].end - m->left[0].first;
	memmove(m->left, m->left + 1, --m->left_count * sizeof *m->left);
}

void managed_left_locked(struct managed *m, struct hither_range range)
{
	struct managed_left new = {.first = range.offset >> HITHER_BLOCK_SHIFT,
	                           .end = (range.offset + range.len) >> HITHER_BLOCK_SHIFT};
	struct managed_left *last = m->left_count ? &m->left[m->left_count - 1] : NULL;
	if (!m->resident_blocks || new.first >= new.end)
		return;
	if (last && last->end == new.first) {
		last->end = new.end;
	} else {
		if (m->left_count == MANAGED_LEFT)
			forget_first_locked(m);
		m->left[m->left_count++] = new;
	}
	m->left_blocks += new.end - new.first;
	/* Some of it may be in use again by now, which nobody tells of memory: only the latest. */
	while (m->left_blocks > m->resident_blocks / 8) {
		uint64_t over = m->left_blocks - m->resident_blocks / 8;
		if (m->left[0].end - m->left[0].first <= over) {
			forget_first_locked(m);
			continue;
		}
		m->left[0].first += over;
		m->left_blocks -= over;
	}
}

bool managed_take_left_locked(struct managed *m, uint64_t want, uint64_t *first, uint64_t *end)
{
	uint64_t chunk = m->chunk_blocks;
	*first = *end = 0;
	while (m->left_count && *end - *first < want) {
		struct managed_left *l = &m->left[0];
		uint64_t at = (l->first + chunk - 1) / chunk * chunk, stop = at + chunk;
		if (stop > l->end) {
			/* The rest of a chunk that is being passed waits for what follows it. */
			if (m->left_count == 1 && *end == *first)
				return false;
			if (m->left_count == 1)
				break;
			forget_first_locked(m);
			continue;
		}
		bool goes = managed_droppable_locked(m, at, stop);
		if (*end > *first && (!goes || at != *end))
			break;
		m->left_blocks -= stop - l->first;
		l->first = stop;
		if (!goes)
			continue;
		if (*end == *first)
			*first = at;
		*end = stop;
	}
	return *end > *first;
}
