/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The managed mount against a plain array. One thread plays everybody: programs that read, write
 * and flush, the network that brings and takes bytes in any order and fails, the server that
 * forgets what it has not flushed, the clock, and a crash. So a seed gives the same run every time.
 *
 * usage: model_test [SEED [STEPS]]; without, a few seeds.
 */
#include "base/clock.h"
#include "check.h"
#include "mount/managed.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PENDING = 24, MAX_JOBS = 8, MAX_IO = 40000 };

static uint64_t virtual_ns = HITHER_NS_PER_S;
static uint64_t virtual_now(void)
{
	return virtual_ns;
}

struct pending {
	struct hither_io io;
	struct world *w;
	bool active;
	uint64_t step; /* when it was submitted */
	char *expect;  /* flush: the plain array then */
	char buf[MAX_IO];
};

struct running {
	bool active;
	struct managed_job job;
	char *bytes;   /* PULL: what the server had when asked; PUSH: what the store had */
	uint64_t sent; /* PULL: blocks delivered */
};

struct world {
	uint64_t rng, step;
	uint64_t size, blocks;
	char *plain;       /* what a program must see */
	char *remote;      /* what the server answers */
	char *durable;     /* what it has after a restart */
	uint64_t *written; /* [blocks] step of the last write */
	bool server_forgot;
	bool faults;
	char cache[64]; /* folder; "" in memory */
	struct hither_mount_options options;
	struct managed *m;
	struct pending pending[MAX_PENDING];
	struct running running[MAX_JOBS];
	uint64_t reads, writes, flushes, evictions, crashes;
};

static uint64_t rnd(struct world *w, uint64_t below)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng % below;
}

/* --- programs --- */

static void io_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct pending *p = (struct pending *)io;
	struct world *w = p->w;
	CHECK(p->active);
	if (result) {
		/* Only what the test itself injected, and only while it does. */
		CHECK(result == -EIO && w->faults);
	} else if (io->op == HITHER_IO_READ) {
		CHECK(memcmp(p->buf, w->plain + io->offset, io->len) == 0);
		w->reads++;
	} else if (io->op == HITHER_IO_WRITE || io->op == HITHER_IO_DISCARD) {
		if (io->op == HITHER_IO_WRITE)
			memcpy(w->plain + io->offset, p->buf, io->len);
		else
			memset(w->plain + io->offset, 0, io->len);
		for (uint64_t b = managed_first(io); b < managed_end(io); b++)
			w->written[b] = w->step;
		w->writes++;
	} else {
		for (uint64_t b = 0; b < w->blocks; b++) {
			uint64_t at = b * HITHER_BLOCK_BYTES;
			if (w->written[b] < p->step)
				CHECK(memcmp(w->durable + at, p->expect + at,
				             managed_bytes(w->m, b, b + 1)) == 0);
		}
		w->flushes++;
	}
	free(p->expect);
	p->expect = NULL;
	p->active = false;
}

static bool collides(struct world *w, enum hither_io_op op, uint64_t offset, size_t len)
{
	for (unsigned i = 0; i < MAX_PENDING; i++) {
		struct pending *p = &w->pending[i];
		if (!p->active || p->io.op == HITHER_IO_FLUSH)
			continue;
		if (op == HITHER_IO_READ && p->io.op == HITHER_IO_READ)
			continue;
		if (managed_overlap(offset, offset + len, p->io.offset, p->io.offset + p->io.len))
			return true;
	}
	return false;
}

static struct pending *free_pending(struct world *w)
{
	for (unsigned i = 0; i < MAX_PENDING; i++)
		if (!w->pending[i].active)
			return &w->pending[i];
	return NULL;
}

