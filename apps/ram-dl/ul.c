/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ram-ul: serve memory (or a file, or any URL) to ram-dl, or to any NBD client, until a signal.
 */
#include "allow.h"
#include "command.h"
#include "meminfo.h"
#include "start.h"
#include "steady.h"
#include "stumble.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <hither/export.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { LISTENS_MAX = 8, RESERVE_BYTES = 16 << 20, PAGE_BYTES = 4096 };

struct server {
	const char *url; /* NULL: memory */
	uint64_t size_bytes;
	const char *name;
	const char *listens[LISTENS_MAX + 1];
	size_t listen_count;
	bool locked, huge, read_only;
	struct allow allow;
	struct hither_export_options export;
	struct hither_mount *mount;
	struct hither_export *server;
};

static const char help[] =
        "Usage: ram-ul [OPTIONS] SIZE | URL\n"
        "       ram-ul inspect HOST[:PORT][/NAME] | URL [PAGE]\n\n"
        "Serve SIZE of this machine's memory (or a file, or another URL that hither knows) to\n"
        "ram-dl, or to any NBD client, until SIGINT or SIGTERM. Memory is taken as it is\n"
        "written to. Who can connect can read and write it: give an address to listen at only\n"
        "with --allow, keys or certificates.\n\n"
        "  -l, --listen WHERE         HOST:PORT, [V6]:PORT, :PORT or unix:PATH, several times\n"
        "                             (localhost:10809).\n"
        "  -a, --allow NET            Only clients from this address or network, several times.\n"
        "  -n, --name NAME            The export's name (the unnamed one).\n"
        "  -L, --lock                 Take all memory now, and never page it out.\n"
        "  -H, --hugepages            Memory in huge pages, which are set aside at once and are\n"
        "                             never paged out (see vm.nr_hugepages).\n"
        "  -r, --read-only            Take no writes.\n"
        "      --tls-psk FILE         Only clients with a key of FILE: lines of NAME:HEX.\n"
        "      --tls-certificates DIR Folder with server-cert.pem, server-key.pem, ca-cert.pem.\n"
        "      --tls-verify-peer      Only clients with a certificate that ca-cert.pem signed.\n"
        "      --max-connections N    Turn away more than N clients at a time (128).\n"
        "  -h, --help                 Show this help.\n"
        "  -V, --version              Show the version.\n";

static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
                                        {"allow", required_argument, NULL, 'a'},
                                        {"name", required_argument, NULL, 'n'},
                                        {"lock", no_argument, NULL, 'L'},
                                        {"hugepages", no_argument, NULL, 'H'},
                                        {"read-only", no_argument, NULL, 'r'},
                                        {"tls-psk", required_argument, NULL, 'P'},
                                        {"tls-certificates", required_argument, NULL, 'C'},
                                        {"tls-verify-peer", no_argument, NULL, 'v'},
                                        {"max-connections", required_argument, NULL, 'm'},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, 'V'},
                                        {0}};

static int set_option(struct server *s, int letter, const char *value, struct hither_error *err)
{
	char *end;
	unsigned long number;
	switch (letter) {
	case 'l':
		if (s->listen_count == LISTENS_MAX)
			return hither_fail(err, -EINVAL, "at most %d places to listen at",
			                   LISTENS_MAX);
		s->listens[s->listen_count++] = value;
		return 0;
	case 'a':
		return allow_add(&s->allow, value, err);
	case 'n':
		s->name = value;
		return 0;
	case 'L':
		s->locked = true;
		return 0;
	case 'H':
		s->huge = true;
		return 0;
	case 'r':
		s->read_only = true;
		return 0;
	case 'P':
		s->export.tls_psk_file = value;
		s->export.tls = HITHER_EXPORT_TLS_REQUIRE;
		return 0;
	case 'C':
		s->export.tls_certificates = value;
		s->export.tls = HITHER_EXPORT_TLS_REQUIRE;
		return 0;
	case 'v':
		s->export.tls_verify_peer = true;
		return 0;
	default:
		number = strtoul(value, &end, 10);
		s->export.max_connections = (uint32_t)number;
		return *end || !number || number > 100000
		               ? hither_fail(err, -EINVAL, "%s is no number of clients", value)
		               : 0;
	}
}

