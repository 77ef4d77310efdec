/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include "holder.h"
#include "program.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/cache.h>
#include <hither/layer.h>
#include <hither/profile.h>
#include <hither/tree.h>
#include <hither/url.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static int wrap_delay(struct hither_backend *inner, const char *value, struct hither_backend **out,
                      struct hither_error *err)
{
	uint64_t us;
	int r = units_parse_duration(value, &us, err);
	return r || !inner ? r : hither_layer_delay(inner, us, out, err);
}

static int wrap_rate(struct hither_backend *inner, const char *value, struct hither_backend **out,
                     struct hither_error *err)
{
	uint64_t bytes;
	int r = units_parse_size(value, &bytes, err);
	if (!r && !bytes)
		r = hither_fail(err, -EINVAL, "a rate of 0 never delivers anything");
	return r || !inner ? r : hither_layer_rate(inner, bytes, out, err);
}

static int wrap_log(struct hither_backend *inner, const char *value, struct hither_backend **out,
                    struct hither_error *err)
{
	if (!inner)
		return *value ? 0 : hither_fail(err, -EINVAL, "log= wants a file");
	FILE *file = fopen(value, "ae");
	if (!file)
		return hither_fail(err, -errno, "open %s: %s", value, strerror(errno));
	setlinebuf(file);
	int r = hither_layer_log(inner, file, out, err); /* which uses it until the process ends */
	if (r)
		fclose(file);
	return r;
}

static const struct {
	const char *name;
	/* inner NULL: only check value. */
	int (*wrap)(struct hither_backend *inner, const char *value, struct hither_backend **out,
	            struct hither_error *err);
} layers[] = {{"delay", wrap_delay}, {"rate", wrap_rate}, {"log", wrap_log}};

static int wrap_one(struct hither_backend **b, char *spec, struct hither_error *err)
{
	char *value = strchr(spec, '=');
	int r = -EINVAL;
	for (size_t i = 0; value && i < COUNT_OF(layers); i++)
		if (strlen(layers[i].name) == (size_t)(value - spec) &&
		    !strncmp(spec, layers[i].name, (size_t)(value - spec))) {
			r = layers[i].wrap(*b, value + 1, b, err);
			if (r)
				hither_error_prefix(err, "--wrap %s", spec);
			return r;
		}
	return hither_fail(err, r, "--wrap: %s is none of delay=DURATION, rate=SIZE, log=FILE",
	                   spec);
}

/* *b is replaced by each layer as it is put on; it stays the caller's on failure. NULL: only check.
 */
static int wrap_all(struct hither_backend **b, const char *list, struct hither_error *err)
{
	AUTO_FREE char *copy = strdup(list);
	char *rest = copy, *spec;
	int r = copy ? 0 : hither_fail(err, -ENOMEM, "no memory");
	while (!r && (spec = strsep(&rest, ",")))
		r = wrap_one(b, spec, err);
	return r;
}

int source_check_layers(const char *list, struct hither_error *err)
{
	struct hither_backend *none = NULL;
	return wrap_all(&none, list, err);
}

static int mount_wrapped(const struct settings *s, struct hither_backend *b,
                         struct hither_mount **out, struct hither_error *err)
{
	int r = wrap_all(&b, s->wrap, err);
	if (!r)
		r = s->tree ? hither_tree_mount_backend(s->tree, s->url, b, &s->mount, out, err)
		            : hither_mount_backend(b, s->url, &s->mount, out, err);
	if (r)
		hither_backend_close(b);
	return r;
}

static int open_once(const struct settings *s, struct hither_mount **out, struct hither_error *err)
{
	struct hither_backend *b = NULL;
	if (!s->wrap)
		return hither_mount_open(s->url, &s->mount, out, err);
	int r = hither_backend_open(s->url, &s->mount.backend, &b, err);
	return r ? r : mount_wrapped(s, b, out, err);
}

static int open_any(struct settings *s, bool may_write, struct hither_mount **out,
                    struct hither_error *err)
{
	s->mount.backend.writable = may_write && !s->read_only;
	int r = open_once(s, out, err);
	if (r != -EROFS || s->write || !s->mount.backend.writable)
		return r;
	*err = (struct hither_error){0};
	s->mount.backend.writable = false;
	return open_once(s, out, err);
}

/* --- what is odd, but no failure --- */

static void __attribute__((format(printf, 2, 3))) note(struct settings *s, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(s->note, sizeof s->note, fmt, ap);
	va_end(ap);
	fail_with(0, "note: %s", s->note);
}

/* --- trees --- */

/* The text of what is at url, which the caller frees. NULL: it is not there, or cannot be had. */
static char *fetch(const struct settings *s, const char *url, uint64_t most, size_t *len)
{
	struct hither_backend_options o = s->mount.backend;
	struct hither_backend *b = NULL;
	o.writable = false;
	o.first_bytes = 256 << 10;
	if (hither_backend_open(url, &o, &b, NULL))
		return NULL;
	*len = (size_t)b->size_bytes;
	char *text = b->size_bytes > most ? NULL : malloc(*len + 1);
	if (text && hither_backend_read_at(b, text, *len, 0, NULL)) {
		free(text);
		text = NULL;
	}
	hither_backend_close(b);
	return text;
}

