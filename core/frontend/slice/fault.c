/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults. What is present is mapped at once, and as much around it as pays; what comes from nearby
 * is pulled by who answers; for the rest a read waits in the mount, and whoever brings the bytes
 * maps them, which lets the program go on.
 */
#include "slice_internal.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { PASSED_BLOCKS = 2048 }; /* 8 MiB */

void slice_fault_range(struct hither_slice *s, uint64_t block, uint64_t *first, uint64_t *end)
{
	uint64_t in_mount = s->mount_first + block;
	uint64_t begin = in_mount - in_mount % s->chunk_blocks, blocks = s->chunk_blocks;
	*first = begin > s->mount_first ? begin - s->mount_first : 0;
	/* Somebody who goes on where the last fault's range ended will go on: twice as much. */
	if (block >= s->stream_next && block < s->stream_next + blocks) {
		uint64_t twice = s->stream_blocks * 2;
		if (twice > SLICE_WINDOW_BLOCKS)
			twice = SLICE_WINDOW_BLOCKS;
		if (twice > blocks)
			blocks = twice;
	}
	*end = begin + blocks - s->mount_first;
	if (*end > s->block_count)
		*end = s->block_count;
	s->stream_next = *end;
	s->stream_blocks = blocks;
}

void slice_fail(struct hither_slice *s, uint64_t first, uint64_t end,
                const struct hither_error *err)
{
	uint64_t run;
	slice_trouble(s, err->code, err->message);
	if (s->remote && !(s->uffd.features & UFFD_FEATURE_POISON)) {
		/* Single pages can only be taken away over there: all are, once this is shut. */
		s->failed_count += end - first;
		shutdown(s->peer_fd, SHUT_RDWR);
		return;
	}
	pthread_rwlock_rdlock(&s->mapping);
	for (uint64_t at = first; (run = slice_run(s, at, end, false, &at)) > 0; at += run) {
		s->failed_count += run;
		uffd_fail_pages(&s->uffd, slice_addr(s, at), run << SLICE_BLOCK_SHIFT);
	}
	pthread_rwlock_unlock(&s->mapping);
}

/* --- waiting in the mount --- */

static void submit_wait(struct slice_wait *w, void (*asked)(void *slice));

static void add_wait_locked(struct hither_slice *s, struct slice_wait *w)
{
	w->next = s->waits;
	s->waits = w;
}

static void remove_wait(struct hither_slice *s, struct slice_wait *w)
{
	HITHER_LOCK_SCOPE(&s->lock);
	struct slice_wait **at = &s->waits;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
}

static void end_wait(struct hither_slice *s, struct slice_wait *w)
{
	slice_waited(s, hither_now_ns() - w->start_ns);
	free(w);
	HITHER_LOCK_SCOPE(&s->lock);
	if (!--s->wait_count)
		pthread_cond_broadcast(&s->idle);
}

static void wait_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct slice_wait *w = (struct slice_wait *)io;
	struct hither_slice *s = w->slice;
	struct hither_error own = {0};
	uint64_t at;
	/* First: what is mapped now may leave at once, and who comes for it then must not take this
	 * wait for one that brings it again. */
	remove_wait(s, w);
	if (!result) {
		result = slice_map_present(s, w->first, w->end);
		if (result)
			hither_fail(&own, result, "mapping pages: %s", strerror(-result)),
			        err = &own;
	}
	if (result)
		slice_fail(s, w->first, w->end, err);
	else if (slice_run(s, w->first, w->end, false, &at) > 0) {
		pthread_mutex_lock(&s->lock);
		add_wait_locked(s, w);
		pthread_mutex_unlock(&s->lock);
		submit_wait(w, NULL); /* something left the store before it could be mapped */
		return;
	}
	end_wait(s, w);
}

static void submit_wait(struct slice_wait *w, void (*asked)(void *slice))
{
	struct hither_slice *s = w->slice;
	uint64_t offset = (s->mount_first + w->first) << SLICE_BLOCK_SHIFT;
	uint64_t len = (w->end - w->first) << SLICE_BLOCK_SHIFT,
	         left = hither_mount_size(s->mount) - offset, bring = s->mount_first + w->bring;
	w->io = (struct hither_io){.op = HITHER_IO_READ,
	                           .offset = offset,
	                           .len = len < left ? len : left,
	                           .done = wait_done};
	if (asked) /* it may be over, and w gone, when this returns */
		mount_memory_read_here(s->mount, &w->io, bring, asked, s);
	else
		hither_mount_submit(s->mount, &w->io);
}

