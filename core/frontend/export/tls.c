/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 by GnuTLS, with certificates, pre-shared keys, or both.
 *
 *     socket -> rx -> GnuTLS -> caller        caller -> GnuTLS -> tx -> socket
 *
 * GnuTLS sees only rx and tx, so it never waits and never is in the middle of a record; a whole
 * buffer goes to or comes from the kernel in one call, where record by record each costs one or
 * two.
 */
#include "base/cleanup.h"
#include "stream.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <hither/export.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	RX_BYTES = 128 << 10,
	RECORD_BYTES = 16 << 10,
	RECORD_ROOM = RECORD_BYTES + 512, /* with header, padding and tag */
	TX_BYTES = 4 * RECORD_ROOM,
};

struct export_tls_server {
	gnutls_certificate_credentials_t certificates; /* NULL: none */
	gnutls_psk_server_credentials_t keys;          /* NULL: none */
	gnutls_priority_t priority;
	bool verify_peer;
};

struct export_tls {
	gnutls_session_t session;
	struct export_stream *stream;
	pthread_mutex_t lock; /* guards session and tx: the receiver too may have to answer */
	size_t tx_first, tx_end;
	/* The receiver's own. */
	size_t rx_first, rx_end;
	bool rx_over; /* the socket's end was seen */
	uint8_t rx[RX_BYTES];
	uint8_t tx[TX_BYTES];
};

/* --- credentials --- */

static int tls_fail(struct hither_error *err, const char *what, const char *path, int r)
{
	return hither_fail(err, r == GNUTLS_E_FILE_ERROR ? -ENOENT : -EINVAL, "TLS: %s %s: %s",
	                   what, path, gnutls_strerror(r));
}

static int load_certificates(struct export_tls_server *t, const char *dir, struct hither_error *err)
{
	char ca[4200], crl[4200], cert[4200], key[4200];
	snprintf(ca, sizeof ca, "%s/ca-cert.pem", dir);
	snprintf(crl, sizeof crl, "%s/ca-crl.pem", dir);
	snprintf(cert, sizeof cert, "%s/server-cert.pem", dir);
	snprintf(key, sizeof key, "%s/server-key.pem", dir);
	int r = gnutls_certificate_allocate_credentials(&t->certificates);
	if (r < 0)
		return hither_fail(err, -ENOMEM, "TLS: %s", gnutls_strerror(r));
	if (access(ca, F_OK) == 0 || t->verify_peer) {
		r = gnutls_certificate_set_x509_trust_file(t->certificates, ca,
		                                           GNUTLS_X509_FMT_PEM);
		if (r < 0)
			return tls_fail(err, "trusted certificates", ca, r);
	}
	if (access(crl, F_OK) == 0) {
		r = gnutls_certificate_set_x509_crl_file(t->certificates, crl, GNUTLS_X509_FMT_PEM);
		if (r < 0)
			return tls_fail(err, "revocation list", crl, r);
	}
	r = gnutls_certificate_set_x509_key_file(t->certificates, cert, key, GNUTLS_X509_FMT_PEM);
	return r < 0 ? tls_fail(err, "certificate and key", cert, r) : 0;
}

static int load_keys(struct export_tls_server *t, const char *path, struct hither_error *err)
{
	if (access(path, R_OK))
		return hither_fail(err, -errno, "TLS: keys %s: %s", path, strerror(errno));
	int r = gnutls_psk_allocate_server_credentials(&t->keys);
	if (r >= 0)
		r = gnutls_psk_set_server_credentials_file(t->keys, path);
	return r < 0 ? tls_fail(err, "keys", path, r) : 0;
}

int export_tls_server_create(const struct hither_export_options *o, struct export_tls_server **out,
                             struct hither_error *err)
{
	struct export_tls_server *t = calloc(1, sizeof *t);
	if (!t)
		return hither_fail(err, -ENOMEM, "TLS: no memory");
	t->verify_peer = o->tls_verify_peer;
	int r = 0;
	if (o->tls_certificates)
		r = load_certificates(t, o->tls_certificates, err);
	if (!r && o->tls_psk_file)
		r = load_keys(t, o->tls_psk_file, err);
	if (!r && gnutls_priority_init(&t->priority,
	                               t->keys ? "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-"
	                                         "PSK:+PSK"
	                                       : "NORMAL:-VERS-ALL:+VERS-TLS1.3",
	                               NULL) < 0)
		r = hither_fail(err, -ENOTSUP, "TLS: this machine's GnuTLS has no TLS 1.3");
	if (r) {
		export_tls_server_destroy(t);
		return r;
	}
	*out = t;
	return 0;
}

