/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SVG 1.1. What is drawn goes into a grid of a picture's points first, so that a profile of a
 * million steps makes no larger a file than it has points.
 */
#include "plot.h"

#include "units.h"
#include "util.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
	LEFT = 100,
	RIGHT = 30,
	RIGHT_NAMES = 230, /* with files' names beside it */
	TOP = 40,
	BOTTOM = 56,
	COLUMNS = 800,
	ROWS = 240,
	PANEL = TOP + ROWS + BOTTOM,
	STEPS = 5,      /* of the scales */
	DOT = 3,        /* points, the least that an eye finds */
	TEXT = 11,      /* points that a line of text takes */
	NAME_MOST = 30, /* letters of a file's name that there is room for */
};

enum { NOTHING, HIT, WAIT };

struct panel {
	const struct hither_profile *p;
	uint64_t ms;                    /* what the width stands for */
	const struct hither_tree *tree; /* NULL: not known */
	bool named[ROWS];               /* rows that have a file's name beside them */
	unsigned char grid[COLUMNS][ROWS];
};

static unsigned row_of(const struct panel *panel, uint64_t offset)
{
	double share = panel->p->size_bytes ? (double)offset / (double)panel->p->size_bytes : 0;
	unsigned row = (unsigned)(share * ROWS);
	return row < ROWS ? row : ROWS - 1;
}

static void fill(struct panel *panel)
{
	memset(panel->grid, NOTHING, sizeof panel->grid);
	for (size_t i = 0; i < panel->p->count; i++) {
		const struct hither_profile_entry *e = &panel->p->entries[i];
		unsigned column = (unsigned)((double)e->at_ms / (double)panel->ms * (COLUMNS - 1));
		unsigned first = row_of(panel, e->offset);
		unsigned last = row_of(panel, e->offset + e->len - 1);
		unsigned char what = e->waited ? WAIT : HIT;
		if (last < first + DOT - 1)
			last = first + DOT - 1;
		if (last >= ROWS) { /* at the upper edge it is as large as elsewhere */
			last = ROWS - 1;
			first = first < ROWS - DOT ? first : ROWS - DOT;
		}
		for (unsigned row = first; row <= last; row++)
			if (panel->grid[column][row] < what)
				panel->grid[column][row] = what;
	}
}

/* All points of one kind as one path of upright strokes. */
static void put_points(FILE *f, const struct panel *panel, unsigned char what, const char *color)
{
	fprintf(f, "<path stroke=\"%s\" stroke-width=\"%d\" d=\"", color, DOT);
	for (unsigned x = 0; x < COLUMNS; x++)
		for (unsigned y = 0; y < ROWS; y++) {
			unsigned from = y;
			while (y < ROWS && panel->grid[x][y] == what)
				y++;
			if (y > from)
				fprintf(f, "M%u %uv-%u", LEFT + x, TOP + ROWS - from, y - from);
		}
	fputs("\"/>\n", f);
}

static void put_text(FILE *f, int x, int y, const char *anchor, const char *text)
{
	fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">", x, y, anchor);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '<' || c == '>' || c == '&' || c < ' ')
			fprintf(f, "&#%u;", c < ' ' ? '?' : c);
		else
			fputc(c, f);
	}
	fputs("</text>\n", f);
}

/* As many digits as tell one step of the scale from the next. */
static int decimals(uint64_t ms)
{
	uint64_t step = ms / STEPS;
	return step >= 1000 ? 1 : step >= 50 ? 2 : 3;
}

static void put_axes(FILE *f)
{
	put_text(f, LEFT + COLUMNS / 2, TOP + ROWS + 36, "middle",
	         "time since the start of the run");
	fprintf(f, "<g transform=\"translate(16 %d) rotate(-90)\">", TOP + ROWS / 2);
	put_text(f, 0, 0, "middle", "place in what was read");
	fputs("</g>\n", f);
}

static void put_scales(FILE *f, const struct panel *panel)
{
	char text[UNITS_TEXT_BYTES];
	put_axes(f);
	fprintf(f,
	        "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" "
	        "stroke=\"#808080\"/>\n",
	        LEFT, TOP, COLUMNS, ROWS);
	for (int i = 0; i <= STEPS; i++) {
		double share = (double)i / STEPS;
		units_format_size(text, (uint64_t)(share * (double)panel->p->size_bytes));
		put_text(f, LEFT - 6, TOP + ROWS - (int)(share * ROWS) + 4, "end", text);
		snprintf(text, sizeof text, "%.*f s", decimals(panel->ms),
		         share * (double)panel->ms / 1000);
		put_text(f, LEFT + (int)(share * COLUMNS), TOP + ROWS + 18, "middle", text);
	}
}

/* --- files --- */

/* The end of a path says more than its beginning. */
static void put_name(FILE *f, struct panel *panel, uint32_t node, unsigned row)
{
	char path[4096], text[NAME_MOST + 4];
	unsigned from = row > TEXT / 2 ? row - TEXT / 2 : 0;
	for (unsigned y = from; y < from + TEXT && y < ROWS; y++)
		if (panel->named[y])
			return;
	for (unsigned y = from; y < from + TEXT && y < ROWS; y++)
		panel->named[y] = true;
	hither_tree_path(panel->tree, node, path, sizeof path);
	size_t len = strlen(path), skip = len > NAME_MOST ? len - NAME_MOST : 0;
	while (skip && ((unsigned char)path[skip] & 0xc0) == 0x80)
		skip++; /* no half of a letter (UTF-8) */
	snprintf(text, sizeof text, "%s%.*s", skip ? "..." : "", NAME_MOST, path + skip);
	put_text(f, LEFT + COLUMNS + 6, TOP + ROWS - (int)row + 4, "start", text);
}

