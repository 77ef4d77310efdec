/* SPDX-License-Identifier: Apache-2.0 */
/* hither cache: what is kept on disk. */
#include "command.h"

#include "json.h"
#include "settings.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/cache.h>
#include <hither/tree.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct option_spec specs[] = {
        {"json", 'j', NULL, "With list and size: as JSON.", set_true,
         offsetof(struct settings, json)},
        {"force", 0, NULL, "With clear: also what has not been pushed yet, which is then lost.",
         set_true, offsetof(struct settings, force)},
};
static const struct option_group group = {"Listing and clearing", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group, &options_cache_dir, NULL};

/* --- list, size --- */

static void print_entry(const struct hither_cache_entry *e)
{
	char here[UNITS_TEXT_BYTES], size[UNITS_TEXT_BYTES], disk[UNITS_TEXT_BYTES];
	char dirty[UNITS_TEXT_BYTES], when[32] = "";
	AUTO_FREE char *name = url_redact(e->name);
	time_t used_at = (time_t)e->used_at;
	struct tm local;
	if (e->error) {
		printf("%9s on disk  %s: %s\n", units_format_size(here, e->disk_bytes), e->path,
		       strerror(-e->error));
		return;
	}
	localtime_r(&used_at, &local);
	strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
	printf("%9s of %9s  %9s on disk  %s  %s", units_format_size(here, e->local_bytes),
	       units_format_size(size, e->size_bytes), units_format_size(disk, e->disk_bytes), when,
	       name ? name : "");
	if (e->dirty_bytes)
		printf("  (%s not pushed)", units_format_size(dirty, e->dirty_bytes));
	printf("%s\n", e->in_use ? "  (in use)" : "");
}

static void add_entry(struct json *j, const struct hither_cache_entry *e)
{
	AUTO_FREE char *name = url_redact(e->name);
	json_object(j, NULL);
	json_string(j, "url", e->error ? NULL : name);
	json_string(j, "path", e->path);
	json_uint(j, "size_bytes", e->size_bytes);
	json_uint(j, "local_bytes", e->local_bytes);
	json_uint(j, "disk_bytes", e->disk_bytes);
	json_uint(j, "dirty_bytes", e->dirty_bytes);
	json_bool(j, "in_use", e->in_use);
	json_int(j, "used_at", e->used_at);
	json_int(j, "error", e->error);
	json_end_object(j);
}

struct listing {
	struct json *json; /* NULL: for people */
	bool entries;      /* each one, not only the sum */
	uint64_t count, disk_bytes, dirty_bytes;
	struct hither_cache_entry *list; /* [count] where entries is set; the strings are ours */
};

static int list_one(void *user, const struct hither_cache_entry *e)
{
	struct listing *l = user;
	l->disk_bytes += e->disk_bytes;
	l->dirty_bytes += e->dirty_bytes;
	struct hither_cache_entry *grown =
	        l->entries ? reallocarray(l->list, l->count + 1, sizeof *grown) : NULL;
	if (l->entries && !grown)
		return -ENOMEM;
	l->count++;
	if (!grown)
		return 0;
	l->list = grown;
	struct hither_cache_entry *copy = &grown[l->count - 1];
	*copy = *e;
	copy->name = strdup(e->name);
	copy->path = strdup(e->path);
	return copy->name && copy->path ? 0 : -ENOMEM;
}

static int by_name(const void *a, const void *b)
{
	const struct hither_cache_entry *x = a, *y = b;
	int r = strcmp(x->name, y->name);
	return r ? r : strcmp(x->path, y->path);
}

static void show_entries(struct listing *l)
{
	if (l->list)
		qsort(l->list, l->count, sizeof *l->list, by_name);
	for (uint64_t i = 0; l->list && i < l->count; i++) {
		if (l->json)
			add_entry(l->json, &l->list[i]);
		else
			print_entry(&l->list[i]);
	}
}

static void listing_finish(struct listing *l)
{
	for (uint64_t i = 0; l->list && i < l->count; i++) {
		free((void *)(uintptr_t)l->list[i].name);
		free((void *)(uintptr_t)l->list[i].path);
	}
	free(l->list);
}

static void print_sum(const struct listing *l)
{
	char disk[UNITS_TEXT_BYTES], dirty[UNITS_TEXT_BYTES];
	printf("%s in %llu cache%s", units_format_size(disk, l->disk_bytes),
	       (unsigned long long)l->count, l->count == 1 ? "" : "s");
	if (l->dirty_bytes)
		printf(", %s not pushed", units_format_size(dirty, l->dirty_bytes));
	putchar('\n');
}

static int list(struct settings *s, const char *dir, bool entries)
{
	struct hither_error err = {0};
	AUTO_JSON struct json j = {0};
	struct listing l = {.json = s->json ? &j : NULL, .entries = entries};
	json_object(&j, NULL);
	json_string(&j, "cache", dir);
	if (entries)
		json_array(&j, "entries");
	int r = hither_cache_list(dir, list_one, &l, &err);
	if (!r)
		show_entries(&l);
	listing_finish(&l);
	if (r)
		return fail_with(EXIT_FAILED, "%s", err.code ? err.message : "no memory");
	if (entries)
		json_end_array(&j);
	json_uint(&j, "count", l.count);
	json_uint(&j, "disk_bytes", l.disk_bytes);
	json_uint(&j, "dirty_bytes", l.dirty_bytes);
	json_end_object(&j);
	if (j.failed)
		return fail_with(EXIT_FAILED, "no memory");
	if (s->json)
		printf("%s\n", j.text);
	else if (!entries)
		print_sum(&l);
	else if (!l.count)
		printf("Nothing is kept in %s.\n", dir);
	return EXIT_DONE;
}

