/* SPDX-License-Identifier: Apache-2.0 */
/* ram-dl run: one program with a server's memory, unprivileged. pool.h has the picture. */
#include "command.h"

#include "claim.h"
#include "lease.h"
#include "pool.h"
#include "run_dir.h"
#include "server_url.h"
#include "stumble.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <hither/layer.h>
#include <hither/slice.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum {
	LIMIT_BYTES = 512 << 20,
	LIMIT_LEAST = 8 << 20,
	ABOVE_BYTES =
	        2
	        << 20, /* the arenas of most allocators, full of small and busy things, are less */
	CHUNK_BYTES = 32 << 10,
	DEADLINE_MS = 30000,
	CONNECTIONS = 4,
	CANNOT_RUN = 127, /* as shells say it; and 128 + the signal that ended it */
};

struct run {
	char *url, *mirror;
	uint64_t size, limit, above, chunk, connections, deadline_ms;
	const char *ca_file, *cert_file, *key_file;
	const char *pack; /* NULL: none */
	bool encrypt, force;
	uint64_t room; /* what all servers have, at most size and a little */
	unsigned char claim[CLAIM_ID_BYTES];
	char **command;
};

static const char help[] =
        "Usage: ram-dl run [OPTIONS] --size SIZE HOST[:PORT][/NAME] | URL -- COMMAND ...\n\n"
        "Run COMMAND with the memory that HOST serves (ram-ul, or any NBD server): its large\n"
        "allocations (malloc, mmap) keep at most the limit here, the rest is there, and comes\n"
        "back as it is touched, or a little before. Needs no privileges. Processes that it\n"
        "starts have the same; a child that was only forked has none of its parent's. Ends as\n"
        "COMMAND does. A server that dies, or is silent for the deadline, ends it by SIGBUS,\n"
        "with a message, when it needs what was there.\n\n"
        "  -s, --size SIZE      Use so much of the server's; COMMAND gets no more than that.\n"
        "  -l, --limit SIZE     Keep so much here, in each process (512M).\n"
        "      --above SIZE     Allocations from this size on (2M).\n"
        "      --chunk SIZE     What one fault brings, a power of two (32K).\n"
        "  -n, --connections N  Connections to the server, 1 to 16 (4).\n"
        "  -m, --mirror URL     A second server that gets every page, too: one may die.\n"
        "  -d, --deadline TIME  A page that has not come by then is lost (30s).\n"
        "  -z, --compress KIND  lz4 or zstd: what goes there is made smaller first.\n"
        "  -e, --encrypt        What goes there is encrypted (AES-256-GCM), by a key that only\n"
        "                       this machine has, and checked when it comes back.\n"
        "      --force          Take a server that seems to be in use, or is not empty.\n"
        "      --ca-file FILE   TLS (nbds://): trust these certificates.\n"
        "      --cert-file FILE Show this one.\n"
        "      --key-file FILE  Its key.\n"
        "  -h, --help           Show this help.\n";

static const struct option options[] = {{"size", required_argument, NULL, 's'},
                                        {"limit", required_argument, NULL, 'l'},
                                        {"above", required_argument, NULL, 'a'},
                                        {"chunk", required_argument, NULL, 'c'},
                                        {"connections", required_argument, NULL, 'n'},
                                        {"mirror", required_argument, NULL, 'm'},
                                        {"deadline", required_argument, NULL, 'd'},
                                        {"compress", required_argument, NULL, 'z'},
                                        {"encrypt", no_argument, NULL, 'e'},
                                        {"force", no_argument, NULL, 'F'},
                                        {"ca-file", required_argument, NULL, 'A'},
                                        {"cert-file", required_argument, NULL, 'C'},
                                        {"key-file", required_argument, NULL, 'K'},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};

/* --- what is asked for --- */

