/* SPDX-License-Identifier: Apache-2.0 */
/* hither profile: what runs have read; several as one; pictures. */
#include "command.h"

#include "plot.h"
#include "settings.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <hither/profile.h>
#include <hither/tree.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FIELD(member) offsetof(struct settings, member)

enum { FILES_MOST = 64, BLOCK_BYTES = 4096 };

static const struct option_spec specs[] = {
        {"output", 'o', "FILE", "Write all of them as one profile.", set_path, FIELD(output)},
        {"plot", 0, "FILE.svg", "Draw them: bytes over time, and where the reader waited.",
         set_path, FIELD(plot)},
        {"list", 'l', NULL, "Print each step: time in s, offset, length, w where it waited.",
         set_true, FIELD(list)},
        {"tree", 0, "URL",
         "The manifest that they are of: its files are named, and how much of each was read.",
         set_string, FIELD(tree_url)},
};
static const struct option_group group = {"Profiles", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group, &options_network, NULL};

struct profiles {
	struct hither_profile runs[FILES_MOST], merged;
	const char *names[FILES_MOST];
	size_t count;
	struct hither_tree *tree; /* NULL: none */
};

/* Runs of two trees, or of two versions, have nothing in common. */
static int check_same(const struct profiles *p, size_t i, struct hither_error *err)
{
	const struct hither_profile *a = &p->runs[0], *b = &p->runs[i];
	bool other = a->size_bytes != b->size_bytes ||
	             (*a->version && *b->version && strcmp(a->version, b->version) != 0);
	return other ? hither_fail(err, -EINVAL,
	                           "%s and %s are of different resources, or of different versions "
	                           "of one",
	                           p->names[0], p->names[i])
	             : 0;
}

static int load(struct profiles *p, char **args, struct hither_error *err)
{
	int r = 0;
	for (; args[p->count] && !r; p->count += !r) {
		if (p->count == FILES_MOST)
			return hither_fail(err, -E2BIG, "more than %d profiles", FILES_MOST);
		p->names[p->count] = args[p->count];
		r = hither_profile_load(args[p->count], &p->runs[p->count], err);
	}
	for (size_t i = 1; i < p->count && !r; i++)
		r = check_same(p, i, err);
	return r ? r : hither_profile_merge(p->runs, p->count, &p->merged, err);
}

static int load_tree(struct profiles *p, const struct settings *s, struct hither_error *err)
{
	struct hither_mount_options o = s->mount;
	o.direct = true;
	int r = hither_tree_fetch(s->url, &o, NULL, &p->tree, err);
	if (!r && !hither_tree_fits(p->tree, &p->merged))
		r = hither_fail(err, -EINVAL, "%s is not the tree that this was learnt of",
		                s->tree_url);
	return r;
}

static void finish(struct profiles *p)
{
	for (size_t i = 0; i < p->count; i++)
		hither_profile_finish(&p->runs[i]);
	hither_profile_finish(&p->merged);
	hither_tree_destroy(p->tree);
}

/* --- printing --- */

static void tell(const char *name, const struct hither_profile *p)
{
	uint64_t bytes = 0, waited = 0, last = 0;
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES], c[UNITS_TEXT_BYTES];
	for (size_t i = 0; i < p->count; i++) {
		bytes += p->entries[i].len;
		waited += p->entries[i].waited ? p->entries[i].len : 0;
		last = p->entries[i].at_ms > last ? p->entries[i].at_ms : last;
	}
	printf("%s: %s of %s in %zu step%s over %.1f s, %s waited for\n", name,
	       units_format_size(a, bytes), units_format_size(b, p->size_bytes), p->count,
	       p->count == 1 ? "" : "s", (double)last / 1000, units_format_size(c, waited));
}

static void list_step(const struct hither_profile_entry *e, uint64_t offset, uint64_t len,
                      const char *path)
{
	printf("%9.3f %12" PRIu64 " %10" PRIu64 " %c%s%s\n", (double)e->at_ms / 1000, offset, len,
	       e->waited ? 'w' : '-', *path ? " " : "", path);
}

/* A step may go over several files: a line each. */
static void list_in_files(const struct hither_tree *t, const struct hither_profile_entry *e)
{
	char path[256];
	uint32_t count;
	const struct hither_tree_node *nodes = hither_tree_nodes(t, &count);
	uint64_t size = hither_tree_size(t);
	uint64_t end = e->offset + e->len < size ? e->offset + e->len : size;
	for (uint64_t at = e->offset, stop; at < end; at = stop) {
		/* Files begin at blocks: what begins in this one may be but the next one. */
		const struct hither_tree_node *n = hither_tree_file_at(t, at);
		uint64_t file_end = n ? n->offset + n->size : 0;
		stop = file_end > at ? file_end : at - at % BLOCK_BYTES + BLOCK_BYTES;
		stop = stop < end ? stop : end;
		if (file_end > at)
			list_step(e, at - n->offset, stop - at,
			          hither_tree_path(t, (uint32_t)(n - nodes), path, sizeof path));
	}
}

