/* SPDX-License-Identifier: Apache-2.0 */
/* ram-dl swap: a server's memory as swap, until a signal. */
#include "command.h"

#include "claim.h"
#include "patience.h"
#include "server_url.h"
#include "steady.h"
#include "stumble.h"
#include "swap_area.h"
#include "swap_device.h"
#include "swap_io.h"
#include "units.h"
#include "util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { DEADLINE_MS = 30000, CONNECTIONS = 4, PRIORITY = 100, PRIORITY_MAX = 32767 };

struct swap {
	struct swap_wish wish;
	uint64_t size_bytes; /* 0: all that the server has */
	int priority;
	bool force;
	bool taken; /* the servers are ours */
	unsigned char claim[CLAIM_ID_BYTES], witness[CLAIM_WITNESS_BYTES];
	struct swap_device device;
};

static const char help[] =
        "Usage: ram-dl swap [OPTIONS] HOST[:PORT][/NAME] | URL\n\n"
        "Attach the memory that HOST serves (ram-ul, or any NBD server) as swap, and stay\n"
        "until SIGINT or SIGTERM, which page everything in again and detach it. Root only.\n"
        "A server that is silent for the deadline, or dies, gives I/O errors: programs whose\n"
        "pages it had get SIGBUS; nothing hangs.\n\n"
        "  -s, --size SIZE        Use so much of it (all).\n"
        "  -p, --priority N       Priority among the machine's swap areas, 0 to 32767 (100).\n"
        "  -n, --connections N    Connections to the server, 1 to 16 (4).\n"
        "  -m, --mirror URL       A second server that gets every page, too: one may die.\n"
        "  -d, --deadline TIME    A page that has not come by then is an error (30s).\n"
        "  -k, --kind KIND        auto, ublk, nbd, loop: see hither block (auto).\n"
        "      --in-process       Go through this process even where the kernel's NBD client\n"
        "                         could talk to the server by itself.\n"
        "      --force            Overwrite what the server has, whatever it is.\n"
        "      --ca-file FILE     TLS (nbds://): trust these certificates.\n"
        "      --cert-file FILE   Show this one.\n"
        "      --key-file FILE    Its key.\n"
        "  -h, --help             Show this help.\n";

static const struct option options[] = {{"size", required_argument, NULL, 's'},
                                        {"priority", required_argument, NULL, 'p'},
                                        {"connections", required_argument, NULL, 'n'},
                                        {"mirror", required_argument, NULL, 'm'},
                                        {"deadline", required_argument, NULL, 'd'},
                                        {"kind", required_argument, NULL, 'k'},
                                        {"in-process", no_argument, NULL, 'I'},
                                        {"force", no_argument, NULL, 'F'},
                                        {"ca-file", required_argument, NULL, 'A'},
                                        {"cert-file", required_argument, NULL, 'C'},
                                        {"key-file", required_argument, NULL, 'K'},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};

/* --- what is asked for --- */

static int set_number(uint32_t *out, const char *text, uint32_t least, uint32_t most,
                      struct hither_error *err)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);
	if (!*text || *end || *text == '-' || value < least || value > most)
		return hither_fail(err, -EINVAL, "%s is no number from %u to %u", text, least,
		                   most);
	*out = (uint32_t)value;
	return 0;
}

static int set_kind(struct swap *s, const char *text, struct hither_error *err)
{
	for (int i = 0; i < HITHER_BLOCK_KINDS; i++)
		if (!strcmp(text, hither_block_kind_name((enum hither_block_kind)i))) {
			s->wish.kind = (enum hither_block_kind)i;
			return 0;
		}
	return hither_fail(err, -EINVAL, "%s is none of auto, ublk, nbd, loop", text);
}

static int set_option(struct swap *s, int letter, const char *value, struct hither_error *err)
{
	uint64_t us;
	uint32_t number = 0;
	int r = 0;
	switch (letter) {
	case 's':
		return units_parse_size(value, &s->size_bytes, err);
	case 'p':
		r = set_number(&number, value, 0, PRIORITY_MAX, err);
		s->priority = (int)number;
		return r;
	case 'n':
		return set_number(&s->wish.connections, value, 1, 16, err);
	case 'm':
		s->wish.mirror = server_url(value);
		return s->wish.mirror ? 0 : -ENOMEM;
	case 'd':
		r = units_parse_duration(value, &us, err);
		if (!r && (us < 1000000 || us > UINT64_C(3600000000)))
			r = hither_fail(err, -EINVAL, "%s is not from 1s to 1h", value);
		if (!r)
			s->wish.deadline_ms = (uint32_t)(us / 1000);
		return r;
	case 'k':
		return set_kind(s, value, err);
	case 'I':
		s->wish.in_process = true;
		return 0;
	case 'F':
		s->force = true;
		return 0;
	case 'A':
		s->wish.backend.ca_file = value;
		return 0;
	case 'C':
		s->wish.backend.cert_file = value;
		return 0;
	default:
		s->wish.backend.key_file = value;
		return 0;
	}
}

/* -1: go on. */
static int parse(struct swap *s, int argc, char **argv)
{
	int letter;
	char why[STUMBLE_BYTES];
	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":s:p:n:m:d:k:h", options, NULL)) != -1) {
		struct hither_error err = {0};
		if (letter == 'h') {
			fputs(help, stdout);
			return EXIT_DONE;
		}
		if (letter == '?' || letter == ':')
			return fail_with(EXIT_MISUSED, "swap: %s; see ram-dl swap --help",
			                 stumble(letter, argv, options, why));
		if (set_option(s, letter, optarg, &err))
			return fail_with(EXIT_MISUSED, "swap: %s", err.message);
	}
	if (argc - optind != 1)
		return fail_with(EXIT_MISUSED, "swap: one server, please; see ram-dl swap --help");
	s->wish.url = server_url(argv[optind]);
	s->wish.backend.writable = true;
	s->wish.backend.parallel = s->wish.mirror ? 0 : s->wish.connections * 4;
	const struct server_patience patience =
	        server_patience(s->wish.deadline_ms, s->wish.mirror != NULL);
	s->wish.backend.idle_timeout_ms = patience.idle_ms;
	s->wish.backend.connect_timeout_ms = patience.connect_ms;
	return s->wish.url ? -1 : fail_with(EXIT_FAILED, "no memory");
}

