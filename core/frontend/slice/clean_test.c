/* SPDX-License-Identifier: Apache-2.0 */
/* What is not written stays clean, whatever comes between. */
#include "base/cleanup.h"
#include "frontend/slice/slice_testing.h"
#include "frontend/slice/uffd.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t pushed_by_flush(struct hither_mount *m, struct hither_slice *s)
{
	struct hither_mount_stats before, after;
	hither_mount_stats(m, &before);
	CHECK_OK(hither_slice_flush(s, &err));
	hither_mount_stats(m, &after);
	return after.pushed_bytes - before.pushed_bytes;
}

static struct sigaction of_slices;
static struct hither_slice *late;
static uint64_t late_at;
static sem_t late_wanted, late_here;

/* The page comes between the fault and the slice's handler, by another thread. */
static void on_late_bus(int number, siginfo_t *info, void *context)
{
	late_at = (uint64_t)((char *)info->si_addr - (char *)hither_slice_data(late));
	CHECK_EQ(sem_post(&late_wanted), 0);
	while (sem_wait(&late_here) < 0)
		CHECK_EQ(errno, EINTR);
	of_slices.sa_sigaction(number, info, context);
}

/* Until SIZE is wanted, which is beyond the end. */
static void *bring_late(void *arg)
{
	struct hither_error e = {0};
	while (!sem_wait(&late_wanted) && late_at < SIZE) {
		CHECK_OK(hither_slice_prefault(late, late_at, 1, &e));
		CHECK_EQ(sem_post(&late_here), 0);
	}
	return NULL;
}

static void a_page_that_comes_before_the_signal(void)
{
	struct sigaction act = {.sa_sigaction = on_late_bus,
	                        .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
	for (unsigned i = 0; i < 3; i++) {
		struct hither_backend *b = remote_new(SIZE);
		struct hither_mount *m = mount_quiet(b);
		late = tracked(m,
		               (struct hither_slice_options){.tracking = ways[i],
		                                             .faults = HITHER_SLICE_FAULTS_SIGBUS,
		                                             .scan_ms = 3600000});
		if (late) {
			unsigned char *p = hither_slice_data(late), back;
			pthread_t bringer;
			CHECK_EQ(sem_init(&late_wanted, 0, 0) | sem_init(&late_here, 0, 0), 0);
			CHECK_EQ(pthread_create(&bringer, NULL, bring_late, NULL), 0);
			CHECK_EQ(sigaction(SIGBUS, &act, &of_slices), 0);
			for (unsigned at = 0; at < 64 * PAGE; at += PAGE)
				CHECK_EQ(p[at], byte_at(at));
			CHECK_EQ(pushed_by_flush(m, late), 0);
			p[100 * PAGE] = 77; /* the fault is a write, where it is */
			CHECK_EQ(pushed_by_flush(m, late), PAGE);
			CHECK_OK(hither_backend_read_at(b, &back, 1, 100 * PAGE, &err));
			CHECK_EQ(back, 77);
			CHECK_EQ(sigaction(SIGBUS, &of_slices, NULL), 0);
			late_at = SIZE;
			CHECK_EQ(sem_post(&late_wanted), 0);
			pthread_join(bringer, NULL);
			CHECK_OK(hither_slice_close(late, &err));
		}
		CHECK_OK(hither_mount_close(m, &err));
	}
}

/* As the kernel does when it swaps. */
static void a_page_that_was_taken_out(void)
{
	for (unsigned i = 0; i < 3; i++) {
		struct hither_backend *b = remote_new(SIZE);
		struct hither_mount *m = mount_quiet(b);
		struct hither_slice *s = tracked(
		        m, (struct hither_slice_options){.tracking = ways[i], .scan_ms = 3600000});
		if (s) {
			unsigned char *p = hither_slice_data(s), back;
			check_bytes(s, 0, 64 * PAGE);
			p[9 * PAGE] = 77; /* and nobody has looked yet */
			CHECK_EQ(madvise(p, 64 * PAGE, MADV_DONTNEED), 0);
			CHECK_EQ(p[9 * PAGE], 77);
			check_bytes(s, 0, 9 * PAGE);
			check_bytes(s, 10 * PAGE, 64 * PAGE);
			CHECK_EQ(pushed_by_flush(m, s), PAGE);
			CHECK_OK(hither_backend_read_at(b, &back, 1, 9 * PAGE, &err));
			CHECK_EQ(back, 77);
			CHECK_EQ(madvise(p, 64 * PAGE, MADV_DONTNEED), 0);
			p[9 * PAGE + 1] = p[9 * PAGE] + 1;
			CHECK_EQ(pushed_by_flush(m, s), PAGE);
			CHECK_OK(hither_backend_read_at(b, &back, 1, 9 * PAGE + 1, &err));
			CHECK_EQ(back, 78);
			CHECK_OK(hither_slice_close(s, &err));
		}
		CHECK_OK(hither_mount_close(m, &err));
	}
}

/* The slice's descriptor of its page table is something else from now on. */
static void spoil_pagemap(void)
{
	HITHER_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned found = 0;
	for (int fd = 3; fd < 100; fd++) {
		char link[32], path[64] = "";
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/pagemap")) {
			CHECK_EQ(dup2(null, fd), fd);
			found++;
		}
	}
	CHECK_EQ(found, 1);
}

