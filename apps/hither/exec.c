/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hither exec: run a program that is at a URL, or in a tree.
 *
 *     main thread     mount in a folder of its own -> serve ................ -> unmount, close
 *     program thread            start the program there, wait for its end -> asks for the end
 *
 * What it reads before it runs is asked for at once (core/order/elf.c). Signals are the program's.
 */
#include "command.h"

#include "child.h"
#include "daemon.h"
#include "mountpoint.h"
#include "runtime.h"
#include "source.h"
#include "url.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/fuse.h>
#include <hither/url.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FIELD(member) offsetof(struct settings, member)

enum { INTERPRETER_BYTES = 256 };               /* the kernel reads no more (BINPRM_BUF_SIZE) */
enum { NOT_EXECUTABLE = 126, NOT_FOUND = 127 }; /* as shells have it */

static const struct option_spec specs[] = {
        {"offline", 0, NULL, "Use only what the cache has.", set_true, FIELD(mount.offline)},
        {"root-hash", 0, "HASH",
         "Of a program in a tree: run it only if this is the manifest's root hash.", set_string,
         FIELD(root_hash)},
};
static const struct option_group group = {"Running", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group,           &options_cache, &options_pull,
                                                    &options_network, &options_test,  NULL};

struct job {
	struct daemon daemon;
	char **argv;        /* the program's */
	const char *inside; /* its path in the tree; NULL: what is mounted is the program */
	char *program;      /* where it can be run from */
	pthread_t thread;
	bool has_thread;
	int code;

	pthread_mutex_t lock; /* guards the rest */
	struct child child;
	bool runs, ending; /* the program does; it shall not begin any more */
};

static int code_of(const struct job *j, int r)
{
	switch (r) {
	case -ENOENT:
		return NOT_FOUND;
	case -EACCES:
	case -ENOEXEC:
	case -EISDIR:
	case -ENOTDIR:
		return NOT_EXECUTABLE;
	case -EINVAL: /* no manifest, a damaged one, or not the one that was asked for */
	case -EBADMSG:
	case -EPROTONOSUPPORT:
		return j->inside ? NOT_EXECUTABLE : EXIT_FAILED;
	default:
		return EXIT_FAILED;
	}
}

static int start(struct job *j, struct hither_error *err)
{
	const struct child_wish wish = {.program = j->program,
	                                /* A server may answer with a page, and a tree may hold
	                                 * anything: sh shall make nothing of it. */
	                                .proper = true,
	                                .argv = j->argv,
	                                .name = j->inside ? "HITHER_TREE" : NULL,
	                                .value = j->daemon.at.path};
	pthread_mutex_lock(&j->lock);
	int r = j->ending ? -ECANCELED : child_start(&wish, &j->child, err);
	j->runs = !r;
	pthread_mutex_unlock(&j->lock);
	return r;
}

/* The interpreter that its first line wants, as the kernel reads it: what ends in CR LF wants one
 * whose name ends in CR. */
