/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/slice/slice_testing.h"
#include "frontend/slice/uffd.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void a_part_of_a_mount(void)
{
	struct hither_mount *m =
	        mount_new(remote_new(SIZE), (struct hither_mount_options){.pull_off = true});
	struct hither_slice *s =
	        slice_new(m, (struct hither_slice_options){.offset = 5 * PAGE, .len = 100000});
	const unsigned char *p = hither_slice_data(s);
	CHECK_EQ(hither_slice_size(s), 100000);
	for (unsigned i = 0; i < 100000; i++)
		CHECK_EQ(p[i], byte_at(i + 5 * PAGE));
	struct hither_slice *t;
	CHECK_EQ(hither_slice_open(m, &(struct hither_slice_options){.offset = 1}, &t, &err),
	         -EINVAL);
	CHECK_EQ(hither_slice_open(m, &(struct hither_slice_options){.offset = 4 << 20}, &t, &err),
	         -EINVAL);
	CHECK_EQ(hither_slice_prefault(s, 99999, 2, &err), -EINVAL);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* mprotect() makes several mappings of one; what a fault brings may lie in more than one. */
static void a_program_protects_some_of_it(void)
{
	struct hither_mount *m =
	        mount_new(remote_new(SIZE), (struct hither_mount_options){.pull_off = true});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	unsigned char *p = hither_slice_data(s);
	for (size_t at = PAGE; at < SIZE; at += 7 * PAGE)
		CHECK_EQ(mprotect(p + at, PAGE, PROT_NONE), 0);
	for (size_t at = 0; at < SIZE; at += PAGE)
		if (at % (7 * PAGE) != PAGE)
			CHECK_EQ(p[at + 9], byte_at(at + 9));
	CHECK_EQ(mprotect(p, SIZE, PROT_READ | PROT_WRITE), 0);
	check_bytes(s, 0, SIZE);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

static void check_remote(struct hither_backend *b, const unsigned char *want, size_t len)
{
	unsigned char *got = malloc(len);
	CHECK_OK(hither_backend_read_at(b, got, len, 0, &err));
	CHECK(memcmp(got, want, len) == 0);
	free(got);
}

static void writes_by(enum hither_slice_tracking way, enum hither_slice_faults faults)
{
	struct hither_backend *b = remote_new(SIZE);
	struct hither_mount *m = mount_new(
	        b, (struct hither_mount_options){.pull_off = true, .push_interval_ms = 3600000});
	struct hither_slice *s =
	        tracked(m, (struct hither_slice_options){
	                           .tracking = way, .faults = faults, .scan_ms = 3600000});
	if (!s) {
		CHECK_OK(hither_mount_close(m, &err));
		return;
	}
	struct hither_mount_stats ms;
	unsigned char *p = hither_slice_data(s), *want = malloc(SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		want[i] = byte_at(i);
	check_bytes(s, 0, 1 << 20); /* what is only read stays clean */
	CHECK_OK(hither_slice_flush(s, &err));
	hither_mount_stats(m, &ms);
	CHECK_EQ(ms.pushed_bytes, 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 40; i++) {
			unsigned at = (i * 50021 + round * 7919) % SIZE;
			p[at] = want[at] = (unsigned char)(p[at] + 1 + round);
		}
		p[SIZE - 1] = want[SIZE - 1] = (unsigned char)round;
		CHECK_OK(hither_slice_flush(s, &err));
		check_remote(b, want, SIZE);
		hither_mount_stats(m, &ms);
		CHECK_EQ(ms.dirty_bytes, 0);
	}
	CHECK(ms.pushed_bytes <= 3 * 41 * PAGE); /* no page that was not written */
	p[0] = want[0] = 99;
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_push(m, &err)); /* what was last written is not forgotten */
	check_remote(b, want, SIZE);
	free(want);
	CHECK_OK(hither_mount_close(m, &err));
}

static void writes_are_found_and_pushed(void)
{
	for (unsigned i = 0; i < 3; i++) {
		writes_by(ways[i], HITHER_SLICE_FAULTS_THREAD);
		writes_by(ways[i], HITHER_SLICE_FAULTS_SIGBUS);
	}
}

static void other_frontends_see_what_is_written(void)
{
	struct hither_mount *m =
	        mount_new(remote_new(SIZE), (struct hither_mount_options){.pull_off = true});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	struct hither_slice *t = slice_new(m, (struct hither_slice_options){.offset = PAGE});
	char *p = hither_slice_data(s), *q = hither_slice_data(t), buf[3];
	memcpy(p + PAGE + 5, "abc", 3);
	CHECK(memcmp(q + 5, "abc", 3) == 0);
	CHECK_OK(hither_mount_read_at(m, buf, 3, PAGE + 5, &err));
	CHECK(memcmp(buf, "abc", 3) == 0);
	CHECK_OK(hither_mount_write_at(m, "xyz", 3, PAGE + 5, &err));
	CHECK(memcmp(p + PAGE + 5, "xyz", 3) == 0);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_slice_close(t, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

struct discarding {
	struct hither_io io;
	int result;
};

static void discarded(struct hither_io *io, int result, const struct hither_error *e)
{
	((struct discarding *)io)->result = result;
}

/* Zeros that another frontend makes, in pages that are mapped and in such as are not here. */
static void other_frontends_discard(void)
{
	for (unsigned i = 0; i < 3; i++) {
		struct hither_backend *b = remote_new(64 * PAGE);
		b->flags |= HITHER_BACKEND_SPARSE;
		struct hither_mount *m = mount_quiet(b);
		struct hither_slice *s = tracked(
		        m, (struct hither_slice_options){.tracking = ways[i], .scan_ms = 3600000});
		if (s) {
			unsigned char *p = hither_slice_data(s), want[64 * PAGE];
			for (unsigned at = 0; at < sizeof want; at++)
				want[at] = byte_at(at);
			check_bytes(s, 0, 20 * PAGE);
			p[12 * PAGE] = 1;
			struct discarding d = {{.op = HITHER_IO_DISCARD,
			                        .offset = 10 * PAGE,
			                        .len = 20 * PAGE,
			                        .done = discarded},
			                       -1};
			hither_mount_submit(m, &d.io);
			CHECK_EQ(d.result, 0);
			memset(want + 10 * PAGE, 0, 20 * PAGE);
			CHECK(!memcmp(p, want, sizeof want));
			p[13 * PAGE] = want[13 * PAGE] = 2;
			CHECK_OK(hither_slice_flush(s, &err));
			check_remote(b, want, sizeof want);
			CHECK_OK(hither_slice_close(s, &err));
		}
		CHECK_OK(hither_mount_close(m, &err));
	}
}

static void over_any_mount(void)
{
	struct hither_backend *b = remote_new(SIZE);
	struct hither_mount *m = mount_new(b, (struct hither_mount_options){.direct = true});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.chunk_bytes = PAGE});
	struct hither_slice_stats st;
	unsigned char *p = hither_slice_data(s), *want = malloc(SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		want[i] = byte_at(i);
	hither_slice_stats(s, &st);
	CHECK(!st.shares_store);
	CHECK_OK(hither_slice_prefault(s, SIZE - 3, 3, &err));
	hither_slice_stats(s, &st);
	CHECK_EQ(st.mapped_bytes, PAGE);
	check_bytes(s, 0, SIZE);
	p[12345] = want[12345] = 1;
	CHECK_OK(hither_slice_flush(s, &err));
	check_remote(b, want, SIZE);
	p[SIZE - 2] = want[SIZE - 2] = 2;
	CHECK_OK(hither_slice_close(s, &err));
	check_remote(b, want, SIZE);
	free(want);
	CHECK_OK(hither_mount_close(m, &err));
}

static void larger_than_its_limit(void)
{
	enum { BIG = 8 << 20 };
	for (unsigned way = 0; way < 3; way++) {
		struct hither_backend *b = remote_new(BIG);
		struct hither_mount *m =
		        mount_new(b, (struct hither_mount_options){.pull_off = true,
		                                                   .chunk_bytes = 4 * PAGE,
		                                                   .resident_bytes = 2 << 20});
		struct hither_slice *s =
		        tracked(m, (struct hither_slice_options){.tracking = ways[way]});
		struct hither_slice_stats st;
		if (s) {
			unsigned char *p = hither_slice_data(s), *want = malloc(BIG);
			for (unsigned i = 0; i < BIG; i++)
				want[i] = byte_at(i);
			for (unsigned pass = 0; pass < 3; pass++)
				for (unsigned at = 0; at < BIG; at += PAGE) {
					CHECK_EQ(p[at + 1], want[at + 1]);
					if (at / PAGE % (pass + 1) == 0)
						p[at + 1] = want[at + 1] =
						        (unsigned char)(at / PAGE + pass);
					hither_slice_stats(s, &st);
					CHECK(st.mapped_bytes <= 2 << 20);
				}
			CHECK(st.unmapped_bytes >= 12 << 20);
			CHECK_OK(hither_slice_close(s, &err));
			CHECK_OK(hither_mount_push(m, &err));
			check_remote(b, want, BIG);
			free(want);
		}
		CHECK_OK(hither_mount_close(m, &err));
	}
}

/* Runs f in a child; its signal, or 0. */
static int signal_of(void (*f)(void *), void *arg)
{
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL); /* sanitizers have theirs */
		signal(SIGBUS, SIG_DFL);
		f(arg);
		_exit(0);
	}
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touch(void *p)
{
	*(volatile char *)p;
}

static void a_child_does_not_have_it(void)
{
	struct hither_mount *m =
	        mount_new(remote_new(SIZE), (struct hither_mount_options){.pull_off = true});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	CHECK_EQ(signal_of(touch, hither_slice_data(s)), SIGSEGV);
	check_bytes(s, 0, 10);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

struct failing {
	enum hither_slice_faults faults;
};

/* Touches bytes that fail to come; nothing else is known of this process afterwards. */
static void touch_failing(void *arg)
{
	const struct failing *f = arg;
	struct hither_backend *b;
	CHECK_OK(hither_layer_fault(remote_new(SIZE), &b, &err));
	struct hither_mount *m =
	        mount_new(b, (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.faults = f->faults});
	check_bytes(s, 0, 10);
	hither_layer_fault_arm(b, HITHER_FAULT_READ, 0, 1000, -EIO, 0);
	check_bytes(s, 0, 10);
	struct hither_error e = {0};
	CHECK_EQ(hither_slice_prefault(s, 1 << 20, 1, &e), -EIO);
	touch((char *)hither_slice_data(s) + (1 << 20));
}

static void a_failure_is_sigbus(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct failing f = {i ? HITHER_SLICE_FAULTS_SIGBUS : HITHER_SLICE_FAULTS_THREAD};
		int number = signal_of(touch_failing, &f);
		CHECK_EQ(number, SIGBUS);
	}
}

/* Pages that were written, pushed and taken out again, then cannot be had any more. */
static void touch_evicted(void *arg)
{
	struct hither_backend *fault;
	CHECK_OK(hither_layer_fault(remote_new(SIZE), &fault, &err));
	struct hither_mount *m =
	        mount_new(fault, (struct hither_mount_options){.pull_off = true,
	                                                       .order = "none",
	                                                       .chunk_bytes = 16 << 10,
	                                                       .resident_bytes = 1 << 20});
	struct hither_slice *s = slice_new(m, *(struct hither_slice_options *)arg);
	volatile char *p = hither_slice_data(s);
	for (size_t i = 0; i < SIZE; i += PAGE)
		p[i] = 1;
	hither_layer_fault_arm(fault, HITHER_FAULT_READ, 0, UINT64_MAX, -EIO, 0);
	for (size_t i = 0; i < SIZE; i += PAGE)
		CHECK_EQ(p[i], 1);
}

static void a_failure_after_eviction_is_sigbus(void)
{
	for (enum hither_slice_tracking t = HITHER_SLICE_TRACK_ASYNC; t <= HITHER_SLICE_TRACK_HASH;
	     t++)
		CHECK_EQ(signal_of(touch_evicted, &(struct hither_slice_options){.tracking = t}),
		         SIGBUS);
}

/* A kernel without `hidden`: writes are found all the same, in the next best way. */
static void check_lacking(uint64_t hidden, bool no_scan, enum hither_slice_tracking want)
{
	struct hither_slice_stats st;
	struct hither_backend *b = remote_new(SIZE);
	uffd_hidden_features = hidden;
	uffd_hide_pagemap_scan = no_scan;
	struct hither_mount *m = mount_new(b, (struct hither_mount_options){0});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	hither_slice_stats(s, &st);
	CHECK_EQ(st.tracking, want);
	char *p = hither_slice_data(s), back[3];
	for (unsigned i = 0; i < 3; i++)
		p[i * 100 * PAGE] = (char)(i + 100);
	CHECK_OK(hither_slice_flush(s, &err));
	for (unsigned i = 0; i < 3; i++) {
		CHECK_OK(hither_backend_read_at(b, back + i, 1, i * 100 * PAGE, &err));
		CHECK_EQ(back[i], (char)(i + 100));
	}
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
	CHECK_EQ(signal_of(touch_evicted, &(struct hither_slice_options){0}), SIGBUS);
}

static void kernels_that_lack_features(void)
{
	const uint64_t async = UFFD_FEATURE_WP_ASYNC, wp = UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	struct hither_slice_options fault = {.tracking = HITHER_SLICE_TRACK_FAULT};
	struct hither_slice *s;
	check_lacking(async, false, HITHER_SLICE_TRACK_FAULT);
	check_lacking(0, true, HITHER_SLICE_TRACK_FAULT);
	check_lacking(async | wp, false, HITHER_SLICE_TRACK_HASH);
	check_lacking(async | wp | UFFD_FEATURE_POISON, true, HITHER_SLICE_TRACK_HASH);
	struct hither_mount *m = mount_new(remote_new(SIZE), (struct hither_mount_options){0});
	CHECK_EQ(hither_slice_open(m, &fault, &s, &err), -EOPNOTSUPP);
	uffd_hidden_features = UFFD_FEATURE_MINOR_SHMEM;
	CHECK_EQ(hither_slice_open(m, &(struct hither_slice_options){0}, &s, &err), -EOPNOTSUPP);
	CHECK(strstr(err.message, "5.14"));
	uffd_hidden_features = 0;
	uffd_hide_pagemap_scan = false;
	uffd_hidden = -ENOSYS;
	CHECK_EQ(hither_slice_open(m, &(struct hither_slice_options){0}, &s, &err), -ENOSYS);
	CHECK(strstr(err.message, "5.14"));
	uffd_hidden = -EPERM; /* and the way out */
	CHECK_EQ(hither_slice_open(m, &(struct hither_slice_options){0}, &s, &err), -EPERM);
	CHECK(strstr(err.message, "/dev/userfaultfd"));
	uffd_hidden = 0;
	CHECK_OK(hither_mount_close(m, &err));
}

static void system_calls_after_prefault(void)
{
	struct hither_mount *m = mount_new(
	        remote_new(SIZE), (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct hither_slice *s =
	        slice_new(m, (struct hither_slice_options){.user_faults_only = true});
	struct hither_slice_stats st;
	const char *p = hither_slice_data(s);
	int fds[2];
	char buf[100];
	hither_slice_stats(s, &st);
	CHECK(!st.kernel_faults);
	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(write(fds[1], p, sizeof buf), -1);
	CHECK_EQ(errno, EFAULT);
	CHECK_OK(hither_slice_prefault(s, 0, sizeof buf, &err));
	CHECK_EQ(write(fds[1], p, sizeof buf), sizeof buf);
	CHECK_EQ(read(fds[0], buf, sizeof buf), sizeof buf);
	CHECK(memcmp(buf, p, sizeof buf) == 0);
	close(fds[0]);
	close(fds[1]);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

static void system_calls_where_the_kernel_may_fault(void)
{
	struct hither_mount *m = mount_new(
	        remote_new(SIZE), (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	struct hither_slice_stats st;
	char *p = hither_slice_data(s), buf[100];
	int fds[2];
	hither_slice_stats(s, &st);
	CHECK_EQ(pipe(fds), 0);
	if (st.kernel_faults) {
		CHECK_EQ(write(fds[1], p, sizeof buf), sizeof buf);
		CHECK_EQ(read(fds[0], p + (1 << 20), sizeof buf), sizeof buf);
		CHECK(memcmp(p, p + (1 << 20), sizeof buf) == 0);
		CHECK_OK(hither_slice_flush(s, &err)); /* what the kernel writes is found, too */
		hither_slice_stats(s, &st);
		CHECK_EQ(st.written_bytes, PAGE);
	}
	close(fds[0]);
	close(fds[1]);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* Space of one's own: fresh pages cost no request, discarded ones are not pushed and are zeros. */
static void discarded_pages_are_zeros_and_not_pushed(void)
{
	struct hither_backend *fault, *fresh;
	CHECK_OK(hither_layer_fault(remote_new(SIZE), &fault, &err));
	CHECK_OK(hither_layer_delay(fault, 1, &fault, &err)); /* not near */
	struct hither_backend *far = fault;
	CHECK_OK(hither_layer_fresh(far, &fresh, &err));
	struct hither_mount *m =
	        mount_new(fresh, (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	struct hither_mount_stats st;
	unsigned char *p = hither_slice_data(s);
	for (size_t i = 0; i < 40 * PAGE; i++)
		CHECK_EQ(p[i], 0);
	memset(p, 'a', 40 * PAGE);
	CHECK_OK(hither_slice_flush(s, &err));
	memset(p, 'b', 40 * PAGE);
	CHECK_OK(hither_slice_discard(s, 10 * PAGE - 1, 20 * PAGE + 1, &err));
	for (size_t i = 0; i < 40 * PAGE; i++)
		CHECK_EQ(p[i], i < 10 * PAGE || i >= 30 * PAGE ? 'b' : 0);
	CHECK_OK(hither_slice_flush(s, &err));
	hither_mount_stats(m, &st);
	CHECK_EQ(st.pushed_bytes, 60 * PAGE);
	CHECK_EQ(st.dirty_bytes, 0);
	CHECK_EQ(hither_slice_discard(s, 0, SIZE + 1, &err), -EINVAL);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));

	m = mount_new(remote_new(SIZE), (struct hither_mount_options){.pull_off = true});
	s = slice_new(m, (struct hither_slice_options){0});
	CHECK_EQ(hither_slice_discard(s, 0, PAGE, &err), -EOPNOTSUPP);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* A backend that takes 64 KiB as a whole: the edges are zeros, too. */
static void discards_of_parts_of_what_belongs_together(void)
{
	struct hither_backend *b;
	CHECK_OK(hither_backend_memory_create(64 * PAGE, &b, &err));
	int r = hither_layer_seal(b, HITHER_PACK_LZ4, true, &b, &err);
	if (r == -EOPNOTSUPP) {
		hither_backend_close(b);
		return;
	}
	struct hither_mount *m =
	        mount_new(b, (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	char *p = hither_slice_data(s);
	for (unsigned from = 0; from < 40; from += 7) {
		for (unsigned len = 1; len < 24; len += 11) {
			memset(p, 'a', 64 * PAGE);
			CHECK_OK(hither_slice_flush(s, &err));
			CHECK_OK(hither_slice_discard(s, from * PAGE, len * PAGE, &err));
			for (unsigned i = 0; i < 64; i++)
				CHECK_EQ(p[i * PAGE], i < from || i >= from + len ? 'a' : 0);
		}
	}
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* Discards while evictions, pushes and pulls of the same pages are going on. */
static void discards_under_pressure(void)
{
	enum { MIB = 1 << 20, AREA = 4 * MIB, AREAS = 6 };
	struct hither_backend *b;
	CHECK_OK(hither_backend_memory_create(AREAS * AREA, &b, &err));
	CHECK_OK(hither_layer_delay(b, 50, &b, &err));
	CHECK_OK(hither_layer_fresh(b, &b, &err));
	struct hither_mount *m = mount_new(
	        b, (struct hither_mount_options){
	                   .pull_off = true, .resident_bytes = 6 * MIB, .push_dirty_bytes = MIB});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.follow = true});
	unsigned char *p = hither_slice_data(s), model[AREAS] = {0};
	for (unsigned i = 0; i < 60; i++) {
		unsigned a = i * 7 % AREAS, c = i * 5 % AREAS;
		memset(p + a * AREA, (int)i + 1, AREA);
		model[a] = (unsigned char)(i + 1);
		if (i % 3 == 0) {
			CHECK_OK(hither_slice_discard(s, c * AREA, AREA, &err));
			model[c] = 0;
		}
		for (size_t at = 0; at < AREAS * AREA; at += 61 * PAGE)
			CHECK_EQ(p[at], model[at / AREA]);
	}
	struct hither_mount_stats st;
	hither_mount_stats(m, &st);
	CHECK(st.evicted_bytes > 0 && st.pushed_bytes > 0);
	CHECK(st.local_bytes <= 7 * MIB);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* A reader that never waits is heard of all the same: what is ahead of it keeps coming. */
static void a_reader_is_followed(void)
{
	enum { LEN = 16 << 20 };
	struct hither_backend *b = remote_new(LEN);
	CHECK_OK(hither_layer_delay(b, 200, &b, &err));
	struct hither_mount *m =
	        mount_new(b, (struct hither_mount_options){.pull_off = true, .order = "readahead"});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.follow = true});
	struct hither_slice_stats st;
	struct hither_mount_stats mst;
	check_bytes(s, 0, LEN);
	hither_slice_stats(s, &st);
	hither_mount_stats(m, &mst);
	CHECK(mst.demand_bytes < LEN / 2);
	CHECK(st.wait_p50_ns > 0 && st.wait_p50_ns <= st.wait_p99_ns);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* Nothing comes by itself, so that each fault waits for all of its own request. */
static void waits_are_measured(void)
{
	enum { LEN = 16 << 20, DELAY_US = 2000 };
	struct hither_backend *b = remote_new(LEN);
	CHECK_OK(hither_layer_delay(b, DELAY_US, &b, &err));
	struct hither_mount *m =
	        mount_new(b, (struct hither_mount_options){.pull_off = true, .order = "none"});
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){0});
	struct hither_slice_stats st;
	for (size_t at = 0; at < LEN; at += LEN / 8)
		check_bytes(s, at, at + 1);
	hither_slice_stats(s, &st);
	CHECK_EQ(st.fault_waits, 8);
	CHECK(st.wait_p50_ns >= DELAY_US * 1000 && st.wait_p50_ns <= st.wait_p99_ns);
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* --- faults that wait for a network --- */

enum { FAR = 32 << 20, CHUNK = 32 << 10 };

static struct hither_mount *mount_far(unsigned delay_us)
{
	struct hither_backend *b = remote_new(FAR);
	CHECK_OK(hither_layer_delay(b, delay_us, &b, &err));
	return mount_new(b, (struct hither_mount_options){
	                            .pull_off = true, .order = "none", .chunk_bytes = CHUNK});
}

/* What jumps about gets single pages; what comes back to a chunk gets all of it. */
static void a_fault_brings_its_neighbours_where_that_pays(void)
{
	struct hither_mount *m = mount_far(100);
	struct hither_slice *s = slice_new(m, (struct hither_slice_options){.follow = true});
	struct hither_slice_stats before, after;
	struct hither_mount_stats st;
	for (size_t i = 0; i < 300; i++) {
		size_t at = i * 379 % (FAR / 2 / CHUNK) * CHUNK + i % 8 * PAGE;
		check_bytes(s, at, at + 1);
	}
	hither_mount_stats(m, &st);
	CHECK(st.pulled_bytes < 420 * PAGE); /* of 2,400 */
	hither_slice_stats(s, &before);
	for (size_t at = FAR / 2; at < FAR / 2 + 64 * CHUNK; at += PAGE)
		check_bytes(s, at, at + 1);
	hither_slice_stats(s, &after);
	CHECK(after.fault_waits - before.fault_waits < 80); /* of 512 pages */
	CHECK_OK(hither_slice_close(s, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

/* Whoever touches a page goes on when that is here, whatever else of its chunk is on its way. */
static void nobody_waits_for_the_rest_of_a_chunk(void)
{
	enum { LEN = 4 << 20, LARGE = 512 << 10 };
	for (unsigned follow = 0; follow < 2; follow++) {
		struct hither_backend *b = remote_new(LEN);
		struct hither_mount_stats st;
		CHECK_OK(hither_layer_delay(b, 100, &b, &err));
		CHECK_OK(hither_layer_rate(b, LARGE, &b, &err)); /* one second for a chunk */
		struct hither_mount *m = mount_new(
		        b, (struct hither_mount_options){
		                   .pull_off = true, .order = "none", .chunk_bytes = LARGE});
		struct hither_slice *s =
		        slice_new(m, (struct hither_slice_options){.follow = follow});
		check_bytes(s, LARGE, LARGE + 1);
		hither_mount_stats(m, &st);
		CHECK(st.local_bytes > 0 && st.local_bytes < LARGE);
		hither_mount_cancel(m);
		CHECK_OK(hither_slice_close(s, &err));
		hither_mount_close(m, NULL);
	}
}

struct toucher {
	pthread_t thread;
	struct hither_slice *slice;
	size_t number;
};

enum { TOUCHERS = 12, TOUCHES = 40 };

static void *touch_some(void *arg)
{
	const struct toucher *t = arg;
	for (size_t i = 0; i < TOUCHES; i++) {
		/* Some go to the same page, some to others of one chunk, most to far ones. */
		size_t at = (i * 7919 + (t->number % 4 == 3 ? 0 : t->number * 131)) %
		                    (FAR / CHUNK) * CHUNK +
		            t->number % 3 * PAGE;
		check_bytes(t->slice, at, at + 1);
	}
	return NULL;
}

/* More at a time than there are threads to answer them. */
static void many_wait_at_once(void)
{
	for (unsigned follow = 0; follow < 2; follow++) {
		struct hither_mount *m = mount_far(2000);
		struct hither_slice *s =
		        slice_new(m, (struct hither_slice_options){.follow = follow});
		struct toucher t[TOUCHERS];
		for (size_t i = 0; i < TOUCHERS; i++) {
			t[i] = (struct toucher){.slice = s, .number = i};
			CHECK_EQ(pthread_create(&t[i].thread, NULL, touch_some, &t[i]), 0);
		}
		for (size_t i = 0; i < TOUCHERS; i++)
			CHECK_EQ(pthread_join(t[i].thread, NULL), 0);
		CHECK_OK(hither_slice_close(s, &err));
		CHECK_OK(hither_mount_close(m, &err));
	}
}

int main(void)
{
	RUN(a_fault_brings_its_neighbours_where_that_pays);
	RUN(many_wait_at_once);
	RUN(nobody_waits_for_the_rest_of_a_chunk);
	RUN(discarded_pages_are_zeros_and_not_pushed);
	RUN(discards_of_parts_of_what_belongs_together);
	RUN(discards_under_pressure);
	RUN(a_reader_is_followed);
	RUN(waits_are_measured);
	RUN(a_part_of_a_mount);
	RUN(a_program_protects_some_of_it);
	RUN(writes_are_found_and_pushed);
	RUN(other_frontends_see_what_is_written);
	RUN(other_frontends_discard);
	RUN(over_any_mount);
	RUN(larger_than_its_limit);
	RUN(a_child_does_not_have_it);
	RUN(a_failure_is_sigbus);
	RUN(a_failure_after_eviction_is_sigbus);
	RUN(kernels_that_lack_features);
	RUN(system_calls_after_prefault);
	RUN(system_calls_where_the_kernel_may_fault);
	return 0;
}