/* What a flush promises it keeps also where the kernel does not tell what was written. */
static void nothing_is_lost_where_the_kernel_does_not_tell(void)
{
	struct hither_backend *b = remote_new(SIZE);
	struct hither_mount *m = mount_quiet(b);
	struct hither_slice *s =
	        tracked(m, (struct hither_slice_options){.tracking = HITHER_SLICE_TRACK_ASYNC,
	                                                 .scan_ms = 3600000});
	if (s) {
		struct hither_slice_stats st;
		unsigned char *p = hither_slice_data(s), back[2];
		check_bytes(s, 0, 16 * PAGE);
		spoil_pagemap();
		p[3 * PAGE] = 70;
		p[700] = 71;
		CHECK(pushed_by_flush(m, s) >= 2 * PAGE);
		CHECK_OK(hither_backend_read_at(b, back, 1, 3 * PAGE, &err));
		CHECK_OK(hither_backend_read_at(b, back + 1, 1, 700, &err));
		CHECK(back[0] == 70 && back[1] == 71);
		hither_slice_stats(s, &st);
		CHECK(st.error && strstr(st.message, "PAGEMAP_SCAN"));
		CHECK_OK(hither_slice_close(s, &err));
	}
	CHECK_OK(hither_mount_close(m, &err));
}

static void nothing_is_lost_where_pages_cannot_be_protected(void)
{
	struct hither_backend *b = remote_new(SIZE);
	struct hither_mount *m = mount_quiet(b);
	struct hither_slice *s =
	        tracked(m, (struct hither_slice_options){.tracking = HITHER_SLICE_TRACK_FAULT});
	if (s) {
		unsigned char *p = hither_slice_data(s), back;
		uffd_protect_fails = -ENOMEM;
		for (unsigned char value = 1; value < 5; value++) {
			p[700] = value;
			CHECK(pushed_by_flush(m, s) >= PAGE);
			CHECK_OK(hither_backend_read_at(b, &back, 1, 700, &err));
			CHECK_EQ(back, value);
		}
		uffd_protect_fails = 0;
		CHECK_EQ(pushed_by_flush(m, s), PAGE);
		CHECK_EQ(pushed_by_flush(m, s), 0);
		CHECK_OK(hither_slice_close(s, &err));
	}
	CHECK_OK(hither_mount_close(m, &err));
}

int main(void)
{
	RUN(a_page_that_comes_before_the_signal);
	RUN(a_page_that_was_taken_out);
	RUN(nothing_is_lost_where_the_kernel_does_not_tell);
	RUN(nothing_is_lost_where_pages_cannot_be_protected);
	return 0;
}
