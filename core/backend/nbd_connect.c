/* SPDX-License-Identifier: Apache-2.0 */
/* Making a connection to an NBD server: handle, credentials, handshake, and what the server offers.
 */
#include "backend/nbd_conn.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
	WITNESS_PAGE = 4096,
	DEFAULT_MAX_BYTES = 32 << 20, /* what the NBD protocol lets a client assume */
};

/* libnbd takes certificates as a folder with files of these names. */
static const char *const credential_names[] = {"ca-cert.pem", "client-cert.pem", "client-key.pem"};
enum { CREDENTIAL_COUNT = sizeof credential_names / sizeof *credential_names };

struct credentials {
	char dir[PATH_MAX]; /* "" : none */
};

static void credentials_remove(struct credentials *c)
{
	char path[PATH_MAX + 32];
	if (!c->dir[0])
		return;
	for (size_t i = 0; i < CREDENTIAL_COUNT; i++) {
		snprintf(path, sizeof path, "%s/%s", c->dir, credential_names[i]);
		unlink(path);
	}
	rmdir(c->dir);
}

/* A folder of links to the files that the options name, for as long as one handshake takes. */
static int credentials_make(struct credentials *c, const struct nbd_target *t,
                            struct hither_error *err)
{
	const char *files[CREDENTIAL_COUNT] = {t->ca_file, t->cert_file, t->key_file};
	if (!t->ca_file && !t->cert_file && !t->key_file)
		return 0;
	const char *tmp = getenv("TMPDIR");
	char dir[PATH_MAX];
	snprintf(dir, sizeof dir, "%.2048s/hither-tls-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return hither_fail(err, -errno, "nbd: make folder %s for certificates: %s", dir,
		                   strerror(errno));
	memcpy(c->dir, dir, sizeof dir);
	for (size_t i = 0; i < CREDENTIAL_COUNT; i++) {
		char path[PATH_MAX + 32];
		snprintf(path, sizeof path, "%s/%s", c->dir, credential_names[i]);
		if (files[i] && symlink(files[i], path))
			return hither_fail(err, -errno, "nbd: link %s: %s", path, strerror(errno));
	}
	return 0;
}

static void handle_free(struct nbd_handle **handle)
{
	nbd_close(*handle);
}

/* What to do about it, by the words of libnbd 1.14: its error numbers do not tell. */
static const char *way_out(const char *why, int code)
{
	if (strstr(why, "no export named"))
		return "check the name: nbd://HOST/NAME, or nbd://HOST/ for the unnamed one";
	if (strstr(why, "requires TLS"))
		return "write nbds://";
	if (strstr(why, "gnutls"))
		return "check key (nbds://NAME@HOST/?tls-psk-file=FILE) or certificates";
	return code == -EPROTO ? "check that the server runs, and that it has this export"
	                       : "check that the server runs";
}

/*
 * libnbd's last error as an -errno. Where it has none it was the handshake that failed, by an
 * answer that will not change. On a resource that has been open before, the server is more likely
 * to be restarting (the socket's file is not there yet, or it knows no exports yet): worth another
 * try.
 */
static int connect_failed(const struct nbd_target *t, struct hither_error *err)
{
	int code = nbd_get_errno() ? -nbd_get_errno() : -EPROTO;
	if (t->agreed && !hither_error_is_transient(code) && code != -ENOMEM)
		code = -ECONNREFUSED;
	const char *why = nbd_get_error();
	if (!why)
		why = strerror(-code);
	return hither_fail(err, code, "nbd: cannot connect to %s: %s; %s", t->name, why,
	                   way_out(why, code));
}

static int configure(struct nbd_handle *handle, const struct nbd_target *t,
                     const struct credentials *c)
{
	return nbd_set_uri_allow_local_file(handle, true) ||
	       nbd_set_pread_initialize(handle, false) || /* whole answers only are passed on */
	       (c->dir[0] && nbd_set_tls_certificates(handle, c->dir)) ||
	       (t->insecure && nbd_set_tls_verify_peer(handle, false));
}

