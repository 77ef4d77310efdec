/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second writer elsewhere. NBD has no locks between hosts, but every transaction changes the
 * counter in the database's header: if the backend's is none of ours, somebody else was there, and
 * nothing is written any more. Looked at before a change, unless it was well a moment ago: one
 * round trip a second at most, where no lock could make it less than best effort. It takes a second
 * connection: a server that has room for one client only keeps others out by itself, and is not
 * asked again soon.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <string.h>

#define GUARD_NS HITHER_NS_PER_S

#define BLIND_NS (600 * HITHER_NS_PER_S)

enum { COUNTER_AT = 24, CONNECT_MS = 2000 };

static uint32_t counter_of(const unsigned char *header)
{
	const unsigned char *p = header + COUNTER_AT;
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int open_guard(struct hsq_share *s, struct hither_error *err)
{
	struct hither_mount_options options = {
	        .direct = true,
	        .deadline_ms = s->deadline_ms,
	        .backend = {.connect_timeout_ms = CONNECT_MS},
	};
	return s->guard ? 0 : hither_mount_open(s->url, &options, &s->guard, err);
}

/* Nothing is on its way to the backend, and nothing was sent between the two. */
static bool is_quiet(const struct hither_mount_stats *before,
                     const struct hither_mount_stats *after)
{
	return !before->pushing && !after->pushing && before->push_requests == after->push_requests;
}

/*
 * Nothing dirty: the backend must have what we have. Nothing pushed since it was last seen: what it
 * had then. Else our pushes may have brought it anywhere from where it was then to where we are.
 */
static bool is_ours(struct hsq_share *s, const unsigned char *there, const unsigned char *here,
                    const struct hither_mount_stats *before)
{
	struct hither_mount_stats now;
	hither_mount_stats(s->mount, &now);
	if (!now.dirty_bytes)
		return !memcmp(there, here, HSQ_HEADER_BYTES);
	if (is_quiet(before, &now) && now.push_requests == s->guarded_pushes)
		return !memcmp(there, s->guarded_header, HSQ_HEADER_BYTES);
	uint32_t was = counter_of(s->guarded_header);
	return counter_of(there) - was <= counter_of(here) - was;
}

static int compare(struct hsq_share *s)
{
	unsigned char there[HSQ_HEADER_BYTES], here[HSQ_HEADER_BYTES];
	struct hither_mount_stats before;
	struct hither_error err = {0};
	int r = hsq_read(s, here, sizeof here, 0, NULL, &err);
	if (!r && open_guard(s, NULL)) {
		s->guard_again_ns = hither_now_ns() + BLIND_NS;
		return SQLITE_OK;
	}
	hither_mount_stats(s->mount, &before);
	if (!r)
		r = hither_mount_read_at(s->guard, there, sizeof there, 0, &err);
	if (r)
		return hsq_fail(SQLITE_IOERR_WRITE, &err);
	/* The first time: our copy was made from it just now. */
	s->foreign = s->guarded && !is_ours(s, there, here, &before);
	memcpy(s->guarded_header, there, sizeof there);
	s->guarded_pushes = before.push_requests;
	s->guarded = true;
	s->guard_again_ns = hither_now_ns() + GUARD_NS;
	return SQLITE_OK;
}

int hsq_guard(struct hsq_share *s)
{
	HITHER_LOCK_SCOPE(&s->guard_lock);
	if (!s->foreign && hither_now_ns() >= s->guard_again_ns) {
		int code = compare(s);
		if (code)
			return code;
	}
	if (!s->foreign)
		return SQLITE_OK;
	return hsq_failf(
	        SQLITE_IOERR_WRITE,
	        "%s: somebody else has written it since it was opened here: nothing more is "
	        "written%s; close it, and open it again",
	        s->url,
	        s->sync == HITHER_SYNC_LOCAL ? " (but what is committed here is sent)" : "");
}
