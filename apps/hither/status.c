/* SPDX-License-Identifier: Apache-2.0 */
/* hither status: this user's mounts and exports, for people, as JSON, or as metrics. */
#include "command.h"

#include "mountpoint.h"
#include "progress.h"
#include "runtime.h"
#include "settings.h"
#include "status.h"
#include "units.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <hither/block.h>
#include <hither/cache.h>
#include <hither/fuse.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { ANSWER_BYTES = 65536, ANSWER_TIMEOUT_MS = 2000, WATCH_MS = 1000 };

static const struct option_spec specs[] = {
        {"json", 'j', NULL, "Everything that is known, as one JSON object.", set_true,
         offsetof(struct settings, json)},
        {"metrics", 'm', NULL, "The same as Prometheus text.", set_true,
         offsetof(struct settings, metrics)},
        {"watch", 'w', NULL, "Show it again each second, until ^C.", set_true,
         offsetof(struct settings, watch)},
};
static const struct option_group group = {"Showing", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group, NULL};

/* --- collecting --- */

struct collected {
	const char *path; /* only this one, or an export's address; NULL: all */
	struct status_list live, ended, exports, blocks;
	struct status_list known;     /* paths of live ones */
	struct status_list elsewhere; /* mounts whose daemon is in a folder that we do not know */
};

/* One line from the daemon, or NULL. The caller frees it. */
static char *ask(int fd)
{
	static const char request[] = "status\n";
	AUTO_FREE char *text = malloc(ANSWER_BYTES);
	size_t len = 0;
	if (!text || fd < 0 || send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
		return NULL;
	while (len + 1 < ANSWER_BYTES) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, ANSWER_TIMEOUT_MS) <= 0)
			return NULL;
		ssize_t n = recv(fd, text + len, ANSWER_BYTES - 1 - len, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = 0;
	char *end = strchr(text, '\n');
	if (!end)
		return NULL;
	*end = 0;
	return TAKE(text, NULL);
}

/* Its info without the closing brace, so that more can be added; "{" at worst. */
static void open_info(struct json *j, const struct runtime_daemon *d)
{
	const char *end = strrchr(d->info, '}');
	AUTO_FREE char *head =
	        strndup(d->info, end && end > d->info + 1 ? (size_t)(end - d->info) : 0);
	json_text(j, head && *head ? head : "{");
	j->comma = head && *head;
}

/* --- what a daemon that has ended has left to push --- */

struct search {
	const char *url; /* without secrets */
	uint64_t dirty_bytes;
};

static int add_dirty(void *user, const struct hither_cache_entry *e)
{
	struct search *s = user;
	AUTO_FREE char *url = url_redact(e->name);
	if (url && !strcmp(url, s->url) && !e->in_use) /* else it is somebody else's by now */
		s->dirty_bytes += e->dirty_bytes;
	return 0;
}

static uint64_t kept_bytes(const struct runtime_daemon *d)
{
	char url[4096], cache[PATH_MAX];
	struct search s = {.url = url};
	if (json_get_bool(d->info, "writable") &&
	    json_get_string(d->info, "url", url, sizeof url) &&
	    json_get_string(d->info, "cache", cache, sizeof cache) && *cache == '/')
		hither_cache_list(cache, add_dirty, &s, NULL);
	return s.dirty_bytes;
}

static char *describe(const struct runtime_daemon *d, uint64_t kept)
{
	AUTO_CLOSE int fd = d->alive ? runtime_connect(d) : -1;
	char *answer = ask(fd);
	struct json j = {0};
	if (answer && !*d->last_log)
		return answer;
	if (answer) {
		answer[strlen(answer) - 1] = 0;
		json_text(&j, answer);
		j.comma = true;
		free(answer);
	} else {
		open_info(&j, d);
		json_string(&j, "state", d->alive ? "unreachable" : "ended");
		if (!d->alive)
			json_uint(&j, "dirty_bytes", kept);
	}
	json_string(&j, "log", d->log_path);
	json_string(&j, "last_log", d->last_log);
	json_end_object(&j);
	if (!j.failed)
		return j.text;
	json_finish(&j);
	return NULL;
}