static int set_size(uint64_t *out, const char *value, uint64_t least, uint64_t most,
                    struct hither_error *err)
{
	int r = units_parse_size(value, out, err);
	if (!r && (*out < least || *out > most))
		r = hither_fail(err, -EINVAL, "%s is not from %" PRIu64 " to %" PRIu64 " bytes",
		                value, least, most);
	return r;
}

static int set_option(struct run *o, int letter, const char *value, struct hither_error *err)
{
	uint64_t us;
	char *end;
	int r;
	switch (letter) {
	case 's':
		return set_size(&o->size, value, ABOVE_BYTES, INT64_MAX / 2, err);
	case 'l':
		return set_size(&o->limit, value, LIMIT_LEAST, INT64_MAX / 2, err);
	case 'a':
		return set_size(&o->above, value, 4096, INT64_MAX / 2, err);
	case 'c':
		r = set_size(&o->chunk, value, 4096, 1 << 20, err);
		return r || !(o->chunk & (o->chunk - 1))
		               ? r
		               : hither_fail(err, -EINVAL, "%s is no power of two", value);
	case 'n':
		o->connections = strtoul(value, &end, 10);
		return *end || o->connections < 1 || o->connections > 16
		               ? hither_fail(err, -EINVAL, "%s is no number from 1 to 16", value)
		               : 0;
	case 'm':
		o->mirror = server_url(value);
		return o->mirror ? 0 : -ENOMEM;
	case 'd':
		r = units_parse_duration(value, &us, err);
		if (!r && (us < 1000000 || us > UINT64_C(3600000000)))
			r = hither_fail(err, -EINVAL, "%s is not from 1s to 1h", value);
		o->deadline_ms = us / 1000;
		return r;
	case 'z':
		o->pack = value;
		return strcmp(value, "lz4") && strcmp(value, "zstd")
		               ? hither_fail(err, -EINVAL, "%s is neither lz4 nor zstd", value)
		               : 0;
	case 'e':
		o->encrypt = true;
		return 0;
	case 'F':
		o->force = true;
		return 0;
	case 'A':
		o->ca_file = value;
		return 0;
	case 'C':
		o->cert_file = value;
		return 0;
	default:
		o->key_file = value;
		return 0;
	}
}

/* -1: go on. */
static int parse(struct run *o, int argc, char **argv)
{
	int letter;
	char why[STUMBLE_BYTES];
	opterr = 0;
	while ((letter = getopt_long(argc, argv, "+:s:l:n:m:d:z:eh", options, NULL)) != -1) {
		struct hither_error err = {0};
		if (letter == 'h') {
			fputs(help, stdout);
			return EXIT_DONE;
		}
		if (letter == '?' || letter == ':')
			return fail_with(EXIT_MISUSED, "run: %s; see ram-dl run --help",
			                 stumble(letter, argv, options, why));
		if (set_option(o, letter, optarg, &err))
			return fail_with(EXIT_MISUSED, "run: %s", err.message);
	}
	/* "--" between the server and the command, where getopt has stopped already. */
	char **rest = argv + optind;
	if (rest[0] && rest[1] && !strcmp(rest[1], "--"))
		o->command = rest + 2;
	else
		o->command = rest[0] ? rest + 1 : rest;
	if (!rest[0] || !o->command[0])
		return fail_with(EXIT_MISUSED,
		                 "run: a server and a command, please; see ram-dl run --help");
	if (!o->size)
		return fail_with(EXIT_MISUSED, "run: --size is missing");
	o->url = server_url(rest[0]);
	return o->url ? -1 : fail_with(EXIT_FAILED, "no memory");
}

/* --- before it starts --- */

static struct hither_backend_options backend_options(const struct run *o)
{
	return (struct hither_backend_options){.writable = true,
	                                       .parallel = 1,
	                                       .idle_timeout_ms = (uint32_t)o->deadline_ms,
	                                       .ca_file = o->ca_file,
	                                       .cert_file = o->cert_file,
	                                       .key_file = o->key_file};
}

