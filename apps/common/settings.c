/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/order.h>
#include <hither/tree.h>
#include <hither/url.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#define FIELD(member) offsetof(struct settings, member)

/* --- setters of what is listed --- */

/* One place more in a list. NULL: no memory. */
static char **grow(char ***list, struct hither_error *err)
{
	size_t count = 0;
	while (*list && (*list)[count])
		count++;
	char **grown = reallocarray(*list, count + 2, sizeof **list);
	if (!grown) {
		hither_fail(err, -ENOMEM, "no memory");
		return NULL;
	}
	*list = grown;
	grown[count] = grown[count + 1] = NULL;
	return &grown[count];
}

int add_text(void *field, const char *value, struct hither_error *err)
{
	char **place = grow(field, err);
	return place ? set_string(place, value, err) : -ENOMEM;
}

static int add_header(void *field, const char *value, struct hither_error *err)
{
	if (!strchr(value, ':') || strpbrk(value, "\r\n"))
		return hither_fail(err, -EINVAL, "a header looks like \"Name: value\"");
	char **place = grow(field, err);
	return place ? set_secret(place, value, err) : -ENOMEM;
}

static int add_range(void *field, const char *value, struct hither_error *err)
{
	struct settings *s = field;
	struct units_range *grown = reallocarray(s->ranges, s->range_count + 1, sizeof *grown);
	if (!grown)
		return hither_fail(err, -ENOMEM, "no memory");
	s->ranges = grown;
	int r = units_parse_range(value, &s->ranges[s->range_count], err);
	if (!r && s->ranges[s->range_count].from_end)
		r = hither_fail(err, -EINVAL, "%s: the range must say where it starts", value);
	if (!r)
		s->range_count++;
	return r;
}

static int set_cache(void *field, const char *value, struct hither_error *err)
{
	return strcmp(value, "none") ? set_path(field, value, err) : set_string(field, value, err);
}

static int set_login(void *field, const char *value, struct hither_error *err)
{
	if (!strchr(value, ':'))
		return hither_fail(err, -EINVAL, "a login looks like NAME:PASSWORD");
	return set_secret(field, value, err);
}

static int set_proxy(void *field, const char *value, struct hither_error *err)
{
	return set_secret(field, value, err);
}

static int set_chunk(void *field, const char *value, struct hither_error *err)
{
	uint32_t bytes;
	int r = set_size32(&bytes, value, err);
	if (r)
		return r;
	if (bytes < 4096 || bytes > 16 << 20 || (bytes & (bytes - 1)))
		return hither_fail(err, -EINVAL, "%s is not a power of two from 4K to 16M", value);
	*(uint32_t *)field = bytes;
	return 0;
}

static int set_readable(void *field, const char *value, struct hither_error *err)
{
	if (access(value, R_OK))
		return hither_fail(err, -errno, "%s: %s", value, strerror(errno));
	return set_path(field, value, err);
}

static int set_workers(void *field, const char *value, struct hither_error *err)
{
	if (set_count(field, value, err) || *(uint32_t *)field > 64)
		return hither_fail(err, -EINVAL, "%s is not a number from 1 to 64", value);
	return 0;
}

/* --- tables --- */

static const struct option_spec cache_specs[] = {
        {"cache", 'c', "DIR",
         "Keep what was pulled below DIR ($XDG_CACHE_HOME/hither or ~/.cache/hither); none: in "
         "memory.",
         set_cache, FIELD(cache_dir)},
        {"cache-size", 0, "SIZE",
         "Keep at most SIZE of clean bytes, the most valuable ones (no limit).", set_size,
         FIELD(mount.cache_cap_bytes)},
};
const struct option_group options_cache = {"Cache", cache_specs, COUNT_OF(cache_specs)};
const struct option_group options_cache_dir = {"Cache", cache_specs, 1};

static const struct option_spec pull_specs[] = {
        {"order", 'o', "NAME",
         "What to pull before it is asked for: auto (guesses by the format, then front to back), "
         "a format's name, readahead (guesses by what is read, nothing else) or none (auto).",
         set_string, FIELD(order)},
        {"pull", 'p', "on|off",
         "Pull everything in the background, or only what is read and guessed (on).",
         set_off_switch, FIELD(mount.pull_off)},
        {"range", 'r', "RANGE",
         "Pull these bytes first: A-B, A+LEN or A-. May be given several times.", add_range, 0},
        {"profile", 0, "FILE", "Pull in the order that --record noted in FILE.", set_path,
         FIELD(profile)},
        {"record", 0, "FILE", "Note the order of first reads in FILE, for --profile.", set_path,
         FIELD(record)},
        {"ahead", 0, "DURATION",
         "Of media, pull so much ahead of where it is played, before anything else (30s).", set_ms,
         FIELD(mount.ahead_ms)},
        {"chunk", 0, "SIZE", "Plan in chunks of SIZE, a power of two from 4K to 16M (64K).",
         set_chunk, FIELD(mount.chunk_bytes)},
        {"workers", 'j', "N", "At most N requests at a time, 1 to 64 (32; hither-stream: 48).",
         set_workers, FIELD(mount.workers)},
        {"deadline", 0, "DURATION",
         "How long a read or flush rides through an outage before it fails "
         "(5min).",
         set_ms, FIELD(mount.deadline_ms)},
        {"on-change", 0, "WHAT",
         "If the resource has changed since it was cached: refetch, or fail (refetch).", set_string,
         FIELD(on_change)},
};
const struct option_group options_pull = {"Pulling", pull_specs, COUNT_OF(pull_specs)};

