/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the managed mount (docs/architecture.md), each by a test that fails when it is
 * broken, and the defects of the design it descends from. Those about pushes are push_test.c's.
 */
#include "mount/played.h"

#include <hither/layer.h>
#include <hither/profile.h>
#include <sys/stat.h>
#include <unistd.h>

/* Rules 1 and 2 */
static void a_reader_waits_for_its_own_blocks_only(void)
{
	struct played p = play(8 * BLOCK, 0);
	struct managed_job job;
	struct access *all = submit(p.m, HITHER_IO_READ, 0, 8 * BLOCK, 1);
	struct access *second = submit(p.m, HITHER_IO_READ, BLOCK + 5, 7, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK_EQ(job.first, 0);
	CHECK_EQ(job.end, 8);
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_ABSENT);
	deliver(&p, &job, 0, 1);
	CHECK(!second->over);
	deliver(&p, &job, 1, 1);
	expect_content(second);
	CHECK(!all->over);
	CHECK_EQ(state_of(p.m, 1), HITHER_BLOCK_LOCAL);
	CHECK_EQ(state_of(p.m, 2), HITHER_BLOCK_ABSENT);
	deliver(&p, &job, 2, 6);
	settle(p.m, &job, 0);
	expect_content(all);
	free(all);
	free(second);
	end_play(&p);
}

