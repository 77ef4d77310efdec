/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "claim.h"
#include "lease.h"
#include "note.h"
#include "patience.h"

#include <errno.h>
#include <fcntl.h>
#include <hither/layer.h>
#include <hither/slice.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };
enum { NOTE_NS = 500 * 1000 * 1000, MIB_SHIFT = 20, MOVE_BYTES = 4 << 20 };

/* One a process, never taken down: what the program still touches at its very end must be there. */
static struct {
	struct pool pool;
	struct hither_mount *mount;
	struct hither_slice *slice;
	pthread_mutex_t lock; /* guards lease and discarded */
	struct lease lease;
	uint64_t discarded_bytes;
	uint64_t limit_bytes;
	_Atomic bool guarded; /* some page may be neither readable nor writable */
	struct note *note;
	void (*inner)(void);
} it = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- threads --- */

struct beginning {
	void *(*main)(void *);
	void *arg;
};

static void *thread_main(void *arg)
{
	struct beginning b = *(struct beginning *)arg;
	it.inner();
	free(arg);
	return b.main(b.arg);
}

/*
 * Linked with --wrap=pthread_create: hither's threads allocate outside of the pool, and leave the
 * program's signals to the program's threads.
 */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *),
                          void *arg)
{
	sigset_t all, before;
	struct beginning *b = malloc(sizeof *b);
	if (!b)
		return EAGAIN;
	*b = (struct beginning){main, arg};
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = __real_pthread_create(thread, attr, thread_main, b);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		free(b);
	return r;
}

/* --- what is told --- */

static void write_note(struct note *n)
{
	struct hither_mount_stats m;
	struct hither_slice_stats s;
	hither_mount_stats(it.mount, &m);
	hither_slice_stats(it.slice, &s);
	pthread_mutex_lock(&it.lock);
	n->taken_bytes = it.lease.taken_bytes;
	n->discarded_bytes = it.discarded_bytes;
	pthread_mutex_unlock(&it.lock);
	n->limit_bytes = it.limit_bytes;
	n->resident_bytes = m.local_bytes;
	n->dirty_bytes = m.dirty_bytes;
	n->in_bytes = m.pulled_bytes;
	n->out_bytes = m.pushed_bytes;
	n->faults = s.fault_count;
	n->waits = s.fault_waits;
	n->wait_p50_ns = s.wait_p50_ns;
	n->wait_p99_ns = s.wait_p99_ns;
	n->rtt_ns = m.rtt_ns;
	n->kernel_faults = s.kernel_faults;
	n->error = m.error ? m.error : s.error;
	snprintf(n->message, sizeof n->message, "%s", m.error ? m.message : s.message);
	snprintf(n->tracking, sizeof n->tracking, "%s", hither_slice_tracking_name(s.tracking));
	__atomic_store_n(&n->magic, NOTE_MAGIC, __ATOMIC_RELEASE);
}

