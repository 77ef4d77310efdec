/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hither cat: bytes of a URL to stdout. Several pieces are on their way at a time, and are written
 * in order. The first pieces are small, so that something comes soon, later ones large.
 *
 *     readers claim pieces ->  [slot 0: ready] [slot 1: reading] [slot 2: free] ...  -> written in
 * order
 */
#include "command.h"

#include "source.h"
#include "start.h"
#include "util.h"

#include <errno.h>
#include <hither/mount.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { SLOTS = 16, READERS = 8, FIRST_PIECE = 64 << 10, LAST_PIECE = 1 << 20 };

static const struct option_spec specs[] = {
        {"workers", 'j', "N", "At most N requests at a time, 1 to 64 (8).", set_count,
         offsetof(struct settings, mount.workers)},
        {"deadline", 0, "DURATION", "How long to ride through an outage before it fails (5min).",
         set_ms, offsetof(struct settings, mount.deadline_ms)},
};
static const struct option_group group = {"Reading", specs, COUNT_OF(specs)};
static const struct option_group *const groups[] = {&group, &options_network, &options_test, NULL};

struct slot {
	char *bytes;
	size_t len;
	bool ready;
};

struct flow {
	struct hither_mount *mount;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	uint64_t next, end;        /* bytes not claimed yet */
	size_t piece;              /* how large the next piece is */
	uint64_t claimed, written; /* pieces; piece i is in slot i % SLOTS */
	struct slot slots[SLOTS];
	bool stopped;
	int result;
	struct hither_error err;
};

static void stop_locked(struct flow *f, int result, const struct hither_error *err)
{
	f->stopped = true;
	if (result && !f->result) {
		f->result = result;
		f->err = *err;
	}
	pthread_cond_broadcast(&f->changed);
}

/* The next piece to read; NULL: none is left. */
static struct slot *claim(struct flow *f, uint64_t *offset)
{
	struct slot *slot = NULL;
	pthread_mutex_lock(&f->lock);
	while (!f->stopped && f->next < f->end && f->claimed - f->written >= SLOTS)
		pthread_cond_wait(&f->changed, &f->lock);
	if (!f->stopped && f->next < f->end) {
		slot = &f->slots[f->claimed++ % SLOTS];
		slot->len = f->piece < f->end - f->next ? f->piece : (size_t)(f->end - f->next);
		*offset = f->next;
		f->next += slot->len;
		if (f->piece < LAST_PIECE)
			f->piece *= 2;
	}
	pthread_mutex_unlock(&f->lock);
	return slot;
}

static void *reader(void *arg)
{
	struct flow *f = arg;
	uint64_t offset;
	struct slot *slot;
	while ((slot = claim(f, &offset))) {
		struct hither_error err = {0};
		int r = hither_mount_read_at(f->mount, slot->bytes, slot->len, offset, &err);
		pthread_mutex_lock(&f->lock);
		slot->ready = !r;
		if (r)
			stop_locked(f, r, &err);
		pthread_cond_broadcast(&f->changed);
		pthread_mutex_unlock(&f->lock);
	}
	return NULL;
}

static int write_out(const char *bytes, size_t len, struct hither_error *err)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hither_fail(err, -errno, "write to stdout: %s", strerror(errno));
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The next piece in order once it is there; NULL: all is written, or it failed. */
static struct slot *take_ready(struct flow *f)
{
	pthread_mutex_lock(&f->lock);
	struct slot *slot = &f->slots[f->written % SLOTS];
	while (!slot->ready && !f->stopped && (f->written < f->claimed || f->next < f->end))
		pthread_cond_wait(&f->changed, &f->lock);
	bool has = slot->ready;
	pthread_mutex_unlock(&f->lock);
	return has ? slot : NULL;
}

static void write_all(struct flow *f)
{
	struct slot *slot;
	while ((slot = take_ready(f))) {
		struct hither_error err = {0};
		int r = write_out(slot->bytes, slot->len, &err);
		pthread_mutex_lock(&f->lock);
		slot->ready = false;
		f->written++;
		if (r)
			stop_locked(f, r, &err);
		pthread_cond_broadcast(&f->changed);
		pthread_mutex_unlock(&f->lock);
		if (r)
			hither_mount_cancel(f->mount);
	}
}

static int flow_run(struct flow *f, uint32_t most_readers)
{
	pthread_t threads[64];
	uint64_t len = f->end - f->next;
	size_t pieces = len <= FIRST_PIECE ? 1 : READERS, started = 0;
	AUTO_FREE char *bytes = malloc((size_t)SLOTS * LAST_PIECE); /* touched only as it is used */
	if (!bytes)
		return hither_fail(&f->err, -ENOMEM, "no memory");
	if (most_readers && pieces > 1)
		pieces = most_readers < COUNT_OF(threads) ? most_readers : COUNT_OF(threads);
	for (size_t i = 0; i < SLOTS; i++)
		f->slots[i].bytes = bytes + i * LAST_PIECE;
	while (started < pieces && !pthread_create(&threads[started], NULL, reader, f))
		started++;
	if (!started)
		return hither_fail(&f->err, -EAGAIN, "start a thread: %s", strerror(EAGAIN));
	write_all(f);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	return f->result;
}

static int copy(struct settings *s, struct hither_mount *m, const struct units_range *range,
                struct hither_error *err)
{
	struct flow f = {.mount = m, .piece = FIRST_PIECE, .end = hither_mount_size(m)};
	uint64_t len = f.end;
	int r = range ? units_resolve_range(range, f.end, &f.next, &len, err) : 0;
	if (r || !len)
		return r;
	f.end = f.next + len;
	pthread_mutex_init(&f.lock, NULL);
	pthread_cond_init(&f.changed, NULL);
	r = flow_run(&f, s->mount.workers);
	if (r)
		*err = f.err;
	pthread_cond_destroy(&f.changed);
	pthread_mutex_destroy(&f.lock);
	return r;
}

static int run(struct settings *s, char **args)
{
	struct hither_error err = {0};
	struct units_range range;
	struct hither_mount *m = NULL;
	s->mount.direct = true;
	s->read_only = true;
	if ((args[1] && units_parse_range(args[1], &range, &err)) ||
	    (s->wrap && source_check_layers(s->wrap, &err)) || settings_apply(s, args[0], &err))
		return fail_with(EXIT_MISUSED, "cat: %s", err.message);
	options_hide(args[0]);
	int r = source_open(s, false, &m, &err);
	if (!r)
		r = copy(s, m, args[1] ? &range : NULL, &err);
	hither_mount_close(m, NULL);
	if (r == -EPIPE && !strncmp(err.message, "write to stdout", 15))
		start_end_by_pipe();
	return r ? fail_with(EXIT_FAILED, "%s", err.message) : EXIT_DONE;
}

const struct command command_cat = {
        .name = "cat",
        .usage = "[OPTIONS] URL [RANGE]",
        .summary = "write bytes of a URL to standard output",
        .text = "Write URL, or a RANGE of it, to standard output. RANGE is A-B (both included),\n"
                "A+LEN, A- (to the end) or -N (the last N); each may be a size as 64K.",
        .groups = groups,
        .min_args = 1,
        .max_args = 2,
        .digits_after_dash = true,
        .run = run,
};
