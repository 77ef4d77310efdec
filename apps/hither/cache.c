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
	char disk[UNITS_TEXT_BYTES], size[UNITS_TEXT_BYTES], dirty[UNITS_TEXT_BYTES], when[32] = "";
	AUTO_FREE char *name = url_redact(e->name);
	time_t used_at = (time_t)e->used_at;
	struct tm local;
	if (e->error) {
		printf("%9s  %s: %s\n", units_format_size(disk, e->disk_bytes), e->path,
		       strerror(-e->error));
		return;
	}
	localtime_r(&used_at, &local);
	strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
	printf("%9s of %9s  %s  %s", units_format_size(disk, e->disk_bytes),
	       units_format_size(size, e->size_bytes), when, name ? name : "");
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
};

static int list_one(void *user, const struct hither_cache_entry *e)
{
	struct listing *l = user;
	l->count++;
	l->disk_bytes += e->disk_bytes;
	l->dirty_bytes += e->dirty_bytes;
	if (!l->entries)
		return 0;
	if (l->json)
		add_entry(l->json, e);
	else
		print_entry(e);
	return 0;
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
	if (hither_cache_list(dir, list_one, &l, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
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
	return EXIT_DONE;
}

/* --- clear --- */

static int told(int r, const struct hither_error *err)
{
	return r ? fail_with(EXIT_FAILED, "%s", err->message) : EXIT_DONE;
}

struct paths {
	char **list;
	size_t count;
	bool force, damaged;
};

/* Deleting while the folder is walked would pull it from under the walker's feet. */
static int note_path(void *user, const struct hither_cache_entry *e)
{
	struct paths *n = user;
	if (e->error && !n->force) {
		n->damaged = true;
		fail_with(EXIT_FAILED,
		          "%s cannot be read (%s): what was not pushed is lost by clearing it "
		          "(--force)",
		          e->path, strerror(-e->error));
		return 0;
	}
	char **grown = reallocarray(n->list, n->count + 1, sizeof *grown);
	if (!grown)
		return -ENOMEM;
	n->list = grown;
	n->list[n->count] = strdup(e->path);
	return n->list[n->count] ? (n->count++, 0) : -ENOMEM;
}

static int clear_all(const char *dir, bool force)
{
	struct hither_error err = {0};
	struct paths n = {.force = force};
	int r = hither_cache_list(dir, note_path, &n, &err);
	int code = n.damaged ? EXIT_FAILED : EXIT_DONE;
	if (r)
		code = fail_with(EXIT_FAILED, "%s", err.code ? err.message : "no memory");
	for (size_t i = 0; i < n.count; i++) {
		struct hither_error why = {0};
		if (!r && told(hither_cache_delete_at(n.list[i], force, &why), &why))
			code = EXIT_FAILED;
		free(n.list[i]);
	}
	free(n.list);
	return code;
}

static int clear(struct settings *s, const char *dir, const char *url)
{
	if (!url)
		return clear_all(dir, s->force);
	AUTO_FREE char *name = url_absolute(url);
	struct hither_error err = {0};
	return name ? told(hither_cache_delete(dir, name, s->force, &err), &err)
	            : fail_with(EXIT_FAILED, "no memory");
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
        .text = "Show what is kept on disk (list), how much that is (size), or delete what is\n"
                "not in use: all of it, or what is kept of URL (clear).",
        .groups = groups,
        .min_args = 0,
        .max_args = 2,
        .run = run,
};
