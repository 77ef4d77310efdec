/* SPDX-License-Identifier: Apache-2.0 */
/* The format, what is recorded, and how it is replayed. */
#include "base/clock.h"
#include "check.h"
#include "order/record.h"
#include "order/seen.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/order.h>
#include <hither/profile.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define HEAD "hither-profile 1\nsize 1000000\n"

static struct hither_error err;
static char folder[] = "/tmp/hither-profile-XXXXXX";
static char path[64];

static void put(const char *text)
{
	FILE *f = fopen(path, "w");
	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static char *get(void)
{
	static char text[64 << 10];
	FILE *f = fopen(path, "r");
	CHECK(f);
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	fclose(f);
	return text;
}

static int parse(const char *text, struct hither_profile *p)
{
	err = (struct hither_error){0};
	return hither_profile_parse(text, strlen(text), p, &err);
}

static void a_profile_is_read(void)
{
	struct hither_profile p;
	CHECK_OK(parse("hither-profile 1\r\nsize 1000000\nversion W/\"5 e\" \n# by hand\n\n"
	               "4096 100 5 w\r\n9000 1\t6\n9001 9 7 w\n0 1 99999999999\n",
	               &p));
	CHECK_EQ(p.size_bytes, 1000000);
	CHECK(strcmp(p.version, "W/\"5 e\"") == 0);
	CHECK_EQ(p.count, 3);
	struct hither_profile_entry *e = p.entries;
	CHECK(e[0].offset == 4096 && e[0].len == 100 && e[0].at_ms == 5 && e[0].waited);
	CHECK(e[1].offset == 9000 && e[1].len == 10 && e[1].at_ms == 6 && e[1].waited); /* joined */
	CHECK(e[2].offset == 0 && e[2].len == 1 && e[2].at_ms == UINT32_MAX && !e[2].waited);
	hither_profile_finish(&p);
	CHECK(p.entries == NULL);
	hither_profile_finish(&p);
	hither_profile_finish(NULL);
}

static void what_is_printed_is_read_back(void)
{
	char text[3 * HITHER_PROFILE_LINE_BYTES], version[300];
	memset(version, 'v', sizeof version - 1);
	version[sizeof version - 1] = 0;
	version[1] = '\n';
	size_t n = hither_profile_print_head(text, UINT64_MAX, version);
	CHECK_EQ(n, strlen(text));
	struct hither_profile_entry most = {UINT64_MAX - 7, 7, UINT32_MAX, true},
	                            least = {0, 1, 0, false};
	n += hither_profile_print_entry(text + n, &most);
	n += hither_profile_print_entry(text + n, &least);
	struct hither_profile p;
	CHECK_OK(hither_profile_parse(text, n, &p, &err));
	CHECK(p.size_bytes == UINT64_MAX && p.count == 2);
	CHECK(strlen(p.version) == 255 && memcmp(p.version, "v?vv", 4) == 0);
	CHECK(p.entries[0].offset == most.offset && p.entries[0].len == 7 && p.entries[0].waited);
	CHECK(p.entries[1].offset == 0 && p.entries[1].len == 1 && !p.entries[1].waited);
	hither_profile_finish(&p);
}

static void garbage_is_rejected_with_its_place(void)
{
	static const char *const cases[][2] = {
	        {"", "line 1 (byte 0)"},
	        {"\n", "no hither profile"},
	        {"hither-profil", "no hither profile"},
	        {"hither-profile 2\n", "another version"},
	        {"hither-profile 1\n", "before its size"},
	        {"hither-profile 1\n0 4096 1\n", "line 2 (byte 17): the size must come"},
	        {"hither-profile 1\nsize -5\n", "line 2 (byte 17): the size"},
	        {"hither-profile 1\nsize 18446744073709551616\n", "the size is no"},
	        {HEAD "size 5\n", "line 3 (byte 30): a second size"},
	        {HEAD "version a\nversion b\n", "line 4 (byte 40): a second version"},
	        {HEAD "version a\x01\n", "control byte"},
	        {HEAD "speed 9\n", "line 3 (byte 30): neither"},
	        {HEAD "12 34\n", "line 3 (byte 30): an entry is"},
	        {HEAD "0 1 2\n12 34x 5\n", "line 4 (byte 36): an entry is"},
	        {HEAD "12 34 5 x\n", "an entry ends"},
	        {HEAD "12 34 5 w w\n", "an entry ends"},
	        {HEAD "12 0 5\n", "must not be 0"},
	        {HEAD "18446744073709551615 2 5\n", "beyond 2^64"},
	        {HEAD "18446744073709551616 2 5\n", "an entry is"},
	};
	struct hither_profile p;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		CHECK_EQ(parse(cases[i][0], &p), -EINVAL);
		if (!strstr(err.message, cases[i][1])) {
			fprintf(stderr, "case %zu: %s\n", i, err.message);
			CHECK(!"the message says where and what");
		}
	}
	CHECK_EQ(hither_profile_parse(HEAD "1 2\0 3\n", sizeof HEAD "1 2\0 3\n" - 1, &p, &err),
	         -EINVAL);
	CHECK(strstr(err.message, "zero byte"));
	char line[700];
	memset(line, '#', sizeof line);
	memcpy(line, HEAD, strlen(HEAD));
	CHECK_EQ(hither_profile_parse(line, sizeof line, &p, &err), -EINVAL);
	CHECK(strstr(err.message, "line 3 (byte 30): a line of more than"));
	CHECK_EQ(hither_profile_parse("", 0, &p, NULL), -EINVAL);
}

