/* SPDX-License-Identifier: Apache-2.0 */
/* ram-ul inspect: what a machine has paged out, seen from the server, read-only. */
#include "command.h"

#include "claim.h"
#include "server_url.h"
#include "units.h"
#include "util.h"

#include <ctype.h>
#include <errno.h>
#include <hither/mount.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PAGE = 4096, PIECE = 1 << 20, ROW = 16 };
#define MAGIC "SWAPSPACE2"

static const char help[] =
        "Usage: ram-ul inspect HOST[:PORT][/NAME] | URL [PAGE]\n\n"
        "Look at what other machines have put into a server that is running (of this machine's\n"
        "ram-ul: localhost), and change nothing. Without PAGE: who uses it, is there a swap\n"
        "area, and how much of it was ever paged out? With PAGE, a number from 0: that page's\n"
        "4096 bytes.\n"
        "All is read once, which takes as long as copying it.\n\n"
        "  -h, --help  Show this help.\n";

static bool is_zero(const char *page)
{
	return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

static void print_header(const char *page, uint64_t size)
{
	uint32_t last;
	char label[17] = "", text[UNITS_TEXT_BYTES], who[160];
	if (claim_describe(page, who, sizeof who))
		printf("in use by %s\n", who);
	if (memcmp(page + PAGE - strlen(MAGIC), MAGIC, strlen(MAGIC))) {
		puts("no swap area: nobody has run ram-dl swap with it, or ram-dl run has it");
		return;
	}
	memcpy(&last, page + 1028, sizeof last); /* see swap_area.c */
	memcpy(label, page + 1052, 16);
	for (char *at = label; *at; at++)
		if (!isprint((unsigned char)*at))
			*at = '?';
	uint64_t area = ((uint64_t)last + 1) * PAGE;
	printf("swap area of %s, label \"%s\"%s\nuuid ", units_format_size(text, area), label,
	       area > size ? " (larger than what is here!)" : "");
	for (int i = 0; i < 16; i++)
		printf("%02x%s", (unsigned char)page[1036 + i],
		       i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
	putchar('\n');
}

static int summarise(struct hither_mount *m, struct hither_error *err)
{
	uint64_t size = hither_mount_size(m), filled = 0, pages = 0;
	char text[UNITS_TEXT_BYTES];
	AUTO_FREE char *buf = malloc(PIECE);
	if (!buf)
		return hither_fail(err, -ENOMEM, "no memory");
	for (uint64_t at = 0; at + PAGE <= size; at += PIECE) {
		size_t len = size - at < PIECE ? (size_t)(size - at) : PIECE;
		int r = hither_mount_read_at(m, buf, len, at, err);
		if (r)
			return r;
		if (!at)
			print_header(buf, size);
		for (size_t k = at ? 0 : PAGE; k + PAGE <= len; k += PAGE, pages++)
			filled += !is_zero(buf + k);
	}
	printf("%" PRIu64 " of %" PRIu64 " pages have bytes (%s)\n"
	       "These were paged out at some time. What was paged in again is still among them,\n"
	       "until its place is taken by something else.\n",
	       filled, pages, units_format_size(text, filled * PAGE));
	return 0;
}

static int print_page(struct hither_mount *m, uint64_t number, struct hither_error *err)
{
	unsigned char page[PAGE];
	if (number >= hither_mount_size(m) / PAGE)
		return hither_fail(err, -ERANGE, "there are %" PRIu64 " pages, 0 is the first",
		                   hither_mount_size(m) / PAGE);
	int r = hither_mount_read_at(m, page, PAGE, number * PAGE, err);
	for (int at = 0; at < PAGE && !r; at += ROW) {
		printf("%03x ", at);
		for (int i = 0; i < ROW; i++)
			printf(" %02x", page[at + i]);
		printf("  ");
		for (int i = 0; i < ROW; i++)
			putchar(isprint(page[at + i]) ? page[at + i] : '.');
		putchar('\n');
	}
	return r;
}

int command_inspect(int argc, char **argv)
{
	struct hither_mount_options options = {.direct = true};
	struct hither_error err = {0};
	struct hither_mount *m = NULL;
	char *end = NULL;
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(help, stdout);
		return EXIT_DONE;
	}
	if (argc < 2 || argc > 3)
		return fail_with(EXIT_MISUSED,
		                 "inspect: a server, please; see ram-ul inspect --help");
	uint64_t number = argc == 3 ? strtoull(argv[2], &end, 0) : 0;
	if (argc == 3 && (*end || !isdigit((unsigned char)*argv[2])))
		return fail_with(EXIT_MISUSED, "inspect: %s is no number of a page", argv[2]);
	AUTO_FREE char *url = server_url(argv[1]);
	int r = url ? hither_mount_open(url, &options, &m, &err)
	            : hither_fail(&err, -ENOMEM, "no memory");
	if (!r)
		r = argc == 3 ? print_page(m, number, &err) : summarise(m, &err);
	hither_mount_close(m, NULL);
	return r ? fail_with(EXIT_FAILED, "%s", err.message) : EXIT_DONE;
}