/* It has its name in its middle. */
static bool is_tall(const struct panel *panel, const struct hither_tree_node *n)
{
	return row_of(panel, n->offset + n->size) >= row_of(panel, n->offset) + TEXT;
}

/* A line where each begins that is tall enough, and its name. */
static void put_files(FILE *f, struct panel *panel)
{
	uint32_t count;
	const struct hither_tree_node *nodes = hither_tree_nodes(panel->tree, &count);
	fputs("<path stroke=\"#c0c0c0\" stroke-width=\"1\" d=\"", f);
	for (uint32_t i = 0; i < count; i++) {
		unsigned first = row_of(panel, nodes[i].offset);
		if (nodes[i].kind == HITHER_TREE_FILE &&
		    row_of(panel, nodes[i].offset + nodes[i].size) > first + DOT && first)
			fprintf(f, "M%d %uh%d", LEFT, TOP + ROWS - first, COLUMNS);
	}
	fputs("\"/>\n", f);
	memset(panel->named, 0, sizeof panel->named);
	for (uint32_t i = 0; i < count; i++) {
		unsigned first = row_of(panel, nodes[i].offset);
		unsigned last = row_of(panel, nodes[i].offset + nodes[i].size);
		if (nodes[i].kind == HITHER_TREE_FILE && is_tall(panel, &nodes[i]))
			put_name(f, panel, i, (first + last) / 2);
	}
	/* Of the small ones those that were read, where there is room. */
	for (size_t i = 0; i < panel->p->count; i++) {
		const struct hither_tree_node *n =
		        hither_tree_file_at(panel->tree, panel->p->entries[i].offset);
		if (n && !is_tall(panel, n))
			put_name(f, panel, (uint32_t)(n - nodes), row_of(panel, n->offset));
	}
}

/* --- a panel --- */

/* A picture is shown elsewhere: no folders of here, but for those that tell it from the others. */
static const char *short_name(const char *const *names, size_t count, size_t i)
{
	const char *name = names[i], *at = name + strlen(name);
	bool unique = false;
	while (at > name && !unique) {
		do
			at--;
		while (at > name && at[-1] != '/');
		size_t len = strlen(at);
		unique = true;
		for (size_t j = 0; j < count; j++) {
			size_t other = strlen(names[j]);
			unique &= j == i || other < len || strcmp(names[j] + other - len, at) ||
			          (other > len && at > name && names[j][other - len - 1] != '/');
		}
	}
	return at;
}

static void put_title(FILE *f, const struct panel *panel, const char *name)
{
	uint64_t bytes = 0;
	size_t waits = 0;
	char size[UNITS_TEXT_BYTES], text[512];
	for (size_t i = 0; i < panel->p->count; i++) {
		bytes += panel->p->entries[i].len;
		waits += panel->p->entries[i].waited;
	}
	snprintf(text, sizeof text,
	         "%.300s: %s in %zu step%s; blue: was here, red: waited for (%zu)", name,
	         units_format_size(size, bytes), panel->p->count, panel->p->count == 1 ? "" : "s",
	         waits);
	put_text(f, LEFT, TOP - 12, "start", text);
}

static void put_panel(FILE *f, struct panel *panel, const char *name, size_t number)
{
	fill(panel);
	fprintf(f, "<g transform=\"translate(0 %zu)\">\n", number * PANEL);
	put_title(f, panel, name);
	put_scales(f, panel);
	if (panel->tree)
		put_files(f, panel);
	put_points(f, panel, HIT, "#3070c0");
	put_points(f, panel, WAIT, "#d03030");
	fputs("</g>\n", f);
}

static uint64_t last_ms(const struct hither_profile *p)
{
	uint64_t last = 1;
	for (size_t i = 0; i < p->count; i++)
		last = p->entries[i].at_ms > last ? p->entries[i].at_ms : last;
	return last;
}

int plot_write(const char *path, const struct hither_profile *profiles, const char *const *names,
               size_t count, const struct hither_tree *tree, struct hither_error *err)
{
	AUTO_FREE struct panel *panel = malloc(sizeof *panel);
	if (!panel)
		return hither_fail(err, -ENOMEM, "no memory");
	FILE *f = fopen(path, "we");
	if (!f)
		return hither_fail(err, -errno, "write %s: %s", path, strerror(errno));
	fprintf(f,
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
	        "font-family=\"sans-serif\" font-size=\"12\">\n"
	        "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
	        LEFT + COLUMNS + (tree ? RIGHT_NAMES : RIGHT), count * PANEL);
	/* One scale for all: what is shorter was quicker. */
	panel->ms = 0;
	panel->tree = tree;
	for (size_t i = 0; i < count; i++) {
		uint64_t ms = last_ms(&profiles[i]);
		panel->ms = ms > panel->ms ? ms : panel->ms;
	}
	for (size_t i = 0; i < count; i++) {
		panel->p = &profiles[i];
		put_panel(f, panel, short_name(names, count, i), i);
	}
	fputs("</svg>\n", f);
	bool bad = ferror(f);
	if (fclose(f) || bad)
		return hither_fail(err, -EIO, "write %s: %s", path, strerror(errno));
	return 0;
}
