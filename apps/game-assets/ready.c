/* SPDX-License-Identifier: Apache-2.0 */
#include "game.h"

#include "util.h"

#include <errno.h>
#include <hither/profile.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 50, ASK_BYTES = 1 << 20 };
#define SHOW_NS (NS_PER_S / 4)

void ready_init(struct ready *r)
{
	*r = (struct ready){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
}

/* --- what is wanted --- */

static int take_profile(struct ready *r, const char *path, struct hither_error *err)
{
	struct hither_profile p = {0};
	uint64_t size = hither_mount_size(r->mount);
	if (!path)
		return hither_fail(
		        err, -ENOENT,
		        "--ready profile: there is no profile beside the manifest that fits it, "
		        "and no --profile; game-assets learn makes one");
	int code = hither_profile_load(path, &p, err);
	if (code)
		return code;
	r->ranges = calloc(p.count + 1, sizeof *r->ranges);
	for (size_t i = 0; r->ranges && i < p.count; i++) {
		struct hither_range range = {p.entries[i].offset, p.entries[i].len};
		if (range.offset >= size)
			continue;
		if (range.len > size - range.offset)
			range.len = size - range.offset;
		r->ranges[r->range_count++] = range;
		r->total_bytes += range.len;
	}
	hither_profile_finish(&p);
	return r->ranges ? 0 : hither_fail(err, -ENOMEM, "no memory");
}

static int parse_share(const char *text, unsigned long *percent, struct hither_error *err)
{
	char *end;
	*percent = strtoul(text, &end, 10);
	return end == text || strcmp(end, "%") != 0 || *percent > 100
	               ? hither_fail(err, -EINVAL,
	                             "--ready: %s is neither \"profile\" nor a share such as 20%%",
	                             text)
	               : 0;
}

int ready_check(const char *text, struct hither_error *err)
{
	unsigned long percent;
	return !text || !strcmp(text, "profile") ? 0 : parse_share(text, &percent, err);
}

static int take_share(struct ready *r, const char *text, struct hither_error *err)
{
	uint64_t size = hither_mount_size(r->mount);
	unsigned long percent;
	int code = parse_share(text, &percent, err);
	if (code)
		return code;
	r->ranges = malloc(sizeof *r->ranges);
	if (!r->ranges)
		return hither_fail(err, -ENOMEM, "no memory");
	r->ranges[0] = (struct hither_range){0, size};
	r->range_count = 1;
	r->everything = true;
	r->total_bytes = size / 100 * percent + size % 100 * percent / 100;
	return 0;
}

int ready_parse(struct ready *r, const char *text, const char *profile, struct hither_mount *m,
                uint64_t file_bytes, struct hither_error *err)
{
	r->mount = m;
	r->file_share =
	        hither_mount_size(m) ? (double)file_bytes / (double)hither_mount_size(m) : 1;
	if (!text)
		return 0;
	return !strcmp(text, "profile") ? take_profile(r, profile, err) : take_share(r, text, err);
}

void ready_finish(struct ready *r)
{
	free(r->ranges);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->changed);
}

/* --- what there is --- */

/* The first run of [*at, end) that is not here; false: all is. */
static bool find_missing(struct hither_mount *m, uint64_t *at, uint64_t end, uint64_t *len)
{
	while (*at < end) {
		uint32_t kind;
		*len = hither_mount_extent(m, *at, end - *at, &kind);
		if (!(kind & (HITHER_EXTENT_LOCAL | HITHER_EXTENT_HOLE)))
			return true;
		*at += *len;
	}
	return false;
}

static uint64_t missing_bytes(struct hither_mount *m, const struct hither_range *range)
{
	uint64_t sum = 0, len = 0, end = range->offset + range->len;
	for (uint64_t at = range->offset; find_missing(m, &at, end, &len); at += len)
		sum += len;
	return sum;
}

static uint64_t here_bytes(const struct ready *r)
{
	struct hither_mount_stats stats;
	uint64_t sum = 0;
	if (r->everything) {
		hither_mount_stats(r->mount, &stats);
		return stats.local_bytes < r->total_bytes ? stats.local_bytes : r->total_bytes;
	}
	for (size_t i = 0; i < r->range_count; i++)
		sum += r->ranges[i].len - missing_bytes(r->mount, &r->ranges[i]);
	return sum;
}

/* --- asking --- */