static void access_something(struct world *w, enum hither_io_op op)
{
	struct pending *p = free_pending(w);
	uint64_t offset = rnd(w, w->size), len = 1 + rnd(w, rnd(w, 2) ? 200 : MAX_IO);
	if (op == HITHER_IO_DISCARD || rnd(w, 3) == 0) /* whole blocks are a case of their own */
		offset -= offset % HITHER_BLOCK_BYTES, len += HITHER_BLOCK_BYTES,
		        len -= len % HITHER_BLOCK_BYTES;
	if (len > MAX_IO)
		len = MAX_IO - MAX_IO % HITHER_BLOCK_BYTES;
	if (len > w->size - offset)
		len = w->size - offset;
	if (!p || (op != HITHER_IO_FLUSH && collides(w, op, offset, len)))
		return;
	p->w = w;
	p->active = true;
	p->step = w->step;
	p->io = (struct hither_io){
	        .op = op, .offset = offset, .len = len, .buf = p->buf, .done = io_done};
	if (op == HITHER_IO_WRITE)
		for (size_t i = 0; i < len; i++)
			p->buf[i] = (char)rnd(w, 256);
	if (op == HITHER_IO_FLUSH) {
		p->expect = malloc(w->size);
		memcpy(p->expect, w->plain, w->size);
	}
	hither_mount_submit(&w->m->base, &p->io);
}

/* --- the network --- */

static void begin_job(struct world *w)
{
	for (unsigned i = 0; i < MAX_JOBS; i++) {
		struct running *r = &w->running[i];
		if (r->active)
			continue;
		pthread_mutex_lock(&w->m->lock);
		bool got = managed_claim_locked(w->m, &r->job);
		pthread_mutex_unlock(&w->m->lock);
		if (!got)
			return;
		r->active = true;
		r->sent = 0;
		if (r->job.kind != MANAGED_JOB_PULL && r->job.kind != MANAGED_JOB_PUSH)
			return;
		uint64_t len = managed_bytes(w->m, r->job.first, r->job.end);
		r->bytes = malloc(len);
		if (r->job.kind == MANAGED_JOB_PULL)
			memcpy(r->bytes, w->remote + r->job.first * HITHER_BLOCK_BYTES, len);
		else
			CHECK_EQ(hither_store_read(w->m->store, r->bytes, len,
			                           r->job.first * HITHER_BLOCK_BYTES),
			         0);
		return;
	}
}

static int some_failure(struct world *w)
{
	if (!w->faults || rnd(w, 8))
		return 0;
	return rnd(w, 6) ? -ECONNRESET : -EIO;
}

static void step_pull(struct world *w, struct running *r)
{
	struct hither_error err = {0};
	struct managed_job *j = &r->job;
	uint64_t left = j->end - j->first - r->sent;
	int fail = some_failure(w);
	if (!left || fail) {
		if (fail)
			hither_fail(&err, fail, "injected");
		r->active = false;
		managed_settle_pull(w->m, j, fail, &err);
		free(r->bytes);
		r->bytes = NULL;
		return;
	}
	uint64_t n = 1 + rnd(w, left), first = j->first + r->sent;
	r->sent += n;
	if (!j->first_byte_ns)
		j->first_byte_ns = virtual_ns;
	CHECK_EQ(managed_commit(w->m, j, r->bytes + (first - j->first) * HITHER_BLOCK_BYTES,
	                        managed_bytes(w->m, first, first + n), first * HITHER_BLOCK_BYTES),
	         0);
}

static void step_push(struct world *w, struct running *r)
{
	struct hither_error err = {0};
	struct managed_job *j = &r->job;
	uint64_t len = managed_bytes(w->m, j->first, j->end);
	int fail = some_failure(w);
	if (fail) {
		hither_fail(&err, fail, "injected");
		len = rnd(w, len); /* torn */
	}
	memcpy(w->remote + j->first * HITHER_BLOCK_BYTES, r->bytes, len);
	r->active = false;
	free(r->bytes);
	r->bytes = NULL;
	managed_settle_push(w->m, j, fail, &err);
}

static void step_flush(struct world *w, struct running *r)
{
	struct hither_error err = {0};
	int fail = some_failure(w);
	if (!fail && w->server_forgot) {
		fail = -EREMOTEIO;
		w->server_forgot = false;
	}
	if (fail)
		hither_fail(&err, fail, "injected");
	else
		memcpy(w->durable, w->remote, w->size);
	r->active = false;
	managed_settle_flush(w->m, &r->job, fail, &err);
}

