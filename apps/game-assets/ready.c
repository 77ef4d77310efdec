/* SPDX-License-Identifier: Apache-2.0 */
#include "game.h"

#include "util.h"

#include <errno.h>
#include <hither/profile.h>
#include <string.h>

static int take_profile(const char *path, struct ready *out, struct hither_error *err)
{
	struct hither_profile p = {0};
	if (!path)
		return hither_fail(
		        err, -ENOENT,
		        "--ready profile: there is no profile beside the manifest, and no "
		        "--profile; game-assets learn makes one");
	int r = hither_profile_load(path, &p, err);
	if (r)
		return r;
	out->ranges = calloc(p.count + 1, sizeof *out->ranges);
	for (size_t i = 0; out->ranges && i < p.count; i++) {
		out->ranges[out->range_count++] =
		        (struct hither_range){p.entries[i].offset, p.entries[i].len};
		out->total_bytes += p.entries[i].len;
	}
	hither_profile_finish(&p);
	return out->ranges ? 0 : hither_fail(err, -ENOMEM, "no memory");
}

int ready_parse(const char *text, const char *profile, struct hither_mount *m, struct ready *out,
                struct hither_error *err)
{
	char *end;
	*out = (struct ready){0};
	if (!text)
		return 0;
	if (!strcmp(text, "profile"))
		return take_profile(profile, out, err);
	unsigned long percent = strtoul(text, &end, 10);
	if (end == text || strcmp(end, "%") || percent > 100)
		return hither_fail(err, -EINVAL,
		                   "--ready: %s is neither \"profile\" nor a share such as 20%%",
		                   text);
	out->percent = (unsigned)percent;
	out->total_bytes = hither_mount_size(m) / 100 * percent;
	return 0;
}

void ready_finish(struct ready *r)
{
	free(r->ranges);
}

static uint64_t local_bytes(struct hither_mount *m, const struct hither_range *range)
{
	uint64_t sum = 0, size = hither_mount_size(m), at = range->offset;
	uint64_t end = at < size && range->len < size - at ? at + range->len : size;
	while (at < end) {
		uint32_t kind;
		uint64_t run = hither_mount_extent(m, at, end - at, &kind);
		sum += kind & (HITHER_EXTENT_LOCAL | HITHER_EXTENT_HOLE) ? run : 0;
		at += run;
	}
	return sum;
}

uint64_t ready_bytes(const struct ready *r, struct hither_mount *m)
{
	struct hither_mount_stats stats;
	uint64_t sum = 0;
	if (r->percent) {
		hither_mount_stats(m, &stats);
		return stats.local_bytes < r->total_bytes ? stats.local_bytes : r->total_bytes;
	}
	for (size_t i = 0; i < r->range_count; i++)
		sum += local_bytes(m, &r->ranges[i]);
	return sum;
}
