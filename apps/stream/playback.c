/* SPDX-License-Identifier: Apache-2.0 */
#include "playback.h"

#include "util.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define JUMP_US UINT64_C(3000000)  /* told twice a second or so: this is no playing on */
#define ROUNDED_US UINT64_C(20000) /* so much before its key frame a time may be told */
#define LOOK_AGAIN_NS (NS_PER_S / 2)
#define CUSHION_US UINT64_C(1500000)
/* At the start all is slower, and nobody looks at a picture yet. */
#define START_CUSHION_US UINT64_C(1200000)

struct peeking_source {
	struct hither_media_source base;
	struct hither_mount *mount;
};

struct playback {
	struct hither_mount *mount;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t idle;
	struct hither_media media;
	bool settled; /* the index is known, or known to be of no use */
	uint64_t looked_ns;
	bool told;
	uint64_t playhead_us;
	uint64_t read_at; /* in the file, last */
	bool read;        /* anything */
	uint32_t stalls;
	uint64_t stalled_ns, stall_began_ns; /* 0: it does not stall */
	struct hither_io pull;
	bool pulling;
};

static int peek(const struct hither_media_source *s, void *buf, size_t len, uint64_t offset)
{
	const struct peeking_source *p = (const struct peeking_source *)s;
	return hither_mount_peek(p->mount, buf, len, offset);
}

/* The order has the index fetched; it is read here once it is local. */
static void settle_locked(struct playback *p)
{
	struct hither_range wanted;
	uint64_t now = now_ns();
	if (p->settled || (p->looked_ns && now - p->looked_ns < LOOK_AGAIN_NS))
		return;
	struct peeking_source source = {{hither_mount_size(p->mount), peek}, p->mount};
	int r = hither_media_parse(&source.base, &p->media, &wanted, NULL);
	p->looked_ns = now_ns();
	p->settled = r != -EAGAIN;
}

int playback_create(struct hither_mount *mount, struct playback **out, struct hither_error *err)
{
	struct playback *p = calloc(1, sizeof *p);
	if (!p)
		return hither_fail(err, -ENOMEM, "no memory");
	p->mount = mount;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->idle, NULL);
	*out = p;
	return 0;
}

