/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests under way: who owns a slot when, and who answers.
 *
 *     take -> SUBMITTING -> answered on the spot (the common case; takes no lock)
 *                  |
 *                  +-> PARKED -> FINISHED: answered by the thread that brought the bytes
 *                  |      +----> interrupted: answered with EINTR now, freed when the mount is done
 *                  +-> FINISHED (the mount was faster than the submitter's way out)
 *        QUEUED -> SUBMITTING, by the thread that ended another read
 *
 * A parked slot has two owners for a moment, the submitter on its way out and the mount; the last
 * one frees it.
 */
#include "frontend/fuse/channel.h"

#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum {
	KEPT_SLOTS = 4, /* free ones kept, with their memory: one for each thread that answers */
	/*
	 * Most bytes of parked reads given to mounts. A direct mount fills them as bytes arrive;
	 * what is beyond waits without taking memory.
	 */
	PARKED_READ_BYTES = 24 << 20,
};

struct fuse_channel {
	pthread_rwlock_t gate;     /* guards fd */
	int fd;                    /* -1: shut */
	struct fuse_failed failed; /* fixed */

	pthread_mutex_t lock; /* guards everything below, and the slots' fields that say so */
	/* Of reads that are parked. Changed under the lock; a glance without it is enough to say
	 * "plenty". */
	atomic_uint_least64_t parked_bytes;
	struct fuse_slot parked; /* head of a ring */
	struct fuse_slot queued; /* head of a ring; first come, first served */
	struct fuse_slot *free;  /* by next */
	unsigned free_count;
	unsigned slot_count; /* in all */
	bool stopped;
	unsigned refs;            /* parked slots, and the frontend */
	pthread_cond_t slot_back; /* one was put, or stopped */
};

static void ring_init(struct fuse_slot *head)
{
	head->prev = head->next = head;
}

static void ring_add(struct fuse_slot *head, struct fuse_slot *s)
{
	s->prev = head->prev;
	s->next = head;
	s->prev->next = s->next->prev = s;
}

static void ring_remove(struct fuse_slot *s)
{
	s->prev->next = s->next;
	s->next->prev = s->prev;
	s->prev = s->next = NULL;
}

static struct fuse_slot *ring_find(struct fuse_slot *head, uint64_t unique)
{
	for (struct fuse_slot *s = head->next; s != head; s = s->next)
		if (s->unique == unique)
			return s;
	return NULL;
}

struct fuse_channel *fuse_channel_create(int fd, struct fuse_failed failed)
{
	struct fuse_channel *ch = calloc(1, sizeof *ch);
	if (!ch)
		return NULL;
	ch->fd = fd;
	ch->failed = failed;
	ch->refs = 1;
	ring_init(&ch->parked);
	ring_init(&ch->queued);
	pthread_mutex_init(&ch->lock, NULL);
	pthread_cond_init(&ch->slot_back, NULL);
	pthread_rwlock_init(&ch->gate, NULL);
	return ch;
}

int fuse_channel_fd(const struct fuse_channel *ch)
{
	return ch->fd;
}

static void channel_free(struct fuse_channel *ch)
{
	assert(ch->parked.next == &ch->parked && ch->queued.next == &ch->queued);
	for (struct fuse_slot *s = ch->free, *next; s; s = next) {
		next = s->next;
		munmap(s, FUSE_SLOT_HEAD + FUSE_SLOT_DATA);
	}
	pthread_cond_destroy(&ch->slot_back);
	pthread_mutex_destroy(&ch->lock);
	pthread_rwlock_destroy(&ch->gate);
	free(ch);
}

static void channel_unref(struct fuse_channel *ch)
{
	pthread_mutex_lock(&ch->lock);
	bool last = --ch->refs == 0;
	pthread_mutex_unlock(&ch->lock);
	if (last)
		channel_free(ch);
}

static struct fuse_slot *take_free_locked(struct fuse_channel *ch)
{
	struct fuse_slot *s = ch->free;
	if (s) {
		ch->free = s->next;
		ch->free_count--;
	}
	return s;
}

