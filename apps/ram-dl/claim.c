/* SPDX-License-Identifier: Apache-2.0 */
#include "claim.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

enum { RELEASE_MS = 2000 };

static const char magic[16] = "ram-dl claim 1\n";
static const char swap_magic[] = "SWAPSPACE2", swap_label[] = "ram-dl";
enum { SWAP_LABEL_OFFSET = 1052 }; /* see swap_area.c */

/* Numbers are in this machine's order of bytes: another one's merely look strange. */
struct record {
	char magic[sizeof magic];
	unsigned char id[CLAIM_ID_BYTES];
	int64_t since; /* seconds since 1970 */
	int64_t pid;
	uint64_t pid_space; /* the inode of its name space */
	char what[16];
	char boot[40];    /* of the machine's kernel: a process does not outlive it */
	char machine[40]; /* "" : not known */
	char host[64];
};
_Static_assert(sizeof(struct record) <= CLAIM_BYTES, "a record has its place");

int claim_make_id(unsigned char id[CLAIM_ID_BYTES], struct hither_error *err)
{
	return getrandom(id, CLAIM_ID_BYTES, 0) == CLAIM_ID_BYTES
	               ? 0
	               : hither_fail(err, -EIO, "getrandom: %s", strerror(errno));
}

void claim_witness(const unsigned char id[CLAIM_ID_BYTES], unsigned char out[CLAIM_WITNESS_BYTES])
{
	memcpy(out, magic, sizeof magic);
	memcpy(out + sizeof magic, id, CLAIM_ID_BYTES);
}

/* --- who --- */

/* A file's first line; "" if there is none. */
static void read_line(const char *path, char *out, size_t size)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);
	out[n < 0 ? 0 : n] = 0;
	out[strcspn(out, "\n")] = 0;
}

static void describe_us(struct record *r, const char *what, const unsigned char id[CLAIM_ID_BYTES])
{
	struct stat st;
	*r = (struct record){.pid = getpid(), .since = time(NULL)};
	memcpy(r->magic, magic, sizeof magic);
	memcpy(r->id, id, CLAIM_ID_BYTES);
	r->pid_space = stat("/proc/self/ns/pid", &st) ? 0 : st.st_ino;
	snprintf(r->what, sizeof r->what, "%s", what);
	read_line("/proc/sys/kernel/random/boot_id", r->boot, sizeof r->boot);
	read_line("/etc/machine-id", r->machine, sizeof r->machine);
	if (gethostname(r->host, sizeof r->host - 1))
		r->host[0] = 0;
}

static bool find_record(const char page[CLAIM_PAGE], struct record *out)
{
	memcpy(out, page + CLAIM_OFFSET, sizeof *out);
	out->what[sizeof out->what - 1] = out->boot[sizeof out->boot - 1] = 0;
	out->machine[sizeof out->machine - 1] = out->host[sizeof out->host - 1] = 0;
	for (char *fields[] = {out->what, out->host, NULL}, **f = fields; *f; f++)
		for (char *at = *f; *at; at++)
			if (*at < ' ' || *at > '~')
				*at = '?';
	return !memcmp(out->magic, magic, sizeof magic);
}

static const char *describe(const struct record *r, char *text, size_t size)
{
	char when[32] = "an unknown time";
	time_t since = (time_t)r->since;
	struct tm tm;
	if (localtime_r(&since, &tm))
		strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
	snprintf(text, size, "ram-dl %s of host %s, process %" PRId64 ", since %s", r->what,
	         r->host, r->pid, when);
	return text;
}

bool claim_describe(const char page[CLAIM_PAGE], char *text, size_t size)
{
	struct record r;
	if (!find_record(page, &r))
		return false;
	describe(&r, text, size);
	return true;
}

enum life { DEAD, ALIVE, UNKNOWN };

/* Another process may have got its number: only a ram-dl counts. */
static bool is_ram_dl(int64_t pid)
{
	char path[64], name[32];
	snprintf(path, sizeof path, "/proc/%" PRId64 "/comm", pid);
	read_line(path, name, sizeof name);
	return !strcmp(name, "ram-dl");
}