static int append(struct status_list *l, char *object)
{
	char **grown = object ? reallocarray(l->objects, l->count + 1, sizeof *grown) : NULL;
	if (!grown) {
		free(object);
		return -ENOMEM;
	}
	l->objects = grown;
	grown[l->count++] = object;
	return 0;
}

/* Is `path` right inside the folder, or deeper? */
static const char *below(const char *folder, const char *path)
{
	size_t len = strlen(folder);
	while (len && folder[len - 1] == '/')
		len--;
	return !strncmp(path, folder, len) && path[len] == '/' ? path + len + 1 : NULL;
}

/* The very mount; one right inside the folder, as umount takes it; or what a path is inside of. */
static bool is_asked_for(const struct collected *c, const char *path)
{
	if (!c->path || !strcmp(path, c->path))
		return true;
	const char *rest = below(c->path, path);
	return *path && ((rest && !strchr(rest, '/')) || below(path, c->path));
}

static bool is_export(const char *object)
{
	char kind[16];
	return json_get_string(object, "kind", kind, sizeof kind) && !strcmp(kind, "export");
}

/* Of those that have ended only what is left to push matters, but to who asks for one by name. */
static int collect(void *user, struct runtime_daemon *d)
{
	struct collected *c = user;
	char path[PATH_MAX];
	uint64_t kept = d->alive ? 0 : kept_bytes(d);
	d->forget = !d->alive && !kept && !*d->last_log;
	if (!json_get_string(d->info, "path", path, sizeof path))
		*path = 0;
	if (d->alive && append(&c->known, strdup(path)))
		return -ENOMEM;
	if (!is_asked_for(c, path))
		return 0;
	if (!d->alive && !kept && (!c->path || d->forget))
		return 0;
	return append(is_export(d->info) ? &c->exports
	              : d->alive         ? &c->live
	                                 : &c->ended,
	              describe(d, kept));
}

/* Block devices, of hither block and of others that make some. */
static int add_block(void *user, const struct hither_block_entry *e)
{
	struct collected *c = user;
	AUTO_JSON struct json j = {0};
	AUTO_FREE char *url = url_redact(e->name);
	if (c->path && strcmp(c->path, e->path))
		return 0;
	json_object(&j, NULL);
	json_string(&j, "path", e->path);
	json_string(&j, "url", url);
	json_string(&j, "kind", hither_block_kind_name(e->kind));
	json_int(&j, "pid", e->pid);
	json_string(&j, "state", e->alive ? "attached" : "ended");
	json_end_object(&j);
	return append(&c->blocks, j.failed ? NULL : TAKE(j.text, NULL));
}

/* A loop device's file is nobody's but its own. */
static bool is_inner(const char *path)
{
	static const char folder[] = "/run/hither/block/";
	return !strncmp(path, folder, sizeof folder - 1);
}

/* What the kernel has mounted, and no daemon that we can find tells of. */
static int consider_mount(void *user, const char *path, const char *source)
{
	struct collected *c = user;
	AUTO_JSON struct json j = {0};
	bool known = is_inner(path) || (c->path && strcmp(path, c->path));
	for (size_t i = 0; !known && i < c->known.count; i++)
		known = !strcmp(c->known.objects[i], path);
	if (known)
		return 0;
	json_object(&j, NULL);
	json_string(&j, "path", path);
	json_string(&j, "url", source);
	json_end_object(&j);
	return append(&c->elsewhere, j.failed ? NULL : TAKE(j.text, NULL));
}

/* The live ones first. */
static int join(struct collected *c)
{
	int r = 0;
	for (size_t i = 0; !r && i < c->ended.count; i++)
		r = append(&c->live, TAKE(c->ended.objects[i], NULL));
	return r;
}

