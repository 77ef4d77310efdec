/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices against a plain array: threads that read, write and flush at random, each its own lines of
 * every page, while the mount pulls, pushes and evicts as it likes and the server fails now and
 * then. After a flush the server must have what was written before it.
 *
 * usage: slice_model_test [SEED [STEPS [async|fault|hash]]]; without, each way with a few seeds.
 */
#include "check.h"

#include <errno.h>
#include <hither/layer.h>
#include <hither/slice.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
enum { STEPS = 200 }; /* each takes 50 times as long */
#else
enum { STEPS = 1500 };
#endif
enum { PAGE = 4096, THREADS = 3, LINE = 64 };

struct world {
	uint64_t seed, steps;
	size_t size;
	unsigned char *plain; /* each byte is one thread's */
	struct hither_backend *remote;
	struct hither_backend *faulty;
	struct hither_mount *m;
	struct hither_slice *slices[2];
	_Atomic uint64_t flushes;
};

struct player {
	pthread_t thread;
	struct world *w;
	unsigned number;
	uint64_t rng;
};

static uint64_t rnd(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % below;
}

/* One of this player's lines: byte offset and length. */
static size_t some_line(struct player *p, size_t *len)
{
	size_t lines = p->w->size / LINE;
	size_t line = rnd(&p->rng, lines / THREADS) * THREADS + p->number;
	*len = 1 + rnd(&p->rng, LINE);
	return line * LINE;
}

/* The second slice shows the mount's second half only. */
static unsigned char *address(struct player *p, size_t at)
{
	struct world *w = p->w;
	size_t half = w->size / 2 / PAGE * PAGE;
	if (at >= half && rnd(&p->rng, 2))
		return (unsigned char *)hither_slice_data(w->slices[1]) + (at - half);
	return (unsigned char *)hither_slice_data(w->slices[0]) + at;
}

static void flush_and_check(struct player *p)
{
	struct hither_error err = {0};
	struct world *w = p->w;
	unsigned char got[LINE];
	size_t len, at[20];
	for (unsigned i = 0; i < 20; i++) {
		at[i] = some_line(p, &len);
		unsigned char *mem = address(p, at[i]);
		for (unsigned j = 0; j < LINE; j++)
			mem[j] = w->plain[at[i] + j] = (unsigned char)rnd(&p->rng, 256);
	}
	int r = hither_slice_flush(w->slices[rnd(&p->rng, 2)], &err);
	if (r) {
		CHECK_EQ(r, -EIO); /* injected */
		return;
	}
	for (unsigned i = 0; i < 20; i++) {
		CHECK_OK(hither_backend_read_at(w->remote, got, LINE, at[i], &err));
		CHECK(memcmp(got, w->plain + at[i], LINE) == 0);
	}
	w->flushes++;
}

static void *play(void *arg)
{
	struct player *p = arg;
	struct world *w = p->w;
	for (uint64_t i = 0; i < w->steps; i++) {
		size_t len, at = some_line(p, &len);
		unsigned char *mem = address(p, at);
		unsigned what = (unsigned)rnd(&p->rng, 1000);
		if (what == 0) {
			flush_and_check(p);
		} else if (what == 1) {
			hither_slice_collect(w->slices[0]);
		} else if (what == 2) {
			hither_layer_fault_arm(w->faulty, HITHER_FAULT_WRITE, rnd(&p->rng, 4), 1,
			                       rnd(&p->rng, 2) ? -ECONNRESET : -EIO, 100);
		} else if (what == 3 && rnd(&p->rng, 4) == 0) { /* an outage: readers wait */
			hither_layer_fault_arm(w->faulty, HITHER_FAULT_READ, rnd(&p->rng, 4), 1,
			                       -ECONNRESET, 4000);
		} else if (what < 500) {
			CHECK(memcmp(mem, w->plain + at, len) == 0);
		} else {
			for (size_t j = 0; j < len; j++)
				mem[j] = w->plain[at + j] = (unsigned char)rnd(&p->rng, 256);
		}
	}
	return NULL;
}