/* --- life --- */

/* A ram-dl that was killed may have left the machine its swap area. */
static int refuse_attached(void *user, const struct hither_block_entry *e)
{
	const struct swap *s = user;
	struct swap_use use;
	return !e->alive && !strcmp(e->name, s->wish.url) && swap_area_use(e->path, &use) ? -EBUSY
	                                                                                  : 0;
}

static int take_server(struct swap *s, const char *url, struct hither_error *err)
{
	struct hither_backend *b;
	struct hither_backend_options o = s->wish.backend;
	o.parallel = 1;
	int r = hither_backend_open(url, &o, &b, err);
	if (r)
		return r;
	r = claim_take(b, "swap", s->force, s->claim, err);
	hither_backend_close(b);
	return r;
}

static void give_servers(struct swap *s)
{
	if (!s->taken)
		return;
	claim_release(s->wish.url, &s->wish.backend, s->claim);
	if (s->wish.mirror)
		claim_release(s->wish.mirror, &s->wish.backend, s->claim);
	s->taken = false;
}

static int take_servers(struct swap *s, struct hither_error *err)
{
	if (hither_block_each(refuse_attached, s) == -EBUSY)
		return hither_fail(err, -EBUSY,
		                   "a ram-dl that was killed has left the server attached: swapoff "
		                   "its device (/proc/swaps), then try again");
	if (s->wish.mirror && !strcmp(s->wish.mirror, s->wish.url))
		return hither_fail(err, -EINVAL, "the mirror is the server itself");
	int r = claim_make_id(s->claim, err);
	if (!r)
		r = take_server(s, s->wish.url, err);
	if (r)
		return r;
	s->taken = true; /* of the mirror only what is ours is given back */
	r = s->wish.mirror ? take_server(s, s->wish.mirror, err) : 0;
	claim_witness(s->claim, s->witness);
	s->wish.backend.witness = s->witness;
	s->wish.backend.witness_bytes = sizeof s->witness;
	s->wish.backend.witness_offset = CLAIM_OFFSET;
	return r;
}

static int attach(struct swap *s, struct hither_error *err)
{
	char missing[256], size[UNITS_TEXT_BYTES];
	int r = take_servers(s, err);
	if (!r)
		r = swap_device_open(&s->wish, &s->device, err);
	if (r)
		return r;
	const char *path = hither_block_path(s->device.block);
	uint64_t has = hither_block_size(s->device.block);
	if (s->size_bytes > has)
		return hither_fail(err, -ENOSPC, "the server has only %s",
		                   units_format_size(size, has));
	s->size_bytes = s->size_bytes ? s->size_bytes : has;
	r = swap_area_make(path, s->size_bytes, err);
	if (r)
		return r;
	steady_protect(missing, sizeof missing);
	steady_stand_aside(); /* this thread only waits for signals, and pages in at the end */
	if (*missing && s->device.mount)
		fail_with(EXIT_DONE, "note: %s", missing);
	swap_io_begin(path);
	r = swap_area_on(path, s->priority, err);
	if (r) {
		swap_io_end(path);
		return r;
	}
	printf("%s: %s of swap, priority %d, %s\n", path, units_format_size(size, s->size_bytes),
	       s->priority,
	       s->device.mount ? hither_block_kind_name(hither_block_kind(s->device.block))
	                       : "by the kernel's NBD client");
	fflush(stdout);
	return 0;
}

/* A swapoff that fails leaves the machine as it was; the next signal tries again, whatever it
 * takes: of a server that has died there is nothing to come that would need room. */
static void serve(struct swap *s, const sigset_t *set)
{
	for (bool force = false;; force = true) {
		struct hither_error err = {0};
		int number;
		while (sigwait(set, &number))
			;
		if (!swap_area_off(hither_block_path(s->device.block), force, &err) ||
		    err.code == -EINVAL) { /* somebody else has done it */
			swap_io_end(hither_block_path(s->device.block));
			return;
		}
		fail_with(EXIT_FAILED, "%s; still attached, a signal tries nevertheless",
		          err.message);
	}
}

static void report_lost(void *user, unsigned number, const struct hither_error *why)
{
	fail_with(0, "the %s server is lost, the other one goes on alone: %s",
	          number ? "second" : "first", why->message);
}

int command_swap(int argc, char **argv)
{
	struct swap s = {.priority = PRIORITY,
	                 .wish = {.connections = CONNECTIONS,
	                          .deadline_ms = DEADLINE_MS,
	                          .lost = report_lost}};
	struct hither_error err = {0};
	sigset_t set;
	int code = parse(&s, argc, argv);
	if (code < 0) {
		sigemptyset(&set);
		sigaddset(&set, SIGINT);
		sigaddset(&set, SIGTERM);
		sigaddset(&set, SIGHUP);
		sigprocmask(SIG_BLOCK, &set, NULL); /* and in all threads that come */
		code = attach(&s, &err) ? fail_with(EXIT_FAILED, "%s", err.message) : EXIT_DONE;
		if (!code)
			serve(&s, &set);
		swap_device_close(&s.device);
		give_servers(&s);
	}
	free(s.wish.url);
	free(s.wish.mirror);
	return code;
}