/* Rule 4 */
static void a_pull_never_overwrites_what_was_written_meanwhile(void)
{
	struct played p = play(4 * BLOCK, 0);
	struct managed_job job;
	struct access *r = submit(p.m, HITHER_IO_READ, 0, 4 * BLOCK, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	struct access *w = submit(p.m, HITHER_IO_WRITE, BLOCK, BLOCK, 'w');
	CHECK(w->over && !w->result); /* a whole block needs no pull */
	deliver(&p, &job, 0, 4);
	settle(p.m, &job, 0);
	CHECK(r->over && !r->result);
	CHECK_EQ(r->buf[BLOCK], 'w');
	CHECK_EQ(r->buf[2 * BLOCK - 1], 'w');
	CHECK_EQ(r->buf[2 * BLOCK], content(2 * BLOCK));
	CHECK_EQ(state_of(p.m, 1), HITHER_BLOCK_DIRTY);
	free(r);
	free(w);
	end_play(&p);
}

static void a_partial_write_pulls_its_block_first(void)
{
	struct played p = play(4 * BLOCK + 10, 0);
	struct managed_job job;
	struct access *w = submit(p.m, HITHER_IO_WRITE, 100, BLOCK + BLOCK, 'w');
	CHECK(!w->over);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK_EQ(job.first, 0);
	deliver(&p, &job, job.first, job.end - job.first);
	settle(p.m, &job, 0);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	CHECK_EQ(job.first, 2);
	CHECK_EQ(job.end, 3);
	CHECK_EQ(state_of(p.m, 1), HITHER_BLOCK_ABSENT); /* the middle one is not needed */
	deliver(&p, &job, 2, 1);
	settle(p.m, &job, 0);
	CHECK(w->over && !w->result);
	struct access *r = submit(p.m, HITHER_IO_READ, 0, 3 * BLOCK, 1);
	CHECK(r->over && !r->result);
	CHECK_EQ(r->buf[99], content(99));
	CHECK_EQ(r->buf[100], 'w');
	CHECK_EQ(r->buf[2 * BLOCK + 99], 'w');
	CHECK_EQ(r->buf[2 * BLOCK + 100], content(2 * BLOCK + 100));
	/* The last block of the resource is short: writing all of it covers it whole. */
	struct access *last = submit(p.m, HITHER_IO_WRITE, 4 * BLOCK, 10, 'l');
	CHECK(last->over && !last->result);
	free(last);
	free(r);
	free(w);
	end_play(&p);
}

/* Rule 8 */
static void versions_are_never_mixed(void)
{
	struct played p = play(8 * BLOCK, 0);
	struct managed_job job;
	struct access *a = submit(p.m, HITHER_IO_READ, 0, BLOCK, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	managed_run(p.m, &job);
	expect_content(a);
	struct access *b = submit(p.m, HITHER_IO_READ, 4 * BLOCK, BLOCK, 1);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
	settle(p.m, &job, -ESTALE);
	CHECK(b->over);
	CHECK_EQ(b->result, -ESTALE);
	struct access *c =
	        submit(p.m, HITHER_IO_READ, 0, BLOCK, 1); /* local, but of the old version */
	CHECK(c->over);
	CHECK_EQ(c->result, -ESTALE);
	CHECK(strstr(c->err.message, "played failure"));
	free(a);
	free(b);
	free(c);
	end_play(&p);
}

static void one_bad_block_does_not_fail_its_neighbours(void)
{
	struct played p = play(64 * BLOCK, 0);
	struct managed_job job;
	struct access *all = submit(p.m, HITHER_IO_READ, 0, 64 * BLOCK, 1);
	struct access *good = submit(p.m, HITHER_IO_READ, 3 * BLOCK, BLOCK, 1);
	struct access *bad = submit(p.m, HITHER_IO_READ, 40 * BLOCK, BLOCK, 1);
	for (unsigned jobs = 0; claim(p.m, &job) != MANAGED_JOB_NONE; jobs++) {
		CHECK(jobs < 200);
		if (job.first <= 40 && 40 < job.end)
			settle(p.m, &job, -EIO);
		else
			managed_run(p.m, &job);
	}
	expect_content(good);
	CHECK(bad->over && all->over);
	CHECK_EQ(bad->result, -EIO);
	CHECK_EQ(all->result, -EIO);
	CHECK_EQ(state_of(p.m, 39), HITHER_BLOCK_LOCAL);
	free(all);
	free(good);
	free(bad);
	end_play(&p);
}

static void an_outage_ends_at_the_deadline(void)
{
	struct played p = play(8 * BLOCK, 0);
	struct managed_job job;
	struct managed_ios expired;
	struct access *a = submit(p.m, HITHER_IO_READ, 0, BLOCK, 1);
	p.m->deadline_ns = 10 * HITHER_NS_PER_S;
	for (unsigned i = 0; i < 5; i++) {
		CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL);
		settle(p.m, &job, -ECONNRESET);
		CHECK(!a->over);
		CHECK_EQ(claim(p.m, &job), MANAGED_JOB_NONE); /* not at once again */
		CHECK(managed_next_event_locked(p.m) > clock_ns);
		clock_ns = p.m->retry_at_ns;
	}
	p.m->progress_ns = 0;
	managed_ios_init(&expired);
	clock_ns = a->io.submitted_ns + 9999 * HITHER_NS_PER_MS;
	managed_collect_expired_locked(p.m, &expired);
	CHECK(!expired.head);
	clock_ns += HITHER_NS_PER_MS;
	managed_collect_expired_locked(p.m, &expired);
	CHECK(expired.head == &a->io);
	free(a);
	end_play(&p);
}

/* The kernel asks for each page of a read that failed again. */
static void who_comes_after_a_deadline_waits_for_less(void)
{
	struct played p = play(8 * BLOCK, 0);
	struct managed_job job;
	struct managed_ios expired;
	p.m->deadline_ns = 16 * HITHER_NS_PER_S;
	p.m->gave_up.code = -ETIMEDOUT;
	struct access *a = submit(p.m, HITHER_IO_READ, 0, BLOCK, 1);
	managed_ios_init(&expired);
	clock_ns += 1999 * HITHER_NS_PER_MS;
	managed_collect_expired_locked(p.m, &expired);
	CHECK(!expired.head);
	CHECK_EQ(claim(p.m, &job), MANAGED_JOB_PULL); /* it is tried, though */
	deliver(&p, &job, 0, 1);
	settle(p.m, &job, 0);
	expect_content(a);
	CHECK_EQ(p.m->gave_up.code, 0);
	struct access *b = submit(p.m, HITHER_IO_READ, 4 * BLOCK, BLOCK, 1);
	clock_ns += 15 * HITHER_NS_PER_S;
	managed_collect_expired_locked(p.m, &expired);
	CHECK(!expired.head); /* all is as before */
	p.m->gave_up.code = -ETIMEDOUT;
	managed_collect_expired_locked(p.m, &expired);
	CHECK(expired.head == &b->io);
	free(a);
	free(b);
	end_play(&p);
}

static void what_is_on_its_way_is_not_evicted_under_it(void)
{
	struct played p = play(64 * BLOCK, 16 * BLOCK);
	struct managed_job old, job;
	p.m->guess = (struct hither_range){.offset = 0, .len = 16 * BLOCK};
	CHECK_EQ(claim(p.m, &old), MANAGED_JOB_PULL); /* asks for the first 16 blocks, slowly */
	struct access *w = submit(p.m, HITHER_IO_WRITE, 0, 16 * BLOCK, 'n');
	struct access *f = submit(p.m, HITHER_IO_FLUSH, 0, 0, 0);
	enum managed_job_kind kind;
	while ((kind = claim(p.m, &job)) == MANAGED_JOB_PUSH)
		managed_run(p.m, &job);
	CHECK_EQ(kind, MANAGED_JOB_FLUSH);
	managed_run(p.m, &job);
	CHECK(f->over && !f->result);
	CHECK_EQ(state_of(p.m, 0), HITHER_BLOCK_LOCAL);
	p.m->cap_blocks = 1;
	for (int i = 0; i < 3; i++)
		managed_make_room(p.m, 64);
	char stale[16 * BLOCK];
	memset(stale, 'o', sizeof stale);
	CHECK_EQ(managed_commit(p.m, &old, stale, sizeof stale, 0), 0);
	struct access *r = submit(p.m, HITHER_IO_READ, 0, BLOCK, 1);
	CHECK(r->over);
	CHECK_EQ(r->buf[0], 'n');
	settle(p.m, &old, 0);
	CHECK(managed_make_room(p.m, 64)); /* now it may go */
	free(w);
	free(f);
	free(r);
	end_play(&p);
}

/* Hits are quick, and nobody may come to tell an order of them. */
static void all_that_is_read_is_recorded(void)
{
	enum { PAGES = 300 };
	char path[] = "/tmp/hither-record-XXXXXX";
	struct hither_error err = {0};
	struct hither_mount_options o = {.pull_off = true, .order = "none", .record = path};
	struct hither_mount *m;
	struct hither_profile profile;
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	managed_by_hand = true;
	CHECK_OK(hither_mount_backend(filled(2 * PAGES * BLOCK), "recorded", &o, &m, &err));
	managed_by_hand = false;
	by_hand(managed_of(m));
	for (uint64_t i = 0; i < PAGES; i++) {
		free(submit(managed_of(m), HITHER_IO_WRITE, 2 * i * BLOCK, BLOCK, 'w'));
		struct access *a = submit(managed_of(m), HITHER_IO_READ, 2 * i * BLOCK, BLOCK, 0);
		CHECK(a->over && !a->result);
		free(a);
	}
	m->writable = false;
	CHECK_OK(hither_mount_close(m, &err));
	CHECK_OK(hither_profile_load(path, &profile, &err));
	CHECK_EQ(profile.count, PAGES);
	hither_profile_finish(&profile);
	close(fd);
	unlink(path);
}

/* --- with threads --- */

static struct hither_mount *threaded(struct hither_backend *b, struct hither_mount_options o)
{
	struct hither_error err = {0};
	struct hither_mount *m;
	CHECK_OK(hither_mount_backend(b, "threaded", &o, &m, &err));
	return m;
}

static void several_workers_survive_network_errors(void)
{
	struct hither_error err = {0};
	struct hither_backend *faulty;
	CHECK_OK(hither_layer_fault(filled(3000000), &faulty, &err));
	hither_layer_fault_arm(faulty, HITHER_FAULT_READ, 0, 20, -ECONNRESET, 5000);
	struct hither_mount *m = threaded(faulty, (struct hither_mount_options){.workers = 16});
	CHECK_OK(hither_mount_pull(m, &err));
	struct hither_mount_stats s;
	hither_mount_stats(m, &s);
	CHECK_EQ(s.local_bytes, 3000000);
	CHECK(s.retries > 0);
	CHECK_OK(hither_mount_close(m, &err));
}

static void everything_is_pulled_to_the_last_byte(void)
{
	struct hither_error err = {0};
	uint64_t size = 5 * 65536 + 777;
	struct hither_mount *m = threaded(filled(size), (struct hither_mount_options){0});
	CHECK_OK(hither_mount_pull(m, &err));
	uint8_t picture[7];
	hither_mount_picture(m, picture, sizeof picture);
	for (size_t i = 0; i < sizeof picture; i++)
		CHECK_EQ(picture[i], 255);
	char c;
	CHECK_OK(hither_mount_read_at(m, &c, 1, size - 1, &err));
	CHECK_EQ(c, content(size - 1));
	CHECK_EQ(hither_mount_read_at(m, &c, 1, size, &err), -EINVAL);
	CHECK_OK(hither_mount_close(m, &err));
}

static void nothing_is_a_resource_too(void)
{
	struct hither_error err = {0};
	struct hither_mount *m = threaded(filled(0), (struct hither_mount_options){0});
	CHECK_EQ(hither_mount_size(m), 0);
	CHECK_OK(hither_mount_read_at(m, NULL, 0, 0, &err));
	CHECK_OK(hither_mount_pull(m, &err));
	CHECK_OK(hither_mount_flush(m, &err));
	CHECK_OK(hither_mount_close(m, &err));
}

static void holes_are_zeros(void)
{
	struct hither_error err = {0};
	struct hither_backend *b;
	CHECK_OK(hither_backend_memory_create(1 << 20, &b, &err));
	struct hither_mount *m = threaded(b, (struct hither_mount_options){0});
	char buf[10000];
	memset(buf, 'x', sizeof buf);
	CHECK_OK(hither_mount_read_at(m, buf, sizeof buf, 12345, &err));
	for (size_t i = 0; i < sizeof buf; i++)
		CHECK_EQ(buf[i], 0);
	CHECK_OK(hither_mount_close(m, &err));
}

struct stepper {
	struct hither_mount *m;
	unsigned number;
};

static void *steps_backwards(void *arg)
{
	struct stepper *s = arg;
	struct hither_error err = {0};
	for (uint64_t i = 0; i < 300; i++) {
		uint64_t at = hither_mount_size(s->m) - 1 - i - s->number * 911;
		char c;
		CHECK_OK(hither_mount_read_at(s->m, &c, 1, at, &err));
		CHECK_EQ(c, content(at));
	}
	return NULL;
}

static void sixty_four_threads_read_backwards_byte_by_byte(void)
{
	struct hither_error err = {0};
	struct hither_backend *slow;
	CHECK_OK(hither_layer_delay(filled(200000), 300, &slow, &err));
	struct hither_mount *m = threaded(slow, (struct hither_mount_options){.pull_off = true});
	pthread_t threads[64];
	struct stepper steppers[64];
	for (unsigned i = 0; i < 64; i++) {
		steppers[i] = (struct stepper){.m = m, .number = i};
		CHECK_EQ(pthread_create(&threads[i], NULL, steps_backwards, &steppers[i]), 0);
	}
	for (unsigned i = 0; i < 64; i++)
		pthread_join(threads[i], NULL);
	CHECK_OK(hither_mount_close(m, &err));
}

static struct managed *late; /* NULL: was asked */

/* While it thinks, another thread gets its guess first. */
static bool late_next(struct hither_order *o, uint64_t window_bytes, struct hither_range *out)
{
	if (!late)
		return false;
	late->guess = (struct hither_range){2 * BLOCK, BLOCK};
	late = NULL;
	*out = (struct hither_range){5 * BLOCK, BLOCK};
	return true;
}

static void no_guess_is_lost_between_threads(void)
{
	static const struct hither_order_ops ops = {.name = "late", .next = late_next};
	struct played p = play(64 * BLOCK, 0);
	struct managed_job first, second;
	late = p.m;
	p.m->order = &(struct hither_order){&ops};
	CHECK(claim(p.m, &first) == MANAGED_JOB_PULL && first.first == 2);
	CHECK(claim(p.m, &second) == MANAGED_JOB_PULL && second.first == 5);
	managed_run(p.m, &first);
	managed_run(p.m, &second), p.m->order = NULL;
	end_play(&p);
}

static unsigned heard;

static void counting_saw(struct hither_order *order, uint64_t offset, uint64_t len, bool waited)
{
	CHECK_EQ(offset, heard * 2 * BLOCK);
	heard++;
}

/* Those that wait, and those that came after them before it was asked. */
static void the_order_hears_of_every_access(void)
{
	static const struct hither_order_ops ops = {.name = "counting", .saw = counting_saw};
	struct played p = play(64 * BLOCK, 0);
	struct managed_job job;
	p.m->order = &(struct hither_order){&ops};
	struct access *reads[5];
	heard = 0;
	for (uint64_t i = 0; i < 5; i++)
		reads[i] = submit(p.m, HITHER_IO_READ, i * 2 * BLOCK, 10, 1);
	while (claim(p.m, &job) == MANAGED_JOB_PULL)
		managed_run(p.m, &job);
	CHECK_EQ(heard, 5);
	for (uint64_t i = 0; i < 5; i++) {
		expect_content(reads[i]);
		free(reads[i]);
	}
	p.m->order = NULL;
	end_play(&p);
}

static void the_local_file_is_given_out_only_when_whole(void)
{
	struct hither_error err = {0};
	struct hither_backend *b = filled(300000);
	b->flags &= ~(uint32_t)HITHER_BACKEND_WRITABLE;
	struct hither_mount *m = threaded(b, (struct hither_mount_options){.pull_off = true});
	CHECK_EQ(hither_mount_local_fd(m), -1);
	CHECK_OK(hither_mount_pull(m, &err));
	int fd = hither_mount_local_fd(m);
	CHECK(fd >= 0);
	char c;
	CHECK_EQ(pread(fd, &c, 1, 299999), 1);
	CHECK_EQ(c, content(299999));
	CHECK_OK(hither_mount_close(m, &err));
}

static int descriptor_of(const char *path, bool writable)
{
	struct hither_error err = {0};
	struct hither_mount_options o = {.direct = true, .backend.writable = writable};
	struct hither_mount *m;
	struct stat mine, theirs;
	CHECK_OK(hither_mount_open(path, &o, &m, &err));
	int fd = hither_mount_local_fd(m);
	if (fd >= 0) {
		CHECK_EQ(stat(path, &mine), 0);
		CHECK_EQ(fstat(fd, &theirs), 0);
		CHECK_EQ(mine.st_ino, theirs.st_ino);
	}
	CHECK_OK(hither_mount_close(m, &err));
	return fd;
}

/* So that the kernel reads a mounted local file by itself, and keeps its bytes once. */
static void a_file_mounted_directly_is_given_out_itself(void)
{
	char path[] = "/tmp/hither-direct-XXXXXX";
	int fd = mkstemp(path);
	CHECK(fd >= 0 && write(fd, path, sizeof path) == sizeof path);
	close(fd);
	CHECK(descriptor_of(path, false) >= 0);
	CHECK_EQ(descriptor_of(path, true), -1);
	unlink(path);
}

static void extents_tell_what_is_local_and_dirty(void)
{
	struct hither_error err = {0};
	struct hither_mount_options o = {.pull_off = true, .push_interval_ms = 1000000};
	struct hither_mount *m;
	uint32_t kind;
	char block[2 * BLOCK] = "new";
	CHECK_OK(hither_mount_backend(filled(8 * BLOCK - 1), "extents", &o, &m, &err));
	CHECK_OK(hither_mount_write_at(m, block, BLOCK, 2 * BLOCK, &err));
	CHECK_EQ(hither_mount_extent(m, 2 * BLOCK + 1, 3 * BLOCK, &kind), BLOCK - 1);
	CHECK_EQ(kind, HITHER_EXTENT_LOCAL | HITHER_EXTENT_DIRTY);
	CHECK_OK(hither_mount_flush(m, &err));
	hither_mount_extent(m, 2 * BLOCK, 1, &kind);
	CHECK_EQ(kind, HITHER_EXTENT_LOCAL);
	CHECK_OK(hither_mount_pull(m, &err));
	CHECK_EQ(hither_mount_extent(m, BLOCK, 7 * BLOCK - 1, &kind), 7 * BLOCK - 1);
	CHECK_EQ(kind, HITHER_EXTENT_LOCAL);
	CHECK_OK(hither_mount_close(m, &err));
}

/* Each is a guess that says nothing of what nobody suggested. */
static void what_is_suggested_is_guessed_first(void)
{
	struct hither_error err = {0};
	struct played p = play(64 * BLOCK, 0);
	const struct hither_range wanted[] = {{40 * BLOCK, 2 * BLOCK}, {3 * BLOCK + 7, 1}};
	struct managed_job first, second, third;
	CHECK_EQ(claim(p.m, &first), MANAGED_JOB_NONE);
	CHECK_OK(hither_mount_suggest(&p.m->base, wanted, 2, &err));
	CHECK_EQ(claim(p.m, &first), MANAGED_JOB_PULL);
	CHECK_EQ(first.first, 40);
	CHECK_EQ(first.end, 42);
	CHECK(!first.demand);
	CHECK_OK(hither_mount_suggest(&p.m->base, &(struct hither_range){9 * BLOCK, BLOCK}, 1,
	                              &err));
	CHECK_EQ(claim(p.m, &second), MANAGED_JOB_PULL);
	CHECK_EQ(second.first, 9);
	CHECK_EQ(claim(p.m, &third), MANAGED_JOB_PULL);
	CHECK_EQ(third.first, 3);
	CHECK_EQ(third.end, 4);
	managed_run(p.m, &first);
	managed_run(p.m, &second);
	managed_run(p.m, &third);
	CHECK_EQ(claim(p.m, &first), MANAGED_JOB_NONE);
	CHECK_EQ(state_of(p.m, 41), HITHER_BLOCK_LOCAL);
	CHECK_EQ(state_of(p.m, 42), HITHER_BLOCK_ABSENT);
	end_play(&p);
}

static void cancelling_frees_whoever_waits(void)
{
	struct hither_error err = {0};
	struct hither_backend *never;
	CHECK_OK(hither_layer_delay(filled(300000), 1000000000, &never, &err));
	struct hither_mount *m = threaded(never, (struct hither_mount_options){0});
	struct access *a = submit(managed_of(m), HITHER_IO_READ, 0, 10, 0);
	CHECK(!a->over);
	hither_mount_cancel(m);
	CHECK(a->over);
	CHECK_EQ(a->result, -ECANCELED);
	CHECK_OK(hither_mount_close(m, &err));
	free(a);
}

int main(void)
{
	RUN(a_reader_waits_for_its_own_blocks_only);
	RUN(a_pull_never_overwrites_what_was_written_meanwhile);
	RUN(a_partial_write_pulls_its_block_first);
	RUN(versions_are_never_mixed);
	RUN(one_bad_block_does_not_fail_its_neighbours);
	RUN(an_outage_ends_at_the_deadline);
	RUN(who_comes_after_a_deadline_waits_for_less);
	RUN(what_is_on_its_way_is_not_evicted_under_it);
	RUN(all_that_is_read_is_recorded);
	RUN(several_workers_survive_network_errors);
	RUN(everything_is_pulled_to_the_last_byte);
	RUN(nothing_is_a_resource_too);
	RUN(holes_are_zeros);
	RUN(sixty_four_threads_read_backwards_byte_by_byte);
	RUN(no_guess_is_lost_between_threads);
	RUN(the_order_hears_of_every_access);
	RUN(the_local_file_is_given_out_only_when_whole);
	RUN(a_file_mounted_directly_is_given_out_itself);
	RUN(extents_tell_what_is_local_and_dirty);
	RUN(what_is_suggested_is_guessed_first);
	RUN(cancelling_frees_whoever_waits);
	return 0;
}
