/* SPDX-License-Identifier: Apache-2.0 */
#include "tapisk.h"

#include "units.h"
#include "util.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { COUNT_TEXT_BYTES = 32, RECORD_BLOCKS = 127, BLOCK_BYTES = 4096 };

/* "1,024" */
static const char *with_commas(char text[COUNT_TEXT_BYTES], uint64_t n)
{
	char plain[COUNT_TEXT_BYTES], *out = text;
	int len = snprintf(plain, sizeof plain, "%" PRIu64, n);
	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*out++ = ',';
		*out++ = plain[i];
	}
	*out = 0;
	return text;
}

static void show_progress(void *user, uint64_t done, uint64_t total)
{
	struct meter *m = user;
	char a[COUNT_TEXT_BYTES], b[COUNT_TEXT_BYTES];
	uint64_t now = now_ns();
	if (now - m->shown_ns < NS_PER_S / 5 && done < total)
		return;
	m->shown_ns = now;
	double left = (double)(now - m->started_ns) / 1e9 * (double)(total - done) / (double)done;
	fprintf(stderr, "\rposition %s of %s; about %.0f s left \033[K%s", with_commas(a, done),
	        with_commas(b, total), left, done == total ? "\n" : "");
}

struct hither_tape_progress progress_to(struct meter *m)
{
	*m = (struct meter){.started_ns = now_ns()};
	return (struct hither_tape_progress){isatty(2) ? show_progress : NULL, m};
}

/* A label, the blocks, a checkpoint. */
static uint64_t records_compacted(const struct hither_tape_info *i)
{
	uint64_t bytes = (uint64_t)RECORD_BLOCKS * BLOCK_BYTES;
	return (i->live_bytes + bytes - 1) / bytes + 2;
}

unsigned garbage_percent(const struct hither_tape_info *i)
{
	uint64_t compacted = records_compacted(i);
	return compacted >= i->records ? 0
	                               : (unsigned)((i->records - compacted) * 100 / i->records);
}

void print_info(const char *tape, const struct hither_tape_info *i)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES], n[COUNT_TEXT_BYTES], m[COUNT_TEXT_BYTES];
	printf("%s: a volume of %s", tape, units_format_size(a, i->size_bytes));
	printf(i->capacity_bytes ? " on a tape of %s\n" : "\n",
	       units_format_size(b, i->capacity_bytes));
	printf("in use      %s: blocks that have been written, and not discarded\n",
	       units_format_size(a, i->live_bytes));
	printf("records     %s, of up to 522 kB each; compacted about %s\n",
	       with_commas(n, i->records), with_commas(m, records_compacted(i)));
	printf("garbage     about %u %%: what has been written again since, and old checkpoints\n",
	       garbage_percent(i));
	if (i->checkpoint)
		printf("checkpoint  record %s: the newest copy of the index\n",
		       with_commas(n, i->checkpoint));
	else
		printf("checkpoint  none yet\n");
	printf("read        %s record%s to find this out\n", with_commas(n, i->scanned),
	       i->scanned == 1 ? "" : "s");
	printf("damaged     %s record%s that cannot be read\n", with_commas(n, i->damaged),
	       i->damaged == 1 ? "" : "s");
	uint64_t behind = bytes_behind(tape);
	if (behind)
		printf("not on it   %s: written, and kept in the cache for the next mount\n",
		       units_format_size(a, behind));
	if (i->torn)
		printf("cut off     %s record%s at the end: power failed during the write\n",
		       with_commas(n, i->torn), i->torn == 1 ? "" : "s");
	if (i->drive_ns)
		printf("drive time  %.1f s, had it been an LTO-9 drive\n",
		       (double)i->drive_ns / 1e9);
}