static void step_job(struct world *w)
{
	struct running *r = &w->running[rnd(w, MAX_JOBS)];
	if (!r->active)
		return;
	switch (r->job.kind) {
	case MANAGED_JOB_PULL:
		step_pull(w, r);
		break;
	case MANAGED_JOB_PUSH:
		step_push(w, r);
		break;
	case MANAGED_JOB_FLUSH:
		step_flush(w, r);
		break;
	default: /* sync and eviction are local: whole */
		r->active = false;
		managed_run(w->m, &r->job);
		break;
	}
}

static void restart_server(struct world *w)
{
	/* It answers a connection that was there before with a failure first: NBD does the same. */
	for (uint64_t i = 0; i < w->size && !w->server_forgot; i++)
		w->server_forgot = w->remote[i] != w->durable[i];
	memcpy(w->remote, w->durable, w->size);
	for (unsigned i = 0; i < MAX_JOBS; i++) {
		struct running *r = &w->running[i];
		if (r->active && r->job.kind == MANAGED_JOB_PULL)
			memcpy(r->bytes, w->remote + r->job.first * HITHER_BLOCK_BYTES,
			       managed_bytes(w->m, r->job.first, r->job.end));
	}
}

/* --- the mount's life --- */

static void open_world(struct world *w)
{
	struct hither_error err = {0};
	struct hither_backend *backend;
	struct hither_mount *mount;
	CHECK_OK(hither_backend_memory_create(w->size, &backend, &err));
	w->options.cache_dir = *w->cache ? w->cache : NULL;
	/* What it holds is not what the server of this model has. */
	static struct hither_backend_ops blind;
	blind = *backend->ops;
	blind.extent = NULL;
	backend->ops = &blind;
	backend->flags |= HITHER_BACKEND_SPARSE;
	CHECK_OK(hither_mount_backend(backend, "model", &w->options, &mount, &err));
	w->m = managed_of(mount);
	w->m->now = virtual_now;
	w->m->progress_ns = virtual_ns;
	w->m->pull_off = rnd(w, 2);
	w->m->jobs_max = MAX_JOBS;
	w->m->versioned = false;
	if (w->m->dirty_since_ns)
		w->m->dirty_since_ns = virtual_ns;
}

/* As after SIGKILL: nothing is pushed, nothing is synced, the log is as it is. */
static void crash(struct world *w)
{
	struct hither_error err = {0};
	for (unsigned i = 0; i < MAX_PENDING; i++)
		if (w->pending[i].active)
			return; /* what was not acknowledged may or may not be there: not in this
			           model */
	for (unsigned i = 0; i < MAX_JOBS; i++) {
		free(w->running[i].bytes);
		w->running[i] = (struct running){0};
	}
	w->m->stale = 0;
	w->m->base.writable = false;
	w->m->jobs = NULL;
	hither_mount_close(&w->m->base, &err);
	w->crashes++;
	open_world(w);
	w->server_forgot = false;
}

static void one_step(struct world *w)
{
	w->step++;
	virtual_ns += rnd(w, 20) * HITHER_NS_PER_MS;
	switch (rnd(w, 16)) {
	case 0:
	case 1:
	case 2:
		access_something(w, HITHER_IO_READ);
		break;
	case 3:
	case 4:
	case 5:
		access_something(w, rnd(w, 5) ? HITHER_IO_WRITE : HITHER_IO_DISCARD);
		break;
	case 6:
		if (rnd(w, 4) == 0)
			access_something(w, HITHER_IO_FLUSH);
		break;
	case 7:
		if (rnd(w, 40) == 0)
			restart_server(w);
		if (*w->cache && rnd(w, 60) == 0)
			crash(w);
		break;
	case 8:
	case 9:
	case 10:
		begin_job(w);
		break;
	default:
		step_job(w);
		break;
	}
}

static bool busy(const struct world *w)
{
	for (unsigned i = 0; i < MAX_PENDING; i++)
		if (w->pending[i].active)
			return true;
	for (unsigned i = 0; i < MAX_JOBS; i++)
		if (w->running[i].active && w->running[i].job.kind != MANAGED_JOB_PULL)
			return true;
	return false;
}