static void a_last_line_cut_short_is_left_out(void)
{
	struct hither_profile p;
	CHECK_OK(parse(HEAD "0 1 0\n50 6", &p));
	CHECK_EQ(p.count, 1);
	hither_profile_finish(&p);
	CHECK_OK(parse(HEAD "0 1 0\n50 6 7", &p)); /* whole as far as one can tell */
	CHECK_EQ(p.count, 2);
	hither_profile_finish(&p);
}

/* Lines of count entries apart from each other, in memory that the caller frees. */
static char *many_entries(size_t count, size_t *len)
{
	char *text = malloc(count * 24 + 64);
	CHECK(text);
	*len = hither_profile_print_head(text, 1u << 30, NULL);
	for (size_t i = 0; i < count; i++)
		*len += (size_t)sprintf(text + *len, "%zu 1 0\n", i * 2);
	return text;
}

static void entries_are_limited(void)
{
	struct hither_profile p;
	size_t len;
	char *text = many_entries(HITHER_PROFILE_MOST_ENTRIES + 1, &len);
	CHECK_EQ(hither_profile_parse(text, len, &p, &err), -E2BIG);
	CHECK(strstr(err.message, "line 1048579: more than 1048576 entries"));
	CHECK_EQ(hither_profile_parse(text, len - 1, &p, &err), -E2BIG);
	len -= strlen("2097152 1 0\n");
	CHECK_OK(hither_profile_parse(text, len, &p, &err));
	CHECK_EQ(p.count, HITHER_PROFILE_MOST_ENTRIES);
	hither_profile_finish(&p);
	free(text);
}

static void pages_are_seen_once(void)
{
	struct seen s;
	uint64_t pages = 100000;
	CHECK_EQ(seen_init(&s, pages * SEEN_PAGE - 1), 0);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < pages; i++)
			CHECK(seen_mark(&s, i * 7919 % pages) == (round == 0));
	}
	seen_finish(&s);
	CHECK_EQ(seen_init(&s, 0), 0);
	seen_finish(&s);
}