/* What the program would stumble over in its middle is better told now. From here on it is ours. */
static int take_server(struct run *o, const char *url, struct hither_error *err)
{
	char size[UNITS_TEXT_BYTES];
	struct hither_backend *b;
	const struct hither_backend_options bo = backend_options(o);
	int r = hither_backend_open(url, &bo, &b, err);
	if (r)
		return r;
	if (b->size_bytes < o->room) /* the claim's place need not be of what was asked for */
		o->room = b->size_bytes;
	if (b->size_bytes < o->size)
		r = hither_fail(err, -ENOSPC, "the server has only %s",
		                units_format_size(size, b->size_bytes));
	if (!r)
		r = claim_take(b, "run", o->force, o->claim, err);
	hither_backend_close(b);
	return r;
}

/* Both are taken, or none. */
static int take_servers(struct run *o, struct hither_error *err)
{
	const struct hither_backend_options bo = backend_options(o);
	if (o->mirror && !strcmp(o->mirror, o->url))
		return hither_fail(err, -EINVAL, "the mirror is the server itself");
	int r = claim_make_id(o->claim, err);
	o->room = o->size + LEASE_GRAIN;
	if (!r)
		r = take_server(o, o->url, err);
	if (r || !o->mirror)
		return r;
	r = take_server(o, o->mirror, err);
	if (r)
		claim_release(o->url, &bo, o->claim);
	return r;
}

static void give_servers(const struct run *o)
{
	const struct hither_backend_options bo = backend_options(o);
	claim_release(o->url, &bo, o->claim);
	if (o->mirror)
		claim_release(o->mirror, &bo, o->claim);
}

static int check_kernel(struct hither_error *err)
{
	struct hither_backend *b;
	struct hither_mount *m;
	struct hither_slice *s;
	const struct hither_mount_options mo = {.pull_off = true};
	const struct hither_slice_options so = {0};
	int r = hither_backend_memory_create(CHUNK_BYTES, &b, err);
	if (r)
		return r;
	r = hither_mount_backend(b, "ram-dl run", &mo, &m, err);
	if (r) {
		hither_backend_close(b);
		return r;
	}
	r = hither_slice_open(m, &so, &s, err);
	if (!r)
		hither_slice_close(s, NULL);
	hither_mount_close(m, NULL);
	return r;
}

static int check_seal(struct hither_error *err)
{
	struct hither_backend *b, *sealed;
	int r = hither_backend_memory_create(CHUNK_BYTES, &b, err);
	if (r)
		return r;
	r = hither_layer_seal(b, HITHER_PACK_LZ4, true, &sealed, err);
	hither_backend_close(r ? b : sealed);
	return r;
}

static bool is_there(char *out, size_t size, const char *folder, const char *name)
{
	return snprintf(out, size, "%s/%s", folder, name) < (int)size && !access(out, R_OK);
}

/* Beside us where we were built, else where we were installed. */
static int find_module(char *out, size_t size, const char *name, struct hither_error *err)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n < 0 ? 0 : n] = 0;
	char *slash = strrchr(self, '/');
	if (slash)
		*slash = 0;
	if ((slash && is_there(out, size, self, name)) || is_there(out, size, MODULE_DIR, name))
		return 0;
	return hither_fail(err, -ENOENT, "%s is neither in %s nor in " MODULE_DIR, name, self);
}

static int set_number(const char *name, uint64_t value)
{
	char text[24];
	snprintf(text, sizeof text, "%" PRIu64, value);
	return setenv(name, text, 1);
}

static int set_text(const char *name, const char *value)
{
	return value ? setenv(name, value, 1) : unsetenv(name);
}