static void answered(struct hither_io *io, int result, const struct hither_error *err)
{
	struct ready *r = (void *)((char *)io - offsetof(struct ready, ask));
	pthread_mutex_lock(&r->lock);
	r->asking = false;
	if (result && !r->failed.code)
		r->failed = *err;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* Ask for the next piece that is not here. False: there is none that was not asked for yet. */
static bool ask_next(struct ready *r)
{
	for (; r->at_range < r->range_count; r->at_range++) {
		const struct hither_range *range = &r->ranges[r->at_range];
		uint64_t len = 0;
		if (r->at < range->offset || r->at > range->offset + range->len)
			r->at = range->offset;
		if (!find_missing(r->mount, &r->at, range->offset + range->len, &len))
			continue;
		len = len < ASK_BYTES ? len : ASK_BYTES;
		r->ask = (struct hither_io){
		        .op = HITHER_IO_READ, .offset = r->at, .len = len, .done = answered};
		r->at += len;
		r->asking = true;
		pthread_mutex_unlock(&r->lock);
		hither_mount_submit(r->mount, &r->ask);
		pthread_mutex_lock(&r->lock);
		return true;
	}
	return false;
}

/* What nobody fetches of itself (because of --order or --pull, or since it failed once) is asked
 * for. False: nothing more comes. */
static bool goes_on(struct ready *r)
{
	struct hither_mount_stats stats;
	/* A server that was not there for as long as --deadline says is not asked on and on. */
	if (r->offline || hither_error_is_transient(r->failed.code))
		return false;
	if (r->asking)
		return true;
	hither_mount_stats(r->mount, &stats);
	return stats.in_flight > 0 || ask_next(r);
}

/* --- waiting --- */

/* In bytes of files, as everything else that is shown. */
static uint64_t shown(const struct ready *r, uint64_t bytes)
{
	return (uint64_t)((double)bytes * r->file_share + 0.5);
}

/* A line as that of hither pull, of what is waited for. */
static void show_wait(struct ready *r, uint64_t have)
{
	struct hither_mount_stats stats;
	hither_mount_stats(r->mount, &stats);
	stats.local_bytes = shown(r, have);
	stats.size_bytes = shown(r, r->total_bytes);
	progress_tell(&r->progress, &stats);
	if (!r->progress.terminal || now_ns() - r->shown_ns < SHOW_NS)
		return;
	r->shown_ns = now_ns();
	progress_update(&r->progress, &stats);
}

static void tell_wanted(const struct ready *r)
{
	char a[UNITS_TEXT_BYTES];
	fail_with(0, "the game starts once %s are here (--ready)",
	          units_format_size(a, shown(r, r->total_bytes)));
}

static void tell_missing(const struct ready *r, uint64_t have)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES];
	fail_with(0, "note: %s of the %s that --ready wants does not come%s%s",
	          units_format_size(b, shown(r, r->total_bytes - have)),
	          units_format_size(a, shown(r, r->total_bytes)),
	          r->offline       ? ": --offline"
	          : r->failed.code ? ": "
	                           : ": --cache-size is too small for it",
	          r->offline || !r->failed.code ? "" : r->failed.message);
}

static void wait_a_while_locked(struct ready *r)
{
	struct timespec until = in_ms(LOOK_MS);
	pthread_cond_timedwait(&r->changed, &r->lock, &until);
}

/* What the server refuses for good will not be there when the game reads it, either. */
static bool is_refused_locked(struct ready *r)
{
	struct hither_mount_stats stats;
	hither_mount_stats(r->mount, &stats);
	if (stats.error == -EOPNOTSUPP && !r->offline) /* of what comes by itself */
		hither_fail(&r->failed, stats.error, "%s", stats.message);
	return r->failed.code == -EOPNOTSUPP;
}

bool ready_wait(struct ready *r, struct hither_error *err)
{
	bool more = true, refused = false;
	uint64_t have = 0;
	progress_init(&r->progress, PROGRESS_PULL, -1);
	if (!r->progress.terminal && r->total_bytes)
		tell_wanted(r);
	pthread_mutex_lock(&r->lock);
	while (!r->stopped && (have = here_bytes(r)) < r->total_bytes && more && !refused) {
		show_wait(r, have);
		more = goes_on(r);
		if (more)
			wait_a_while_locked(r);
		refused = is_refused_locked(r);
	}
	bool go = !r->stopped;
	pthread_mutex_unlock(&r->lock);
	progress_clear(&r->progress);
	if (!go)
		hither_fail(err, -ECANCELED,
		            "the game was not started; what has come is in the cache");
	else if (have < r->total_bytes && refused)
		*err = r->failed;
	else if (have < r->total_bytes)
		tell_missing(r, have);
	return go && !err->code;
}

void ready_stop(struct ready *r)
{
	pthread_mutex_lock(&r->lock);
	r->stopped = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}
