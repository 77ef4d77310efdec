/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbd://host[:port]/export, nbds:// (TLS), nbd+unix:///export?socket=PATH, nbds+unix://: an export
 * of any NBD server, by libnbd, whose URIs these are (tls-certificates=DIR and tls-psk-file=FILE
 * too).
 *
 * A call uses one connection, the least busy one. There is one, or up to four where the server says
 * that its connections see each other's writes (multi-conn): the first is made by open and, when
 * all are lost, by whoever needs one; the others by a thread of their own, when the first is busy,
 * so that a server that lets in fewer delays nobody. nbd_conn.h tells how a connection is shared.
 *
 * What flush() promises, and when it cannot: a server that is restarted forgets what it had not
 * flushed, though it had answered the writes. So a connection that is lost with such writes is
 * remembered, and the next flush returns -EREMOTEIO, once: write everything since the last good
 * flush again. To know that a server is still the one that answered the writes, each connection
 * flushes its own. A server without flush gets writes with FUA; one without either promises nothing
 * that could be asked for, and flush() is then only the check for lost connections. Bytes whose
 * flush comes next (write_through) go with FUA, too: then it has nothing to wait for.
 */
#include "backend/nbd_conn.h"
#include "backend/nbd_pool.h"
#include "backend/registry.h"
#include "backend/url.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
	CONN_MAX = 4,
	PARALLEL_DEFAULT = 16,
	PARALLEL_MAX = 64,
	READ_PIECE_BYTES = 256 << 10,
	WRITE_PIECE_BYTES = 4 << 20,
	PIPELINE = 8,          /* pieces of one call on the wire: 2 MiB of reads */
	SPARE_REST_MS = 30000, /* a further connection that failed is not tried for so long */
};

struct nbd_backend {
	struct hither_backend base;
	struct nbd_target target;
	struct nbd_pool pool;
	size_t write_piece_bytes;
	_Atomic uint64_t reported; /* losses that a flush has told of */
	struct nbd_conn conns[CONN_MAX];
	unsigned conn_count; /* initialised */

	pthread_mutex_t lock; /* guards calls */
	unsigned calls[CONN_MAX];

	int spare_fd; /* eventfd: the spare thread has something to do */
	bool has_thread;
	pthread_t thread;
};

static struct nbd_backend *self(struct hither_backend *b)
{
	return HITHER_CONTAINER(b, struct nbd_backend, base);
}

static int check_cancelled(const struct nbd_backend *nb, struct hither_error *err)
{
	if (!atomic_load(&nb->target.cancelled))
		return 0;
	return hither_fail(err, -ECANCELED, "nbd: %s: cancelled", nb->target.name);
}

/* ---- further connections ---- */

static void wake_spare(const struct nbd_backend *nb)
{
	uint64_t one = 1;
	ssize_t n = write(nb->spare_fd, &one, sizeof one); /* a full counter is as good */
	(void)n;
}

static bool over(const struct nbd_backend *nb)
{
	return atomic_load(&nb->target.closing) || atomic_load(&nb->target.cancelled);
}

static void connect_spares(struct nbd_backend *nb, uint64_t *rest_until_ns)
{
	for (unsigned i = 0; i < nb->conn_count && !over(nb); i++) {
		if (atomic_load(&nb->conns[i].up) || hither_now_ns() < rest_until_ns[i])
			continue;
		if (hither_nbd_conn_ready(&nb->conns[i], true, NULL))
			rest_until_ns[i] = hither_now_ns() + SPARE_REST_MS * HITHER_NS_PER_MS;
	}
}

static void *spare_main(void *arg)
{
	struct nbd_backend *nb = arg;
	uint64_t rest_until_ns[CONN_MAX] = {0}, count;
	while (!over(nb)) {
		struct pollfd fd = {.fd = nb->spare_fd, .events = POLLIN};
		if (poll(&fd, 1, -1) > 0 && read(nb->spare_fd, &count, sizeof count) > 0)
			connect_spares(nb, rest_until_ns);
	}
	return NULL;
}

/* ---- choosing a connection ---- */

/* The least busy of those that are up; the first if none is. */
static struct nbd_conn *take_conn(struct nbd_backend *nb)
{
	unsigned best = 0;
	bool found = false, down = false;
	pthread_mutex_lock(&nb->lock);
	for (unsigned i = 0; i < nb->conn_count; i++) {
		if (!atomic_load(&nb->conns[i].up))
			down = true;
		else if (!found || nb->calls[i] < nb->calls[best])
			found = true, best = i;
	}
	bool busy = nb->calls[best]++ > 0;
	pthread_mutex_unlock(&nb->lock);
	if (busy && down && found && nb->has_thread)
		wake_spare(nb);
	return &nb->conns[best];
}

