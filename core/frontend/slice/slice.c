/* SPDX-License-Identifier: Apache-2.0 */
/* A slice's life, and what it and the mount tell each other. */
#include "slice_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { FOLLOW_BLOCKS = 8 }; /* shorter pieces are mapped whole */

/* --- which blocks are mapped --- */

uint64_t slice_run(const struct hither_slice *s, uint64_t first, uint64_t end, bool mapped,
                   uint64_t *run_first)
{
	uint64_t at = first;
	while (at < end && slice_is_mapped(s, at) != mapped) {
		uint64_t word = atomic_load_explicit(&s->mapped[at / 64], memory_order_acquire);
		at += at % 64 == 0 && word == (mapped ? 0 : UINT64_MAX) ? 64 : 1;
	}
	if (at >= end)
		return 0;
	*run_first = at;
	while (at < end && slice_is_mapped(s, at) == mapped) {
		uint64_t word = atomic_load_explicit(&s->mapped[at / 64], memory_order_acquire);
		at += at % 64 == 0 && word == (mapped ? UINT64_MAX : 0) ? 64 : 1;
	}
	return (at < end ? at : end) - *run_first;
}

static void set_mapped(struct hither_slice *s, uint64_t first, uint64_t end, bool mapped)
{
	for (uint64_t at = first; at < end;) {
		uint64_t stop = (at / 64 + 1) * 64 < end ? (at / 64 + 1) * 64 : end;
		uint64_t bits = (stop - at == 64 ? UINT64_MAX : (UINT64_C(1) << (stop - at)) - 1)
		                << at % 64;
		if (mapped)
			atomic_fetch_or(&s->mapped[at / 64], bits);
		else
			atomic_fetch_and(&s->mapped[at / 64], ~bits);
		at = stop;
	}
	if (mapped)
		s->mapped_count += end - first;
	else
		s->mapped_count -= end - first;
}

static int map_pinned(struct hither_slice *s, uint64_t first, uint64_t end)
{
	uint64_t run;
	int r = 0;
	pthread_rwlock_rdlock(&s->mapping);
	for (uint64_t at = first; !r && (run = slice_run(s, at, end, false, &at)) > 0; at += run) {
		if (s->tracker->mapped)
			s->tracker->mapped(s, at, at + run);
		r = uffd_continue(&s->uffd, slice_addr(s, at), run << SLICE_BLOCK_SHIFT,
		                  s->tracker->features != 0);
		if (!r)
			set_mapped(s, at, at + run, true);
	}
	pthread_rwlock_unlock(&s->mapping);
	return r;
}

int slice_map_present(struct hither_slice *s, uint64_t first, uint64_t end)
{
	uint64_t at, run;
	while ((run = slice_run(s, first, end, false, &at)) > 0) {
		struct mount_memory_pin pin;
		first = at + run;
		if (!mount_memory_pin(s->mount, &pin, s->mount_first + at,
		                      s->mount_first + at + run))
			continue;
		first = pin.end - s->mount_first;
		int r = map_pinned(s, pin.first - s->mount_first, first);
		mount_memory_unpin(s->mount, &pin);
		if (r)
			return r;
	}
	return 0;
}

void slice_written(struct hither_slice *s, uint64_t first, uint64_t end)
{
	s->written_count += end - first;
	int r = mount_memory_touched(s->mount, s->mount_first + first, s->mount_first + end);
	if (!r)
		return;
	slice_trouble(s, r, "no memory to note which pages were written; it is tried again");
	if (s->tracker->again)
		s->tracker->again(s, first, end);
}

void slice_collect(struct hither_slice *s)
{
	if (!s->writable || !s->tracker->scan)
		return;
	pthread_rwlock_wrlock(&s->mapping);
	s->tracker->scan(s, 0, s->block_count);
	pthread_rwlock_unlock(&s->mapping);
	s->scans++;
}

void slice_trouble(struct hither_slice *s, int code, const char *message)
{
	HITHER_LOCK_SCOPE(&s->lock);
	hither_fail(&s->trouble, code, "%s", message);
}

/* --- the mount's hooks --- */

static bool clip(const struct hither_slice *s, uint64_t *first, uint64_t *end)
{
	uint64_t to = s->mount_first + s->block_count;
	if (*end <= s->mount_first || *first >= to)
		return false;
	*first = *first > s->mount_first ? *first - s->mount_first : 0;
	*end = (*end < to ? *end : to) - s->mount_first;
	return true;
}