static void finish(struct status_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->objects[i]);
	free(l->objects);
	*l = (struct status_list){0};
}

/* --- showing --- */

bool status_is_up(const char *object)
{
	char state[16];
	json_get_string(object, "state", state, sizeof state);
	return strcmp(state, "ended") && strcmp(state, "unreachable");
}

static void show_array(const char *name, const struct status_list *c)
{
	printf("\"%s\":[", name);
	for (size_t i = 0; i < c->count; i++)
		printf("%s\n%s", i ? "," : "", c->objects[i]);
	printf("%s]", c->count ? "\n" : "");
}

static void show_json(const struct collected *c)
{
	putchar('{');
	show_array("mounts", &c->live);
	putchar(',');
	show_array("exports", &c->exports);
	putchar(',');
	show_array("blocks", &c->blocks);
	putchar(',');
	show_array("elsewhere", &c->elsewhere);
	puts("}");
}

/* How much is here, and what has passed. */
static void show_figures(const char *object, bool direct)
{
	char size[UNITS_TEXT_BYTES], local[UNITS_TEXT_BYTES], dirty[UNITS_TEXT_BYTES];
	uint64_t total = json_get_uint(object, "size_bytes");
	uint64_t here = json_get_uint(object, "local_bytes");
	if (direct)
		printf("  size   %s\n", units_format_size(size, total));
	else
		printf("  local  %s of %s (%.0f %%)\n", units_format_size(local, here),
		       units_format_size(size, total),
		       total ? (double)here * 100 / (double)total : 100);
	printf("  %s %s, ", direct ? "read  " : "pulled",
	       units_format_size(local, json_get_uint(object, "pulled_bytes")));
	printf("%s %s", direct ? "written" : "pushed",
	       units_format_size(size, json_get_uint(object, "pushed_bytes")));
	if (!direct)
		printf(", %s dirty, %llu waiting",
		       units_format_size(dirty, json_get_uint(object, "dirty_bytes")),
		       (unsigned long long)json_get_uint(object, "waiting"));
	putchar('\n');
}

static void show_addresses(const char *object)
{
	char addresses[8192];
	if (!json_get_string(object, "addresses", addresses, sizeof addresses))
		return;
	for (char *at = addresses, *line; (line = strsep(&at, "\n"));)
		printf("%s\n", line);
	if (status_is_up(object))
		printf("  ends   by hither umount %.*s\n", (int)strcspn(addresses, "\n"),
		       addresses);
}

static void show_one(const char *object)
{
	char path[PATH_MAX] = "", url[4096] = "", cache[PATH_MAX] = "", state[16] = "", text[1200];
	char dirty[UNITS_TEXT_BYTES];
	json_get_string(object, "path", path, sizeof path);
	json_get_string(object, "url", url, sizeof url);
	json_get_string(object, "cache", cache, sizeof cache);
	json_get_string(object, "state", state, sizeof state);
	bool export = is_export(object), direct = !strcmp(cache, "direct");
	if (export)
		show_addresses(object);
	else
		printf("%s\n", path);
	printf("  from   %s\n  cache  %s\n  state  %s, pid %lld%s\n", url,
	       direct ? "none: each access goes to the resource" : cache, state,
	       (long long)json_get_int(object, "pid"),
	       json_get_bool(object, "writable") ? "" : ", read-only");
	if (!strcmp(state, "ended") && json_get_uint(object, "dirty_bytes")) {
		printf("  kept   %s not pushed; hither %s %s%s%s pushes them\n",
		       units_format_size(dirty, json_get_uint(object, "dirty_bytes")),
		       export ? "export" : "mount", url, export ? "" : " ", export ? "" : path);
	}
	if (status_is_up(object)) {
		if (export)
			printf("  serves %llu clients now\n",
			       (unsigned long long)json_get_uint(object, "clients"));
		show_figures(object, direct);
	}
	if (json_get_int(object, "error") && json_get_string(object, "message", text, sizeof text))
		printf("  error  %s\n", text);
	if (json_get_string(object, "last_log", text, sizeof text))
		printf("  log    %s\n", text);
}