static void give_conn(struct nbd_backend *nb, const struct nbd_conn *conn)
{
	pthread_mutex_lock(&nb->lock);
	nb->calls[conn - nb->conns]--;
	pthread_mutex_unlock(&nb->lock);
}

/*
 * A connection that is up; NULL, and *code and err say why. With `connect` the first is connected
 * if none is, and no other: the server may let in no more.
 */
static struct nbd_conn *use_conn(struct nbd_backend *nb, bool connect, int *code,
                                 struct hither_error *err)
{
	for (;;) {
		struct nbd_conn *conn = take_conn(nb);
		bool first = conn == &nb->conns[0];
		*code = hither_nbd_conn_ready(conn, first && connect, err);
		if (!*code)
			return conn;
		give_conn(nb, conn);
		if (first || *code != -ENOTCONN)
			return NULL;
	}
}

/* ---- read ---- */

struct reader {
	struct nbd_backend *nb;
	struct nbd_conn *conn;
	struct nbd_waiter waiter;
	uint64_t next, end;                 /* not asked for yet */
	uint64_t alone;                     /* so many of the first bytes, by themselves */
	struct nbd_piece *pieces[PIPELINE]; /* on the wire, in order: [head, head + count) */
	unsigned head, count;
};

static void orphaned(struct nbd_request *r)
{
	hither_nbd_pool_put(HITHER_CONTAINER(r, struct nbd_piece, request));
}

/* Ask for more while there is room. -ENOMEM only if nothing is on the wire. */
static int ask_ahead_locked(struct reader *rd)
{
	size_t piece_bytes = rd->nb->pool.piece_bytes;
	while (rd->next < rd->end && rd->count < PIPELINE) {
		struct nbd_piece *piece = hither_nbd_pool_get(&rd->nb->pool);
		if (!piece)
			return rd->count ? 0 : -ENOMEM;
		/* The pieces end at multiples of their size, so that all but the first are aligned.
		 */
		uint64_t len = piece_bytes - rd->next % piece_bytes;
		if (len > rd->end - rd->next)
			len = rd->end - rd->next;
		if (rd->alone && len > rd->alone)
			len = rd->alone;
		rd->alone = 0;
		piece->request.kind = NBD_READ;
		piece->request.len = (size_t)len;
		piece->request.offset = rd->next;
		piece->request.waiter = &rd->waiter;
		rd->pieces[(rd->head + rd->count++) % PIPELINE] = piece;
		rd->next += len;
		hither_nbd_submit_locked(rd->conn, &piece->request);
	}
	return 0;
}

/* Nobody will wait for what is still on the wire. */
static void abandon_locked(struct reader *rd)
{
	for (; rd->count; rd->count--, rd->head++) {
		struct nbd_piece *piece = rd->pieces[rd->head % PIPELINE];
		piece->request.waiter = NULL;
		if (piece->request.done)
			hither_nbd_pool_put(piece);
		else
			piece->request.orphan = orphaned;
	}
}

/* Hand the oldest piece to the sink, without the lock. */
static int deliver_locked(struct reader *rd, struct hither_sink *sink, struct hither_error *err)
{
	struct nbd_piece *piece = rd->pieces[rd->head % PIPELINE];
	hither_nbd_wait_locked(rd->conn, &piece->request);
	int r = check_cancelled(rd->nb, err);
	if (!r && piece->request.code)
		r = hither_nbd_explain_locked(rd->conn, &piece->request, err);
	if (r)
		return r;
	rd->head++;
	rd->count--;
	r = ask_ahead_locked(rd);
	pthread_mutex_unlock(&rd->conn->lock);
	if (r)
		hither_fail(err, r, "nbd: no memory to read %s", rd->nb->target.name);
	else
		r = sink->take(sink, piece->request.data, piece->request.len);
	hither_nbd_pool_put(piece);
	pthread_mutex_lock(&rd->conn->lock);
	return r;
}

static void tell_asked(struct hither_sink *sink)
{
	if (sink->asked)
		sink->asked(sink);
}

