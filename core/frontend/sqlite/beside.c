/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies beside a database on its server: URL-journal and URL-wal, which would have to be
 * played into it before it is read, and URL.hither-profile, which says what comes next. All three
 * are asked for at once, beside the first request for the database itself, so that the answers
 * come no later than its header.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "frontend/sqlite/sqlite_vfs.h"

#include <errno.h>
#include <hither/profile.h>
#include <hither/url.h>
#include <stdio.h>
#include <string.h>

enum {
	JOURNAL,
	WAL,
	PROFILE,
	KINDS,
	PROFILE_MOST_BYTES = 16 << 20,
	WAL_HEADER_BYTES = 32, /* https://www.sqlite.org/fileformat2.html, 4.1 */
};
#define RETRY_NS (500 * HITHER_NS_PER_MS)
#define DEADLINE_NS (300 * HITHER_NS_PER_S)

static const char *const suffixes[KINDS] = {"-journal", "-wal", ".hither-profile"};

struct hsq_beside {
	pthread_mutex_t lock; /* guards everything below */
	pthread_cond_t answered;
	unsigned refs; /* the share and each thread */
	unsigned open; /* of journal and WAL: not answered yet */
	bool abandoned;
	struct hither_error refusal; /* code 0: none */
	struct hither_profile profile;
	bool suggested;
	struct hither_mount *mount; /* NULL before it is there, and after */
	uint64_t deadline_ns;
};

/* One thread's errand. */
struct errand {
	struct hsq_beside *b;
	int kind;
	char *url;
};

static void put(struct hsq_beside *b)
{
	pthread_mutex_lock(&b->lock);
	bool last = --b->refs == 0;
	pthread_mutex_unlock(&b->lock);
	if (!last)
		return;
	hither_profile_finish(&b->profile);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->answered);
	free(b);
}

/* "https://host/shop.db?token=1" and "-wal": "https://host/shop.db-wal?token=1". */
char *hsq_sibling(const char *url, const char *suffix)
{
	char *out;
	size_t path = strncmp(url, "http", 4) ? strlen(url) : strcspn(url, "?#");
	return asprintf(&out, "%.*s%s%s", (int)path, url, suffix, url + path) < 0 ? NULL : out;
}

/* --- looking --- */

/* A file that is empty or of another kind (some servers answer anything) is none. */
static bool is_hot(int kind, struct hither_mount *m)
{
	static const unsigned char magic[2][4] = {{0xd9, 0xd5, 0x05, 0xf9}, {0x37, 0x7f, 0x06}};
	unsigned char head[4];
	uint64_t least = kind == WAL ? WAL_HEADER_BYTES + 1 : 512;
	if (hither_mount_size(m) < least || hither_mount_read_at(m, head, sizeof head, 0, NULL))
		return false;
	return !memcmp(head, magic[kind], kind == WAL ? 3 : 4);
}

static void refuse(const struct errand *e)
{
	HITHER_LOCK_SCOPE(&e->b->lock);
	hither_fail(&e->b->refusal, -EBUSY,
	            "%s is beside the database: %s; beside=ignore reads it nevertheless", e->url,
	            e->kind == WAL
	                    ? "let its server checkpoint it (PRAGMA wal_checkpoint(TRUNCATE))"
	                    : "a transaction is under way or was cut short there");
}

/* Tell the mount what the profile says, once both are there. */
static void suggest_locked(struct hsq_beside *b)
{
	const struct hither_profile *p = &b->profile;
	if (!b->mount || b->suggested || !p->count || p->size_bytes != hither_mount_size(b->mount))
		return;
	HITHER_FREE struct hither_range *ranges = malloc(p->count * sizeof *ranges);
	for (size_t i = 0; ranges && i < p->count; i++)
		ranges[i] = (struct hither_range){p->entries[i].offset, p->entries[i].len};
	if (ranges)
		hither_mount_suggest(b->mount, ranges, p->count, NULL);
	b->suggested = true;
}

static void take_profile(struct hsq_beside *b, struct hither_mount *m)
{
	uint64_t size = hither_mount_size(m);
	struct hither_profile profile;
	HITHER_FREE char *text = size && size <= PROFILE_MOST_BYTES ? malloc(size) : NULL;
	if (!text || hither_mount_read_at(m, text, size, 0, NULL) ||
	    hither_profile_parse(text, size, &profile, NULL))
		return;
	HITHER_LOCK_SCOPE(&b->lock);
	b->profile = profile;
	suggest_locked(b);
}