/* Counters have no event: whoever looks at them sees what they were at most NOTE_NS ago. */
static void *note_main(void *arg)
{
	const struct timespec pause = {.tv_nsec = NOTE_NS};
	for (;;) {
		write_note(arg);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* For the curious only: without it all goes on. */
static void start_note(const char *dir)
{
	char path[4096];
	pthread_t thread;
	snprintf(path, sizeof path, "%s/%ld", dir, (long)getpid());
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	struct note *n = MAP_FAILED;
	if (!ftruncate(fd, sizeof *n))
		n = mmap(NULL, sizeof *n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (n == MAP_FAILED)
		return;
	snprintf(n->command, sizeof n->command, "%s", program_invocation_short_name);
	it.note = n;
	if (!__wrap_pthread_create(&thread, NULL, note_main, n))
		pthread_detach(thread);
}

static void pool_why(char *text, size_t size)
{
	struct hither_slice_stats s;
	hither_slice_stats(it.slice, &s);
	if (it.note)
		write_note(it.note);
	snprintf(text, size, "%s", s.error ? s.message : "its pages were lost");
}

/* --- memory --- */

static uint64_t offset_of(const void *p)
{
	return (uint64_t)((const char *)p - it.pool.data);
}

static void *pool_take(size_t len, size_t align)
{
	uint64_t offset;
	pthread_mutex_lock(&it.lock);
	int r = lease_take(&it.lease, len, align, &offset);
	pthread_mutex_unlock(&it.lock);
	if (!r)
		return it.pool.data + offset;
	errno = ENOMEM;
	return NULL;
}

/* Zeros before anybody else can have it. */
static void forget(uint64_t offset, uint64_t len)
{
	struct hither_error err = {0};
	if (it.guarded)
		mprotect(it.pool.data + offset / PAGE * PAGE, len + offset % PAGE,
		         PROT_READ | PROT_WRITE);
	if (hither_slice_discard(it.slice, offset, len, &err)) {
		/* No memory for a map: then as a program would. */
		memset(it.pool.data + offset, 0, len);
		return;
	}
	pthread_mutex_lock(&it.lock);
	it.discarded_bytes += len;
	pthread_mutex_unlock(&it.lock);
}

static void pool_full(size_t len, char *text, size_t size)
{
	pthread_mutex_lock(&it.lock);
	uint64_t taken = it.lease.taken_bytes, most = lease_longest(&it.lease);
	pthread_mutex_unlock(&it.lock);
	snprintf(
	        text, size,
	        "an allocation of %zu MiB fails: of the %zu MiB of --size it has %llu, and at most "
	        "%llu are free in one piece",
	        len >> MIB_SHIFT, it.pool.size >> MIB_SHIFT, (unsigned long long)taken >> MIB_SHIFT,
	        (unsigned long long)most >> MIB_SHIFT);
}

/* Of one area. */
static void give_part(uint64_t offset, uint64_t len)
{
	forget(offset, len);
	/* A part that is no whole grain stays ours. */
	uint64_t first = (offset + LEASE_GRAIN - 1) / LEASE_GRAIN * LEASE_GRAIN,
	         end = (offset + len) / LEASE_GRAIN * LEASE_GRAIN;
	pthread_mutex_lock(&it.lock);
	if (first < end)
		lease_give(&it.lease, first, end - first);
	pthread_mutex_unlock(&it.lock);
}

/* What is given back at once may have been taken in pieces. */
static void pool_give(void *p, size_t len)
{
	uint64_t at = offset_of(p), end = at + len;
	do {
		pthread_mutex_lock(&it.lock);
		uint64_t has = lease_length(&it.lease, at);
		uint64_t n = !len || has < end - at ? has : lease_reach(&it.lease, at, end - at);
		pthread_mutex_unlock(&it.lock);
		if (n)
			give_part(at, n);
		at = n ? at + n : (at / LEASE_GRAIN + 1) * LEASE_GRAIN;
	} while (len && at < end);
}

static size_t pool_length(const void *p)
{
	pthread_mutex_lock(&it.lock);
	uint64_t len = lease_length(&it.lease, offset_of(p));
	pthread_mutex_unlock(&it.lock);
	return (size_t)len;
}

static bool pool_resize(void *p, size_t old, size_t len)
{
	uint64_t offset = offset_of(p);
	size_t keep = (len + PAGE - 1) / PAGE * PAGE;
	pthread_mutex_lock(&it.lock);
	uint64_t has = lease_length(&it.lease, offset);
	bool part = old && lease_reach(&it.lease, offset, old) < has; /* the rest is in use */
	bool done = !part && len >= has && lease_resize(&it.lease, offset, len);
	pthread_mutex_unlock(&it.lock);
	if (part ? len > old : len >= has)
		return done;
	uint64_t end = part ? old : has;
	if (keep < end)
		pool_give((char *)p + keep, (size_t)(end - keep));
	pthread_mutex_lock(&it.lock);
	if (!part)
		lease_resize(&it.lease, offset, len); /* notes how much of the last grain is used */
	pthread_mutex_unlock(&it.lock);
	return true;
}

static void pool_guard(void)
{
	it.guarded = true;
}

/* What has been copied is forgotten at once: it would only push out what is being copied. */
static void *pool_move(void *p, size_t has, size_t len)
{
	uint64_t offset;
	pthread_mutex_lock(&it.lock);
	int r = lease_take_growing(&it.lease, len, &offset);
	pthread_mutex_unlock(&it.lock);
	if (r) {
		errno = ENOMEM;
		return NULL;
	}
	char *from = p, *to = it.pool.data + offset;
	for (size_t at = 0; at < has && at < len; at += MOVE_BYTES) {
		size_t left = (has < len ? has : len) - at,
		       n = left < MOVE_BYTES ? left : MOVE_BYTES;
		memcpy(to + at, from + at, n);
		forget(offset_of(from + at), n);
	}
	pool_give(p, has);
	return to;
}

static void pool_clear(void *p, size_t len)
{
	forget(offset_of(p), len);
}

static void pool_forked(void)
{
	if (it.lease.fd >= 0)
		close(it.lease.fd); /* else what its parent had would not be free with its end */
}

/* --- start --- */

static uint64_t number(const char *name)
{
	const char *text = getenv(name);
	return text ? strtoull(text, NULL, 10) : 0;
}

/* The space is our own: what was never written need not be asked for. */
static int add_layer(struct hither_backend **b, struct hither_error *err)
{
	const char *pack = getenv(RUN_PACK);
	bool encrypt = getenv(RUN_ENCRYPT) != NULL;
	if (!pack && !encrypt)
		return hither_layer_fresh(*b, b, err);
	return hither_layer_seal(*b,
	                         !pack                  ? HITHER_PACK_NONE
	                         : !strcmp(pack, "lz4") ? HITHER_PACK_LZ4
	                                                : HITHER_PACK_ZSTD,
	                         encrypt, b, err);
}

/* What every connection must find at the server: that it is ours. */
static bool find_witness(unsigned char witness[CLAIM_WITNESS_BYTES])
{
	unsigned char id[CLAIM_ID_BYTES];
	const char *text = getenv(RUN_CLAIM);
	for (int i = 0; text && i < CLAIM_ID_BYTES; i++)
		if (sscanf(text + (size_t)(2 * i), "%2hhx", &id[i]) != 1)
			return false;
	claim_witness(id, witness);
	return text != NULL;
}

static int open_backend(struct hither_backend **out, struct hither_error *err)
{
	struct hither_backend *b = NULL, *second = NULL;
	unsigned char witness[CLAIM_WITNESS_BYTES];
	const struct server_patience patience =
	        server_patience((uint32_t)number(RUN_DEADLINE_MS), getenv(RUN_MIRROR) != NULL);
	const struct hither_backend_options o = {
	        .writable = true,
	        .parallel = (uint32_t)number(RUN_CONNECTIONS) * 4,
	        .idle_timeout_ms = patience.idle_ms,
	        .connect_timeout_ms = patience.connect_ms,
	        .ca_file = getenv(RUN_CA),
	        .cert_file = getenv(RUN_CERT),
	        .key_file = getenv(RUN_KEY),
	        .witness = find_witness(witness) ? witness : NULL,
	        .witness_bytes = sizeof witness,
	        .witness_offset = CLAIM_OFFSET,
	};
	int r = hither_backend_open(getenv(RUN_URL), &o, &b, err);
	if (!r && getenv(RUN_MIRROR)) {
		r = hither_backend_open(getenv(RUN_MIRROR), &o, &second, err);
		if (!r)
			r = hither_layer_mirror(b, second, NULL, NULL, &b, err);
		if (r)
			hither_backend_close(second);
	}
	if (!r)
		r = add_layer(&b, err);
	if (r)
		hither_backend_close(b);
	else
		*out = b;
	return r;
}

static int open_slice(struct hither_error *err)
{
	struct hither_backend *b;
	uint64_t size = number(RUN_SIZE);
	it.limit_bytes = number(RUN_LIMIT);
	const struct hither_mount_options o = {
	        .pull_off = true,
	        .order = "readahead",
	        .resident_bytes = it.limit_bytes,
	        .chunk_bytes = (uint32_t)number(RUN_CHUNK),
	        .deadline_ms = (uint32_t)number(RUN_DEADLINE_MS),
	        /* Nothing need ever be safe: only what does not fit is pushed. */
	        .push_interval_ms = UINT32_MAX,
	        .push_dirty_bytes = it.limit_bytes / 8,
	};
	int r = open_backend(&b, err);
	if (r)
		return r;
	r = hither_mount_backend(b, "ram-dl run", &o, &it.mount, err);
	if (r) {
		hither_backend_close(b);
		return r;
	}
	const struct hither_slice_options so = {.follow = true,
	                                        .len = size,
	                                        .scan_ms = 200,
	                                        .user_faults_only =
	                                                getenv(RUN_USER_FAULTS) != NULL};
	return hither_slice_open(it.mount, &so, &it.slice, err);
}

static int start(struct hither_error *err)
{
	char path[4096];
	const char *dir = getenv(RUN_DIR);
	if (!dir || !getenv(RUN_URL))
		return hither_fail(err, -EINVAL, "its environment is incomplete");
	int r = open_slice(err);
	if (r)
		return r;
	snprintf(path, sizeof path, "%s/leases", dir);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return hither_fail(err, -errno, "open %s: %s", path, strerror(errno));
	lease_init(&it.lease, fd, hither_slice_size(it.slice));
	it.lease.first_bytes = LEASE_GRAIN; /* the claim's */
	struct hither_slice_stats s;
	hither_slice_stats(it.slice, &s);
	it.pool = (struct pool){.data = hither_slice_data(it.slice),
	                        .size = hither_slice_size(it.slice),
	                        .kernel_faults = s.kernel_faults,
	                        .take = pool_take,
	                        .move = pool_move,
	                        .give = pool_give,
	                        .length = pool_length,
	                        .resize = pool_resize,
	                        .guard = pool_guard,
	                        .clear = pool_clear,
	                        .why = pool_why,
	                        .full = pool_full,
	                        .forked = pool_forked};
	start_note(dir);
	return 0;
}

__attribute__((visibility("default"))) const struct pool *ram_dl_pool_start(void (*inner)(void),
                                                                            char *why, size_t size)
{
	struct hither_error err = {0};
	it.inner = inner;
	if (!start(&err))
		return &it.pool;
	snprintf(why, size, "%s", err.message);
	return NULL;
}