static int set_claim(const unsigned char id[CLAIM_ID_BYTES])
{
	char text[2 * CLAIM_ID_BYTES + 1];
	for (size_t i = 0; i < CLAIM_ID_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	return setenv(RUN_CLAIM, text, 1);
}

static int set_environment(const struct run *o, const char *dir, struct hither_error *err)
{
	char hook[PATH_MAX], pool[PATH_MAX];
	AUTO_FREE char *preload = NULL;
	const char *others = getenv("LD_PRELOAD");
	int r = find_module(hook, sizeof hook, "ram-dl-hook.so", err);
	if (!r)
		r = find_module(pool, sizeof pool, "ram-dl-pool.so", err);
	if (r)
		return r;
	if (asprintf(&preload, "%s%s%s", hook, others ? ":" : "", others ? others : "") < 0 ||
	    set_text("LD_PRELOAD", preload) || set_text(RUN_POOL, pool) || set_text(RUN_DIR, dir) ||
	    set_text(RUN_URL, o->url) || set_claim(o->claim) || set_text(RUN_MIRROR, o->mirror) ||
	    set_text(RUN_PACK, o->pack) || set_text(RUN_ENCRYPT, o->encrypt ? "1" : NULL) ||
	    set_text(RUN_CA, o->ca_file) || set_text(RUN_CERT, o->cert_file) ||
	    set_text(RUN_KEY, o->key_file) || set_number(RUN_SIZE, o->room) ||
	    set_number(RUN_LIMIT, o->limit) || set_number(RUN_ABOVE, o->above) ||
	    set_number(RUN_CHUNK, o->chunk) || set_number(RUN_CONNECTIONS, o->connections) ||
	    set_number(RUN_DEADLINE_MS, o->deadline_ms))
		return hither_fail(err, -ENOMEM, "no memory");
	return 0;
}

/* --- while it runs --- */

/* The terminal's ^C reaches the program by itself; what is sent to us alone is handed on. */
static int wait_for(pid_t child, const sigset_t *set, const char *name)
{
	for (;;) {
		siginfo_t info;
		int number = sigwaitinfo(set, &info), status;
		if (number > 0 && number != SIGCHLD && info.si_code <= 0)
			kill(child, number);
		if (waitpid(child, &status, WNOHANG) != child)
			continue;
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		fail_with(0, "%s was ended by a signal: %s", name, strsignal(WTERMSIG(status)));
		return 128 + WTERMSIG(status);
	}
}

static int run_command(const struct run *o)
{
	sigset_t set, before;
	sigemptyset(&set);
	for (const int *s = (int[]){SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, 0}; *s; s++)
		sigaddset(&set, *s);
	sigprocmask(SIG_BLOCK, &set, &before);
	pid_t parent = getpid(), child = fork();
	if (child < 0)
		return fail_with(EXIT_FAILED, "fork: %s", strerror(errno));
	if (child > 0)
		return wait_for(child, &set, o->command[0]);
	/* Once we are gone the server is anybody's. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(EXIT_FAILED);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	execvp(o->command[0], o->command);
	fail_with(0, "%s: %s", o->command[0], strerror(errno));
	_exit(CANNOT_RUN);
}

int command_run(int argc, char **argv)
{
	struct run o = {.limit = LIMIT_BYTES,
	                .above = ABOVE_BYTES,
	                .chunk = CHUNK_BYTES,
	                .connections = CONNECTIONS,
	                .deadline_ms = DEADLINE_MS};
	struct hither_error err = {0};
	struct run_dir dir = {.lock_fd = -1};
	int code = parse(&o, argc, argv);
	if (code < 0) {
		int r = check_kernel(&err);
		if (!r && (o.pack || o.encrypt))
			r = check_seal(&err);
		if (!r)
			r = take_servers(&o, &err);
		bool ours = !r;
		if (!r)
			r = run_dir_make(&dir, &err);
		if (!r)
			r = set_environment(&o, dir.path, &err);
		code = r ? fail_with(EXIT_FAILED, "run: %s", err.message) : run_command(&o);
		run_dir_remove(&dir);
		if (ours)
			give_servers(&o);
	}
	free(o.url);
	free(o.mirror);
	return code;
}
