/* SPDX-License-Identifier: Apache-2.0 */
#include "lease.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

/* Locks of open file descriptions: not lost when another part of the process closes the file. */
static int change_lock(const struct lease *l, short type, uint64_t offset, uint64_t len)
{
	struct flock f = {.l_type = type,
	                  .l_whence = SEEK_SET,
	                  .l_start = (off_t)offset,
	                  .l_len = (off_t)len};
	return fcntl(l->fd, F_OFD_SETLK, &f) ? -errno : 0;
}

/* What others have of the range: some part of it. False: nothing. */
static bool find_other(const struct lease *l, uint64_t from, uint64_t end, struct lease_area *out)
{
	struct flock f = {.l_type = F_WRLCK,
	                  .l_whence = SEEK_SET,
	                  .l_start = (off_t)from,
	                  .l_len = (off_t)(end - from)};
	if (fcntl(l->fd, F_OFD_GETLK, &f) || f.l_type == F_UNLCK)
		return false;
	out->offset = (uint64_t)f.l_start;
	out->len = f.l_len ? (uint64_t)f.l_len : end - out->offset;
	return true;
}

void lease_init(struct lease *l, int fd, uint64_t size_bytes)
{
	*l = (struct lease){.fd = fd, .size_bytes = size_bytes / LEASE_GRAIN * LEASE_GRAIN};
}

void lease_finish(struct lease *l)
{
	for (size_t i = 0; i < l->count; i++)
		change_lock(l, F_UNLCK, l->areas[i].offset, l->areas[i].len);
	free(l->areas);
	*l = (struct lease){.fd = -1};
}