/*
 * Of regions that are only read: else a write between the filling and the end of the pull would be
 * found while the block counts as absent. `follow` wants to hear of who comes to what was pulled.
 */
static bool on_fill(struct mount_memory_watch *w, uint64_t first, uint64_t end, const void *bytes)
{
	struct hither_slice *s = (struct hither_slice *)w;
	uint64_t all = end - first;
	if (!clip(s, &first, &end) || end - first != all)
		return false;
	pthread_rwlock_rdlock(&s->mapping);
	int r = uffd_copy(&s->uffd, slice_addr(s, first), bytes, all << SLICE_BLOCK_SHIFT);
	if (!r)
		set_mapped(s, first, end, true);
	pthread_rwlock_unlock(&s->mapping);
	return !r;
}

static void on_arrived(struct mount_memory_watch *w, uint64_t first, uint64_t end)
{
	struct hither_slice *s = (struct hither_slice *)w;
	if (!clip(s, &first, &end))
		return;
	/* Who reads on meets a page that is not mapped, and the order hears of it. */
	if (s->follow && end - first >= FOLLOW_BLOCKS)
		first++;
	int r = slice_map_present(s, first, end);
	if (r)
		slice_trouble(s, r, "mapping what has arrived failed");
}

static void on_pushing(struct mount_memory_watch *w, uint64_t first, uint64_t end)
{
	struct hither_slice *s = (struct hither_slice *)w;
	if (!s->tracker->rearm || !clip(s, &first, &end))
		return;
	pthread_rwlock_wrlock(&s->mapping);
	s->tracker->rearm(s, first, end);
	pthread_rwlock_unlock(&s->mapping);
}

static void on_leaving(struct mount_memory_watch *w, uint64_t first, uint64_t end)
{
	struct hither_slice *s = (struct hither_slice *)w;
	uint64_t run;
	if (!clip(s, &first, &end))
		return;
	pthread_rwlock_wrlock(&s->mapping);
	for (uint64_t at = first; (run = slice_run(s, at, end, true, &at)) > 0; at += run) {
		s->tracker->unmap(s, at, at + run);
		set_mapped(s, at, at + run, false);
		s->unmapped_count += run;
	}
	pthread_rwlock_unlock(&s->mapping);
}

static void on_collect(struct mount_memory_watch *w)
{
	slice_collect((struct hither_slice *)w);
}

/* --- open --- */

/* Over a mount whose store cannot be mapped: a managed mount of its own, which only fetches what is
 * touched. */
static int make_own_mount(struct hither_slice *s, struct hither_mount *m,
                          const struct hither_slice_options *o, struct hither_error *err)
{
	struct hither_backend *through;
	struct hither_mount_options options = {.pull_off = true,
	                                       .order = "none",
	                                       .chunk_bytes = o->chunk_bytes,
	                                       .resident_bytes = o->resident_bytes,
	                                       .workers = 64};
	int r = slice_through(m, s->writable, &through, err);
	if (r)
		return r;
	r = hither_mount_backend(through, "slice", &options, &s->mount, err);
	if (r)
		hither_backend_close(through);
	s->own_mount = !r;
	return r;
}

static int take_options(struct hither_slice *s, struct hither_mount *m,
                        const struct hither_slice_options *o, struct hither_error *err)
{
	uint64_t size = hither_mount_size(m);
	if (o->offset % SLICE_BLOCK_BYTES)
		return hither_fail(err, -EINVAL, "a slice's offset must be a multiple of 4096");
	if (!size)
		return hither_fail(err, -EINVAL, "the resource is empty: there is nothing to map");
	if (o->offset >= size || o->len > size - o->offset)
		return hither_fail(err, -EINVAL, "a slice must lie within the mount's %llu bytes",
		                   (unsigned long long)size);
	s->size_bytes = o->len ? o->len : size - o->offset;
	if (s->size_bytes > SIZE_MAX / 2)
		return hither_fail(err, -EFBIG, "%llu bytes are too many to map",
		                   (unsigned long long)s->size_bytes);
	s->mount_first = o->offset >> SLICE_BLOCK_SHIFT;
	s->block_count = (s->size_bytes + SLICE_BLOCK_BYTES - 1) >> SLICE_BLOCK_SHIFT;
	s->writable = hither_mount_writable(m) && !o->read_only;
	s->faults = o->faults;
	s->follow = o->follow;
	s->scan_ms = o->scan_ms ? o->scan_ms : 1000;
	s->mount = m;
	int r = mount_memory_fd(m) < 0 ? make_own_mount(s, m, o, err) : 0;
	if (!r)
		s->chunk_blocks = mount_memory_chunk_bytes(s->mount) >> SLICE_BLOCK_SHIFT;
	return r;
}