static void first_accesses_are_recorded(void)
{
	struct hither_order_view view = {.size_bytes = 10 * MIB + 100};
	struct hither_order *o;
	struct hither_range r;
	unlink(path);
	CHECK_OK(hither_order_record(&view, path, &o, &err));
	CHECK(strcmp(get(), "hither-profile 1\nsize 10485860\n") == 0); /* made at once */
	o->ops->saw(o, 5000, 10, true);                                 /* its page */
	o->ops->saw(o, 8192, 8192, true);                               /* goes on there: joined */
	o->ops->saw(o, 16384, 4096, false);   /* did not wait: not joined */
	o->ops->saw(o, 0, 64 * KIB, false);   /* only what is new of it */
	o->ops->saw(o, 0, 64 * KIB, true);    /* nothing is */
	o->ops->saw(o, 10 * MIB, 4096, true); /* over the end */
	o->ops->saw(o, 20 * MIB, 4096, true); /* outside */
	o->ops->saw(o, UINT64_MAX, UINT64_MAX, true);
	CHECK(!o->ops->next(o, MIB, &r));
	hither_order_destroy(o);
	struct hither_profile p;
	CHECK_OK(hither_profile_load(path, &p, &err));
	const struct hither_profile_entry want[] = {
	        {4096, 12288, 0, true},   {16384, 4096, 0, false},  {0, 4096, 0, false},
	        {20480, 45056, 0, false}, {10 * MIB, 100, 0, true},
	};
	/* The first two are joined when read. */
	CHECK_EQ(p.count, 4);
	CHECK(p.entries[0].offset == 4096 && p.entries[0].len == 16384 && p.entries[0].waited);
	for (size_t i = 1; i < 4; i++) {
		CHECK_EQ(p.entries[i].offset, want[i + 1].offset);
		CHECK_EQ(p.entries[i].len, want[i + 1].len);
		CHECK_EQ(p.entries[i].waited, want[i + 1].waited);
	}
	CHECK(strstr(get(), "\n16384 4096 "));
	hither_profile_finish(&p);
}

static void stalls_are_told_in_comments(void)
{
	struct hither_order_view view = {.size_bytes = MIB};
	struct hither_order *o;
	struct hither_profile p;
	unlink(path);
	CHECK_OK(hither_order_record(&view, path, &o, &err));
	uint64_t now = hither_now_ns();
	o->ops->saw(o, 8192, 4096, true);
	hither_order_record_stall(o, 8192, 4096, now, now + 70 * HITHER_NS_PER_MS);
	o->ops->saw(o, 12288, 4096, true);
	for (unsigned i = 0; i < 20000; i++)
		hither_order_record_stall(o, UINT64_MAX, UINT64_MAX, now, UINT64_MAX);
	hither_order_destroy(o);
	const char *text = get();
	unsigned from, until, count = 0;
	const char *line = strstr(text, "\n# stalled 8192 4096 ");
	CHECK(line && sscanf(line, "\n# stalled 8192 4096 %u %u", &from, &until) == 2);
	CHECK(until - from == 70 || until - from == 71);
	char any[HITHER_PROFILE_LINE_BYTES];
	FILE *f = fopen(path, "r");
	while (f && fgets(any, sizeof any, f))
		count += !strncmp(any, "# stalled ", 10);
	CHECK(f && fclose(f) == 0);
	CHECK_EQ(count, 10000); /* enough */
	CHECK_OK(hither_profile_load(path, &p, &err));
	CHECK(p.count == 1 && p.entries[0].len == 8192);
	hither_profile_finish(&p);
}

static void a_recording_is_on_disk_as_it_goes_and_ends_at_the_limit(void)
{
	struct hither_order_view view = {.size_bytes = UINT64_C(16) << 30};
	struct hither_order *o;
	struct stat st;
	unlink(path);
	CHECK_OK(hither_order_record(&view, path, &o, &err));
	CHECK(stat(path, &st) == 0);
	off_t before = st.st_size;
	for (uint64_t i = 0; i < 300; i++)
		o->ops->saw(o, i * 2 * SEEN_PAGE, 1, false);
	CHECK(stat(path, &st) == 0 && st.st_size > before);
	for (uint64_t i = 300; i < HITHER_PROFILE_MOST_ENTRIES + 5000; i++)
		o->ops->saw(o, i * 2 * SEEN_PAGE, 1, false);
	hither_order_destroy(o);
	struct hither_profile p;
	CHECK_OK(hither_profile_load(path, &p, &err));
	CHECK_EQ(p.count, HITHER_PROFILE_MOST_ENTRIES);
	hither_profile_finish(&p);
}

