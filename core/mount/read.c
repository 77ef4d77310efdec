/* SPDX-License-Identifier: Apache-2.0 */
/* Reads: answered at once when local; else parked, and answered by whoever brings the last block.
 */
#include "base/cleanup.h"
#include "mount/managed.h"

#include <errno.h>
#include <string.h>

/* The blocks a write changes only in part: they are needed before it. A read needs all of its. */
static bool needs_block(const struct managed *m, const struct hither_io *io, uint64_t block)
{
	if (io->op == HITHER_IO_READ)
		return true;
	uint64_t from = block << HITHER_BLOCK_SHIFT, to = from + managed_bytes(m, block, block + 1);
	return io->offset > from || io->offset + io->len < to;
}

bool managed_io_missing_locked(const struct managed *m, const struct hither_io *io, uint64_t from,
                               uint64_t *first, uint64_t *end)
{
	uint64_t last = managed_end(io), at = managed_first(io);
	if (from > at)
		at = from;
	while (at < last) {
		uint64_t run = hither_block_map_run(m->map, at, last, last - at,
		                                    HITHER_BLOCKS_ABSENT, first);
		if (!run)
			return false;
		*end = *first + run;
		if (io->op == HITHER_IO_READ)
			return true;
		/* Of a write's blocks only its two ends can be needed. */
		if (needs_block(m, io, *first)) {
			*end = *first + 1;
			return true;
		}
		if (*end == last && needs_block(m, io, last - 1)) {
			*first = last - 1;
			return true;
		}
		at = *end;
	}
	return false;
}

void managed_park_locked(struct managed *m, struct hither_io *io)
{
	if (!io->waited && io->op == HITHER_IO_READ)
		m->stats.reads_waited++;
	io->waited = true;
	bool first = !m->waiting.head;
	managed_ios_append(&m->waiting, io);
	if (first)
		pthread_cond_signal(&m->timer); /* its deadline may be the next event */
	managed_wake_locked(m);
}

void managed_collect_ready_locked(struct managed *m, uint64_t first, uint64_t end,
                                  struct managed_ios *ready)
{
	struct hither_io **at = &m->waiting.head;
	while (*at) {
		struct hither_io *io = *at;
		uint64_t f, e;
		if (!managed_overlap(managed_first(io), managed_end(io), first, end) ||
		    managed_io_missing_locked(m, io, 0, &f, &e)) {
			at = &io->next;
			continue;
		}
		managed_ios_remove(&m->waiting, at);
		uint64_t waited_ns = m->now() - io->submitted_ns;
		m->stats.wait_ns += waited_ns;
		m->stats.reads_stalled += waited_ns > MOUNT_STALLED_NS;
		managed_ios_append(ready, io);
	}
}

/* Why reading cannot go on at all; 0: it can. */
static int refuse_locked(struct managed *m, struct hither_error *err)
{
	if (m->cancelled)
		return hither_fail(err, -ECANCELED, "%s: cancelled", m->name);
	if (m->stale) /* rule 8: never serve one version's bytes beside another's */
		return hither_fail(err, m->stale, "%s", m->trouble.message);
	return 0;
}

/* True: io was answered or parked. False: blocks left the store meanwhile, look again. */
static bool try_read(struct managed *m, struct hither_io *io, bool again)
{
	struct hither_error err = {0};
	pthread_mutex_lock(&m->lock);
	int r = refuse_locked(m, &err);
	uint64_t offset = io->offset, len = io->len; /* a parked io may end as soon as we let go */
	uint64_t first = managed_first(io), end = managed_end(io);
	bool here = hither_block_map_all(m->map, first, end - first, HITHER_BLOCKS_PRESENT);
	if (!r && !here && !m->base.backend)
		r = hither_fail(&err, -ENODATA, "%s: offline, and offset %llu is not in the cache",
		                m->name, (unsigned long long)io->offset);
	bool seen = !r && !again, parks = !r && !here;
	if (seen) {
		m->stats.reads++;
		io->jumped = parks && managed_jumped_locked(m, io);
		managed_saw_locked(m, io, !here);
	}
	if (parks)
		managed_park_locked(m, io);
	else
		managed_used_locked(m, first, end);
	uint64_t evictions = m->evictions;
	pthread_mutex_unlock(&m->lock);
	if (seen)
		managed_record(m, offset, len, !here);
	if (parks)
		return true;
	if (!r && io->buf)
		r = hither_store_read(m->store, io->buf, io->len, io->offset);
	if (!r && m->evictions != evictions)
		return false;
	if (r && !err.code)
		hither_fail(&err, r, "%s: reading the local store %s: %s", m->name,
		            hither_store_path(m->store), strerror(-r));
	managed_answer(io, r, &err);
	return true;
}

void managed_read(struct managed *m, struct hither_io *io)
{
	for (bool again = false; !try_read(m, io, again); again = true)
		;
}

void managed_resume(struct managed *m, struct managed_ios *ready)
{
	while (ready->head) {
		struct hither_io *io = ready->head;
		managed_ios_remove(ready, &ready->head);
		if (io->op == HITHER_IO_WRITE) {
			managed_write(m, io);
			continue;
		}
		managed_record_stall(m, io);
		while (!try_read(m, io, true))
			;
	}
}