/* The first area that ends behind offset. */
static size_t find(const struct lease *l, uint64_t offset)
{
	size_t low = 0, high = l->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (l->areas[middle].offset + l->areas[middle].len > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static int insert(struct lease *l, size_t at, uint64_t offset, uint64_t len)
{
	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		struct lease_area *grown = reallocarray(l->areas, room, sizeof *grown);
		if (!grown)
			return -ENOMEM;
		l->areas = grown;
		l->room = room;
	}
	memmove(l->areas + at + 1, l->areas + at, (l->count - at) * sizeof *l->areas);
	l->areas[at] = (struct lease_area){.offset = offset, .len = len};
	l->count++;
	l->taken_bytes += len;
	return 0;
}

static int lock_and_insert(struct lease *l, size_t at, uint64_t start, uint64_t wanted)
{
	uint64_t len = round_up(wanted, LEASE_GRAIN);
	int r = change_lock(l, F_WRLCK, start, len);
	if (r)
		return r;
	r = insert(l, at, start, len);
	if (r)
		change_lock(l, F_UNLCK, start, len);
	else
		l->areas[at].spare = len - round_up(wanted, PAGE);
	return r;
}

static bool is_taken(int r)
{
	return r == -EAGAIN || r == -EACCES;
}

/* Between our own areas [from, end), around the others'. */
static int take_between(struct lease *l, size_t at, uint64_t from, uint64_t end, uint64_t wanted,
                        uint64_t align, uint64_t *offset)
{
	uint64_t len = round_up(wanted, LEASE_GRAIN);
	while (end >= from && len <= end - from) {
		uint64_t start = (end - len) / align * align;
		if (start < from)
			break;
		struct lease_area other;
		int r = lock_and_insert(l, at, start, wanted);
		if (!r)
			*offset = start;
		if (!is_taken(r))
			return r;
		if (find_other(l, start, start + len, &other))
			end = other.offset;
	}
	return -ENOSPC;
}

static uint64_t area_end(const struct lease *l, size_t i)
{
	return l->areas[i].offset + l->areas[i].len;
}

/* The room in front of our area i; i may be the count. */
static void room_before(const struct lease *l, size_t i, uint64_t *from, uint64_t *end)
{
	*from = i ? area_end(l, i - 1) : l->first_bytes;
	*end = i < l->count ? l->areas[i].offset : l->size_bytes;
}

int lease_take(struct lease *l, uint64_t len, uint64_t align, uint64_t *offset)
{
	if (!len || len > l->size_bytes)
		return -ENOSPC;
	align = align < LEASE_GRAIN ? LEASE_GRAIN : align;
	for (size_t i = l->count + 1; i-- > 0;) {
		uint64_t from, end;
		room_before(l, i, &from, &end);
		int r = take_between(l, i, from, end, len, align, offset);
		if (r != -ENOSPC)
			return r;
	}
	return -ENOSPC;
}

/* The longest piece of [from, end) that no other has, if it is longer than the best so far. */
static void longest_between(const struct lease *l, uint64_t from, uint64_t end,
                            struct lease_area *best)
{
	struct lease_area other;
	while (from < end && find_other(l, from, end, &other)) {
		/* The kernel names any of them: in front of this one may be more. */
		if (other.offset > from)
			longest_between(l, from, other.offset, best);
		from = round_up(other.offset + other.len, LEASE_GRAIN);
	}
	if (from < end && end - from > best->len)
		*best = (struct lease_area){.offset = from, .len = end - from};
}

static struct lease_area longest(const struct lease *l, size_t *at)
{
	struct lease_area best = {0};
	*at = 0;
	for (size_t i = 0; i <= l->count; i++) {
		uint64_t from, end, before = best.len;
		room_before(l, i, &from, &end);
		if (end - from > before)
			longest_between(l, from, end, &best);
		if (best.len > before)
			*at = i;
	}
	return best;
}

uint64_t lease_longest(const struct lease *l)
{
	size_t at;
	return longest(l, &at).len;
}

int lease_take_growing(struct lease *l, uint64_t len, uint64_t *offset)
{
	if (!len || len > l->size_bytes)
		return -ENOSPC;
	for (;;) {
		size_t at;
		struct lease_area best = longest(l, &at);
		if (best.len < round_up(len, LEASE_GRAIN))
			return -ENOSPC;
		int r = lock_and_insert(l, at, best.offset, len);
		if (!r)
			*offset = best.offset;
		if (!is_taken(r)) /* else another process was quicker: the next longest */
			return r;
	}
}

int lease_give(struct lease *l, uint64_t offset, uint64_t len)
{
	size_t i = find(l, offset);
	len = round_up(len, LEASE_GRAIN);
	if (!len || i == l->count || offset < l->areas[i].offset ||
	    len > l->areas[i].offset + l->areas[i].len - offset)
		return -EINVAL;
	uint64_t before = offset - l->areas[i].offset, behind = l->areas[i].len - before - len;
	if (before && behind) {
		int r = insert(l, i + 1, offset + len, behind);
		if (r)
			return r;
		l->taken_bytes -= behind; /* it was counted already */
	}
	if (before) {
		if (behind)
			l->areas[i + 1].spare = l->areas[i].spare;
		l->areas[i].len = before;
		l->areas[i].spare = 0;
	} else if (behind) {
		l->areas[i] = (struct lease_area){
		        .offset = offset + len, .len = behind, .spare = l->areas[i].spare};
	} else {
		l->count--;
		memmove(l->areas + i, l->areas + i + 1, (l->count - i) * sizeof *l->areas);
	}
	l->taken_bytes -= len;
	change_lock(l, F_UNLCK, offset, len);
	return 0;
}

bool lease_resize(struct lease *l, uint64_t offset, uint64_t len)
{
	size_t i = find(l, offset);
	if (!len || len > l->size_bytes || i == l->count || l->areas[i].offset != offset)
		return false;
	uint64_t spare = round_up(len, LEASE_GRAIN) - round_up(len, PAGE);
	len = round_up(len, LEASE_GRAIN);
	uint64_t old = l->areas[i].len;
	if (len < old) {
		if (lease_give(l, offset + len, old - len))
			return false;
		l->areas[i].spare = spare;
		return true;
	}
	uint64_t end = i + 1 < l->count ? l->areas[i + 1].offset : l->size_bytes;
	if (len > end - offset || (len > old && change_lock(l, F_WRLCK, offset + old, len - old)))
		return false;
	l->areas[i].len = len;
	l->areas[i].spare = spare;
	l->taken_bytes += len - old;
	return true;
}

uint64_t lease_reach(const struct lease *l, uint64_t offset, uint64_t len)
{
	size_t i = find(l, offset);
	if (i == l->count || l->areas[i].offset > offset)
		return len;
	uint64_t all = area_end(l, i) - offset;
	return len < all && len >= all - l->areas[i].spare ? all : len;
}

uint64_t lease_length(const struct lease *l, uint64_t offset)
{
	size_t i = find(l, offset);
	return i < l->count && l->areas[i].offset <= offset
	               ? l->areas[i].offset + l->areas[i].len - offset
	               : 0;
}
