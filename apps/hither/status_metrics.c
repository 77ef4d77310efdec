/* SPDX-License-Identifier: Apache-2.0 */
/* hither status --metrics: the text format of Prometheus, version 0.0.4. */
#include "status.h"

#include "json.h"
#include "util.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* What can be counted, and how Prometheus is to see it. */
static const struct {
	const char *field, *metric, *type, *help;
} metrics[] = {
        {"size_bytes", "hither_size_bytes", "gauge", "Size of the resource."},
        {"local_bytes", "hither_local_bytes", "gauge", "Bytes that are here."},
        {"dirty_bytes", "hither_dirty_bytes", "gauge", "Changed bytes not pushed yet."},
        {"waiting", "hither_waiting_reads", "gauge", "Reads that wait now."},
        {"in_flight", "hither_in_flight_requests", "gauge", "Requests under way."},
        {"rtt_ns", "hither_rtt_nanoseconds", "gauge", "Least time to the first byte of an answer."},
        {"rate_bytes", "hither_rate_bytes_per_second", "gauge", "Recent best pull rate."},
        {"pulled_bytes", "hither_pulled_bytes_total", "counter", "Bytes from the resource."},
        {"demand_bytes", "hither_demand_bytes_total", "counter",
         "Of these, because a read waited."},
        {"pushed_bytes", "hither_pushed_bytes_total", "counter", "Bytes to the resource."},
        {"pull_requests", "hither_pull_requests_total", "counter", "Requests to read."},
        {"push_requests", "hither_push_requests_total", "counter", "Requests to write."},
        {"retries", "hither_retries_total", "counter", "Requests that were tried again."},
        {"reads", "hither_reads_total", "counter", "Reads by programs."},
        {"reads_waited", "hither_reads_waited_total", "counter",
         "Of these, some bytes were not here."},
        {"wait_ns", "hither_wait_nanoseconds_total", "counter", "Time reads waited."},
        {"writes", "hither_writes_total", "counter", "Writes by programs."},
        {"evicted_bytes", "hither_evicted_bytes_total", "counter",
         "Bytes dropped to keep the cap."},
};

/* A label's value: backslash, quote and newline are escaped. */
static void put_label(const char *name, const char *object)
{
	char text[PATH_MAX];
	if (!json_get_string(object, name, text, sizeof text))
		*text = 0;
	printf("%s=\"", name);
	for (const char *p = text; *p; p++)
		if (*p == '\n')
			fputs("\\n", stdout);
		else
			printf("%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
	putchar('"');
}

static void put_sample(const char *metric, const char *object, uint64_t value)
{
	printf("%s{", metric);
	put_label("path", object);
	putchar(',');
	put_label("url", object);
	printf("} %llu\n", (unsigned long long)value);
}

static void show_up(const struct status_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		put_sample("hither_up", l->objects[i],
		           status_is_up(l->objects[i]) && !json_get_int(l->objects[i], "error"));
}

static void show_values(const char *metric, const char *field, const struct status_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		if (status_is_up(l->objects[i]) || !strcmp(field, "dirty_bytes"))
			put_sample(metric, l->objects[i], json_get_uint(l->objects[i], field));
}

void status_show_metrics(const struct status_list *live, const struct status_list *exports)
{
	printf("# HELP hither_up Is the mount or export served, without an error now?\n"
	       "# TYPE hither_up gauge\n");
	show_up(live);
	show_up(exports);
	for (size_t m = 0; m < COUNT_OF(metrics); m++) {
		printf("# HELP %s %s\n# TYPE %s %s\n", metrics[m].metric, metrics[m].help,
		       metrics[m].metric, metrics[m].type);
		show_values(metrics[m].metric, metrics[m].field, live);
		show_values(metrics[m].metric, metrics[m].field, exports);
	}
}
