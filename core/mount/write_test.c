/* SPDX-License-Identifier: Apache-2.0 */
/* Writes into a store on disk, and on a disk that is full. */
#include "chunk/store_log.h"
#include "mount/played.h"
#include "scratch.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

enum { SIZE = 1 << 20, PART = 10 * BLOCK + 100, PART_LEN = 30 * BLOCK - 100, ROOM = 4 * BLOCK };

struct full {
	char disk[PATH_MAX];
	int ballast; /* a file that fills it */
	off_t ballast_bytes;
	struct managed *m;
};

static bool begin(struct full *f)
{
	scratch_make(f->disk);
	if (mount("hither-test", f->disk, "tmpfs", 0, "size=1m") < 0) {
		printf("  (no right to mount a small tmpfs: left out)\n");
		scratch_remove(f->disk);
		return false;
	}
	const struct hither_mount_options o = {
	        .pull_off = true, .order = "none", .cache_dir = f->disk, .deadline_ms = 1000};
	f->m = play_over(filled(SIZE), &o);
	CHECK(hither_store_roomy(f->m->store)); /* what its log keeps for itself */
	char path[PATH_MAX + 16], page[BLOCK] = "";
	snprintf(path, sizeof path, "%s/ballast", f->disk);
	f->ballast = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(f->ballast >= 0);
	f->ballast_bytes = 0;
	while (write(f->ballast, page, sizeof page) == (ssize_t)sizeof page)
		f->ballast_bytes += (off_t)sizeof page;
	CHECK_EQ(errno, ENOSPC);
	return true;
}

static void end(struct full *f)
{
	struct hither_error err = {0};
	close(f->ballast);
	f->m->base.writable = false;
	CHECK_OK(hither_mount_close(&f->m->base, &err));
	CHECK_EQ(umount(f->disk), 0);
	scratch_remove(f->disk);
}

static void *write_a_block(void *arg)
{
	return submit(arg, HITHER_IO_WRITE, 10 * BLOCK, BLOCK, 'w');
}

static bool room_is_taken(struct managed *m)
{
	if (pthread_mutex_trylock(&m->room_lock))
		return true;
	pthread_mutex_unlock(&m->room_lock);
	return false;
}

/*
 * A write waits for room, one at a time; when it has found some, another one goes on that waited
 * for this one's block, finds the disk full in its turn, and must not wait for the first.
 */
static void a_write_that_goes_on_behind_another_finds_the_disk_full(void)
{
	struct full f;
	struct managed_job pull;
	pthread_t thread;
	void *whole;
	if (!begin(&f))
		return;
	struct access *part = submit(f.m, HITHER_IO_WRITE, PART, PART_LEN, 'p');
	CHECK_EQ(claim(f.m, &pull), MANAGED_JOB_PULL); /* of its first block */
	CHECK_EQ(pthread_create(&thread, NULL, write_a_block, f.m), 0);
	while (!room_is_taken(f.m))
		sched_yield();
	CHECK_EQ(ftruncate(f.ballast, f.ballast_bytes - ROOM), 0);
	settle(f.m, &pull, -ECANCELED);
	CHECK_EQ(pthread_join(thread, &whole), 0);
	struct access *first = whole;
	CHECK(first->over && !first->result);
	CHECK(part->over);
	CHECK_EQ(part->result, -ENOSPC);
	CHECK(strstr(part->err.message, "is full"));
	CHECK_EQ(state_of(f.m, 10), HITHER_BLOCK_DIRTY);
	CHECK_EQ(state_of(f.m, 20), HITHER_BLOCK_ABSENT);
	free(first);
	free(part);
	end(&f);
}

static off_t log_bytes(struct managed *m)
{
	char path[PATH_MAX];
	struct stat st;
	snprintf(path, sizeof path, "%s/state", hither_store_path(m->store));
	CHECK_EQ(stat(path, &st), 0);
	return st.st_size;
}

static off_t log_of_write(struct managed *m, uint64_t block, size_t blocks)
{
	off_t before = log_bytes(m);
	struct access *a = submit(m, HITHER_IO_WRITE, block * BLOCK, blocks * BLOCK, 'n');
	CHECK(a->over && !a->result);
	free(a);
	return log_bytes(m) - before;
}

/* Nothing is lost of what is not there yet: only what was here has to be announced, durably. */
static void a_block_that_was_absent_is_noted_once(void)
{
	struct hither_error err = {0};
	char folder[PATH_MAX];
	scratch_make(folder);
	const struct hither_mount_options o = {
	        .pull_off = true, .order = "none", .cache_dir = folder};
	struct managed *m = play_over(filled(SIZE), &o);
	const off_t note = HITHER_LOG_RECORD_BYTES, change = note, intent = note;
	CHECK_EQ(log_of_write(m, 3, 2), note);
	CHECK_EQ(log_of_write(m, 8, 1), note);
	CHECK_EQ(log_of_write(m, 4, 2), intent + change + note); /* one of them was here */
	CHECK_EQ(log_of_write(m, 8, 1), change + note);          /* and this */
	m->base.writable = false;
	CHECK_OK(hither_mount_close(&m->base, &err));
	scratch_remove(folder);
}

int main(void)
{
	RUN(a_block_that_was_absent_is_noted_once);
	RUN(a_write_that_goes_on_behind_another_finds_the_disk_full);
	return 0;
}