static bool fits(const struct hither_tree *t, const char *text, size_t len)
{
	struct hither_profile p = {0};
	bool good = !hither_profile_parse(text, len, &p, NULL) && hither_tree_fits(t, &p);
	hither_profile_finish(&p);
	return good;
}

/* One that was named, and is of another tree, would have other bytes come first than it means. */
static void check_profile(struct settings *s)
{
	struct hither_profile p = {0};
	if (!s->profile || hither_profile_load(s->profile, &p, NULL))
		return; /* the mount says what is wrong with it */
	if (!hither_tree_fits(s->tree, &p)) {
		note(s,
		     "%s is of another tree, or of another version of it, and not used: record it "
		     "again",
		     s->profile);
		free(TAKE(s->profile, NULL));
		s->mount.profile = NULL;
	}
	hither_profile_finish(&p);
}

/* --- the profile beside the manifest --- */

struct beside {
	const struct settings *settings;
	char *url, *text; /* text NULL: it is not there, or cannot be had */
	size_t len;
	pthread_t thread;
	bool started;
};

static void *fetch_beside(void *arg)
{
	enum { MOST_BYTES = 64 << 20 };
	struct beside *b = arg;
	b->text = fetch(b->settings, b->url, MOST_BYTES, &b->len);
	return NULL;
}

/* While the manifest is on its way: one after the other would cost round trips. */
static void begin_beside(const struct settings *s, struct beside *b)
{
	size_t end = hither_url_scheme(s->url) ? strcspn(s->url, "?#") : strlen(s->url);
	*b = (struct beside){.settings = s};
	if (s->profile || s->mount.offline || s->mount.direct)
		return;
	if (asprintf(&b->url, "%.*s-profile%s", (int)end, s->url, s->url + end) < 0) {
		b->url = NULL;
		return;
	}
	b->started = !pthread_create(&b->thread, NULL, fetch_beside, b);
}

/* One that is missing, or of an older tree, is no failure. tree NULL: it is not wanted any more. */
static void end_beside(struct beside *b, struct settings *s, const struct hither_tree *tree)
{
	if (b->started)
		pthread_join(b->thread, NULL);
	free(b->url);
	AUTO_FREE char *text = b->text;
	if (!text || !tree)
		return;
	if (!fits(tree, text, b->len)) {
		note(s, "the profile beside the manifest is damaged, or of another version of the "
		        "tree, and not used: who publishes it has to record it again");
		return;
	}
	s->profile_fd = memfd_create("hither-profile", MFD_CLOEXEC);
	if (s->profile_fd < 0 || write(s->profile_fd, text, b->len) != (ssize_t)b->len)
		return;
	if (asprintf(&s->profile, "/proc/self/fd/%d", s->profile_fd) < 0)
		s->profile = NULL;
	s->mount.profile = s->profile;
}

static int mount_tree(const struct settings *s, struct hither_mount **out, struct hither_error *err)
{
	struct hither_backend *b = NULL;
	if (!s->wrap)
		return hither_tree_mount(s->tree, s->url, &s->mount, out, err);
	int r = hither_tree_backend(s->tree, s->url, &s->mount.backend, s->mount.offline, &b, err);
	return r ? r : mount_wrapped(s, b, out, err);
}

static int open_tree(struct settings *s, struct hither_mount **out, struct hither_error *err)
{
	struct beside beside;
	s->mount.backend.writable = false;
	if (s->write)
		return hither_fail(err, -EROFS, "a tree cannot be written");
	begin_beside(s, &beside);
	int r = hither_tree_fetch(s->url, &s->mount, s->root_hash, &s->tree, err);
	if (!r)
		check_profile(s);
	end_beside(&beside, s, r ? NULL : s->tree);
	if (r)
		return r;
	if (!hither_tree_is_file(s->tree) && !s->takes_tree)
		return hither_fail(
		        err, -EISDIR,
		        "this manifest is of a folder: hither mount shows it, hither exec "
		        "URL/PROGRAM runs what is in it");
	return mount_tree(s, out, err);
}

/* Of a path in a tree, which hither exec takes. */
static void explain_inside(const char *path, struct hither_error *err)
{
	const struct hither_error was = *err;
	if (!*path)
		hither_fail(err, was.code, "%.*s; a manifest's URL ends in .hither, with no slash",
		            hither_error_fact_len(was.message), was.message);
	else
		hither_fail(
		        err, was.code,
		        "%.*s; to read %.100s in a tree, mount its manifest, the URL up to .hither",
		        hither_error_fact_len(was.message), was.message, path);
}

static int open_it(struct settings *s, bool may_write, struct hither_mount **out,
                   struct hither_error *err)
{
	hither_tree_destroy(TAKE(s->tree, NULL)); /* of an earlier try */
	if (hither_tree_is_url(s->url))
		return open_tree(s, out, err);
	int r = open_any(s, may_write, out, err);
	const char *inside = strstr(s->url, ".hither/");
	if (r == -ENOENT && inside)
		explain_inside(inside + strlen(".hither/"), err);
	return r;
}