static void places_that_cannot_be_written_are_told_at_once(void)
{
	struct hither_order_view view = {.size_bytes = MIB};
	struct hither_order *o;
	CHECK_EQ(hither_order_record(&view, "/nowhere/at/all", &o, &err), -ENOENT);
	CHECK(strstr(err.message, "/nowhere/at/all"));
	CHECK_EQ(hither_order_record(&view, folder, &o, &err), -EISDIR);
	CHECK_EQ(hither_order_record(&view, "/dev/full", &o, &err), -ENOSPC);
	put("my only copy of something else\n");
	CHECK_EQ(hither_order_record(&view, path, &o, &err), -EEXIST);
	CHECK(strstr(get(), "my only copy"));
}

static void a_full_disk_ends_the_recording_at_a_whole_line(void)
{
	struct hither_order_view view = {.size_bytes = UINT64_C(1) << 30};
	struct hither_order *o;
	struct rlimit old, low;
	unlink(path);
	CHECK_OK(hither_order_record(&view, path, &o, &err));
	signal(SIGXFSZ, SIG_IGN);
	CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
	low = old;
	low.rlim_cur = 10000; /* bytes: somewhere in the third buffer */
	CHECK(setrlimit(RLIMIT_FSIZE, &low) == 0);
	for (uint64_t i = 0; i < 20000; i++)
		o->ops->saw(o, i * 2 * SEEN_PAGE, 1, true);
	hither_order_destroy(o);
	CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
	char *text = get();
	CHECK(strlen(text) > 1000 && strlen(text) <= 10000 && text[strlen(text) - 1] == '\n');
	struct hither_profile p;
	CHECK_OK(hither_profile_load(path, &p, &err));
	CHECK_EQ(p.count % 256, 0);
	hither_profile_finish(&p);
}

static struct hither_order *replay(uint64_t size)
{
	static struct hither_order_view view;
	view.size_bytes = size;
	struct hither_order *o;
	CHECK_OK(hither_order_replay(&view, path, &o, &err));
	return o;
}

static uint64_t window = MIB;

static void check_next(struct hither_order *o, uint64_t offset, uint64_t len)
{
	struct hither_range r;
	CHECK(o->ops->next(o, window, &r));
	CHECK_EQ(r.offset, offset);
	CHECK_EQ(r.len, len);
}

static void check_dry(struct hither_order *o)
{
	struct hither_range r;
	CHECK(!o->ops->next(o, MIB, &r) || r.len == 0); /* nothing, or what was said has to come */
	hither_order_destroy(o);
}

static void a_replay_gives_the_profile_in_order_clipped_in_pieces(void)
{
	put(HEAD "500000 4096 0\n3000000 4096 1\n9 250000 2\n299999 3 2\n");
	struct hither_order *o = replay(300000);
	CHECK(o->ops->next);
	check_next(o, 9, 64 * KIB - 9);
	check_next(o, 64 * KIB, 64 * KIB);
	check_next(o, 128 * KIB, 64 * KIB);
	window = 4 * KIB;
	check_next(o, 192 * KIB, 250009 - 192 * KIB);
	window = MIB;
	check_next(o, 299999, 1);
	check_dry(o);
	check_dry(replay(0));
}

/* Ten entries of 4 KiB, numbered as they come; number k is at place_of(k). */
static uint64_t place_of(uint64_t k)
{
	return k * 7 % 10 * 64 * KIB;
}

static void put_ten(void)
{
	char text[1000] = HEAD;
	for (uint64_t k = 0; k < 10; k++)
		sprintf(text + strlen(text), "%llu 4096 %llu\n", (unsigned long long)place_of(k),
		        (unsigned long long)k);
	put(text);
}

static void a_run_that_is_faster_is_followed(void)
{
	put_ten();
	struct hither_order *o = replay(MIB);
	check_next(o, place_of(0), 4096);
	check_next(o, place_of(1), 4096);
	o->ops->saw(o, place_of(6) + 100, 10, true);
	o->ops->saw(o, place_of(7), 4096, true);
	for (uint64_t k = 6; k < 10; k++)
		check_next(o, place_of(k), 4096);
	for (uint64_t k = 2; k < 6; k++) /* passed, but not forgotten */
		check_next(o, place_of(k), 4096);
	check_dry(o);
}