short hither_nbd_events(struct nbd_handle *handle)
{
	unsigned direction = nbd_aio_get_direction(handle);
	return (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
	               (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
}

int hither_nbd_notify(struct nbd_handle *handle, short events, short revents)
{
	if ((events & POLLIN) && (revents & (POLLIN | POLLHUP | POLLERR)))
		return nbd_aio_notify_read(handle);
	if ((events & POLLOUT) && (revents & (POLLOUT | POLLHUP | POLLERR)))
		return nbd_aio_notify_write(handle);
	return 0;
}

/* One step of the handshake. */
static int handshake_step(struct nbd_handle *handle, const struct nbd_target *t, int wake_fd,
                          uint64_t deadline_ns, struct hither_error *err)
{
	struct pollfd fds[2] = {
	        {.fd = wake_fd, .events = POLLIN},
	        {.fd = nbd_aio_get_fd(handle), .events = hither_nbd_events(handle)},
	};
	uint64_t now = hither_now_ns();
	if (now >= deadline_ns)
		return hither_fail(err, -ETIMEDOUT,
		                   "nbd: no connection to %s within %u ms; check the network, or "
		                   "wait for longer with --connect-timeout",
		                   t->name, t->connect_timeout_ms);
	int n = poll(fds, 2, (int)((deadline_ns - now) / HITHER_NS_PER_MS) + 1);
	if (n < 0 && errno != EINTR)
		return hither_fail(err, -errno, "nbd: poll: %s", strerror(errno));
	if (atomic_load(&t->cancelled) || atomic_load(&t->closing))
		return hither_fail(err, -ECANCELED, "nbd: connecting to %s: cancelled", t->name);
	if (n > 0 && fds[0].revents) {
		uint64_t drained;
		if (read(wake_fd, &drained, sizeof drained) < 0 && errno != EAGAIN)
			return hither_fail(err, -errno, "nbd: eventfd: %s", strerror(errno));
	}
	if (n > 0 && hither_nbd_notify(handle, fds[1].events, fds[1].revents) < 0)
		return connect_failed(t, err);
	return 0;
}

static int handshake(struct nbd_handle *handle, const struct nbd_target *t, int wake_fd,
                     struct hither_error *err)
{
	uint64_t deadline_ns = hither_now_ns() + t->connect_timeout_ms * HITHER_NS_PER_MS;
	if (nbd_aio_connect_uri(handle, t->url) < 0)
		return connect_failed(t, err);
	while (nbd_aio_is_connecting(handle) > 0 || nbd_aio_is_negotiating(handle) > 0) {
		int r = handshake_step(handle, t, wake_fd, deadline_ns, err);
		if (r)
			return r;
	}
	if (nbd_aio_is_ready(handle) <= 0)
		return hither_fail(
		        err, t->agreed ? -ECONNREFUSED : -EPROTO,
		        "nbd: %s: the server ended the connection in the handshake; check "
		        "that it speaks NBD and has this export",
		        t->name);
	return 0;
}

static int ask_limits(struct nbd_handle *handle, const struct nbd_target *t,
                      struct nbd_limits *limits, struct hither_error *err)
{
	int64_t size = nbd_get_size(handle);
	if (size < 0)
		return hither_fail(err, -nbd_get_errno(), "nbd: %s: no size: %s", t->name,
		                   nbd_get_error());
	int64_t min = nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
	int64_t max = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);
	if (min < 1)
		min = 1;
	if (max < min || max > DEFAULT_MAX_BYTES)
		max = DEFAULT_MAX_BYTES;
	if (min & (min - 1) || min > DEFAULT_MAX_BYTES)
		return hither_fail(err, -EPROTO, "nbd: %s: impossible block size %lld", t->name,
		                   (long long)min);
	*limits = (struct nbd_limits){
	        .size_bytes = (uint64_t)size,
	        .min_bytes = (uint32_t)min,
	        .max_bytes = (uint32_t)(max / min * min),
	        .read_only = nbd_is_read_only(handle) > 0,
	        .can_flush = nbd_can_flush(handle) > 0,
	        .can_fua = nbd_can_fua(handle) > 0,
	        .multi_conn = nbd_can_multi_conn(handle) > 0,
	};
	return 0;
}

/* Is it still what was opened? */
static int compare_limits(const struct nbd_target *t, const struct nbd_limits *limits,
                          struct hither_error *err)
{
	if (t->writable && limits->read_only)
		return hither_fail(
		        err, -EROFS,
		        "nbd: %s is read-only; mount it read-only, or let the server write",
		        t->name);
	if (!t->agreed)
		return 0;
	if (limits->size_bytes != t->limits.size_bytes)
		return hither_fail(err, -ESTALE,
		                   "nbd: %s has %llu bytes now, not %llu: open it again", t->name,
		                   (unsigned long long)limits->size_bytes,
		                   (unsigned long long)t->limits.size_bytes);
	if (limits->min_bytes > t->limits.min_bytes)
		return hither_fail(err, -ESTALE,
		                   "nbd: %s has blocks of %u bytes now, not %u: open it again",
		                   t->name, limits->min_bytes, t->limits.min_bytes);
	return 0;
}

/* Is it still the server that has what was written? */
static int check_witness(struct nbd_handle *handle, const struct nbd_target *t, int wake_fd,
                         unsigned char page[WITNESS_PAGE], struct hither_error *err)
{
	uint64_t at = t->witness_offset % WITNESS_PAGE;
	uint64_t deadline_ns = hither_now_ns() + t->connect_timeout_ms * HITHER_NS_PER_MS;
	int done, r = 0;
	if (!t->witness_bytes)
		return 0;
	int64_t cookie = nbd_aio_pread(handle, page, WITNESS_PAGE, t->witness_offset - at,
	                               NBD_NULL_COMPLETION, 0);
	if (cookie < 0)
		return connect_failed(t, err);
	while (!(done = nbd_aio_command_completed(handle, (uint64_t)cookie)) && !r)
		r = handshake_step(handle, t, wake_fd, deadline_ns, err);
	if (r || done < 0)
		return r ? r : connect_failed(t, err);
	if (!memcmp(page + at, t->witness, t->witness_bytes))
		return 0;
	return hither_fail(err, -ESTALE,
	                   "nbd: %s has forgotten what was written to it: it was restarted, or is "
	                   "somebody else's now",
	                   t->name);
}

static int connect_with(const struct nbd_target *t, const struct credentials *c, int wake_fd,
                        struct nbd_handle **out, struct nbd_limits *limits,
                        struct hither_error *err)
{
	unsigned char page[WITNESS_PAGE]; /* outlives the handle */
	__attribute__((cleanup(handle_free))) struct nbd_handle *handle = nbd_create();
	if (!handle)
		return hither_fail(err, -ENOMEM, "nbd: no memory to connect to %s", t->name);
	if (configure(handle, t, c))
		return connect_failed(t, err);
	int r = handshake(handle, t, wake_fd, err);
	if (!r)
		r = ask_limits(handle, t, limits, err);
	if (!r)
		r = compare_limits(t, limits, err);
	if (!r)
		r = check_witness(handle, t, wake_fd, page, err);
	if (!r)
		*out = HITHER_TAKE(handle, NULL);
	return r;
}

int hither_nbd_connect(const struct nbd_target *target, int wake_fd, struct nbd_handle **out,
                       struct nbd_limits *limits, struct hither_error *err)
{
	struct credentials credentials = {0};
	int r = credentials_make(&credentials, target, err);
	if (!r)
		r = connect_with(target, &credentials, wake_fd, out, limits, err);
	credentials_remove(&credentials);
	return r;
}
