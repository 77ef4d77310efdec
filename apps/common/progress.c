/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include "json.h"
#include "program.h"
#include "units.h"
#include "util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

enum { LINE_BYTES = 512, BAR_COLUMNS = 20 };

void progress_init(struct progress *p, enum progress_style style, int machine_fd)
{
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
	*p = (struct progress){.style = style, .machine_fd = machine_fd};
	p->terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb");
	p->color = p->terminal && !(no_color && *no_color);
}

bool progress_wanted(const struct progress *p)
{
	return p->terminal || p->machine_fd >= 0;
}

/* --- the terminal's line --- */

/* Append, and cut at width: a line that wraps could not be drawn over. */
static void add(char *line, unsigned width, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
static void add(char *line, unsigned width, const char *fmt, ...)
{
	size_t len = strlen(line);
	va_list ap;
	if (len >= width)
		return;
	va_start(ap, fmt);
	vsnprintf(line + len, width - len + 1, fmt, ap);
	va_end(ap);
}

static void add_bar(char *line, unsigned width, double share)
{
	char bar[BAR_COLUMNS + 1];
	int full = (int)(share * BAR_COLUMNS);
	memset(bar, ' ', BAR_COLUMNS);
	memset(bar, '#', (size_t)(full > BAR_COLUMNS ? BAR_COLUMNS : full));
	bar[BAR_COLUMNS] = 0;
	add(line, width, "[%s] ", bar);
}

static void add_rates(char *line, unsigned width, const struct progress *p,
                      const struct hither_mount_stats *stats)
{
	char text[UNITS_TEXT_BYTES];
	uint64_t left = stats->size_bytes - stats->local_bytes;
	const char *down = p->style == PROGRESS_PULL ? "" : "down ";
	bool pushes = stats->pushed_bytes || stats->dirty_bytes;
	if (!p->rated)
		return;
	add(line, width, "  %s%s/s", down, units_format_size(text, (uint64_t)p->down));
	if (p->style == PROGRESS_PULL && p->down >= 1 && left)
		add(line, width, "  %s left",
		    units_format_seconds(text, (uint64_t)((double)left / p->down)));
	if (p->style != PROGRESS_PULL && pushes)
		add(line, width, "  up %s/s", units_format_size(text, (uint64_t)p->up));
}

/* The last URL of a message, where one fact is told within another; NULL: none. */
static const char *last_url(const char *message)
{
	const char *url = NULL;
	for (const char *at = message; (at = strstr(at, "://")); at += 3)
		url = strstr(at, ": ") ? at : url;
	return url;
}

const char *progress_reason(const char *message, int *len)
{
	const char *url = last_url(message), *reason = url ? strstr(url, ": ") + 2 : message;
	*len = hither_error_fact_len(reason);
	if (*len && reason[*len - 1] == ')' && !memchr(reason, '(', (size_t)*len))
		--*len; /* of what it is told within */
	return reason;
}

/* Where it happens, of which the line may have no room for the end. */
static void add_place(char *line, unsigned width, const char *message)
{
	const char *url = last_url(message), *end = url ? strstr(url, ": ") : NULL;
	if (!end)
		return;
	while (url > message && url[-1] != ' ' && url[-1] != '(')
		url--;
	add(line, width, "  (%.*s)", (int)(end - url), url);
}

const char *progress_line(const struct progress *p, const struct hither_mount_stats *stats,
                          unsigned width, char *line, size_t size)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES];
	int len;
	double share =
	        stats->size_bytes ? (double)stats->local_bytes / (double)stats->size_bytes : 1;
	*line = 0;
	if (width > size - 1)
		width = (unsigned)size - 1;
	if (p->style == PROGRESS_PULL && !stats->error) /* the reason needs the room */
		add_bar(line, width, share);
	/* 100 only when all is there */
	add(line, width, "%3u %%  %s of %s",
	    stats->local_bytes == stats->size_bytes ? 100u
	    : share > 0.99                          ? 99u
	                                            : (unsigned)(share * 100),
	    units_format_size(a, stats->local_bytes), units_format_size(b, stats->size_bytes));
	if (stats->error) {
		const char *reason = progress_reason(stats->message, &len);
		add(line, width, "  %.*s", len, reason);
	} else {
		add_rates(line, width, p, stats);
	}
	if (stats->waiting && p->style != PROGRESS_PULL)
		add(line, width, "  %u waiting", stats->waiting);
	if (stats->dirty_bytes)
		add(line, width, "  %s dirty", units_format_size(a, stats->dirty_bytes));
	if (stats->error)
		add_place(line, width, stats->message);
	return line;
}

