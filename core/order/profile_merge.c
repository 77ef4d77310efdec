/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several runs as one. All ends of all entries cut the resource into pieces that each run has read
 * as a whole or not at all:
 *
 *     run 1   |---------|    |----|
 *     run 2       |------------|
 *     pieces  | a | b   | c  | d | e |        each has a time in each run
 */
#include "base/cleanup.h"

#include <errno.h>
#include <hither/profile.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct piece {
	uint64_t offset, len;
	int64_t sum_ms; /* of its times in the runs that have it, counted from their ends */
	uint32_t runs;
	bool waited;
};

struct merge {
	uint64_t *ends; /* sorted, each once: piece i is [ends[i], ends[i + 1]) */
	size_t end_count;
	struct piece *pieces;
	size_t *next; /* [end_count] of one run: the first piece from this on that it has not been
	                 given */
};

static void merge_finish(struct merge *m)
{
	free(m->ends);
	free(m->pieces);
	free(m->next);
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static int find_ends(struct merge *m, const struct hither_profile *runs, size_t count)
{
	size_t entries = 0, n = 0;
	for (size_t i = 0; i < count; i++)
		entries += runs[i].count;
	m->ends = calloc(2 * entries + 1, sizeof *m->ends);
	m->pieces = calloc(2 * entries + 1, sizeof *m->pieces);
	m->next = calloc(2 * entries + 1, sizeof *m->next);
	if (!m->ends || !m->pieces || !m->next)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < runs[i].count; k++) {
			m->ends[n++] = runs[i].entries[k].offset;
			m->ends[n++] = runs[i].entries[k].offset + runs[i].entries[k].len;
		}
	if (n)
		qsort(m->ends, n, sizeof *m->ends, compare_u64);
	for (size_t i = 0; i < n; i++)
		if (!i || m->ends[i] != m->ends[m->end_count - 1])
			m->ends[m->end_count++] = m->ends[i];
	return 0;
}

static size_t piece_at(const struct merge *m, uint64_t offset)
{
	const uint64_t *at = bsearch(&offset, m->ends, m->end_count, sizeof *m->ends, compare_u64);
	return (size_t)(at - m->ends);
}

/* The first piece from i on that has no time yet; paths are halved on the way. */
static size_t first_open(struct merge *m, size_t i)
{
	while (m->next[i] != i) {
		m->next[i] = m->next[m->next[i]];
		i = m->next[i];
	}
	return i;
}

static int64_t end_ms(const struct hither_profile *run)
{
	int64_t last = 0;
	for (size_t k = 0; k < run->count; k++)
		last = run->entries[k].at_ms > last ? run->entries[k].at_ms : last;
	return last + 1;
}

static void add_run(struct merge *m, const struct hither_profile *run)
{
	int64_t end_of_run = end_ms(run);
	for (size_t i = 0; i < m->end_count; i++)
		m->next[i] = i;
	for (size_t k = 0; k < run->count; k++) {
		const struct hither_profile_entry *e = &run->entries[k];
		size_t end = piece_at(m, e->offset + e->len);
		for (size_t i = first_open(m, piece_at(m, e->offset)); i < end;
		     i = first_open(m, i)) {
			struct piece *p = &m->pieces[i];
			p->sum_ms += e->at_ms - end_of_run;
			p->runs++;
			p->waited |= e->waited;
			m->next[i] = i + 1;
		}
	}
}

static int compare_pieces(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;
	if (x->sum_ms != y->sum_ms)
		return x->sum_ms < y->sum_ms ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The pieces that somebody read, by time, and neighbours that follow each other as one. */
static int put_entries(struct merge *m, int64_t ends_ms, size_t runs, struct hither_profile *out)
{
	size_t count = 0;
	for (size_t i = 0; i + 1 < m->end_count; i++) {
		struct piece p = m->pieces[i];
		if (!p.runs)
			continue;
		p.offset = m->ends[i];
		p.len = m->ends[i + 1] - m->ends[i];
		m->pieces[count++] = p;
	}
	if (count)
		qsort(m->pieces, count, sizeof *m->pieces, compare_pieces);
	out->entries = malloc((count ? count : 1) * sizeof *out->entries);
	if (!out->entries)
		return -ENOMEM;
	for (size_t i = 0; i < count && out->count < HITHER_PROFILE_MOST_ENTRIES; i++) {
		const struct piece *p = &m->pieces[i];
		struct hither_profile_entry *last =
		        out->count ? &out->entries[out->count - 1] : NULL;
		if (last && last->offset + last->len == p->offset) {
			last->len += p->len;
			last->waited |= p->waited;
			continue;
		}
		int64_t ms = (ends_ms + p->sum_ms) / (int64_t)runs;
		out->entries[out->count++] = (struct hither_profile_entry){
		        p->offset, p->len, ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX, p->waited};
	}
	return 0;
}

static int check_alike(const struct hither_profile *runs, size_t count, struct hither_profile *out,
                       struct hither_error *err)
{
	*out = (struct hither_profile){.size_bytes = runs[0].size_bytes};
	for (size_t i = 0; i < count; i++) {
		const char *version = runs[i].version;
		if (runs[i].size_bytes != out->size_bytes ||
		    (*version && *out->version && strcmp(version, out->version) != 0))
			return hither_fail(
			        err, -EINVAL,
			        "profile %zu is of another resource than those before it, "
			        "or of another version of it: record it again",
			        i + 1);
		if (*version)
			memcpy(out->version, version, sizeof out->version);
	}
	return 0;
}

int hither_profile_merge(const struct hither_profile *runs, size_t count,
                         struct hither_profile *out, struct hither_error *err)
{
	struct merge m = {0};
	struct hither_profile merged;
	int64_t ends_ms = 0;
	int r = check_alike(runs, count, &merged, err);
	if (r)
		return r;
	r = find_ends(&m, runs, count);
	for (size_t i = 0; !r && i < count; i++) {
		add_run(&m, &runs[i]);
		ends_ms += end_ms(&runs[i]);
	}
	if (!r)
		r = put_entries(&m, ends_ms, count, &merged);
	merge_finish(&m);
	if (r)
		return hither_fail(err, r, "no memory to merge %zu profiles", count);
	*out = merged;
	return 0;
}

/* --- to a file --- */

static bool put(FILE *file, const struct hither_profile *p)
{
	char text[HITHER_PROFILE_LINE_BYTES];
	hither_profile_print_head(text, p->size_bytes, p->version);
	bool good = fputs(text, file) >= 0;
	for (size_t i = 0; good && i < p->count; i++) {
		hither_profile_print_entry(text, &p->entries[i]);
		good = fputs(text, file) >= 0;
	}
	return good;
}

int hither_profile_save(const char *path, const struct hither_profile *p, struct hither_error *err)
{
	HITHER_FREE char *fresh = NULL;
	if (asprintf(&fresh, "%s-XXXXXX", path) < 0) {
		fresh = NULL;
		return hither_fail(err, -ENOMEM, "profile %s: no memory", path);
	}
	int fd = mkstemp(fresh);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
	bool good = file && put(file, p) && !fflush(file) && !fchmod(fd, 0644);
	int why = errno;
	if (file ? fclose(file) && good : fd >= 0 && close(fd)) {
		good = false;
		why = errno;
	}
	if (good && rename(fresh, path)) {
		good = false;
		why = errno;
	}
	if (good)
		return 0;
	if (fd >= 0)
		unlink(fresh);
	return hither_fail(err, -why, "profile %s: write: %s", path, strerror(why));
}