/* --- clear --- */

/* A cache that is to go. */
struct victim {
	char *path, *shown; /* its folder; its URL, or the folder again */
	uint64_t disk_bytes;
	bool in_use, damaged;
};

struct clearing {
	struct victim *list;
	size_t count;
	bool force, failed;
	uint64_t freed_bytes, freed_count;
};

/* Deleting while the folder is walked would pull it from under the walker's feet. */
static int note(void *user, const struct hither_cache_entry *e)
{
	struct clearing *c = user;
	struct victim *grown = reallocarray(c->list, c->count + 1, sizeof *grown);
	if (!grown)
		return -ENOMEM;
	c->list = grown;
	struct victim *v = &grown[c->count];
	*v = (struct victim){.path = strdup(e->path),
	                     .shown = *e->name ? url_redact(e->name) : strdup(e->path),
	                     .disk_bytes = e->disk_bytes,
	                     .in_use = e->in_use,
	                     .damaged = e->error};
	c->count++;
	return v->path && v->shown ? 0 : -ENOMEM;
}

/* What somebody works with is not what clearing is for: it is no failure that it stays. */
static void tell_in_use(const struct victim *v)
{
	char size[UNITS_TEXT_BYTES];
	fail_with(0, "kept %s of %s: in use", units_format_size(size, v->disk_bytes), v->shown);
}

static void clear_one(struct clearing *c, const struct victim *v)
{
	struct hither_error err = {0};
	if (v->in_use) {
		tell_in_use(v);
		return;
	}
	if (v->damaged && !c->force) {
		c->failed = true;
		fail_with(0,
		          "%s cannot be read: what was not pushed is lost by clearing it (--force)",
		          v->path);
		return;
	}
	int r = hither_cache_delete_at(v->path, c->force, &err);
	if (r == -EBUSY) {
		tell_in_use(v);
	} else if (r) {
		c->failed = true;
		fail_with(0, "%s", err.message);
	} else {
		c->freed_bytes += v->disk_bytes;
		c->freed_count++;
	}
}

static int tell_freed(const struct clearing *c)
{
	char size[UNITS_TEXT_BYTES];
	printf("%s of disk freed, %llu cache%s cleared\n", units_format_size(size, c->freed_bytes),
	       (unsigned long long)c->freed_count, c->freed_count == 1 ? "" : "s");
	return c->failed ? EXIT_FAILED : EXIT_DONE;
}

static int clear_all(struct clearing *c)
{
	for (size_t i = 0; i < c->count; i++)
		clear_one(c, &c->list[i]);
	return tell_freed(c);
}

/* Of a manifest the files' cache goes first, which is the one that a mount has open. */
static int delete_named(const char *dir, const char *name, bool force, struct hither_error *err)
{
	AUTO_FREE char *files = hither_tree_is_url(name) ? hither_tree_cache_name(name) : NULL;
	int r = files ? hither_cache_delete(dir, files, force, err) : -ENOENT;
	if (r && r != -ENOENT)
		return r;
	struct hither_error manifest = {0};
	int also = hither_cache_delete(dir, name, force, &manifest);
	if (!also || (also == -ENOENT && !r))
		return 0;
	*err = manifest;
	return also;
}

/* Only the cache itself tells what it is of: two names may look alike without their secrets. */
static int clear_named(struct clearing *c, const char *dir, const char *url)
{
	struct hither_error err = {0};
	AUTO_FREE char *name = url_absolute(url);
	if (!name)
		return fail_with(EXIT_FAILED, "no memory");
	if (delete_named(dir, name, c->force, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
	for (size_t i = 0; i < c->count; i++)
		if (access(c->list[i].path, F_OK)) {
			c->freed_bytes += c->list[i].disk_bytes;
			c->freed_count++;
		}
	return tell_freed(c);
}

static int clear(struct settings *s, const char *dir, const char *url)
{
	struct hither_error err = {0};
	struct clearing c = {.force = s->force};
	int r = hither_cache_list(dir, note, &c, &err);
	int code = r     ? fail_with(EXIT_FAILED, "%s", err.code ? err.message : "no memory")
	           : url ? clear_named(&c, dir, url)
	                 : clear_all(&c);
	for (size_t i = 0; i < c.count; i++) {
		free(c.list[i].path);
		free(c.list[i].shown);
	}
	free(c.list);
	return code;
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	const char *what = args[0] ? args[0] : "list";
	bool clears = !strcmp(what, "clear"), sums = !strcmp(what, "size");
	if (!clears && !sums && strcmp(what, "list"))
		return fail_with(EXIT_MISUSED, "cache: %s is none of list, size, clear", what);
	if (args[1] && !clears)
		return fail_with(EXIT_MISUSED, "cache: %s takes no URL", what);
	const char *dir = settings_cache_dir(s, &err);
	if (!dir)
		return fail_with(EXIT_MISUSED, "cache: %s",
		                 err.code ? err.message : "--cache none is none on disk");
	return clears ? clear(s, dir, args[1]) : list(s, dir, !sums);
}

const struct command command_cache = {
        .name = "cache",
        .usage = "[OPTIONS] [list | size | clear [URL]]",
        .summary = "show or clear what is kept on disk",
        .text = "Show what is kept on disk (list: how much of each URL is here), how much that is\n"
                "(size), or delete it (clear): what is kept of URL, or all that is not in use.",
        .groups = groups,
        .min_args = 0,
        .max_args = 2,
        .run = run,
};