/* What begins like a size, and is no file's name, is meant as one. -1: go on. */
static int set_what(struct server *s, const char *what)
{
	struct hither_error err = {0};
	if (!units_parse_size(what, &s->size_bytes, &err))
		return s->size_bytes < PAGE_BYTES
		               ? fail_with(EXIT_MISUSED, "%s is less than a page", what)
		               : -1;
	if (strspn(what, "0123456789.-+") && !strpbrk(what, ":/") && access(what, F_OK))
		return fail_with(EXIT_MISUSED, "%s", err.message);
	s->url = what;
	return -1;
}

/* -1: go on. */
static int parse(struct server *s, int argc, char **argv)
{
	int letter;
	struct hither_error err = {0};
	char why[STUMBLE_BYTES];
	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":l:a:n:LHrhV", options, NULL)) != -1) {
		if (letter == 'h' || letter == 'V') {
			fputs(letter == 'h' ? help : "ram-ul " HITHER_VERSION "\n", stdout);
			return EXIT_DONE;
		}
		if (letter == '?' || letter == ':')
			return fail_with(EXIT_MISUSED, "%s; see ram-ul --help",
			                 stumble(letter, argv, options, why));
		if (set_option(s, letter, optarg, &err))
			return fail_with(EXIT_MISUSED, "%s", err.message);
	}
	if (argc - optind > 1)
		return fail_with(EXIT_MISUSED, "%s: one SIZE or URL, please; see ram-ul --help",
		                 argv[optind + 1]);
	if (argc == optind)
		return fail_with(EXIT_MISUSED, "how much memory? See ram-ul --help");
	int code = set_what(s, argv[optind]);
	if (code < 0 && s->huge && s->url)
		return fail_with(EXIT_MISUSED, "--hugepages: only memory can be in them, not %s",
		                 s->url);
	return code;
}

static bool admit(void *user, int fd)
{
	const struct server *s = user;
	struct sockaddr_storage peer = {0};
	socklen_t len = sizeof peer;
	return !getpeername(fd, (struct sockaddr *)&peer, &len) && allow_has(&s->allow, &peer);
}

static void log_line(void *user, const char *message)
{
	fail_with(0, "%s", message);
}

/* What is served is kept in one place only: a direct mount. */
static int open_huge(struct server *s, const struct hither_mount_options *o,
                     struct hither_error *err)
{
	struct hither_backend *b = NULL;
	int r = hither_backend_memory_huge(s->size_bytes, &b, err);
	if (r)
		return r;
	if (s->read_only)
		b->flags &= ~(uint32_t)HITHER_BACKEND_WRITABLE;
	r = hither_mount_backend(b, "memory", o, &s->mount, err);
	if (r)
		hither_backend_close(b);
	return r;
}

static int open_mount(struct server *s, struct hither_error *err)
{
	struct hither_mount_options o = {.direct = true, .backend = {.writable = !s->read_only}};
	char memory[40];
	if (s->huge)
		return open_huge(s, &o, err);
	snprintf(memory, sizeof memory, "memory:%" PRIu64, s->size_bytes);
	return hither_mount_open(s->url ? s->url : memory, &o, &s->mount, err);
}

/* More than there is would take it from everybody else: this process the OOM killer spares. */
static int check_room(const struct server *s, struct hither_error *err)
{
	char wants[UNITS_TEXT_BYTES], has[UNITS_TEXT_BYTES];
	uint64_t there = meminfo_bytes("MemAvailable");
	if (!s->locked || s->huge || !there || s->size_bytes + RESERVE_BYTES <= there)
		return 0;
	return hither_fail(err, -ENOMEM,
	                   "--lock: %s are more than the %s that this machine has free",
	                   units_format_size(wants, s->size_bytes), units_format_size(has, there));
}

