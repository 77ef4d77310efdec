/* SPDX-License-Identifier: Apache-2.0 */
#include "lease.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

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

/* Where the first lock of others in the range ends; 0: there is none any more. */
static uint64_t conflict_end(const struct lease *l, uint64_t offset, uint64_t len)
{
	struct flock f = {.l_type = F_WRLCK,
	                  .l_whence = SEEK_SET,
	                  .l_start = (off_t)offset,
	                  .l_len = (off_t)len};
	if (fcntl(l->fd, F_OFD_GETLK, &f) || f.l_type == F_UNLCK)
		return 0;
	return f.l_len ? (uint64_t)(f.l_start + f.l_len) : UINT64_MAX;
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
	l->areas[at] = (struct lease_area){offset, len};
	l->count++;
	l->taken_bytes += len;
	return 0;
}

/* Between our own areas [from, end), around the others'. */
static int take_between(struct lease *l, size_t at, uint64_t from, uint64_t end, uint64_t len,
                        uint64_t align, uint64_t *offset)
{
	uint64_t start = round_up(from, align);
	while (start < end && len <= end - start) {
		int r = change_lock(l, F_WRLCK, start, len);
		if (!r) {
			*offset = start;
			r = insert(l, at, start, len);
			if (r)
				change_lock(l, F_UNLCK, start, len);
			return r;
		}
		if (r != -EAGAIN && r != -EACCES)
			return r;
		uint64_t behind = conflict_end(l, start, len);
		if (behind == UINT64_MAX)
			break;
		if (behind > start)
			start = round_up(behind, align);
	}
	return -ENOSPC;
}

int lease_take(struct lease *l, uint64_t len, uint64_t align, uint64_t *offset)
{
	uint64_t from = 0;
	if (!len || len > l->size_bytes)
		return -ENOSPC;
	len = round_up(len, LEASE_GRAIN);
	align = align < LEASE_GRAIN ? LEASE_GRAIN : align;
	for (size_t i = 0; i <= l->count; i++) {
		uint64_t end = i < l->count ? l->areas[i].offset : l->size_bytes;
		int r = take_between(l, i, from, end, len, align, offset);
		if (r != -ENOSPC)
			return r;
		if (i < l->count)
			from = l->areas[i].offset + l->areas[i].len;
	}
	return -ENOSPC;
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
		l->areas[i].len = before;
	} else if (behind) {
		l->areas[i] = (struct lease_area){offset + len, behind};
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
	len = round_up(len, LEASE_GRAIN);
	uint64_t old = l->areas[i].len;
	if (len < old)
		return !lease_give(l, offset + len, old - len);
	uint64_t end = i + 1 < l->count ? l->areas[i + 1].offset : l->size_bytes;
	if (len > end - offset || (len > old && change_lock(l, F_WRLCK, offset + old, len - old)))
		return false;
	l->areas[i].len = len;
	l->taken_bytes += len - old;
	return true;
}

uint64_t lease_length(const struct lease *l, uint64_t offset)
{
	size_t i = find(l, offset);
	return i < l->count && l->areas[i].offset <= offset
	               ? l->areas[i].offset + l->areas[i].len - offset
	               : 0;
}