unsigned progress_width(void)
{
	struct winsize size;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 20)
		return 79;
	return size.ws_col - 1u;
}

static void draw(struct progress *p, const struct hither_mount_stats *stats)
{
	char line[LINE_BYTES];
	progress_line(p, stats, progress_width(), line, sizeof line);
	const char *color = !p->color            ? ""
	                    : stats->error       ? "\033[31m"
	                    : stats->dirty_bytes ? "\033[33m"
	                                         : "\033[32m";
	fprintf(stderr, "\r%s%s%s\033[K", color, line, *color ? "\033[0m" : "");
	fflush(stderr);
	p->drawn = true;
}

void progress_clear(struct progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}

void progress_tell(struct progress *p, const struct hither_mount_stats *stats)
{
	/* What is final is told by who gets it. */
	bool waits = hither_error_is_transient(stats->error);
	if (waits && !p->told && !p->terminal)
		fail_with(0, "%.*s; it is tried again, up to --deadline",
		          hither_error_fact_len(stats->message), stats->message);
	p->told = waits;
}

/* --- numbers --- */

/* The first one counts as it is. */
static double smooth(bool first, double before, uint64_t bytes, double seconds)
{
	double now = (double)bytes / seconds;
	double weight = seconds < 2 && !first ? seconds / 2 : 1; /* about two seconds of memory */
	return before + (now - before) * weight;
}

static void measure(struct progress *p, const struct hither_mount_stats *stats)
{
	uint64_t now = now_ns();
	if (p->before_ns && now > p->before_ns) {
		double seconds = (double)(now - p->before_ns) / (double)NS_PER_S;
		bool first = !p->rated;
		p->down = smooth(first, p->down, stats->pulled_bytes - p->before.pulled_bytes,
		                 seconds);
		p->up = smooth(first, p->up, stats->pushed_bytes - p->before.pushed_bytes, seconds);
		p->rated = true;
	}
	p->before = *stats;
	p->before_ns = now;
}

static void tell_machine(struct progress *p, const struct hither_mount_stats *stats)
{
	AUTO_JSON struct json j = {0};
	json_object(&j, NULL);
	progress_stats(&j, stats);
	json_uint(&j, "down_bytes_per_second", (uint64_t)p->down);
	json_uint(&j, "up_bytes_per_second", (uint64_t)p->up);
	json_end_object(&j);
	json_text(&j, "\n");
	if (j.failed || write(p->machine_fd, j.text, j.len) != (ssize_t)j.len)
		p->machine_fd = -1; /* its reader has gone */
}

void progress_update(struct progress *p, const struct hither_mount_stats *stats)
{
	measure(p, stats);
	if (p->terminal)
		draw(p, stats);
	if (p->machine_fd >= 0)
		tell_machine(p, stats);
}

void progress_stats(struct json *j, const struct hither_mount_stats *s)
{
	json_uint(j, "size_bytes", s->size_bytes);
	json_uint(j, "local_bytes", s->local_bytes);
	json_uint(j, "dirty_bytes", s->dirty_bytes);
	json_uint(j, "pulled_bytes", s->pulled_bytes);
	json_uint(j, "demand_bytes", s->demand_bytes);
	json_uint(j, "pushed_bytes", s->pushed_bytes);
	json_uint(j, "pull_requests", s->pull_requests);
	json_uint(j, "push_requests", s->push_requests);
	json_uint(j, "retries", s->retries);
	json_uint(j, "reads", s->reads);
	json_uint(j, "reads_waited", s->reads_waited);
	json_uint(j, "wait_ns", s->wait_ns);
	json_uint(j, "reads_stalled", s->reads_stalled);
	json_uint(j, "writes", s->writes);
	json_uint(j, "evicted_bytes", s->evicted_bytes);
	json_uint(j, "waiting", s->waiting);
	json_uint(j, "in_flight", s->in_flight);
	json_uint(j, "rtt_ns", s->rtt_ns);
	json_uint(j, "rate_bytes", s->rate_bytes);
	json_int(j, "error", s->error);
	json_string(j, "message", s->message);
}