void export_tls_server_destroy(struct export_tls_server *t)
{
	if (!t)
		return;
	if (t->certificates)
		gnutls_certificate_free_credentials(t->certificates);
	if (t->keys)
		gnutls_psk_free_server_credentials(t->keys);
	if (t->priority)
		gnutls_priority_deinit(t->priority);
	free(t);
}

/* --- GnuTLS' sides of rx and tx --- */

static ssize_t pull(gnutls_transport_ptr_t user, void *buf, size_t len)
{
	struct export_tls *t = user;
	size_t has = t->rx_end - t->rx_first;
	if (!has && t->rx_over)
		return 0;
	if (!has) {
		gnutls_transport_set_errno(t->session, EAGAIN);
		return -1;
	}
	if (len > has)
		len = has;
	memcpy(buf, t->rx + t->rx_first, len);
	t->rx_first += len;
	return (ssize_t)len;
}

static ssize_t push(gnutls_transport_ptr_t user, const void *buf, size_t len)
{
	struct export_tls *t = user;
	size_t room = sizeof t->tx - t->tx_end;
	if (!room) {
		gnutls_transport_set_errno(t->session, EAGAIN);
		return -1;
	}
	if (len > room)
		len = room;
	memcpy(t->tx + t->tx_end, buf, len);
	t->tx_end += len;
	return (ssize_t)len;
}

/* 1: there is something in rx (or it is over), -EAGAIN, -errno. */
static int fill(struct export_tls *t, enum export_wait wait)
{
	if (t->rx_first < t->rx_end || t->rx_over)
		return 1;
	ssize_t n = t->stream->ops->recv(t->stream, t->rx, sizeof t->rx,
	                                 wait ? EXPORT_WAIT : EXPORT_WAIT_NOT);
	if (n < 0)
		return (int)n;
	t->rx_first = 0;
	t->rx_end = (size_t)n;
	t->rx_over = n == 0;
	return 1;
}

/* --- streams --- */

int export_tls_start(struct export_stream *s, struct export_tls_server *server,
                     struct hither_error *err)
{
	struct export_tls *t = malloc(sizeof *t); /* not cleared: what is not used costs nothing */
	if (!t)
		return hither_fail(err, -ENOMEM, "TLS: no memory");
	int r = gnutls_init(&t->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS);
	if (r < 0) {
		free(t);
		return hither_fail(err, -ENOMEM, "TLS: %s", gnutls_strerror(r));
	}
	t->stream = s;
	t->rx_first = t->rx_end = t->tx_first = t->tx_end = 0;
	t->rx_over = false;
	pthread_mutex_init(&t->lock, NULL);
	gnutls_priority_set(t->session, server->priority);
	if (server->certificates)
		gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, server->certificates);
	if (server->keys)
		gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, server->keys);
	if (server->verify_peer) {
		gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(t->session, NULL, 0);
	}
	gnutls_transport_set_ptr(t->session, t);
	gnutls_transport_set_pull_function(t->session, pull);
	gnutls_transport_set_push_function(t->session, push);
	s->tls = t;
	return 0;
}

/* Send from tx. 0: it is empty. No two threads are here at a time. */
static int drain(struct export_tls *t)
{
	int r = 0;
	pthread_mutex_lock(&t->lock);
	while (!r && t->tx_first < t->tx_end) {
		struct iovec part = {t->tx + t->tx_first, t->tx_end - t->tx_first};
		ssize_t n = t->stream->ops->send(t->stream, &part, 1);
		if (n < 0)
			r = (int)n;
		else
			t->tx_first += (size_t)n;
	}
	if (!r)
		t->tx_first = t->tx_end = 0;
	pthread_mutex_unlock(&t->lock);
	return r;
}

static int handshake_failed(struct export_tls *t, int r, struct hither_error *err)
{
	gnutls_alert_send_appropriate(t->session, r);
	drain(t);
	if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
		gnutls_datum_t why = {0};
		gnutls_certificate_verification_status_print(
		        gnutls_session_get_verify_cert_status(t->session), GNUTLS_CRT_X509, &why,
		        0);
		hither_fail(err, -EACCES, "TLS: the client's certificate: %s",
		            why.data ? (const char *)why.data : gnutls_strerror(r));
		gnutls_free(why.data);
		return -EACCES;
	}
	return hither_fail(err, -EPROTO, "TLS: %s", gnutls_strerror(r));
}