static void settle_down(struct world *w)
{
	for (unsigned tries = 0; busy(w); tries++) {
		CHECK(tries < 1000000); /* a hang */
		w->step++;
		virtual_ns += HITHER_NS_PER_MS;
		begin_job(w);
		step_job(w);
	}
}

static void end_world(struct world *w)
{
	w->faults = false;
	settle_down(w);
	w->step++;
	access_something(w, HITHER_IO_FLUSH);
	settle_down(w);
	CHECK(memcmp(w->durable, w->plain, w->size) == 0);
	for (uint64_t at = 0; at < w->size; at += MAX_IO) {
		struct pending *p = free_pending(w);
		uint64_t left = w->size - at;
		*p = (struct pending){.w = w, .active = true};
		p->io = (struct hither_io){.op = HITHER_IO_READ,
		                           .offset = at,
		                           .buf = p->buf,
		                           .len = left < MAX_IO ? left : MAX_IO,
		                           .done = io_done};
		hither_mount_submit(&w->m->base, &p->io);
		settle_down(w);
	}
	w->evictions = w->m->evictions;
	for (unsigned i = 0; i < MAX_JOBS; i++) {
		if (w->running[i].active) {
			struct hither_error err = {0};
			managed_settle_pull(w->m, &w->running[i].job, -ECANCELED, &err);
			free(w->running[i].bytes);
		}
	}
	CHECK_EQ(w->m->outstanding_bytes, 0);
	CHECK_EQ(w->m->job_count, 0);
	w->m->base.writable = false; /* nothing is dirty: nothing to push on the way out */
	struct hither_error err = {0};
	CHECK_OK(hither_mount_close(&w->m->base, &err));
}

static void run_world(uint64_t seed, uint64_t steps)
{
	struct world *w = calloc(1, sizeof *w);
	w->rng = seed * 0x9e3779b97f4a7c15u + 1;
	w->size = 1 + rnd(w, 2000000);
	w->blocks = (w->size + HITHER_BLOCK_BYTES - 1) / HITHER_BLOCK_BYTES;
	w->plain = malloc(w->size);
	w->remote = malloc(w->size);
	w->durable = malloc(w->size);
	w->written = calloc(w->blocks, sizeof *w->written);
	for (uint64_t i = 0; i < w->size; i++)
		w->plain[i] = w->remote[i] = w->durable[i] = (char)rnd(w, 256);
	w->faults = rnd(w, 4) > 0;
	w->options.cache_cap_bytes = rnd(w, 2) ? w->size / 3 + 1 : 0;
	w->options.push_interval_ms = 1 + (uint32_t)rnd(w, 1000);
	w->options.deadline_ms = 1000000000;
	if (rnd(w, 2) && !getenv("HITHER_MODEL_MEMORY")) {
		snprintf(w->cache, sizeof w->cache, "/tmp/hither-model-XXXXXX");
		CHECK(mkdtemp(w->cache));
	}
	if (!*w->cache && rnd(w, 2)) { /* 64 chunks, the least */
		w->options.chunk_bytes = HITHER_BLOCK_BYTES;
		w->options.resident_bytes = 1;
	}
	open_world(w);
	for (uint64_t i = 0; i < steps; i++)
		one_step(w);
	end_world(w);
	printf("  seed %llu: %llu bytes, %llu reads, %llu writes, %llu flushes, %llu evictions, "
	       "%llu crashes%s\n",
	       (unsigned long long)seed, (unsigned long long)w->size, (unsigned long long)w->reads,
	       (unsigned long long)w->writes, (unsigned long long)w->flushes,
	       (unsigned long long)w->evictions, (unsigned long long)w->crashes,
	       *w->cache ? ", on disk" : "");
	if (*w->cache) {
		struct hither_error err = {0};
		hither_store_delete(w->cache, "model", true, &err);
		rmdir(w->cache);
	}
	free(w->plain);
	free(w->remote);
	free(w->durable);
	free(w->written);
	free(w);
}

int main(int argc, char **argv)
{
	managed_by_hand = true;
	uint64_t steps = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000;
	if (argc > 1) {
		run_world(strtoull(argv[1], NULL, 10), steps);
		return 0;
	}
	for (uint64_t seed = 1; seed <= 12; seed++)
		run_world(seed, steps);
	return 0;
}