static int look(const struct errand *e)
{
	struct hither_mount_options options = {.direct = true};
	struct hither_mount *m = NULL;
	int r = hither_mount_open(e->url, &options, &m, NULL);
	if (r)
		return r;
	if (e->kind == PROFILE)
		take_profile(e->b, m);
	else if (is_hot(e->kind, m))
		refuse(e);
	hither_mount_close(m, NULL);
	return 0;
}

/* False: stop asking. */
static bool wait_to_retry(struct hsq_beside *b)
{
	HITHER_LOCK_SCOPE(&b->lock);
	uint64_t until = hither_now_ns() + RETRY_NS;
	struct timespec at = hither_timespec(until);
	while (!b->abandoned && hither_now_ns() < until)
		pthread_cond_timedwait(&b->answered, &b->lock, &at);
	return !b->abandoned && until < b->deadline_ns;
}

static void *run(void *arg)
{
	struct errand *e = arg;
	struct hsq_beside *b = e->b;
	int r;
	while (hither_error_is_transient(r = look(e)) && wait_to_retry(b))
		;
	pthread_mutex_lock(&b->lock);
	if (e->kind != PROFILE) {
		b->open--;
		if (hither_error_is_transient(r) && !b->refusal.code)
			hither_fail(&b->refusal, r, "%s: no answer whether it is there", e->url);
	}
	pthread_cond_broadcast(&b->answered);
	pthread_mutex_unlock(&b->lock);
	put(b);
	free(e->url);
	free(e);
	return NULL;
}

/* --- from outside --- */

/* The thread is let go: it may be waiting for a server long after the database is closed. */
static bool send(struct hsq_beside *b, int kind, const char *url)
{
	struct errand *e = calloc(1, sizeof *e);
	pthread_t thread;
	if (e)
		*e = (struct errand){.b = b, .kind = kind, .url = hsq_sibling(url, suffixes[kind])};
	if (!e || !e->url || pthread_create(&thread, NULL, run, e)) {
		if (e)
			free(e->url);
		free(e);
		return false;
	}
	pthread_detach(thread);
	return true;
}

static void errands(struct hsq_beside *b, const char *url, const struct hsq_params *params)
{
	bool wanted[KINDS] = {!params->ignore_beside, !params->ignore_beside, !params->no_profile};
	for (int kind = 0; kind < KINDS; kind++) {
		if (!wanted[kind])
			continue;
		b->refs++;
		b->open += kind != PROFILE;
		if (send(b, kind, url))
			continue;
		b->refs--;
		if (kind != PROFILE) {
			b->open--;
			hither_fail(&b->refusal, -ENOMEM, "%s: no memory to look beside it", url);
		}
	}
}

struct hsq_beside *hsq_beside_start(const char *url, const struct hsq_params *params)
{
	size_t scheme = hither_url_scheme(url);
	bool has_siblings = (scheme >= 4 && !strncmp(url, "http", 4)) ||
	                    (scheme == 4 && !strncmp(url, "file", 4));
	struct hsq_beside *b = has_siblings ? calloc(1, sizeof *b) : NULL;
	if (!b)
		return NULL;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->answered, &attr);
	pthread_condattr_destroy(&attr);
	uint64_t deadline = params->mount.deadline_ms * HITHER_NS_PER_MS;
	b->deadline_ns = hither_now_ns() + (deadline ? deadline : DEADLINE_NS);
	b->refs = 1;
	HITHER_LOCK_SCOPE(&b->lock);
	errands(b, url, params);
	return b;
}

void hsq_beside_mount(struct hsq_beside *b, struct hither_mount *m)
{
	if (!b)
		return;
	HITHER_LOCK_SCOPE(&b->lock);
	b->mount = m;
	suggest_locked(b);
}

int hsq_beside_wait(struct hsq_beside *b)
{
	if (!b)
		return SQLITE_OK;
	HITHER_LOCK_SCOPE(&b->lock);
	while (b->open > 0 && !b->refusal.code)
		pthread_cond_wait(&b->answered, &b->lock);
	return b->refusal.code ? hsq_fail(SQLITE_CANTOPEN, &b->refusal) : SQLITE_OK;
}

void hsq_beside_destroy(struct hsq_beside *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	b->abandoned = true;
	b->mount = NULL;
	pthread_cond_broadcast(&b->answered);
	pthread_mutex_unlock(&b->lock);
	put(b);
}
