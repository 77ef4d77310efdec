/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include "check.h"
#include "json.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void check_line(const struct progress *p, const struct hither_mount_stats *stats,
                       unsigned width, const char *expected)
{
	char line[256];
	progress_line(p, stats, width, line, sizeof line);
	if (strcmp(line, expected)) {
		fprintf(stderr, "%s|\nnot\n%s|\n", line, expected);
		CHECK(false);
	}
}

static void a_mount_shows_share_rates_waits_and_dirt(void)
{
	const struct progress p = {.style = PROGRESS_MOUNT, .rated = true, .down = 12.3e6};
	struct hither_mount_stats s = {.size_bytes = 1000000000, .local_bytes = 420000000};
	check_line(&p, &s, 200, " 42 %  420 MB of 1.0 GB  down 12.3 MB/s");
	s.waiting = 3;
	s.dirty_bytes = 1200000;
	check_line(&p, &s, 200,
	           " 42 %  420 MB of 1.0 GB  down 12.3 MB/s  up 0 B/s  3 waiting  1.2 MB dirty");
	s.error = -111;
	strcpy(s.message, "http: no answer; try again");
	check_line(&p, &s, 200,
	           " 42 %  420 MB of 1.0 GB  http: no answer  3 waiting  1.2 MB dirty");
}

static void no_rate_is_shown_before_there_is_one(void)
{
	struct progress p = {.machine_fd = -1};
	struct hither_mount_stats s = {.size_bytes = 1000, .local_bytes = 420};
	check_line(&p, &s, 200, " 42 %  420 B of 1.0 kB");
	progress_update(&p, &s);
	CHECK(!p.rated);
	s.pulled_bytes = 1 << 30;
	while (!p.rated)
		progress_update(&p, &s);
	CHECK(p.down > 1 << 20); /* of which most were forgotten, were it the second one */
}

/* A line of 80 columns says why, and leaves out where. */
static void the_reason_comes_first(void)
{
	const struct progress p = {.style = PROGRESS_PULL, .rated = true, .down = 10e6};
	struct hither_mount_stats s = {
	        .size_bytes = 1000000000,
	        .local_bytes = 500000000,
	        .error = -111,
	        .message = "http: http://h/a%20long/way/to/the/file: no answer: really; ask later"};
	check_line(&p, &s, 200,
	           " 50 %  500 MB of 1.0 GB  no answer: really  "
	           "(http://h/a%20long/way/to/the/file)");
	strcpy(s.message, "http://h/a#files: gave up after 3 s (http: http://h/a/b: no answer); x");
	check_line(&p, &s, 200, " 50 %  500 MB of 1.0 GB  no answer  (http://h/a/b)");
	strcpy(s.message, "http: http://h/a%20long/way/to/the/file: no answer: really; ask later");
	check_line(&p, &s, 60, " 50 %  500 MB of 1.0 GB  no answer: really  (http://h/a%20lo");
}

static void a_pull_shows_a_bar_and_the_time_left(void)
{
	const struct progress p = {.style = PROGRESS_PULL, .rated = true, .down = 10e6};
	struct hither_mount_stats s = {.size_bytes = 1000000000, .local_bytes = 500000000};
	check_line(&p, &s, 200,
	           "[##########          ]  50 %  500 MB of 1.0 GB  10.0 MB/s  0:50 left");
	s.local_bytes = s.size_bytes;
	check_line(&p, &s, 200, "[####################] 100 %  1.0 GB of 1.0 GB  10.0 MB/s");
}

static void all_is_said_only_when_all_is_there(void)
{
	const struct progress p = {0};
	struct hither_mount_stats s = {.size_bytes = 1000000000, .local_bytes = 999999999};
	char line[256];
	CHECK(!strncmp(progress_line(&p, &s, 200, line, sizeof line), " 99 %", 5));
	s = (struct hither_mount_stats){0};
	CHECK(!strncmp(progress_line(&p, &s, 200, line, sizeof line), "100 %", 5));
}

static void a_line_never_wraps(void)
{
	const struct progress p = {.style = PROGRESS_PULL};
	const struct hither_mount_stats s = {
	        .size_bytes = 1000, .error = -5, .message = "a long message that goes on and on"};
	char line[64];
	for (unsigned width = 0; width < 100; width++) {
		progress_line(&p, &s, width, line, sizeof line);
		CHECK(strlen(line) <= width);
		CHECK(strlen(line) < sizeof line);
	}
}

static void machines_get_lines_of_json(void)
{
	int fds[2];
	char text[2048];
	const struct hither_mount_stats s = {
	        .size_bytes = 7, .local_bytes = 5, .message = "a \"b\""};
	CHECK(!pipe2(fds, O_CLOEXEC));
	struct progress p = {.machine_fd = fds[1]};
	progress_update(&p, &s);
	progress_update(&p, &s);
	close(fds[1]);
	ssize_t len = read(fds[0], text, sizeof text - 1);
	close(fds[0]);
	CHECK(len > 0);
	text[len] = 0;
	char *second = strchr(text, '\n'), message[64];
	CHECK(second && second[1] == '{' && text[len - 1] == '\n');
	CHECK_EQ(json_get_uint(second + 1, "local_bytes"), 5);
	CHECK(json_get_string(second + 1, "message", message, sizeof message));
	CHECK(!strcmp(message, "a \"b\""));
}

int main(void)
{
	RUN(a_mount_shows_share_rates_waits_and_dirt);
	RUN(no_rate_is_shown_before_there_is_one);
	RUN(the_reason_comes_first);
	RUN(a_pull_shows_a_bar_and_the_time_left);
	RUN(all_is_said_only_when_all_is_there);
	RUN(a_line_never_wraps);
	RUN(machines_get_lines_of_json);
	return 0;
}