static void stray_and_earlier_reads_change_nothing(void)
{
	put_ten();
	struct hither_order *o = replay(MIB);
	check_next(o, place_of(0), 4096);
	o->ops->saw(o, place_of(8), 4096, true); /* once */
	o->ops->saw(o, place_of(0), 4096, false);
	o->ops->saw(o, place_of(3), 4096, true);        /* before the suspected one */
	o->ops->saw(o, place_of(2) + 8192, 4096, true); /* in none */
	o->ops->saw(o, 50 * MIB, 4096, true);
	o->ops->saw(o, UINT64_MAX, UINT64_MAX, true);
	for (uint64_t k = 1; k < 10; k++)
		check_next(o, place_of(k), 4096);
	o->ops->saw(o, place_of(2), 4096, true);
	o->ops->saw(o, place_of(4), 4096, true);
	check_dry(o);
}

/* Chunks of 64 KiB. */
static void whole_chunks(const struct hither_order_view *view, uint64_t *offset, uint64_t *end)
{
	uint64_t chunk = 64 * KIB, stop = *end + chunk - 1;
	*offset -= *offset % chunk;
	stop -= stop % chunk;
	*end = stop < view->size_bytes ? stop : view->size_bytes;
}

static void what_lies_together_is_asked_for_at_once(void)
{
	struct hither_order *o;
	/* Beside each other and 20 KiB apart (a window of 1 MiB: up to 32), in any order. */
	put(HEAD "40960 4096 0\n900000 4096 1\n36864 4096 2\n65536 4096 3\n0 2048 9\n");
	o = replay(1000000);
	check_next(o, 36864, 65536 + 4096 - 36864);
	check_next(o, 900000, 4096);
	check_next(o, 0, 2048);
	check_dry(o);
	/* As whole chunks they are neighbours, each once. */
	put(HEAD "40960 4096 0\n900000 4096 1\n36864 4096 2\n65536 4096 3\n200000 9 4\n");
	struct hither_order_view view = {.size_bytes = 1000000, .whole = whole_chunks};
	CHECK_OK(hither_order_replay(&view, path, &o, &err));
	window = 2 * MIB;
	check_next(o, 0, 128 * KIB);
	check_next(o, 832 * KIB, 64 * KIB);
	check_next(o, 192 * KIB, 64 * KIB);
	window = MIB;
	check_dry(o);
	/* Never longer than a sixteenth of the window. */
	char text[4000] = HEAD;
	for (unsigned i = 0; i < 64; i++)
		sprintf(text + strlen(text), "%u 8192 0\n", (i * 37 % 64) * 8192);
	put(text);
	o = replay(1000000);
	struct hither_range r;
	uint64_t sum = 0;
	for (unsigned calls = 0; sum < 64 * 8192 && o->ops->next(o, MIB, &r); sum += r.len)
		CHECK(r.len && r.len <= MIB / 16 && ++calls <= 16);
	CHECK_EQ(sum, 64 * 8192);
	hither_order_destroy(o);
}

static uint64_t local_from, local_end;

static int peek_local(const struct hither_order_view *view, void *buf, size_t len, uint64_t offset)
{
	return offset >= local_from && offset + len <= local_end ? 0 : -EAGAIN;
}

/* Who would guess next is told to wait, while the line has more than a quarter of its window to do.
 */
static void the_end_of_a_profile_has_the_line_for_itself(void)
{
	struct hither_order_view view = {.size_bytes = 8 * MIB, .peek = peek_local};
	struct hither_order *o;
	struct hither_range r;
	put(HEAD "0 4096 0\n1048576 524288 1\n4194304 524288 2\n");
	local_from = 4 * MIB; /* the last is here already */
	local_end = 8 * MIB;
	CHECK_OK(hither_order_replay(&view, path, &o, &err));
	uint64_t sum = 0;
	while (sum < 4096 + MIB && o->ops->next(o, MIB, &r))
		sum += r.len;
	CHECK_EQ(sum, 4096 + MIB);
	CHECK(o->ops->next(o, MIB, &r) && r.len == 0);
	o->ops->arrived(o, 0, 4096);
	o->ops->arrived(o, MIB, 64 * KIB); /* in parts, and not in order */
	o->ops->arrived(o, MIB + 256 * KIB, 128 * KIB);
	CHECK(o->ops->next(o, MIB, &r) && r.len == 0);
	o->ops->arrived(o, MIB + 64 * KIB, 64 * KIB);
	CHECK(!o->ops->next(o, MIB, &r));
	hither_order_destroy(o);
}

