/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ram-dl status: what the kernel tells of each swap area (/proc/swaps, /sys/block/NAME/stat), and
 * how long a page takes now, measured by reading some. Reading a swap area changes nothing.
 */
#include "command.h"

#include "json.h"
#include "run_dir.h"
#include "swap_area.h"
#include "swap_io.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/block.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PAGE = 4096, PROBES = 100, PROBE_NS_MOST = 2000000000 };

struct latency {
	unsigned count; /* 0: no page could be read */
	uint64_t p50_ns, p99_ns;
};

static int by_size(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* Pages spread over the area, past the page cache; at most two seconds of it. */
static struct latency probe(const char *device, uint64_t size)
{
	uint64_t took[PROBES], start = now_ns();
	struct latency l = {0};
	AUTO_FREE void *page = NULL;
	AUTO_CLOSE int fd = open(device, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || posix_memalign(&page, PAGE, PAGE))
		return l;
	while (l.count < PROBES && now_ns() - start < PROBE_NS_MOST) {
		uint64_t at = size / PROBES * l.count / PAGE * PAGE, before = now_ns();
		if (pread(fd, page, PAGE, (off_t)at) != PAGE)
			return (struct latency){0};
		took[l.count++] = now_ns() - before;
	}
	qsort(took, l.count, sizeof *took, by_size);
	l.p50_ns = took[l.count / 2];
	l.p99_ns = took[l.count - 1 - l.count / 100];
	return l;
}

struct area {
	const struct hither_block_entry *entry;
	struct swap_use use;
	struct swap_io io; /* since it was attached */
	struct latency latency;
	char *url; /* as it may be shown */
};

static uint64_t mean_ns(uint64_t ms, uint64_t requests)
{
	return requests ? ms * 1000000 / requests : 0;
}

static void print_json(struct json *j, const struct area *a)
{
	json_object(j, NULL);
	json_string(j, "device", a->entry->path);
	json_string(j, "url", a->url);
	json_string(j, "kind", hither_block_kind_name(a->entry->kind));
	json_int(j, "pid", a->entry->pid);
	json_bool(j, "alive", a->entry->alive);
	json_int(j, "priority", a->use.priority);
	json_uint(j, "size_bytes", a->use.size_bytes);
	json_uint(j, "used_bytes", a->use.used_bytes);
	json_uint(j, "pages_in", a->io.in_pages);
	json_uint(j, "pages_out", a->io.out_pages);
	json_uint(j, "in_mean_ns", mean_ns(a->io.in_ms, a->io.in_requests));
	json_uint(j, "out_mean_ns", mean_ns(a->io.out_ms, a->io.out_requests));
	json_uint(j, "probes", a->latency.count);
	json_uint(j, "probe_p50_ns", a->latency.p50_ns);
	json_uint(j, "probe_p99_ns", a->latency.p99_ns);
	json_end_object(j);
}

static void print_text(const struct area *a)
{
	char used[UNITS_TEXT_BYTES], size[UNITS_TEXT_BYTES];
	printf("%s  %s  %s\n", a->entry->path, hither_block_kind_name(a->entry->kind), a->url);
	printf("  paged out   %s of %s, priority %d\n", units_format_size(used, a->use.used_bytes),
	       units_format_size(size, a->use.size_bytes), a->use.priority);
	printf("  in          %" PRIu64 " pages, %" PRIu64 " us a request on average\n",
	       a->io.in_pages, mean_ns(a->io.in_ms, a->io.in_requests) / 1000);
	printf("  out         %" PRIu64 " pages, %" PRIu64 " us a request on average\n",
	       a->io.out_pages, mean_ns(a->io.out_ms, a->io.out_requests) / 1000);
	if (a->latency.count)
		printf("  a page now  p50 %" PRIu64 " us, p99 %" PRIu64 " us, of %u\n",
		       a->latency.p50_ns / 1000, a->latency.p99_ns / 1000, a->latency.count);
	else
		printf("  a page now  cannot be read: the server, or process %d, is gone\n",
		       a->entry->pid);
}

struct report {
	struct json *json; /* NULL: text */
	unsigned count;
};

static int report(void *user, const struct hither_block_entry *entry)
{
	struct report *r = user;
	struct area a = {.entry = entry};
	if (!swap_area_use(entry->path, &a.use))
		return 0;
	AUTO_FREE char *url = url_redact(entry->name);
	a.url = url ? url : (char[]){""};
	a.io = swap_io_since(entry->path, entry->pid);
	a.latency = probe(entry->path, a.use.size_bytes);
	r->count++;
	if (r->json)
		print_json(r->json, &a);
	else
		print_text(&a);
	return 0;
}

static void print_run_json(struct json *j, long pid, const struct note *n)
{
	json_object(j, NULL);
	json_int(j, "pid", pid);
	json_string(j, "command", n->command);
	json_string(j, "tracking", n->tracking);
	json_bool(j, "kernel_faults", n->kernel_faults);
	json_uint(j, "taken_bytes", n->taken_bytes);
	json_uint(j, "limit_bytes", n->limit_bytes);
	json_uint(j, "resident_bytes", n->resident_bytes);
	json_uint(j, "dirty_bytes", n->dirty_bytes);
	json_uint(j, "in_bytes", n->in_bytes);
	json_uint(j, "out_bytes", n->out_bytes);
	json_uint(j, "discarded_bytes", n->discarded_bytes);
	json_uint(j, "faults", n->faults);
	json_uint(j, "waits", n->waits);
	json_uint(j, "wait_p50_ns", n->wait_p50_ns);
	json_uint(j, "wait_p99_ns", n->wait_p99_ns);
	json_int(j, "error", n->error);
	json_string(j, "message", n->error ? n->message : "");
	json_end_object(j);
}

static void print_run_text(long pid, const struct note *n)
{
	char taken[UNITS_TEXT_BYTES], here[UNITS_TEXT_BYTES], dirty[UNITS_TEXT_BYTES],
	        limit[UNITS_TEXT_BYTES];
	printf("%ld  run  %s\n", pid, n->command);
	printf("  memory      %s, of which %s are here (limit %s), %s changed\n",
	       units_format_size(taken, n->taken_bytes), units_format_size(here, n->resident_bytes),
	       units_format_size(limit, n->limit_bytes), units_format_size(dirty, n->dirty_bytes));
	printf("  in          %" PRIu64 " pages; out %" PRIu64 " pages\n", n->in_bytes / PAGE,
	       n->out_bytes / PAGE);
	printf("  faults      %" PRIu64 ", of which %" PRIu64 " waited: p50 %" PRIu64
	       " us, p99 %" PRIu64 " us\n",
	       n->faults, n->waits, n->wait_p50_ns / 1000, n->wait_p99_ns / 1000);
	printf("  tracking    %s%s\n", n->tracking,
	       n->kernel_faults ? "" : "; system calls go through a buffer");
	if (n->error)
		printf("  trouble     %s\n", n->message);
}

static void report_run(void *user, long pid, const struct note *note)
{
	struct report *r = user;
	r->count++;
	if (r->json)
		print_run_json(r->json, pid, note);
	else
		print_run_text(pid, note);
}

int command_status(int argc, char **argv)
{
	AUTO_JSON struct json json = {0};
	struct report r = {0};
	bool as_json = argc == 2 && (!strcmp(argv[1], "--json") || !strcmp(argv[1], "-j"));
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		puts("Usage: ram-dl status [--json]\n\n"
		     "Show each swap area of ram-dl (root only): how much is paged out, pages in\n"
		     "and out since it was attached,\n"
		     "and how long a page takes (p50 and p99 of a hundred that are read now). And "
		     "each\n"
		     "process of ram-dl run: what of its memory is here, pages in and out, how "
		     "long\n"
		     "faults wait, and how its writes are found (async, fault or hash).\n\n"
		     "  -j, --json  As one JSON object, with the lists swaps and runs.\n"
		     "  -h, --help  Show this help.");
		return EXIT_DONE;
	}
	if (argc > 1 && !as_json)
		return fail_with(EXIT_MISUSED, "status: unknown %s; see ram-dl status --help",
		                 argv[1]);
	if (as_json) {
		r.json = &json;
		json_object(&json, NULL);
		json_array(&json, "swaps");
	}
	hither_block_each(report, &r);
	if (as_json) {
		json_end_array(&json);
		json_array(&json, "runs");
	}
	run_dir_each(report_run, &r);
	if (as_json) {
		json_end_array(&json);
		json_end_object(&json);
		if (json.failed)
			return fail_with(EXIT_FAILED, "no memory");
		puts(json.text);
	} else if (!r.count) {
		puts("no swap and no run of ram-dl");
	}
	return EXIT_DONE;
}