/* --- what is near already --- */

/* Behind these a file may be far away. */
static bool is_far(const char *path)
{
	struct statfs fs;
	if (statfs(path, &fs))
		return true;
	switch ((unsigned)fs.f_type) {
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case V9FS_MAGIC:
	case FUSE_SUPER_MAGIC:
	case AFS_SUPER_MAGIC:
	case CODA_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

bool source_is_near(const struct settings *s)
{
	struct stat st;
	const char *path = s->url;
	if (s->cache_asked || s->mount.direct || hither_tree_is_url(s->url))
		return false;
	if (!strncmp(path, "file:", 5))
		path += 5;
	if (!strncmp(path, "//", 2)) /* file://HOST/PATH */
		path = strchr(path + 2, '/');
	return path && *path == '/' && !stat(path, &st) &&
	       (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) && !is_far(path);
}

/* --- where somebody has the cache already --- */

enum { OWN_COPY_BYTES = 512 << 20 };

/* What runs beside another of its kind needs no cache for later: that one keeps it. */
static int open_own_copy(struct settings *s, bool may_write, struct hither_mount **out,
                         struct hither_error *err)
{
	AUTO_FREE char *url = url_redact(s->url);
	note(s, "another process has the cache of %s; this one keeps a copy of its own, in memory",
	     url ? url : "it");
	*err = (struct hither_error){0};
	s->mount.cache_dir = NULL;
	if (!s->mount.cache_cap_bytes || s->mount.cache_cap_bytes > OWN_COPY_BYTES)
		s->mount.cache_cap_bytes = OWN_COPY_BYTES;
	return open_it(s, may_write, out, err);
}

/* --- what a failure may be turned into --- */

struct kept {
	const char *url, *files; /* files: of a manifest's tree; NULL: none */
	bool has_url;
	uint64_t local_bytes, size_bytes;
};

static int add_kept(void *user, const struct hither_cache_entry *e)
{
	struct kept *k = user;
	bool is_url = !strcmp(e->name, k->url), is_files = k->files && !strcmp(e->name, k->files);
	if (e->error || (!is_url && !is_files))
		return 0;
	k->has_url |= is_url && e->local_bytes;
	if (is_files || !k->files) {
		k->local_bytes = e->local_bytes;
		k->size_bytes = e->size_bytes;
	}
	return 0;
}

/* The server is not there, but the cache may be. */
static void offer_offline(const struct settings *s, struct hither_error *err)
{
	const struct hither_error was = *err;
	char share[16];
	AUTO_FREE char *url = url_redact(s->url);
	AUTO_FREE char *files =
	        url && hither_tree_is_url(s->url) ? hither_tree_cache_name(url) : NULL;
	struct kept k = {.url = url, .files = files};
	if (!url || hither_cache_list(s->mount.cache_dir, add_kept, &k, NULL) || !k.has_url ||
	    !k.local_bytes)
		return;
	if (k.local_bytes == k.size_bytes)
		snprintf(share, sizeof share, "all");
	else
		snprintf(share, sizeof share, "%.0f %%",
		         (double)k.local_bytes * 100 / (double)k.size_bytes);
	hither_fail(err, was.code, "%.*s; the cache has %s of it: --offline uses that",
	            hither_error_fact_len(was.message), was.message, share);
}

/* As people type it, and no server has it. */
static void offer_escapes(const struct settings *s, struct hither_error *err)
{
	const struct hither_error was = *err;
	if (strncmp(s->url, "http", 4) != 0 || !strpbrk(s->url, " #"))
		return;
	hither_fail(err, was.code, "%.*s; in a URL a space is written %%20, and # %%23",
	            hither_error_fact_len(was.message), was.message);
}

static void explain(const struct settings *s, int r, struct hither_error *err)
{
	if (hither_error_is_transient(r) && s->has_offline && !s->mount.offline &&
	    !s->mount.direct && s->mount.cache_dir)
		offer_offline(s, err);
	else if (r == -ENOENT)
		offer_escapes(s, err);
}

int source_open(struct settings *s, bool may_write, struct hither_mount **out,
                struct hither_error *err)
{
	int r = open_it(s, may_write, out, err);
	if (r)
		explain(s, r, err);
	if (r != -EBUSY || s->mount.direct || !s->mount.cache_dir)
		return r;
	if (s->own_copy && !s->mount.offline)
		return open_own_copy(s, may_write, out, err);
	holder_explain(s, err);
	return r;
}

/* The mount's borders between files are nothing that anybody has or waits for. */
void source_stats(const struct settings *s, struct hither_mount *m, struct hither_mount_stats *out)
{
	hither_mount_stats(m, out);
	if (!s->tree || !out->size_bytes)
		return;
	double share = (double)hither_tree_file_bytes(s->tree) / (double)out->size_bytes;
	uint64_t *const sizes[] = {&out->size_bytes, &out->local_bytes, &out->pulled_bytes,
	                           &out->demand_bytes, &out->evicted_bytes};
	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		*sizes[i] = (uint64_t)((double)*sizes[i] * share + 0.5);
}