static bool wants(const char *program, char interpreter[INTERPRETER_BYTES])
{
	char line[INTERPRETER_BYTES];
	AUTO_CLOSE int fd = open(program, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
	if (len < 2 || memcmp(line, "#!", 2))
		return false;
	line[len] = 0;
	const char *at = line + 2;
	at += strspn(at, " \t");
	snprintf(interpreter, INTERPRETER_BYTES, "%.*s", (int)strcspn(at, " \t\n"), at);
	return *interpreter;
}

/* Where it is mounted is nothing to whoever gave a URL. */
static void explain(const struct job *j, int r)
{
	struct stat st;
	char wanted[INTERPRETER_BYTES];
	const char *url = j->daemon.shown_url, *slash = j->inside ? "/" : "",
	           *inside = j->inside ? j->inside : "";
	bool there = !stat(j->program, &st);
	if (r == -ENOEXEC)
		fail_with(0,
		          "exec: %s%s%s is no program: it is not ELF for this machine, and does "
		          "not begin with #!",
		          url, slash, inside);
	else if (r == -ENOENT && !there)
		fail_with(0, "exec: %s is not in %s", inside, url);
	else if (r == -ENOENT && wants(j->program, wanted) && strchr(wanted, '\r'))
		fail_with(
		        0,
		        "exec: %s%s%s: its first line ends in CR LF, as Windows writes it: save it "
		        "with LF",
		        url, slash, inside);
	else if (r == -ENOENT && wants(j->program, wanted))
		fail_with(0, "exec: %s%s%s wants %s, which is not on this machine", url, slash,
		          inside, wanted);
	else if (r == -ENOENT)
		fail_with(0, "exec: %s%s%s wants a dynamic loader that is not on this machine", url,
		          slash, inside);
	else if (r == -EACCES && there && S_ISDIR(st.st_mode))
		fail_with(0, "exec: %s%s%s is a folder", url, slash, inside);
	else if (r == -EACCES && there && !(st.st_mode & 0111))
		fail_with(0, "exec: %s%s%s is not marked executable in its tree", url, slash,
		          inside);
	else
		fail_with(0, "exec: %s%s%s: %s", url, slash, inside, strerror(-r));
}

static void *job_main(void *arg)
{
	struct job *j = arg;
	struct hither_error err = {0};
	int r = start(j, &err);
	if (!r) {
		j->code = child_wait(&j->child);
		pthread_mutex_lock(&j->lock);
		j->runs = false;
		child_finish(&j->child);
		pthread_mutex_unlock(&j->lock);
	} else {
		j->code = r == -ECANCELED ? 128 + SIGTERM : code_of(j, r);
		if (r != -ECANCELED)
			explain(j, r);
	}
	daemon_end(&j->daemon, true, false, false);
	return NULL;
}

/* Its path: below the folder that is mounted, or what is the only file there. */
static char *program_path(const struct job *j)
{
	const struct settings *s = j->daemon.settings;
	uint32_t count;
	char *path;
	AUTO_FREE char *own = s->tree ? NULL : url_file_name(s->url);
	const char *name = j->inside ? j->inside
	                   : s->tree ? hither_tree_nodes(s->tree, &count)->name
	                             : own;
	return name && asprintf(&path, "%s/%s", j->daemon.at.path, name) >= 0 ? path : NULL;
}

static int mounted(struct daemon *d, struct hither_error *err)
{
	struct job *j = d->hooks_user;
	j->argv[0] = j->program = program_path(j);
	if (!j->program)
		return hither_fail(err, -ENOMEM, "no memory");
	int r = -pthread_create(&j->thread, NULL, job_main, j);
	j->has_thread = !r;
	return r ? hither_fail(err, r, "start a thread: %s", strerror(-r)) : 0;
}

/* Unmounted by somebody else: the program has lost its files. */
static int unmounted(struct daemon *d)
{
	struct job *j = d->hooks_user;
	pthread_mutex_lock(&j->lock);
	j->ending = true;
	if (j->runs)
		child_signal(&j->child, SIGKILL);
	pthread_mutex_unlock(&j->lock);
	if (j->has_thread)
		pthread_join(j->thread, NULL);
	hither_mount_cancel(d->mount); /* nothing is written: closing need not wait for a pull */
	return 0;
}

/* A terminal's ^C has reached the program, too. */
static bool signalled(struct daemon *d, const struct signalfd_siginfo *info)
{
	struct job *j = d->hooks_user;
	pthread_mutex_lock(&j->lock);
	bool runs = j->runs;
	if (runs && info->ssi_code <= 0) /* SI_USER and the like: sent to us alone */
		child_signal(&j->child, (int)info->ssi_signo);
	j->ending |= !runs;
	pthread_mutex_unlock(&j->lock);
	return runs;
}

static const struct daemon_hooks hooks = {mounted, unmounted, signalled};

/*
 * "http://h/tools.hither/bin/x?k": the manifest's URL, and the path of a program in the tree. NULL:
 * no such URL. Not in a query, and not in a folder of the local disk that has such a name.
 */
static char *split(const char *url, char **inside)
{
	static const char mark[] = ".hither/";
	size_t end = hither_url_scheme(url) ? strcspn(url, "?#") : strlen(url);
	const char *at = strstr(url, mark);
	struct stat st;
	while (at && at < url + end) {
		size_t stem = (size_t)(at - url) + sizeof mark - 2;
		char *manifest = NULL;
		if (asprintf(&manifest, "%.*s%s", (int)stem, url, url + end) < 0)
			return NULL;
		const char *path = url + stem + 1;
		size_t len = (size_t)(url + end - path);
		bool folder =
		        !hither_url_scheme(url) && !stat(manifest, &st) && S_ISDIR(st.st_mode);
		if (!folder && len && (*inside = strndup(path, len)))
			return manifest;
		free(manifest);
		at = strstr(at + 1, mark);
	}
	return NULL;
}

static int run_at(struct job *j, const char *folder)
{
	struct hither_error err = {0};
	struct daemon *d = &j->daemon;
	d->shown_url = url_redact(d->settings->url);
	runtime_each(false, NULL, NULL); /* clears away what the dead left */
	d->at.path = mountpoint_canonical(folder, &err);
	int r = d->shown_url && d->at.path ? hither_fuse_probe(&err)
	                                   : hither_fail(&err, -ENOMEM, "no memory");
	int code = r ? fail_with(EXIT_FAILED, "%s", err.message) : daemon_run(d);
	mountpoint_finish(&d->at);
	free(d->shown_url);
	/* What could not even be mounted is no program that could be found, or run. */
	return j->has_thread ? j->code : d->never ? code_of(j, d->never) : code;
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct job j = {.argv = args, .lock = PTHREAD_MUTEX_INITIALIZER};
	char folder[512];
	AUTO_FREE char *inside = NULL;
	AUTO_FREE char *manifest = split(args[0], &inside);
	s->read_only = s->foreground = s->own_copy = s->has_offline = true;
	if ((s->wrap && source_check_layers(s->wrap, &err)) ||
	    settings_apply(s, manifest ? manifest : args[0], &err))
		return fail_with(EXIT_MISUSED, "exec: %s", err.message);
	options_hide(args[0]);
	j.inside = inside;
	s->takes_tree = inside;
	j.daemon = (struct daemon){.settings = s,
	                           .report_fd = -1,
	                           .late = folder,
	                           .scratch = true,
	                           .quiet = true,
	                           .executable = true,
	                           .hooks = &hooks,
	                           .hooks_user = &j,
	                           .entry = {.folder_fd = -1, .info_fd = -1, .log_fd = -1}};
	if (mountpoint_scratch("hither-exec", folder, sizeof folder, &err))
		return fail_with(EXIT_FAILED, "%s", err.message);
	int code = run_at(&j, folder);
	rmdir(folder);
	free(j.program);
	return code;
}

const struct command command_exec = {
        .name = "exec",
        .usage = "[OPTIONS] URL [ARGUMENT...]",
        .summary = "run a program that is at a URL",
        .text = "Run the program or script at URL with these arguments, where we are. It begins\n"
                "once what it reads first is here; what else it reads is fetched as it goes. In\n"
                "a tree it is named by the manifest's URL and its path there, as in\n"
                "https://example.org/tools.hither/bin/frob, and finds the tree by $HITHER_TREE.\n"
                "The exit code is the program's.",
        .groups = groups,
        .min_args = 1,
        .max_args = 255,
        .options_first = true,
        .run = run,
};
