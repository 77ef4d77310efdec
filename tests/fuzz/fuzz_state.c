/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store's folder says. Input: one letter, then
 *
 *     'l' flags log                the bytes of a log; flags & 1: of this boot
 *     'r' flags ops... 0xff cut damage...
 *                                  a log made of records, then cut and damaged; see make_log()
 *     'f' sizes state url lock     files of a folder that is opened; see the_folder()
 *
 * For 'r' there is a second opinion: what the undamaged records in front say, block by block. No
 * other answer will do, but to refuse the log.
 */
#include "chunk/block_map_internal.h"
#include "chunk/store_folder.h"
#include "chunk/store_internal.h"

#include "base/io.h"
#include "check.h"
#include "fuzz.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum {
	MOST_RECORDS = 48,
	MOST_LOG_BYTES = HITHER_LOG_HEADER_BYTES + MOST_RECORDS * HITHER_LOG_IDENTITY_BYTES,
	MOST_MAP_BYTES = 16 << 20, /* what a map may take: 2 TiB and a lot of leaves */
	REGION = HITHER_LOG_REGION_BLOCKS,
	BLOCKS = 2 * REGION + 6,
	NEAR = 24,                  /* blocks at each interesting place */
	PLACES = 3,                 /* the start, where two regions meet, the end */
	POINTS = PLACES * NEAR + 2, /* and one between each two of them */
};

/* --- bytes of the input --- */

struct input {
	const uint8_t *at;
	size_t left;
};