int export_tls_handshake(struct export_stream *s, struct hither_error *err)
{
	struct export_tls *t = s->tls;
	for (;;) {
		int r = gnutls_handshake(t->session);
		int sent = drain(t);
		if (sent)
			return sent == -EAGAIN
			               ? hither_fail(err, -ETIMEDOUT, "TLS: the peer does not read")
			               : hither_fail(err, sent, "TLS: send: %s", strerror(-sent));
		if (r >= 0)
			return 0;
		if (r != GNUTLS_E_AGAIN && gnutls_error_is_fatal(r))
			return handshake_failed(t, r, err);
		r = fill(t, EXPORT_WAIT_NOT);
		if (r == -EAGAIN)
			return r;
		if (r < 0)
			return hither_fail(err, r, "TLS: receive: %s", strerror(-r));
	}
}

void export_tls_finish(struct export_stream *s)
{
	struct export_tls *t = s->tls;
	if (drain(t) == 0) {
		gnutls_bye(t->session, GNUTLS_SHUT_WR);
		drain(t);
	}
	gnutls_deinit(t->session);
	pthread_mutex_destroy(&t->lock);
	free(t);
	s->tls = NULL;
}

static ssize_t decrypt(struct export_tls *t, void *buf, size_t len)
{
	HITHER_LOCK_SCOPE(&t->lock);
	ssize_t n;
	do
		n = gnutls_record_recv(t->session, buf, len);
	while (n == GNUTLS_E_INTERRUPTED);
	if (n == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;
	if (n == GNUTLS_E_AGAIN)
		return -EAGAIN;
	return n < 0 ? -EPROTO : n;
}

ssize_t export_tls_recv(struct export_stream *s, void *buf, size_t len, enum export_wait wait)
{
	struct export_tls *t = s->tls;
	size_t done = 0;
	while (done < len) {
		ssize_t n = decrypt(t, (char *)buf + done, len - done);
		if (n >= 0) {
			done += (size_t)n;
			if (n == 0)
				break;
			continue;
		}
		/* What has come is given out before the kernel is asked for more. */
		if (n != -EAGAIN || done > 0)
			return done ? (ssize_t)done : n;
		int r = fill(t, wait);
		if (r < 0)
			return r;
	}
	return (ssize_t)done;
}

/* A record of at most RECORD_BYTES, for which tx has room. */
static ssize_t encrypt(struct export_tls *t, const uint8_t *bytes, size_t len)
{
	HITHER_LOCK_SCOPE(&t->lock);
	ssize_t n;
	if (sizeof t->tx - t->tx_end < RECORD_ROOM)
		return -EAGAIN;
	do
		n = gnutls_record_send(t->session, bytes, len);
	while (n == GNUTLS_E_INTERRUPTED);
	return n < 0 ? -EPROTO : n;
}

/*
 * What the next record has: a whole one's bytes from where they are; but small parts, as a reply's
 * header, join the following ones in `record`.
 */
static size_t gather(const struct iovec *parts, int count, size_t skip, uint8_t *record,
                     const uint8_t **bytes)
{
	size_t len = 0;
	*bytes = record;
	for (int i = 0; i < count && len < RECORD_BYTES; i++) {
		if (skip >= parts[i].iov_len) {
			skip -= parts[i].iov_len;
			continue;
		}
		const uint8_t *from = (const uint8_t *)parts[i].iov_base + skip;
		size_t n = parts[i].iov_len - skip;
		if (len == 0 && n >= RECORD_BYTES) {
			*bytes = from;
			return RECORD_BYTES;
		}
		if (n > RECORD_BYTES - len)
			n = RECORD_BYTES - len;
		memcpy(record + len, from, n);
		len += n;
		skip = 0;
	}
	return len;
}

ssize_t export_tls_send(struct export_stream *s, const struct iovec *parts, int count)
{
	struct export_tls *t = s->tls;
	uint8_t record[RECORD_BYTES];
	const uint8_t *bytes;
	size_t done = 0, len;
	ssize_t n = 0;
	while ((len = gather(parts, count, done, record, &bytes)) > 0) {
		n = encrypt(t, bytes, len);
		if (n == -EAGAIN)
			n = drain(t);
		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (n < 0 && n != -EAGAIN)
		return n;
	return done ? (ssize_t)done : n;
}

int export_tls_flush(struct export_stream *s)
{
	return drain(s->tls);
}
