/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is what lies beside a page worth bringing with it? Where faults come back to a chunk that they
 * came to lately it is, and saves a round trip each; where they jump about it would only push out
 * other pages, and stand in front of the next one on the line. What comes beside a page is not
 * mapped: so a program that goes on to it is seen.
 */
#include "slice_internal.h"

#include "base/cleanup.h"

enum {
	FULL = 256,
	WORTH = FULL / 4, /* one fault of four comes back */
};

static bool is_recent_locked(const struct hither_slice *s, uint64_t chunk)
{
	for (unsigned i = 0; i < SLICE_RECENT; i++)
		if (s->recent[i] == chunk + 1)
			return true;
	return false;
}

/* A mean in which what is eight faults ago counts a third. */
static void note_locked(struct hither_slice *s, bool back)
{
	s->coming_back = s->coming_back * 7 / 8 + (back ? FULL / 8 : 0);
}

void slice_near_init(struct hither_slice *s)
{
	s->coming_back = FULL;
}

bool slice_near_waits(struct hither_slice *s, uint64_t block)
{
	uint64_t chunk = (s->mount_first + block) / s->chunk_blocks;
	HITHER_LOCK_SCOPE(&s->lock);
	bool back = is_recent_locked(s, chunk);
	note_locked(s, back);
	if (!back)
		s->recent[s->recent_next++ % SLICE_RECENT] = chunk + 1;
	return back || s->coming_back >= WORTH;
}

void slice_near_found(struct hither_slice *s, uint64_t block)
{
	uint64_t chunk = (s->mount_first + block) / s->chunk_blocks;
	HITHER_LOCK_SCOPE(&s->lock);
	if (is_recent_locked(s, chunk))
		note_locked(s, true);
}