int slice_bits_create(struct hither_slice *s, struct hither_error *err)
{
	s->mapped = calloc((s->block_count + 63) / 64, sizeof *s->mapped);
	return s->mapped ? 0 : hither_fail(err, -ENOMEM, "no memory for a slice");
}

static int map_region(struct hither_slice *s, struct hither_error *err)
{
	size_t len = s->block_count << SLICE_BLOCK_SHIFT;
	void *p = mmap(NULL, len, PROT_READ | (s->writable ? PROT_WRITE : 0), MAP_SHARED,
	               mount_memory_fd(s->mount), (off_t)(s->mount_first << SLICE_BLOCK_SHIFT));
	if (p == MAP_FAILED)
		return hither_fail(err, -errno, "mapping %zu bytes: %s", len, strerror(errno));
	s->data = p;
	/* A child would see, and make, zeros where nobody answers its faults. */
	if (madvise(p, len, MADV_DONTFORK) < 0)
		return hither_fail(err, -errno, "MADV_DONTFORK: %s", strerror(errno));
	madvise(p, len, MADV_NOHUGEPAGE); /* fails where there are none */
	return slice_bits_create(s, err);
}

static int set_up(struct hither_slice *s, struct hither_mount *m,
                  const struct hither_slice_options *o, struct hither_error *err)
{
	uint64_t features = 0;
	int r = slice_tracker_choose(s, o->tracking, o->user_faults_only, &features, err);
	if (!r)
		r = take_options(s, m, o, err);
	if (!r && !s->writable)
		s->tracker = &slice_track_none, features &= ~(uint64_t)UFFD_FEATURE_WP_ASYNC;
	if (s->faults == HITHER_SLICE_FAULTS_SIGBUS)
		features |= UFFD_FEATURE_SIGBUS;
	if (!r)
		r = uffd_open(&s->uffd, o->user_faults_only, features, err);
	if (!r)
		r = map_region(s, err);
	if (!r)
		r = uffd_register(&s->uffd, s->data, s->block_count << SLICE_BLOCK_SHIFT,
		                  s->tracker->features != 0, err);
	if (!r && s->tracker->open)
		r = s->tracker->open(s, err);
	if (!r && s->faults == HITHER_SLICE_FAULTS_SIGBUS)
		r = slice_bus_add(s, err);
	if (!r)
		r = slice_threads_start(s, err);
	return r;
}

void slice_free(struct hither_slice *s)
{
	if (s->tracker && s->tracker->close)
		s->tracker->close(s);
	if (s->data && !s->remote)
		munmap(s->data, s->block_count << SLICE_BLOCK_SHIFT);
	if (s->uffd.fd >= 0)
		close(s->uffd.fd);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	pthread_rwlock_destroy(&s->mapping);
	pthread_mutex_destroy(&s->lead);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->idle);
	free(s->mapped);
	free(s);
}

int slice_new(struct hither_slice **out, struct hither_error *err)
{
	struct hither_slice *s = calloc(1, sizeof *s);
	if (!s)
		return hither_fail(err, -ENOMEM, "no memory for a slice");
	s->uffd.fd = s->stop_fd = s->pagemap_fd = s->peer_fd = -1;
	pthread_rwlock_init(&s->mapping, NULL);
	pthread_mutex_init(&s->lead, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->idle, NULL);
	slice_near_init(s);
	*out = s;
	return 0;
}

void slice_watch(struct hither_slice *s)
{
	s->watch = (struct mount_memory_watch){.arrived = on_arrived,
	                                       .pushing = on_pushing,
	                                       .leaving = on_leaving,
	                                       .collect = on_collect};
	if (s->tracker->kind == HITHER_SLICE_TRACK_NONE && !s->follow)
		s->watch.fill = on_fill;
	mount_memory_watch(s->mount, &s->watch);
}

void slice_stop(struct hither_slice *s)
{
	slice_threads_stop(s);
	slice_waits_finish(s);
}

int hither_slice_open(struct hither_mount *m, const struct hither_slice_options *options,
                      struct hither_slice **out, struct hither_error *err)
{
	struct hither_slice *s;
	int r = slice_new(&s, err);
	if (r)
		return r;
	r = set_up(s, m, options, err);
	if (r) {
		slice_bus_remove(s);
		struct hither_mount *own = s->own_mount ? s->mount : NULL;
		slice_free(s);
		hither_mount_close(own, NULL);
		return r;
	}
	slice_watch(s);
	*out = s;
	return 0;
}