static void what_a_profile_claims_costs_no_time(void)
{
	char *text = malloc(64 + 40 * 200000);
	CHECK(text);
	size_t len = hither_profile_print_head(text, UINT64_C(1) << 62, NULL);
	for (unsigned i = 0; i < 200000; i++)
		len += (size_t)sprintf(text + len, "%llu %llu 0\n",
		                       (unsigned long long)i << 24 | (i & 1),
		                       i % 3 ? 33000000ULL : 1ULL << 61);
	FILE *f = fopen(path, "w");
	CHECK(f && fwrite(text, 1, len, f) == len && fclose(f) == 0);
	free(text);
	uint64_t begin = hither_now_ns();
	struct hither_order *o = replay(UINT64_C(1) << 40);
	struct hither_range r;
	for (unsigned i = 0; i < 1000; i++)
		CHECK(o->ops->next(o, MIB, &r) && r.len && r.offset + r.len <= UINT64_C(1) << 40);
	hither_order_destroy(o);
	CHECK(hither_now_ns() - begin < 20 * HITHER_NS_PER_S);
}

static void a_run_may_replay_the_file_it_records_to(void)
{
	put_ten();
	struct hither_order_view view = {.size_bytes = MIB};
	struct hither_order *recorder;
	CHECK_OK(hither_order_record(&view, path, &recorder, &err));
	hither_order_destroy(recorder); /* read nothing: the old one stays */
	CHECK_OK(hither_order_record(&view, path, &recorder, &err));
	struct hither_order *o = replay(MIB);
	check_next(o, place_of(0), 4096);
	hither_order_destroy(o);
	recorder->ops->saw(recorder, 12288, 1, true);
	hither_order_destroy(recorder);
	struct hither_profile p;
	CHECK_OK(hither_profile_load(path, &p, &err));
	CHECK(p.count == 1 && p.entries[0].offset == 12288 && p.size_bytes == MIB);
	hither_profile_finish(&p);
}

static void a_missing_or_bad_profile_is_named(void)
{
	struct hither_order_view view = {.size_bytes = MIB};
	struct hither_order *o;
	put(HEAD "nonsense\n");
	CHECK_EQ(hither_order_replay(&view, path, &o, &err), -EINVAL);
	CHECK(strstr(err.message, path) && strstr(err.message, "line 3"));
	CHECK_EQ(hither_order_replay(&view, folder, &o, &err), -EISDIR);
	unlink(path);
	CHECK_EQ(hither_order_replay(&view, path, &o, &err), -ENOENT);
	CHECK(strstr(err.message, path));
}

int main(void)
{
	CHECK(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/profile", folder);
	RUN(a_profile_is_read);
	RUN(what_is_printed_is_read_back);
	RUN(garbage_is_rejected_with_its_place);
	RUN(a_last_line_cut_short_is_left_out);
	RUN(entries_are_limited);
	RUN(pages_are_seen_once);
	RUN(first_accesses_are_recorded);
	RUN(stalls_are_told_in_comments);
	RUN(a_recording_is_on_disk_as_it_goes_and_ends_at_the_limit);
	RUN(places_that_cannot_be_written_are_told_at_once);
	RUN(a_full_disk_ends_the_recording_at_a_whole_line);
	RUN(a_replay_gives_the_profile_in_order_clipped_in_pieces);
	RUN(a_run_that_is_faster_is_followed);
	RUN(stray_and_earlier_reads_change_nothing);
	RUN(what_lies_together_is_asked_for_at_once);
	RUN(the_end_of_a_profile_has_the_line_for_itself);
	RUN(what_a_profile_claims_costs_no_time);
	RUN(a_run_may_replay_the_file_it_records_to);
	RUN(a_missing_or_bad_profile_is_named);
	unlink(path);
	CHECK(rmdir(folder) == 0);
	return 0;
}