static enum life life(const struct record *r)
{
	struct record us;
	describe_us(&us, "", r->id);
	/* Machines that were copied from one another have one id. */
	if (!*us.machine || strcmp(r->machine, us.machine) || strcmp(r->host, us.host))
		return UNKNOWN;
	if (strcmp(r->boot, us.boot))
		return DEAD;
	if (!us.pid_space || r->pid_space != us.pid_space)
		return UNKNOWN;
	return is_ram_dl(r->pid) ? ALIVE : DEAD;
}

/* --- take and release --- */

static bool is_zero(const char *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

/* Something that is not ram-dl's. */
static bool is_foreign(const char page[CLAIM_PAGE], const char *what)
{
	bool swap = !memcmp(page + CLAIM_PAGE - strlen(swap_magic), swap_magic, strlen(swap_magic));
	bool ours = !strncmp(page + SWAP_LABEL_OFFSET, swap_label, sizeof swap_label);
	const char *rest = page + CLAIM_OFFSET + CLAIM_BYTES;
	if (!is_zero(page, CLAIM_OFFSET))
		return true;
	/* Any swap area is swap's to use again; for run it may be somebody's who says nothing. */
	return !ours && (!swap || strcmp(what, "swap")) &&
	       !is_zero(rest, (size_t)(page + CLAIM_PAGE - rest));
}

static int check_free(const char page[CLAIM_PAGE], const char *what, bool force,
                      struct hither_error *err)
{
	struct record r;
	char who[160];
	bool has = find_record(page, &r);
	enum life alive = has ? life(&r) : DEAD;
	if (alive == ALIVE)
		return hither_fail(err, -EBUSY,
		                   "the server is in use by %s: end that, or use another",
		                   describe(&r, who, sizeof who));
	if (alive == UNKNOWN && !force)
		return hither_fail(
		        err, -EBUSY,
		        "the server is in use by %s; if that has ended without saying so, "
		        "--force",
		        describe(&r, who, sizeof who));
	if (!force &&
	    (is_foreign(page, what) || (!has && !is_zero(page + CLAIM_OFFSET, CLAIM_BYTES))))
		return hither_fail(err, -EEXIST,
		                   "the server's bytes are no swap area of ram-dl, and not empty: "
		                   "--force overwrites them");
	return 0;
}

int claim_take(struct hither_backend *b, const char *what, bool force,
               const unsigned char id[CLAIM_ID_BYTES], struct hither_error *err)
{
	char page[CLAIM_PAGE], back[CLAIM_PAGE];
	struct record us;
	if (b->size_bytes < CLAIM_PAGE)
		return hither_fail(err, -ENOSPC, "the server has less than a page");
	int r = hither_backend_read_at(b, page, sizeof page, 0, err);
	if (!r)
		r = check_free(page, what, force, err);
	if (r)
		return r;
	if (is_foreign(page, what) || strcmp(what, "swap"))
		memset(page, 0, sizeof page);
	memset(page + CLAIM_OFFSET, 0, CLAIM_BYTES);
	describe_us(&us, what, id);
	memcpy(page + CLAIM_OFFSET, &us, sizeof us);
	r = hither_backend_write_at(b, page, sizeof page, 0, err);
	if (!r)
		r = hither_backend_read_at(b, back, sizeof back, 0, err);
	/* Of two that come in the same instant one is told here. */
	if (!r && memcmp(page, back, sizeof page))
		r = hither_fail(err, -EBUSY, "another ram-dl has just begun to use the server");
	return r;
}

void claim_release(const char *url, const struct hither_backend_options *options,
                   const unsigned char id[CLAIM_ID_BYTES])
{
	char page[CLAIM_PAGE];
	struct record r;
	struct hither_backend *b;
	struct hither_backend_options o = *options;
	o.writable = true;
	o.parallel = 1;
	o.connect_timeout_ms = o.idle_timeout_ms = RELEASE_MS;
	o.witness = NULL;
	if (hither_backend_open(url, &o, &b, NULL))
		return;
	if (!hither_backend_read_at(b, page, sizeof page, 0, NULL) && find_record(page, &r) &&
	    !memcmp(r.id, id, CLAIM_ID_BYTES)) {
		memset(page + CLAIM_OFFSET, 0, CLAIM_BYTES);
		hither_backend_write_at(b, page, sizeof page, 0, NULL);
	}
	hither_backend_close(b);
}