void playback_destroy(struct playback *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	while (p->pulling)
		pthread_cond_wait(&p->idle, &p->lock);
	pthread_mutex_unlock(&p->lock);
	hither_media_finish(&p->media);
	pthread_cond_destroy(&p->idle);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* --- the place jumped to --- */

static void pulled(struct hither_io *io, int result, const struct hither_error *err)
{
	struct playback *p =
	        (struct playback *)(void *)((char *)io - offsetof(struct playback, pull));
	pthread_mutex_lock(&p->lock);
	p->pulling = false;
	pthread_cond_broadcast(&p->idle);
	pthread_mutex_unlock(&p->lock);
}

/* Prepare a read without a buffer, by which the order learns of the place: the rest is its work,
 * and costs nothing where the player was quicker. */
static bool jump_locked(struct playback *p, uint64_t time_us)
{
	size_t number = hither_media_key_at(&p->media, time_us + ROUNDED_US);
	if (number >= p->media.piece_count || p->pulling)
		return false;
	p->pulling = true;
	p->pull = (struct hither_io){.op = HITHER_IO_READ,
	                             .offset = p->media.pieces[number].offset,
	                             .len = 1,
	                             .done = pulled};
	return true;
}

void playback_told(struct playback *p, uint64_t time_us)
{
	pthread_mutex_lock(&p->lock);
	settle_locked(p);
	uint64_t from = p->playhead_us;
	bool jumped = time_us > from + JUMP_US || from > time_us + JUMP_US;
	p->told = true;
	p->playhead_us = time_us;
	bool pull = jumped && jump_locked(p, time_us);
	pthread_mutex_unlock(&p->lock);
	if (pull)
		hither_mount_submit(p->mount, &p->pull);
}

/* --- what is told --- */

void playback_stalled(struct playback *p, bool waits)
{
	pthread_mutex_lock(&p->lock);
	uint64_t now = now_ns();
	if (waits && !p->stall_began_ns) {
		p->stalls++;
		p->stall_began_ns = now;
	} else if (!waits && p->stall_began_ns) {
		p->stalled_ns += now - p->stall_began_ns;
		p->stall_began_ns = 0;
	}
	pthread_mutex_unlock(&p->lock);
}

void playback_stalls(struct playback *p, uint32_t stalls, uint64_t stalled_us)
{
	pthread_mutex_lock(&p->lock);
	p->stalls = stalls;
	p->stalled_ns = stalled_us * 1000;
	pthread_mutex_unlock(&p->lock);
}

/* How much of it shall be ahead of whoever begins to read at offset. */
static uint64_t cushion_us_locked(const struct playback *p, uint64_t offset)
{
	uint64_t from, to;
	bool plays = hither_media_time_of(&p->media, offset, &to);
	/* Who begins with what is in front of the first sample goes on with that. */
	if (!p->read && (plays || offset < p->media.pieces[0].offset))
		return START_CUSHION_US;
	return plays && hither_media_time_of(&p->media, p->read_at, &from) &&
	                       (to > from + JUMP_US || from > to + JUMP_US)
	               ? CUSHION_US
	               : 0;
}

uint64_t playback_cushion(struct playback *p, uint64_t offset)
{
	struct hither_mount_stats stats;
	uint64_t second = 0, bytes = 0;
	hither_mount_stats(p->mount, &stats);
	pthread_mutex_lock(&p->lock);
	settle_locked(p);
	if (p->settled && p->media.piece_count && p->media.duration_us)
		second = stats.size_bytes * 1000000 / p->media.duration_us;
	if (second && stats.rate_bytes && stats.rate_bytes / 2 < second)
		bytes = second * cushion_us_locked(p, offset) / 1000000;
	pthread_mutex_unlock(&p->lock);
	return bytes;
}

void playback_read(struct playback *p, uint64_t offset)
{
	pthread_mutex_lock(&p->lock);
	p->read_at = offset;
	p->read = true;
	pthread_mutex_unlock(&p->lock);
}

/* --- the picture --- */

static bool is_local(struct hither_mount *m, uint64_t offset, uint64_t len)
{
	while (len) {
		uint32_t kind;
		uint64_t run = hither_mount_extent(m, offset, len, &kind);
		if (!(kind & HITHER_EXTENT_LOCAL))
			return false;
		offset += run;
		len -= run;
	}
	return true;
}

/* Pieces are in the order of their times: the first that is not local ends it. */
static uint64_t buffered_us(struct hither_mount *mount, const struct hither_media *m,
                            uint64_t time_us)
{
	size_t i = hither_media_at_time(m, time_us);
	while (i < m->piece_count && is_local(mount, m->pieces[i].offset, m->pieces[i].len))
		i++;
	uint64_t end = i < m->piece_count ? m->pieces[i].time_us : m->duration_us;
	return end > time_us ? end - time_us : 0;
}

void playback_picture(struct playback *p, struct playback_picture *out)
{
	pthread_mutex_lock(&p->lock);
	settle_locked(p);
	uint64_t stall = p->stall_began_ns ? now_ns() - p->stall_began_ns : 0;
	*out = (struct playback_picture){.told = p->told,
	                                 .playhead_us = p->playhead_us,
	                                 .stalls = p->stalls,
	                                 .stalled_us = (p->stalled_ns + stall) / 1000};
	if (p->settled && p->media.piece_count) {
		out->format = p->media.format;
		out->duration_us = p->media.duration_us;
		if (!p->told)
			hither_media_time_of(&p->media, p->read_at, &out->playhead_us);
		out->buffered_us = buffered_us(p->mount, &p->media, out->playhead_us);
	}
	pthread_mutex_unlock(&p->lock);
}
