/* SPDX-License-Identifier: Apache-2.0 */
#include "remote.h"

#include <stdio.h>

/* A disk's or a neighbour's time is no round trip to count by. */
enum { RTT_LEAST_NS = 1000000 };

void stats_of(sqlite3 *db, struct hither_mount_stats *out)
{
	*out = (struct hither_mount_stats){0};
	sqlite3_file_control(db, "main", HITHER_SQLITE_STATS, out);
}

void stats_print(const char *what, const struct hither_mount_stats *before,
                 const struct hither_mount_stats *after)
{
	static const struct hither_mount_stats none;
	if (after->reads < before->reads) /* it is another version's mount */
		before = &none;
	double share = after->size_bytes
	                       ? 100.0 * (double)after->local_bytes / (double)after->size_bytes
	                       : 100;
	uint64_t wait_ns = after->wait_ns - before->wait_ns;
	fprintf(stderr, "%s: %llu requests, %s; %llu of %llu reads waited, %.1f ms in all", what,
	        (unsigned long long)(after->pull_requests - before->pull_requests),
	        show_bytes(after->pulled_bytes - before->pulled_bytes).text,
	        (unsigned long long)(after->reads_waited - before->reads_waited),
	        (unsigned long long)(after->reads - before->reads), (double)wait_ns / 1e6);
	if (after->rtt_ns >= RTT_LEAST_NS)
		fprintf(stderr, " (%.1f round trips of %.1f ms)",
		        (double)wait_ns / (double)after->rtt_ns, (double)after->rtt_ns / 1e6);
	fprintf(stderr, "; %.2f%% of %s is local\n", share, show_bytes(after->size_bytes).text);
	if (after->pushed_bytes != before->pushed_bytes)
		fprintf(stderr, "%s: %s sent in %llu requests\n", what,
		        show_bytes(after->pushed_bytes - before->pushed_bytes).text,
		        (unsigned long long)(after->push_requests - before->push_requests));
}