static void chunk_of(const struct hither_slice *s, uint64_t block, uint64_t *first, uint64_t *end)
{
	uint64_t in_mount = s->mount_first + block;
	uint64_t begin = in_mount - in_mount % s->chunk_blocks,
	         stop = begin + s->chunk_blocks - s->mount_first;
	*first = begin > s->mount_first ? begin - s->mount_first : 0;
	*end = stop < s->block_count ? stop : s->block_count;
}

/* What a fault at `block` waits for, and what is to come with it. */
static struct slice_wait what_to_wait_for(struct hither_slice *s, uint64_t block, bool here)
{
	struct slice_wait w = {.slice = s, .start_ns = hither_now_ns()};
	chunk_of(s, block, &w.first, &w.end);
	w.bring = w.end;
	if (!s->follow)
		return w;
	bool near = slice_near_waits(s, block);
	w.first = block;
	if (here || !near)
		w.end = block + 1;
	if (!near)
		w.bring = w.end;
	return w;
}

/* Nobody is to be waited for here. */
static void not_here(struct hither_slice *s, void (*asked)(void *slice))
{
	if (asked)
		asked(s);
}

void slice_wait_for(struct hither_slice *s, uint64_t block, void (*asked)(void *slice))
{
	struct slice_wait *w = malloc(sizeof *w);
	bool known = false;
	if (!w) {
		struct hither_error err = {0};
		hither_fail(&err, -ENOMEM, "no memory to wait for a page");
		slice_fail(s, block, block + 1, &err);
		not_here(s, asked);
		return;
	}
	*w = what_to_wait_for(s, block, asked != NULL);
	pthread_mutex_lock(&s->lock);
	for (const struct slice_wait *o = s->waits; o && !known; o = o->next)
		known = o->first <= w->first && w->end <= o->end;
	if (!known) {
		add_wait_locked(s, w);
		s->wait_count++;
	}
	pthread_mutex_unlock(&s->lock);
	if (known) {
		free(w);
		not_here(s, asked);
		return;
	}
	s->fault_waits++;
	submit_wait(w, asked);
}

void slice_waits_finish(struct hither_slice *s)
{
	HITHER_LOCK_SCOPE(&s->lock);
	while (s->wait_count)
		pthread_cond_wait(&s->idle, &s->lock);
}

/* --- answering --- */

/* A page is about to be written. */
static void allow_write(struct hither_slice *s, uint64_t block)
{
	s->write_faults++;
	/* Told before it is allowed, and no push may arm this page again in between. */
	pthread_rwlock_rdlock(&s->mapping);
	if (slice_is_mapped(s, block)) {
		slice_written(s, block, block + 1);
		uffd_protect(&s->uffd, slice_addr(s, block), SLICE_BLOCK_BYTES, false);
	} else { /* it has left the store meanwhile, and nothing can be told of it */
		uffd_wake(&s->uffd, slice_addr(s, block), SLICE_BLOCK_BYTES);
	}
	pthread_rwlock_unlock(&s->mapping);
}

/*
 * Its bit says that it is mapped. Mostly that is so by now; but the kernel takes pages out when it
 * swaps, or a program does by madvise(2). What was not written stays so.
 */
static void map_again(struct hither_slice *s, uint64_t block)
{
	struct mount_memory_pin pin;
	uint64_t mount_block = s->mount_first + block;
	if (mount_memory_pin(s->mount, &pin, mount_block, mount_block + 1)) {
		pthread_rwlock_rdlock(&s->mapping);
		/* Not if it has been unmapped meanwhile: its writes would not be seen. */
		if (slice_is_mapped(s, block))
			uffd_continue_page(&s->uffd, slice_addr(s, block),
			                   s->tracker->protected &&
			                           s->tracker->protected(s, block));
		pthread_rwlock_unlock(&s->mapping);
		mount_memory_unpin(s->mount, &pin);
	}
	uffd_wake(&s->uffd, slice_addr(s, block), SLICE_BLOCK_BYTES);
}

/*
 * Who reads on faults only where it overtakes what is pulled ahead: a chunk in each piece, which
 * would look like a stride, and every guess be but a chunk.
 */
static void tell_passed(struct hither_slice *s, uint64_t block)
{
	uint64_t from = s->stream_next, at;
	if (block > from && block - from <= PASSED_BLOCKS && !slice_run(s, from, block, false, &at))
		mount_memory_passed(s->mount, s->mount_first + from, s->mount_first + block);
}