static int start(struct server *s, struct hither_error *err)
{
	char missing[256];
	int r = check_room(s, err);
	if (!r && s->locked)
		r = steady_lock(RESERVE_BYTES, err); /* also what is mapped later */
	if (!r)
		r = open_mount(s, err);
	if (r)
		return r;
	if (s->locked) {
		steady_protect(missing, sizeof missing);
		if (*missing)
			fail_with(0, "note: %s", missing);
	}
	const struct hither_export_volume volume = {.name = s->name,
	                                            .description = "memory for ram-dl",
	                                            .mount = s->mount,
	                                            .read_only = s->read_only};
	s->export.admit = admit;
	s->export.admit_user = s;
	s->export.log = log_line;
	r = hither_export_create(&volume, 1, &s->export, &s->server, err);
	if (!s->listen_count)
		s->listens[s->listen_count++] = "localhost:10809";
	for (size_t i = 0; i < s->listen_count && !r; i++)
		r = hither_export_listen(s->server, s->listens[i], err);
	return r;
}

static void *signal_main(void *arg)
{
	struct server *s = arg;
	sigset_t set;
	int number;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	while (sigwait(&set, &number))
		;
	hither_export_stop(s->server);
	return NULL;
}

/* Can only this machine's programs come to it? */
static bool is_near(const char *address)
{
	static const char *const near[] = {"unix:", "127.", "[::1]"};
	for (size_t i = 0; i < COUNT_OF(near); i++)
		if (!strncmp(address, near[i], strlen(near[i])))
			return true;
	return false;
}

static void describe(const struct server *s)
{
	char size[UNITS_TEXT_BYTES];
	const char *address;
	bool guarded = s->allow.count || s->export.tls_psk_file || s->export.tls_verify_peer;
	units_format_size(size, hither_mount_size(s->mount));
	for (size_t i = 0; (address = hither_export_address(s->server, i)); i++) {
		printf("%s: %s%s%s%s\n", address, size, s->huge ? ", in huge pages" : "",
		       s->locked ? ", locked" : "", s->export.tls ? ", TLS" : "");
		if (!guarded && !is_near(address))
			fail_with(0,
			          "warning: whoever can reach %s can read%s what is there: "
			          "--allow or --tls-psk lets in only whom you name",
			          address, s->read_only ? "" : " and change");
	}
	fflush(stdout);
}

static int serve(struct server *s)
{
	struct hither_error err = {0};
	pthread_t signals;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL); /* in all threads that come */
	int r = start(s, &err);
	if (!r) {
		r = -pthread_create(&signals, NULL, signal_main, s);
		if (r)
			hither_fail(&err, r, "start a thread: %s", strerror(-r));
	}
	bool has_thread = !r && s->server;
	if (!r) {
		describe(s);
		r = hither_export_serve(s->server, &err);
	}
	if (has_thread) {
		pthread_kill(signals, SIGTERM); /* should serving have ended by itself */
		pthread_join(signals, NULL);
	}
	hither_export_destroy(s->server);
	struct hither_error closing = {0};
	if (hither_mount_close(s->mount, &closing) && !r)
		return fail_with(EXIT_FAILED, "%s", closing.message);
	return r ? fail_with(EXIT_FAILED, "%s", err.message) : EXIT_DONE;
}

int main(int argc, char **argv)
{
	struct server s = {.name = ""};
	if (!start_process("ram-ul"))
		return EXIT_FAILED;
	if (argc > 1 && !strcmp(argv[1], "inspect"))
		return command_inspect(argc - 1, argv + 1);
	int code = parse(&s, argc, argv);
	return code < 0 ? serve(&s) : code;
}
