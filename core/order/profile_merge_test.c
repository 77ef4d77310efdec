/* SPDX-License-Identifier: Apache-2.0 */
/* Merging runs, and writing profiles. */
#include "base/clock.h"
#include "check.h"

#include <errno.h>
#include <hither/profile.h>
#include <string.h>
#include <unistd.h>

#define HEAD "hither-profile 1\nsize 1000000\n"

static struct hither_error err;

static struct hither_profile parse(const char *text)
{
	struct hither_profile p;
	CHECK_OK(hither_profile_parse(text, strlen(text), &p, &err));
	return p;
}

static void check_entry(const struct hither_profile *p, size_t i, uint64_t offset, uint64_t len,
                        uint32_t ms, bool waited)
{
	CHECK(i < p->count);
	CHECK_EQ(p->entries[i].offset, offset);
	CHECK_EQ(p->entries[i].len, len);
	CHECK_EQ(p->entries[i].at_ms, ms);
	CHECK_EQ(p->entries[i].waited, waited);
}

static void one_run_stays_as_it_is(void)
{
	struct hither_profile run = parse(HEAD "version v\n50 10 0\n0 20 5 w\n100 1 9\n"), out;
	CHECK_OK(hither_profile_merge(&run, 1, &out, &err));
	CHECK(!strcmp(out.version, "v") && out.size_bytes == 1000000 && out.count == 3);
	check_entry(&out, 0, 50, 10, 0, false);
	check_entry(&out, 1, 0, 20, 5, true);
	check_entry(&out, 2, 100, 1, 9, false);
	hither_profile_finish(&out);
	hither_profile_finish(&run);
}

static void runs_are_averaged_piece_by_piece(void)
{
	struct hither_profile runs[2] = {
	        parse(HEAD "0 100 10\n500 100 20\n0 1000 99\n"),              /* ends at 100 */
	        parse(HEAD "version v\n50 100 30 w\n500 50 0\n900 10 199\n"), /* at 200 */
	};
	struct hither_profile out;
	CHECK_OK(hither_profile_merge(runs, 2, &out, &err));
	CHECK(!strcmp(out.version, "v"));
	/* 500+50: (20+0)/2; 50+50: (10+30)/2; 100+50: (99+30)/2; 0+50: (10+200)/2; 550+50:
	 * (20+200)/2; 900+10: (99+199)/2 and the rest of what only the first has, (99+200)/2. */
	check_entry(&out, 0, 500, 50, 10, false);
	check_entry(&out, 1, 50, 100, 20, true); /* neighbours that follow each other are one */
	check_entry(&out, 2, 0, 50, 105, false);
	check_entry(&out, 3, 550, 50, 110, false);
	check_entry(&out, 4, 900, 10, 149, false);
	check_entry(&out, 5, 150, 350, 149, false);
	check_entry(&out, 6, 600, 300, 149, false);
	check_entry(&out, 7, 910, 90, 149, false);
	CHECK_EQ(out.count, 8);
	for (int i = 0; i < 2; i++)
		hither_profile_finish(&runs[i]);
	hither_profile_finish(&out);
}

static void other_resources_are_refused(void)
{
	struct hither_profile out,
	        runs[3] = {parse(HEAD "version a\n"), parse(HEAD), parse(HEAD "version b\n")};
	CHECK_EQ(hither_profile_merge(runs, 3, &out, &err), -EINVAL);
	CHECK(strstr(err.message, "profile 3"));
	CHECK_OK(hither_profile_merge(runs, 2, &out, &err));
	CHECK_EQ(out.count, 0);
	hither_profile_finish(&out);
	runs[1].size_bytes++;
	CHECK_EQ(hither_profile_merge(runs, 2, &out, &err), -EINVAL);
}

/* 100,000 entries that all have everything: no run is gone through more than once. */
static void overlaps_cost_no_time(void)
{
	enum { COUNT = 100000 };
	struct hither_profile run = {.size_bytes = UINT64_MAX, .count = COUNT}, out;
	run.entries = calloc(COUNT, sizeof *run.entries);
	CHECK(run.entries);
	for (size_t i = 0; i < COUNT; i++)
		run.entries[i] =
		        (struct hither_profile_entry){i, UINT64_MAX - 2 * i, UINT32_MAX, 0};
	uint64_t begin = hither_now_ns();
	CHECK_OK(hither_profile_merge(&run, 1, &out, &err));
	CHECK(hither_now_ns() - begin < 10 * HITHER_NS_PER_S);
	CHECK_EQ(out.count, 1);
	CHECK_EQ(out.entries[0].len, UINT64_MAX);
	hither_profile_finish(&run);
	hither_profile_finish(&out);
}

static void what_is_saved_is_loaded(void)
{
	char folder[] = "/tmp/hither-merge-XXXXXX", path[64];
	struct hither_profile run = parse(HEAD "version v\n50 10 0\n0 20 5 w\n"), again;
	CHECK(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/p", folder);
	CHECK_OK(hither_profile_save(path, &run, &err));
	CHECK_OK(hither_profile_save(path, &run, &err));
	CHECK_OK(hither_profile_load(path, &again, &err));
	CHECK(again.count == 2 && !strcmp(again.version, "v"));
	check_entry(&again, 1, 0, 20, 5, true);
	hither_profile_finish(&again);
	CHECK_EQ(hither_profile_save("/nowhere/at/all", &run, &err), -ENOENT);
	CHECK_EQ(hither_profile_save(folder, &run, &err), -EISDIR);
	hither_profile_finish(&run);
	CHECK(unlink(path) == 0 && rmdir(folder) == 0); /* and nothing else is there */
}

int main(void)
{
	RUN(one_run_stays_as_it_is);
	RUN(runs_are_averaged_piece_by_piece);
	RUN(other_resources_are_refused);
	RUN(overlaps_cost_no_time);
	RUN(what_is_saved_is_loaded);
	return 0;
}
