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

/*
 * Nothing dirty: the backend must have what we have. Else our pushes may have brought it anywhere
 * from where it was last seen to where we are.
 */
static bool is_ours(struct hsq_share *s, const unsigned char *there, const unsigned char *here)
{
	struct hither_mount_stats stats;
	hither_mount_stats(s->mount, &stats);
	if (!stats.dirty_bytes)
		return !memcmp(there, here, HSQ_HEADER_BYTES);
	uint32_t ahead = counter_of(there) - s->guarded_counter;
	return ahead <= counter_of(here) - s->guarded_counter;
}

static int compare(struct hsq_share *s)
{
	unsigned char there[HSQ_HEADER_BYTES], here[HSQ_HEADER_BYTES];
	struct hither_error err = {0};
	int r = hsq_read(s, here, sizeof here, 0, NULL, &err);
	if (!r && open_guard(s, NULL)) {
		s->guard_again_ns = hither_now_ns() + BLIND_NS;
		return SQLITE_OK;
	}
	if (!r)
		r = hither_mount_read_at(s->guard, there, sizeof there, 0, &err);
	if (r)
		return hsq_fail(SQLITE_IOERR_WRITE, &err);
	if (!s->guarded) /* the first time: our copy was made from it just now */
		s->guarded_counter = counter_of(there);
	s->foreign = !is_ours(s, there, here);
	s->guarded_counter = counter_of(there);
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
	        "written; close it, and open it again",
	        s->url);
}