/* --- calls --- */

void *hither_slice_data(const struct hither_slice *s)
{
	return s->data;
}

uint64_t hither_slice_size(const struct hither_slice *s)
{
	return s->size_bytes;
}

int hither_slice_prefault(struct hither_slice *s, uint64_t offset, uint64_t len,
                          struct hither_error *err)
{
	if (offset > s->size_bytes || len > s->size_bytes - offset)
		return hither_fail(err, -EINVAL, "offset %llu: beyond the end of the slice",
		                   (unsigned long long)offset);
	uint64_t at = offset >> SLICE_BLOCK_SHIFT;
	uint64_t end = (offset + len + SLICE_BLOCK_BYTES - 1) >> SLICE_BLOCK_SHIFT;
	while (len > 0 && slice_run(s, at, end, false, &at) > 0) {
		int r = slice_fault_here(s, at, false, err);
		if (r)
			return r;
		at++;
	}
	return 0;
}

static void zero_blocks(struct hither_slice *s, uint64_t from, uint64_t to)
{
	if (from < to)
		memset(slice_addr(s, from - s->mount_first), 0, (to - from) << SLICE_BLOCK_SHIFT);
}

int hither_slice_discard(struct hither_slice *s, uint64_t offset, uint64_t len,
                         struct hither_error *err)
{
	if (offset > s->size_bytes || len > s->size_bytes - offset)
		return hither_fail(err, -EINVAL, "offset %llu: beyond the end of the slice",
		                   (unsigned long long)offset);
	if (!s->writable || s->own_mount)
		return hither_fail(err, -EOPNOTSUPP,
		                   "only a writable slice that maps its mount's store can discard");
	uint64_t from = s->mount_first + ((offset + SLICE_BLOCK_BYTES - 1) >> SLICE_BLOCK_SHIFT),
	         to = s->mount_first + ((offset + len) >> SLICE_BLOCK_SHIFT);
	uint64_t unit = mount_memory_unit_blocks(s->mount);
	uint64_t first = (from + unit - 1) / unit * unit, end = to / unit * unit;
	if (from >= to)
		return 0;
	int r = first < end ? mount_memory_discard(s->mount, first, end, err) : 0;
	if (r)
		return r;
	/* What shares a unit with bytes that stay is made zeros by hand. */
	zero_blocks(s, from, first < to ? first : to);
	zero_blocks(s, end > first ? end : first, to);
	return 0;
}

void hither_slice_collect(struct hither_slice *s)
{
	slice_collect(s);
}

int hither_slice_flush(struct hither_slice *s, struct hither_error *err)
{
	return hither_mount_flush(s->mount, err);
}

void hither_slice_stats(struct hither_slice *s, struct hither_slice_stats *out)
{
	*out = (struct hither_slice_stats){
	        .tracking = s->tracker->kind,
	        .faults = s->faults,
	        .kernel_faults = s->uffd.kernel_faults && s->faults == HITHER_SLICE_FAULTS_THREAD,
	        .shares_store = !s->own_mount,
	        .mapped_bytes = s->mapped_count * SLICE_BLOCK_BYTES,
	        .fault_count = s->fault_count,
	        .fault_waits = s->fault_waits,
	        .write_faults = s->write_faults,
	        .scans = s->scans,
	        .written_bytes = s->written_count * SLICE_BLOCK_BYTES,
	        .unmapped_bytes = s->unmapped_count * SLICE_BLOCK_BYTES,
	        .failed_bytes = s->failed_count * SLICE_BLOCK_BYTES,
	        .wait_p50_ns = slice_wait_quantile(s, 500),
	        .wait_p99_ns = slice_wait_quantile(s, 990),
	};
	HITHER_LOCK_SCOPE(&s->lock);
	out->error = s->trouble.code;
	memcpy(out->message, s->trouble.message, sizeof out->message);
	out->message[sizeof out->message - 1] = 0;
}

int hither_slice_close(struct hither_slice *s, struct hither_error *err)
{
	if (!s)
		return 0;
	slice_clients_finish(s);
	slice_collect(s);
	mount_memory_unwatch(s->mount, &s->watch);
	slice_bus_remove(s);
	slice_stop(s);
	struct hither_mount *own = s->own_mount ? s->mount : NULL;
	slice_free(s);
	return hither_mount_close(own, err);
}