/* Map a fault's range as far as it can be had here and now. */
static int map_near(struct hither_slice *s, uint64_t block)
{
	uint64_t first, end;
	tell_passed(s, block);
	slice_fault_range(s, block, &first, &end);
	uint64_t from = s->mount_first + first, to = s->mount_first + end;
	int r = slice_map_present(s, first, end);
	if (r || slice_is_mapped(s, block)) {
		/* It was here, but not mapped, so that we hear of who reads on. */
		if (!r && s->follow) {
			slice_near_found(s, block);
			mount_memory_saw(s->mount, from, to);
		}
		return r;
	}
	if (!mount_memory_near(s->mount, from, to))
		return 0;
	s->fault_waits++;
	mount_memory_pull_here(s->mount, from, to);
	return slice_map_present(s, first, end);
}

/*
 * Who reads on from near bytes finds the next ones mapped: each wait for another thread to wake
 * takes as long as 100 KiB do to come.
 */
static void plan_ahead(struct hither_slice *s)
{
	if (s->stream_blocks < SLICE_WINDOW_BLOCKS)
		return;
	uint64_t next = s->stream_next, end = next + SLICE_AHEAD_BLOCKS;
	s->ahead = next;
	s->ahead_end = end < s->block_count ? end : s->block_count;
}

bool slice_is_ahead(const struct hither_slice *s)
{
	return s->ahead < s->ahead_end;
}

void slice_go_ahead(struct hither_slice *s)
{
	uint64_t first = s->ahead, end = first + SLICE_WINDOW_BLOCKS, most = s->ahead_end;
	if (end > most)
		end = most;
	if (first >= end)
		return; /* it was planned anew meanwhile */
	uint64_t from = s->mount_first + first, to = s->mount_first + end;
	s->ahead = end;
	if (mount_memory_roomy(s->mount) && mount_memory_near(s->mount, from, to) &&
	    mount_memory_pull_here(s->mount, from, to) && !slice_map_present(s, first, end))
		s->stream_next = end;
	else
		s->ahead_end = end; /* whoever comes to it will be told why */
}

bool slice_answer(struct hither_slice *s, const struct uffd_msg *msg, uint64_t *waits)
{
	uint64_t block = (msg->arg.pagefault.address - (uintptr_t)s->data) >> SLICE_BLOCK_SHIFT;
	if (block >= s->block_count)
		return true; /* a remote one's other memory */
	s->fault_count++;
	*waits = block;
	if (msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
		allow_write(s, block);
	} else if (slice_is_mapped(s, block)) {
		map_again(s, block);
	} else {
		int r = map_near(s, block);
		if (!r && !slice_is_mapped(s, block))
			return false;
		uint64_t first, end;
		chunk_of(s, block, &first, &end);
		if (r) {
			struct hither_error err = {0};
			hither_fail(&err, r, "mapping pages: %s", strerror(-r));
			slice_fail(s, first, end, &err);
		} else {
			/* It may have been mapped before this fault was waited for. */
			uffd_wake(&s->uffd, slice_addr(s, block), SLICE_BLOCK_BYTES);
			plan_ahead(s);
		}
	}
	return true;
}

int slice_pull(struct hither_slice *s, uint64_t first, uint64_t end, struct hither_error *err)
{
	uint64_t offset = (s->mount_first + first) << SLICE_BLOCK_SHIFT;
	uint64_t len = (end - first) << SLICE_BLOCK_SHIFT,
	         left = hither_mount_size(s->mount) - offset;
	return hither_mount_read_at(s->mount, NULL, len < left ? len : left, offset, err);
}

int slice_fault_here(struct hither_slice *s, uint64_t block, bool write, struct hither_error *err)
{
	s->fault_count++;
	if (slice_is_mapped(s, block)) {
		if (write && s->tracker->kind == HITHER_SLICE_TRACK_FAULT)
			allow_write(s, block);
		else
			map_again(s, block);
		return 0;
	}
	for (;;) {
		uint64_t first, end;
		int r = map_near(s, block);
		if (r)
			return hither_fail(err, r, "mapping pages: %s", strerror(-r));
		if (slice_is_mapped(s, block))
			return 0;
		chunk_of(s, block, &first, &end);
		r = slice_pull(s, first, end, err);
		if (r)
			return r;
	}
}