static int read_on(struct nbd_backend *nb, struct nbd_conn *conn, uint64_t offset, uint64_t len,
                   struct hither_sink *sink, bool told, struct hither_error *err)
{
	struct reader rd = {.nb = nb, .conn = conn, .next = offset, .end = offset + len};
	/* A server answers a request as a whole. */
	if (sink->first_bytes % nb->target.limits.min_bytes == 0)
		rd.alone = sink->first_bytes;
	pthread_cond_init(&rd.waiter.woken, NULL);
	pthread_mutex_lock(&conn->lock);
	int r = ask_ahead_locked(&rd);
	if (r)
		hither_fail(err, r, "nbd: no memory to read %s", nb->target.name);
	pthread_mutex_unlock(&conn->lock);
	if (!told)
		tell_asked(sink);
	pthread_mutex_lock(&conn->lock);
	while (!r && rd.count)
		r = deliver_locked(&rd, sink, err);
	abandon_locked(&rd);
	pthread_mutex_unlock(&conn->lock);
	pthread_cond_destroy(&rd.waiter.woken);
	return r;
}

static int backend_read(struct hither_backend *b, uint64_t offset, uint64_t len,
                        struct hither_sink *sink, struct hither_error *err)
{
	struct nbd_backend *nb = self(b);
	int r;
	struct nbd_conn *conn = use_conn(nb, false, &r, NULL);
	bool told = !conn;
	if (!conn) {
		tell_asked(sink); /* connecting takes its time */
		conn = use_conn(nb, true, &r, err);
	}
	if (!conn)
		return r;
	r = read_on(nb, conn, offset, len, sink, told, err);
	give_conn(nb, conn);
	return r;
}

/* ---- write ---- */

/* Wait for r and remember the first failure. */
static void settle_locked(struct nbd_conn *conn, struct nbd_request *r, int *code,
                          struct hither_error *err)
{
	hither_nbd_wait_locked(conn, r);
	if (r->code && !*code)
		*code = hither_nbd_explain_locked(conn, r, err);
}

/*
 * All pieces are waited for, after a failure too: buf is the caller's. (A cancelled connection is
 * dropped, which ends them.)
 */
static int write_on(struct nbd_backend *nb, struct nbd_conn *conn, const char *buf, size_t len,
                    uint64_t offset, bool through, struct hither_error *err)
{
	struct nbd_request ring[PIPELINE];
	struct nbd_waiter waiter = {0};
	unsigned sent = 0, settled = 0;
	int r = 0;
	pthread_cond_init(&waiter.woken, NULL);
	HITHER_LOCK_SCOPE(&conn->lock);
	bool fua = (through || !conn->limits.can_flush) && conn->limits.can_fua;
	while ((len && !r) || settled < sent) {
		if (len && !r && sent - settled < PIPELINE) {
			size_t n = len < nb->write_piece_bytes ? len : nb->write_piece_bytes;
			struct nbd_request *request = &ring[sent++ % PIPELINE];
			*request = (struct nbd_request){.kind = NBD_WRITE,
			                                .fua = fua,
			                                .data = (void *)buf,
			                                .len = n,
			                                .offset = offset,
			                                .waiter = &waiter};
			hither_nbd_submit_locked(conn, request);
			buf += n, offset += n, len -= n;
		} else {
			settle_locked(conn, &ring[settled++ % PIPELINE], &r, err);
		}
	}
	pthread_cond_destroy(&waiter.woken);
	return r;
}

static int write_either(struct nbd_backend *nb, const void *buf, size_t len, uint64_t offset,
                        bool through, struct hither_error *err)
{
	int r;
	struct nbd_conn *conn = use_conn(nb, true, &r, err);
	if (!conn)
		return r;
	r = write_on(nb, conn, buf, len, offset, through, err);
	give_conn(nb, conn);
	return r;
}

static int backend_write_at(struct hither_backend *b, const void *buf, size_t len, uint64_t offset,
                            struct hither_error *err)
{
	return write_either(self(b), buf, len, offset, false, err);
}

static int backend_write_through(struct hither_backend *b, const void *buf, size_t len,
                                 uint64_t offset, struct hither_error *err)
{
	return write_either(self(b), buf, len, offset, true, err);
}

/* ---- flush ---- */

/* Send a flush if this connection has writes that need one. */
static bool start_flush(struct nbd_conn *conn, struct nbd_request *request,
                        struct nbd_waiter *waiter)
{
	HITHER_LOCK_SCOPE(&conn->lock);
	if (conn->written == conn->flushed)
		return false;
	if (!conn->limits.can_flush) {
		hither_nbd_look_locked(conn); /* no answer will tell whether it is still there */
		conn->flushed = conn->written;
		return false;
	}
	*request = (struct nbd_request){.kind = NBD_FLUSH, .waiter = waiter};
	hither_nbd_submit_locked(conn, request);
	return true;
}