static unsigned next8(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

static unsigned next16(struct input *in)
{
	unsigned low = next8(in);
	return low | next8(in) << 8;
}

static uint64_t next64(struct input *in)
{
	uint64_t v = 0;
	for (int i = 0; i < 8; i++)
		v |= (uint64_t)next8(in) << 8 * i;
	return v;
}

static struct input take(struct input *in, size_t len)
{
	struct input part = {in->at, len < in->left ? len : in->left};
	in->at += part.left;
	in->left -= part.left;
	return part;
}

/* --- any bytes as a log --- */

static void *small_alloc(size_t count, size_t size)
{
	return count > MOST_MAP_BYTES / size ? NULL : calloc(count, size);
}

static void check_refusal(int r, const struct hither_error *err)
{
	CHECK(r == -EUCLEAN || r == -ENOMEM);
	CHECK_EQ(err->code, r);
	CHECK(err->message[0] && memchr(err->message, 0, sizeof err->message));
}

static void check_map(const struct hither_block_map *map, uint64_t size_bytes)
{
	uint64_t sum = 0;
	for (int i = HITHER_BLOCK_ABSENT; i <= HITHER_BLOCK_PUSHED; i++)
		sum += hither_block_map_count(map, (enum hither_block_state)i);
	CHECK(sum == hither_log_blocks(size_bytes));
	CHECK_EQ(hither_block_map_count(map, HITHER_BLOCK_PUSHED), 0);
}

static void any_log(struct input in)
{
	struct hither_log_header header;
	struct hither_error err = {0};
	struct hither_log_outcome outcome = {0};
	bool same_boot = next8(&in) & 1;
	int r = hither_log_read_header(in.at, in.left, &header, &err);
	if (r)
		return check_refusal(r, &err);
	char boot_id[HITHER_LOG_BOOT_BYTES] = "another";
	if (same_boot)
		memcpy(boot_id, header.boot_id, sizeof boot_id);
	struct hither_block_map *map =
	        hither_block_map_create(hither_log_blocks(header.identity.size_bytes));
	if (!map)
		return;
	r = hither_log_replay(in.at, in.left, &header, boot_id, map, &outcome, &err);
	if (r) {
		check_refusal(r, &err);
	} else {
		CHECK(outcome.whole_bytes >= header.born_bytes && outcome.whole_bytes <= in.left);
		CHECK(outcome.whole_bytes >= HITHER_LOG_HEADER_BYTES);
		CHECK(memchr(header.identity.version, 0, sizeof header.identity.version));
		check_map(map, header.identity.size_bytes);
	}
	hither_block_map_destroy(map);
}

/* --- a log made of records --- */

struct made {
	struct hither_log_header header;
	bool same_boot;
	size_t count;
	struct hither_log_record records[MOST_RECORDS];
	size_t starts[MOST_RECORDS + 1]; /* of each record, and the end */
	uint8_t clean[MOST_LOG_BYTES];   /* as it was written */
	uint8_t stale[MOST_LOG_BYTES];   /* the same in another log: another salt */
	uint8_t found[MOST_LOG_BYTES];   /* as it is read */
	size_t found_len;
};

static uint64_t point(size_t i)
{
	if (i >= PLACES * NEAR)
		return (i - PLACES * NEAR) * REGION + REGION / 2;
	static const uint64_t starts[PLACES] = {0, REGION - NEAR / 2, BLOCKS - NEAR};
	return starts[i / NEAR] + i % NEAR;
}

static void choose_run(struct input *in, struct hither_log_record *record)
{
	uint64_t a = point(next8(in) % (PLACES * NEAR)), b = point(next8(in) % (PLACES * NEAR));
	record->first = a < b ? a : b;
	record->count = (a < b ? b : a) - record->first + 1;
}

/* The start of some record before this one, or the log's first byte. */
static uint64_t choose_length(const struct made *m, struct input *in)
{
	unsigned which = next8(in);
	return m->count == 0 || which == 0 ? 0 : m->starts[which % (m->count + 1)];
}

/* False: there is none. */
static bool choose_record(const struct made *m, struct input *in, struct hither_log_record *record)
{
	static const char *const versions[] = {"", "v1", "\"etag\""};
	unsigned type = next8(in);
	if (type == 0xff || in->left == 0)
		return false;
	bool wild = type & 0x80; /* as no writer would make it */
	*record = (struct hither_log_record){.type = (enum hither_log_type)(type % 7 + 1)};
	if (record->type == HITHER_LOG_IDENTITY) {
		record->version = versions[next8(in) % 3];
		record->first = wild;
	} else if (wild) {
		record->first = next64(in);
		record->count = next64(in);
	} else if (record->type <= HITHER_LOG_CHANGE) {
		choose_run(in, record);
	} else {
		record->first =
		        record->type == HITHER_LOG_INTENT ? next8(in) % 3 : choose_length(m, in);
		record->count = choose_length(m, in);
	}
	return true;
}

static void make_log(struct made *m, struct input *in)
{
	unsigned flags = next8(in);
	m->same_boot = flags & 1;
	m->header = (struct hither_log_header){.identity = {.size_bytes = BLOCKS * 4096ull - 77},
	                                       .born_bytes = HITHER_LOG_HEADER_BYTES,
	                                       .salt = 12345,
	                                       .boot_id = "this"};
	struct hither_log_header other = m->header;
	other.salt = 54321;
	m->starts[0] = HITHER_LOG_HEADER_BYTES;
	for (m->count = 0; m->count < MOST_RECORDS; m->count++) {
		size_t at = m->starts[m->count];
		struct hither_log_record *record = &m->records[m->count];
		if (!choose_record(m, in, record))
			break;
		m->starts[m->count + 1] =
		        at + hither_log_encode(&m->header, at, record, m->clean + at);
		hither_log_encode(&other, at, record, m->stale + at);
	}
	/* As if it had been rewritten with so many of them. */
	size_t born = m->count ? (flags >> 1) % (m->count + 1) : 0;
	m->header.born_bytes = m->starts[born];
	hither_log_encode_header(&m->header, m->clean);
}

/* Cut it, with what another log left there behind the cut or without, and change some bytes. */
static void damage(struct made *m, struct input *in)
{
	size_t len = m->starts[m->count];
	memcpy(m->found, m->clean, len);
	m->found_len = len;
	unsigned cut = next16(in);
	if (cut & 1) {
		size_t at = cut / 4 % (len + 1);
		if (cut & 2)
			memcpy(m->found + at, m->stale + at, len - at);
		else
			m->found_len = at;
	}
	while (in->left >= 3 && m->found_len > 0) {
		size_t at = next16(in) % m->found_len;
		m->found[at] ^= (uint8_t)next8(in);
	}
}

static bool is_intact(const struct made *m, size_t i)
{
	return m->starts[i + 1] <= m->found_len &&
	       memcmp(m->found + m->starts[i], m->clean + m->starts[i],
	              m->starts[i + 1] - m->starts[i]) == 0;
}

static bool is_sane(const struct made *m, size_t i)
{
	const struct hither_log_record *r = &m->records[i];
	unsigned __int128 end = (unsigned __int128)r->first + r->count;
	switch (r->type) {
	case HITHER_LOG_INTENT:
		return r->first < 3 && r->count <= m->starts[i];
	case HITHER_LOG_BARRIER:
		return r->first <= m->starts[i] && r->count <= m->starts[i];
	case HITHER_LOG_IDENTITY:
		return true;
	default:
		return end <= BLOCKS;
	}
}

/* Did the changes happen to make a record, or a header, that is whole? The search can do that. */
static bool is_forged(const struct made *m, size_t at, size_t len)
{
	uint8_t again[HITHER_LOG_HEADER_BYTES];
	struct hither_log_header header;
	struct hither_log_record record = {0};
	const uint8_t *p = m->found + at;
	if (len > m->found_len - at)
		return false;
	if (at == 0)
		return hither_log_read_header(p, m->found_len, &header, NULL) == 0;
	record.type = (enum hither_log_type)(p[4] | p[5] << 8);
	if (record.type < HITHER_LOG_ABSENT || record.type > HITHER_LOG_IDENTITY)
		return false;
	record.version = "";
	struct input fields = {p + 8, 16};
	record.first = next64(&fields);
	record.count = next64(&fields);
	size_t is = record.type == HITHER_LOG_IDENTITY ? HITHER_LOG_IDENTITY_BYTES
	                                               : HITHER_LOG_RECORD_BYTES;
	if (is > m->found_len - at)
		return false;
	char version[256];
	if (record.type == HITHER_LOG_IDENTITY) {
		memcpy(version, p + 24, sizeof version);
		version[sizeof version - 1] = 0;
		record.version = version;
	}
	return hither_log_encode(&m->header, at, &record, again) == is && memcmp(again, p, is) == 0;
}

/* --- the second opinion --- */

static void set_points(uint8_t states[POINTS], uint64_t first, uint64_t count, int from, int to)
{
	for (size_t i = 0; i < POINTS; i++)
		if (point(i) >= first && point(i) - first < count &&
		    (from < 0 || states[i] == from))
			states[i] = (uint8_t)to;
}

static void believe(uint8_t states[POINTS], const struct hither_log_record *r, bool counts)
{
	enum { A = HITHER_BLOCK_ABSENT, L = HITHER_BLOCK_LOCAL, D = HITHER_BLOCK_DIRTY };
	if (r->type == HITHER_LOG_ABSENT)
		set_points(states, r->first, r->count, -1, A);
	else if (r->type == HITHER_LOG_LOCAL && counts)
		set_points(states, r->first, r->count, -1, L);
	else if (r->type == HITHER_LOG_LOCAL)
		set_points(states, r->first, r->count, D, A);
	else if (r->type == HITHER_LOG_DIRTY && counts)
		set_points(states, r->first, r->count, -1, D);
	else if (r->type == HITHER_LOG_CHANGE && counts)
		set_points(states, r->first, r->count, L, A);
	else if (r->type == HITHER_LOG_INTENT && !counts)
		set_points(states, r->first * REGION, REGION, L, A);
}

static void expected_states(const struct made *m, size_t intact, uint8_t states[POINTS])
{
	uint64_t covered = 0;
	memset(states, HITHER_BLOCK_ABSENT, POINTS);
	for (size_t i = 0; i < intact; i++)
		if (m->records[i].type == HITHER_LOG_BARRIER && m->records[i].first > covered)
			covered = m->records[i].first;
	for (size_t i = 0; i < intact; i++)
		believe(states, &m->records[i], m->same_boot || m->starts[i] < covered);
}

/* Is there something behind the damage that shows it to be damage, not a torn end? */
static bool must_refuse(const struct made *m, size_t intact)
{
	if (m->starts[intact] < m->header.born_bytes)
		return true;
	for (size_t i = intact + 1; i < m->count; i++) {
		const struct hither_log_record *r = &m->records[i];
		if (!is_intact(m, i) || !is_sane(m, i))
			continue;
		bool durable = r->type == HITHER_LOG_INTENT || r->type == HITHER_LOG_BARRIER;
		if (m->same_boot || (durable && r->count > m->starts[intact]))
			return true;
	}
	return false;
}

static void check_answer(const struct made *m, size_t intact)
{
	struct hither_error err = {0};
	struct hither_log_header header;
	struct hither_log_outcome outcome;
	uint8_t states[POINTS];
	struct hither_block_map *map = hither_block_map_create(BLOCKS);
	CHECK(map);
	CHECK_OK(hither_log_read_header(m->found, m->found_len, &header, &err));
	int r = hither_log_replay(m->found, m->found_len, &header,
	                          m->same_boot ? "this" : "another", map, &outcome, &err);
	CHECK(r == 0 || r == -EUCLEAN);
	CHECK(r == -EUCLEAN || !must_refuse(m, intact));
	if (m->found_len == m->starts[intact] && m->found_len >= m->header.born_bytes)
		CHECK_OK(r); /* whole, or cut between two records */
	if (r == 0) {
		CHECK_EQ(outcome.whole_bytes, m->starts[intact]);
		CHECK_EQ(outcome.same_boot, m->same_boot);
		expected_states(m, intact, states);
		for (size_t i = 0; i < POINTS; i++)
			CHECK_EQ(hither_block_map_get(map, point(i)), states[i]);
		check_map(map, header.identity.size_bytes);
	}
	hither_block_map_destroy(map);
}

static void records(struct input in)
{
	static struct made made;
	struct made *m = &made;
	size_t intact = 0;
	make_log(m, &in);
	damage(m, &in);
	if (m->found_len < HITHER_LOG_HEADER_BYTES ||
	    memcmp(m->found, m->clean, HITHER_LOG_HEADER_BYTES) != 0) {
		struct hither_log_header header;
		struct hither_error err = {0};
		if (m->found_len >= HITHER_LOG_HEADER_BYTES &&
		    is_forged(m, 0, HITHER_LOG_HEADER_BYTES))
			return;
		int r = hither_log_read_header(m->found, m->found_len, &header, &err);
		return check_refusal(r, &err);
	}
	while (intact < m->count && is_intact(m, intact) && is_sane(m, intact))
		intact++;
	if (intact < m->count && !is_intact(m, intact) &&
	    m->starts[intact] + HITHER_LOG_RECORD_BYTES <= m->found_len &&
	    is_forged(m, m->starts[intact], HITHER_LOG_RECORD_BYTES))
		return;
	check_answer(m, intact);
}

/* --- a folder --- */

static char cache_dir[PATH_MAX];
static char folder[PATH_MAX]; /* of the one store in it */
static const char URL[] = "http://host/x";

static void remove_cache(void)
{
	scratch_remove(cache_dir);
}

static void find_folder(void)
{
	struct hither_store *s;
	struct hither_store_identity identity;
	struct hither_error err;
	bool existed;
	if (*folder)
		return;
	scratch_make(cache_dir);
	atexit(remove_cache);
	CHECK_OK(hither_store_open(cache_dir, URL, &s, &identity, &existed, &err));
	snprintf(folder, sizeof folder, "%s", hither_store_path(s));
	hither_store_close(s);
}

static void put_file(const char *name, struct input content, uint64_t size_bytes)
{
	char path[PATH_MAX + 16];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(hither_write_all(fd, content.at, content.left), 0);
	if (size_bytes)
		CHECK_EQ(ftruncate(fd, (off_t)size_bytes), 0);
	close(fd);
}

static int see(void *user, const struct hither_store_info *info)
{
	*(struct hither_store_info *)user = *info;
	return 0;
}

static void check_store(struct hither_store *s, const struct hither_store_identity *identity,
                        bool existed, uint64_t *dirty)
{
	struct hither_error err;
	struct stat st;
	CHECK_EQ(fstat(hither_store_fd(s), &st), 0);
	if (!existed)
		return;
	CHECK_EQ(st.st_size, identity->size_bytes);
	struct hither_block_map *map =
	        hither_block_map_create(hither_log_blocks(identity->size_bytes));
	CHECK(map);
	CHECK_OK(hither_store_load(s, map, &err));
	check_map(map, identity->size_bytes);
	*dirty = hither_block_map_count(map, HITHER_BLOCK_DIRTY);
	hither_block_map_destroy(map);
	CHECK_OK(hither_store_sync(s, &err));
}

/* The same to whoever asks next: the list, and the one who wants it deleted. */
static void check_deletion(uint64_t dirty)
{
	static struct hither_store_info info;
	struct hither_error err = {0};
	info = (struct hither_store_info){0};
	CHECK_OK(hither_store_list(cache_dir, see, &info, &err));
	CHECK_EQ(info.error, 0);
	CHECK_EQ(info.dirty_bytes > 0, dirty > 0);
	CHECK_EQ(hither_store_delete(cache_dir, URL, false, &err), dirty ? -ENOTEMPTY : 0);
	if (dirty)
		CHECK_OK(hither_store_delete(cache_dir, URL, true, &err));
}

static void open_and_check(void)
{
	struct hither_store *s = NULL;
	struct hither_store_identity identity = {0};
	struct hither_error err = {0};
	bool existed = false;
	uint64_t dirty = 0;
	int r = hither_store_open(cache_dir, URL, &s, &identity, &existed, &err);
	if (r) {
		check_refusal(r, &err);
		CHECK(strstr(err.message, folder));
		return;
	}
	bool ours = strcmp(hither_store_path(s), folder) == 0;
	if (ours)
		check_store(s, &identity, existed, &dirty);
	else
		CHECK(!existed); /* the url says that it is another's */
	hither_store_close(s);
	if (ours)
		check_deletion(dirty);
}

static void the_folder(struct input in)
{
	static struct made made;
	struct hither_error err;
	find_folder();
	unsigned flags = next8(&in);
	struct input url = take(&in, next8(&in)), lock = take(&in, next8(&in)), state = in;
	uint64_t data_bytes = 0;
	(void)mkdir(folder, 0700);
	if (flags & 1) { /* a sound log */
		make_log(&made, &in);
		damage(&made, &in);
		state = (struct input){made.found, made.found_len};
		data_bytes = made.header.identity.size_bytes;
	}
	static const uint8_t some[5000];
	struct hither_store *s;
	struct hither_store_identity identity;
	bool existed;
	if (!(flags & 2)) { /* the right url */
		CHECK_OK(hither_store_open(cache_dir, URL, &s, &identity, &existed, &err));
		hither_store_close(s);
	} else {
		put_file("url", url, 0);
	}
	if (!(flags & 4))
		put_file("data", (struct input){some, flags & 8 ? sizeof some : 0}, data_bytes);
	if (flags & 16)
		put_file("lock", lock, 0);
	put_file("state", state, 0);
	put_file("state.new", lock, 0);
	hither_store_set_boot_id(flags & 32 ? "this" : "another");
	open_and_check();
	scratch_remove(cache_dir);
	CHECK_EQ(mkdir(cache_dir, 0700), 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	hither_block_map_alloc = small_alloc;
	switch (next8(&in)) {
	case 'l':
		any_log(in);
		break;
	case 'r':
		records(in);
		break;
	case 'f':
		the_folder(in);
		break;
	default:
		break;
	}
	return 0;
}
