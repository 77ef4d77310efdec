/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records a profile. What goes wrong once it runs (a full disk) ends the recording, at the end of a
 * line, and nothing else: the program that is recorded matters more.
 */
#include "order/record.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "order/piece.h"
#include "order/seen.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/profile.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BUFFER_ENTRIES 256
#define BUFFER_BYTES (BUFFER_ENTRIES * 64) /* an entry's line has at most 56 bytes */
#define MOST_STALLS 10000
#define MOST_JOINED (UINT64_C(8) << 20) /* a long read is written down as it goes */

struct record_order {
	struct hither_order base;
	uint64_t size, start_ns;
	struct seen seen;
	struct hither_profile_entry pending; /* may still grow; len 0: none */
	size_t entries, stalls;
	int fd;           /* -1: the recording has ended */
	bool stale;       /* the file still has what was there before */
	bool regular;     /* a file proper, which can be cut */
	int failed;       /* -errno of the last write */
	off_t good_bytes; /* of the file: whole lines */
	size_t used;
	char buffer[BUFFER_BYTES];
};

static void stop(struct record_order *r)
{
	if (r->fd >= 0)
		close(HITHER_TAKE(r->fd, -1));
}

/*
 * An older profile is replaced only now, so that a run may replay the very file it records to, and
 * one that reads nothing loses nothing.
 */
static void flush(struct record_order *r)
{
	if (r->fd < 0 || r->used == 0)
		return;
	if (HITHER_TAKE(r->stale, false) && r->regular && ftruncate(r->fd, 0)) {
		stop(r);
		return;
	}
	r->failed = hither_write_all(r->fd, r->buffer, r->used);
	if (!r->failed) {
		r->good_bytes += (off_t)r->used;
		r->used = 0;
		return;
	}
	/* The reader leaves out a torn line, so that a cut that fails too does no harm. */
	if (r->regular && ftruncate(r->fd, r->good_bytes)) {
	}
	stop(r);
}

static void append(struct record_order *r, const char *line, size_t n)
{
	if (n > sizeof r->buffer - r->used)
		flush(r);
	if (r->fd < 0)
		return;
	memcpy(r->buffer + r->used, line, n);
	r->used += n;
}

static uint32_t ms_since(const struct record_order *r, uint64_t ns)
{
	uint64_t ms = ns > r->start_ns ? (ns - r->start_ns) / HITHER_NS_PER_MS : 0;
	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

void hither_order_record_stall(struct hither_order *o, uint64_t offset, uint64_t len,
                               uint64_t from_ns, uint64_t until_ns)
{
	struct record_order *r = (struct record_order *)o;
	char line[HITHER_PROFILE_LINE_BYTES];
	if (r->fd < 0 || r->stalls == MOST_STALLS)
		return;
	r->stalls++;
	int n = snprintf(line, sizeof line, "# stalled %" PRIu64 " %" PRIu64 " %u %u\n", offset,
	                 len, ms_since(r, from_ns), ms_since(r, until_ns));
	append(r, line, (size_t)n);
}

static void write_pending(struct record_order *r)
{
	struct hither_profile_entry entry =
	        HITHER_TAKE(r->pending, (struct hither_profile_entry){0});
	if (entry.len == 0 || r->fd < 0)
		return;
	char line[HITHER_PROFILE_LINE_BYTES];
	size_t n = hither_profile_print_entry(line, &entry);
	append(r, line, n);
	r->entries++;
	if (r->entries % BUFFER_ENTRIES == 0)
		flush(r);
	if (r->entries == HITHER_PROFILE_MOST_ENTRIES) {
		flush(r);
		stop(r);
	}
}

/* [offset, end) has not been seen before. */
static void note(struct record_order *r, uint64_t offset, uint64_t end, bool waited)
{
	struct hither_profile_entry *p = &r->pending;
	if (p->len && p->offset + p->len == offset && p->waited == waited && p->len < MOST_JOINED) {
		p->len += end - offset;
		return;
	}
	write_pending(r);
	*p = (struct hither_profile_entry){offset, end - offset, ms_since(r, hither_now_ns()),
	                                   waited};
}

static bool record_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	return false;
}

static void record_saw(struct hither_order *o, uint64_t offset, uint64_t len, bool waited)
{
	struct record_order *r = (struct record_order *)o;
	struct hither_range range = {offset, len};
	if (r->fd < 0 || !hither_order_clip(&range, r->size))
		return;
	uint64_t first = range.offset / SEEN_PAGE;
	uint64_t last = (range.offset + range.len - 1) / SEEN_PAGE;
	for (uint64_t page = first; page <= last; page++) {
		if (!seen_mark(&r->seen, page))
			continue;
		uint64_t end = (page + 1) * SEEN_PAGE;
		note(r, page * SEEN_PAGE, end < r->size ? end : r->size, waited);
	}
}

static void record_destroy(struct hither_order *o)
{
	struct record_order *r = (struct record_order *)o;
	write_pending(r);
	if (r->entries || !r->stale)
		flush(r);
	stop(r);
	seen_finish(&r->seen);
	free(r);
}

static const struct hither_order_ops record_ops = {
        .name = "record",
        .next = record_next,
        .saw = record_saw,
        .destroy = record_destroy,
};

/* A file that is no profile was not meant to be overwritten. */
static int check_old(struct record_order *r, const char *path, struct hither_error *err)
{
	struct stat st;
	if (fstat(r->fd, &st))
		return hither_fail(err, -errno, "record %s: stat: %s", path, strerror(errno));
	r->regular = S_ISREG(st.st_mode);
	r->stale = r->regular && st.st_size > 0;
	if (!r->stale)
		return 0;
	char start[14];
	if (hither_pread_all(r->fd, start, sizeof start, 0) ||
	    memcmp(start, "hither-profile", 14) != 0)
		return hither_fail(
		        err, -EEXIST,
		        "record %s: there is a file already, and it is no profile: remove it, "
		        "or record elsewhere",
		        path);
	return 0;
}

int hither_order_record(const struct hither_order_view *view, const char *path,
                        struct hither_order **out, struct hither_error *err)
{
	struct record_order *r = calloc(1, sizeof *r);
	if (!r)
		return hither_fail(err, -ENOMEM, "record %s: no memory", path);
	r->base.ops = &record_ops;
	r->size = view->size_bytes;
	r->start_ns = hither_now_ns();
	r->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
	int code = 0;
	if (r->fd < 0)
		code = hither_fail(err, -errno, "record %s: open: %s", path, strerror(errno));
	else
		code = check_old(r, path, err);
	if (!code && seen_init(&r->seen, r->size))
		code = hither_fail(err, -ENOMEM, "record %s: no memory", path);
	if (!code) {
		r->used = hither_profile_print_head(r->buffer, r->size, NULL);
		if (!r->stale) {
			flush(r); /* so that a full disk is known at once */
			if (r->fd < 0)
				code = hither_fail(err, r->failed, "record %s: write: %s", path,
				                   strerror(-r->failed));
		}
	}
	if (code) {
		r->used = 0;
		record_destroy(&r->base);
		return code;
	}
	*out = &r->base;
	return 0;
}