/* Flush all connections at once. *answered: it was the server that refused. */
static int flush_all(struct nbd_backend *nb, bool *answered, struct hither_error *err)
{
	struct nbd_request requests[CONN_MAX];
	struct nbd_waiter waiters[CONN_MAX] = {0};
	bool sent[CONN_MAX] = {0};
	int code = 0;
	for (unsigned i = 0; i < nb->conn_count; i++) {
		pthread_cond_init(&waiters[i].woken, NULL);
		sent[i] = start_flush(&nb->conns[i], &requests[i], &waiters[i]);
	}
	for (unsigned i = 0; i < nb->conn_count; i++) {
		HITHER_LOCK_SCOPE(&nb->conns[i].lock);
		if (sent[i])
			settle_locked(&nb->conns[i], &requests[i], &code, err);
		if (sent[i] && requests[i].code && !requests[i].dropped)
			*answered = true;
		pthread_cond_destroy(&waiters[i].woken);
	}
	return code;
}

static void report_losses(struct nbd_backend *nb, uint64_t losses)
{
	uint64_t reported = atomic_load(&nb->reported);
	while (reported < losses && !atomic_compare_exchange_weak(&nb->reported, &reported, losses))
		;
}

static int backend_flush(struct hither_backend *b, struct hither_error *err)
{
	struct nbd_backend *nb = self(b);
	/* Read first: a flush that runs beside another one must tell of a loss as well. */
	uint64_t reported = atomic_load(&nb->reported);
	bool answered = false;
	int r = check_cancelled(nb, err);
	if (!r)
		r = flush_all(nb, &answered, err);
	if (atomic_load(&nb->target.cancelled))
		return check_cancelled(nb, err);
	if (r && answered) {
		/* The server may have forgotten what it failed to store: no later flush covers it.
		 */
		atomic_fetch_add(&nb->target.losses, 1);
		return r;
	}
	uint64_t losses = atomic_load(&nb->target.losses);
	if (losses == reported)
		return r;
	report_losses(nb, losses);
	return hither_fail(err, -EREMOTEIO,
	                   "nbd: flush %s: writes since the last flush may be lost (the connection "
	                   "or a flush failed since): write them again",
	                   nb->target.name);
}

/* ---- open and close ---- */

static void backend_cancel(struct hither_backend *b)
{
	struct nbd_backend *nb = self(b);
	atomic_store(&nb->target.cancelled, true);
	for (unsigned i = 0; i < nb->conn_count; i++)
		hither_nbd_wake(&nb->conns[i]);
	wake_spare(nb);
}

static void backend_close(struct hither_backend *b)
{
	struct nbd_backend *nb = self(b);
	if (nb->has_thread) {
		atomic_store(&nb->target.closing, true);
		for (unsigned i = 0; i < nb->conn_count; i++)
			hither_nbd_wake(&nb->conns[i]);
		wake_spare(nb);
		pthread_join(nb->thread, NULL);
	}
	for (unsigned i = 0; i < nb->conn_count; i++)
		hither_nbd_conn_finish(&nb->conns[i]);
	if (nb->spare_fd >= 0)
		close(nb->spare_fd);
	if (nb->pool.piece_bytes)
		hither_nbd_pool_finish(&nb->pool);
	pthread_mutex_destroy(&nb->lock);
	free(nb->target.url);
	free(nb->target.ca_file);
	free(nb->target.cert_file);
	free(nb->target.key_file);
	free(nb);
}

static void close_opening(struct nbd_backend **nb)
{
	if (*nb)
		backend_close(&(*nb)->base);
}

static int copy_path(const char *path, char **out, struct hither_error *err)
{
	if (!path)
		return 0;
	*out = realpath(path, NULL);
	return *out ? 0 : hither_fail(err, -errno, "nbd: %s: %s", path, strerror(errno));
}

