/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request to hither-stream's endpoint. Input: lines; the first is method and path, then headers
 * as "Name: value". What is answered lies in the media, and nobody from elsewhere gets anything.
 */
#include "check.h"
#include "fuzz.h"
#include "request.h"

#include <string.h>
#include <strings.h>

enum { PORT = 8484 };

static const uint64_t sizes[] = {0, 1, 1000, UINT64_MAX};

static void take_header(struct request *r, char *line)
{
	char *value = strstr(line, ": ");
	if (!value)
		return;
	*value = 0;
	value += 2;
	const struct {
		const char *name;
		const char **field;
	} known[] = {{"host", &r->host},
	             {"origin", &r->origin},
	             {"range", &r->range},
	             {"if-range", &r->if_range},
	             {"sec-fetch-site", &r->site}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcasecmp(line, known[i].name))
			*known[i].field = value;
	r->host_count += !strcasecmp(line, "host");
}

static void check(const struct request *r, uint64_t size)
{
	struct answer a;
	request_judge(r, PORT, size, "\"v\"", &a);
	if (a.what == REQUEST_NOTHING) {
		CHECK(a.status >= 400 && a.len == 0);
		return;
	}
	CHECK(r->host && r->host_count == 1 && strstr(r->host, ":8484"));
	CHECK(!r->origin || !strncmp(r->origin, "http://", 7));
	CHECK(!strcmp(r->method, "GET") || !strcmp(r->method, "HEAD"));
	CHECK(a.status == 200 || a.status == 206);
	if (a.what != REQUEST_MEDIA)
		return;
	CHECK(a.first <= size && a.len <= size - a.first);
	CHECK(a.status == 200 ? a.first == 0 && a.len == size : a.len > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *rest = text, *line;
	struct request r = {.method = "", .path = ""};
	CHECK(text);
	memcpy(text, data, size);
	text[size] = 0;
	line = strsep(&rest, "\n");
	char *path = strchr(line, ' ');
	r.method = line;
	if (path) {
		*path = 0;
		r.path = path + 1;
	}
	while (rest && (line = strsep(&rest, "\n")))
		take_header(&r, line);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		check(&r, sizes[i]);
	uint64_t us = 0;
	if (request_seconds(r.path, &us))
		CHECK(us < (UINT64_C(366) * 86400 + 1) * 1000000);
	free(text);
	return 0;
}
