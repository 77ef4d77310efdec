/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a file: URI; what each means is in <hither/sqlite.h>. */
#include "frontend/sqlite/sqlite_vfs.h"

#include <stdlib.h>
#include <string.h>

enum {
	MOST_SECONDS = 86400,
	/* A hundred scattered pages in one round trip, three on each new connection (batch.c), and
	 * a quarter for who waits. */
	REQUESTS_MOST = 64,
	/* What a silent server sends in one round trip, whole pages of it: with the schema come the
	 * roots of the tables that were made first. */
	FIRST_BYTES = 3 * 4096,
};

static int misused(const char *name, const char *value, const char *expected)
{
	return hsq_failf(SQLITE_CANTOPEN, "%s=%s: %s was expected", name, value, expected);
}

/* Which of two words: 0, 1; -1: neither. */
static int choose(const char *value, const char *zero, const char *one)
{
	return !strcmp(value, zero) ? 0 : !strcmp(value, one) ? 1 : -1;
}

static int set_store(struct hsq_params *p, const char *value)
{
	p->mount.cache_dir = strcmp(value, "memory") ? value : NULL;
	return SQLITE_OK;
}

static int set_prefetch(struct hsq_params *p, const char *value)
{
	p->mount.pull_off = strcmp(value, "all") != 0;
	if (!strcmp(value, "none"))
		p->mount.order = "none";
	else if (strcmp(value, "btree") && strcmp(value, "all"))
		return misused("prefetch", value, "none, btree or all");
	return SQLITE_OK;
}

static int set_order(struct hsq_params *p, const char *value)
{
	p->mount.order = value;
	return SQLITE_OK;
}

static int set_deadline(struct hsq_params *p, const char *value)
{
	char *end;
	double seconds = strtod(value, &end);
	if (end == value || *end || !(seconds >= 0.001 && seconds <= MOST_SECONDS))
		return misused("deadline", value, "a number of seconds, 0.001 to 86400,");
	p->mount.deadline_ms = (uint32_t)(seconds * 1000);
	return SQLITE_OK;
}

static int set_profile(struct hsq_params *p, const char *value)
{
	p->no_profile = true;
	p->mount.profile = strcmp(value, "none") ? value : NULL;
	return SQLITE_OK;
}

static int set_record(struct hsq_params *p, const char *value)
{
	p->mount.record = value;
	return SQLITE_OK;
}

static int set_beside(struct hsq_params *p, const char *value)
{
	int which = choose(value, "refuse", "ignore");
	p->ignore_beside = which == 1;
	return which < 0 ? misused("beside", value, "refuse or ignore") : SQLITE_OK;
}

static int set_follow(struct hsq_params *p, const char *value)
{
	int which = choose(value, "off", "on");
	p->follow = which == 1;
	return which < 0 ? misused("follow", value, "on or off") : SQLITE_OK;
}

static int set_tell(struct hsq_params *p, const char *value)
{
	int which = choose(value, "none", "stderr");
	if (which == 1)
		hsq_tell();
	return which < 0 ? misused("tell", value, "stderr or none") : SQLITE_OK;
}

static int set_sync(struct hsq_params *p, const char *value)
{
	int which = choose(value, "remote", "local");
	p->mount.sync = which == 1 ? HITHER_SYNC_LOCAL : HITHER_SYNC_REMOTE;
	return which < 0 ? misused("sync", value, "remote or local") : SQLITE_OK;
}

static int set_state(struct hsq_params *p, const char *value)
{
	p->state_dir = value;
	return SQLITE_OK;
}

/* order after prefetch, which may name one. */
static const struct {
	const char *name;
	int (*set)(struct hsq_params *p, const char *value);
} table[] = {
        {"store", set_store},       {"prefetch", set_prefetch}, {"order", set_order},
        {"deadline", set_deadline}, {"profile", set_profile},   {"record", set_record},
        {"beside", set_beside},     {"sync", set_sync},         {"state", set_state},
        {"follow", set_follow},     {"tell", set_tell},
};

int hsq_params_parse(const char *name, struct hsq_params *out)
{
	*out = (struct hsq_params){.mount = {.pull_off = true,
	                                     .workers = REQUESTS_MOST,
	                                     .backend.parallel = REQUESTS_MOST,
	                                     .backend.first_bytes = FIRST_BYTES}};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		const char *value = sqlite3_uri_parameter(name, table[i].name);
		int code = value ? table[i].set(out, value) : SQLITE_OK;
		if (code)
			return code;
	}
	return SQLITE_OK;
}