static const struct option_spec write_specs[] = {
        {"write", 'w', NULL,
         "Fail if the resource cannot be written, instead of mounting it read-only.", set_true,
         FIELD(write)},
        {"read-only", 0, NULL, "Never write, even if the resource could be.", set_true,
         FIELD(read_only)},
        {"sync", 's', "WHERE",
         "What fsync waits for: remote, the resource has the bytes; or local, the cache has them "
         "(remote).",
         set_string, FIELD(sync)},
        {"push-interval", 0, "DURATION", "Push changed bytes after at most so long (5s).", set_ms,
         FIELD(mount.push_interval_ms)},
        {"push-dirty", 0, "SIZE", "Push as soon as so many bytes have changed (64M).", set_size,
         FIELD(mount.push_dirty_bytes)},
};
const struct option_group options_write = {"Writing", write_specs, COUNT_OF(write_specs)};

static const struct option_spec network_specs[] = {
        {"user", 'u', "NAME:PASSWORD", "Log in so (from the URL, else ~/.netrc).", set_login,
         FIELD(user)},
        {"header", 'H', "LINE",
         "Send this HTTP header, as \"Name: value\". May be given several times.", add_header,
         FIELD(headers)},
        {"proxy", 'x', "URL", "Go through this proxy (from the environment).", set_proxy,
         FIELD(proxy)},
        {"ca-file", 0, "FILE", "Trust the certificates in FILE instead of the system's.",
         set_readable, FIELD(ca_file)},
        {"cert-file", 0, "FILE", "Show this client certificate, PEM.", set_readable,
         FIELD(cert_file)},
        {"key-file", 0, "FILE", "The key of the client certificate, PEM.", set_readable,
         FIELD(key_file)},
        {"insecure", 'k', NULL, "Do not verify the server's certificate.", set_true,
         FIELD(mount.backend.insecure)},
        {"connect-timeout", 0, "DURATION", "Give up connecting after so long (10s).", set_ms,
         FIELD(mount.backend.connect_timeout_ms)},
        {"idle-timeout", 0, "DURATION", "Give a request up when no byte comes for so long (30s).",
         set_ms, FIELD(mount.backend.idle_timeout_ms)},
};
const struct option_group options_network = {"Network", network_specs, COUNT_OF(network_specs)};

static const struct option_spec test_specs[] = {
        {"wrap", 0, "LAYERS",
         "Make the resource slower: delay=DURATION a request, rate=SIZE a second, log=FILE; "
         "several, "
         "with commas.",
         set_string, FIELD(wrap)},
};
const struct option_group options_test = {"Testing", test_specs, COUNT_OF(test_specs)};

/* --- the whole --- */

void settings_init(struct settings *s)
{
	*s = (struct settings){.progress_fd = -1, .profile_fd = -1};
}

void settings_finish(struct settings *s)
{
	char *const strings[] = {s->url,          s->cache_dir, s->order,      s->user,
	                         s->ca_file,      s->cert_file, s->key_file,   s->proxy,
	                         s->profile,      s->record,    s->sync,       s->on_change,
	                         s->wrap,         s->log,       s->tls,        s->tls_certificates,
	                         s->tls_psk_file, s->pid_file,  s->block_kind, s->output,
	                         s->base,         s->root_hash, s->plot,       s->tree_url};
	for (size_t i = 0; i < COUNT_OF(strings); i++)
		free(strings[i]);
	char **const lists[] = {s->headers, s->listens, s->names};
	for (size_t i = 0; i < COUNT_OF(lists); i++) {
		for (char **text = lists[i]; text && *text; text++)
			free(*text);
		free(lists[i]);
	}
	hither_tree_destroy(s->tree);
	if (s->profile_fd >= 0)
		close(s->profile_fd);
	free(s->ranges);
	free(s->resolved_ranges);
	settings_init(s);
}

const char *settings_cache_dir(struct settings *s, struct hither_error *err)
{
	const char *base = getenv("XDG_CACHE_HOME"), *below = "";
	if (s->cache_dir)
		return strcmp(s->cache_dir, "none") ? s->cache_dir : NULL;
	if (!base || *base != '/') {
		base = getenv("HOME");
		below = "/.cache";
	}
	if (!base || *base != '/') {
		const struct passwd *user = getpwuid(geteuid());
		base = user ? user->pw_dir : NULL;
	}
	if (!base || *base != '/') {
		hither_fail(err, -ENOENT,
		            "there is no home folder for the cache: give --cache DIR");
		return NULL;
	}
	if (asprintf(&s->cache_dir, "%s%s/hither", base, below) < 0) {
		s->cache_dir = NULL;
		hither_fail(err, -ENOMEM, "no memory");
	}
	return s->cache_dir;
}