static void list(const struct profiles *p)
{
	for (size_t i = 0; i < p->merged.count; i++) {
		const struct hither_profile_entry *e = &p->merged.entries[i];
		if (p->tree)
			list_in_files(p->tree, e);
		else
			list_step(e, e->offset, e->len, "");
	}
}

struct share {
	uint64_t bytes;
	uint32_t first_ms, node;
};

static int compare_shares(const void *a, const void *b)
{
	const struct share *x = a, *y = b;
	if (x->first_ms != y->first_ms)
		return x->first_ms < y->first_ms ? -1 : 1;
	return x->node < y->node ? -1 : x->node > y->node;
}

static void add(struct share *shares, const struct hither_tree_node *nodes, uint32_t node,
                uint64_t from, uint64_t end, uint32_t ms)
{
	const struct hither_tree_node *n = &nodes[node];
	uint64_t low = from > n->offset ? from : n->offset;
	uint64_t high = end < n->offset + n->size ? end : n->offset + n->size;
	if (n->kind != HITHER_TREE_FILE || low >= high)
		return;
	if (!shares[node].bytes || ms < shares[node].first_ms)
		shares[node].first_ms = ms;
	shares[node].bytes += high - low;
}

/* How much of each file was read, in the order of when it began. */
static int list_files(const struct profiles *p, struct hither_error *err)
{
	uint32_t count;
	char path[256], part[UNITS_TEXT_BYTES], size[UNITS_TEXT_BYTES];
	const struct hither_tree_node *nodes = hither_tree_nodes(p->tree, &count);
	AUTO_FREE struct share *shares = calloc(count, sizeof *shares);
	if (!shares)
		return hither_fail(err, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < count; i++)
		shares[i].node = i;
	for (size_t i = 0; i < p->merged.count; i++) {
		const struct hither_profile_entry *e = &p->merged.entries[i];
		uint64_t end = e->offset + e->len;
		const struct hither_tree_node *n;
		/* From the end: file_at() tells the last one before a place, too. */
		for (uint64_t at = end;
		     at > e->offset && (n = hither_tree_file_at(p->tree, at - 1)); at = n->offset)
			add(shares, nodes, (uint32_t)(n - nodes), e->offset, end, e->at_ms);
	}
	qsort(shares, count, sizeof *shares, compare_shares);
	for (uint32_t i = 0; i < count; i++)
		if (shares[i].bytes)
			printf("%9.3f %9s of %9s  %s\n", (double)shares[i].first_ms / 1000,
			       units_format_size(part, shares[i].bytes),
			       units_format_size(size, nodes[shares[i].node].size),
			       hither_tree_path(p->tree, shares[i].node, path, sizeof path));
	return 0;
}

static int show(const struct profiles *p, const struct settings *s, struct hither_error *err)
{
	if (s->list) {
		list(p);
		return 0;
	}
	for (size_t i = 0; i < p->count; i++)
		tell(p->names[i], &p->runs[i]);
	if (p->count > 1)
		tell("together", &p->merged);
	return p->tree ? list_files(p, err) : 0;
}

static int work(struct profiles *p, struct settings *s, char **args, struct hither_error *err)
{
	int r = load(p, args, err);
	if (!r && s->tree_url)
		r = load_tree(p, s, err);
	if (!r)
		r = show(p, s, err);
	if (!r && s->plot)
		r = plot_write(s->plot, p->runs, p->names, p->count, p->tree, err);
	if (!r && s->output)
		r = hither_profile_save(s->output, &p->merged, err);
	return r;
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	AUTO_FREE struct profiles *p = calloc(1, sizeof *p);
	size_t len = s->plot ? strlen(s->plot) : 0;
	if (!p)
		return fail_with(EXIT_FAILED, "no memory");
	if (s->plot && (len < 4 || strcmp(s->plot + len - 4, ".svg")))
		return fail_with(
		        EXIT_MISUSED,
		        "profile: --plot: %s should end in .svg (rsvg-convert makes a PNG of it)",
		        s->plot);
	s->mount.direct = true;
	if (settings_apply(s, s->tree_url, &err))
		return fail_with(EXIT_MISUSED, "profile: %s", err.message);
	int r = work(p, s, args, &err);
	finish(p);
	return r ? fail_with(EXIT_FAILED, "%s", err.message) : EXIT_DONE;
}

const struct command command_profile = {
        .name = "profile",
        .usage = "[OPTIONS] FILE...",
        .summary = "show what runs have read, and merge several into one",
        .text = "Tell what the profiles have, as --record and game-assets learn make them:\n"
                "how much was read, in how many steps, and how much of it was waited for. Of\n"
                "several runs of one resource --output makes one: what all of them read early\n"
                "comes first.",
        .groups = groups,
        .min_args = 1,
        .max_args = 255,
        .run = run,
};