static void show_block(const char *object)
{
	char path[64] = "", url[4096] = "", kind[16] = "";
	json_get_string(object, "path", path, sizeof path);
	json_get_string(object, "url", url, sizeof url);
	json_get_string(object, "kind", kind, sizeof kind);
	printf("%s\n  ends   by hither block detach %s\n  from   %s\n  state  %s (%s), pid %lld\n",
	       path, path, url, status_is_up(object) ? "attached" : "its process has ended", kind,
	       (long long)json_get_int(object, "pid"));
}

static void show_elsewhere(const char *object)
{
	char path[PATH_MAX] = "", url[4096] = "";
	json_get_string(object, "path", path, sizeof path);
	json_get_string(object, "url", url, sizeof url);
	printf("%s\n  from   %s\n  state  mounted, but its process is not found from here: it has "
	       "another\n         XDG_RUNTIME_DIR, or is another program\n",
	       path, url);
}

static int show(const struct settings *s, const struct collected *c)
{
	size_t count = c->live.count + c->exports.count + c->blocks.count + c->elsewhere.count;
	if (s->json) {
		show_json(c);
	} else if (s->metrics) {
		status_show_metrics(&c->live, &c->exports);
	} else {
		if (!count && !c->path)
			printf("No mounts, no exports, no block devices.\n");
		for (size_t i = 0; i < c->live.count; i++)
			show_one(c->live.objects[i]);
		for (size_t i = 0; i < c->exports.count; i++)
			show_one(c->exports.objects[i]);
		for (size_t i = 0; i < c->blocks.count; i++)
			show_block(c->blocks.objects[i]);
		for (size_t i = 0; i < c->elsewhere.count; i++)
			show_elsewhere(c->elsewhere.objects[i]);
	}
	fflush(stdout);
	if (c->path && !count)
		return fail_with(EXIT_FAILED, "status: %s is no mount, export or device of yours",
		                 c->path);
	return EXIT_DONE;
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct collected c = {0};
	AUTO_FREE char *path = !args[0]                 ? NULL
	                       : strstr(args[0], "://") ? strdup(args[0])
	                                                : mountpoint_canonical(args[0], &err);
	int code = EXIT_DONE;
	if (s->json && s->metrics)
		return fail_with(EXIT_MISUSED, "status: --json and --metrics exclude each other");
	if (args[0] && !path)
		return fail_with(EXIT_FAILED, "status: %s", err.message);
	c.path = path;
	bool clear = s->watch && isatty(STDOUT_FILENO);
	do {
		if (runtime_each(false, collect, &c) || join(&c) ||
		    hither_block_each(add_block, &c) || hither_fuse_each(consider_mount, &c))
			code = fail_with(EXIT_FAILED, "status: no memory");
		if (clear)
			fputs("\033[H\033[J", stdout);
		if (!code)
			code = show(s, &c);
		finish(&c.live);
		finish(&c.ended);
		finish(&c.exports);
		finish(&c.blocks);
		finish(&c.known);
		finish(&c.elsewhere);
	} while (s->watch && !code && !ferror(stdout) && poll(NULL, 0, WATCH_MS) == 0);
	return code;
}

const struct command command_status = {
        .name = "status",
        .usage = "[OPTIONS] [PATH | ADDRESS]",
        .summary = "show what is mounted or exported, and how it fares",
        .text = "Show this user's mounts, exports and block devices, and how to end them, or the\n"
                "one at PATH or ADDRESS. One that has ended is listed if what was written to it\n"
                "is still in a cache and not pushed.",
        .groups = groups,
        .min_args = 0,
        .max_args = 1,
        .run = run,
};