static void open_world(struct world *w, enum hither_slice_tracking tracking, bool limited)
{
	struct hither_error err = {0};
	struct hither_mount_options o = {
	        .pull_off = w->seed % 2,
	        .chunk_bytes = PAGE << w->seed % 3,
	        .resident_bytes = limited ? w->size / 4 : 0,
	        .push_interval_ms = 20,
	};
	struct hither_slice_options so = {
	        .tracking = tracking, .scan_ms = 5, .user_faults_only = w->seed % 2};
	/* A file: what a push writes beside what is compared is then the kernel's business. */
	struct hither_backend_options bo = {.writable = true, .create_bytes = w->size};
	char path[] = "/tmp/hither-slice-model-XXXXXX";
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)w->size), 0);
	close(fd);
	CHECK_OK(hither_backend_open(path, &bo, &w->remote, &err));
	CHECK_EQ(unlink(path), 0);
	CHECK_OK(hither_backend_write_at(w->remote, w->plain, w->size, 0, &err));
	CHECK_OK(hither_layer_fault(w->remote, &w->faulty, &err));
	struct hither_backend *top = w->faulty;
	if (w->seed & 2) /* not near any more: pulled by the mount's threads */
		CHECK_OK(hither_layer_delay(w->faulty, 20, &top, &err));
	CHECK_OK(hither_mount_backend(top, "model", &o, &w->m, &err));
	int r = hither_slice_open(w->m, &so, &w->slices[0], &err);
	if (r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP)
		SKIP(err.message);
	CHECK_EQ(r, 0);
	so.offset = w->size / 2 / PAGE * PAGE;
	CHECK_OK(hither_slice_open(w->m, &so, &w->slices[1], &err));
}

static void same(const char *who, const struct world *w, const unsigned char *got)
{
	for (size_t i = 0; i < w->size; i++) {
		if (got[i] == w->plain[i])
			continue;
		fprintf(stderr, "%s: byte %zu of block %zu is %u, not %u\n", who, i % PAGE,
		        i / PAGE, got[i], w->plain[i]);
		abort();
	}
}

static void close_world(struct world *w)
{
	struct hither_error err = {0};
	struct hither_slice_stats st;
	unsigned char *got = malloc(w->size);
	hither_layer_fault_arm(w->faulty, HITHER_FAULT_WRITE, 0, 0, 0, 0);
	same("memory", w, hither_slice_data(w->slices[0]));
	hither_slice_stats(w->slices[0], &st);
	CHECK_OK(hither_slice_close(w->slices[0], &err));
	CHECK_OK(hither_slice_close(w->slices[1], &err));
	CHECK_OK(hither_mount_push(w->m, &err));
	CHECK_OK(hither_backend_read_at(w->remote, got, w->size, 0, &err));
	same("the server", w, got);
	CHECK_OK(hither_mount_close(w->m, &err));
	printf("  seed %llu, %s: %zu bytes, %llu faults, %llu flushes, %llu bytes written, %llu "
	       "unmapped\n",
	       (unsigned long long)w->seed, hither_slice_tracking_name(st.tracking), w->size,
	       (unsigned long long)st.fault_count, (unsigned long long)w->flushes,
	       (unsigned long long)st.written_bytes, (unsigned long long)st.unmapped_bytes);
	fflush(stdout);
	free(got);
}

static void run_world(uint64_t seed, uint64_t steps, enum hither_slice_tracking tracking)
{
	struct world w = {.seed = seed, .steps = steps};
	struct player players[THREADS];
	uint64_t rng = seed * 0x9e3779b97f4a7c15u + 1;
	w.size = (1 << 20) + rnd(&rng, 4 << 20);
	w.plain = malloc(w.size);
	for (size_t i = 0; i < w.size; i++)
		w.plain[i] = (unsigned char)rnd(&rng, 256);
	open_world(&w, tracking, seed % 4 != 3);
	for (unsigned i = 0; i < THREADS; i++) {
		players[i] = (struct player){.w = &w, .number = i, .rng = rng + i};
		CHECK_EQ(pthread_create(&players[i].thread, NULL, play, &players[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(players[i].thread, NULL);
	close_world(&w);
	free(w.plain);
}

int main(int argc, char **argv)
{
	uint64_t steps = argc > 2 ? strtoull(argv[2], NULL, 10) : STEPS;
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, end = argc > 1 ? first + 1 : 3;
	for (uint64_t seed = first; seed < end; seed++) {
		for (enum hither_slice_tracking way = HITHER_SLICE_TRACK_ASYNC;
		     way <= HITHER_SLICE_TRACK_HASH; way++)
			if (argc < 4 || !strcmp(argv[3], hither_slice_tracking_name(way)))
				run_world(seed, steps, way);
	}
	return 0;
}