/* The index of value in names (NULL-terminated), 0 if it was not given; -EINVAL. */
static int choose(const char *option, const char *value, const char *const *names,
                  struct hither_error *err)
{
	char known[128] = "";
	size_t used = 0;
	if (!value)
		return 0;
	for (int i = 0; names[i]; i++) {
		if (!strcmp(value, names[i]))
			return i;
		int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
		                 names[i]);
		used += (size_t)n < sizeof known - used ? (size_t)n : 0;
	}
	return hither_fail(err, -EINVAL, "--%s: %s is none of %s", option, value, known);
}

static int apply_choices(struct settings *s, struct hither_error *err)
{
	static const char *const syncs[] = {"remote", "local", NULL};
	static const char *const changes[] = {"refetch", "fail", NULL};
	int sync = choose("sync", s->sync, syncs, err);
	int change = choose("on-change", s->on_change, changes, err);
	if (sync < 0 || change < 0 || hither_order_check_name(s->order, err))
		return -EINVAL;
	s->mount.order = s->order;
	if (s->order && (!strcmp(s->order, "readahead") || !strcmp(s->order, "none")))
		s->mount.pull_off = true;
	s->mount.sync = sync ? HITHER_SYNC_LOCAL : HITHER_SYNC_REMOTE;
	s->mount.changed = change ? HITHER_CHANGED_FAIL : HITHER_CHANGED_REFETCH;
	return 0;
}

static int check_together(const struct settings *s, struct hither_error *err)
{
	const char *why =
	        s->write && s->read_only              ? "--write and --read-only exclude each other"
	        : s->mount.direct && s->mount.offline ? "--offline needs a cache, --direct has none"
	        : s->mount.direct && s->cache_dir ? "--direct has no cache, but --cache was given"
	        : s->key_file && !s->cert_file    ? "--key-file needs --cert-file"
	                                          : NULL;
	return why ? hither_fail(err, -EINVAL, "%s", why) : 0;
}

static int check_root_hash(const struct settings *s, const char *url, struct hither_error *err)
{
	const char *hash = s->root_hash;
	if (!hash)
		return 0;
	if (strlen(hash) != 64 || strspn(hash, "0123456789abcdefABCDEF") != 64)
		return hither_fail(err, -EINVAL,
		                   "--root-hash: \"%s\" is none, which has 64 hexadecimal digits",
		                   hash);
	return url && !hither_tree_is_url(url)
	               ? hither_fail(err, -EINVAL,
	                             "--root-hash is for manifests, whose names end in .hither")
	               : 0;
}

/* The mount clips ranges to its size, so that "to the end" can be as long as it likes. */
static int apply_ranges(struct settings *s, struct hither_error *err)
{
	if (!s->range_count)
		return 0;
	s->resolved_ranges = calloc(s->range_count, sizeof *s->resolved_ranges);
	if (!s->resolved_ranges)
		return hither_fail(err, -ENOMEM, "no memory");
	for (size_t i = 0; i < s->range_count; i++) {
		const struct units_range *from = &s->ranges[i];
		uint64_t most = UINT64_MAX - from->first;
		s->resolved_ranges[i] = (struct hither_range){
		        .offset = from->first, .len = from->len < most ? from->len : most};
	}
	s->mount.ranges = s->resolved_ranges;
	s->mount.range_count = s->range_count;
	return 0;
}

/* Whoever says how to cache or pull wants that done. */
static bool asks_for_cache(const struct settings *s)
{
	return s->cache_dir || s->mount.cache_cap_bytes || s->mount.offline || s->mount.pull_off ||
	       s->order || s->sync || s->on_change || s->profile || s->record || s->range_count ||
	       s->wrap || s->mount.push_interval_ms || s->mount.push_dirty_bytes;
}

int settings_apply(struct settings *s, const char *url, struct hither_error *err)
{
	int r = check_together(s, err);
	if (!r)
		r = check_root_hash(s, url, err);
	s->cache_asked = asks_for_cache(s);
	if (!r)
		r = apply_choices(s, err);
	if (!r)
		r = apply_ranges(s, err);
	if (r)
		return r;
	if (url) {
		s->url = *url ? url_absolute(url) : NULL;
		if (!s->url)
			return hither_fail(err, -EINVAL, "the URL is empty");
	}
	if (!s->mount.direct) {
		struct hither_error none = {0};
		s->mount.cache_dir = settings_cache_dir(s, &none);
		if (none.code) {
			*err = none;
			return none.code;
		}
	}
	s->mount.profile = s->profile;
	s->mount.record = s->record;
	s->mount.backend.user = s->user;
	s->mount.backend.headers = (const char *const *)s->headers;
	s->mount.backend.ca_file = s->ca_file;
	s->mount.backend.cert_file = s->cert_file;
	s->mount.backend.key_file = s->key_file;
	s->mount.backend.proxy = s->proxy;
	return 0;
}