struct fuse_slot *fuse_slot_get(struct fuse_channel *ch)
{
	HITHER_LOCK_SCOPE(&ch->lock);
	struct fuse_slot *s;
	while (!(s = take_free_locked(ch)) && !ch->stopped) {
		/* Under the lock: it is short, and rare, as slots are kept. */
		s = mmap(NULL, FUSE_SLOT_HEAD + FUSE_SLOT_DATA, PROT_READ | PROT_WRITE,
		         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (s != MAP_FAILED) {
			ch->slot_count++;
			return s;
		}
		if (!ch->slot_count)
			return NULL;
		pthread_cond_wait(&ch->slot_back, &ch->lock);
	}
	return s;
}

static void unmap_slot_locked(struct fuse_channel *ch, struct fuse_slot *s)
{
	munmap(s, FUSE_SLOT_HEAD + FUSE_SLOT_DATA);
	ch->slot_count--;
}

void fuse_slot_put(struct fuse_channel *ch, struct fuse_slot *s)
{
	if (!s)
		return;
	HITHER_LOCK_SCOPE(&ch->lock);
	if (ch->free_count < KEPT_SLOTS) {
		s->next = ch->free;
		ch->free = s;
		ch->free_count++;
	} else {
		unmap_slot_locked(ch, s);
	}
	pthread_cond_signal(&ch->slot_back);
}

void fuse_channel_stop(struct fuse_channel *ch)
{
	HITHER_LOCK_SCOPE(&ch->lock);
	ch->stopped = true;
	pthread_cond_broadcast(&ch->slot_back);
}

bool fuse_channel_stopped(struct fuse_channel *ch)
{
	HITHER_LOCK_SCOPE(&ch->lock);
	return ch->stopped;
}

/* --- answering --- */

static int write_device(struct fuse_channel *ch, const struct iovec *iov, int count)
{
	int result = -ENODEV;
	pthread_rwlock_rdlock(&ch->gate);
	if (ch->fd >= 0)
		result = writev(ch->fd, iov, count) < 0 ? -errno : 0;
	pthread_rwlock_unlock(&ch->gate);
	return result;
}

int fuse_reply(struct fuse_channel *ch, uint64_t unique, int error, const void *payload, size_t len)
{
	if (error)
		len = 0;
	struct fuse_out_header out = {
	        .len = (uint32_t)(sizeof out + len), .error = error, .unique = unique};
	struct iovec iov[2] = {{&out, sizeof out}, {(void *)payload, len}};
	return write_device(ch, iov, len ? 2 : 1);
}

int fuse_reply_slot(struct fuse_slot *s, int error, size_t len)
{
	struct fuse_out_header out = {.len = (uint32_t)(sizeof out + (error ? 0 : len)),
	                              .error = error,
	                              .unique = s->unique};
	char *start = (char *)fuse_slot_data(s) - sizeof out;
	memcpy(start, &out, sizeof out);
	struct iovec iov = {start, out.len};
	return write_device(s->channel, &iov, 1);
}

int fuse_notify(struct fuse_channel *ch, enum fuse_notify_code code, const void *head,
                size_t head_len, const void *data, size_t len)
{
	struct fuse_out_header out = {.len = (uint32_t)(sizeof out + head_len + len),
	                              .error = (int)code};
	struct iovec iov[3] = {{&out, sizeof out}, {(void *)head, head_len}, {(void *)data, len}};
	return write_device(ch, iov, len ? 3 : 2);
}

/*
 * What a program is told. What may pass by itself has been tried until the deadline: it is EIO to
 * whoever reads a file. The kernel takes codes up to 511, and ENOSYS would mean "never ask again".
 */
static int program_errno(int result)
{
	if (result >= 0)
		return 0;
	if (result <= -512 || result == -ENOSYS || result == -ECANCELED ||
	    hither_error_is_transient(result))
		return -EIO;
	return result;
}

static void answer(struct fuse_slot *s, int result)
{
	int error = program_errno(result);
	if (s->io.op == HITHER_IO_READ) {
		int sent = fuse_reply_slot(s, error, s->io.len);
		if (sent && sent != -ENOENT && sent != -ENODEV)
			fuse_reply_slot(s, -EIO, 0); /* the kernel could not take the bytes */
		return;
	}
	if (s->io.op == HITHER_IO_WRITE && !error)
		error = s->write_error;
	struct fuse_write_out out = {.size = s->write_done};
	fuse_reply(s->channel, s->unique, error, &out,
	           s->io.op == HITHER_IO_WRITE ? sizeof out : 0);
}

/* --- submitting and finishing --- */

static void release_slot(struct fuse_channel *ch, struct fuse_slot *s)
{
	pthread_mutex_lock(&ch->lock);
	bool last = --s->refs == 0;
	pthread_mutex_unlock(&ch->lock);
	if (last)
		fuse_slot_put(ch, s);
}

static uint64_t slot_cost(const struct fuse_slot *s)
{
	return s->io.op == HITHER_IO_READ ? s->io.len : 0;
}

static bool room_for(struct fuse_channel *ch, const struct fuse_slot *s)
{
	return atomic_load_explicit(&ch->parked_bytes, memory_order_relaxed) + slot_cost(s) <=
	       PARKED_READ_BYTES;
}

static void park_locked(struct fuse_channel *ch, struct fuse_slot *s)
{
	s->phase = FUSE_PARKED;
	ring_add(&ch->parked, s);
	ch->refs++;
	ch->parked_bytes += slot_cost(s);
}

static void unpark_locked(struct fuse_channel *ch, struct fuse_slot *s)
{
	ring_remove(s);
	ch->parked_bytes -= slot_cost(s);
}

static struct fuse_slot *take_queued(struct fuse_channel *ch)
{
	HITHER_LOCK_SCOPE(&ch->lock);
	struct fuse_slot *s = ch->queued.next;
	if (s == &ch->queued || !room_for(ch, s))
		return NULL;
	ring_remove(s);
	s->phase = FUSE_SUBMITTING;
	return s;
}

static bool submit_now(struct fuse_slot *s);

/* Some read has ended: there may be room for those that wait for memory. */
static void submit_queued(struct fuse_channel *ch)
{
	struct fuse_slot *s;
	while ((s = take_queued(ch)))
		if (submit_now(s))
			fuse_slot_put(ch, s);
}

/* The end of an access that had left its submitter's hands, or is leaving them right now. */
static void finish_elsewhere(struct fuse_slot *s, int result)
{
	struct fuse_channel *ch = s->channel;
	pthread_mutex_lock(&ch->lock);
	if (s->phase == FUSE_PARKED)
		unpark_locked(ch, s);
	else
		ch->refs++; /* the submitter, still inside, keeps ch until here; from here on we do
		             */
	s->phase = FUSE_FINISHED;
	bool wanted = !s->abandoned;
	pthread_mutex_unlock(&ch->lock);
	if (wanted)
		answer(s, result);
	release_slot(ch, s);
	submit_queued(ch);
	channel_unref(ch);
}

static void io_done(struct hither_io *io, int result, const struct hither_error *err)
{
	struct fuse_slot *s = HITHER_CONTAINER(io, struct fuse_slot, io);
	const struct fuse_failed *failed = &s->channel->failed;
	if (result && result != -ECANCELED && err && failed->tell)
		failed->tell(failed->user, err); /* a program gets no text */
	if (pthread_equal(s->submitter, pthread_self()) && !s->submitter_left) {
		s->answered = true;
		answer(s, result);
	} else {
		finish_elsewhere(s, result);
	}
}

/* A hit takes no lock here: s is private until submit has returned without an answer. */
static bool submit_now(struct fuse_slot *s)
{
	struct fuse_channel *ch = s->channel;
	s->refs = 2;
	s->submitter = pthread_self();
	s->submitter_left = s->answered = false;
	s->io.done = io_done;
	hither_mount_submit(s->mount, &s->io);
	if (s->answered)
		return true;
	pthread_mutex_lock(&ch->lock);
	s->submitter_left = true;
	if (s->phase != FUSE_FINISHED)
		park_locked(ch, s);
	bool last = --s->refs == 0;
	pthread_mutex_unlock(&ch->lock);
	if (last)
		fuse_slot_put(ch, s);
	return false;
}

static bool queue_if_full(struct fuse_slot *s)
{
	struct fuse_channel *ch = s->channel;
	if (slot_cost(s) == 0 || room_for(ch, s))
		return false;
	HITHER_LOCK_SCOPE(&ch->lock);
	/* Once more, under the lock: whoever ends a read after this looks at the queue. */
	if (room_for(ch, s))
		return false;
	s->phase = FUSE_QUEUED;
	ring_add(&ch->queued, s);
	return true;
}

bool fuse_submit(struct fuse_slot *s)
{
	s->abandoned = false;
	s->phase = FUSE_SUBMITTING;
	if (queue_if_full(s))
		return false;
	return submit_now(s);
}

/* --- giving up --- */

void fuse_interrupt(struct fuse_channel *ch, uint64_t unique, uint64_t target)
{
	bool give_up = false, again = false;
	struct fuse_slot *drop = NULL;
	pthread_mutex_lock(&ch->lock);
	struct fuse_slot *s = ring_find(&ch->queued, target);
	if (s) {
		ring_remove(s);
		drop = s;
		give_up = true;
	} else if ((s = ring_find(&ch->parked, target))) {
		give_up = s->interruptible && !s->abandoned;
		s->abandoned |= give_up;
	} else {
		again = true;
	}
	pthread_mutex_unlock(&ch->lock);
	fuse_slot_put(ch, drop);
	if (give_up)
		fuse_reply(ch, target, -EINTR, NULL, 0);
	/*
	 * Not seen yet: a thread has just taken it, or is just answering. EAGAIN makes the kernel
	 * ask again for as long as the request lives.
	 */
	if (again)
		fuse_reply(ch, unique, -EAGAIN, NULL, 0);
}

void fuse_channel_shut(struct fuse_channel *ch)
{
	pthread_rwlock_wrlock(&ch->gate);
	if (ch->fd >= 0)
		close(ch->fd);
	ch->fd = -1;
	pthread_rwlock_unlock(&ch->gate);

	pthread_mutex_lock(&ch->lock);
	struct fuse_slot *s;
	while ((s = ch->queued.next) != &ch->queued) {
		ring_remove(s);
		unmap_slot_locked(ch, s);
	}
	pthread_mutex_unlock(&ch->lock);
}

void fuse_channel_drop(struct fuse_channel *ch)
{
	if (!ch)
		return;
	fuse_channel_shut(ch);
	channel_unref(ch);
}