static int init_target(struct nbd_target *t, const char *url,
                       const struct hither_backend_options *options, struct hither_error *err)
{
	hither_url_redact(url, t->name, sizeof t->name);
	t->writable = options->writable;
	t->insecure = options->insecure;
	t->connect_timeout_ms = options->connect_timeout_ms ? options->connect_timeout_ms
	                                                    : HITHER_BACKEND_CONNECT_MS;
	t->idle_timeout_ms =
	        options->idle_timeout_ms ? options->idle_timeout_ms : HITHER_BACKEND_IDLE_MS;
	t->witness_bytes = options->witness ? options->witness_bytes : 0;
	t->witness_offset = options->witness_offset;
	if (t->witness_bytes > sizeof t->witness)
		return hither_fail(err, -EINVAL, "nbd: a witness of %u bytes", t->witness_bytes);
	if (t->witness_bytes)
		memcpy(t->witness, options->witness, t->witness_bytes);
	t->url = strdup(url);
	if (!t->url)
		return hither_fail(err, -ENOMEM, "nbd: no memory to open %s", t->name);
	int r = copy_path(options->ca_file, &t->ca_file, err);
	if (!r)
		r = copy_path(options->cert_file, &t->cert_file, err);
	if (!r)
		r = copy_path(options->key_file, &t->key_file, err);
	return r;
}

static int add_conn(struct nbd_backend *nb, struct hither_error *err)
{
	return hither_nbd_conn_init(&nb->conns[nb->conn_count++], &nb->target, err);
}

/* A whole number of blocks, as near to `wanted` as the server allows. */
static size_t piece_bytes(size_t wanted, const struct nbd_limits *limits)
{
	size_t n = wanted < limits->max_bytes ? wanted : limits->max_bytes;
	n -= n % limits->min_bytes;
	return n ? n : limits->min_bytes;
}

/* The first connection is up: settle what follows from what the server said. */
static void adopt_limits(struct nbd_backend *nb, const struct hither_backend_options *options)
{
	const struct nbd_limits *limits = &nb->target.limits;
	uint32_t parallel = options->parallel ? options->parallel : PARALLEL_DEFAULT;
	hither_nbd_pool_init(&nb->pool, piece_bytes(READ_PIECE_BYTES, limits));
	nb->write_piece_bytes = piece_bytes(WRITE_PIECE_BYTES, limits);
	nb->base.size_bytes = limits->size_bytes;
	nb->base.align_bytes = limits->min_bytes;
	nb->base.parallel = parallel < PARALLEL_MAX ? parallel : PARALLEL_MAX;
	nb->base.flags =
	        HITHER_BACKEND_TELLS_ASKED | (options->writable ? HITHER_BACKEND_WRITABLE : 0);
}

static int add_spares(struct nbd_backend *nb, struct hither_error *err)
{
	if (!nb->target.limits.multi_conn)
		return 0;
	while (nb->conn_count < CONN_MAX && nb->conn_count < nb->base.parallel) {
		int r = add_conn(nb, err);
		if (r)
			return r;
	}
	if (nb->conn_count == 1)
		return 0;
	int r = pthread_create(&nb->thread, NULL, spare_main, nb);
	if (r)
		return hither_fail(err, -r, "nbd: %s: no thread: %s", nb->target.name, strerror(r));
	nb->has_thread = true;
	return 0;
}

static int backend_open(const char *url, const struct hither_backend_options *options,
                        struct hither_backend **out, struct hither_error *err)
{
	int r = nbd_load_library(err);
	if (r)
		return r;
	__attribute__((cleanup(close_opening))) struct nbd_backend *nb = calloc(1, sizeof *nb);
	if (!nb)
		return hither_fail(err, -ENOMEM, "nbd: no memory to open an export");
	nb->base.ops = &hither_backend_nbd;
	pthread_mutex_init(&nb->lock, NULL);
	nb->spare_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (nb->spare_fd < 0)
		return hither_fail(err, -errno, "nbd: eventfd: %s", strerror(errno));
	r = init_target(&nb->target, url, options, err);
	if (!r)
		r = add_conn(nb, err);
	if (!r)
		r = hither_nbd_conn_ready(&nb->conns[0], true, err);
	if (r)
		return r;
	nb->target.limits = nb->conns[0].limits;
	nb->target.agreed = true;
	adopt_limits(nb, options);
	r = add_spares(nb, err);
	if (r)
		return r;
	*out = &HITHER_TAKE(nb, NULL)->base;
	return 0;
}

static const char *const schemes[] = {"nbd", "nbds", "nbd+unix", "nbds+unix", NULL};

const struct hither_backend_ops hither_backend_nbd = {
        .name = "nbd",
        .schemes = schemes,
        .open = backend_open,
        .read = backend_read,
        .write_at = backend_write_at,
        .write_through = backend_write_through,
        .flush = backend_flush,
        .cancel = backend_cancel,
        .close = backend_close,
};
